"""Tables of trained chains."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.columns import BETWEEN, attention_columns, places_of_highest, same_columns, too_good
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    ReportAttention,
    ends_of,
    measured,
    plus_minus,
    points,
    share,
)
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.table import Column, Row, Table, count, general
from sslcurr.analysis.results.training.document import ClassificationReport, TrainDocument
from sslcurr.wording import counted

# Confusion matrices of more classes are drawn, not printed.
MOST_CLASSES = 14


def tables(document: TrainDocument, title: str) -> Iterator[Table]:
    """Test reports beside each other, recalls, confusion matrices and stages."""
    title = title or document.title
    reports = document.reports(title)
    if not reports:
        yield _stages(document, "train")
        return
    yield _summary(document, reports, title)
    yield _recalls(reports)
    for name, report in reports.items():
        if len(report.classes) <= MOST_CLASSES:
            yield _confusion(name, report)
    if document.stages or document.baseline_stages:
        yield _stages(document, "trained")


def closing_lines(document: TrainDocument) -> list[str]:
    """Where the predictions are, or the checkpoint of a chain that was only pretrained."""
    reports = document.reports()
    if not reports:
        return [f"checkpoint: {document.stages[-1].checkpoint}"] if document.stages else []
    return [f"predictions of {name}: {report.predictions}" for name, report in reports.items()]


def _summary(document: TrainDocument, reports: dict[str, ClassificationReport], title: str) -> Table:
    rows: list[Row] = [
        {
            "model": name,
            "split": report.split,
            "num_images": report.num_images,
            "balanced_accuracy": report.balanced_accuracy,
            **ends_of(report.interval),
            "accuracy": report.accuracy,
            "auroc": report.auroc,
            "layer": None if isinstance(report.layer, UnsetType) else report.layer,
            **_attention(report.attention),
        }
        for name, report in reports.items()
    ]
    first = next(iter(reports.values()))
    columns = [
        Column("model", ("model",)),
        Column("balanced accuracy (%)", ("balanced_accuracy",), share),
        BETWEEN,
        Column("accuracy (%)", ("accuracy",), share),
        Column("AUROC", ("auroc",), measured),
        *([Column("layer", ("layer",))] if any(row["layer"] for row in rows) else []),
        *attention_columns(rows),
    ]
    notes = [f"{INTERVAL}s are over {first.split} images, and hold for these models: another seed gives others."]
    gain = document.gain
    if isinstance(gain, Difference):
        notes.append(
            f"difference: {points(gain.mean, *(gain.interval or (None, None)))} points, paired by image. One seed "
            "tells nothing apart; sslcurr rank --seeds 3 may."
        )
    notes += too_good(first.split)
    if any("attention" in row for row in rows):
        notes.append("attention: share of the maps inside the masks; without preference: share that the masks cover.")
    notes += overlap_lines(document.overlap, document.dataset)
    return Table(
        "train",
        f"{title or 'This chain'} on {counted(first.num_images, first.split + ' image')}",
        tuple(columns),
        same_columns(rows),
        tuple(notes),
        best=places_of_highest(rows, "balanced_accuracy") if len(rows) > 1 else frozenset(),
    )


def _attention(attention: ReportAttention | UnsetType) -> Row:
    if isinstance(attention, UnsetType):
        return {}
    return {
        "attention": attention.mean,
        "attention_std": None,
        **ends_of(attention.interval, "attention_"),
        "attention_coverage": attention.coverage,
    }


def _recalls(reports: dict[str, ClassificationReport]) -> Table:
    first = next(iter(reports.values()))
    rows = [
        {
            "class": name,
            **{f"recall {place}": report.per_class_recall.get(name) for place, report in enumerate(reports.values())},
        }
        for name in first.classes
    ]
    columns = [Column("class", ("class",))]
    columns += [Column(f"recall of {name} (%)", (f"recall {place}",), share) for place, name in enumerate(reports)]
    return Table("classes", "Recall by class", tuple(columns), rows)


def _confusion(name: str, report: ClassificationReport) -> Table:
    columns = [Column("true class", ("true",))]
    columns += [Column(f"as {predicted}", (str(place),), count) for place, predicted in enumerate(report.classes)]
    rows = [
        {"true": true, **{str(place): number for place, number in enumerate(line)}}
        for true, line in zip(report.classes, report.confusion_matrix, strict=True)
    ]
    return Table("confusion", f"Confusion matrix of {name}: images", tuple(columns), rows, detail=True)


def _stages(document: TrainDocument, name: str) -> Table:
    stages = [*document.stages, *document.baseline_stages]
    rows = same_columns(
        [
            {
                "task": stage.task,
                "key": stage.key,
                "state": "reused" if stage.reused else "trained",
                **({} if stage.images_per_second is None else {"images_per_second": stage.images_per_second}),
                "seconds": stage.seconds,
                **stage.metrics,
            }
            for stage in stages
        ]
    )
    speed = Column("images/s", ("images_per_second",), per_second)
    columns = [
        Column("task", ("task",)),
        Column("stage", ("key",)),
        Column("", ("state",)),
        *([speed] if any("images_per_second" in row for row in rows) else []),
        Column("seconds", ("seconds",), plus_minus(1)),
    ]
    columns += [
        Column(key.replace("_", " "), (key,), general)
        for key in dict.fromkeys(name for stage in stages for name in stage.metrics)
    ]
    breaks = frozenset({len(document.stages)} if document.baseline_stages else ())
    return Table(name, "Stages, with what was measured at their ends", tuple(columns), rows, breaks=breaks)


def per_second(value: float | None) -> str:
    """A speed in images a second."""
    return "-" if value is None else f"{value:,.0f}"
