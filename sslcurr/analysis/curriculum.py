"""Orderings of pretext tasks and what accuracies say of them: pure functions on names and arrays.

The words are those of arXiv 2112.12086 and arXiv 2301.10687: a curriculum is an ordering by rising single-SSL accuracy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslcurr.errors import SpecError, did_you_mean
from sslcurr.seeds import numpy_generator

Ordering = tuple[str, ...]
Floats = NDArray[np.float64]

WORDS = ("curriculum", "anti", "full", "pairs", "triples", "all")
CURRICULUM, ANTI, MIXED, TIED, SINGLE = "curriculum", "anti-curriculum", "mixed", "tied", "single"
MOST_EXACT = 200_000  # arrangements that a permutation test looks at one by one
NUM_RESAMPLES = 2000


# ---- orderings


@dataclass(frozen=True, slots=True)
class Kind:
    """What an ordering is.

    Attributes:
        order: `single` (one task or none), `curriculum` (accuracies rise), `anti-curriculum` (they fall), `tied` (they
            rise or fall but for equal ones), or `mixed`.
        full: whether it uses every task.
        uncertain: whether two of its tasks could not be told apart, so that another measurement may change `order`.
    """

    order: str
    full: bool
    uncertain: bool


def classify(ordering: Sequence[str], accuracies: Mapping[str, float], pairs: Sequence[Collection[str]] = ()) -> Kind:
    """What an ordering is, given the single-SSL accuracies of all tasks and the pairs of them that are alike."""
    steps = [accuracies[b] - accuracies[a] for a, b in itertools.pairwise(ordering)]
    uncertain = any(set(pair) <= set(ordering) for pair in pairs)
    full = set(ordering) == set(accuracies)
    if not steps:
        return Kind(SINGLE, full, uncertain)
    if all(step > 0 for step in steps):
        order = CURRICULUM
    elif all(step < 0 for step in steps):
        order = ANTI
    else:
        weakly = all(step >= 0 for step in steps) or all(step <= 0 for step in steps)
        order = TIED if weakly else MIXED
    return Kind(order, full, uncertain)


def curriculum_of(accuracies: Mapping[str, float]) -> Ordering:
    """All tasks by rising accuracy; equal ones stay in the order given."""
    return tuple(sorted(accuracies, key=lambda task: accuracies[task]))


def orderings_of(tasks: Sequence[str], lengths: Sequence[int]) -> list[Ordering]:
    """All orderings of `lengths` different tasks, shorter ones first."""
    return [ordering for length in lengths for ordering in itertools.permutations(tasks, length)]


def check_words(words: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise SpecError unless each of `words` is in WORDS, some of them (`pairs,triples`), or an ordering of `tasks`."""
    for word in words:
        names = word.split(",")
        if set(names) <= set(WORDS):
            continue
        for name in names:
            if name not in tasks and name not in WORDS:
                raise SpecError(
                    f"--orderings {word!r}: {name!r} is neither an ordering nor one of the tasks",
                    did_you_mean(name, [*WORDS, *tasks]),
                )
        if set(names) & set(WORDS):
            raise SpecError(
                f"--orderings {word!r} mixes words and tasks", "give --orderings twice, once for each of the two"
            )
        if len(set(names)) < len(names):
            raise SpecError(f"--orderings {word!r} names a task twice", "an ordering uses each task once")
        if len(names) < 2:
            raise SpecError(f"--orderings {word!r} is one task", "rank trains each task alone by itself")


def chosen_orderings(
    words: Sequence[str], tasks: Sequence[str], length: int | None, accuracies: Mapping[str, float] | None
) -> list[Ordering] | None:
    """The orderings of two tasks or more that `--orderings` and `--length` ask for, shorter ones first, none twice.

    `curriculum` and `anti` are all tasks by rising and by falling accuracy; None is given when they are asked for and
    `accuracies` is None. `full` are all orderings of all tasks, `all` those of any length, `pairs` and `triples` those
    of two and of three. `length` leaves out longer ones of these; alone it stands for `all`.
    """
    most = len(tasks) if length is None else length
    found: list[Ordering] = []
    for word in words or (["all"] if length is not None else []):
        names = word.split(",")
        if not set(names) <= set(WORDS):
            found.append(tuple(names))
            continue
        for name in names:
            if name in ("curriculum", "anti"):
                if accuracies is None:
                    return None
                rising = curriculum_of(accuracies)
                found.append(rising if name == "curriculum" else rising[::-1])
            else:
                lengths = {"full": [len(tasks)], "pairs": [2], "triples": [3], "all": range(2, len(tasks) + 1)}[name]
                found += orderings_of(tasks, [n for n in lengths if n <= most])
    unique = dict.fromkeys(ordering for ordering in found if len(ordering) >= 2)
    return sorted(unique, key=len)


