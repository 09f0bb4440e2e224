"""Measures on features and predictions, and the drivers that run them over finished stages."""
