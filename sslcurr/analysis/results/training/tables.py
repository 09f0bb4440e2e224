"""Tables of trained chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UnsetType

from sslcurr.analysis.results.columns import BETWEEN, attention_columns, same_columns, too_good
from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    ReportAttention,
    between,
    correlated,
    ends_of,
    in_units,
    measured,
    plus_minus,
    points,
    share,
)
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.table import Column, Row, Table, count, general
from sslcurr.analysis.results.training.document import Calibration, TargetReport, TrainDocument
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION
from sslcurr.wording import counted, speed

# Confusion matrices of more classes are drawn, not printed.
MOST_CLASSES = 14
UNMEASURED = "A label that all images have, or none, cannot be measured, and counts in no mean."
# What stands beside the main measure.
MORE = {
    CLASSES: (Column("accuracy (%)", ("accuracy",), share), Column("AUROC", ("auroc",), measured)),
    MULTILABEL: (
        Column("average precision (%)", ("average_precision",), share),
        Column(INTERVAL, ("average_precision_low", "average_precision_high"), between),
    ),
    REGRESSION: (
        Column("mean absolute error", ("mae", "mae_low", "mae_high"), in_units),
        Column("Spearman", ("spearman", "spearman_low", "spearman_high"), correlated),
    ),
}


def tables(document: TrainDocument, title: str) -> Iterator[Table]:
    """Test reports beside each other, recalls, confusion matrices and stages."""
    title = title or document.title
    reports = document.reports(title)
    if not reports:
        yield _stages(document, "train")
        return
    notes = []
    gain = document.gain
    if isinstance(gain, Difference):
        notes.append(
            f"difference: {points(gain.mean, *(gain.interval or (None, None)))} points, paired by image. One seed "
            "tells nothing apart; sslcurr rank --seeds 3 may."
        )
    yield from report_tables(reports, title or "This chain", notes, overlap_lines(document.overlap, document.dataset))
    if document.stages or document.baseline_stages:
        yield _stages(document, "trained")


def closing_lines(document: TrainDocument) -> list[str]:
    """Where the predictions are, or the checkpoint of a chain that was only pretrained."""
    reports = document.reports()
    if not reports:
        return [f"checkpoint: {document.stages[-1].checkpoint}"] if document.stages else []
    return [f"predictions of {name}: {report.predictions}" for name, report in reports.items()]


def report_tables(
    reports: dict[str, TargetReport], title: str, notes: Sequence[str] = (), closing: Sequence[str] = ()
) -> Iterator[Table]:
    """Reports of one kind of target beside each other, and what they say of each class or label.

    Args:
        reports: by the name of the model.
        title: what was tested.
        notes, closing: sentences for the first table: after what intervals mean, and at its end.
    """
    yield _summary(reports, title, notes, closing)
    kind = next(iter(reports.values())).kind
    if kind is CLASSES:
        yield _recalls(reports)
        yield from (table for name, report in reports.items() for table in _confusion(name, report))
    elif kind is MULTILABEL:
        yield _labels(reports)


def _summary(reports: dict[str, TargetReport], title: str, more: Sequence[str], closing: Sequence[str]) -> Table:
    rows: list[Row] = [
        {
            "model": name,
            "split": report.split,
            "num_images": report.num_images,
            **_measures_of(report),
            "layer": None if isinstance(report.layer, UnsetType) else report.layer,
            **_attention(report.attention),
        }
        for name, report in reports.items()
    ]
    first = next(iter(reports.values()))
    columns = [
        Column("model", ("model",)),
        Column(f"{first.kind.measure} (%)", (first.kind.metric,), share),
        BETWEEN,
        *MORE[first.kind],
        *([Column("layer", ("layer",))] if any(row["layer"] for row in rows) else []),
        *attention_columns(rows),
    ]
    notes = [f"{INTERVAL}s are over {first.split} images, and hold for these models: another seed gives others."]
    notes += more
    notes += too_good(first.split)
    notes += [_folds(name, report) for name, report in reports.items() if is_set(report.folds)]
    notes += [_calibrated(name, report.calibration) for name, report in reports.items() if is_set(report.calibration)]
    if any("attention" in row for row in rows):
        notes.append("attention: share of the maps inside the masks; without preference: share that the masks cover.")
    notes += closing
    return Table(
        "train",
        f"{title} on {counted(first.num_images, first.split + ' image')}",
        tuple(columns),
        same_columns(rows),
        tuple(notes),
    )


def _measures_of(report: TargetReport) -> Row:
    """The measures of a report, by its kind of target, as values of a row."""
    if report.kind is CLASSES:
        names: tuple[str, ...] = ("balanced_accuracy", "accuracy", "auroc")
    elif report.kind is MULTILABEL:
        names = ("auroc", "average_precision")
    else:
        names = ("r2", "mae", "spearman")
    row: Row = {}
    for name in names:
        value = getattr(report, name)
        row[name] = None if isinstance(value, UnsetType) else value
        if name == report.kind.metric:
            row |= ends_of(report.interval)
        elif hasattr(report, f"{name}_interval"):
            row |= ends_of(getattr(report, f"{name}_interval"), f"{name}_")
    return row


def _folds(name: str, report: TargetReport) -> str:
    """The folds of a cross-validation, each by itself."""
    folds = report.folds if is_set(report.folds) else []
    scores = ", ".join(share(each.score) for each in folds)
    return f"folds of {name}: {scores} %; the 95 % interval counts how much they differ"


def _calibrated(name: str, calibration: Calibration | UnsetType) -> str:
    """How far the probabilities of a model are from the truth."""
    assert not isinstance(calibration, UnsetType)
    text = f"calibration of {name}: expected error {share(calibration.error)} points"
    if calibration.temperature is None:
        return text
    calibrated = f"{share(calibration.calibrated_error)} at temperature {calibration.temperature:.2f}"
    return f"{text}, {calibrated} (predict --calibrated)"


def _attention(attention: ReportAttention | UnsetType) -> Row:
    if isinstance(attention, UnsetType):
        return {}
    return {
        "attention": attention.mean,
        "attention_std": None,
        **ends_of(attention.interval, "attention_"),
        "attention_coverage": attention.coverage,
    }


def _recalls(reports: dict[str, TargetReport]) -> Table:
    recalls = [report.per_class_recall for report in reports.values()]
    rows = [
        {
            "class": name,
            **{f"recall {place}": each.get(name) for place, each in enumerate(recalls) if is_set(each)},
        }
        for name in _classes_of(next(iter(reports.values())))
    ]
    columns = [Column("class", ("class",))]
    columns += [Column(f"recall of {name} (%)", (f"recall {place}",), share) for place, name in enumerate(reports)]
    return Table("classes", "Recall by class", tuple(columns), rows)


def _classes_of(report: TargetReport) -> list[str]:
    return report.classes if is_set(report.classes) else []


def _confusion(name: str, report: TargetReport) -> Iterator[Table]:
    """The confusion matrix of a report, where it is not too large."""
    classes, matrix = _classes_of(report), report.confusion_matrix
    if not is_set(matrix) or len(classes) > MOST_CLASSES:
        return
    columns = [Column("true class", ("true",))]
    columns += [Column(f"as {predicted}", (str(place),), count) for place, predicted in enumerate(classes)]
    rows = [
        {"true": true, **{str(place): number for place, number in enumerate(line)}}
        for true, line in zip(classes, matrix, strict=True)
    ]
    yield Table("confusion", f"Confusion matrix of {name}: images", tuple(columns), rows, detail=True)


def _labels(reports: dict[str, TargetReport]) -> Table:
    """How well each of several labels is told."""
    rows: list[Row] = []
    for name in _classes_of(next(iter(reports.values()))):
        row: Row = {"label": name}
        for place, report in enumerate(reports.values()):
            label = report.labels[name] if is_set(report.labels) else None
            if label is not None:
                row |= {"num_holding": label.num_holding, "num_known": label.num_known}
                row |= {f"auroc_{place}": label.auroc, **ends_of(label.auroc_interval, f"auroc_{place}_")}
                row |= {f"precision_{place}": label.average_precision}
        rows.append(row)
    columns = [Column("label", ("label",)), Column("images with it", ("num_holding", "num_known"), _of)]
    several = len(reports) > 1
    for place, name in enumerate(reports):
        of = f" of {name}" if several else ""
        fields = (f"auroc_{place}", f"auroc_{place}_low", f"auroc_{place}_high")
        columns.append(Column(f"AUROC{of}", fields, measured))
        columns.append(Column(f"average precision{of} (%)", (f"precision_{place}",), share))
    notes = [] if all(row.get("auroc_0") is not None for row in rows) else [UNMEASURED]
    return Table("labels", f"Labels, with {INTERVAL}s", tuple(columns), same_columns(rows), tuple(notes))


def _of(number: int | None, every: int | None) -> str:
    return f"{count(number)} of {count(every)}"


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
    images = Column("images/s", ("images_per_second",), per_second)
    columns = [
        Column("task", ("task",)),
        Column("stage", ("key",)),
        Column("", ("state",)),
        *([images] if any("images_per_second" in row for row in rows) else []),
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
    return "-" if value is None else speed(value)
