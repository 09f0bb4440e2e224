"""The document, tables and charts of trained chains."""
