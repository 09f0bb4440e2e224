"""Charts of rankings: single tasks, the table of orderings, the tree of their stages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UnsetType

from sslcurr.analysis.results.charts import (
    MOST_ROWS,
    Rows,
    draw_mean,
    draw_whisker,
    interval_handle,
    name_rows,
    note_failure,
    placed,
    row_names,
    rows_of,
)
from sslcurr.analysis.results.estimate import Estimate, Summary
from sslcurr.analysis.results.ranking.document import (
    ANTI,
    CURRICULUM,
    MIXED,
    SINGLE,
    TIED,
    RankDocument,
    TaskRow,
)
from sslcurr.analysis.results.ranking.labels import about_chains, accuracy_label, interval_label, joined_tasks
from sslcurr.analysis.results.ranking.tree import tree_chart
from sslcurr.analysis.results.style import (
    COLOURS,
    DASHES,
    FAINT,
    GREY,
    INK,
    LARGE,
    PAPER,
    SMALL,
    THIN,
    WIDEST,
    Chart,
    colour_of,
    line_handle,
    mark_handle,
    percent,
    sign_handle,
)
from sslcurr.wording import shortened

# Marker, colour, filled or open, and what it is called in the legend.
MARKS = {
    "baseline": ("X", INK, True, "without these tasks"),
    SINGLE: ("s", GREY, True, "one task"),
    CURRICULUM: ("o", COLOURS[0], True, "curriculum"),
    ANTI: ("v", COLOURS[1], True, "anti-curriculum"),
    MIXED: ("o", COLOURS[2], False, "mixed"),
    TIED: ("D", COLOURS[2], False, "tied"),
}


def charts(document: RankDocument) -> Iterator[Chart]:
    """The single tasks; with orderings, their table and the tree of their stages."""
    for chart in (singles_chart(document), orderings_chart(document), tree_chart(document)):
        if chart is not None:
            yield chart


def _about(document: RankDocument) -> str:
    return about_chains(document.dataset, document.split, document.num_images, len(document.seeds), document.measure)


# ---- single tasks


def singles_chart(document: RankDocument) -> Chart | None:
    """Accuracies of single tasks in curriculum order, with baselines, seeds and ties; None where all failed."""
    order = {task: place for place, task in enumerate(document.curriculum)}
    rows = sorted(document.tasks, key=lambda row: order.get(row.task, len(order)))
    if all(row.mean is None for row in rows):
        return None

    named = rows_of([shortened(row.task, 34) for row in rows])

    def paint(axes: Any) -> Sequence[Any]:
        handles = [*_paint_tasks(axes, rows), *_paint_baselines(axes, document), *_paint_ties(axes, document, order)]
        name_rows(axes, named)
        axes.set(xlabel=accuracy_label(document.split, document.target))
        return handles

    return Chart("singles", f"One task alone: {_about(document)}", 6.0, 1.0 + named.inches, paint)


def _paint_tasks(axes: Any, rows: Sequence[TaskRow]) -> list[Any]:
    most = max(len(row.runs) for row in rows)
    for place, row in enumerate(rows):
        draw_whisker(axes, place, row.interval)
        if most > 1:
            seeds = [percent(run.value) for run in row.runs]
            at = [place + 0.25] * len(seeds)
            axes.plot(seeds, at, "o", markersize=3, color=GREY, markerfacecolor=PAPER, gid="seed")
        draw_mean(axes, place, row.mean)
    handles = [mark_handle("o", COLOURS[0], True, "mean" if most > 1 else "one seed", LARGE)]
    if most > 1:
        handles.append(mark_handle("o", GREY, False, "one seed", 3))
    if any(row.interval is not None for row in rows):
        handles.append(interval_handle(interval_label(most)))
    return handles


def _paint_baselines(axes: Any, document: RankDocument) -> list[Any]:
    handles = []
    for number, (name, row) in enumerate(document.baselines.items()):
        if row.mean is not None:
            colour, dash = colour_of(number + 1), DASHES[1:][number % 3]
            axes.axvline(percent(row.mean), color=colour, linestyle=dash, zorder=1, gid="baseline")
            handles.append(line_handle(colour, shortened(name), dash))
    return handles


def _paint_ties(axes: Any, document: RankDocument, order: dict[str, int]) -> list[Any]:
    beside = axes.get_yaxis_transform()  # across in shares of the axes, down in rows
    for group in document.ties:
        places = sorted(order[task] for task in group if task in order)
        if len(places) > 1:
            top, bottom = places[0] - 0.15, places[-1] + 0.15
            across = [1.01, 1.025, 1.025, 1.01]
            axes.plot(across, [top, top, bottom, bottom], transform=beside, clip_on=False, color=INK, gid="tie")
    return [sign_handle("]", "neighbours that cannot be told apart")] if document.ties else []


# ---- orderings


@dataclass(frozen=True)
class Line:
    """A line of the table of orderings.

    Attributes:
        label: its name, in lines where it is long.
        mark: one of MARKS.
        entry: means and intervals as in the document.
        block: number of the block that it is in.
        best: whether no mean of its block is higher.
        place: how far down it is.
    """

    label: str
    mark: str
    entry: Summary
    block: int
    best: bool
    place: float

    @property
    def attention(self) -> Estimate | None:
        """The attention inside masks, where masks are known."""
        return None if isinstance(self.entry.attention, UnsetType) else self.entry.attention


def lines_of(document: RankDocument) -> tuple[list[Line], int]:
    """The lines of the table from top to bottom, block by block, and how many were left out."""
    blocks: list[list[tuple[str, str, Summary]]] = [
        [(shortened(name), "baseline", row) for name, row in document.baselines.items()],
        [(shortened(row.task), SINGLE, row) for row in document.tasks],
    ]
    longer: dict[int, list[tuple[str, str, Summary]]] = {}
    for row in document.orderings or ():
        mark = row.kind if row.kind in MARKS else MIXED
        name = joined_tasks(row.ordering) + (" ?" if row.uncertain else "")
        longer.setdefault(len(row.ordering), []).append((name, mark, row))
    kept, left_out = [], 0
    for block in [*blocks, *(longer[length] for length in sorted(longer))]:
        ordered = sorted(block, key=lambda line: -line[2].mean if line[2].mean is not None else np.inf)
        num_curricula = sum(line[1] == CURRICULUM for line in ordered)
        others = [line for line in ordered if line[1] != CURRICULUM][: max(0, MOST_ROWS - num_curricula)]
        kept.append([line for line in ordered if line[1] == CURRICULUM or line in others])
        left_out += len(ordered) - len(kept[-1])
    rows = placed([row_names([name for name, *_ in block], SMALL) for block in kept], SMALL, 0.6)
    places = iter(zip(rows.names, rows.places, strict=True))
    lines = []
    for number, block in enumerate(kept):
        for rank, ((_, mark, entry), (label, place)) in enumerate(zip(block, places, strict=False)):
            best = rank == 0 and len(block) > 1 and mark != "baseline" and entry.mean is not None
            lines.append(Line(label, mark, entry, number, best, place))
    return lines, left_out


def orderings_chart(document: RankDocument) -> Chart | None:
    """The table of orderings as points: a row each, longer ones below, the best of a length first; None without."""
    if not document.orderings:
        return None
    lines, left_out = lines_of(document)
    if all(line.entry.mean is None for line in lines):
        return None
    has_attention = any(line.attention is not None and line.attention.mean is not None for line in lines)
    title = f"Orderings of tasks: {_about(document)}"
    if left_out:
        title += f"; {left_out} worse ones of the longest blocks are left out"

    def paint_both(sheet: Any) -> Sequence[Any]:
        first, second = sheet.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        return _paint_lines(first, second, lines, document)

    def paint_one(axes: Any) -> Sequence[Any]:
        return _paint_lines(axes, None, lines, document)

    paint = paint_both if has_attention else paint_one
    return Chart("orderings", title, WIDEST, 0.9 + 0.175 * (lines[-1].place + 1), paint, panels=has_attention)


def _paint_lines(axes: Any, attention_axes: Any, lines: Sequence[Line], document: RankDocument) -> list[Any]:
    """The accuracies on one pair of axes and the attention, where any is known, on another."""
    for line in lines:
        _paint_mark(axes, line, line.entry, best=line.best)
        if attention_axes is not None:
            _paint_mark(attention_axes, line, line.attention)
        if line.entry.mean is None:
            note_failure(axes, line.place)
    rows = Rows([line.label for line in lines], [line.place for line in lines], SMALL)
    for each in (axes, attention_axes):
        if each is not None:
            name_rows(each, rows)
            for above, below in itertools.pairwise(lines):
                if above.block != below.block:
                    each.axhline((above.place + below.place) / 2, color=FAINT, linewidth=THIN)
    axes.set(xlabel=accuracy_label(document.split, document.target))
    if attention_axes is not None:
        attention_axes.tick_params(labelleft=False)
        attention_axes.set(xlabel="attention in the region, %")
        if not isinstance(document.attention, UnsetType):
            coverage = percent(document.attention.coverage)
            attention_axes.axvline(coverage, color=INK, linestyle="--", linewidth=THIN, gid="coverage")
    return _handles(lines, has_coverage=attention_axes is not None and bool(document.attention))


def _paint_mark(axes: Any, line: Line, estimate: Estimate | None, *, best: bool = False) -> None:
    marker, colour, filled, _ = MARKS[line.mark]
    draw_whisker(axes, line.place, None if estimate is None else estimate.interval)
    value = percent(None if estimate is None else estimate.mean)
    if best:
        axes.plot(value, line.place, "o", markersize=11, color=INK, markerfacecolor="none", gid="best")
    axes.plot(value, line.place, marker, gid="mean", color=colour, markerfacecolor=colour if filled else PAPER)


def _handles(lines: Sequence[Line], *, has_coverage: bool) -> list[Any]:
    used = {line.mark for line in lines}
    handles = [mark_handle(*mark) for name, mark in MARKS.items() if name in used]
    if any(line.best for line in lines):
        handles.append(mark_handle("o", INK, False, "around it: best of its length", 10))
    if any(line.entry.interval is not None for line in lines):
        handles.append(interval_handle(interval_label(max(len(line.entry.runs) for line in lines))))
    if has_coverage:
        handles.append(line_handle(INK, "share of the image that the region covers", "--", THIN))
    if any(line.label.endswith("?") for line in lines):
        handles.append(sign_handle("?", "two of its tasks cannot be told apart: its kind may be chance"))
    return handles
