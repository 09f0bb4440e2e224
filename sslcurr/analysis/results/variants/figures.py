"""The chart of a ranking that was repeated over settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import heat, line_chart, line_of
from sslcurr.analysis.results.estimate import measure_of
from sslcurr.analysis.results.ranking.style import about_chains, accuracy_label, joined_tasks
from sslcurr.analysis.results.style import WIDEST, Chart, percent
from sslcurr.analysis.results.variants.document import ChainRow, VariantsDocument
from sslcurr.wording import shortened

# More chains than these would be a tangle of lines; so many rows a heat map has at most.
MOST_LINES, MOST_ROWS = 7, 60


def charts(document: VariantsDocument) -> Iterator[Chart]:
    """A line for each chain over the settings, which cross where settings disagree; a heat map of many chains."""
    rows = [{tuple(row.ordering): row for row in each.chains} for each in document.variants]
    names = list(dict.fromkeys(name for each in rows for name in each))
    if not any(row.mean is not None for each in rows for row in each.values()):
        return
    about = about_chains(document.dataset, document.split, document.num_images, len(document.seeds), document.measure)
    title = f"The ranking over {_across(document)}: {about}"
    if len(names) <= MOST_LINES:
        lines = {
            _title(document, name): line_of(
                [_mean(each.get(name)) for each in rows], [_ends(each.get(name)) for each in rows], 100.0
            )
            for name in names
        }
        up = accuracy_label(document.split, document.target)
        yield line_chart(
            "variants", lines, _places(document), title=title, across=_across(document), up=up, shares=False
        )
    else:
        yield _heat_map(document, title, names, rows)


def _title(document: VariantsDocument, name: tuple[str, ...]) -> str:
    return shortened(joined_tasks(name), 60) if name else document.baseline


def _places(document: VariantsDocument) -> list[str]:
    return [", ".join(each.values.values()) for each in document.variants]


def _across(document: VariantsDocument) -> str:
    return ", ".join(axis.name for axis in document.axes)


def _mean(row: ChainRow | None) -> float | None:
    return None if row is None else row.mean


def _ends(row: ChainRow | None) -> tuple[float, float] | None:
    return None if row is None else row.interval


def _heat_map(
    document: VariantsDocument,
    title: str,
    names: Sequence[tuple[str, ...]],
    rows: Sequence[dict[tuple[str, ...], ChainRow]],
) -> Chart:
    """Chains down, the best under the reference first, settings across."""
    ordered = sorted(names, key=lambda name: -(_mean(rows[0].get(name)) or 0.0))
    kept = ordered[:MOST_ROWS]
    if len(kept) < len(ordered):
        title += f"; {len(ordered) - len(kept)} worse ones are left out"
    values = np.array([[percent(_mean(each.get(name))) for each in rows] for name in kept])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)

    def paint(axes: Any) -> Sequence[Any]:
        heat(
            axes,
            values,
            [_title(document, name) for name in kept],
            _places(document),
            across=_across(document),
            down="",
            low=low,
            high=high if high > low else low + 1,
            what=f"{measure_of(document.target)}\non {document.split} images, %",
            texts=[["" if math.isnan(value) else f"{value:.1f}" for value in line] for line in values],
            text_size=8,
        )
        # Of names that were cut, orderings of the same tasks would look alike.
        axes.set_yticks(range(len(kept)), [_title(document, name) for name in kept], fontsize=8)
        return ()

    width = max(5.6, min(WIDEST, 4.4 + 0.9 * len(rows)))
    return Chart("variants", title, width, 1.4 + 0.22 * len(kept), paint)
