"""Data sets by name, folder or table."""
