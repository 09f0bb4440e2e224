"""The correlated knowledge gradient over orderings: the run that teaches most for what it costs comes next.

Frazier, Powell and Dayanik 2009 (https://doi.org/10.1287/ijoc.1080.0314), on the model of
`sslcurr.analysis.measures.surrogate`. docs/curriculum.md has it in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.experiments.strategies import Run, State, Strategy, all_runs
from sslcurr.analysis.measures.beliefs import Belief, beliefs_of, drawn, expected_gains, mean_and_std
from sslcurr.analysis.measures.surrogate import Floats, Measured, Runs, Scales, Space, fenced, fitted
from sslcurr.analysis.results.ranking.document import Ordering

# Beliefs that stand for all scales: fewer where there are many orderings. Of few the probability of being good enough
# jumps from step to step, and a search that ends when it is high would end by chance. What comes next bears fewer.
MANY, BELIEFS, FEW_BELIEFS = 300, 32, 16
AHEAD = 4  # every fourth belief says what comes next
# Orderings that can still be best: their mean plus so many standard deviations reaches the highest mean.
REACH = 4.0
MOST_LEADING = 200
DRAWS = 2000
LEVEL = 0.9  # of what is said of how far orderings may be apart
# Runs that are compared in each step: the cheapest seed of each ordering where there are more.
MOST_RUNS = 400
PACKAGE = 4  # orderings that are looked at together at another seed
FORETOLD = 40  # comparisons by which the gain of a further budget is foretold


@dataclass(frozen=True)
class Believed:
    """What is believed after some runs.

    Attributes:
        orderings: C that are looked at.
        place: ordering -> where it stands among them.
        usable: [C] whether neither it nor what it builds on has failed.
        beliefs: of all of them, for draws of the scales.
        mean, std: [C] of the posterior, in points.
        scales: draws of the standard deviations of parts and luck.
    """

    orderings: list[Ordering]
    place: Mapping[Ordering, int]
    usable: NDArray[np.bool_]
    beliefs: list[Belief]
    mean: Floats
    std: Floats
    scales: Scales

    @property
    def ahead(self) -> list[Belief]:
        """Those of the beliefs that say what comes next."""
        return self.beliefs[::AHEAD]

    def runs(self, runs: Sequence[Run]) -> Runs:
        """Runs as arrays."""
        return Runs.of([(self.place[ordering], seed) for ordering, seed in runs])


@dataclass(frozen=True)
class Verdict:
    """What the measurements so far say.

    Attributes:
        orderings: C of them.
        mean, std: [C] of the posterior, in points.
        best: [C] the probability that an ordering is the best.
        within: [C] the probability that it is within the tolerance of the best.
        chosen: the ordering that is chosen.
        behind: [3, C] median and ends of the 95 % interval of what an ordering has more than that, in points; NaN where
            it is far behind.
        most_missed: with 90 %, the best is not better than it by more than this, in points.
        most_apart: the same of any ordering and any other.
        scales: draws of the standard deviations of parts and luck.
    """

    orderings: list[Ordering]
    chosen: Ordering
    mean: Floats
    std: Floats
    best: Floats
    within: Floats
    behind: Floats
    most_missed: float
    most_apart: float
    scales: Scales

    @property
    def probability(self) -> float:
        """That the ordering that is chosen is within the tolerance of the best."""
        return float(self.within[self.orderings.index(self.chosen)]) if self.chosen else 0.0


class KnowledgeGradient(Strategy):
    """All tasks alone first, then the runs whose expected gain for each image pass is highest.

    Args:
        tolerance: how far from the best, in points, is good enough.
        confidence: it ends when the ordering that is chosen is good enough with this probability; 1 spends the budget.
        side: name -> a figure of orderings that may help to foretell them.
    """

    def __init__(
        self,
        tolerance: float = 1.0,
        confidence: float = 0.9,
        side: Mapping[str, Callable[[Ordering], float]] | None = None,
    ) -> None:
        self.tolerance = tolerance
        self.confidence = confidence
        self.side = dict(side or {})
        self._kept: tuple[object, Believed] | None = None

    # ---- what is believed

    def believed(self, state: State) -> Believed:
        """What is believed of the orderings that are looked at."""
        known = (tuple(state.values.items()), tuple(state.failed), len(state.paid), tuple(self.side))
        if self._kept is not None and self._kept[0] == known:
            return self._kept[1]
        orderings = state.candidates()
        place = {ordering: row for row, ordering in enumerate(orderings)}
        number = {task: place for place, task in enumerate(state.tasks)}
        side = {name: np.array([figure(ordering) for ordering in orderings]) for name, figure in self.side.items()}
        space = Space.of([[number[task] for task in each] for each in orderings], len(number), side)
        runs = Runs.of([(place[ordering], seed) for ordering, seed in state.values])
        measured = Measured(space, runs, fenced(np.array(list(state.values.values()))))
        scales = fitted(measured)
        beliefs = beliefs_of(measured, scales, BELIEFS if len(space) <= MANY else FEW_BELIEFS)
        usable = np.array([state.usable(ordering) for ordering in orderings])
        self._kept = (known, Believed(orderings, place, usable, beliefs, *mean_and_std(beliefs), scales))
        return self._kept[1]

    def means(self, state: State) -> dict[Ordering, float]:
        """Ordering -> posterior mean in points, of those that are looked at; none before anything was measured."""
        if not state.values:
            return {}
        known = self.believed(state)
        return dict(zip(known.orderings, known.mean.tolist(), strict=True))

    def choice(self, state: State) -> Ordering:
        """The measured ordering with the highest posterior mean."""
        measured = [ordering for ordering in state.rows if state.usable(ordering)]
        if not measured:
            return ()
        known = self.believed(state)
        return max(measured, key=lambda ordering: known.mean[known.place[ordering]])

    def verdict(self, state: State) -> Verdict:
        """What the measurements so far say of the orderings that are looked at."""
        known, chosen = self.believed(state), self.choice(state)
        rows = self._rows(known, chosen)
        draws = drawn(known.beliefs, rows, DRAWS)
        highest = draws.max(axis=1)
        ours = draws[:, rows == known.place[chosen]] if chosen else highest[:, None]
        num = len(known.orderings)
        behind = np.full((3, num), np.nan)
        behind[:, rows] = np.quantile(draws - ours, [0.5, 0.025, 0.975], axis=0)
        best, within = np.zeros(num), np.zeros(num)
        best[rows] = (draws >= highest[:, None]).mean(axis=0)
        within[rows] = (draws >= highest[:, None] - self.tolerance).mean(axis=0)
        # Of very many orderings some stand for those that cannot be best.
        others = np.setdiff1d(np.flatnonzero(known.usable), rows)
        every = drawn(known.beliefs, np.union1d(rows, others[:: 1 + len(others) // MOST_LEADING]), DRAWS)
        return Verdict(
            orderings=known.orderings,
            chosen=chosen,
            mean=known.mean,
            std=known.std,
            best=best,
            within=within,
            behind=behind,
            most_missed=float(np.quantile(highest - ours[:, 0], LEVEL)),
            most_apart=float(np.quantile(np.ptp(every, axis=1), LEVEL)),
            scales=known.scales,
        )

    def probability(self, state: State) -> float:
        """That the ordering that is chosen is good enough."""
        chosen = self.choice(state)
        if not chosen:
            return 0.0
        known = self.believed(state)
        rows = self._rows(known, chosen)
        draws = drawn(known.beliefs, rows, DRAWS)
        return float(np.mean(draws[:, rows == known.place[chosen]][:, 0] >= draws.max(axis=1) - self.tolerance))

    @staticmethod
    def _rows(known: Believed, chosen: Ordering) -> NDArray[np.intp]:
        """The orderings that can be best, and the one that is chosen."""
        leading = _leading(known.mean, known.std, known.usable)
        return np.union1d(leading, [known.place[chosen]] if chosen else []).astype(np.intp)

    def is_sure(self, state: State) -> bool:
        """Whether that is probable enough to end."""
        return self.confidence < 1 and self.probability(state) >= self.confidence

    # ---- what comes next

    def runs(self, state: State) -> list[Run]:
        """All runs that cost nothing, then the single tasks, then a batch of those that teach most; none at the end."""
        free = state.pending(sorted(state.free, key=lambda run: (run[1], len(run[0]), run[0])))
        if free:
            return free
        singles = state.first_of(state.pending([((task,), state.seeds[0]) for task in state.tasks]))
        if singles:
            return singles
        if self.is_sure(state):
            return []
        return self._batch(state, state.batch)[0]

    def further_gain(self, state: State, budget: float) -> float:
        """How much higher the best mean is expected to be, in points, after more image passes."""
        if not state.values:
            return 0.0
        more = replace(state, budget=state.spent + budget)
        cheapest = state.prices.measure + min(state.prices.later.values())
        planned, after = self._batch(more, math.inf, at_once=1 + int(budget / cheapest / FORETOLD))
        if not planned:
            return 0.0
        known = self.believed(state)
        return _gain_of(known.ahead, after, np.arange(len(known.orderings)))

    def _batch(self, state: State, number: float, at_once: int = 1) -> tuple[list[Run], list[Belief]]:
        """The next runs by falling gain for their cost, each as if those before had shown what was expected of them.

        Args:
            state: what was measured, and what may be spent.
            number: most runs.
            at_once: how many are taken of each comparison.

        Returns:
            The runs, and what is believed after them.
        """
        known = self.believed(state)
        beliefs, ahead, chosen = known.ahead, state.fork(), list[Run]()
        while len(chosen) < number:
            runs = [run for run in ahead.pending(all_runs(known.orderings, state.seeds)) if run not in ahead.free]
            costs = np.array([ahead.cost(run) for run in runs])
            kept = _cheapest(runs, costs, np.flatnonzero(costs <= ahead.left + 1e-9 * ahead.budget))
            if not len(kept):
                break
            mean, std = mean_and_std(beliefs)
            leading = _leading(mean, std, known.usable)
            asked = known.runs([runs[i] for i in kept])
            gains = _gains(beliefs, asked, leading)
            # Where nothing can change the choice, the run of which least is known.
            value = (gains if np.any(gains) else std[asked.rows]) / costs[kept]
            falling = leading[np.argsort(-mean[leading], kind="stable")]
            together, gain = self._best_package(known, ahead, beliefs, falling) if at_once == 1 else ([], 0.0)
            if gain > value.max():
                for run in together[: int(min(number - len(chosen), len(together)))]:
                    beliefs = _after(beliefs, known, run)
                    ahead.tell(run, 0.0)
                    chosen.append(run)
                continue
            for i in np.argsort(-value, kind="stable")[: min(at_once, int(min(number, 1e9)) - len(chosen))]:
                run = runs[kept[i]]
                if ahead.is_affordable(run):
                    beliefs = _after(beliefs, known, run)
                    ahead.tell(run, 0.0)
                    chosen.append(run)
        return chosen, beliefs

    @staticmethod
    def _best_package(
        known: Believed, state: State, beliefs: Sequence[Belief], leading: NDArray[np.intp]
    ) -> tuple[list[Run], float]:
        """The leading orderings, run together at another seed: as many as gain most for their cost, and how much.

        One run at a seed of which little is known says little, since the luck of the seed is unknown: only several
        together compare orderings. Looking one run ahead, no search would ever begin a second seed.

        Args:
            known, state: what is believed and was done.
            beliefs: what is believed once the runs that were chosen before have shown what was expected of them.
            leading: the orderings that can still be best, by falling mean.
        """
        best, highest = list[Run](), 0.0
        for seed in state.seeds:
            runs = state.pending([(known.orderings[row], seed) for row in leading[: 2 * PACKAGE]])[:PACKAGE]
            later, ahead = list(beliefs), state.fork()
            for size, run in enumerate(runs, 1):
                if not ahead.is_affordable(run):
                    break
                ahead.tell(run, 0.0)
                later = _after(later, known, run)
                if size > 1:
                    gain = _gain_of(beliefs, later, leading) / (ahead.spent - state.spent)
                    if gain > highest:
                        best, highest = runs[:size], gain
        return best, highest


def _after(beliefs: Sequence[Belief], known: Believed, run: Run) -> list[Belief]:
    """What is believed once a run has shown just what was expected of it."""
    return [belief.after(known.place[run[0]], run[1]) for belief in beliefs]


def _gain_of(before: Sequence[Belief], after: Sequence[Belief], leading: NDArray[np.intp]) -> float:
    """How much several runs together are expected to raise the highest mean: a mean over draws, always the same."""
    normals = np.random.default_rng(1).standard_normal((512, len(after[0].factor) - len(before[0].factor)))
    gains = []
    for earlier, later in zip(before, after, strict=True):
        moved = later.cross[len(earlier.factor) :, leading]  # what each run will move, one after the other
        mean = earlier.mean[leading]
        gains.append((mean + normals @ moved).max(axis=1).mean() - mean.max())
    return max(float(np.mean(gains)), 0.0)


def _gains(beliefs: Sequence[Belief], runs: Runs, leading: NDArray[np.intp]) -> Floats:
    """[A] how much each run is expected to raise the highest mean."""
    gains = [expected_gains(belief.mean[leading], belief.slopes(runs, leading)) for belief in beliefs]
    return np.asarray(sum(gains) / len(beliefs))


def _leading(mean: Floats, std: Floats, usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The orderings that can still be best."""
    reach = np.where(usable, mean + REACH * std, -np.inf)
    leading = np.flatnonzero(reach >= np.max(np.where(usable, mean, -np.inf)))
    if len(leading) > MOST_LEADING:
        leading = np.sort(leading[np.argsort(-reach[leading], kind="stable")[:MOST_LEADING]])
    return leading


def _cheapest(runs: Sequence[Run], costs: Floats, kept: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of many runs, of each ordering that at the cheapest seed; of equal ones the first."""
    if len(kept) <= MOST_RUNS:
        return kept
    cheapest: dict[Ordering, int] = {}
    for number in kept[np.argsort(costs[kept], kind="stable")]:
        cheapest.setdefault(runs[number][0], int(number))
    return np.array(sorted(cheapest.values()), dtype=np.intp)
