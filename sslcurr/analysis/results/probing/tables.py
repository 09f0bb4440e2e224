"""Tables of probes of frozen features."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import places_of_highest, too_good
from sslcurr.analysis.results.estimate import INTERVAL, between, ends_of, measure_of, measured, share
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.probing.document import LayerScores, Probe, ProbeDocument
from sslcurr.analysis.results.table import Column, Row, Table, count


def tables(document: ProbeDocument, title: str) -> Iterator[Table]:
    """A row for each model and layer; the best of each column is marked."""
    rows: list[Row] = []
    breaks = set()
    for model in document.models:
        breaks.add(len(rows))
        rows += [{"model": model.model, "layer": layer, **_scores(scores)} for layer, scores in model.layers.items()]
    split = document.models[0].split
    # Without labels there is RankMe alone.
    columns = [c for c in _columns(split) if c.title == "layer" or any(c.value(row) is not None for row in rows)]
    judged = [c for c in columns if c.fields[0] not in ("model", "layer", "num_features") and c.title != INTERVAL]
    best = frozenset((i, columns.index(c)) for c in judged for i in places_of_highest(rows, c.fields[0]))
    notes = ["Higher is better for all; the best of each column is marked."]
    if any(c.fields[0] in ("knn", "linear") for c in columns):
        notes.append(f"Which is best among many on the {split} images is chosen by these images, so it is too good.")
        notes += too_good(split)
    notes += overlap_lines(document.overlap, document.dataset)
    part = document.label_fraction
    yield Table(
        "probe",
        f"Frozen features on {document.dataset}"
        + (f", {share(part)} % of the training images" if part != 1 else "")
        + f"; {measure_of(document.target)} of the probes",
        tuple(columns),
        rows,
        tuple(notes),
        best_cells=best,
        breaks=frozenset(breaks - {0}),
    )


def _columns(split: str) -> list[Column]:
    return [
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


def _scores(scores: LayerScores) -> Row:
    return {
        "num_features": scores.num_features,
        **_probe("knn", scores.knn),
        "knn_neighbours": None if scores.knn is None else scores.knn.neighbours,
        **_probe("linear", scores.linear),
        "linear_C": None if scores.linear is None else scores.linear.C,
        "rankme": scores.rankme,
        "logme": scores.logme,
        "h_score": scores.h_score,
    }


def _probe(name: str, probe: Probe | None) -> Row:
    if probe is None:
        return {f"{name}_validation": None, name: None, **ends_of(None, f"{name}_")}
    return {
        f"{name}_validation": probe.validation,
        name: probe.value,
        **ends_of(probe.interval, f"{name}_"),
    }
