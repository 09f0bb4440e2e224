"""Orderings of pretext tasks and what accuracies say of them: pure functions on names and arrays.

The words are those of arXiv 2112.12086 and arXiv 2301.10687: a curriculum is an ordering by rising single-SSL accuracy.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sslcurr.analysis.results.ranking.document import ANTI, CURRICULUM, MIXED, SINGLE, TIED, Ordering
from sslcurr.errors import SpecError, did_you_mean

WORDS = ("curriculum", "anti", "full", "pairs", "triples", "all")


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
    chosen: list[Ordering] = []
    for word in words or (["all"] if length is not None else []):
        names = word.split(",")
        if not set(names) <= set(WORDS):
            chosen.append(tuple(names))
            continue
        for name in names:
            if name in ("curriculum", "anti"):
                if accuracies is None:
                    return None
                rising = curriculum_of(accuracies)
                chosen.append(rising if name == "curriculum" else rising[::-1])
            else:
                lengths = {"full": [len(tasks)], "pairs": [2], "triples": [3], "all": range(2, len(tasks) + 1)}[name]
                chosen += orderings_of(tasks, [n for n in lengths if n <= most])
    unique = dict.fromkeys(ordering for ordering in chosen if len(ordering) >= 2)
    return sorted(unique, key=len)


def prefixes(orderings: Sequence[Ordering]) -> list[Ordering]:
    """Every stage that the orderings need, as the tasks up to it, parents first, each once."""
    stages = {ordering[:end] for ordering in orderings for end in range(1, len(ordering) + 1)}
    return sorted(stages, key=lambda prefix: (len(prefix), prefix))


def num_alone(orderings: Sequence[Ordering]) -> int:
    """Pretraining stages when every chain is trained by itself; `len(prefixes(...))` when prefixes are shared."""
    return sum(len(ordering) for ordering in orderings)


# ---- accuracies with their uncertainty


def tie_groups(rising: Sequence[str], pairs: Sequence[Collection[str]]) -> list[list[str]]:
    """Groups of neighbours in the order `rising` that cannot be told apart, given the pairs that cannot.

    A group is linked by neighbours, so its first and last may differ.
    """
    alike = {frozenset(pair) for pair in pairs}
    groups: list[list[str]] = [[task] for task in rising[:1]]
    for before, after in itertools.pairwise(rising):
        if frozenset((before, after)) in alike:
            groups[-1].append(after)
        else:
            groups.append([after])
    return [group for group in groups if len(group) > 1]
