"""Strategies that look for a good ordering run by run: what was measured goes in, the next runs come out.

A run is an ordering at a seed. Nothing here trains: `search` carries runs out, and `benchmarks/search.py` looks them up
in tables. A strategy is a function of what was measured so far: a search that was stopped goes on as it would have.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.seeds import numpy_generator

Run = tuple[Ordering, int]

# Orderings are listed as long as they are no more than these. Of longer ones only those that go on from a stage that
# was paid for are looked at.
MOST_ORDERINGS = 2500


@dataclass(frozen=True)
class Prices:
    """What runs cost, in image passes.

    Attributes:
        first: task -> its stage at the start of a chain.
        later: task -> its stage after another.
        measure: measuring a chain.
    """

    first: Mapping[str, float]
    later: Mapping[str, float]
    measure: float

    def stage(self, prefix: Ordering) -> float:
        """The last stage of a prefix."""
        return (self.first if len(prefix) == 1 else self.later)[prefix[-1]]

    def exhaustive(self, length: int, num_seeds: int) -> float:
        """All orderings of up to `length` tasks: each stage once a seed. They are counted, and not listed."""
        num_tasks = len(self.first)
        before = sum(math.perm(num_tasks - 1, depth) for depth in range(1, length))
        stages = sum(self.first.values()) + before * sum(self.later.values())
        return (stages + self.measure * num_orderings(num_tasks, length)) * num_seeds


def num_orderings(num_tasks: int, length: int) -> int:
    """How many orderings of one to `length` of the tasks there are."""
    return sum(math.perm(num_tasks, each) for each in range(1, length + 1))


@dataclass
class State:
    """What a search may do, has done and has seen.

    Attributes:
        tasks: the pretext tasks.
        length: most tasks of an ordering.
        seeds: those that a chain may be run at; the first ones first.
        prices: what runs cost.
        budget: image passes that may be spent.
        batch: how many runs are chosen at a time.
        held: stages (prefix and seed) that cost nothing, since they were there before.
        free: runs that cost nothing at all, since they were measured before.
        values: run -> validation balanced accuracy in points, in the order in which they were measured.
        failed: runs that could not be trained.
        spent: image passes so far.
        paid: stages that were trained.
    """

    tasks: tuple[str, ...]
    length: int
    seeds: tuple[int, ...]
    prices: Prices
    budget: float
    batch: int = 1
    held: frozenset[Run] = frozenset()
    free: frozenset[Run] = frozenset()
    values: dict[Run, float] = field(default_factory=dict)
    failed: list[Run] = field(default_factory=list)
    spent: float = 0.0
    paid: set[Run] = field(default_factory=set)

    @property
    def left(self) -> float:
        """Image passes that may still be spent."""
        return self.budget - self.spent

    @property
    def rows(self) -> list[Ordering]:
        """The orderings that were measured, once each."""
        return list(dict.fromkeys(ordering for ordering, _ in self.values))

    @cached_property
    def everything(self) -> list[Ordering] | None:
        """All orderings, shorter ones first; None where there are too many to be listed."""
        if num_orderings(len(self.tasks), self.length) > MOST_ORDERINGS:
            return None
        return orderings_of(self.tasks, range(1, self.length + 1))

    def candidates(self) -> list[Ordering]:
        """The orderings that are looked at: all, or those that are short or go on from a stage that is paid for."""
        if self.everything is not None:
            return self.everything
        longest = max(
            each for each in range(1, self.length + 1) if num_orderings(len(self.tasks), each) <= MOST_ORDERINGS
        )
        listed = dict.fromkeys(orderings_of(self.tasks, range(1, longest + 1)))
        for prefix, _ in sorted(self.paid | self.held, key=lambda stage: (len(stage[0]), stage)):
            if longest <= len(prefix) < self.length:
                listed |= dict.fromkeys((*prefix, task) for task in self.tasks if task not in prefix)
        return list(listed)

    def usable(self, ordering: Ordering) -> bool:
        """Whether neither a chain nor what it builds on has failed."""
        return not any(ordering[: len(failed)] == failed for failed, _ in self.failed)

    def is_paid(self, stage: Run) -> bool:
        """Whether a stage costs nothing any more."""
        return stage in self.paid or stage in self.held

    def stages(self, run: Run) -> list[Run]:
        """The stages of a run that are still to be paid for."""
        ordering, seed = run
        prefixes = ((ordering[:end], seed) for end in range(1, len(ordering) + 1))
        return [stage for stage in prefixes if not self.is_paid(stage)]

    def cost(self, run: Run) -> float:
        """Image passes that a run takes; see `stages`."""
        if run in self.free:
            return 0.0
        return sum(self.prices.stage(prefix) for prefix, _ in self.stages(run)) + self.prices.measure

    def is_affordable(self, run: Run) -> bool:
        """Whether it fits into what is left of the budget."""
        return self.cost(run) <= self.left + 1e-9 * self.budget

    def first_of(self, runs: Sequence[Run]) -> list[Run]:
        """Of some runs, one after the other, those that fit into what is left."""
        ahead, chosen = self.fork(), []
        for run in runs:
            if ahead.is_affordable(run):
                ahead.pay(run)
                chosen.append(run)
        return chosen

    def cost_of(self, runs: Sequence[Run]) -> float:
        """Image passes of several runs, one after the other."""
        ahead = self.fork()
        for run in runs:
            ahead.pay(run)
        return ahead.spent - self.spent

    def fork(self) -> State:
        """A state that goes on from here without changing this one."""
        return replace(self, values=dict(self.values), failed=list(self.failed), paid=set(self.paid))

    def empty(self) -> State:
        """The state before anything was done."""
        return replace(self, values={}, failed=[], spent=0.0, paid=set())

    def pay(self, run: Run) -> None:
        """A run is carried out: its image passes are spent, and its stages are there."""
        self.spent += self.cost(run)
        self.paid |= set(self.stages(run))

    def tell(self, run: Run, value: float | None) -> None:
        """A run was carried out.

        Args:
            run: an ordering and a seed.
            value: validation balanced accuracy in points; None where it failed.
        """
        self.pay(run)
        if value is None:
            self.failed.append(run)
        else:
            self.values[run] = value

    def pending(self, runs: Sequence[Run]) -> list[Run]:
        """Of some runs those that were not carried out yet and may be."""
        return [run for run in runs if run not in self.values and self.usable(run[0])]

    def means(self) -> dict[Ordering, float]:
        """Measured ordering -> mean over its seeds; those that failed somewhere are left out."""
        return {
            ordering: float(np.mean([value for (each, _), value in self.values.items() if each == ordering]))
            for ordering in self.rows
            if self.usable(ordering)
        }


class Strategy(ABC):
    """Which runs come next, and which ordering is best by what was measured."""

    @abstractmethod
    def runs(self, state: State) -> list[Run]:
        """The next runs, in their order; none at the end."""

    def choice(self, state: State) -> Ordering:
        """The ordering that is best so far, of the first that are equal; no tasks where nothing was measured."""
        means = state.means()
        return max(means, key=lambda ordering: means[ordering]) if means else ()


def best_seen(state: State, runs: Sequence[Run]) -> list[Ordering]:
    """The orderings of runs that were measured, by falling mean over these runs; of equal ones the first first."""
    values: dict[Ordering, list[float]] = {}
    for run in runs:
        if run in state.values and state.usable(run[0]):
            values.setdefault(run[0], []).append(state.values[run])
    return sorted(values, key=lambda ordering: -float(np.mean(values[ordering])))


class Random(Strategy):
    """Orderings drawn by chance, each at the first seed, then at the next.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def order(self, state: State) -> list[Ordering]:
        """All orderings that are looked at, in a random order that does not change."""
        listed = state.everything
        if listed is None:
            generator = numpy_generator(self.seed, "random orderings")
            drawn: dict[Ordering, None] = {}
            while len(drawn) < MOST_ORDERINGS:
                length = 1 + int(generator.integers(state.length))
                drawn[tuple(generator.permutation(state.tasks)[:length].tolist())] = None
            return list(drawn)
        return [listed[place] for place in numpy_generator(self.seed, "random orderings").permutation(len(listed))]

    def runs(self, state: State) -> list[Run]:
        """The next that can be afforded."""
        order = self.order(state)
        for seed in state.seeds:
            chosen = state.first_of(state.pending([(ordering, seed) for ordering in order]))
            if chosen:
                return chosen[: state.batch]
        return []


