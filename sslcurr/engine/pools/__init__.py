"""Where jobs run: beside others (shared), in processes of this machine (here), on clusters (ray, slurm)."""
