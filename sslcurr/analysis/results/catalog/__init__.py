"""Data sets: those with a name, what is wrong with one, and its pack."""
