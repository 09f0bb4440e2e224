"""The automatic curriculum: a good ordering found without training them all.

A strategy says which ordering is run next, and at which seed. A run trains what is missing of the chain and measures it
on the validation images; test images choose nothing. Costs are counted in image passes, and every stage is paid once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import UNSET, structs

from sslcurr.analysis.experiments.chains import (
    Chain,
    Chains,
    FailedChain,
    MeasuredChain,
    accuracies_of,
    figures_of,
)
from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.ranking import summary
from sslcurr.analysis.experiments.side import SIDES, side_of, side_passes
from sslcurr.analysis.experiments.strategies import (
    MOST_ORDERINGS,
    Beam,
    Curriculum,
    Halving,
    Prices,
    Random,
    Run,
    State,
    Strategy,
    all_runs,
    num_orderings,
)
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.surrogate import SIDE_PREFIX
from sslcurr.analysis.results.estimate import Difference
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.search.document import (
    Belief,
    Cost,
    Finalist,
    Missed,
    Posterior,
    SearchDocument,
    Step,
)
from sslcurr.analysis.results.search_forecast.document import SearchForecastDocument
from sslcurr.engine.cost import FORWARD
from sslcurr.errors import SpecError, did_you_mean

KNOWLEDGE_GRADIENT, BEAM = "knowledge-gradient", "beam"
STRATEGIES = (KNOWLEDGE_GRADIENT, BEAM, "halving", "random", "curriculum")
SCORES = ("knn", "linear", "target")
# What `further_gain` foretells, as a share of the cost of all orderings.
FURTHER = 0.1
# Orderings that are shown as leading.
LEADING = 20


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How the search goes about it.

    Attributes:
        length: most tasks in a chain.
        strategy: one of STRATEGIES.
        budget: most image passes, as a share of what training and measuring all orderings would take.
        tolerance: how far from the best, in points of balanced accuracy, is good enough.
        confidence: the knowledge gradient ends when the ordering that it chooses is good enough with this probability.
        batch: how many runs are chosen at a time.
        as_if_empty: whether stages that the store holds are paid for as if it did not.
        side: figures that may help the knowledge gradient to foretell orderings: some of SIDES.
        beam: of a beam search: prefixes of each length, and finalists, that are kept.
        short: epochs of the first, short training of a candidate, as a share of a stage's.
        score: what prefixes are pruned by: `knn` or `linear` (probes), or `target` (the measure itself).
        penalty: balanced accuracy that a stage loses for features wholly unlike its parent's (section 5 of the study
            proposes that a dissimilar task in the middle costs accuracy); needs a measure of dissimilarity.
    """

    length: int
    strategy: str = KNOWLEDGE_GRADIENT
    budget: float = 0.25
    tolerance: float = 1.0
    confidence: float = 0.9
    batch: int = 1
    as_if_empty: bool = False
    side: tuple[str, ...] = ()
    beam: int = 2
    short: float = 1 / 3
    score: str = "knn"
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise SpecError(f"there is no strategy {self.strategy!r}", did_you_mean(self.strategy, STRATEGIES))
        if self.score not in SCORES:
            raise SpecError(f"there is no score {self.score!r}", did_you_mean(self.score, SCORES))
        for name in self.side:
            if name not in SIDES:
                raise SpecError(f"there is no side figure {name!r}", did_you_mean(name, SIDES))
        if self.side and self.strategy != KNOWLEDGE_GRADIENT:
            raise SpecError(f"--side is not for {self.strategy}", "leave out --strategy, or --side")
        if self.beam < 1:
            raise SpecError(f"--beam must be at least 1, got {self.beam}", "give --beam 2")
        if self.penalty < 0:
            raise SpecError(f"--penalty must be at least 0, got {self.penalty:g}", "give --penalty 0.05")
        if not 0 < self.budget <= 1:
            raise SpecError(f"--budget must be above 0 and at most 1, got {self.budget:g}", "give --budget 0.25")
        if self.tolerance <= 0:
            raise SpecError(f"--tolerance must be above 0 points, got {self.tolerance:g}", "give --tolerance 1")
        if not 0 < self.confidence <= 1:
            raise SpecError(
                f"--confidence must be above 0 and at most 1, got {self.confidence:g}",
                "give --confidence 0.9, or 1 to spend the whole budget",
            )
        if self.batch < 1:
            raise SpecError(f"--batch must be at least 1, got {self.batch}", "give --batch 1, or leave it out")
        if self.penalty and self.score == "target":
            raise SpecError("--penalty is for probes", "add --score knn or linear")
        if self.strategy != BEAM and (self.beam, self.score, self.penalty) != (2, "knn", 0.0):
            raise SpecError(f"--beam, --score and --penalty are not for {self.strategy}", "add --strategy beam")
        if self.strategy != KNOWLEDGE_GRADIENT and (self.tolerance, self.confidence) != (1.0, 0.9):
            raise SpecError(
                f"--tolerance and --confidence are not for {self.strategy}", "leave out --strategy, or these two"
            )

    @property
    def by_probes(self) -> bool:
        """Whether it is a beam search whose prefixes are scored by a probe."""
        return self.strategy == BEAM and self.score != "target"

    def made(self) -> Strategy:
        """The strategy."""
        if self.strategy == KNOWLEDGE_GRADIENT:
            return KnowledgeGradient(self.tolerance, self.confidence)
        if self.strategy == BEAM:
            return Beam(self.beam)
        return {"halving": Halving, "random": Random, "curriculum": Curriculum}[self.strategy]()


