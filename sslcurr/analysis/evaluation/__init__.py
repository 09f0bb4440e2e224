"""Measures of trained stages and of other checkpoints, kept in the store."""
