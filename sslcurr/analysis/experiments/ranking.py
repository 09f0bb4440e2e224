"""From single-task accuracies to a curriculum, and what orderings of the tasks make of it: the study's Table 3.

arXiv 2112.12086, arXiv 2301.10687.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.attention import Settings
from sslcurr.analysis.experiments import hypothesis as experiments_hypothesis
from sslcurr.analysis.experiments import orderings as curriculum
from sslcurr.analysis.experiments.chains import Chains, Failure, Run, accuracies_of, paired_difference, resampled_of
from sslcurr.analysis.measures import attention, intervals
from sslcurr.analysis.measures.intervals import Floats
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.plan import Parent

SCRATCH, START, IMAGENET = "scratch", "start", "ImageNet"
RESAMPLES_OF_TAU = 500


@dataclass
class Results:
    """Measured chains over the seeds asked for, as far as there are any.

    Attributes:
        seeds: those asked for.
        chains: name -> runs and failures by seed; a name is an ordering, or a start without tasks as `(START,)`.
    """

    seeds: Sequence[int]
    baselines: dict[str, list[Run | Failure]] = field(default_factory=dict)
    chains: dict[Ordering, list[Run | Failure]] = field(default_factory=dict)

    def failures(self) -> list[Failure]:
        """All that could not be trained."""
        runs = [run for group in (*self.baselines.values(), *self.chains.values()) for run in group]
        return [run for run in runs if isinstance(run, Failure)]


class Ranking:
    """Ranks tasks, then measures orderings of them.

    Args:
        chains: trains and measures.
        tasks: the pretext tasks to rank.
        seeds: each chain is trained with each of them.
        imagenet: weights to compare with, trained by classification alone.
        heard: called after every measured or failed chain, with the results so far.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        *,
        imagenet: Parent | None = None,
        heard: Callable[[Run | Failure, Results], None] = lambda run, results: None,
    ) -> None:
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.imagenet = imagenet
        self.heard = heard
        self.results = Results(self.seeds)
        self.start = SCRATCH if chains.planner.parent.key is None else START  # what the chains begin with

    def measure_singles(self) -> None:
        """Measure the baselines and every task alone, seed by seed."""
        for seed in self.seeds:
            self._add(self.results.baselines.setdefault(self.start, []), (), seed)
            if self.imagenet is not None:
                self._add(self.results.baselines.setdefault(IMAGENET, []), (), seed, self.imagenet)
            for task in self.tasks:
                self._add(self.results.chains.setdefault((task,), []), (task,), seed)

    def singles(self) -> dict[str, float]:
        """Task -> mean single-SSL accuracy; a task that failed at every seed is not there."""
        return singles_of(self.results)

    def measure_orderings(self, orderings: Sequence[Ordering]) -> None:
        """Measure orderings, seed by seed."""
        for seed in self.seeds:
            for ordering in orderings:
                self._add(self.results.chains.setdefault(ordering, []), ordering, seed)

    def _add(self, runs: list[Run | Failure], ordering: Ordering, seed: int, parent: Parent | None = None) -> None:
        run = self.chains.run(ordering, seed, parent)
        runs.append(run)
        self.heard(run, self.results)

    def document(self) -> dict[str, Any]:
        """All that is known so far, as plain values; see docs/commands.md."""
        document = document_of(self.results, self.chains.labels, self.chains.groups, self.chains.split)
        wished = self.chains.planner.wishes.masks
        where = "those of the data set" if wished is None else str(wished)
        return document | attention_facts(self.results, self.chains.looks, where)


def known_singles(chains: Chains, tasks: Sequence[str], seeds: Sequence[int]) -> dict[str, float] | None:
    """Task -> mean single-SSL accuracy if all of them are in the store; nothing is trained."""
    found = {}
    for task in tasks:
        runs = [chains.known((task,), seed) for seed in seeds]
        if None in runs:
            return None
        found[task] = float(np.mean([run.balanced_accuracy for run in runs if run is not None]))
    return found


def singles_of(results: Results) -> dict[str, float]:
    """Task -> mean single-SSL accuracy over the seeds that were trained."""
    found = {}
    for ordering, runs in results.chains.items():
        values = accuracies_of(runs)
        if len(ordering) == 1 and values:
            found[ordering[0]] = float(np.mean(values))
    return found


