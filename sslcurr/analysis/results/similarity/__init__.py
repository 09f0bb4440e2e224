"""The document, tables and charts of the similarity of models."""
