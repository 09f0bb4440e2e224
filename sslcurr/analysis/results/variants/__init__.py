"""The document, tables and chart of a ranking that was repeated over settings."""
