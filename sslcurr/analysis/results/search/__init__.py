"""The document, tables and charts of the search for an ordering."""