# ---- cost


def probe_passes(chains: Chains) -> float:
    """Image passes of a probe of all images."""
    return FORWARD * sum(len(rows) for rows in chains.selection.rows.values())


def prices_of(chains: Chains, tasks: Sequence[str], length: int, seed: int) -> Prices:
    """What runs cost: a stage's cost goes by its task and by being the first."""
    planner = chains.planner.requesting(seed=seed)
    first, later = {}, {}
    for place, task in enumerate(tasks):
        first[task] = later[task] = chains.passes(planner.chain([task])[0])
        if length > 1:
            later[task] = chains.passes(planner.chain([tasks[place - 1], task])[1])
    last = chains.specs((tasks[0],), seed)[-1]
    return Prices(first, later, chains.passes(last) if chains.measure == "finetune" else probe_passes(chains))


def held_by(chains: Chains, tasks: Sequence[str], length: int, seeds: Sequence[int]) -> list[str]:
    """The keys of the stages of orderings that the store holds; of very many orderings those of one task."""
    there = {stage.key for stage in chains.store.all()}
    if not there:
        return []
    listed = length if num_orderings(len(tasks), length) <= MOST_ORDERINGS else 1
    runs = all_runs(orderings_of(tasks, range(1, listed + 1)), seeds)
    keys = dict.fromkeys(key for ordering, seed in runs for key in chains.keys(ordering, seed))
    return [key for key in keys if key in there]


def check_validation(chains: Chains) -> None:
    """Refuse a search without images to choose by.

    Raises:
        SpecError: there are no validation images.
    """
    if not len(chains.selection.rows["val"]):
        raise SpecError("the search chooses on validation images, and there are none", "give --set data.val=0.15")


def forecast(
    chains: Chains, tasks: Sequence[str], seeds: Sequence[int], settings: SearchSettings
) -> SearchForecastDocument:
    """What all orderings would cost, and what the search may spend; nothing is trained."""
    check_validation(chains)
    exhaustive = prices_of(chains, tasks, settings.length, seeds[0]).exhaustive(settings.length, len(seeds))
    return SearchForecastDocument(
        orderings=num_orderings(len(tasks), settings.length),
        exhaustive_image_passes=exhaustive,
        budget_image_passes=settings.budget * exhaustive,
        tasks=list(tasks),
        length=settings.length,
        dataset=chains.dataset,
        seeds=list(seeds),
    )


# ---- the search


@dataclass
class _Told:
    """A run with what the search knew after it."""

    run: Run
    value: float | None
    spent: float
    best: Ordering


