"""How much of a network's attention lies inside a region: shares, pointing game, and their spread. Pure functions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.curriculum import interval_of, resampled_accuracies

Floats = NDArray[np.floating[Any]]


def inside(maps: Floats, regions: Floats) -> NDArray[np.float64]:
    """The share of each map's mass that lies inside its region: with lung masks the study's AIL (arXiv 2301.10687).

    Args:
        maps: [N, H, W], 0 or more: class activation maps.
        regions: [N, H, W], the share of each cell that the region covers.

    Returns:
        [N]; NaN for a map that is 0 everywhere.
    """
    mass = maps.sum(axis=(1, 2), dtype=np.float64)
    found = (maps * regions).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(found, mass, out=np.full(len(maps), np.nan), where=mass > 0)


def coverage(regions: Floats) -> NDArray[np.float64]:
    """[N], the share of the view that each of [N, H, W] regions covers: `inside` of a map without preference."""
    return regions.mean(axis=(1, 2), dtype=np.float64)


def pointing(maps: Floats, regions: Floats) -> NDArray[np.float64]:
    """The pointing game (Zhang et al., https://arxiv.org/abs/1608.00507) without tolerance, shapes as in `inside`.

    Returns:
        [N], 1 where the map's highest cell lies inside the region (half of it at least), else 0; of several highest
        cells the share that does. NaN for a map that is 0 everywhere.
    """
    highest = maps.max(axis=(1, 2), keepdims=True)
    at_top = maps == highest
    hits = (at_top & (regions >= 0.5)).sum(axis=(1, 2))
    return np.where(highest[:, 0, 0] > 0, hits / at_top.sum(axis=(1, 2)), np.nan)


def resampled_means(values: Floats, groups: NDArray[np.integer] | None = None) -> NDArray[np.float64] | None:
    """Means over images and seeds in bootstrap resamples of both, as those of `curriculum.resampled_accuracies`.

    Args:
        values: [S, N] by seed and image; an image without a value at one seed counts with its mean over the others.
        groups: [N]; images of one group are drawn together.

    Returns:
        [num_resamples]; None where there is no value at all.
    """
    filled, known = _filled(values)
    if not known.any():
        return None
    kept = groups[known] if groups is not None else None
    return resampled_accuracies(np.zeros(known.sum(), dtype=int), filled[None][:, :, known], kept)[:, 0]


def summary(values: Floats, groups: NDArray[np.integer] | None = None) -> dict[str, Any]:
    """Mean of [S, N] values by seed and image, its standard deviation over seeds and its 95 % interval."""
    filled, known = _filled(values)
    columns = resampled_means(values, groups)
    if columns is None:
        return {"mean": None, "std": None, "interval": None}
    means = filled[:, known].mean(axis=1)
    interval = interval_of(columns)
    return {
        "mean": float(means.mean()),
        "std": float(means.std(ddof=1)) if len(means) > 1 else None,
        "interval": list(interval) if interval is not None else None,
    }


def _filled(values: Floats) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[S, N] values with the gaps of an image filled by its mean over the other seeds, and which images have any."""
    values = np.asarray(values, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an image without any value has no mean
        means = np.nanmean(values, axis=0)
    return np.where(np.isnan(values), means, values), ~np.isnan(means)
