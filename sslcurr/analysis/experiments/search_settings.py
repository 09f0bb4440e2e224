"""How a search for an ordering goes about it, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sslcurr.analysis.experiments.chains import Chains
from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.side import SIDES
from sslcurr.analysis.experiments.strategies import (
    MOST_ORDERINGS,
    Beam,
    Curriculum,
    Halving,
    Prices,
    Random,
    Run,
    Strategy,
    all_runs,
    num_orderings,
)
from sslcurr.analysis.results.search_forecast.document import SearchForecastDocument
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError, did_you_mean

KNOWLEDGE_GRADIENT, BEAM = "knowledge-gradient", "beam"
STRATEGIES = (KNOWLEDGE_GRADIENT, BEAM, "halving", "random", "curriculum")
SCORES = ("knn", "linear", "target")


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


def keys_by_run(chains: Chains, tasks: Sequence[str], length: int, seeds: Sequence[int]) -> dict[Run, list[str]]:
    """The keys of the stages of all runs; of very many orderings those of one task."""
    listed = length if num_orderings(len(tasks), length) <= MOST_ORDERINGS else 1
    runs = all_runs(orderings_of(tasks, range(1, listed + 1)), seeds)
    return {run: chains.keys(*run) for run in runs}


def held_by(store: Store, by_run: Mapping[Run, Sequence[str]]) -> list[str]:
    """Of the keys of runs those of stages that the store holds."""
    there = {stage.key for stage in store.all()}
    return [key for key in dict.fromkeys(key for keys in by_run.values() for key in keys) if key in there]


def costing_nothing(
    by_run: Mapping[Run, Sequence[str]], held: Collection[str], measure: str
) -> tuple[frozenset[Run], frozenset[Run]]:
    """The stages and the whole runs that cost nothing.

    Args:
        by_run: the keys of runs.
        held: keys of stages that were there when the search began.
        measure: of the chains; only a fine-tuning is a stage.
    """
    there = set(held)
    stages = frozenset(run for run, keys in by_run.items() if keys[len(run[0]) - 1] in there)
    runs = (run for run, keys in by_run.items() if measure == "finetune" and keys[-1] in there)
    return stages, frozenset(runs)


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
