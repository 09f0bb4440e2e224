"""How much of a network's attention lies inside masks: shares, pointing game, means over seeds. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import interval_of, resampled_means

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds of means over images.

    Attributes:
        mean: None where no image has a value.
        std: standard deviation over seeds (n - 1); None for fewer than two.
        interval: ends of the 95 % interval over images and seeds; None where it is not known.
    """

    mean: float | None
    std: float | None
    interval: tuple[float, float] | None


def inside(maps: Floats, masks: Floats) -> NDArray[np.float64]:
    """The share of each map's mass that lies inside its mask: with lung masks the study's AIL (arXiv 2301.10687).

    Args:
        maps: [N, H, W], 0 or more: class activation maps.
        masks: [N, H, W], the share of each cell that the mask covers.

    Returns:
        [N]; NaN for a map that is 0 everywhere.
    """
    mass = maps.sum(axis=(1, 2), dtype=np.float64)
    covered = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(covered, mass, out=np.full(len(maps), np.nan), where=mass > 0)


def coverage(masks: Floats) -> NDArray[np.float64]:
    """[N], the share of the view that each of [N, H, W] masks covers: `inside` of a map without preference."""
    return masks.mean(axis=(1, 2), dtype=np.float64)


def pointing(maps: Floats, masks: Floats) -> NDArray[np.float64]:
    """The pointing game (Zhang et al., https://arxiv.org/abs/1608.00507) without tolerance, shapes as in `inside`.

    Returns:
        [N], 1 where the map's highest cell lies inside the mask (half of it at least), else 0; of several highest
        cells the share that does. NaN for a map that is 0 everywhere.
    """
    highest = maps.max(axis=(1, 2), keepdims=True)
    at_top = maps == highest
    hits = (at_top & (masks >= 0.5)).sum(axis=(1, 2))
    return np.where(highest[:, 0, 0] > 0, hits / at_top.sum(axis=(1, 2)), np.nan)


def means_by_seed(values: Floats) -> NDArray[np.float64]:
    """Each seed's mean of [S, N] values over the images that have one (NaN is none); seeds without any are left out."""
    defined = ~np.isnan(values)
    return np.nanmean(values[defined.any(axis=1)], axis=1) if defined.any() else np.empty(0)


def mean_of(values: Floats) -> float | None:
    """The mean of `summary`, without its interval."""
    means = means_by_seed(values)
    return float(means.mean()) if len(means) else None


def summary(values: Floats, groups: NDArray[np.integer] | None = None) -> SeedMean:
    """Mean of [S, N] values by seed and image, its standard deviation over seeds and its 95 % interval.

    Each seed counts with the mean of the images that have a value at it (NaN is none), the seeds with their mean. The
    interval is a percentile bootstrap over images, those of one group drawn together, and over seeds.

    Args:
        values: [S, N].
        groups: [N] group numbers; None takes each image as its own group.
    """
    means = means_by_seed(values)
    if not len(means):
        return SeedMean(None, None, None)
    defined = ~np.isnan(values)
    kept = defined.any(axis=1)  # a seed without any value is missing
    interval = interval_of(resampled_means(np.nan_to_num(values[kept]), defined[kept], groups))
    std = float(means.std(ddof=1)) if len(means) > 1 else None
    return SeedMean(float(means.mean()), std, interval)
