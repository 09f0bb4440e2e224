"""Charts of distances between data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslcurr.analysis.results.charts import draw_bars
from sslcurr.analysis.results.style import Figure, Formats


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    known: dict[str, float] = (
        next(iter(document["accuracies"].values()), {}) if len(document["accuracies"]) == 1 else {}
    )
    order = sorted(document["models"], key=lambda model: known.get(model["model"], math.inf))
    bars = {
        model["model"]: {entry["dataset"]: _draws(entry["normalised"]) for entry in model["datasets"]}
        for model in order
    }
    if not any(value for by_name in bars.values() for value in by_name.values()):
        return []  # the halves of the reference are equal: nothing can be divided by 0
    names = [entry["dataset"] for entry in order[0]["datasets"]]
    unknown_last = "" if len(known) == len(order) else ", unknown last"
    sorted_by = f" (by rising accuracy{unknown_last})" if known else ""
    charts = {
        "by-dataset": ({name: {model: values[name] for model, values in bars.items()} for name in names}, "data set"),
        "by-model": (bars, f"model{sorted_by}"),
    }
    return [
        draw_bars(
            folder / base,
            groups,
            title=f"Distance to {document['reference']}, {document['num_images']:,} images of each side "
            f"(whiskers: lowest and highest of {document['draws']} draws)",
            across=across,
            up="FID / FID of two halves",
            line=1.0,
            line_name=f"two halves of {document['reference']}",
            formats=formats,
        )
        for base, (groups, across) in charts.items()
    ]


def _draws(figure: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    """Mean, lowest and highest value of a figure over draws."""
    return None if figure is None else (figure["mean"], min(figure["values"]), max(figure["values"]))
