"""The document and tables of all that a store holds."""
