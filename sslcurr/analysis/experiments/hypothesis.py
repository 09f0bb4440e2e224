"""Is a curriculum better than other orderings? Permutation tests, and predicted against measured order."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.experiments.orderings import classify
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.measures.correlation import kendall_tau as kendall_tau
from sslcurr.analysis.measures.intervals import Floats, Interval, interval_of, jackknifed
from sslcurr.analysis.results.ranking.document import CURRICULUM, Ordering, PermutationTest
from sslcurr.seeds import numpy_generator

MOST_TASKS = 7  # whose names are permuted in all ways
DRAWN = 20_000  # permutations of more tasks
AT_ONCE = 1000  # permutations that are in memory together
ONE_SEED = "one seed: ranking and effect have to come from different seeds"
NOTHING_TO_COMPARE = "none to compare"
NOT_ALIKE = "a test needs all orderings of a length: give --orderings pairs, triples or full"


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


def weights_of(strata: Sequence[tuple[list[int], list[int]]], num_orderings: int) -> Floats:
    """[K] weights whose product with K accuracies is the effect; zeros without strata.

    The effect is the mean over strata of (mean of the curricula minus mean of the others).
    """
    weights = np.zeros(num_orderings)
    for ours, others in strata:
        weights[ours] += 1 / len(ours) / len(strata)
        weights[others] -= 1 / len(others) / len(strata)
    return weights


@dataclass(frozen=True)
class Judged:
    """Chains measured at several seeds, each seed judged by the ranking of tasks that the other seeds make.

    A chain and a single task of one seed share a stage, and so its luck. Ranking and effect are therefore never of one
    seed.

    Attributes:
        orderings: K orderings.
        accuracies: [K, S], measured at every seed.
        rankings: S times task -> mean single-SSL accuracy over the other seeds.
    """

    orderings: Sequence[Ordering]
    accuracies: Floats
    rankings: Sequence[Mapping[str, float]]

    @classmethod
    def of(
        cls, orderings: Sequence[Ordering], accuracies: NDArray[np.floating], singles: Mapping[str, Sequence[float]]
    ) -> Judged:
        """From what was measured.

        Args:
            orderings, accuracies: K orderings, [K, S] accuracies.
            singles: task -> its accuracy alone at each of the S seeds.

        Raises:
            ValueError: an accuracy is not a number.
        """
        values = np.asarray(accuracies, dtype=float)
        alone = {task: np.asarray(each, dtype=float) for task, each in singles.items()}
        if np.isnan(values).any() or any(np.isnan(each).any() for each in alone.values()):
            raise ValueError("an accuracy is not a number: leave out what was not measured")
        num_seeds = values.shape[1]
        # Of other orderings than all of a length, renamed ones would be missing.
        whole = whole_lengths(orderings)
        if whole:
            kept = [place for place, ordering in enumerate(orderings) if len(ordering) in whole]
            orderings, values = [orderings[place] for place in kept], values[kept]
        rankings = [
            {task: mean_accuracy(np.delete(each, seed).tolist()) for task, each in alone.items()}
            if num_seeds > 1
            else {}
            for seed in range(num_seeds)
        ]
        return cls(orderings, values, rankings)

    def weights(self, strata: str) -> Floats:
        """[S, K] weights whose product with the accuracies of a seed is its effect; zeros where there are no strata."""
        num = len(self.orderings)
        found = [strata_of(self.orderings, ranking, strata) if ranking else [] for ranking in self.rankings]
        return np.stack([weights_of(pairs, num) for pairs in found])

    def num_strata(self, strata: str) -> int:
        """Sets or lengths that have curricula and others, in the seed that has most of them."""
        counts = [len(strata_of(self.orderings, ranking, strata)) for ranking in self.rankings if ranking]
        return max(counts, default=0)


def permutation_test(judged: Judged, *, strata: str = "set", seed: int = 0) -> PermutationTest:
    """Are curriculum orderings better than others? One-sided.

    If order does not matter, the tasks' names mean nothing for a set of orderings that has each of them: all names
    are permuted, in the chains of all seeds alike, while the rankings stay. Only permutations count under which the
    orderings that were measured stay the same set. All are looked at up to seven tasks, else 20,000 are drawn.

    Args:
        judged: the chains with the rankings that judge them.
        strata: `set` (orderings of the same tasks) or `length`.
        seed: of the permutations that are drawn.

    Returns:
        The test without an interval.
    """
    if len(judged.rankings) < 2:
        return _no_test(strata, ONE_SEED)
    num_strata = judged.num_strata(strata)
    if not num_strata:
        return _no_test(strata, NOTHING_TO_COMPARE)
    weights = judged.weights(strata)
    used = np.abs(weights).sum(axis=1) > 0
    places, exact = renamed(judged.orderings, seed)
    tested = len(places) > 1
    effects = effects_of(weights[used], judged.accuracies.T[used], places)
    # What other numbers would have shown at best: as many permutations change nothing.
    apart = numpy_generator(0, "apart").random(judged.accuracies.T[used].shape)
    unchanged = int(np.sum(np.isclose(generic := effects_of(weights[used], apart, places), generic[0], atol=1e-12)))
    as_large = int(np.sum(effects >= effects[0] - 1e-12))
    return PermutationTest(
        strata=strata,
        num_strata=num_strata,
        effect=float(effects[0]),
        p_value=as_large / len(effects) if tested else None,
        num_arrangements=len(effects),
        exact=exact,
        interval=None,
        smallest_p_value=unchanged / len(effects) if tested else None,
        reason=None if tested else NOT_ALIKE,
    )


def _no_test(strata: str, reason: str) -> PermutationTest:
    return PermutationTest(
        strata=strata,
        num_strata=0,
        effect=None,
        p_value=None,
        num_arrangements=0,
        exact=True,
        interval=None,
        smallest_p_value=None,
        reason=reason,
    )


def effects_of(weights: Floats, accuracies: Floats, places: NDArray[np.intp]) -> Floats:
    """[S, K] weights, [S, K] accuracies, [P, K] places of renamed orderings -> [P] effects, means over the seeds."""
    effects = np.zeros(len(places))
    for row, values in zip(weights, accuracies, strict=True):
        for start in range(0, len(places), AT_ONCE):
            effects[start : start + AT_ONCE] += values[places[start : start + AT_ONCE]] @ row
    return effects / len(weights)


def whole_lengths(orderings: Sequence[Ordering]) -> set[int]:
    """The lengths of which all orderings of the tasks are there."""
    num_tasks = len({task for ordering in orderings for task in ordering})
    counts = Counter(len(ordering) for ordering in {tuple(ordering) for ordering in orderings})
    return {length for length, count in counts.items() if length > 1 and count == math.perm(num_tasks, length)}


def renamed(orderings: Sequence[Ordering], seed: int = 0) -> tuple[NDArray[np.intp], bool]:
    """Where each ordering is found when tasks are renamed, and whether that is done in all ways.

    Args:
        orderings: K orderings.
        seed: of the permutations that are drawn where there are too many.

    Returns:
        [P, K] places, those of the tasks' own names first, of the permutations that leave the set of orderings alone.
    """
    tasks = sorted({task for ordering in orderings for task in ordering})
    place = {tuple(ordering): number for number, ordering in enumerate(orderings)}
    exact = len(tasks) <= MOST_TASKS
    permutations: Iterable[Sequence[str]]
    if exact:
        permutations = itertools.permutations(tasks)
    else:
        generator = numpy_generator(seed, "permutation")
        drawn = ([tasks[i] for i in generator.permutation(len(tasks))] for _ in range(DRAWN - 1))
        permutations = itertools.chain([tasks], drawn)
    rows = []
    for names in permutations:
        new = dict(zip(tasks, names, strict=True))
        row = [place.get(tuple(new[task] for task in ordering), -1) for ordering in orderings]
        if -1 not in row:
            rows.append(row)
    return np.array(rows, dtype=np.intp), exact


def rank_correlation(
    predictions: Floats, accuracies: Floats, deleted: Floats | None
) -> tuple[float, Interval | None] | None:
    """Kendall's tau-b of predictions and accuracies of K orderings, a mean over seeds, and its 95 % interval.

    Args:
        predictions, accuracies: [S, K].
        deleted: [K, G, S] accuracies without each of G groups of images; None gives no interval.

    Returns:
        None where at some seed all orderings are equal in one of the two.
    """
    taus = kendall_tau(predictions, accuracies)
    if np.isnan(taus).any():
        return None
    interval = None
    if deleted is not None:
        each = [kendall_tau(row, deleted[:, :, seed].T) for seed, row in enumerate(predictions)]
        interval = interval_of(jackknifed(taus, np.array(each).T), within=(-1.0, 1.0))
    return float(taus.mean()), interval


PREDICTIONS = ("order", "mean", "last")
BEST = "best"


def predicted(orderings: Sequence[Ordering], singles: Mapping[str, NDArray[np.floating] | float], by: str) -> Floats:
    """What single-SSL accuracies predict of orderings, [K], or [B, K] for arrays of B resampled accuracies.

    `order`: Kendall's tau-a of places in the ordering and accuracies, 1 for a curriculum, -1 for its reverse, 0 for one
    task;
    `mean`: the mean accuracy of its tasks; `last`: the accuracy of its last task; `best`: that of its best task.
    """
    if by not in (*PREDICTIONS, BEST):
        raise ValueError(f"predictions are by {', '.join((*PREDICTIONS, BEST))}, not {by!r}")
    columns = []
    for ordering in orderings:
        values = np.stack([np.asarray(singles[task], dtype=float) for task in ordering], axis=-1)
        if by == "mean":
            columns.append(values.mean(axis=-1))
        elif by == "last":
            columns.append(values[..., -1])
        elif by == BEST:
            columns.append(values.max(axis=-1))
        else:
            signs = [
                np.sign(values[..., j] - values[..., i]) for i, j in itertools.combinations(range(len(ordering)), 2)
            ]
            columns.append(np.mean(signs, axis=0) if signs else np.zeros(values.shape[:-1]))
    return np.stack(columns, axis=-1)
