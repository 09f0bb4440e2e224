"""How much of a network's attention lies inside masks: shares, pointing game, means over seeds. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import Images, Sample, interval_of, sample

Floats = NDArray[np.floating[Any]]

CAM_METHODS = ("gradcam", "gradcam++", "eigencam")
"""Grad-CAM (https://arxiv.org/abs/1610.02391), Grad-CAM++ (https://arxiv.org/abs/1710.11063) and EigenCAM
(https://arxiv.org/abs/2008.00299), which does not depend on a class."""


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


def sample_of(values: Floats, groups: NDArray[np.integer] | None = None, seeds: Sequence[int] | None = None) -> Sample:
    """[S, N] values of images at S seeds as a figure with what each image does to it.

    Each seed counts with the mean of the images that have a value at it (NaN is none); a seed without any is left out.

    Args:
        values: [S, N].
        groups: [N] group numbers; None takes each image as its own group.
        seeds: S numbers.
    """
    return sample(values, Images.of(values.shape[1], groups=groups), seeds)


def summary(values: Floats, groups: NDArray[np.integer] | None = None) -> SeedMean:
    """Mean of [S, N] values by seed and image, its standard deviation over seeds and its 95 % interval.

    Args:
        values: [S, N]; NaN is no value.
        groups: [N] group numbers; None takes each image as its own group.
    """
    figure = sample_of(values, groups)
    if not len(figure.values):
        return SeedMean(None, None, None)
    return SeedMean(figure.mean, figure.std, interval_of(figure, within=(0.0, 1.0)))
