"""Rank correlations, with p-values by permutations: pure functions on arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import Floats
from sslcurr.seeds import numpy_generator

MOST_EXACT = 7  # pairs of which all permutations are looked at
DRAWN = 20_000  # permutations of more
DIGITS = 12  # of values: the rest depends on the order in which shares were added up


def kendall_tau(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Kendall's tau-b between rows, [..., K] and [..., K] -> [...]; NaN where a row has one value only.

    Equal to `scipy.stats.kendalltau`, for many rows at once; values that agree to 12 digits are equal.
    """
    first, second = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    rows = first.shape[:-1]
    taus = []
    for x, y in zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, first.shape[-1]), strict=True):
        sx, sy = (np.sign(np.round(v[:, None] - v[None, :], DIGITS)) for v in (x, y))
        scale = math.sqrt(float(np.sum(sx * sx)) * float(np.sum(sy * sy)))
        taus.append(float(np.sum(sx * sy)) / scale if scale > 0 and not np.isnan(scale) else math.nan)
    return np.array(taus).reshape(rows)


def spearman_rho(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Spearman's rho between rows, [..., K] and [..., K] -> [...], of ranks that are means where values are equal.

    Equal to `scipy.stats.spearmanr`, for many rows at once; values that agree to 12 digits are equal. NaN where a row
    has one value only.
    """
    from scipy.stats import rankdata

    x, y = (rankdata(np.round(np.asarray(each, dtype=float), DIGITS), axis=-1) for each in (a, b))
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in (x, y))
    scale = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1))
    return np.asarray(np.divide((x * y).sum(axis=-1), scale, out=np.full_like(scale, np.nan), where=scale > 0))


def with_p_value(
    measure: Callable[[Floats, Floats], Floats], a: Sequence[float], b: Sequence[float]
) -> tuple[float, float]:
    """A correlation of K pairs and its two-sided p-value: the share of the permutations of `b` that are as far from 0.

    A few pairs have no asymptotic distribution: of three the smallest p-value is 1/3. All permutations are looked at up
    to seven pairs, else 20,000 are drawn, and the order as it is counts among them.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(first) <= MOST_EXACT:
        orders = np.array(list(itertools.permutations(range(len(first)))))
    else:
        generator = numpy_generator(0, "correlation")
        drawn = generator.permuted(np.tile(np.arange(len(first)), (DRAWN - 1, 1)), axis=1)
        orders = np.concatenate([np.arange(len(first))[None], drawn])
    values = measure(first, second[orders])
    return float(values[0]), float(np.mean(np.abs(values) >= abs(values[0]) - 1e-12))