def document_of(
    results: Results, labels: NDArray[Any], groups: NDArray[Any] | None, split: str = "test"
) -> dict[str, Any]:
    """The ranking, its ties, the table of orderings and the test of the hypothesis, as plain values.

    Args:
        results: measured chains; those that failed at every seed are left out of the order.
        labels, groups: of the images that are reported.
        split: which images those are.
    """
    complete: dict[Ordering, list[Run | Failure]] = {(name,): runs for name, runs in results.baselines.items()}
    complete |= results.chains
    resampled = resampled_of(complete, labels, groups)
    singles = singles_of(results)
    rising = curriculum.curriculum_of(singles)

    def difference(a: Ordering, b: Ordering) -> tuple[float, Floats] | None:
        return paired_difference(complete[a], complete[b], labels, groups)

    pairs = []
    for a, b in itertools.combinations(rising, 2):
        found = difference((a,), (b,))
        if found is None or intervals.alike(found[1]):
            pairs.append((a, b))
    document: dict[str, Any] = {
        "seeds": list(results.seeds),
        "num_images": len(labels),
        "tasks": [],
        "baselines": {},
        "curriculum": list(rising),
        "ties": curriculum.tie_groups(rising, pairs),
    }
    for name, runs in results.baselines.items():
        document["baselines"][name] = summary(runs, resampled.get((name,)))
    for task in rising:
        row = {"task": task, **summary(results.chains[task,], resampled[task,])}
        for name in results.baselines:
            row["gain_over_imagenet" if name == IMAGENET else "gain"] = gain_of(difference((name,), (task,)))
        document["tasks"].append(row)
    longer = {name: runs for name, runs in results.chains.items() if len(name) > 1}
    if longer:
        num_tasks = sum(len(name) == 1 for name in results.chains)
        document["orderings"] = table_of(longer, resampled, singles, pairs, num_tasks)
        document["best"] = best_of(document, split)
        # Chains of fewer seeds than others cannot be compared with them image by image.
        known = [name for name, runs in longer.items() if len(accuracies_of(runs)) == len(results.seeds)]
        known = [name for name in known if set(name) <= set(singles)]
        document["hypothesis"] = hypothesis(known, longer, resampled, singles)
    document["failed"] = [failure.to_json() for failure in results.failures()]
    return document


def gain_of(found: tuple[float, Floats] | None) -> dict[str, Any]:
    """How much better one chain is than another over the seeds of both, with the 95 % interval."""
    if found is None:
        return {"mean": None, "interval": None}
    interval = intervals.interval_of(found[1])
    return {"mean": found[0], "interval": list(interval) if interval is not None else None}


def summary(runs: Sequence[Run | Failure], resampled: Floats | None) -> dict[str, Any]:
    """Mean, spread (standard deviation over seeds, n - 1) and 95 % interval of a chain."""
    values = accuracies_of(runs)
    validation = [run.validation for run in runs if isinstance(run, Run) and run.validation is not None]
    interval = intervals.interval_of(resampled) if resampled is not None else None
    return {
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "interval": list(interval) if interval is not None else None,
        "validation": float(np.mean(validation)) if validation else None,
        **attention_of(runs),
        "runs": [run.to_json() for run in runs if isinstance(run, Run)],
    }


def attention_of(runs: Sequence[Run | Failure]) -> dict[str, Any]:
    """How much of a chain's attention lies inside the masks, as `attention`; nothing where no masks are known."""
    gazes = [run.gaze for run in runs if isinstance(run, Run) and run.gaze is not None]
    if not gazes:
        return {}
    return {"attention": attention.summary(np.stack([gaze.inside for gaze in gazes]), gazes[0].groups)}


def attention_facts(results: Results, looks: Settings, where: str) -> dict[str, Any]:
    """How attention was measured, as `attention` of the document; nothing where no masks are known."""
    groups = (*results.baselines.values(), *results.chains.values())
    gazes = [run.gaze for runs in groups for run in runs if isinstance(run, Run) and run.gaze is not None]
    if not gazes:
        return {}
    coverage = float(gazes[0].coverage.mean())
    facts = {"masks": where, "method": looks.method, "target": looks.target, "layer": gazes[0].layer}
    return {"attention": {**facts, "coverage": coverage, "num_images": len(gazes[0].coverage)}}


