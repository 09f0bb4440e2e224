"""A beam search for an ordering, scored by a probe of frozen features.

Chains are grown stage by stage. Of each length a beam of prefixes is kept; candidates are scored by a cheap probe of
their frozen features on the validation images, and pruned by successive halving (https://arxiv.org/abs/1502.07943) over
epochs and seeds. A few finalists of any length are fine-tuned, and the validation images choose. Test images choose
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sslcurr.analysis.experiments.chains import Chain, Chains, FailedChain, FailedStage, MeasuredChain
from sslcurr.analysis.experiments.ranking import summary
from sslcurr.analysis.experiments.search_results import compared, known_table, missed
from sslcurr.analysis.experiments.search_settings import (
    BEAM,
    SearchSettings,
    check_validation,
    prices_of,
    probe_passes,
)
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.results.estimate import target_name
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.search.document import Cost, Finalist, Rung, ScoredCandidate, SearchDocument
from sslcurr.engine.plan import parent_of
from sslcurr.engine.store import Stage
from sslcurr.errors import SpecError
from sslcurr.spec.stage import StageSpec, key_of

# How unlike (0 to 1) the features of a stage are to those of its parent; None where there is no parent.
Dissimilarity = Callable[[Stage, Stage], float]


@dataclass
class Candidate:
    """A prefix with its scores.

    Attributes:
        ordering: its tasks.
        scores: seed -> validation balanced accuracy of the probe, penalty taken off, at all epochs.
        first: the score after the first, short training.
    """

    ordering: Ordering
    scores: dict[int, float] = field(default_factory=dict)
    first: float | None = None

    @property
    def score(self) -> float:
        """What it is pruned by."""
        return mean_accuracy(list(self.scores.values())) if self.scores else self.first or 0.0


class BeamSearch:
    """Looks for a good ordering of `tasks` within a budget.

    Args:
        chains: trains and measures; its measure is that of the finalists.
        tasks: the pretext tasks.
        seeds: the first alone sorts out, the kept ones and the finalists see all.
        settings: see `SearchSettings`.
        dissimilarity: compares a stage with its parent; None takes nothing off.
        candidate_done: called with a line for every candidate that was scored.
        need_changed: called whenever `chains` knows of more that is needed: stages to come, and reports.

    Raises:
        SpecError: there are no validation images to choose by.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        settings: SearchSettings,
        *,
        dissimilarity: Dissimilarity | None = None,
        candidate_done: Callable[[str], None] = lambda text: None,
        need_changed: Callable[[], None] = lambda: None,
    ) -> None:
        check_validation(chains)
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.settings = settings
        self.dissimilarity = dissimilarity
        self.candidate_done = candidate_done
        self.need_changed = need_changed
        self.rungs: list[Rung] = []
        self.finalists: list[Finalist] = []
        self.measured: dict[Ordering, list[Chain]] = {}  # the finalists' chains
        self.spent: dict[str, float] = {}  # stage or probe -> image passes
        self.failures: list[FailedChain] = []
        self.probe_passes = probe_passes(chains)
        self.prices = prices_of(chains, self.tasks, settings.length, self.seeds[0])
        self.exhaustive = self.prices.exhaustive(settings.length, len(self.seeds))

    def _cost(self, specs: Sequence[StageSpec]) -> float:
        """Image passes of the stages among `specs` that the search has not paid for yet."""
        return sum(self.chains.passes(spec) for spec in specs if key_of(spec) not in self.spent)

    def _pay(self, specs: Sequence[StageSpec]) -> None:
        self.spent |= {key_of(spec): self.chains.passes(spec) for spec in specs}

    def _affordable(self, candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[Candidate]:
        """The first candidates that fit into what is left of the budget beside fine-tuning the finalists."""
        left = self.settings.budget * self.exhaustive - sum(self.spent.values()) - self._reserve()
        affordable = []
        for candidate in candidates:
            left -= cost(candidate)
            if left < -1e-9 * self.exhaustive:
                break
            affordable.append(candidate)
        return affordable

    def _reserve(self) -> float:
        if self.chains.measure != "finetune":
            return 0.0
        last = self.chains.specs((self.tasks[0],), self.seeds[0])[-1]
        return self.chains.passes(last) * self.settings.beam * len(self.seeds)

    # ---- scores

    def pretext(self, ordering: Ordering, seed: int, *, short: bool = False) -> list[StageSpec]:
        """The pretext stages of a prefix; with `short`, the last of them for fewer epochs."""
        planner = self.chains.planner.requesting(seed=seed)
        specs = planner.chain(ordering)
        if short:
            parent = parent_of(specs[-2]) if len(specs) > 1 else planner.parent
            epochs = max(1, round(specs[-1].training.epochs * self.settings.short))
            specs[-1] = planner.stage(ordering[-1], parent, epochs=epochs)
        return specs

    def _score(self, candidate: Candidate, seed: int, *, short: bool = False) -> float | None:
        specs = self.pretext(candidate.ordering, seed, short=short)
        stage = self.chains.stage(specs)
        self._pay(specs)
        if isinstance(stage, FailedStage):
            self.failures.append(FailedChain(candidate.ordering, seed, stage.reason))
            return None
        probed = self.chains.probed(stage, self.settings.score, self.chains.planner.parent, seed)
        self.spent[probed.folder.name] = self.probe_passes
        value = float(probed.validation)
        if self.dissimilarity is not None and len(specs) > 1:
            before = self.chains.stage(specs[:-1])
            assert isinstance(before, Stage)
            value -= self.settings.penalty * self.dissimilarity(before, stage)
        return value

    def _epochs(self, candidate: Candidate, short: bool) -> int:
        return self.pretext(candidate.ordering, self.seeds[0], short=short)[-1].training.epochs

    # ---- the search

    def _rung(
        self, candidates: Sequence[Candidate], seeds: Sequence[int], keep: int, *, short: bool
    ) -> list[Candidate]:
        """Score candidates as far as the budget goes, and give the best `keep` of them, best first."""

        def cost(candidate: Candidate) -> float:
            specs = [spec for seed in seeds for spec in self.pretext(candidate.ordering, seed, short=short)]
            return self._cost(specs) + self.probe_passes * len(seeds)

        scored = []
        affordable = self._affordable(candidates, cost)
        for candidate in affordable:
            self.chains.need([self.pretext(candidate.ordering, seed, short=short) for seed in seeds])
        self.need_changed()
        # The rung is one batch: its candidates are trained at once where several processes are asked for.
        self.chains.fill_probes(
            [(self.pretext(each.ordering, seed, short=short), seed) for each in affordable for seed in seeds],
            self.settings.score,
        )
        for candidate in affordable:
            values = {seed: self._score(candidate, seed, short=short) for seed in seeds}
            scores = {seed: value for seed, value in values.items() if value is not None}
            if len(scores) < len(seeds):
                continue  # a chain that fails is no candidate
            if short:
                candidate.first = scores[seeds[0]]
            else:
                candidate.scores |= scores
            scored.append(candidate)
            self.candidate_done(
                f"{' -> '.join(candidate.ordering)}: {100 * candidate.score:.1f} %{' (short)' if short else ''}"
            )
        scored.sort(key=lambda candidate: -candidate.score)
        kept = scored[:keep]
        self.rungs.append(
            Rung(
                length=len(candidates[0].ordering),
                short=short,
                seeds=len(seeds) if short else len({*seeds, self.seeds[0]}),
                candidates=[
                    ScoredCandidate(
                        ordering=list(candidate.ordering),
                        epochs=self._epochs(candidate, short),
                        score=candidate.score,
                        kept=candidate in kept,
                    )
                    for candidate in scored
                ],
                not_afforded=[list(candidate.ordering) for candidate in candidates if candidate not in affordable],
            )
        )
        return kept

    def run(self) -> None:
        """Search: grow chains, sort them out, and measure the finalists in full.

        Raises:
            SpecError: the budget is too small for a single chain.
        """
        beam: list[Candidate] = [Candidate(())]
        grown: list[Candidate] = []
        for _ in range(self.settings.length):
            candidates = [
                Candidate((*prefix.ordering, task))
                for prefix in beam
                for task in self.tasks
                if task not in prefix.ordering
            ]
            if not candidates:
                break
            most = max(self.settings.beam, math.ceil(len(candidates) / 2))
            if len(candidates) > most:
                candidates = self._rung(candidates, self.seeds[:1], most, short=True)
            beam = self._rung(candidates, self.seeds[:1], self.settings.beam, short=False) if candidates else []
            if len(self.seeds) > 1 and beam:
                beam = self._rung(beam, self.seeds[1:], self.settings.beam, short=False)
            if not beam:
                break
            grown += beam
        if not grown and not self.failures:
            raise SpecError(
                f"no chain fits into {self.settings.budget:.0%} of the exhaustive cost",
                "give a larger --budget, a smaller --beam, or fewer --seeds",
            )
        self._measure(sorted(grown, key=lambda candidate: -candidate.score)[: self.settings.beam])

    def _measure(self, finalists: Sequence[Candidate]) -> None:
        for candidate in finalists:
            self.chains.need([self.chains.specs(candidate.ordering, seed) for seed in self.seeds])
        self.need_changed()
        self.chains.fill([(candidate.ordering, seed) for candidate in finalists for seed in self.seeds])
        for candidate in finalists:
            chains = []
            for seed in self.seeds:
                chains.append(self.chains.run(candidate.ordering, seed))
                self.need_changed()
            self.failures += [chain for chain in chains if isinstance(chain, FailedChain)]
            for seed in self.seeds:
                self._pay(self.chains.specs(candidate.ordering, seed))
            measured = [chain for chain in chains if isinstance(chain, MeasuredChain)]
            if self.chains.measure != "finetune":
                self.spent |= {chain.folder.name: self.probe_passes for chain in measured}
            if measured:
                self.measured[candidate.ordering] = chains
                row = summary(chains)
                self.finalists.append(
                    Finalist(
                        ordering=list(candidate.ordering),
                        score=candidate.score,
                        validation=row.validation,
                        mean=row.mean,
                        std=row.std,
                        attention=row.attention,
                        runs=row.runs,
                    )
                )

    def ordering(self) -> Ordering:
        """The finalist that the validation images choose; no tasks where every chain failed."""
        if not self.finalists:
            return ()
        return tuple(max(self.finalists, key=lambda row: (row.validation or 0.0, row.score)).ordering)

    def document(self, command: str | None = None) -> SearchDocument:
        """What was chosen, how, at what cost, and what that missed.

        Args:
            command: the command line that trains the ordering that was chosen.
        """
        # The baseline costs the same in both: it is no part of either.
        spent = sum(self.spent.values())
        ordering = self.ordering()
        table = known_table(self.chains, self.tasks, self.settings.length, self.seeds)
        return SearchDocument(
            target=target_name(self.chains.target),
            dataset=self.chains.dataset,
            split=self.chains.split,
            measure=self.chains.measure,
            seeds=list(self.seeds),
            rungs=self.rungs,
            finalists=compared(self.finalists, self.measured, self.chains, ordering),
            ordering=list(ordering),
            cost=Cost(
                image_passes=spent,
                exhaustive_image_passes=self.exhaustive,
                share=spent / self.exhaustive,
                budget=self.settings.budget,
            ),
            missed=missed(self.chains, table, ordering) if table and ordering else None,
            failed=[chain.failure() for chain in self.failures],
            command=command,
            strategy=BEAM,
        )
