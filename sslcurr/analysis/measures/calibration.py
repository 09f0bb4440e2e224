"""Whether probabilities mean what they say: reliability, expected calibration error, temperature scaling.

Guo et al. 2017, On calibration of modern neural networks, https://arxiv.org/abs/1706.04599. Pure functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported at their first use
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

NUM_BINS = 15
# Temperatures beyond these say that a model is certain of everything, or of nothing.
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Bin:
    """The images of which a model is about as sure.

    Attributes:
        num: how many probabilities.
        confidence: their mean.
        right: the share of them that came true.
    """

    num: int
    confidence: float
    right: float


def probabilities_of(logits: Floats, *, exclusive: bool, temperature: float = 1.0) -> NDArray[np.float64]:
    """[N, T] probabilities of outputs of a network: of classes (`exclusive`, rows sum to 1) or of labels each."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(scipy.special.softmax(scaled, axis=1) if exclusive else scipy.special.expit(scaled))


def temperature_of(logits: Floats, targets: Floats, *, exclusive: bool) -> float | None:
    """The temperature at which probabilities are likeliest; None where there is nothing to learn it from.

    Args:
        logits: [N, T] outputs of a network, best on images that it was not trained on.
        targets: [N] class numbers where classes exclude each other, else [N, T]: 1, 0, or NaN where nothing is known.
        exclusive: whether they do.
    """
    outputs = np.asarray(logits, dtype=np.float64)
    if exclusive:
        rows, columns = np.arange(len(outputs)), np.asarray(targets, dtype=np.intp)

        def surprise(log_temperature: float) -> float:
            return -float(scipy.special.log_softmax(outputs / math.exp(log_temperature), axis=1)[rows, columns].mean())

        num = len(outputs)
    else:
        known = ~np.isnan(targets)
        signed = np.where(targets[known] == 1, outputs[known], -outputs[known])

        def surprise(log_temperature: float) -> float:
            return -float(scipy.special.log_expit(signed / math.exp(log_temperature)).mean())

        num = int(known.sum())
    if not num:
        return None
    found = scipy.optimize.minimize_scalar(
        surprise, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(math.exp(found.x))


def claims_of(
    probabilities: Floats, targets: Floats, *, exclusive: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a model claims with which probability, and whether it came true (1 or 0).

    Of classes, that an image is of the likeliest one; of labels that may hold together, each of them for each image.
    """
    if exclusive:
        predicted = probabilities.argmax(axis=1)
        sure = probabilities[np.arange(len(probabilities)), predicted]
        return np.asarray(sure, dtype=np.float64), (predicted == targets).astype(np.float64)
    known = ~np.isnan(targets)
    return np.asarray(probabilities[known], dtype=np.float64), (targets[known] == 1).astype(np.float64)


def reliability(confidence: Floats, right: Floats, num_bins: int = NUM_BINS) -> list[Bin]:
    """How often claims came true, in bins of equal width; empty ones are left out. Both arguments are [N]."""
    place = np.clip(np.ceil(np.asarray(confidence) * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins = []
    for number in np.unique(place):
        members = place == number
        bins.append(Bin(int(members.sum()), float(confidence[members].mean()), float(right[members].mean())))
    return bins


def expected_error(bins: list[Bin]) -> float | None:
    """Expected calibration error: the mean distance of confidence and share that came true; None without claims.

    It is above 0 also for a perfect model of few images.
    """
    num = sum(each.num for each in bins)
    return sum(each.num * abs(each.confidence - each.right) for each in bins) / num if num else None
