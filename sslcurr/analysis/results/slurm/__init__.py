"""Workers that were submitted to SLURM."""