def table_of(
    longer: Mapping[Ordering, Sequence[Run | Failure]],
    resampled: Mapping[Ordering, Floats],
    singles: Mapping[str, float],
    pairs: Sequence[tuple[str, str]],
    num_tasks: int,
) -> list[dict[str, Any]]:
    """The rows of Table 3, block by block of equal length, each with its kind; the best of each block is marked."""
    rows = []
    for name, runs in sorted(longer.items(), key=lambda item: len(item[0])):
        kind = curriculum.classify(name, singles, pairs)
        rows.append(
            {
                "ordering": list(name),
                "kind": kind.order,
                "full": len(name) == num_tasks,
                "uncertain": kind.uncertain,
                **summary(runs, resampled.get(name)),
            }
        )
    for row in rows:
        block = [other for other in rows if len(other["ordering"]) == len(row["ordering"])]
        means = [other["mean"] for other in block if other["mean"] is not None]
        row["best"] = row["mean"] is not None and row["mean"] == max(means)
    return rows


def best_of(document: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """The chain that is best on the reported images, and the one that the validation images choose.

    The first was chosen by the very images that it is quoted on, so its figure is too good; the second's is not. None
    where every chain failed.
    """
    rows = [{"ordering": [row["task"]], **row} for row in document["tasks"]] + document["orderings"]
    rows = [row for row in rows if row["mean"] is not None]
    if not rows:
        return None

    def short(row: dict[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in ("ordering", "mean", "std", "interval", "validation")}

    found = {f"on_{split}": short(max(rows, key=lambda row: row["mean"])), "num_chains": len(rows)}
    judged = [row for row in rows if row["validation"] is not None]
    if judged and split == "test":
        found["on_validation"] = short(max(judged, key=lambda row: row["validation"]))
    return found


def hypothesis(
    orderings: Sequence[Ordering],
    measured: Mapping[Ordering, Sequence[Run | Failure]],
    resampled: Mapping[Ordering, Floats],
    singles: Mapping[str, float],
) -> dict[str, Any]:
    """Are curriculum orderings better than others, and do single-SSL accuracies predict the order of orderings?

    Intervals are over test images and seeds of the orderings, the single-SSL accuracies taken as they are.
    """
    means = np.array([np.mean(accuracies_of(measured[name])) for name in orderings])
    document: dict[str, Any] = {"permutation": [], "kendall": []}
    for strata in ("set", "length"):
        test = experiments_hypothesis.permutation_test(orderings, means.tolist(), singles, strata=strata)
        entry: dict[str, Any] = {
            "strata": strata,
            "num_strata": test.num_strata,
            "effect": test.effect,
            "p_value": test.p_value,
            "num_arrangements": test.num_arrangements,
            "exact": test.exact,
            "interval": None,
        }
        if test.num_strata:
            columns = np.stack([resampled[name] for name in orderings], axis=1)
            pairs = experiments_hypothesis.strata_of(orderings, singles, strata)
            interval = intervals.interval_of(experiments_hypothesis.effect_of(columns, pairs))
            entry["interval"] = list(interval) if interval is not None else None
        document["permutation"].append(entry)
    for length in sorted({len(name) for name in orderings}):
        block = [place for place, name in enumerate(orderings) if len(name) == length]
        if len(block) < 3:
            continue
        names = [orderings[place] for place in block]
        columns = np.stack([resampled[name][:RESAMPLES_OF_TAU] for name in names], axis=1)
        for by in experiments_hypothesis.PREDICTIONS:
            prediction = experiments_hypothesis.predicted(names, singles, by)
            tau = float(experiments_hypothesis.kendall_tau(prediction, means[block]))
            interval = intervals.interval_of(experiments_hypothesis.kendall_tau(prediction, columns))
            document["kendall"].append(
                {
                    "length": length,
                    "by": by,
                    "tau": None if np.isnan(tau) else tau,
                    "interval": list(interval) if interval is not None else None,
                    "num_orderings": len(names),
                }
            )
    return document
