"""The document, tables and charts of rankings."""
