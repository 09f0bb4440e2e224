"""From single-task accuracies to a curriculum, and what orderings of the tasks make of it: the study's Table 3.

arXiv 2112.12086, arXiv 2301.10687.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from sslcurr.analysis.evaluation.attention import AttentionSettings, ModelAttention, estimate_of
from sslcurr.analysis.experiments.chains import (
    Chain,
    Chains,
    FailedChain,
    MeasuredChain,
    figures_of,
    scores_of,
)
from sslcurr.analysis.experiments.hypothesis import (
    PREDICTIONS,
    Judged,
    permutation_test,
    predicted,
    rank_correlation,
)
from sslcurr.analysis.experiments.orderings import classify, curriculum_of, tie_groups
from sslcurr.analysis.measures.attention import sample_of
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.intervals import (
    Floats,
    Images,
    Sample,
    combined,
    interval_of,
    jackknife_groups,
    without_groups,
)
from sslcurr.analysis.results.columns import score_column
from sslcurr.analysis.results.estimate import Difference, Estimate, Summary, target_name
from sslcurr.analysis.results.ranking.document import (
    IMAGENET,
    AttentionFacts,
    Best,
    Choice,
    Hypothesis,
    Kendall,
    Ordering,
    OrderingRow,
    RankDocument,
    TaskRow,
)
from sslcurr.analysis.results.table import Column, Row, Table
from sslcurr.engine.plan import Parent
from sslcurr.spec.target import CLASSES, TargetKind
from sslcurr.wording import arrow

Name = TypeVar("Name", bound=Hashable)

SCRATCH, START = "scratch", "start"


@dataclass
class Results:
    """Measured chains over the seeds asked for, as far as there are any.

    Attributes:
        seeds: those asked for.
        baselines: name -> measured and failed chains without these tasks, by seed.
        chains: ordering -> measured and failed chains, by seed.
    """

    seeds: Sequence[int]
    baselines: dict[str, list[Chain]] = field(default_factory=dict)
    chains: dict[Ordering, list[Chain]] = field(default_factory=dict)

    def all(self) -> list[Chain]:
        """Every chain, the baselines first."""
        return [chain for group in (*self.baselines.values(), *self.chains.values()) for chain in group]

    def failures(self) -> list[FailedChain]:
        """All that could not be trained."""
        return [chain for chain in self.all() if isinstance(chain, FailedChain)]


class Ranking:
    """Ranks tasks, then measures orderings of them.

    Args:
        chains: trains and measures.
        tasks: the pretext tasks to rank.
        seeds: each chain is trained with each of them.
        imagenet: weights to compare with, trained by classification alone.
        chain_done: called after every measured or failed chain, with the results so far.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        *,
        imagenet: Parent | None = None,
        chain_done: Callable[[Chain, Results], None] = lambda chain, results: None,
    ) -> None:
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.imagenet = imagenet
        self.chain_done = chain_done
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

    def curriculum(self) -> Ordering:
        """The tasks by rising accuracy, as far as they are measured."""
        return curriculum_of(self.singles())

    def measure_orderings(self, orderings: Sequence[Ordering]) -> None:
        """Measure orderings, seed by seed."""
        for seed in self.seeds:
            for ordering in orderings:
                self._add(self.results.chains.setdefault(ordering, []), ordering, seed)

    def _add(self, chains: list[Chain], ordering: Ordering, seed: int, parent: Parent | None = None) -> None:
        chain = self.chains.run(ordering, seed, parent)
        chains.append(chain)
        self.chain_done(chain, self.results)

    def document(self, command: str | None = None) -> RankDocument:
        """All that is measured so far.

        Args:
            command: the command line that trains the curriculum.
        """
        chains = self.chains
        masks = chains.planner.request.masks
        return document_of(
            self.results,
            chains.images,
            dataset=chains.dataset,
            split=chains.split,
            measure=chains.measure,
            attention=attention_facts(
                self.results, chains.attention_settings, "those of the data set" if masks is None else str(masks)
            ),
            command=command,
            target=chains.target,
        )


def known_singles(chains: Chains, tasks: Sequence[str], seeds: Sequence[int]) -> dict[str, float] | None:
    """Task -> mean single-SSL accuracy if all of them are in the store; nothing is trained."""
    means = {}
    for task in tasks:
        measured = [chains.known((task,), seed) for seed in seeds]
        if None in measured:
            return None
        means[task] = mean_accuracy([chain.score for chain in measured if chain is not None])
    return means


