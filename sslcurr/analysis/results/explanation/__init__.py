"""The document, tables and chart of what lies behind the differences between chains."""
