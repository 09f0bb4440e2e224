"""Tables of the grid of shares of images and labels."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import alone, by_seed, failures, one_seed, same_columns, summary_of, too_good
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    between,
    ends_of,
    measure_of,
    points,
    spread,
    target_of,
)
from sslcurr.analysis.results.grid.document import Cell, GridDocument
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.table import Column, Row, Table, general
from sslcurr.wording import arrow, counted


def tables(document: GridDocument, title: str) -> Iterator[Table]:
    """Shares of the labels down, of the images of pretraining across."""
    shares: list[float | None] = [*([None] if document.baseline else []), *document.ssl_fractions]
    cells = {(cell.label_fraction, cell.ssl_fraction): cell for cell in document.cells}
    rows, columns = [], [Column("labels", ("label_fraction",), general)]
    for part in shares:
        name = document.baseline if part is None else f"images {part:.4g}"
        ends = tuple(f"{name} {end}" for end in ("mean", "std", "low", "high", "asked"))
        columns.append(Column(f"{name} (%)", ends, _cell))
    for label in document.label_fractions:
        row: Row = {"label_fraction": label}
        for part, column in zip(shares, columns[1:], strict=True):
            cell = cells.get((label, part))
            values = (None, None, None, None, False)
            if cell is not None:
                values = (cell.mean, cell.std, *(cell.interval or (None, None)), True)
            row |= dict(zip(column.fields, values, strict=True))
        rows.append(row)
    records = [
        {"label_fraction": cell.label_fraction, "ssl_fraction": cell.ssl_fraction, **summary_of(cell)}
        | _gain_of(cell)
        | by_seed(cell)
        for cell in document.cells
    ]
    halving = {"half the labels": document.halving.labels, "half the images of pretraining": document.halving.images}
    notes = [
        f"{what}: {points(cost.mean, *(cost.interval or (None, None)))} points"
        for what, cost in halving.items()
        if cost is not None
    ]
    yield Table(
        "grid",
        f"{arrow([*document.tasks, target_of(document.target).task])} on {document.dataset}, "
        f"{counted(len(document.seeds), 'seed')}: {measure_of(document.target)} on the {document.split} images by "
        f"share of labels (down) and of images of pretraining (across), with {INTERVAL}s",
        tuple(columns),
        rows,
        (
            *_gains(document),
            *notes,
            *_about_seeds(document),
            *too_good(document.split),
            *overlap_lines(document.overlap, document.dataset),
            *failures(document.failed),
        ),
        records=same_columns(records),
    )


def _gain_of(cell: Cell) -> Row:
    if not isinstance(cell.gain, Difference):
        return {}
    return {"gain": cell.gain.mean, **ends_of(cell.gain.interval, "gain_")}


def _gains(document: GridDocument) -> list[str]:
    """What pretraining adds to each cell that has a baseline with the same labels."""
    return [
        f"gain over {document.baseline}, labels {cell.label_fraction:.4g}, images {cell.ssl_fraction:.4g}: "
        f"{points(cell.gain.mean, *(cell.gain.interval or (None, None)))} points"
        for cell in document.cells
        if isinstance(cell.gain, Difference) and cell.gain.mean is not None
    ]


def _about_seeds(document: GridDocument) -> list[str]:
    if len(document.seeds) > 1:
        return alone([cell.gain for cell in document.cells], document.split)
    return [one_seed(document.split)]


def _cell(mean: float | None, std: float | None, low: float | None, high: float | None, asked: bool | None) -> str:
    if not asked:
        return ""
    return spread(mean, std) + ("" if low is None else f" ({between(low, high)})")