def singles_of(results: Results) -> dict[str, float]:
    """Task -> mean single-SSL accuracy over the seeds that were trained."""
    means = {}
    for ordering, chains in results.chains.items():
        values = scores_of(chains)
        if len(ordering) == 1 and values:
            means[ordering[0]] = mean_accuracy(values)
    return means


def document_of(
    results: Results,
    images: Images,
    *,
    dataset: str,
    measure: str,
    split: str = "test",
    attention: AttentionFacts | UnsetType = UNSET,
    command: str | None = None,
    target: TargetKind = CLASSES,
) -> RankDocument:
    """The ranking, its ties, the table of orderings and the test of the hypothesis.

    Args:
        results: measured chains; those that failed at every seed are left out of the order.
        images: the layout of the images that are reported.
        dataset: its name.
        measure: `finetune`, `linear` or `knn`.
        split: which images are reported.
        attention: how it was measured.
        command: the command line that trains the curriculum.
        target: the kind of target.
    """
    compared = compared_of(results, images)
    attended = attended_of(results)
    singles = singles_of(results)
    rising = curriculum_of(singles)
    pairs = _alike_pairs(compared, rising)
    tasks = [_task_row(results, task, compared, attended) for task in rising]
    longer = {name: chains for name, chains in results.chains.items() if len(name) > 1}
    orderings: list[OrderingRow] | UnsetType = UNSET
    best: Best | UnsetType | None = UNSET
    tested: Hypothesis | UnsetType = UNSET
    if longer:
        num_tasks = sum(len(name) == 1 for name in results.chains)
        rows = {name: summary(chains, compared, attended, name) for name, chains in longer.items()}
        start = next((name for name in results.baselines if name != IMAGENET), None)
        gains = {} if start is None else {name: Difference.of(compared.difference((start,), name)) for name in rows}
        orderings = table_of(rows, singles, pairs, num_tasks, gains)
        best = best_of(tasks, orderings, split)
        tested = hypothesis(results, compared, images)
    return RankDocument(
        dataset=dataset,
        split=split,
        measure=measure,
        seeds=list(results.seeds),
        num_images=len(images.cell),
        tasks=tasks,
        baselines={name: summary(chains, compared, attended, (name,)) for name, chains in results.baselines.items()},
        curriculum=list(rising),
        ties=tie_groups(rising, pairs),
        orderings=orderings,
        best=best,
        hypothesis=tested,
        failed=[chain.failure() for chain in results.failures()],
        attention=attention,
        command=command,
        target=target_name(target),
    )


def _by_name(results: Results) -> dict[Ordering, list[Chain]]:
    """All chains by name; that of a baseline stands for an ordering of one task."""
    return {(name,): chains for name, chains in results.baselines.items()} | results.chains


def compared_of(results: Results, images: Images) -> Comparisons[Ordering]:
    """The accuracies of all chains; those that start with one task share its luck."""
    return _comparisons(figures_of(_by_name(results), images), results)


def attended_of(results: Results) -> Comparisons[Ordering]:
    """How much of the attention of all chains lies inside masks; of none where no masks are known."""
    figures = {}
    for name, chains in _by_name(results).items():
        seen = [chain for chain in chains if isinstance(chain, MeasuredChain) and chain.attention is not None]
        attentions = [chain.attention for chain in seen if chain.attention is not None]
        if attentions:
            inside = np.stack([attention.inside for attention in attentions])
            figures[name] = sample_of(inside, attentions[0].groups, [chain.seed for chain in seen])
    return _comparisons(figures, results)


def _comparisons(figures: Mapping[Ordering, Sample], results: Results) -> Comparisons[Ordering]:
    return Comparisons(
        figures,
        baselines={(name,) for name in results.baselines},
        lineages={name: name[0] for name in figures},
    )


def _alike_pairs(compared: Comparisons[Ordering], rising: Ordering) -> list[tuple[str, str]]:
    """The pairs of tasks that cannot be told apart."""
    pairs = []
    for a, b in itertools.combinations(rising, 2):
        paired = compared.difference((a,), (b,))
        if paired is None or not paired.told_apart:
            pairs.append((a, b))
    return pairs


def _task_row(results: Results, task: str, compared: Comparisons[Ordering], attended: Comparisons[Ordering]) -> TaskRow:
    gains = {name: Difference.of(compared.difference((name,), (task,))) for name in results.baselines}
    return TaskRow(
        task=task,
        **asdict(summary(results.chains[task,], compared, attended, (task,))),
        gain=next((gain for name, gain in gains.items() if name != IMAGENET), UNSET),
        gain_over_imagenet=gains.get(IMAGENET, UNSET),
    )


