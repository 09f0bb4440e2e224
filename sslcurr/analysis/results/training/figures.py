"""Charts of trained chains: confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import heat
from sslcurr.analysis.results.style import WIDEST, Chart
from sslcurr.analysis.results.training.document import ClassificationReport, TrainDocument
from sslcurr.wording import shortened


def charts(document: TrainDocument) -> Iterator[Chart]:
    """The confusion matrices of the chain and of its baseline."""
    if isinstance(document.downstream, ClassificationReport):
        yield confusion("confusion", "Confusion matrix", document.downstream)
    if isinstance(document.baseline, ClassificationReport):
        yield confusion("confusion-baseline", "Confusion matrix from scratch", document.baseline)


def confusion(name: str, title: str, report: ClassificationReport) -> Chart:
    """Counts on the shares of their rows, true classes down, predicted ones across."""
    counts = np.array(report.confusion_matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [shortened(str(each), 24) for each in report.classes]
    many = len(names)
    side = max(2.2, min(4.6, 0.42 * many))
    # Numbers as large as their cells allow; where they could not be read there are none.
    digits = max(1, len(f"{counts.max():.0f}"))
    size = min(9.0, 72 * side / many / (0.72 * digits))
    title += f": balanced accuracy {100 * report.balanced_accuracy:.1f} %"
    title += f" on {report.num_images} {report.split} images"
    longest = max(map(len, names))

    def paint(axes: Any) -> Sequence[Any]:
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
        return ()

    return Chart(name, title, min(WIDEST, side + 1.4 + 0.08 * longest), side + 0.6 + 0.06 * longest, paint)
