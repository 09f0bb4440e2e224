"""The automatic curriculum: a good ordering found without training them all.

Chains are grown stage by stage. Of each length a beam of prefixes is kept; candidates are scored by a cheap probe of
their frozen features on the validation images, and pruned by successive halving (https://arxiv.org/abs/1502.07943) over
epochs and seeds. A few finalists of any length are fine-tuned, and the validation images choose. Test images choose
nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sslcurr.analysis.experiments import orderings as curriculum
from sslcurr.analysis.experiments.chains import Chains, Failure, Run, accuracies_of, resampled_of
from sslcurr.analysis.experiments.ranking import summary
from sslcurr.analysis.measures import intervals
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.plan import parent_of
from sslcurr.engine.store import Stage
from sslcurr.errors import SpecError
from sslcurr.spec.stage import StageSpec, key_of

# How unlike (0 to 1) the features of a stage are to those of its parent; None where there is no parent.
Dissimilarity = Callable[[Stage, Stage], float]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the search goes about it.

    Attributes:
        length: most tasks in a chain.
        beam: prefixes of each length that are kept, and finalists that are fine-tuned.
        budget: most image passes, as a share of what training and fine-tuning all orderings would take.
        short: epochs of the first look at a candidate, as a share of a stage's.
        probe: `knn` or `linear`, the score.
        penalty: balanced accuracy that a stage loses for features wholly unlike its parent's (section 5 of the study
            proposes that a dissimilar task in the middle costs accuracy); needs a measure of dissimilarity.
    """

    length: int
    beam: int = 2
    budget: float = 0.25
    short: float = 1 / 3
    probe: str = "knn"
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise SpecError(f"--beam must be at least 1, got {self.beam}", "give --beam 2")
        if self.penalty < 0:
            raise SpecError(f"--penalty must be at least 0, got {self.penalty:g}", "give --penalty 0.05")
        if not 0 < self.budget <= 1:
            raise SpecError(f"--budget must be above 0 and at most 1, got {self.budget:g}", "give --budget 0.25")


@dataclass
class Candidate:
    """A prefix with its scores.

    Attributes:
        ordering: its tasks.
        scores: seed -> validation balanced accuracy of the probe, penalty taken off, at all epochs.
        first: the score after the first, short look.
    """

    ordering: Ordering
    scores: dict[int, float] = field(default_factory=dict)
    first: float | None = None

    @property
    def score(self) -> float:
        """What it is pruned by."""
        return float(np.mean(list(self.scores.values()))) if self.scores else self.first or 0.0