def summary(
    chains: Sequence[Chain],
    compared: Comparisons[Name] | None = None,
    attended: Comparisons[Name] | None = None,
    name: Name | None = None,
) -> Summary:
    """A chain over seeds: mean, standard deviation (n - 1), 95 % interval, attention, and each seed.

    Args:
        chains: its seeds.
        compared, attended: the accuracies and the attention of the chains of the table; None leaves the intervals out.
        name: of the chain in these.
    """
    measured = [chain for chain in chains if isinstance(chain, MeasuredChain)]
    values = [chain.score for chain in measured]
    validation = [chain.validation for chain in measured if chain.validation is not None]
    return Summary(
        mean=mean_accuracy(values) if values else None,
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=compared.interval(name) if compared is not None and name is not None else None,
        validation=mean_accuracy(validation) if validation else None,
        attention=attention_of(chains, attended, name),
        runs=[chain.run() for chain in measured],
    )


def _attentions(chains: Sequence[Chain]) -> list[ModelAttention]:
    measured = [chain.attention for chain in chains if isinstance(chain, MeasuredChain)]
    return [attention for attention in measured if attention is not None]


def attention_of(
    chains: Sequence[Chain], attended: Comparisons[Name] | None = None, name: Name | None = None
) -> Estimate | UnsetType:
    """How much of a chain's attention lies inside the masks over seeds; unset where no masks are known.

    Args:
        chains: its seeds.
        attended: the attention of the chains of the table; None leaves a chain what its own seeds say.
        name: of the chain in it.
    """
    attentions = _attentions(chains)
    if not attentions:
        return UNSET
    alone = estimate_of(np.stack([attention.inside for attention in attentions]), attentions[0].groups)
    if attended is None or name is None or alone.mean is None:
        return alone
    return msgspec.structs.replace(alone, interval=attended.interval(name))


def attention_facts(results: Results, settings: AttentionSettings, masks: str) -> AttentionFacts | UnsetType:
    """How attention was measured; unset where no masks are known.

    Args:
        results: measured chains.
        settings: of the maps.
        masks: where they are from.
    """
    attentions = _attentions(results.all())
    if not attentions:
        return UNSET
    first = attentions[0]
    return AttentionFacts(
        masks=masks,
        method=settings.method,
        target=settings.target,
        layer=first.layer,
        coverage=float(first.coverage.mean()),
        num_images=len(first.coverage),
    )


def table_of(
    longer: Mapping[Ordering, Summary],
    singles: Mapping[str, float],
    pairs: Sequence[tuple[str, str]],
    num_tasks: int,
    gains: Mapping[Ordering, Difference],
) -> list[OrderingRow]:
    """The rows of Table 3, block by block of equal length, each with its kind; the best of each block is marked.

    `gains` are over the baseline, of each chain or of none. Chains that lack a seed that others have are no best: fewer
    seeds are more easily lucky.
    """
    summaries = dict(sorted(longer.items(), key=lambda item: len(item[0])))
    whole = _whole(summaries.values())
    highest: dict[int, float] = {}
    for name, row in summaries.items():
        if row.mean is not None and len(row.runs) == whole:
            highest[len(name)] = max(row.mean, highest.get(len(name), row.mean))
    rows = []
    for name, row in summaries.items():
        kind = classify(name, singles, pairs)
        rows.append(
            OrderingRow(
                ordering=list(name),
                kind=kind.order,
                full=len(name) == num_tasks,
                uncertain=kind.uncertain,
                best=len(row.runs) == whole and row.mean is not None and row.mean == highest[len(name)],
                gain=gains.get(name, UNSET),
                **asdict(row),
            )
        )
    return rows


def _whole(rows: Iterable[Summary]) -> int:
    """How many seeds the chains have that have most of them."""
    return max((len(row.runs) for row in rows), default=0)


def best_of(tasks: Sequence[TaskRow], orderings: Sequence[OrderingRow], split: str) -> Best | None:
    """The chain that is best on the reported images, and the one that the validation images choose.

    The first was chosen by the very images that it is quoted on, so its figure is too good; the second's is not. In a
    cross-validation validation images of one fold are reported of another, so that they choose nothing. Chains that
    lack a seed that others have are not compared. None where every chain failed.
    """
    rows: list[tuple[list[str], Summary]] = [([row.task], row) for row in tasks]
    rows += [(row.ordering, row) for row in orderings]
    whole = _whole(row for _, row in rows)
    choices = [
        Choice(ordering=name, mean=row.mean, std=row.std, interval=row.interval, validation=row.validation)
        for name, row in rows
        if row.mean is not None and len(row.runs) == whole
    ]
    if not choices:
        return None
    highest = max(choices, key=lambda choice: choice.mean or 0.0)
    judged = [choice for choice in choices if choice.validation is not None]
    chosen = max(judged, key=lambda choice: choice.validation or 0.0) if judged and split == "test" else UNSET
    return Best(num_chains=len(choices), on_validation=chosen, **{f"on_{split.replace('-', '_')}": highest})


