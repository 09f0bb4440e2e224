"""What a store holds: runs, stages, and what is removed."""
