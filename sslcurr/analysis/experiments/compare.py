"""Two runs, one beside the other: the settings of their stages that differ, and the chains that both measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, structs

from sslcurr.analysis.evaluation.predictions import Reported, predictions_of
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.intervals import Sample, sample
from sslcurr.analysis.results.comparison.document import ComparedChain, CompareDocument, ComparedSetting
from sslcurr.analysis.results.estimate import Difference
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.training.document import TrainDocument
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError
from sslcurr.spec.record import RunRecord
from sslcurr.spec.stage import StageSpec, to_dict
from sslcurr.spec.target import TARGET_TASKS
from sslcurr.wording import arrow

BASELINES = ("scratch", "start", "ImageNet")
MOST_VALUES = 6
# What follows from other settings, or says where something lies; chains and starts have rows of their own.
FOLLOWING = ("parent", "lineage", "source", "task", "version", "seed", "corrections", "name", "pack", "request")
CHAIN, START, TASKS = "chain", "starts from", "tasks"


def compare(store: Store, runs: Sequence[str]) -> CompareDocument:
    """The document of two runs.

    Args:
        store: where they are.
        runs: their numbers.
    """
    records = store.all_runs()
    first, second = (records[run] for run in runs)
    reason, found = "", None
    try:
        found = _results(store, runs)
    except DataError as error:
        reason = str(error)
    chains, num_images, target = ([], UNSET, UNSET) if found is None else found
    return CompareDocument(
        runs=list(runs),
        titles=[_title(record) for record in (first, second)],
        settings=_settings(_values(store, first), _values(store, second)),
        chains=chains,
        reason=reason if reason else UNSET if chains else "they have no chain in common",
        num_images=num_images,
        target=target,
    )


def _title(record: RunRecord) -> str:
    return record.title if not isinstance(record.name, str) else f"{record.title} ({record.name})"


# ---- settings


def _values(store: Store, record: RunRecord) -> dict[str, list[str]]:
    """The values of each setting over the stages of a run, in the order in which they first occur."""
    found: dict[str, list[str]] = {"data set": [record.dataset], CHAIN: [], START: []}
    stages = [stage for key in dict.fromkeys(record.stages) if (stage := store.find(key)) is not None]
    specs = {stage.key: stage.spec for stage in stages}
    parents = {spec.parent for spec in specs.values()}
    for stage in stages:
        spec = specs[stage.key]
        values_of = {TASKS: spec.task, "seed": str(spec.seed), **_of_stage(stage, spec)}
        if stage.key not in parents:
            values_of[CHAIN] = arrow(spec.tasks)
        if spec.parent is None or spec.parent not in specs:
            values_of[START] = Path(spec.source).name or spec.parent or "scratch"
        for name, value in values_of.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return found


def _of_stage(stage: Stage, spec: StageSpec) -> dict[str, str]:
    """The settings of a stage as text: of the network and the images by themselves, of the task with its name.

    The learning rate is that which it was trained at, which a search may have found.
    """
    plain: dict[str, Any] = to_dict(spec)
    plain["training"] = {**plain["training"], "lr": stage.record.lr if spec.search is not None else spec.training.lr}
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name in FOLLOWING or value is None:
            continue
        prefix = {"backbone": "backbone.", "data": "data.", "search": f"{spec.task}.search."}.get(name, f"{spec.task}.")
        parts = value.items() if isinstance(value, dict) else [(name, value)]
        if name == "backbone":
            values["backbone"] = value["name"]
        values |= {f"{prefix}{part}": each for part, each in parts if part not in FOLLOWING and part != "config"}
    return {name: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in values.items()}


def _settings(first: dict[str, list[str]], second: dict[str, list[str]]) -> list[ComparedSetting]:
    return [
        ComparedSetting(setting=name, values=(_shown(first.get(name)), _shown(second.get(name))))
        for name in dict.fromkeys([*first, *second])
        if name != TASKS
        and sorted(first.get(name, [])) != sorted(second.get(name, []))
        and not (name.partition(".")[0] not in ("data", "backbone") and "." in name and not _both(name, first, second))
    ]


def _both(name: str, first: dict[str, list[str]], second: dict[str, list[str]]) -> bool:
    """Whether both runs train the task of a setting; that one has a task the other has not is said once."""
    task = name.partition(".")[0]
    return all(task in values.get(TASKS, []) for values in (first, second))


def _shown(values: list[str] | None) -> str | None:
    if values is None:
        return None
    more = len(values) - MOST_VALUES
    return ", ".join(values[:MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


# ---- results


def _results(store: Store, runs: Sequence[str]) -> tuple[list[ComparedChain], int, Any]:
    """The chains that both runs measured, how many images they are of, and the kind of target.

    Raises:
        DataError: a run found nothing yet or tests nothing, or the images differ.
    """
    documents, reported, records = [], [], store.all_runs()
    for run in runs:
        kept = store.result(run)
        if kept is None:
            raise DataError(f"what run {run} found is not known yet", "run its command again")
        document = decode(*kept)
        if isinstance(document, TrainDocument):
            document = structs.replace(document, title=records[run].title)
        table = predictions_of(document.predicted())
        if not len(table):
            raise DataError(f"run {run} tested no chain", "name runs of chain, finetune or rank")
        documents.append(document)
        reported.append(Reported.of(table))
    one, two = reported
    if not np.array_equal(one.paths, two.paths) or one.label_texts() != two.label_texts():
        raise DataError("they were not tested on the same images", "give both the same data set and data.seed")
    runs_of = [_Runs(each) for each in reported]
    pairs = _pairs(*(list(each.seeds) for each in runs_of))
    chains = [found for a, b in pairs if (found := _compared(a, b, *runs_of)) is not None]
    if pairs and not chains:
        raise DataError("no chain of both has a seed in common", "train the same seeds")
    return chains, len(one.paths), getattr(documents[0], "target", UNSET)


class _Runs:
    """What a run tested, by the plain titles of its chains.

    Attributes:
        seeds: of each chain.
    """

    def __init__(self, reported: Reported) -> None:
        self.reported = reported
        self.titles = {plain_title(chain): chain for chain, _ in reported.values}
        self.seeds = {
            plain: [seed for chain, seed in reported.values if chain == title] for plain, title in self.titles.items()
        }

    def sample(self, title: str, seeds: Sequence[int]) -> Sample:
        """Some seeds of a chain."""
        values = [self.reported.values[self.titles[title], seed] for seed in seeds]
        return sample(np.stack(values), self.reported.images, seeds)


def plain_title(title: str) -> str:
    """The title of a chain without the target task: a ranking names its chains so."""
    for task in TARGET_TASKS:
        title = title.removesuffix(f" -> {task}")
    return title


def _pairs(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    """The chains that are compared: those of one title, and where both runs have one only, these."""
    alone = [[title for title in titles if title not in BASELINES] for titles in (first, second)]
    shared = [(title, title) for title in first if title in second]
    if len(alone[0]) == len(alone[1]) == 1 and alone[0] != alone[1]:
        return [(alone[0][0], alone[1][0]), *shared]
    return shared


def _compared(first: str, second: str, one: _Runs, two: _Runs) -> ComparedChain | None:
    """Two chains over the seeds that both have, or two models of one seed each; None where none is in common."""
    seeds = [one.seeds[first], two.seeds[second]]
    if not len(seeds[0]) == len(seeds[1]) == 1:
        shared = [seed for seed in seeds[0] if seed in seeds[1]]
        seeds = [shared, shared]
    if not seeds[0]:
        return None
    samples = {"first": one.sample(first, seeds[0]), "second": two.sample(second, seeds[1])}
    measured = (samples["first"].mean, samples["second"].mean)
    samples["second"] = replace(samples["second"], seeds=samples["first"].seeds)  # two models, whatever their seeds
    paired = Comparisons(samples).difference("first", "second")
    title = first if first == second else f"{first} against {second}"
    used = seeds if seeds[0] != seeds[1] else seeds[:1]
    return ComparedChain(chain=title, seeds=used, measured=measured, difference=Difference.of(paired))
