"""One ranking under several settings: do the tasks keep their order, and what does each setting change?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import UNSET, UnsetType, structs
from msgspec.structs import asdict

from sslcurr.analysis.experiments.chains import Chain, Chains, MeasuredChain, figures_of
from sslcurr.analysis.experiments.forecast import forecast, tree_lines
from sslcurr.analysis.experiments.ranking import Ranking, Results, best_of, compared_of
from sslcurr.analysis.measures.agreement import agreement
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.intervals import Floats, Images, difference, jackknife_groups, without_groups
from sslcurr.analysis.results.estimate import Difference, Summary, target_name
from sslcurr.analysis.results.forecast.document import ForecastDocument, PretrainingStages
from sslcurr.analysis.results.ranking.document import SINGLE, Best, Ordering, RankDocument
from sslcurr.analysis.results.variants.document import (
    CHAINS,
    TASKS,
    Axis,
    ChainRow,
    FoundRate,
    RankAgreement,
    Variant,
    VariantFailure,
    VariantsDocument,
)
from sslcurr.errors import DataError
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import key_of
from sslcurr.spec.target import TARGET_TASKS

BASELINE = "baseline"
# Settings that change how many images a second are trained; the rest only changes how many there are.
OF_SPEED = ("backbone", "stem", "image-size", "batch-size", "precision")


@dataclass(frozen=True)
class RankedVariant:
    """A combination of the settings that are varied, and its ranking.

    Attributes:
        values: setting -> its value, as it was given.
        ranking: trains and measures the chains under it.
    """

    values: Mapping[str, str]
    ranking: Ranking

    @property
    def title(self) -> str:
        """The settings in a line."""
        return title_of(self.values)

    @property
    def chains(self) -> Chains:
        """Trains and measures."""
        return self.ranking.chains


def title_of(values: Mapping[str, str]) -> str:
    """Settings in a line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def share_store(chains: Sequence[Chains]) -> None:
    """Let chains under several settings be those of one command: what one needs, found and saw fail, all do.

    Raises:
        DataError: the reported images are not the same, in the same order.
    """
    reference = chains[0]
    for other in chains[1:]:
        check_images(reference, other)
        reference.folders |= other.folders
        other.folders, other.needed = reference.folders, reference.needed
        other.failed, other.trained = reference.failed, reference.trained


def check_images(first: Chains, second: Chains) -> None:
    """Raise DataError where two settings do not report the same images in the same order.

    Another image size has a pack of its own. The fingerprint of a pack is of all its images and their order.
    """
    packs = [each.planner.data.pack for each in (first, second)]
    same_rows = np.array_equal(first.selection.rows[first.split], second.selection.rows[second.split])
    if packs[0].fingerprint != packs[1].fingerprint or first.split != second.split or not same_rows:
        raise DataError(
            f"the images of {packs[0].name} are not the same at {packs[0].size} and at {packs[1].size} px",
            "they changed while the command read them: run it again",
        )


# ---- the document


def document_of(
    axes: Sequence[Axis], variants: Sequence[RankedVariant], commands: Sequence[str | None]
) -> VariantsDocument:
    """All that is measured so far under every setting.

    Args:
        axes: the settings that are varied.
        variants: their combinations, the reference first.
        commands: the command lines that train their curricula.
    """
    chains, ranking = variants[0].chains, variants[0].ranking
    entries, failed = [], []
    for place, (each, command) in enumerate(zip(variants, commands, strict=True)):
        ranked = each.ranking.document(command)
        changes = changes_between(ranking.results, each.ranking.results, chains) if place else None
        rows = _rows(each.ranking, ranked, changes)
        orderings = [] if isinstance(ranked.orderings, UnsetType) else ranked.orderings
        planner = each.chains.planner
        entries.append(
            Variant(
                title=each.title,
                values=dict(each.values),
                backbone=planner.backbone(planner.parent).name,
                image_size=planner.data.image_size,
                chains=_marked(rows, best := best_of(ranked.tasks, orderings, ranked.split)),
                curriculum=ranked.curriculum,
                ties=ranked.ties,
                best=best,
                hypothesis=ranked.hypothesis,
                attention=ranked.attention,
                mean_change=UNSET if changes is None else mean_change(changes),
                rates=found_rates(each.ranking),
                command=ranked.command,
            )
        )
        failed += [VariantFailure(variant=each.title, **asdict(failure)) for failure in ranked.failed]
    return VariantsDocument(
        dataset=chains.dataset,
        split=chains.split,
        measure=chains.measure,
        seeds=list(ranking.seeds),
        num_images=chains.num_images,
        tasks=list(ranking.tasks),
        baseline=ranking.start,
        axes=list(axes),
        variants=entries,
        agreement=agreements(variants),
        failed=failed,
        target=target_name(chains.target),
    )


