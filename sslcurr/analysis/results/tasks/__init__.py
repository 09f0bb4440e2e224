"""Tasks and their settings."""
