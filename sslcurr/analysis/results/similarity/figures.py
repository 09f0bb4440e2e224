"""Charts of the similarity of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import draw_lines, draw_matrix, line_of
from sslcurr.analysis.results.style import Figure, Formats


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    found: list[Figure | None] = []
    about = (
        f"{document['num_images']} images of {document['dataset']} ({document['split']}), {document['estimator']} "
        f"{document['kernel']} CKA"
    )
    same = [pair for pair in document["pairs"] if pair["layers"]]
    names = list(dict.fromkeys(row["layer"] for pair in same for row in pair["layers"]))
    if len(names) > 1:
        lines = {}
        for pair in same:
            rows: list[dict[str, Any]] = [
                next((row for row in pair["layers"] if row["layer"] == name), {}) for name in names
            ]
            lines[f"{pair['a']} | {pair['b']}"] = line_of(rows, "cka", 1.0)
        title = f"Same layers of two models: {about}"
        found.append(
            draw_lines(folder / "layers", lines, names, title=title, across="layer", up="CKA", formats=formats)
        )
    models = document["models"]
    pairs = [(a, b) for a in range(len(models)) for b in range(a + 1, len(models))]
    for (a, b), pair in zip(pairs, document["pairs"], strict=True):
        found.append(
            draw_matrix(
                folder / ("matrix" if len(models) == 2 else f"matrix-{a + 1}-{b + 1}"),
                np.array(pair["matrix"], dtype=float),
                models[a]["layers"],
                models[b]["layers"],
                title=f"Layers of two models: {about}",
                across=pair["b"],
                down=pair["a"],
                what="CKA",
                formats=formats,
            )
        )
    return found
