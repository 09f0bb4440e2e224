"""Charts of the grid of shares of images and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import heat
from sslcurr.analysis.results.estimate import measure_of
from sslcurr.analysis.results.grid.document import Cell, GridDocument
from sslcurr.analysis.results.ranking.labels import joined_tasks
from sslcurr.analysis.results.style import PAPER, TEXT, TINY, WIDEST, Chart, percent
from sslcurr.wording import counted


def charts(document: GridDocument) -> Iterator[Chart]:
    """A heat map: shares of the labels down, of the images of pretraining across."""
    shares: list[float | None] = [*([None] if document.baseline else []), *document.ssl_fractions]
    labels = document.label_fractions
    by_shares = {(cell.label_fraction, cell.ssl_fraction): cell for cell in document.cells}
    cells = [[by_shares.get((label, share)) for share in shares] for label in labels]
    values = np.array([[math.nan if cell is None else percent(cell.mean) for cell in line] for line in cells])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    narrow = len(shares) > 5  # too narrow for a mean and its standard deviation in one line
    spread = " ± standard deviation" if any(cell.std is not None for cell in document.cells) else ""
    low, high = float(finite.min()), float(finite.max())

    def paint(axes: Any) -> Sequence[Any]:
        heat(
            axes,
            values,
            [f"{100 * label:.4g}" for label in labels],
            [str(document.baseline) if share is None else f"{100 * share:.4g}" for share in shares],
            across="images of pretraining, %",
            down="labels, %",
            low=low,
            high=high if high > low else low + 1,
            what=f"{measure_of(document.target)}{spread} on {document.split} images, %",
            texts=[[_text(cell, "\n" if narrow else " ") for cell in line] for line in cells],
            text_size=TEXT if len(shares) <= 8 else TINY,
        )
        if document.baseline and len(shares) > 1:
            axes.axvline(0.5, color=PAPER, linewidth=4)  # no pretraining: beside the scale of the others
        return ()

    about = f"{joined_tasks(document.tasks)}, {document.dataset}, {counted(len(document.seeds), 'seed')}"
    height = 1.3 + (0.45 if narrow else 0.36) * len(labels)
    yield Chart(
        "grid",
        f"Shares of the images and of the labels: {about}",
        max(4.6, min(WIDEST, 2.1 + 1.05 * len(shares))),
        max(2.4, height),
        paint,
    )


def _text(cell: Cell | None, between: str) -> str:
    if cell is None:
        return ""
    if cell.mean is None:
        return "failed"
    mean = f"{100 * cell.mean:.1f}"
    return mean if cell.std is None else f"{mean}{between}± {100 * cell.std:.1f}"