@dataclass
class Search:
    """Looks for a good ordering of `tasks` within a budget.

    Attributes:
        chains: trains and measures.
        tasks: the pretext tasks.
        seeds: those that a chain may be run at; the first ones first.
        settings: see `SearchSettings`.
        held: keys of stages that cost nothing.
        run_done: called with a line for every run.
        need_changed: called whenever `chains` knows of more that is needed: stages to come, and reports.

    Raises:
        SpecError: there are no validation images to choose by.
    """

    chains: Chains
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: SearchSettings
    held: Sequence[str] = ()
    run_done: Callable[[str], None] = lambda text: None
    need_changed: Callable[[], None] = lambda: None
    measured: dict[Run, Chain] = field(default_factory=dict, init=False)
    told: list[_Told] = field(default_factory=list, init=False)
    sides: set[str] = field(default_factory=set, init=False)  # side figures that were made, or left out

    def __post_init__(self) -> None:
        check_validation(self.chains)
        prices = prices_of(self.chains, self.tasks, self.settings.length, self.seeds[0])
        self.exhaustive = prices.exhaustive(self.settings.length, len(self.seeds))
        self.strategy = self.settings.made()
        held, free = self._free()
        self.state = State(
            tasks=self.tasks,
            length=self.settings.length,
            seeds=self.seeds,
            prices=prices,
            budget=self.settings.budget * self.exhaustive,
            batch=self.settings.batch,
            held=held,
            free=free,
        )

    def _free(self) -> tuple[frozenset[Run], frozenset[Run]]:
        """The stages and the runs that cost nothing, since the store held them when the search began."""
        there, held, free = set(self.held), set(), set()
        if there:
            listed = self.settings.length
            if num_orderings(len(self.tasks), listed) > MOST_ORDERINGS:
                listed = 1
            for run in all_runs(orderings_of(self.tasks, range(1, listed + 1)), self.seeds):
                keys = self.chains.keys(*run)
                if keys[len(run[0]) - 1] in there:
                    held.add(run)
                if self.chains.measure == "finetune" and keys[-1] in there:
                    free.add(run)
        return frozenset(held), frozenset(free)

    def run(self) -> None:
        """Run orderings until the strategy ends.

        Raises:
            SpecError: the budget is too small for a single chain.
        """
        while runs := self._next():
            self.chains.need([self.chains.specs(*run) for run in runs])
            self.need_changed()
            # A batch is trained at once where several processes are asked for. Which runs it has was decided before.
            self.chains.fill(runs)
            for run in runs:
                self._tell(run)
        if not self.told:
            raise SpecError(
                f"no chain fits into {self.settings.budget:.0%} of the exhaustive cost",
                "give a larger --budget, or fewer --seeds",
            )

    def _next(self) -> list[Run]:
        """The next runs; side figures are made as soon as every task was trained alone."""
        state, strategy = self.state, self.strategy
        singles = [((task,), self.seeds[0]) for task in self.tasks]
        if isinstance(strategy, KnowledgeGradient) and all(run in state.values for run in singles):
            for name in self.settings.side:
                passes = side_passes(name, self.chains, len(self.tasks))
                if name in self.sides:
                    continue
                self.sides.add(name)
                if passes <= state.left:
                    strategy.side[name] = side_of(name, self.chains, self.tasks, self.seeds[0])
                    state.spend(passes)
                else:
                    self.run_done(f"{name} is left out: it does not fit into the budget")
        return strategy.runs(state)

    def _tell(self, run: Run) -> None:
        chain = self.chains.run(*run)
        self.measured[run] = chain
        value = None
        if isinstance(chain, MeasuredChain):
            assert chain.validation is not None
            value = 100 * chain.validation
        self.state.tell(run, value)
        self.told.append(_Told(run, value, self.state.spent, self.strategy.choice(self.state)))
        self.need_changed()
        shown = f"failed: {chain.reason}" if isinstance(chain, FailedChain) else f"{value:.1f} % (validation)"
        share = self.state.spent / self.exhaustive
        self.run_done(f"{' -> '.join(run[0])}, seed {run[1]}: {shown}; {share:.1%} of the cost of all orderings")

    # ---- what it found

    def ordering(self) -> Ordering:
        """The ordering that the validation images choose; no tasks where every chain failed."""
        return self.strategy.choice(self.state)

    def ended(self) -> str:
        """Why it ended: `confidence`, `budget` or `all`."""
        strategy = self.strategy
        if isinstance(strategy, KnowledgeGradient) and strategy.is_sure(self.state):
            return "confidence"
        everything = self.state.everything
        done = everything is not None and not self.state.pending(all_runs(everything, self.seeds))
        return "all" if done else "budget"

    def document(self, command: str | None = None) -> SearchDocument:
        """What was chosen, how, at what cost, and what that missed.

        Args:
            command: the command line that trains the ordering that was chosen.
        """
        chains, settings, ordering = self.chains, self.settings, self.ordering()
        table = known_table(chains, self.tasks, settings.length, self.seeds)
        return SearchDocument(
            dataset=chains.dataset,
            split=chains.split,
            measure=chains.measure,
            seeds=list(self.seeds),
            rungs=[],
            finalists=self._finalists(ordering),
            ordering=list(ordering),
            cost=Cost(
                image_passes=self.state.spent,
                exhaustive_image_passes=self.exhaustive,
                share=self.state.spent / self.exhaustive,
                budget=settings.budget,
                held_stages=UNSET if settings.as_if_empty else len(self.state.held),
            ),
            missed=missed(chains, table, ordering) if table and ordering else None,
            failed=[chain.failure() for chain in self.measured.values() if isinstance(chain, FailedChain)],
            command=command,
            strategy=settings.strategy,
            batch=settings.batch,
            steps=self._steps(table),
            ended=self.ended(),
            posterior=self._posterior() if isinstance(self.strategy, KnowledgeGradient) else UNSET,
        )

    def _finalists(self, ordering: Ordering) -> list[Finalist]:
        """All chains that were measured, the best by what chooses first."""
        runs: dict[Ordering, list[Chain]] = {}
        for (name, _), chain in self.measured.items():
            runs.setdefault(name, []).append(chain)
        runs = {name: each for name, each in runs.items() if any(isinstance(run, MeasuredChain) for run in each)}
        scores = self._scores()
        rows = []
        for name in sorted(runs, key=lambda name: (name != ordering, -scores.get(name, 0.0))):
            row = summary(runs[name])
            rows.append(
                Finalist(
                    ordering=list(name),
                    score=scores.get(name, row.validation or 0.0),
                    validation=row.validation,
                    mean=row.mean,
                    std=row.std,
                    attention=row.attention,
                    runs=row.runs,
                )
            )
        return compared(rows, runs, self.chains, ordering)

    def _scores(self) -> dict[Ordering, float]:
        """What chooses, as shares of 1."""
        if isinstance(self.strategy, KnowledgeGradient) and self.state.values:
            verdict = self.strategy.verdict(self.state)
            return dict(zip(verdict.orderings, (verdict.mean / 100).tolist(), strict=True))
        return {name: mean / 100 for name, mean in self.state.means().items()}

    def _steps(self, table: Mapping[Ordering, Sequence[MeasuredChain]] | None) -> list[Step]:
        means = {name: mean_accuracy(accuracies_of(each)) for name, each in (table or {}).items()}
        highest = max(means.values(), default=0.0)
        return [
            Step(
                ordering=list(told.run[0]),
                seed=told.run[1],
                validation=None if told.value is None else told.value / 100,
                share=told.spent / self.exhaustive,
                best=list(told.best),
                regret=highest - means[told.best] if told.best in means else UNSET,
            )
            for told in self.told
        ]

    def _posterior(self) -> Posterior:
        strategy, state = self.strategy, self.state
        assert isinstance(strategy, KnowledgeGradient)
        verdict = strategy.verdict(state)
        usable = np.array([state.usable(ordering) for ordering in verdict.orderings])
        shown = usable & ~np.isnan(verdict.behind[0])
        rows = sorted(np.flatnonzero(shown).tolist(), key=lambda i: -verdict.mean[i])[:LEADING]
        seeds = {name: sum(each == name for each, _ in state.values) for name in state.rows}
        scales = verdict.scales
        return Posterior(
            leading=[
                Belief(
                    ordering=list(verdict.orderings[i]),
                    mean=float(verdict.mean[i]) / 100,
                    std=float(verdict.std[i]) / 100,
                    more=float(verdict.behind[0, i]) / 100,
                    interval=(float(verdict.behind[1, i]) / 100, float(verdict.behind[2, i]) / 100),
                    best=float(verdict.best[i]),
                    within=float(verdict.within[i]),
                    num_seeds=seeds.get(verdict.orderings[i], 0),
                )
                for i in rows
            ],
            tolerance=strategy.tolerance / 100,
            probability=verdict.probability,
            most_missed=verdict.most_missed / 100,
            most_apart=verdict.most_apart / 100,
            num_good=int((verdict.within >= 0.5).sum()),
            further_gain=strategy.further_gain(state, FURTHER * self.exhaustive) / 100,
            scales={name: scales.typical(name) / 100 for name in scales.names if not name.startswith(SIDE_PREFIX)},
            side={
                name.removeprefix(SIDE_PREFIX): scales.included(name)
                for name in scales.names
                if name.startswith(SIDE_PREFIX)
            },
        )


