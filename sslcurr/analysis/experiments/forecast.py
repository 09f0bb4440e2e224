"""What many chains will cost before any of them is trained: stages with and without sharing, hours, disk space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs

from sslcurr.analysis.experiments.chains import Chains
from sslcurr.analysis.results.forecast.document import ForecastDocument, ForecastStage, PretrainingStages
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.cost import Speeds, weights_bytes
from sslcurr.engine.plan import Parent
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.spec.target import TARGET_TASKS

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime

# The stages of each model of an ordering.
PlannedChains = Mapping[tuple[Ordering, int], Sequence[StageSpec]]


def forecast(
    chains: Chains,
    specs: Sequence[Sequence[StageSpec]],
    runtime: Runtime,
    *,
    guessed: bool | UnsetType = UNSET,
) -> ForecastDocument:
    """The cost of chains, given the stages of each.

    Images a second are those of the latest stage in the store of that task, network, size and device; where there is
    none, the first steps of a training are measured, once: `sslcurr.engine.cost.Speeds`.

    Args:
        chains: trains and measures.
        specs: the stages of each chain.
        runtime: where they are trained.
        guessed: whether a curriculum among them is a guess.
    """
    stages = {key_of(spec): spec for chain in specs for spec in chain}
    pretext = [key_of(spec) for chain in specs for spec in chain if spec.task not in TARGET_TASKS]
    there = {key for key in stages if chains.store.find(key) is not None}
    missing = [spec for key, spec in stages.items() if key not in there]
    known = Speeds(chains.store, runtime)
    speeds: dict[str, float] = {}
    measured_now: list[str] = []
    seconds = 0.0
    for spec in missing:
        if spec.task not in speeds:
            speeds[spec.task], is_measured = known.of(spec)
            if is_measured:
                measured_now.append(spec.task)
        seconds += chains.passes(spec) / speeds[spec.task]
    return ForecastDocument(
        chains=len(specs),
        pretraining_stages=PretrainingStages(alone=len(pretext), shared=len(set(pretext))),
        stages=[
            ForecastStage(task=spec.task, tasks=list(spec.tasks), seed=spec.seed, key=key, reused=key in there)
            for key, spec in stages.items()
        ],
        there=len(there),
        images_per_second=speeds,
        measured_now=measured_now,
        hours=seconds / 3600,
        gigabytes=weights_bytes(missing, chains.store) / 1e9,
        guessed=guessed,
    )


def forecast_ranking(
    chains: Chains,
    orderings: Sequence[Ordering],
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    reference: Parent | None = None,
    guessed: bool = False,
) -> ForecastDocument:
    """The cost of a ranking, with the tree of its stages.

    Args:
        chains: trains and measures.
        orderings: all that are measured beside the baseline, single tasks among them.
        seeds: each chain is trained with each of them.
        runtime: where they are trained.
        reference: weights to compare with, trained by classification alone.
        guessed: whether a curriculum among the orderings is a guess.
    """
    models = list(itertools.product(seeds, chains.parts))  # of each chain: one a seed, and a fold
    names: list[Ordering] = [(), *orderings]
    planned = {(name, number): part.specs(name, seed) for number, (seed, part) in enumerate(models) for name in names}
    compared = [part.specs((), seed, reference) for seed, part in models] if reference is not None else []
    document = forecast(chains, [*planned.values(), *compared], runtime, guessed=guessed)
    begin = "scratch" if chains.planner.parent.key is None else "start"
    return structs.replace(document, tree=tree_lines(document, planned, begin))


def tree_lines(document: ForecastDocument, planned: PlannedChains, begin: str) -> list[str]:
    """The stages of chains as a tree in lines of text, each with the number of models of which the store holds it.

    Args:
        document: says which stages are there.
        planned: the stages of every ordering, of every model; that of no tasks is the baseline.
        begin: what the root is called.
    """
    there = {stage.key for stage in document.stages if stage.reused}
    num_models = len({number for _, number in planned})
    stages: dict[Ordering, set[str]] = {}  # prefix -> keys of its last stage that are there
    ends: dict[Ordering, int] = {}  # ordering -> models whose classification is there
    for (ordering, _), specs in planned.items():
        if len(specs) > len(ordering):
            ends[ordering] = ends.get(ordering, 0) + (key_of(specs[-1]) in there)
        for end, spec in enumerate(specs[: len(ordering)], start=1):
            stages.setdefault(ordering[:end], set()).update({key_of(spec)} & there)
    children: dict[Ordering, list[Ordering]] = {}
    for prefix in stages:
        children.setdefault(prefix[:-1], []).append(prefix)

    def below(prefix: Ordering, indent: str) -> list[str]:
        lines = []
        for child in children.get(prefix, []):
            is_last = child == children[prefix][-1]
            label = _label(child[-1], len(stages[child]), ends.get(child), num_models)
            lines.append(f"{indent}{'└── ' if is_last else '├── '}{label}")
            lines += below(child, indent + ("    " if is_last else "│   "))
        return lines

    return [_label(begin, None, ends.get(()), num_models), *below((), "")]


def _label(name: str, there: int | None, ended: int | None, num_models: int) -> str:
    parts = [] if there is None else [f"{there} of {num_models} there"]
    if ended is not None:
        parts.append(f"classification {ended} of {num_models}")
    return f"{name}  ({', '.join(parts)})" if parts else name
