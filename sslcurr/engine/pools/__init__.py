"""Where stages are trained: what starts workers, here or on other machines."""
