"""Tables of distances between data sets."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.columns import same_columns
from sslcurr.analysis.results.distances.document import (
    Correlation,
    Distance,
    Distances,
    DistancesDocument,
    ModelDistances,
    NormalisedDistances,
)
from sslcurr.analysis.results.estimate import share, with_error
from sslcurr.analysis.results.table import Column, Row, Table
from sslcurr.wording import counted


def tables(document: DistancesDocument, title: str) -> Iterator[Table]:
    """A row for each model and data set, the halves of the reference first."""
    rows: list[Row] = []
    breaks = set()
    for model in document.models:
        breaks.add(len(rows))
        rows.append(_row(document, model, f"halves of {document.reference}", model.halves))
        rows += [_row(document, model, entry.dataset, entry) for entry in model.datasets]
    filled = same_columns(rows)
    columns = [
        Column("model", ("model",)),
        Column("data set", ("dataset",)),
        Column("FID", ("fid", "fid_sd"), with_error()),
        Column("FID / halves", ("normalised", "normalised_sd"), with_error()),
        Column("1000 KID", ("kid", "kid_sd"), with_error(1e3)),
    ]
    if filled and "extrapolated" in filled[0]:
        columns.append(Column("FID, endless", ("extrapolated", "extrapolated_sd"), with_error()))
    columns += [Column(f"{_accuracy(where)} (%)", (_accuracy(where),), share) for where in document.accuracies]
    sizes = " or ".join(dict.fromkeys(str(model.image_size) for model in document.models))
    draws = f"± is the standard deviation over {counted(document.draws, 'draw')} of images."
    yield Table(
        "fid",
        f"Distances to {document.reference} ({document.split}), {document.num_images:,} images of each side, "
        f"at {sizes} pixels",
        tuple(columns),
        filled,
        (draws, *map(_sentence, document.correlations)),
        breaks=frozenset(breaks - {0}),
    )


def csv_tables(document: DistancesDocument) -> Iterator[Table]:
    """What `--plot` writes as CSV."""
    yield from tables(document, "")


def _row(document: DistancesDocument, model: ModelDistances, dataset: str, distances: Distances) -> Row:
    row: Row = {"model": model.model, "layer": model.layer, "dataset": dataset}
    each: dict[str, Distance | UnsetType | None] = {"fid": distances.fid, "kid": distances.kid}
    if isinstance(distances, NormalisedDistances):
        each = {"fid": distances.fid, "normalised": distances.normalised, "kid": distances.kid}
    for name, distance in {**each, "extrapolated": distances.extrapolated}.items():
        if distance is not None and distance is not UNSET:
            row |= {name: distance.mean, f"{name}_sd": distance.sd}
    for where, accuracies in document.accuracies.items():
        row[_accuracy(where)] = accuracies.get(model.model)
    return row


def _accuracy(where: str) -> str:
    return f"accuracy on {where}" if where else "accuracy"


def _sentence(correlation: Correlation) -> str:
    where = f" on {correlation.accuracy_on}" if correlation.accuracy_on else ""
    return (
        f"{correlation.dataset}: distance against accuracy{where}, {correlation.num_models} models: "
        f"Spearman {correlation.spearman:+.2f} (p = {correlation.spearman_p:.2f}), "
        f"Kendall {correlation.kendall:+.2f} (p = {correlation.kendall_p:.2f})"
    )
