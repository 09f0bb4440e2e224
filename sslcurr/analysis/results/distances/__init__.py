"""The document, tables and charts of distances between data sets."""
