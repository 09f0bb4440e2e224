"""Several workers on one store: plans, what a worker did, what all are at."""