def changes_between(reference: Results, results: Results, chains: Chains) -> Comparisons[Ordering]:
    """What a setting changes: for every chain its accuracies minus those under the reference; () is the baseline.

    The changes are a table of their own. So what a seed does to all chains under one of the two settings is known as
    luck that the changes share, and luck that both settings share is none.

    Args:
        reference, results: under the reference and under the setting, on the same images.
        chains: says which images these are.
    """
    first, second = (figures_of({(): _baseline(each), **each.chains}, chains.images) for each in (reference, results))
    pairs = {name: difference(first[name], second[name]) for name in second if name in first}
    # Each is one figure of its table, not two.
    changes = {name: replace(each, squares=1.0, total=1.0) for name, each in pairs.items() if each is not None}
    # Chains that a setting does not touch are the same stages: they say nothing of the luck of others.
    untouched = {name for name, each in changes.items() if not each.values.any() and not each.influence.any()}
    return Comparisons(changes, baselines={(), *untouched}, lineages={name: name[:1] for name in changes})


def _baseline(results: Results) -> list[Chain]:
    return next(iter(results.baselines.values()), [])


def _rows(ranking: Ranking, ranked: RankDocument, changes: Comparisons[Ordering] | None) -> list[ChainRow]:
    """The chains under one setting: accuracies and gains as its own ranking has them, and what the setting changes."""
    chains = ranking.chains
    within = compared_of(ranking.results, chains.images)
    rows: list[tuple[Ordering, str, bool, Summary]] = [((), BASELINE, False, ranked.baselines[ranking.start])]
    rows += [((row.task,), SINGLE, False, row) for row in ranked.tasks]
    if not isinstance(ranked.orderings, UnsetType):
        rows += [(tuple(row.ordering), row.kind, row.uncertain, row) for row in ranked.orderings]
    return [
        ChainRow(
            ordering=list(name),
            kind=kind,
            uncertain=uncertain,
            best=False,
            **{field: getattr(row, field) for field in Summary.__struct_fields__},
            gain=Difference.of(within.difference((ranking.start,), name)) if name else UNSET,
            change=_change(changes, {name: 1.0}),
            gain_change=_change(changes, {name: 1.0, (): -1.0}) if name else UNSET,
        )
        for name, kind, uncertain, row in rows
    ]


def _change(
    changes: Comparisons[Ordering] | None, weights: Mapping[Ordering, float], *, borrow: bool = True
) -> Difference | UnsetType:
    """A weighted sum of changes; unset under the reference, and where one of them was not measured."""
    if changes is None or not weights.keys() <= changes.samples.keys():
        return UNSET
    most = sum(abs(weight) for weight in weights.values())
    return Difference.of(changes.weighted(weights, ends=(-most, most), borrow=borrow))


def mean_change(changes: Comparisons[Ordering]) -> Difference | UnsetType:
    """The mean over the chains of what a setting changes; the baseline is left out.

    Chains that share a first stage share its luck, so the luck of the mean is known from its own seeds only.
    """
    names = [name for name in changes.samples if name]
    return _change(changes, dict.fromkeys(names, 1 / len(names)), borrow=False) if names else UNSET


def _marked(rows: Sequence[ChainRow], best: Best | None) -> list[ChainRow]:
    """The rows, of which the best is marked."""
    choice = None if best is None else best.on_reported
    if choice is None or isinstance(choice, UnsetType):
        return list(rows)
    return [structs.replace(row, best=bool(row.ordering) and row.ordering == choice.ordering) for row in rows]


# ---- do settings agree?


def agreements(variants: Sequence[RankedVariant]) -> list[RankAgreement]:
    """The rank correlations of every two settings: of the single tasks, and of all chains where there are longer ones.

    Chains that lack a seed under one of the two are left out.
    """
    chains = variants[0].chains
    images = chains.images
    seeds = variants[0].ranking.seeds
    measured = [_measured(each.ranking.results, images, len(seeds)) for each in variants]
    entries = []
    for a, b in itertools.combinations(range(len(variants)), 2):
        common = [name for name in measured[a] if name in measured[b]]
        singles = [name for name in common if len(name) == 1]
        for of, names in ((TASKS, singles), (CHAINS, common)):
            if of == CHAINS and len(names) == len(singles):
                continue
            both = [_stacked([each[name] for name in names], len(seeds)) for each in (measured[a], measured[b])]
            (first, first_without), (second, second_without) = both
            without = None
            if first_without is not None and second_without is not None:
                without = (first_without, second_without)
            found = agreement(first, second, without)
            entries.append(
                RankAgreement(
                    variant=variants[a].title,
                    other=variants[b].title,
                    of=of,
                    num_chains=len(names),
                    kendall=found.kendall,
                    spearman=found.spearman,
                    tau=found.tau,
                    interval=found.interval,
                    reason=found.reason,
                )
            )
    return entries


