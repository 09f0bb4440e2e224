"""The document and tables of what many chains will cost."""
