"""Charts of distances between data sets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sslcurr.analysis.results.charts import Bar, bar_chart
from sslcurr.analysis.results.distances.document import Distance, DistancesDocument
from sslcurr.analysis.results.style import Chart
from sslcurr.wording import counted


def charts(document: DistancesDocument) -> Iterator[Chart]:
    """Normalised distances by data set and by model; nothing where the halves of the reference are equal."""
    accuracies: dict[str, float] = next(iter(document.accuracies.values()), {}) if len(document.accuracies) == 1 else {}
    order = sorted(document.models, key=lambda model: accuracies.get(model.model, math.inf))
    bars = {model.model: {entry.dataset: _bar(entry.normalised) for entry in model.datasets} for model in order}
    if not any(bar for by_name in bars.values() for bar in by_name.values()):
        return  # nothing can be divided by 0
    names = [entry.dataset for entry in order[0].datasets]
    unknown_last = "" if len(accuracies) == len(order) else ", unknown last"
    sorted_by = f" (by rising accuracy{unknown_last})" if accuracies else ""
    views = {
        "by-dataset": ({name: {model: values[name] for model, values in bars.items()} for name in names}, "data set"),
        "by-model": (bars, f"model{sorted_by}"),
    }
    for name, (groups, across) in views.items():
        yield bar_chart(
            name,
            groups,
            title=f"Distance to {document.reference}: {counted(document.num_images, 'image')} of each side, "
            f"{counted(document.draws, 'draw')}",
            across=across,
            up="FID / FID of two halves",
            whisker="lowest to highest draw",
            line=1.0,
            line_name=f"two halves of {document.reference}",
        )


def _bar(distance: Distance | None) -> Bar | None:
    """Mean, lowest and highest value over draws."""
    return None if distance is None else Bar(distance.mean, min(distance.values), max(distance.values))