def hypothesis(
    results: Results,
    compared: Comparisons[Ordering],
    images: Images,
) -> Hypothesis:
    """Are curriculum orderings better than others, and do single-SSL accuracies predict the order of orderings?

    Each seed's chains are judged by the single-SSL accuracies of the other seeds. Chains that lack a seed are left out:
    they cannot be compared with the others seed by seed.
    """
    seeds = tuple(results.seeds)
    complete = {name: figure for name, figure in compared.samples.items() if figure.seeds == seeds}
    singles = {name[0]: complete[name].values for name in results.chains if len(name) == 1 and name in complete}
    names = [name for name in results.chains if len(name) > 1 and name in complete and set(name) <= set(singles)]
    accuracies = np.array([complete[name].values for name in names]).reshape(len(names), len(seeds))
    judged = Judged.of(names, accuracies, {task: values.tolist() for task, values in singles.items()})
    tests = []
    for strata in ("set", "length"):
        test = permutation_test(judged, strata=strata)
        if test.effect is not None:
            weights = judged.weights(strata)
            judging = np.flatnonzero(np.abs(weights).sum(axis=1))
            figures = [complete[name].at([seeds[s] for s in judging]) for name in judged.orderings]
            effect = combined(figures, weights[judging])
            test = msgspec.structs.replace(test, interval=interval_of(effect, compared.luck, within=(-1.0, 1.0)))
        tests.append(test)
    kendall = []
    if len(seeds) > 1:
        for length in sorted({len(name) for name in names}):
            block = [place for place, name in enumerate(names) if len(name) == length]
            if len(block) >= 3:
                runs = [results.chains[names[place]] for place in block]
                kendall += _kendall([names[place] for place in block], runs, accuracies[block], judged, images)
    return Hypothesis(permutation=tests, kendall=kendall)


def without_groups_of(runs: Sequence[Sequence[Chain]], images: Images) -> Floats | None:
    """[K, G, S] accuracies of chains without each of G groups of images; None where there are too few images.

    Args:
        runs: of each of K chains at all S seeds.
        images: the layout of the reported images.
    """
    num_groups = jackknife_groups(len(images.cell))
    if not num_groups:
        return None
    correct = [np.stack([run.values for run in each if isinstance(run, MeasuredChain)]) for each in runs]
    return np.stack([without_groups(each, images, num_groups) for each in correct])


def _kendall(
    names: Sequence[Ordering],
    runs: Sequence[Sequence[Chain]],
    accuracies: Floats,
    judged: Judged,
    images: Images,
) -> list[Kendall]:
    """How well each prediction orders orderings of one length, by the mean over seeds.

    Args:
        names: K orderings.
        runs: of each at all seeds.
        accuracies: [K, S].
        judged: what the other seeds say of tasks.
        images: the layout of the reported images.
    """
    deleted = without_groups_of(runs, images)
    entries = []
    for by in PREDICTIONS:
        predictions = np.stack([predicted(names, ranking, by) for ranking in judged.rankings])
        tau, interval = rank_correlation(predictions, accuracies.T, deleted) or (None, None)
        entries.append(Kendall(length=len(names[0]), by=by, tau=tau, interval=interval, num_orderings=len(names)))
    return entries


def table_so_far(results: Results, target: str | UnsetType = UNSET) -> Table:
    """The chains that are measured so far; `target` is the kind of target, unset for classes."""
    groups = [*results.baselines.items(), *((arrow(name), chains) for name, chains in results.chains.items())]
    rows: list[Row] = []
    for name, chains in groups:
        if not chains:  # its first training was stopped
            continue
        measured = summary(chains)
        seeds = f"{len(measured.runs)} of {len(results.seeds)}"
        rows.append({"chain": name, "seeds": seeds, "mean": measured.mean, "std": measured.std})
    columns = (Column("pretraining", ("chain",)), Column("seeds", ("seeds",), str), score_column(target))
    return Table("so far", "so far", columns, rows)
