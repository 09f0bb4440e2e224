"""The order of the images: an epoch is one permutation, cut into batches of nearly equal size."""

from __future__ import annotations

import numpy as np

from sslcurr.errors import SpecError
from sslcurr.seeds import numpy_generator

__all__ = ["batches", "num_steps"]


def num_steps(num_images: int, batch_size: int) -> int:
    """Optimizer steps of an epoch, at least 1. Raises SpecError for a batch size below 1."""
    if batch_size < 1:
        raise SpecError(f"batch size must be at least 1, got {batch_size}")
    return max(1, -(-num_images // batch_size))


def batches(indices: np.ndarray, batch_size: int, *parts: object) -> list[np.ndarray]:
    """Every index once, in a random order keyed by `parts`, such as `(seed, "order", epoch)`.

    The batches have at most `batch_size` indices and differ by at most one in size: 257 images by 64 are 52, 52, 51, 51
    and 51. Full batches and a rest would end in a batch of one image, on which batch normalisation fails or learns
    statistics of nothing; dropping the rest would drop images that small data sets cannot spare.
    """
    permuted = numpy_generator(*parts).permutation(np.asarray(indices))
    return np.array_split(permuted, num_steps(len(permuted), batch_size))
