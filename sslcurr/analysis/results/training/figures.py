"""From what commands found to charts: one function for each kind of document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import heat
from sslcurr.analysis.results.style import (
    FORMATS,
    WIDEST,
    Figure,
    Formats,
    chart,
    entitle,
)
from sslcurr.analysis.results.training import curves
from sslcurr.engine.store import Stage
from sslcurr.wording import shortened


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    found: list[Figure | None] = []
    for part, name in (("downstream", "confusion"), ("baseline", "confusion-baseline")):
        report = document.get(part)
        if report and report.get("confusion_matrix"):
            found.append(_confusion(folder / name, report, part, formats))
    return found


def _confusion(base: Path, report: Mapping[str, Any], part: str, formats: Formats) -> Figure:
    counts = np.array(report["confusion_matrix"], dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [shortened(str(name), 24) for name in report["classes"]]
    many = len(names)
    side = max(2.2, min(4.6, 0.42 * many))
    # Numbers as large as their cells allow; where they could not be read there are none.
    digits = max(1, len(f"{counts.max():.0f}"))
    size = min(9.0, 72 * side / many / (0.72 * digits))
    title = {"downstream": "Confusion matrix", "baseline": "Confusion matrix from scratch"}[part]
    accuracy = report.get("balanced_accuracy")
    if accuracy is not None:
        title += f": balanced accuracy {100 * accuracy:.1f} %"
    title += f" on {report.get('num_images', int(counts.sum()))} {report.get('split', 'test')} images"
    longest = max(map(len, names))
    with chart(base, min(WIDEST, side + 1.4 + 0.08 * longest), side + 0.6 + 0.06 * longest, formats) as axes:
        texts = [[f"{n:.0f}" if n or many <= 12 else "" for n in line] for line in counts]
        heat(
            axes,
            shares,
            names,
            names,
            across="predicted class",
            down="true class",
            low=0.0,
            high=1.0,
            what="share of the row (recall)",
            texts=texts if size >= 5 else None,
            text_size=size,
            colours="Blues",
        )
        entitle(axes.figure, title)
    return Figure(base, title)


def draw_stages(stages: Mapping[str, Stage], folder: Path, *, formats: Formats = FORMATS) -> list[Figure]:
    """Draw the curves of finished stages, title -> stage, from their logs; and their searches for a learning rate."""
    found = []
    for title, stage in stages.items():
        logged = curves.draw_curves(folder / f"curves-{stage.key}", title, stage, formats)
        search = curves.draw_rates(folder / f"search-{stage.key}", title, stage, formats)
        found += [figure for figure in (logged, search) if figure is not None]
    return found
