"""Is a curriculum better than other orderings? Permutation tests, and predicted against measured order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.experiments.orderings import classify
from sslcurr.analysis.measures.intervals import Floats
from sslcurr.analysis.results.ranking.document import CURRICULUM, Ordering, PermutationTest
from sslcurr.seeds import numpy_generator

MOST_EXACT = 200_000  # arrangements that a permutation test looks at one by one


def strata_of(
    orderings: Sequence[Ordering], singles: Mapping[str, float], strata: str
) -> list[tuple[list[int], list[int]]]:
    """(places of curricula, places of others) for every stratum that has both; single tasks are left out."""
    if strata not in ("set", "length"):
        raise ValueError(f"strata are set or length, not {strata!r}")
    places: dict[object, tuple[list[int], list[int]]] = {}
    for place, ordering in enumerate(orderings):
        if len(ordering) > 1:
            stratum = frozenset(ordering) if strata == "set" else len(ordering)
            is_curriculum = classify(ordering, singles).order == CURRICULUM
            places.setdefault(stratum, ([], []))[0 if is_curriculum else 1].append(place)
    return [pair for pair in places.values() if pair[0] and pair[1]]


def effect_of(accuracies: NDArray[np.floating], strata: Sequence[tuple[list[int], list[int]]]) -> Floats:
    """[..., K] accuracies -> [...] mean over strata of (mean of the curricula minus mean of the others)."""
    each = [accuracies[..., ours].mean(axis=-1) - accuracies[..., others].mean(axis=-1) for ours, others in strata]
    return np.mean(each, axis=0)


def permutation_test(
    orderings: Sequence[Ordering],
    accuracies: Sequence[float],
    singles: Mapping[str, float],
    *,
    strata: str = "set",
    seed: int = 0,
) -> PermutationTest:
    """Are curriculum orderings better than others? One-sided, exact up to 200,000 arrangements, else 20,000 drawn.

    Under the hypothesis that order does not matter, each ordering of a stratum is as likely as any other to be the one
    that accuracies make the curriculum.

    Args:
        orderings, accuracies: K orderings and their measured accuracies.
        singles: the single-SSL accuracies, which say what a curriculum is.
        strata: `set` (orderings of the same tasks) or `length`.
        seed: of the arrangements that are drawn.

    Returns:
        The test without an interval, which is over images and seeds.
    """
    values = np.asarray(accuracies, dtype=float)
    if np.isnan(values).any():
        raise ValueError("an accuracy is not a number: leave out what was not measured")
    pairs = strata_of(orderings, singles, strata)
    if not pairs:
        return PermutationTest(
            strata=strata, num_strata=0, effect=None, p_value=None, num_arrangements=0, exact=True, interval=None
        )
    observed = float(effect_of(values, pairs))
    counts = [math.comb(len(ours) + len(others), len(ours)) for ours, others in pairs]
    exact = math.prod(counts) <= MOST_EXACT
    if exact:
        sums = np.zeros(1)
        for ours, others in pairs:
            stratum = values[[*ours, *others]]
            chosen = np.array(list(itertools.combinations(range(len(stratum)), len(ours))))
            of_chosen = stratum[chosen].sum(axis=1)
            each = of_chosen / len(ours) - (stratum.sum() - of_chosen) / len(others)
            sums = (sums[:, None] + each).ravel()
    else:
        generator = numpy_generator(seed, "permutation")
        sums = np.zeros(20_000)
        for ours, others in pairs:
            mixed = generator.permuted(np.tile(values[[*ours, *others]], (len(sums), 1)), axis=1)
            sums += mixed[:, : len(ours)].mean(axis=1) - mixed[:, len(ours) :].mean(axis=1)
    as_large = int(np.sum(sums / len(pairs) >= observed - 1e-12))
    p_value = as_large / len(sums) if exact else (1 + as_large) / (1 + len(sums))
    return PermutationTest(
        strata=strata,
        num_strata=len(pairs),
        effect=observed,
        p_value=p_value,
        num_arrangements=len(sums),
        exact=exact,
        interval=None,
    )


PREDICTIONS = ("order", "mean", "last")


def predicted(orderings: Sequence[Ordering], singles: Mapping[str, NDArray[np.floating] | float], by: str) -> Floats:
    """What single-SSL accuracies predict of orderings, [K], or [B, K] for arrays of B resampled accuracies.

    `order`: Kendall's tau-a of places in the ordering and accuracies, 1 for a curriculum, -1 for its reverse, 0 for one
    task;
    `mean`: the mean accuracy of its tasks; `last`: the accuracy of its last task.
    """
    if by not in PREDICTIONS:
        raise ValueError(f"predictions are by {', '.join(PREDICTIONS)}, not {by!r}")
    columns = []
    for ordering in orderings:
        values = np.stack([np.asarray(singles[task], dtype=float) for task in ordering], axis=-1)
        if by == "mean":
            columns.append(values.mean(axis=-1))
        elif by == "last":
            columns.append(values[..., -1])
        else:
            signs = [
                np.sign(values[..., j] - values[..., i]) for i, j in itertools.combinations(range(len(ordering)), 2)
            ]
            columns.append(np.mean(signs, axis=0) if signs else np.zeros(values.shape[:-1]))
    return np.stack(columns, axis=-1)


def kendall_tau(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Kendall's tau-b between rows, [..., K] and [..., K] -> [...]; NaN where a row has one value only.

    Equal to `scipy.stats.kendalltau`, for many rows at once.
    """
    first, second = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    rows = first.shape[:-1]
    taus = []
    for x, y in zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, first.shape[-1]), strict=True):
        sx, sy = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
        scale = math.sqrt(float(np.sum(sx * sx)) * float(np.sum(sy * sy)))
        taus.append(float(np.sum(sx * sy)) / scale if scale > 0 and not np.isnan(scale) else math.nan)
    return np.array(taus).reshape(rows)