class Halving(Random):
    """Successive halving over seeds (https://arxiv.org/abs/1502.07943).

    As many random orderings are run at the first seed as the rest leaves room for, the better half of them at the
    second, and so on.
    """

    def rungs(self, state: State) -> list[int]:
        """How many orderings are run at each seed: as many as the budget allows, counted from the start."""
        order, empty = self.order(state), state.empty()
        best = [1]
        for number in range(1, len(order) + 1):
            rungs = [math.ceil(number / 2**place) for place in range(len(state.seeds))]
            first = [(ordering, state.seeds[0]) for ordering in order[:number]]
            # What is run again costs what the whole first rung does on average, without sharing.
            again = sum(empty.cost(run) for run in first) / number
            if empty.cost_of(first) + again * sum(rungs[1:]) > state.budget:
                break
            best = rungs
        return best

    def runs(self, state: State) -> list[Run]:
        """The rest of the first rung that is not done."""
        kept, first = self.order(state), state.seeds[0]
        for place, (number, seed) in enumerate(zip(self.rungs(state), state.seeds, strict=False)):
            if place:
                kept = best_seen(state, [(ordering, at) for ordering in kept for at in state.seeds[:place]])
                kept = kept[:number]
            chosen = state.first_of(state.pending([(ordering, seed) for ordering in kept]))
            if not place:  # those that do not fit are passed over
                chosen = chosen[: max(number - sum(at == first for _, at in state.values), 0)]
            if chosen:
                return chosen[: state.batch]
        return []

    def choice(self, state: State) -> Ordering:
        """The best of those with the most seeds."""
        seeds = {ordering: sum(each == ordering for each, _ in state.values) for ordering in state.means()}
        most = max(seeds.values(), default=0)
        longest = [run for run in state.values if seeds.get(run[0]) == most]
        return next(iter(best_seen(state, longest)), ())


