"""Charts of the similarity of models."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sslcurr.analysis.results.charts import Line, line_chart, line_of, matrix_chart
from sslcurr.analysis.results.similarity.document import ModelPair, SimilarityDocument
from sslcurr.analysis.results.style import Chart
from sslcurr.wording import images_of


def charts(document: SimilarityDocument) -> Iterator[Chart]:
    """The layers that models have in common as lines, and for each pair all layers against all."""
    about = (
        f"{document.dataset}, {images_of(document.num_images, document.split)}, {document.estimator} "
        f"{document.kernel} CKA"
    )
    same = [pair for pair in document.pairs if pair.layers]
    names = list(dict.fromkeys(row.layer for pair in same for row in pair.layers))
    if len(names) > 1:
        lines = {f"{pair.a} | {pair.b}": _line(pair, names) for pair in same}
        yield line_chart("layers", lines, names, title=f"Same layers of two models: {about}", across="layer", up="CKA")
    models = list(enumerate(document.models, start=1))
    for ((a, first), (b, second)), pair in zip(itertools.combinations(models, 2), document.pairs, strict=True):
        yield matrix_chart(
            "matrix" if len(models) == 2 else f"matrix-{a}-{b}",
            np.array(pair.matrix, dtype=float),
            first.layers,
            second.layers,
            title=f"All layers of two models: {about}",
            across=pair.b,
            down=pair.a,
            what="CKA",
        )


def _line(pair: ModelPair, names: Sequence[str]) -> Line:
    """CKA of the same layers at the places of `names`."""
    by_name = {row.layer: (row.cka, row.interval) for row in pair.layers if row.cka is not None}
    values = [by_name.get(name, (None, None)) for name in names]
    return line_of([value for value, _ in values], [interval for _, interval in values])
