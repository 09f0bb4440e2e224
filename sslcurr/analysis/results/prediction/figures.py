"""Charts of predictions of images whose labels are known."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.prediction.document import EmbedDocument, PredictDocument
from sslcurr.analysis.results.style import Chart
from sslcurr.analysis.results.training.figures import report_charts


def charts(document: PredictDocument | EmbedDocument) -> Iterator[Chart]:
    """What images are taken for, and whether probabilities mean what they say."""
    if isinstance(document, PredictDocument) and is_set(document.report):
        yield from report_charts(document.report)
