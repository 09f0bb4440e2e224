"""The automatic curriculum: a good ordering found without training them all.

A strategy says which ordering is run next, and at which seed. A run trains what is missing of the chain and measures it
on the validation images; test images choose nothing. Costs are counted in image passes, and every stage is paid once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from sslcurr.analysis.experiments.chains import Chain, Chains, FailedChain, MeasuredChain, scores_of
from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.ranking import summary
from sslcurr.analysis.experiments.search_results import compared, known_table, missed, posterior_of
from sslcurr.analysis.experiments.search_settings import SearchSettings, check_validation, prices_of
from sslcurr.analysis.experiments.side import side_of, side_passes
from sslcurr.analysis.experiments.strategies import Run, State, all_runs
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.results.estimate import target_name
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.search.document import Cost, Finalist, SearchDocument, Step
from sslcurr.errors import SpecError


@dataclass
class _Told:
    """A run with what was spent after it, and what would be chosen after its batch."""

    run: Run
    value: float | None
    spent: float
    best: Ordering = ()


@dataclass
class Search:
    """Looks for a good ordering of `tasks` within a budget.

    Attributes:
        chains: trains and measures.
        tasks: the pretext tasks.
        seeds: those that a chain may be run at; the first ones first.
        settings: see `SearchSettings`.
        held, free: stages and whole runs that cost nothing.
        run_done: called with a line for every run.
        need_changed: called whenever `chains` knows of more that is needed: stages to come, and reports.

    Raises:
        SpecError: there are no validation images to choose by.
    """

    chains: Chains
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: SearchSettings
    held: frozenset[Run] = frozenset()
    free: frozenset[Run] = frozenset()
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
        self.state = State(
            tasks=self.tasks,
            length=self.settings.length,
            seeds=self.seeds,
            prices=prices,
            budget=self.settings.budget * self.exhaustive,
            batch=self.settings.batch,
            held=self.held,
            free=self.free,
        )

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
            begun = len(self.told)
            for run in runs:
                self._tell(run)
            best = self.strategy.choice(self.state)
            for told in self.told[begun:]:
                told.best = best
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
                    state.spent += passes
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
        self.told.append(_Told(run, value, self.state.spent))
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
            target=target_name(chains.target),
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
            posterior=posterior_of(self.strategy, self.state, self.exhaustive)
            if isinstance(self.strategy, KnowledgeGradient)
            else UNSET,
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
        state, strategy = self.state, self.strategy
        means = strategy.means(state) if isinstance(strategy, KnowledgeGradient) else state.means()
        return {name: mean / 100 for name, mean in means.items()}

    def _steps(self, table: Mapping[Ordering, Sequence[MeasuredChain]] | None) -> list[Step]:
        means = {name: mean_accuracy(scores_of(each)) for name, each in (table or {}).items()}
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
