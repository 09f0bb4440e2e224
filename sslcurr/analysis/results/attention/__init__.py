"""The document, tables and charts of attention."""
