"""All that a store holds, as the one document that the page is made of."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from sslcurr.analysis.report.asked import names_in
from sslcurr.analysis.report.kept import PackFacts, PackFile, pack_rows, stage_rows
from sslcurr.analysis.results.report.document import (
    DeviceUse,
    ReportDocument,
    RunSettings,
    StageSettings,
    StoredDataset,
    StoredRun,
    StoredSplit,
    StoredStage,
    Totals,
    VersionUse,
)
from sslcurr.data.sources.catalog import CATALOG, DEFAULT, entry_of
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as
from sslcurr.integrity import sound
from sslcurr.spec.record import RunRecord
from sslcurr.spec.target import CLASSES
from sslcurr.version import __version__
from sslcurr.wording import first_command, reason_of

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
        datasets=_datasets(store, list(stages.values()), chosen.values(), whole=not names),
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
    val: int | float = 0.15
    test: int | float = 0.2
    split_seed: int = 0
    folds: int = 0


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
        split=StoredSplit(val=spec.data.val, test=spec.data.test, seed=spec.data.split_seed, folds=spec.data.folds),
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


class _PackFile(PackFile, frozen=True, kw_only=True):
    """What the report says of a `pack.json`."""

    target: str = CLASSES.name


def _datasets(
    store: Store, stages: Sequence[StoredStage], records: Collection[RunRecord], *, whole: bool
) -> list[StoredDataset]:
    """The data sets that stages and runs saw, as far as their packs are still there."""
    names = [stage.pack for stage in stages] + [pack for record in records for pack in record.packs]
    packs: dict[str, list[PackFacts]] = {}
    for pack in pack_rows(store, list(filter(None, dict.fromkeys(names))), _pack, whole=whole).values():
        packs.setdefault(pack.fingerprint, []).append(pack)
    datasets = {fingerprint: _dataset(same, _asked(records)) for fingerprint, same in packs.items()}
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


def _asked(records: Iterable[RunRecord]) -> set[str]:
    """What commands named as their data sets; those that name none take the one that comes with sslcurr."""
    commands = [[] if isinstance(record.command, UnsetType) else record.command for record in records]
    return {name for command in commands for name in names_in(command, DEFAULT)}


def _pack(folder: Path) -> PackFacts:
    """A pack: what it says of itself, and how its images are divided.

    Raises:
        StoreError: it is damaged.
    """
    import numpy as np

    about = read_as(sound(folder / "pack.json"), _PackFile)
    plain = asdict(about)
    target = plain.pop("target")
    facts = PackFacts(**plain)
    try:
        with np.load(sound(folder / "rows.npz"), allow_pickle=False) as rows:
            labels = rows["labels"] if target == CLASSES.name and about.classes else None
            groups, splits = rows.get("groups"), rows.get("splits")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"the pack in {folder} is damaged ({reason_of(error)})", "it is made again when the data set is opened"
        ) from error
    counts = None
    if labels is not None:
        counts = {name: int((labels == place).sum()) for place, name in enumerate(about.classes or ())}
    given = None
    if splits is not None:
        given = {str(name): int(number) for name, number in zip(*np.unique(splits, return_counts=True), strict=True)}
    known = entry_of(about.name) if about.name is not None and about.name in CATALOG else None
    return msgspec.structs.replace(
        facts,
        counts=counts,
        num_groups=None if groups is None else len(np.unique(groups)),
        given=given,
        licence=None if known is None else known.licence,
        page=None if known is None else known.page,
    )


def _dataset(packs: Sequence[PackFacts], asked: Collection[str]) -> StoredDataset:
    """A data set by its packs; `asked` are those that commands named."""
    first = packs[0]
    is_known = first.name in asked  # a folder may be called like a data set of sslcurr's
    return StoredDataset(
        name=first.name,
        num_images=first.num_images,
        skipped=first.skipped,
        classes=first.classes,
        channels=max(pack.channels for pack in packs),
        fingerprint=first.fingerprint,
        sizes=sorted({pack.size for pack in packs}),
        counts=UNSET if first.counts is None else first.counts,
        num_groups=first.num_groups,
        given=UNSET if first.given is None else first.given,
        place=first.place or UNSET,
        licence=first.licence if is_known and first.licence else UNSET,
        page=first.page if is_known and first.page else UNSET,
    )