class Search:
    """Looks for a good ordering of `tasks` within a budget.

    Args:
        chains: trains and measures; its measure is that of the finalists.
        tasks: the pretext tasks.
        seeds: the first alone sorts out, the kept ones and the finalists see all.
        settings: see `Settings`.
        dissimilarity: compares a stage with its parent; None takes nothing off.
        said: called with a line for every step.
        needed: called whenever `chains` knows of more that is needed: stages to come, and reports.

    Raises:
        SpecError: there are no validation images to choose by.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        *,
        dissimilarity: Dissimilarity | None = None,
        said: Callable[[str], None] = lambda text: None,
        needed: Callable[[], None] = lambda: None,
    ) -> None:
        if not len(chains.selection.rows["val"]):
            raise SpecError("the search chooses on validation images, and there are none", "give --set data.val=0.15")
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.settings = settings
        self.dissimilarity = dissimilarity
        self.said = said
        self.needed = needed
        self.rungs: list[dict[str, Any]] = []
        self.spent: dict[str, float] = {}  # stage or probe -> image passes
        self.failures: list[Failure] = []
        self.probe_passes = FORWARD * sum(len(rows) for rows in chains.selection.rows.values())
        self.exhaustive = self._exhaustive()

    # ---- cost

    def orderings(self) -> list[Ordering]:
        """All that an exhaustive search would train."""
        return curriculum.orderings_of(self.tasks, range(1, self.settings.length + 1))

    def num_orderings(self) -> int:
        """How many those are; there may be too many to list them."""
        return sum(math.perm(len(self.tasks), length) for length in range(1, self.settings.length + 1))

    def _exhaustive(self) -> float:
        """What all orderings cost, counted and not listed: a stage's cost goes by its task and by being the first."""
        planner, num_tasks = self.chains.planner.wishing(seed=self.seeds[0]), len(self.tasks)
        total = 0.0
        for place, task in enumerate(self.tasks):
            alone = planner.chain([task])
            total += self.chains.passes(alone[0])
            if self.settings.length > 1:
                after = planner.chain([self.tasks[place - 1], task])[1]
                times = sum(math.perm(num_tasks - 1, depth) for depth in range(1, self.settings.length))
                total += self.chains.passes(after) * times
        last = self.chains.specs((self.tasks[0],), self.seeds[0])[-1]
        measured = self.chains.passes(last) if self.chains.measure == "finetune" else self.probe_passes
        return (total + measured * self.num_orderings()) * len(self.seeds)

    def _cost(self, specs: Sequence[StageSpec]) -> float:
        """Image passes of the stages among `specs` that the search has not paid for yet."""
        return sum(self.chains.passes(spec) for spec in specs if key_of(spec) not in self.spent)

    def _pay(self, specs: Sequence[StageSpec]) -> None:
        self.spent |= {key_of(spec): self.chains.passes(spec) for spec in specs}

    def _affordable(self, candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[Candidate]:
        """The first candidates that fit into what is left of the budget beside fine-tuning the finalists."""
        left = self.settings.budget * self.exhaustive - sum(self.spent.values()) - self._reserve()
        found = []
        for candidate in candidates:
            left -= cost(candidate)
            if left < -1e-9 * self.exhaustive:
                break
            found.append(candidate)
        return found

    def _reserve(self) -> float:
        if self.chains.measure != "finetune":
            return 0.0
        last = self.chains.specs((self.tasks[0],), self.seeds[0])[-1]
        return self.chains.passes(last) * self.settings.beam * len(self.seeds)

    # ---- scores

    def pretext(self, ordering: Ordering, seed: int, *, short: bool = False) -> list[StageSpec]:
        """The pretext stages of a prefix; with `short`, the last of them for fewer epochs."""
        planner = self.chains.planner.wishing(seed=seed)
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
        if isinstance(stage, str):
            self.failures.append(Failure(candidate.ordering, seed, stage))
            return None
        report, folder = self.chains.probed(stage, self.settings.probe, self.chains.planner.parent, seed)
        self.spent[folder.name] = self.probe_passes
        value = float(report["layers"][report["layer"]]["val_balanced_accuracy"])
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

        seen = []
        affordable = self._affordable(candidates, cost)
        for candidate in affordable:
            self.chains.need([self.pretext(candidate.ordering, seed, short=short) for seed in seeds])
        self.needed()
        for candidate in affordable:
            values = {seed: self._score(candidate, seed, short=short) for seed in seeds}
            scores = {seed: value for seed, value in values.items() if value is not None}
            if len(scores) < len(seeds):
                continue  # a chain that fails is no candidate
            if short:
                candidate.first = scores[seeds[0]]
            else:
                candidate.scores |= scores
            seen.append(candidate)
            self.said(f"{' -> '.join(candidate.ordering)}: {100 * candidate.score:.1f} %{' (short)' if short else ''}")
        kept = sorted(seen, key=lambda candidate: -candidate.score)[:keep]
        self.rungs.append(
            {
                "length": len(candidates[0].ordering),
                "short": short,
                "seeds": len(seeds) if short else len({*seeds, self.seeds[0]}),
                "candidates": [
                    {
                        "ordering": list(c.ordering),
                        "epochs": self._epochs(c, short),
                        "score": c.score,
                        "kept": c in kept,
                    }
                    for c in sorted(seen, key=lambda candidate: -candidate.score)
                ],
                "not_afforded": [list(c.ordering) for c in candidates if c not in affordable],
            }
        )
        return kept

    def run(self) -> dict[str, Any]:
        """Search; gives what was found, how, at what cost, and what it missed, as plain values.

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
        finalists = sorted(grown, key=lambda candidate: -candidate.score)[: self.settings.beam]
        return self._finish(finalists)

    def _finish(self, finalists: Sequence[Candidate]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for candidate in finalists:
            self.chains.need([self.chains.specs(candidate.ordering, seed) for seed in self.seeds])
        self.needed()
        for candidate in finalists:
            runs = []
            for seed in self.seeds:
                runs.append(self.chains.run(candidate.ordering, seed))
                self.needed()
            self.failures += [run for run in runs if isinstance(run, Failure)]
            for seed in self.seeds:
                self._pay(self.chains.specs(candidate.ordering, seed))
            good = [run for run in runs if isinstance(run, Run)]
            if self.chains.measure != "finetune":
                self.spent |= {run.folder.name: self.probe_passes for run in good}
            if good:
                found = summary(runs, None)
                del found["interval"]
                rows.append({"ordering": list(candidate.ordering), "score": candidate.score, **found})
        # The baseline costs the same in both: it is no part of either.
        spent = sum(self.spent.values())
        document: dict[str, Any] = {
            "rungs": self.rungs,
            "finalists": rows,
            "ordering": [],
            "cost": {
                "image_passes": spent,
                "exhaustive_image_passes": self.exhaustive,
                "share": spent / self.exhaustive,
                "budget": self.settings.budget,
            },
            "missed": None,
            "failed": [failure.to_json() for failure in self.failures],
        }
        if rows:
            best = max(rows, key=lambda row: (row["validation"] or 0.0, row["score"]))
            document["ordering"] = best["ordering"]
            document["missed"] = self.missed(tuple(best["ordering"]))
        return document

    def missed(self, found: Ordering) -> dict[str, Any] | None:
        """How far the ordering found is from the best of all, where the store holds all of them."""
        runs: list[list[Run | Failure]] = []
        if any(self.chains.known((task,), seed) is None for task in self.tasks for seed in self.seeds):
            return None
        longest = itertools.permutations(self.tasks, self.settings.length)
        if self.chains.known(next(longest), self.seeds[0]) is None:
            return None  # before all are listed: there may be too many
        orderings = self.orderings()
        for ordering in orderings:
            known = [self.chains.known(ordering, seed) for seed in self.seeds]
            if None in known:
                return None
            runs.append([run for run in known if run is not None])
        means = [float(np.mean(accuracies_of(each))) for each in runs]
        place, best = orderings.index(found), int(np.argmax(means))
        both = resampled_of({"found": runs[place], "best": runs[best]}, self.chains.labels, self.chains.groups)
        interval = intervals.interval_of(both["best"] - both["found"])
        best_values = accuracies_of(runs[best])
        return {
            "best": list(orderings[best]),
            "best_mean": means[best],
            "best_std": float(np.std(best_values, ddof=1)) if len(best_values) > 1 else None,
            "mean": means[place],
            "gap": means[best] - means[place],
            "gap_interval": list(interval) if interval is not None else None,
            "rank": 1 + sum(mean > means[place] for mean in means),
            "num_orderings": len(orderings),
            "median": float(np.median(means)),
        }
