"""Pure functions on arrays: accuracies with intervals, probes, CKA, distances, attention."""
