"""Bootstrap intervals of accuracies: over images, groups and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.seeds import numpy_generator


def bootstrap_interval(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the balanced accuracy over test images.

    Images of one group (a patient, a lesion) are drawn together, since they are not independent. A class that a
    resample misses is left out of that resample's mean.

    Args:
        labels, predictions: [N] class numbers.
        groups: [N] group numbers; None takes each image as its own group.
    """
    units = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(labels))
    classes, column = np.unique(labels, return_inverse=True)
    shape = (int(units.max()) + 1, len(classes))
    total, right = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (units, column), 1.0)
    np.add.at(right, (units, column), (labels == predictions).astype(float))
    generator = numpy_generator(seed, "bootstrap")
    values = []
    for _ in range(num_resamples):
        weights = np.bincount(generator.integers(shape[0], size=shape[0]), minlength=shape[0])
        drawn = weights @ total
        values.append(np.mean((weights @ right)[drawn > 0] / drawn[drawn > 0]))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


Floats = NDArray[np.float64]


NUM_RESAMPLES = 2000


def resampled_accuracies(
    labels: NDArray[np.integer],
    correct: NDArray[np.floating],
    groups: NDArray[np.integer] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Floats:
    """Mean balanced accuracies of K chains over S seeds, in bootstrap resamples of the test images and of the seeds.

    The same images (all of one group together) and the same seeds are drawn for all chains, so that differences between
    columns are paired. A class that a resample misses is left out of that resample. Few seeds make intervals too
    narrow rather than too wide: with S seeds the spread over seeds is underestimated by the factor sqrt((S - 1) / S).

    Args:
        labels: [N] class numbers.
        correct: [K, S, N], 1 where the prediction is right; a run with a NaN counts as missing.
        groups: [N] group numbers; None takes each image as its own group.

    Returns:
        [num_resamples, K]; NaN where a resample of the seeds holds no run of a chain.
    """
    num_chains, num_seeds, _ = correct.shape
    present = ~np.isnan(correct).any(axis=2)
    classes, column = np.unique(labels, return_inverse=True)
    units = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(labels))
    num_units = int(units.max()) + 1
    total = np.zeros((num_units, len(classes)))
    np.add.at(total, (units, column), 1.0)
    right = np.zeros((num_units, len(classes), num_seeds, num_chains))
    np.add.at(right, (units, column), np.nan_to_num(correct).transpose(2, 1, 0))
    generator = numpy_generator(seed, "resample")
    found = []
    for start in range(0, num_resamples, 200):
        size = min(200, num_resamples - start)
        weights = generator.multinomial(num_units, np.full(num_units, 1 / num_units), size=size).astype(float)
        drawn = (weights @ total)[:, :, None, None]
        hits = (weights @ right.reshape(num_units, -1)).reshape(size, *right.shape[1:])
        recalls = np.divide(hits, drawn, out=np.full_like(hits, np.nan), where=drawn > 0)
        times = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=size)
        share = times[:, :, None] * present.T  # [size, seeds, chains]
        count = share.sum(axis=1)
        sums = (np.nanmean(recalls, axis=1) * share).sum(axis=1)
        found.append(np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0))
    return np.concatenate(found)


def interval_of(values: NDArray[np.floating], level: float = 0.95) -> tuple[float, float] | None:
    """The percentile interval of resampled values, NaN left out; None when nothing is left."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def alike(difference: NDArray[np.floating]) -> bool:
    """Whether two chains cannot be told apart: the 95 % interval of their paired difference holds 0."""
    interval = interval_of(difference)
    return interval is None or interval[0] <= 0 <= interval[1]
