"""Tables of what a store holds that no single command prints: runs, settings, stages, data sets, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from msgspec.structs import asdict

from sslcurr.analysis.results.columns import same_columns
from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.report.document import (
    DeviceUse,
    ReportDocument,
    RunSettings,
    StoredDataset,
    StoredRun,
    StoredStage,
)
from sslcurr.analysis.results.table import Column, Table, count, general
from sslcurr.spec.target import CLASSES, TARGETS
from sslcurr.wording import arrow, counted

# Classes of a data set that are named.
MOST_CLASSES = 12
# The main measure on validation images, as metrics of stages call it.
VALIDATIONS = tuple(kind.validation for kind in TARGETS.values())


def tables(document: ReportDocument, title: str) -> Iterator[Table]:
    """Runs, stages, data sets and devices; a terminal shows none of them, the page is for that."""
    for table in (
        run_table(document.runs),
        stage_table(document.stages),
        dataset_table(document.datasets),
        device_table(document.totals.devices),
    ):
        yield replace(table, detail=True)


def closing_lines(document: ReportDocument) -> list[str]:
    """Where the page is, and what is on it."""
    if document.page is None:
        return []
    size, figures = document.page_size / 1e6, counted(document.num_figures, "figure")
    return [f"{document.page}: {size:.2f} MB, {counted(len(document.runs), 'run')}, {figures}"]


# ---- runs


def state_of(run: StoredRun) -> str:
    """How far a run has come, in a few words."""
    if not run.finished:
        num = len(run.stages)
        there = f"{num - len(run.missing)} of {counted(num, 'stage')} there" if num else "no stage yet"
        return f"with failures, {there}" if run.failed else f"unfinished, {there}"
    if run.missing:
        return f"finished, {counted(len(run.missing), 'stage')} removed"
    return "finished"


def run_table(runs: Sequence[StoredRun]) -> Table:
    """A row for each run."""
    rows = [
        {
            "run": run.run,
            "kind": run.kind or "not kept",
            "title": run.title,
            "dataset": run.dataset,
            "score": run.best,
            "target": run.target if is_set(run.target) else None,
            "hours": run.hours,
            "created": run.created,
            "state": state_of(run),
        }
        for run in runs
    ]
    columns = (
        Column("run", ("run",)),
        Column("result", ("kind",)),
        Column("what was asked", ("title",)),
        Column("data", ("dataset",)),
        _best_column(runs),
        Column("hours of its stages", ("hours",), hours),
        Column("begun", ("created",), lambda text: text[:16].replace("T", " "), words=True),
        Column("state", ("state",)),
    )
    notes = []
    if any(run.kind == "rank" and run.best is not None for run in runs):
        notes.append("Of a ranking: its best single task, chosen by the images it is quoted on, so it is too good.")
    if any(run.kind == "search" and run.best is not None for run in runs):
        notes.append("Of an automatic curriculum: the ordering that the validation images chose.")
    return Table("runs", "Runs, newest first", columns, rows, tuple(notes))


def _best_column(runs: Sequence[StoredRun]) -> Column:
    """The main measure of the best chain; it is named where not all targets are classes."""
    if all(not is_set(run.target) for run in runs):
        return Column("balanced accuracy (%)", ("score",), share)

    def shown(score: float | None, target: str | None) -> str:
        name = TARGETS[target].measure if target in TARGETS else CLASSES.measure
        return "-" if score is None else f"{share(score)} ({name})"

    return Column("main measure (%)", ("score", "target"), shown)


def settings_table(settings: Sequence[RunSettings]) -> Table:
    """How the stages of a run were trained."""
    columns = (
        Column("task", ("task",)),
        Column("stages", ("stages",), str),
        Column("backbone", ("backbone", "stem", "channels"), _backbone, words=True),
        Column("pixels", ("image_size",), general),
        Column("share of images (%)", ("share",), share),
        Column("epochs", ("epochs",), general),
        Column("batch size", ("batch_size",), general),
        Column("optimizer", ("optimizer",)),
        Column("learning rate", ("lr", "lr_searched"), _rate),
    )
    return Table("settings", "How its stages were trained", columns, [asdict(way) for way in settings])


def _backbone(name: str, stem: str, channels: int) -> str:
    return f"{name}, stem {stem}, {'grey' if channels == 1 else 'colour'}"


def _rate(lr: float | None, searched: bool) -> str:
    return general(lr) + (" (found)" if searched else "")


# ---- stages


def stage_table(stages: Sequence[StoredStage], num_left_out: int = 0) -> Table:
    """A row for each stage.

    Args:
        stages: newest first.
        num_left_out: so many older ones there are.
    """
    rows = [
        {
            "key": stage.key,
            "chain": arrow(stage.chain),
            "dataset": stage.dataset,
            "seed": stage.seed,
            "num_images": stage.num_images,
            "loss": stage.metrics.get("loss"),
            "validation": next((stage.metrics[name] for name in VALIDATIONS if name in stage.metrics), None),
            "hours": stage.hours,
            "images_per_second": stage.images_per_second,
            "device": stage.device,
            "precision": stage.precision,
            **{f"version_{name}": version for name, version in stage.versions.items()},
        }
        for stage in stages
    ]
    columns = [
        Column("stage", ("key",), lambda key: key[:8], words=True),
        Column("chain", ("chain",)),
        Column("data", ("dataset",)),
        Column("seed", ("seed",), count),
        Column("images", ("num_images",), count),
        Column("last loss", ("loss",), general),
        Column("validation (%)", ("validation",), share),
        Column("hours", ("hours",), hours),
        Column("images/s", ("images_per_second",), lambda value: "-" if value is None else f"{value:,.0f}"),
        Column("device, precision", ("device", "precision"), lambda *both: ", ".join(both), words=True),
    ]
    if not any(row["validation"] is not None for row in rows):
        columns = [column for column in columns if column.fields != ("validation",)]
    notes = (
        (f"{counted(num_left_out, 'older stage')} left out: sslcurr runs --stages lists all",) if num_left_out else ()
    )
    return Table("stages", "Stages, newest first", tuple(columns), same_columns(rows), notes)


# ---- data and machines


def dataset_table(datasets: Sequence[StoredDataset]) -> Table:
    """A row for each data set."""
    columns = (
        Column("data set", ("name",)),
        Column("images", ("num_images",), count),
        Column("classes", ("classes", "counts"), _classes, words=True),
        Column("groups", ("num_groups",), count),
        Column("channels", ("channels",), general),
        Column("sides of its packs", ("sizes",), lambda sizes: ", ".join(map(str, sizes)) or "-", words=True),
        Column("licence", ("licence",), _known, words=True),
        Column("from", ("page", "place"), lambda page, place: _known(page or place), words=True),
        Column("fingerprint", ("fingerprint",), lambda text: text[:12], words=True),
    )
    notes: tuple[str, ...] = ()
    if any(dataset.num_images is None for dataset in datasets):
        notes = ("The pack of a data set without a number of images is not in the store any more.",)
    rows = [{name: value if is_set(value) else None for name, value in asdict(each).items()} for each in datasets]
    return Table("datasets", "Data sets", columns, rows, notes)


def _known(text: str | None) -> str:
    return text or "not known"


def _classes(names: Sequence[str] | None, counts: Mapping[str, int] | None = None) -> str:
    if not names:
        return "-" if names is None else "no labels"
    texts = [name if counts is None else f"{name} {counts.get(name, 0):,}" for name in names[:MOST_CLASSES]]
    return f"{len(names)}: {', '.join(texts)}" + (" …" if len(names) > MOST_CLASSES else "")


def device_table(devices: Sequence[DeviceUse]) -> Table:
    """Hours by device."""
    columns = (
        Column("device", ("device",)),
        Column("stages", ("stages",), str),
        Column("hours", ("hours",), hours),
    )
    return Table("devices", "Hours of training by device", columns, [asdict(device) for device in devices])


def hours(value: float | None) -> str:
    """A time in hours, with digits enough for a short one."""
    return "-" if value is None else f"{value:,.1f}" if value >= 10 else f"{value:.2g}"