# The accuracies of a chain, [S], and without each of G groups of images, [G, S]; None where there are too few images.
_Accuracies = tuple[Floats, Floats | None]


def _measured(results: Results, images: Images, num_seeds: int) -> dict[Ordering, _Accuracies]:
    """The accuracies of the chains that were measured at every seed."""
    num_groups = jackknife_groups(len(images.cell))
    accuracies: dict[Ordering, _Accuracies] = {}
    for name, runs in results.chains.items():
        correct = [run.values for run in runs if isinstance(run, MeasuredChain)]
        if len(correct) == num_seeds:
            values = np.array([run.score for run in runs if isinstance(run, MeasuredChain)])
            accuracies[name] = values, without_groups(np.stack(correct), images, num_groups) if num_groups else None
    return accuracies


def _stacked(accuracies: Sequence[_Accuracies], num_seeds: int) -> _Accuracies:
    """[K, S] accuracies of K chains, and [G, K, S] without groups of images."""
    deleted = [each for _, each in accuracies if each is not None]
    values = np.array([each for each, _ in accuracies]).reshape(len(accuracies), num_seeds)
    return values, np.stack(deleted, axis=1) if deleted else None


# ---- learning rates


def found_rates(ranking: Ranking) -> list[FoundRate] | UnsetType:
    """The learning rates that were found for the stages of all chains; unset where none were searched."""
    chains = ranking.chains
    rates: dict[tuple[str, ...], dict[str, float]] = {}  # tasks up to a stage -> its key -> rate
    recipes: dict[tuple[str, ...], float] = {}
    for ordering, seed in itertools.product([(), *ranking.results.chains], ranking.seeds):
        for spec in chains.specs(ordering, seed):
            if spec.search is not None:
                stage = chains.store.find(key_of(spec))
                recipes[spec.tasks] = spec.training.lr
                if stage is not None and (rate := stage.record.lr) is not None:
                    rates.setdefault(spec.tasks, {})[stage.key] = rate
    if not recipes:
        return UNSET
    return [
        FoundRate(
            tasks=list(tasks),
            recipe=recipes[tasks],
            median=float(np.median(list(each.values()))),
            lowest=min(each.values()),
            highest=max(each.values()),
            num_seeds=len(each),
        )
        for tasks, each in sorted(rates.items(), key=lambda item: len(item[0]))
    ]


# ---- what it will cost


def forecast_variants(
    variants: Sequence[RankedVariant], orderings: Sequence[Sequence[Ordering]], runtime: Runtime, *, guessed: bool
) -> ForecastDocument:
    """The cost of all settings together, with their trees; a stage that several of them share is counted once.

    Args:
        variants: the combinations.
        orderings: of each, all chains beside the baseline.
        runtime: where they are trained.
        guessed: whether a curriculum among them is a guess.
    """
    planned = [
        {(name, seed): each.chains.specs(name, seed) for seed in each.ranking.seeds for name in [(), *names]}
        for each, names in zip(variants, orderings, strict=True)
    ]
    parts: dict[str, ForecastDocument] = {}
    seen: set[str] = set()
    for title, places in _alike_in_speed(variants).items():
        specs = [chain for place in places for chain in planned[place].values()]
        unseen = [[spec for spec in chain if key_of(spec) not in seen] for chain in specs]
        parts[title] = forecast(variants[places[0]].chains, unseen, runtime)
        seen |= {key_of(spec) for chain in specs for spec in chain}
    every = [spec for each in planned for chain in each.values() for spec in chain if spec.task not in TARGET_TASKS]
    document = ForecastDocument(
        chains=sum(map(len, planned)),
        pretraining_stages=PretrainingStages(alone=len(every), shared=len({key_of(spec) for spec in every})),
        stages=[stage for part in parts.values() for stage in part.stages],
        there=sum(part.there for part in parts.values()),
        images_per_second={
            _named(task, title): speed
            for title, part in parts.items()
            for task, speed in part.images_per_second.items()
        },
        measured_now=[_named(task, title) for title, part in parts.items() for task in part.measured_now],
        hours=sum(part.hours for part in parts.values()),
        gigabytes=sum(part.gigabytes for part in parts.values()),
        guessed=guessed,
    )
    trees = [
        [each.title, *tree_lines(document, names, each.ranking.start), ""]
        for each, names in zip(variants, planned, strict=True)
    ]
    return structs.replace(document, tree=[line for tree in trees for line in tree])


def _alike_in_speed(variants: Sequence[RankedVariant]) -> dict[str, list[int]]:
    """The places of the settings under which a task trains as many images a second, by what distinguishes them."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(variants):
        # A setting of a task may change what a step does.
        values = {name: value for name, value in each.values.items() if name in OF_SPEED or "." in name}
        groups.setdefault(title_of(values), []).append(place)
    return groups


def _named(task: str, title: str) -> str:
    return f"{task} ({title})" if title else task
