"""Tables of probes of frozen features."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import places_of_highest
from sslcurr.analysis.results.estimate import INTERVAL, between, ends_of, measured, share
from sslcurr.analysis.results.table import Column, Document, Row, Table, count


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    rows: list[Row] = []
    breaks = set()
    for model in document["models"]:
        breaks.add(len(rows))
        for layer, found in model["layers"].items():
            row: Row = {"model": model["model"], "layer": layer, "num_features": found["num_features"]}
            for name, setting in (("knn", "neighbours"), ("linear", "C")):
                probe = found[name] or {"validation": None, "balanced_accuracy": None, "interval": None}
                row |= {f"{name}_validation": probe["validation"], name: probe["balanced_accuracy"]}
                row |= {**ends_of(probe["interval"], f"{name}_"), f"{name}_{setting}": probe.get(setting)}
            rows.append({**row, **{name: found[name] for name in ("rankme", "logme", "h_score")}})
    split = document["models"][0]["split"]
    columns = [
        Column("model", ("model",)),
        Column("layer", ("layer",)),
        Column("features", ("num_features",), count),
        Column("kNN val (%)", ("knn_validation",), share),
        Column(f"kNN {split} (%)", ("knn",), share),
        Column(INTERVAL, ("knn_low", "knn_high"), between),
        Column("linear val (%)", ("linear_validation",), share),
        Column(f"linear {split} (%)", ("linear",), share),
        Column(INTERVAL, ("linear_low", "linear_high"), between),
        Column("RankMe", ("rankme",), measured),
        Column("LogME", ("logme",), measured),
        Column("H-score", ("h_score",), measured),
    ]
    # Without labels there is RankMe alone.
    columns = [c for c in columns if c.title == "layer" or any(c.value(row) is not None for row in rows)]
    judged = [c for c in columns if c.fields[0] not in ("model", "layer", "num_features") and c.title != INTERVAL]
    best = frozenset((i, columns.index(c)) for c in judged for i in places_of_highest(rows, c.fields[0]))
    part = document.get("label_fraction", 1.0)
    notes = ["Higher is better for all; the best of each column is marked."]
    if any(c.fields[0] in ("knn", "linear") for c in columns):
        notes.append(f"Which is best among many on the {split} images is chosen by these images, so it is too good.")
    yield Table(
        "probe",
        f"Frozen features on {document['dataset']}"
        + (f", {share(part)} % of the training images" if part != 1 else "")
        + "; balanced accuracy of the probes",
        tuple(columns),
        rows,
        tuple(notes),
        best_cells=best,
        breaks=frozenset(breaks - {0}),
    )
