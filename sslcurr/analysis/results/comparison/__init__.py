"""Two runs, one beside the other."""