class Curriculum(Strategy):
    """The rule of the study (https://arxiv.org/abs/2301.10687): each task alone at all seeds, then the best by rising
    accuracy."""

    def runs(self, state: State) -> list[Run]:
        """Single tasks, seed by seed; then the curriculum."""
        singles = [((task,), seed) for seed in state.seeds for task in state.tasks]
        chosen = state.first_of(state.pending(singles))
        if not chosen:
            ordering = self.choice(state)
            chosen = state.first_of(state.pending([(ordering, seed) for seed in state.seeds if ordering]))
        return chosen[: state.batch]

    def choice(self, state: State) -> Ordering:
        """The best tasks by rising accuracy; it may not be measured where the budget ends before."""
        falling = best_seen(state, [((task,), seed) for seed in state.seeds for task in state.tasks])
        return tuple(ordering[0] for ordering in falling[: state.length][::-1])


class Beam(Strategy):
    """Chains are grown at the first seed and the best prefixes of each length go on; the best of all see every seed.

    Args:
        width: prefixes of each length, and finalists, that are kept.
    """

    def __init__(self, width: int = 2) -> None:
        self.width = width

    def runs(self, state: State) -> list[Run]:
        """What is missing of the present length, else of the finalists."""
        first = state.seeds[0]
        kept: list[Ordering] = [()]
        everything: list[Run] = []
        for _ in range(state.length):
            grown = [((*prefix, task), first) for prefix in kept for task in state.tasks if task not in prefix]
            chosen = state.first_of(state.pending(grown))
            if chosen:
                return chosen[: state.batch]
            everything += grown
            kept = best_seen(state, grown)[: self.width]
        finalists = best_seen(state, everything)[: self.width]
        again = [(ordering, seed) for ordering in finalists for seed in state.seeds[1:]]
        return state.first_of(state.pending(again))[: state.batch]


def all_runs(orderings: Sequence[Ordering], seeds: Sequence[int]) -> list[Run]:
    """Every ordering at every seed, seed by seed."""
    return [(ordering, seed) for seed, ordering in itertools.product(seeds, orderings)]
