"""Charts of rankings: single tasks, the table of orderings, the tree of their stages."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UnsetType

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
from sslcurr.analysis.results.ranking.style import (
    about_chains,
    accuracy_label,
    draw_whisker,
    mark_handle,
    name_rows,
)
from sslcurr.analysis.results.ranking.tree import tree_chart
from sslcurr.analysis.results.style import COLOURS, DASHES, GREY, WIDEST, Chart, percent
from sslcurr.wording import shortened

# A block of orderings shows so many rows: its curricula, and the best of the others.
MOST_ROWS = 60
# Marker, colour, filled or open, and what it is called in the legend.
MARKS = {
    "baseline": ("X", "#000000", True, "without these tasks"),
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

    def paint(axes: Any) -> Sequence[Any]:
        handles = [*_paint_tasks(axes, rows), *_paint_baselines(axes, document), *_paint_ties(axes, document, order)]
        name_rows(axes, [shortened(row.task, 34) for row in rows])
        axes.set(xlabel=accuracy_label(document.split, document.target))
        return handles

    return Chart("singles", f"One task alone: {_about(document)}", 6.0, 1.0 + 0.3 * len(rows), paint)


def _paint_tasks(axes: Any, rows: Sequence[TaskRow]) -> list[Any]:
    several = any(len(row.runs) > 1 for row in rows)
    for place, row in enumerate(rows):
        draw_whisker(axes, place, row.interval)
        if several:
            seeds = [percent(run.value) for run in row.runs]
            axes.plot(
                seeds, [place + 0.25] * len(seeds), "o", markersize=3, color=GREY, markerfacecolor="white", gid="seed"
            )
        axes.plot(percent(row.mean), place, "o", markersize=6, color=COLOURS[0], gid="mean")
    has_interval = any(row.interval is not None for row in rows)
    handles = [mark_handle("o", COLOURS[0], True, "mean, 95 % interval" if has_interval else "mean", 6)]
    return [*handles, mark_handle("o", GREY, False, "one seed", 3)] if several else handles


def _paint_baselines(axes: Any, document: RankDocument) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for number, (name, row) in enumerate(document.baselines.items()):
        if row.mean is not None:
            line: dict[str, str] = {"color": COLOURS[(number + 1) % 7], "linestyle": DASHES[1:][number % 3]}
            axes.axvline(percent(row.mean), linewidth=1.3, zorder=1, gid="baseline", **line)
            handles.append(Line2D([], [], linewidth=1.3, label=shortened(name), **line))  # type: ignore[arg-type]
    return handles


def _paint_ties(axes: Any, document: RankDocument, order: dict[str, int]) -> list[Any]:
    from matplotlib.lines import Line2D

    beside = axes.get_yaxis_transform()  # across in shares of the axes, down in rows
    for group in document.ties:
        places = sorted(order[task] for task in group if task in order)
        if len(places) > 1:
            top, bottom = places[0] - 0.15, places[-1] + 0.15
            across = [1.01, 1.025, 1.025, 1.01]
            axes.plot(across, [top, top, bottom, bottom], transform=beside, clip_on=False, color="black", gid="tie")
    return [Line2D([], [], linestyle="", label="]  neighbours that cannot be told apart")] if document.ties else []


# ---- orderings


@dataclass(frozen=True)
class Line:
    """A line of the table of orderings.

    Attributes:
        label: its name.
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
        name = " → ".join(shortened(task, 24) for task in row.ordering) + (" ?" if row.uncertain else "")
        longer.setdefault(len(row.ordering), []).append((name, mark, row))
    lines, left_out, place = [], 0, 0.0
    for number_of_block, block in enumerate([*blocks, *(longer[length] for length in sorted(longer))]):
        ordered = sorted(block, key=lambda line: -line[2].mean if line[2].mean is not None else np.inf)
        curricula = [line for line in ordered if line[1] == CURRICULUM]
        others = [line for line in ordered if line[1] != CURRICULUM]
        kept = curricula + others[: max(0, MOST_ROWS - len(curricula))]
        left_out += len(ordered) - len(kept)
        for number, (name, mark, entry) in enumerate(line for line in ordered if line in kept):
            label = "\n".join(textwrap.wrap(name, 40, break_on_hyphens=False)) or "-"
            best = number == 0 and len(block) > 1 and mark != "baseline" and entry.mean is not None
            extra = 0.36 * label.count("\n")
            lines.append(Line(label, mark, entry, number_of_block, best, place + extra))
            place += 1 + 2 * extra
        place += 0.6 if block else 0
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
            beside = axes.get_yaxis_transform()
            axes.text(0.02, line.place, "failed", transform=beside, va="center", color=GREY, fontsize=8)
    for each in (axes, attention_axes):
        if each is not None:
            name_rows(each, [line.label for line in lines], [line.place for line in lines])
            each.tick_params(axis="y", labelsize=8)
            for above, below in itertools.pairwise(lines):
                if above.block != below.block:
                    each.axhline((above.place + below.place) / 2, color="0.7", linewidth=0.8)
    axes.set(xlabel=accuracy_label(document.split, document.target))
    if attention_axes is not None:
        attention_axes.tick_params(labelleft=False)
        attention_axes.set(xlabel="attention in the region, %")
        if not isinstance(document.attention, UnsetType):
            coverage = percent(document.attention.coverage)
            attention_axes.axvline(coverage, color="black", linestyle="--", linewidth=1, gid="coverage")
    return _handles(lines, has_coverage=attention_axes is not None and bool(document.attention))


def _paint_mark(axes: Any, line: Line, estimate: Estimate | None, *, best: bool = False) -> None:
    marker, colour, filled, _ = MARKS[line.mark]
    draw_whisker(axes, line.place, None if estimate is None else estimate.interval)
    value = percent(None if estimate is None else estimate.mean)
    if best:
        axes.plot(value, line.place, "o", markersize=11, color="black", markerfacecolor="none", gid="best")
    face = colour if filled else "white"
    axes.plot(value, line.place, marker, markersize=5, gid="mean", color=colour, markerfacecolor=face)


def _handles(lines: Sequence[Line], *, has_coverage: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    used = {line.mark for line in lines}
    handles = [mark_handle(*mark) for name, mark in MARKS.items() if name in used]
    if any(line.best for line in lines):
        handles.append(mark_handle("o", "#000000", False, "around it: best of its length", 10))
    if any(line.entry.interval is not None for line in lines):
        handles.append(Line2D([], [], color="0.45", linewidth=1.2, label="95 % interval"))
    if has_coverage:
        label = "share of the image that the region covers"
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=label))
    if any(line.label.endswith("?") for line in lines):
        text = "?  two of its tasks cannot be told apart: its kind may be chance"
        handles.append(Line2D([], [], linestyle="", label=text))
    return handles