# ---- what chains say of a choice


def compared(
    rows: Sequence[Finalist], runs: Mapping[Ordering, Sequence[Chain]], chains: Chains, ordering: Ordering
) -> list[Finalist]:
    """Rows with their intervals, and how they differ from the ordering that was chosen.

    Args:
        rows: of chains.
        runs: the chains of each row.
        chains: knows the reported images.
        ordering: the one that was chosen.
    """
    table = Comparisons(figures_of(runs, chains.labels, chains.groups), lineages={each: each[0] for each in runs})
    filled = []
    for row in rows:
        name = tuple(row.ordering)
        apart = UNSET if name == ordering or ordering not in runs else Difference.of(table.difference(ordering, name))
        filled.append(structs.replace(row, interval=table.interval(name), difference=apart))
    return filled


def known_table(
    chains: Chains, tasks: Sequence[str], length: int, seeds: Sequence[int]
) -> dict[Ordering, list[MeasuredChain]] | None:
    """All orderings at all seeds, where the store holds every one of them; else None. Nothing is trained."""
    if num_orderings(len(tasks), length) > MOST_ORDERINGS:
        return None
    if any(chains.known((task,), seed) is None for task in tasks for seed in seeds):
        return None
    longest = itertools.permutations(tasks, length)
    if chains.known(next(longest), seeds[0]) is None:
        return None  # before all are listed: there may be many
    table = {}
    for ordering in orderings_of(tasks, range(1, length + 1)):
        measured = [chains.known(ordering, seed) for seed in seeds]
        if None in measured:
            return None
        table[ordering] = [chain for chain in measured if chain is not None]
    return table


def missed(chains: Chains, table: Mapping[Ordering, Sequence[MeasuredChain]], ordering: Ordering) -> Missed:
    """How far an ordering is from the best of all.

    Args:
        chains: knows the reported images.
        table: all orderings at all seeds.
        ordering: the one that was chosen.
    """
    means = {name: mean_accuracy(accuracies_of(each)) for name, each in table.items()}
    best = max(means, key=lambda name: means[name])
    figures = figures_of(table, chains.labels, chains.groups)
    gap = Comparisons(figures, lineages={each: each[0] for each in table}).difference(ordering, best)
    values = accuracies_of(table[best])
    return Missed(
        best=list(best),
        best_mean=means[best],
        best_std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        mean=means[ordering],
        gap=means[best] - means[ordering],
        gap_interval=None if gap is None or ordering == best else gap.interval,
        rank=1 + sum(mean > means[ordering] for mean in means.values()),
        num_orderings=len(means),
        median=float(np.median(list(means.values()))),
    )
