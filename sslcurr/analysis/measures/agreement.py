"""Do two settings put the same chains into the same order? Pure functions on arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sslcurr.analysis.measures.correlation import kendall_tau, spearman_rho
from sslcurr.analysis.measures.intervals import Floats, Interval, interval_of, jackknifed

FEWEST_CHAINS = 3
FEW_CHAINS = "fewer than three chains"
ONE_SEED = "one seed: both orders have to come from different seeds"
EQUAL = "at some seed all accuracies of a setting are equal"
FEW_IMAGES = "too few images for a jackknife"
NO_WIDTH = "all seeds and all groups of images agree: an interval would have no width"


@dataclass(frozen=True)
class Agreement:
    """How far two settings order the same chains alike.

    Attributes:
        kendall, spearman: Kendall's tau-b and Spearman's rho of the means over seeds; None where a setting has one
            value only.
        tau: Kendall's tau-b between the means of the first setting over all seeds but one and the second setting at
            that seed, averaged over the seeds; None for one seed.
        interval: ends of the 95 % interval of `tau` over images and seeds; None where it is not known.
        reason: why there is no interval; None where there is one.
    """

    kendall: float | None
    spearman: float | None
    tau: float | None
    interval: Interval | None
    reason: str | None


def agreement(first: Floats, second: Floats, without: tuple[Floats, Floats] | None = None) -> Agreement:
    """How far two settings order K chains alike, each measured at the same S seeds.

    A seed gives both settings the same order of images, often the same first weights, and where only the fine-tuning
    differs the same pretraining. So `tau` never compares two accuracies of one seed.

    Args:
        first, second: [K, S] accuracies.
        without: [G, K, S] accuracies without each of G groups of images, of both; None where there are too few images.
    """
    means = [each.mean(axis=1) for each in (first, second)]
    kendall, spearman = (_known(float(measure(*means))) for measure in (kendall_tau, spearman_rho))
    num_chains, num_seeds = first.shape
    taus = across_seeds(first, second) if num_chains > 1 and num_seeds > 1 else np.array([math.nan])
    tau = _known(float(taus.mean()))
    reason, interval = None, None
    if num_chains < FEWEST_CHAINS:
        reason = FEW_CHAINS
    elif num_seeds < 2:
        reason = ONE_SEED
    elif tau is None:
        reason = EQUAL
    elif without is None:
        reason = FEW_IMAGES
    else:
        interval, reason = _interval(taus, across_seeds(*without))
    return Agreement(kendall, spearman, tau, interval, reason)


def _interval(taus: Floats, deleted: Floats) -> tuple[Interval | None, str | None]:
    """The interval of [S] taus, given [G, S] without each of G groups of images; or why there is none."""
    if np.isnan(deleted).any():
        return None, EQUAL
    if np.ptp(taus) == 0 and np.ptp(deleted) == 0:
        return None, NO_WIDTH
    return interval_of(jackknifed(taus, deleted), within=(-1.0, 1.0)), None


def across_seeds(first: Floats, second: Floats) -> Floats:
    """Kendall's tau-b of the means of `first` over the other seeds and `second` at a seed, [..., K, S] -> [..., S].

    NaN where a setting has one value only.
    """
    others = (first.sum(axis=-1, keepdims=True) - first) / (first.shape[-1] - 1)
    return kendall_tau(np.swapaxes(others, -1, -2), np.swapaxes(second, -1, -2))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
