"""Tables of the grid of shares of images and labels."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import by_seed, failures, same_columns, summary_of
from sslcurr.analysis.results.table import INTERVAL, Column, Document, Row, Table, between, general, points, spread
from sslcurr.wording import arrow, counted


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    shares: list[float | None] = [*([None] if document["baseline"] else []), *document["ssl_fractions"]]
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    rows, columns = [], [Column("labels", ("label_fraction",), general)]
    for part in shares:
        name = document["baseline"] if part is None else f"images {part:.4g}"
        ends = tuple(f"{name} {end}" for end in ("mean", "std", "low", "high", "asked"))
        columns.append(Column(f"{name} (%)", ends, _grid_cell))
    for label in document["label_fractions"]:
        row: Row = {"label_fraction": label}
        for part, column in zip(shares, columns[1:], strict=True):
            cell = cells.get((label, part))
            found = {"mean": None, "std": None, "interval": None} if cell is None else cell
            values = (found["mean"], found["std"], *(found["interval"] or (None, None)), cell is not None)
            row |= dict(zip(column.fields, values, strict=True))
        rows.append(row)
    records = [
        {"label_fraction": cell["label_fraction"], "ssl_fraction": cell["ssl_fraction"], **summary_of(cell)}
        | by_seed(cell)
        for cell in document["cells"]
    ]
    notes = []
    for name, what in (("labels", "half the labels"), ("images", "half the images of pretraining")):
        entry = document["halving"].get(name)
        if entry is not None:
            notes.append(f"{what}: {points(entry['mean'], *(entry['interval'] or (None, None)))} points")
    yield Table(
        "grid",
        f"{arrow(document['tasks'])} -> classification on {document['dataset']}, "
        f"{counted(len(document['seeds']), 'seed')}: balanced accuracy on the {document['split']} images by share of "
        f"labels (down) and of images of pretraining (across), with {INTERVAL}s",
        tuple(columns),
        rows,
        (*notes, *failures(document)),
        records=same_columns(records),
    )


def _grid_cell(mean: float | None, std: float | None, low: float | None, high: float | None, asked: bool | None) -> str:
    if not asked:
        return ""
    return spread(mean, std) + ("" if low is None else f" ({between(low, high)})")
