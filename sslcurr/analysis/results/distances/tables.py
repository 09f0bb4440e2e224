"""Tables of distances between data sets."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import same_columns
from sslcurr.analysis.results.estimate import plus_minus, share
from sslcurr.analysis.results.table import Column, Document, Row, Table
from sslcurr.wording import counted


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    rows: list[Row] = []
    breaks = set()
    for model in document["models"]:
        breaks.add(len(rows))
        halves = {"dataset": f"halves of {document['reference']}", **model["halves"]}
        for entry in (halves, *model["datasets"]):
            row: Row = {"model": model["model"], "layer": model["layer"], "dataset": entry["dataset"]}
            for name in ("fid", "normalised", "kid", "extrapolated"):
                figure = entry.get(name)
                if figure is not None:
                    row |= {name: figure["mean"], f"{name}_sd": figure["sd"]}
            for where, known in document["accuracies"].items():
                row[f"accuracy on {where}" if where else "accuracy"] = known.get(model["model"])
            rows.append(row)
    filled = same_columns(rows)
    columns = [
        Column("model", ("model",)),
        Column("data set", ("dataset",)),
        Column("FID", ("fid", "fid_sd"), plus_minus(3)),
        Column("FID / halves", ("normalised", "normalised_sd"), plus_minus(2)),
        Column("1000 KID", ("kid", "kid_sd"), plus_minus(2, 1e3)),
    ]
    if filled and "extrapolated" in filled[0]:
        columns.append(Column("FID, endless", ("extrapolated", "extrapolated_sd"), plus_minus(3)))
    for where in document["accuracies"]:
        name = f"accuracy on {where}" if where else "accuracy"
        columns.append(Column(f"{name} (%)", (name,), share))
    notes = [f"± is the standard deviation over {counted(document['draws'], 'draw')} of images."]
    for found in document["correlations"]:
        where = f" on {found['accuracy_on']}" if found["accuracy_on"] else ""
        notes.append(
            f"{found['dataset']}: distance against accuracy{where}, {found['num_models']} models: "
            f"Spearman {found['spearman']:+.2f} (p = {found['spearman_p']:.2f}), "
            f"Kendall {found['kendall']:+.2f} (p = {found['kendall_p']:.2f})"
        )
    yield Table(
        "fid",
        f"Distances to {document['reference']} ({document['split']}), {document['num_images']:,} images of each side",
        tuple(columns),
        filled,
        tuple(notes),
        breaks=frozenset(breaks - {0}),
    )
