"""Charts of the grid of shares of images and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import heat
from sslcurr.analysis.results.style import WIDEST, Figure, Formats, chart, entitle, percent
from sslcurr.wording import counted


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    shares = [*([None] if document["baseline"] else []), *document["ssl_fractions"]]
    labels = document["label_fractions"]
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    table = [[cells.get((label, share)) for share in shares] for label in labels]
    values = np.array([[math.nan if cell is None else percent(cell["mean"]) for cell in line] for line in table])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return []
    narrow = len(shares) > 5  # too narrow for a mean and its spread in one line
    low, high = float(finite.min()), float(finite.max())
    seeds = counted(len(document["seeds"]), "seed")
    title = f"{' → '.join(document['tasks'])} → classification: {document['dataset']}, {seeds}"
    height = 1.3 + (0.45 if narrow else 0.36) * len(labels)
    base = folder / "grid"
    with chart(base, max(4.6, min(WIDEST, 2.1 + 1.05 * len(shares))), max(2.4, height), formats) as axes:
        heat(
            axes,
            values,
            [f"{100 * label:.4g}" for label in labels],
            [str(document["baseline"]) if share is None else f"{100 * share:.4g}" for share in shares],
            across="images of pretraining, %",
            down="labels, %",
            low=low,
            high=high if high > low else low + 1,
            what=f"balanced accuracy\non {document['split']} images, %",
            texts=[[_cell(cell, "\n" if narrow else " ") for cell in line] for line in table],
            text_size=9 if len(shares) <= 8 else 7,
        )
        if document["baseline"] and len(shares) > 1:
            axes.axvline(0.5, color="white", linewidth=4)  # no pretraining: beside the scale of the others
        entitle(axes.figure, title)
    return [Figure(base, title)]


def _cell(cell: Mapping[str, Any] | None, between: str) -> str:
    if cell is None:
        return ""
    if cell["mean"] is None:
        return "failed"
    mean = f"{100 * cell['mean']:.1f}"
    return mean if cell.get("std") is None else f"{mean}{between}± {100 * cell['std']:.1f}"
