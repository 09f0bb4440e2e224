"""The document and tables of what a search for an ordering will cost."""
