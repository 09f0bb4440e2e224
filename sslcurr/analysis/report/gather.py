"""All that a store holds, as the one document that the page is made of."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import UnsetType
from msgspec.structs import asdict, replace

from sslcurr.analysis.report.kept import stage_rows
from sslcurr.analysis.results.report.document import (
    DeviceUse,
    ReportDocument,
    RunSettings,
    StageSettings,
    StoredDataset,
    StoredRun,
    StoredStage,
    Totals,
    VersionUse,
)
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as
from sslcurr.integrity import sound
from sslcurr.spec.record import RunRecord
from sslcurr.version import __version__
from sslcurr.wording import first_command

# Points of a small curve.
MOST_POINTS = 60


def gather(store: Store, names: Sequence[str] = ()) -> ReportDocument:
    """What a store holds: runs and stages, newest first, with totals.

    Args:
        store: only what is kept for other reports is written there.
        names: numbers of the runs that count, with the stages that they need; none: all there is.

    Raises:
        StoreError: nothing is there.
    """
    records = store.all_runs()
    chosen = {name: record for name, record in records.items() if not names or name in names}
    wanted = {key for record in chosen.values() for key in record.stages}
    shown = [stage for stage in reversed(store.all()) if not names or stage.key in wanted]
    stages = {stage.key: stage for stage in stage_rows(store, shown, _stage, whole=not names)}
    if not chosen and not stages:
        raise StoreError(
            f"the store {store.root} is empty",
            f"train something first: {first_command(store.root)}; or give the store of your runs as --runs FOLDER",
        )
    runs = [_run(store, name, record, stages) for name, record in reversed(chosen.items())]
    return ReportDocument(
        store=str(store.root),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        sslcurr=__version__,
        totals=_totals(runs, list(stages.values())),
        datasets=_datasets(store, list(stages.values()), chosen.values()),
        runs=runs,
        stages=list(stages.values()),
    )


def _totals(runs: Sequence[StoredRun], stages: Sequence[StoredStage]) -> Totals:
    by_device: dict[str, list[StoredStage]] = {}
    by_version: dict[str, list[StoredStage]] = {}
    for stage in stages:
        by_device.setdefault(stage.device, []).append(stage)
        by_version.setdefault(json.dumps(stage.versions, sort_keys=True), []).append(stage)
    devices = [
        DeviceUse(device=device, stages=len(same), hours=sum(stage.hours for stage in same))
        for device, same in by_device.items()
    ]
    versions = [VersionUse(versions=same[0].versions, stages=len(same)) for same in by_version.values()]
    return Totals(
        runs=len(runs),
        finished=sum(run.finished for run in runs),
        stages=len(stages),
        hours=sum(stage.hours for stage in stages),
        devices=sorted(devices, key=lambda use: -use.hours),
        versions=sorted(versions, key=lambda use: -use.stages),
    )


# ---- runs


def _run(store: Store, name: str, record: RunRecord, stages: Mapping[str, StoredStage]) -> StoredRun:
    keys = list(dict.fromkeys(record.stages))
    there = [stages[key] for key in keys if key in stages]
    run = StoredRun(
        run=name,
        kind=None,
        title=record.title,
        dataset=record.dataset,
        seed=record.seed,
        created=record.created,
        finished=record.finished,
        balanced_accuracy=record.balanced_accuracy,
        target=record.target,
        score=record.score,
        command=record.command,
        stages=keys,
        missing=[key for key in keys if key not in stages],
        hours=sum(stage.hours for stage in there),
        devices=list(dict.fromkeys(stage.device for stage in there)),
        failed=[],
        settings=_settings(there),
        document=None,
    )
    try:
        result = store.result(name)
    except StoreError as error:
        return replace(run, fault=str(error))
    if result is None:
        return run
    kind, document = result
    failed = document.get("failed", [])
    return replace(run, kind=kind, document=document, failed=failed if isinstance(failed, list) else [])


def _settings(stages: Sequence[StoredStage]) -> list[RunSettings]:
    """How the stages of a run were trained: each way once."""
    ways: dict[str, RunSettings] = {}
    for stage in stages:
        way = RunSettings(task=stage.task, stages=1, **asdict(stage.settings))
        name = json.dumps(way.to_json())
        ways[name] = replace(ways[name], stages=ways[name].stages + 1) if name in ways else way
    return list(ways.values())


# ---- stages, read as they were written, so that one of another version is no stumbling block


class _Network(msgspec.Struct):
    name: str
    stem: str
    channels: int


class _Data(msgspec.Struct):
    fingerprint: str
    name: str = ""
    pack: str = ""
    fraction: int | float = 1.0


class _Training(msgspec.Struct):
    epochs: int | float
    batch_size: int
    optimizer: str
    lr: int | float | None


class _Config(msgspec.Struct):
    image_size: int | None = None


class _StageFile(msgspec.Struct):
    """What the report says of a `stage.json`."""

    task: str
    version: int
    lineage: list[str]
    parent: str | None
    seed: int
    backbone: _Network
    data: _Data
    training: _Training
    config: _Config


def _stage(stage: Stage) -> StoredStage:
    spec, record = read_as(stage.folder / "stage.json", _StageFile), stage.record
    search = None if isinstance(record.search, UnsetType) else record.search
    return StoredStage(
        key=stage.key,
        task=spec.task,
        chain=[*spec.lineage, spec.task],
        parent=spec.parent,
        dataset=spec.data.name,
        fingerprint=spec.data.fingerprint,
        pack=Path(spec.data.pack).name,
        seed=spec.seed,
        num_images=record.num_images,
        steps=record.steps,
        hours=record.seconds / 3600,
        images_per_second=record.images_per_second,
        device=record.device,
        precision=record.precision,
        versions=record.versions,
        metrics=record.metrics,
        settings=StageSettings(
            version=spec.version,
            backbone=spec.backbone.name,
            stem=spec.backbone.stem,
            channels=spec.backbone.channels,
            image_size=spec.config.image_size,
            epochs=spec.training.epochs,
            batch_size=spec.training.batch_size,
            optimizer=spec.training.optimizer,
            lr=spec.training.lr if search is None else search["lr"],
            lr_searched=search is not None,
            share=spec.data.fraction,
        ),
        curve=curve(stage.folder / "metrics.csv"),
    )


def curve(path: Path) -> list[tuple[int, float]]:
    """The loss of a stage at no more than 60 steps: means of as many stretches, [step, loss]; none without a log."""
    if not path.is_file():
        return []
    rows = []
    with open(sound(path), newline="") as file:
        for row in csv.DictReader(file):
            try:
                step, loss = int(row["step"]), float(row["loss"])
            except (KeyError, TypeError, ValueError):
                continue  # a line that a full disk cut short
            if math.isfinite(loss):
                rows.append((step, loss))
    edges = [len(rows) * i // MOST_POINTS for i in range(MOST_POINTS + 1)] if len(rows) > MOST_POINTS else []
    parts = [rows[a:b] for a, b in itertools.pairwise(edges)] if edges else [[row] for row in rows]
    return [(part[len(part) // 2][0], sum(loss for _, loss in part) / len(part)) for part in parts]


# ---- data sets


class _PackFile(msgspec.Struct):
    """What the report says of a `pack.json`."""

    fingerprint: str
    channels: int
    size: int
    name: str | None = None
    num_images: int | None = None
    skipped: int | None = None
    classes: list[str] | None = None


def _datasets(store: Store, stages: Sequence[StoredStage], records: Iterable[RunRecord]) -> list[StoredDataset]:
    """The data sets that stages and runs saw, as far as their packs are still there."""
    names = [stage.pack for stage in stages] + [pack for record in records for pack in record.packs]
    packs: dict[str, list[_PackFile]] = {}
    for name in dict.fromkeys(names):
        path = store.packs / name / "pack.json"
        if name and path.is_file():
            try:
                pack = read_as(sound(path), _PackFile)
            except StoreError as error:
                store.left_out(error)
                continue
            packs.setdefault(pack.fingerprint, []).append(pack)
    datasets = {fingerprint: _dataset(same) for fingerprint, same in packs.items()}
    for stage in stages:
        blank = StoredDataset(
            name=stage.dataset,
            num_images=None,
            skipped=None,
            classes=None,
            channels=None,
            fingerprint=stage.fingerprint,
            sizes=[],
        )
        datasets.setdefault(stage.fingerprint, blank)
    return list(datasets.values())


def _dataset(packs: Sequence[_PackFile]) -> StoredDataset:
    """A data set by its packs."""
    first = packs[0]
    return StoredDataset(
        name=first.name,
        num_images=first.num_images,
        skipped=first.skipped,
        classes=first.classes,
        channels=max(pack.channels for pack in packs),
        fingerprint=first.fingerprint,
        sizes=sorted({pack.size for pack in packs}),
    )
