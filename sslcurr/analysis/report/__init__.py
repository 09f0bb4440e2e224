"""A store as one page."""
