"""Tables of trained chains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sslcurr.analysis.results.columns import BETWEEN, attention_columns, attention_of, places_of_highest, same_columns
from sslcurr.analysis.results.estimate import INTERVAL, ends_of, measured, plus_minus, share
from sslcurr.analysis.results.similarity.tables import MOST_CELLS
from sslcurr.analysis.results.table import Column, Document, Row, Table, count, general
from sslcurr.wording import arrow, counted


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    reports = {
        name: document[key]
        for key, name in (("downstream", title or "this chain"), ("baseline", "scratch"))
        if key in document
    }
    if not reports:
        yield _trained(document, "train")
        return
    rows: list[Row] = [
        {
            "model": name,
            "split": report["split"],
            "num_images": report["num_images"],
            "balanced_accuracy": report["balanced_accuracy"],
            **ends_of(report["interval"]),
            "accuracy": report["accuracy"],
            "auroc": report["auroc"],
            "layer": report.get("layer"),
            **attention_of(report),
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
    shown: tuple[str, ...] = ()
    if any("attention" in row for row in rows):
        shown = ("attention: share of the maps inside the masks; without preference: share that the masks cover.",)
    yield Table(
        "train",
        f"{title or 'This chain'} on {counted(first['num_images'], first['split'] + ' image')}",
        tuple(columns),
        same_columns(rows),
        (f"{INTERVAL}s are over {first['split']} images, of one training each.", *shown),
        best=places_of_highest(rows, "balanced_accuracy") if len(rows) > 1 else frozenset(),
    )
    names = list(reports)
    classes = [
        {
            "class": name,
            **{f"recall {place}": reports[model]["per_class_recall"].get(name) for place, model in enumerate(names)},
        }
        for name in first["classes"]
    ]
    columns = [Column("class", ("class",))]
    columns += [Column(f"recall of {name} (%)", (f"recall {place}",), share) for place, name in enumerate(names)]
    yield Table("classes", "Recall by class", tuple(columns), classes)
    for name, report in reports.items():
        if len(report["classes"]) <= MOST_CELLS:
            columns = [Column("true class", ("true",))]
            columns += [Column(f"as {given}", (str(place),), count) for place, given in enumerate(report["classes"])]
            lines = [
                {"true": true, **{str(place): number for place, number in enumerate(line)}}
                for true, line in zip(report["classes"], report["confusion_matrix"], strict=True)
            ]
            yield Table("confusion", f"Confusion matrix of {name}: images", tuple(columns), lines)
    if document.get("stages"):
        yield _trained(document, "trained")


def _trained(document: Document, name: str) -> Table:
    rows = same_columns(
        [
            {"task": stage["task"], "key": stage["key"], "seconds": stage["seconds"], **stage["metrics"]}
            for stage in document["stages"]
        ]
    )
    measures = [key for key in (rows[0] if rows else {}) if key not in ("task", "key", "seconds")]
    columns = [Column("task", ("task",)), Column("stage", ("key",)), Column("seconds", ("seconds",), plus_minus(1))]
    columns += [Column(key, (key,), general) for key in measures]
    return Table(name, "Stages, with what was measured at their ends", tuple(columns), rows)


def stage_table(stages: Sequence[Mapping[str, Any]], num_left_out: int = 0) -> Table:
    """The table of trained stages.

    Args:
        stages: as `report.gather` describes them.
        num_left_out: so many more there are.
    """
    rows = [
        {
            "key": stage["key"],
            "chain": arrow(stage["chain"]),
            "dataset": stage["dataset"],
            "seed": stage["seed"],
            "num_images": stage["num_images"],
            "loss": stage["metrics"].get("loss"),
            "validation": stage["metrics"].get("val_balanced_accuracy"),
            "hours": stage["hours"],
            "images_per_second": stage["images_per_second"],
            "device": stage["device"],
            "precision": stage["precision"],
            **{f"version_{name}": version for name, version in stage["versions"].items()},
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
        Column("hours", ("hours",), lambda value: f"{value:.2g}" if value < 10 else f"{value:,.1f}"),
        Column("images/s", ("images_per_second",), lambda value: "-" if value is None else f"{value:,.0f}"),
        Column("device, precision", ("device", "precision"), lambda *both: ", ".join(both), words=True),
    ]
    if not any(row["validation"] is not None for row in rows):
        columns = [column for column in columns if column.fields != ("validation",)]
    notes = (
        (f"{counted(num_left_out, 'older stage')} left out: sslcurr runs --stages lists all",) if num_left_out else ()
    )
    return Table("stages", "Stages, newest first", tuple(columns), same_columns(rows), notes)
