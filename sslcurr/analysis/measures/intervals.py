"""Bootstrap intervals over images, those of one group drawn together, over seeds and over batches: all are here.

Each purpose has a generator of its own, so that what is drawn for one does not depend on another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.seeds import numpy_generator

Floats = NDArray[np.float64]

NUM_RESAMPLES = 2000
LEVEL = 0.95
# Resamples of images and chains that are in memory together.
AT_ONCE = 200


# ---- what they share


def units_of(groups: NDArray[Any] | None, num_images: int) -> tuple[NDArray[np.integer], int]:
    """[N] numbers from 0 of what is drawn together, and how many there are.

    Args:
        groups: [N] group numbers; None takes each image as its own group.
        num_images: N.
    """
    units = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(num_images)
    return units, int(units.max()) + 1


def times_drawn(generator: np.random.Generator, number: int, num_resamples: int) -> Floats:
    """[num_resamples, number]: how often each of `number` is in a resample of as many, drawn with replacement."""
    return generator.multinomial(number, np.full(number, 1 / number), size=num_resamples).astype(float)


def ends_of(values: NDArray[np.floating], level: float = LEVEL, axis: int | None = None) -> NDArray[Any]:
    """The two ends of the percentile interval of resampled values."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=axis)


def interval_of(values: NDArray[np.floating], level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of resampled values, NaN left out; None when nothing is left."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = ends_of(values, level)
    return float(low), float(high)


# ---- accuracies


def bootstrap_interval(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the balanced accuracy over test images.

    Images of one group (a patient, a lesion) are drawn together, since they are not independent. A class that a
    resample misses is left out of that resample's mean.

    Args:
        labels, predictions: [N] class numbers.
        groups: [N] group numbers; None takes each image as its own group.
    """
    units, num_units = units_of(groups, len(labels))
    classes, column = np.unique(labels, return_inverse=True)
    total, right = np.zeros((2, num_units, len(classes)))
    np.add.at(total, (units, column), 1.0)
    np.add.at(right, (units, column), (labels == predictions).astype(float))
    generator = numpy_generator(seed, "bootstrap")
    values = []
    for _ in range(num_resamples):
        weights = np.bincount(generator.integers(num_units, size=num_units), minlength=num_units)
        drawn = weights @ total
        values.append(np.mean((weights @ right)[drawn > 0] / drawn[drawn > 0]))
    low, high = ends_of(np.array(values), level)
    return float(low), float(high)


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
    narrow rather than too wide: with S seeds the standard deviation over seeds is underestimated by the factor
    sqrt((S - 1) / S).

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
    units, num_units = units_of(groups, len(labels))
    total = np.zeros((num_units, len(classes)))
    np.add.at(total, (units, column), 1.0)
    right = np.zeros((num_units, len(classes), num_seeds, num_chains))
    np.add.at(right, (units, column), np.nan_to_num(correct).transpose(2, 1, 0))
    generator = numpy_generator(seed, "resample")
    parts = []
    for start in range(0, num_resamples, AT_ONCE):
        size = min(AT_ONCE, num_resamples - start)
        weights = times_drawn(generator, num_units, size)
        drawn = (weights @ total)[:, :, None, None]
        hits = (weights @ right.reshape(num_units, -1)).reshape(size, *right.shape[1:])
        recalls = np.divide(hits, drawn, out=np.full_like(hits, np.nan), where=drawn > 0)
        times = times_drawn(generator, num_seeds, size)
        share = times[:, :, None] * present.T  # [size, seeds, chains]
        count = share.sum(axis=1)
        sums = (np.nanmean(recalls, axis=1) * share).sum(axis=1)
        parts.append(np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0))
    return np.concatenate(parts)


# ---- attention


def resampled_means(
    values: NDArray[np.floating[Any]], defined: NDArray[np.bool_], groups: NDArray[np.integer] | None = None
) -> Floats:
    """Means of [S, N] values over seeds of means over images, in resamples of the images and of the seeds.

    Args:
        values: [S, N], 0 where they are not defined.
        defined: [S, N], which of them count; each seed has one at least.
        groups: [N] group numbers; None takes each image as its own group.

    Returns:
        [NUM_RESAMPLES]; NaN where a resample holds no value.
    """
    num_seeds, num_images = values.shape
    units, num_units = units_of(groups, num_images)
    total, count = np.zeros((2, num_units, num_seeds))
    np.add.at(total, units, values.T)
    np.add.at(count, units, defined.T.astype(float))
    generator = numpy_generator(0, "attention")
    images = times_drawn(generator, num_units, NUM_RESAMPLES)
    times = times_drawn(generator, num_seeds, NUM_RESAMPLES)
    drawn = images @ count
    means = np.divide(images @ total, drawn, out=np.zeros_like(drawn), where=drawn > 0)
    times[drawn == 0] = 0  # a resample that holds no value of a seed
    weight = times.sum(axis=1)
    return np.divide((means * times).sum(axis=1), weight, out=np.full(len(weight), np.nan), where=weight > 0)


# ---- differences


def alike(difference: NDArray[np.floating]) -> bool:
    """Whether two chains cannot be told apart: the 95 % interval of their paired difference holds 0."""
    interval = interval_of(difference)
    return interval is None or interval[0] <= 0 <= interval[1]