def prefixes(orderings: Sequence[Ordering]) -> list[Ordering]:
    """Every stage that the orderings need, as the tasks up to it, parents first, each once."""
    found = {ordering[:end] for ordering in orderings for end in range(1, len(ordering) + 1)}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def num_alone(orderings: Sequence[Ordering]) -> int:
    """Pretraining stages when every chain is trained by itself; `len(prefixes(...))` when prefixes are shared."""
    return sum(len(ordering) for ordering in orderings)


# ---- accuracies with their uncertainty


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


def tie_groups(rising: Sequence[str], pairs: Sequence[Collection[str]]) -> list[list[str]]:
    """Groups of neighbours in the order `rising` that cannot be told apart, given the pairs that cannot.

    A group is linked by neighbours, so its first and last may differ.
    """
    known = {frozenset(pair) for pair in pairs}
    groups: list[list[str]] = [[task] for task in rising[:1]]
    for before, after in itertools.pairwise(rising):
        if frozenset((before, after)) in known:
            groups[-1].append(after)
        else:
            groups.append([after])
    return [group for group in groups if len(group) > 1]


# ---- the hypothesis: a curriculum ordering is better than other orderings


@dataclass(frozen=True, slots=True)
class Permutation:
    """A permutation test of curriculum orderings against others.

    Attributes:
        strata: `set`: an ordering is compared with others of the same tasks; `length`: with others as long.
        num_strata: sets or lengths that have both.
        effect: mean over strata of (mean of the curricula minus mean of the others); None without strata.
        p_value: share of all ways to say which orderings are the curricula whose effect is as large or larger.
        num_arrangements: how many ways were looked at.
        exact: whether these are all ways, and not a random choice of them.
    """

    strata: str
    num_strata: int
    effect: float | None
    p_value: float | None
    num_arrangements: int
    exact: bool


def strata_of(
    orderings: Sequence[Ordering], singles: Mapping[str, float], strata: str
) -> list[tuple[list[int], list[int]]]:
    """(places of curricula, places of others) for every stratum that has both; single tasks are left out."""
    if strata not in ("set", "length"):
        raise ValueError(f"strata are set or length, not {strata!r}")
    found: dict[object, tuple[list[int], list[int]]] = {}
    for place, ordering in enumerate(orderings):
        if len(ordering) > 1:
            stratum = frozenset(ordering) if strata == "set" else len(ordering)
            is_curriculum = classify(ordering, singles).order == CURRICULUM
            found.setdefault(stratum, ([], []))[0 if is_curriculum else 1].append(place)
    return [pair for pair in found.values() if pair[0] and pair[1]]


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
) -> Permutation:
    """Are curriculum orderings better than others? One-sided, exact up to 200,000 arrangements, else 20,000 drawn.

    Under the hypothesis that order does not matter, each ordering of a stratum is as likely as any other to be the one
    that accuracies make the curriculum.

    Args:
        orderings, accuracies: K orderings and their measured accuracies.
        singles: the single-SSL accuracies, which say what a curriculum is.
        strata: `set` (orderings of the same tasks) or `length`.
    """
    values = np.asarray(accuracies, dtype=float)
    if np.isnan(values).any():
        raise ValueError("an accuracy is not a number: leave out what was not measured")
    pairs = strata_of(orderings, singles, strata)
    if not pairs:
        return Permutation(strata, 0, None, None, 0, True)
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
    return Permutation(strata, len(pairs), observed, p_value, len(sums), exact)


# ---- predicted against measured order

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
    found = []
    for x, y in zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, first.shape[-1]), strict=True):
        sx, sy = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
        scale = math.sqrt(float(np.sum(sx * sx)) * float(np.sum(sy * sy)))
        found.append(float(np.sum(sx * sy)) / scale if scale > 0 and not np.isnan(scale) else math.nan)
    return np.array(found).reshape(rows)
