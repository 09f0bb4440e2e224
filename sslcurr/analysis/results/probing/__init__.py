"""The document, tables and charts of probes of frozen features."""
