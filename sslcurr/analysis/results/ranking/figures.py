"""Charts of rankings: single tasks, the table of orderings, the tree of their stages, the search for a good one."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.results.ranking import document as ranking_document
from sslcurr.analysis.results.ranking.style import (
    about_document,
    accuracy_label,
    draw_whisker,
    mark_handle,
    name_rows,
    whiskered,
)
from sslcurr.analysis.results.ranking.tree import draw_tree
from sslcurr.analysis.results.style import (
    COLOURS,
    DASHES,
    GREY,
    WIDEST,
    Figure,
    Formats,
    canvas,
    chart,
    entitle,
    legend,
    percent,
)
from sslcurr.wording import shortened

# A block of orderings shows so many rows: its curricula, and the best of the others. Wider trees are not drawn.
MOST_ROWS = 60
# Marker, colour, filled or open, and what it is called in the legend.
LOOKS = {
    "baseline": ("X", "#000000", True, "without these tasks"),
    ranking_document.SINGLE: ("s", GREY, True, "one task"),
    ranking_document.CURRICULUM: ("o", COLOURS[0], True, "curriculum"),
    ranking_document.ANTI: ("v", COLOURS[1], True, "anti-curriculum"),
    ranking_document.MIXED: ("o", COLOURS[2], False, "mixed"),
    ranking_document.TIED: ("D", COLOURS[2], False, "tied"),
}


def draw_singles(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """Accuracies of single tasks in curriculum order, with baselines, seeds and ties."""
    rows = list(document["tasks"])
    if all(row["mean"] is None for row in rows):
        return None
    order = {task: place for place, task in enumerate(document["curriculum"])}
    rows.sort(key=lambda row: order.get(row["task"], len(order)))
    title = f"One task alone: {about_document(document)}"
    with chart(base, 6.0, 1.0 + 0.3 * len(rows), formats) as axes:
        from matplotlib.lines import Line2D

        handles = []
        several = any(len(row.get("runs") or ()) > 1 for row in rows)
        for place, row in enumerate(rows):
            draw_whisker(axes, place, row)
            if several:
                seeds = [percent(run["balanced_accuracy"]) for run in row.get("runs") or ()]
                axes.plot(
                    seeds,
                    [place + 0.25] * len(seeds),
                    "o",
                    markersize=3,
                    color=GREY,
                    markerfacecolor="white",
                    gid="seed",
                )
            axes.plot(percent(row["mean"]), place, "o", markersize=6, color=COLOURS[0], gid="mean")
        handles.append(mark_handle("o", COLOURS[0], True, "mean, 95 % interval" if whiskered(rows) else "mean", 6))
        if several:
            handles.append(mark_handle("o", GREY, False, "one seed", 3))
        for number, (name, row) in enumerate(document["baselines"].items()):
            if row["mean"] is not None:
                look: dict[str, Any] = {"color": COLOURS[(number + 1) % 7], "linestyle": DASHES[1:][number % 3]}
                axes.axvline(percent(row["mean"]), linewidth=1.3, zorder=1, gid="baseline", **look)
                handles.append(Line2D([], [], linewidth=1.3, label=shortened(name), **look))
        beside = axes.get_yaxis_transform()  # across in shares of the axes, down in rows
        for group in document["ties"]:
            places = sorted(order[task] for task in group if task in order)
            if len(places) > 1:
                top, bottom = places[0] - 0.15, places[-1] + 0.15
                across = [1.01, 1.025, 1.025, 1.01]
                axes.plot(across, [top, top, bottom, bottom], transform=beside, clip_on=False, color="black", gid="tie")
        if document["ties"]:
            handles.append(Line2D([], [], linestyle="", label="]  neighbours that cannot be told apart"))
        name_rows(axes, [shortened(row["task"], 34) for row in rows])
        axes.set(xlabel=accuracy_label(document))
        entitle(axes.figure, title)
        legend(axes.figure, handles)
    return Figure(base, title)


@dataclass(frozen=True)
class Row:
    """A line of the table of orderings.

    Attributes:
        label: its name.
        look: one of LOOKS.
        entry: means and intervals as in the document.
        block: number of the block that it is in.
        best: whether no mean of its block is higher.
        place: how far down it is.
    """

    label: str
    look: str
    entry: Mapping[str, Any]
    block: int
    best: bool
    place: float


def table_of(document: Mapping[str, Any]) -> tuple[list[Row], int]:
    """The rows of the table from top to bottom, block by block, and how many were left out."""
    blocks = [[(shortened(name), "baseline", row) for name, row in document["baselines"].items()]]
    blocks.append([(shortened(row["task"]), ranking_document.SINGLE, row) for row in document["tasks"]])
    longer: dict[int, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for row in document["orderings"]:
        kind = row["kind"] if row["kind"] in LOOKS else ranking_document.MIXED
        name = " → ".join(shortened(task, 24) for task in row["ordering"]) + (" ?" if row["uncertain"] else "")
        longer.setdefault(len(row["ordering"]), []).append((name, kind, row))
    rows, left_out, place = [], 0, 0.0
    for number_of_block, block in enumerate([*blocks, *(longer[length] for length in sorted(longer))]):
        ordered = sorted(block, key=lambda line: -line[2]["mean"] if line[2]["mean"] is not None else np.inf)
        curricula = [line for line in ordered if line[1] == ranking_document.CURRICULUM]
        others = [line for line in ordered if line[1] != ranking_document.CURRICULUM]
        kept = curricula + others[: max(0, MOST_ROWS - len(curricula))]
        left_out += len(ordered) - len(kept)
        for number, (name, look, entry) in enumerate(line for line in ordered if line in kept):
            label = "\n".join(textwrap.wrap(name, 40, break_on_hyphens=False)) or "-"
            best = number == 0 and len(block) > 1 and look != "baseline" and entry["mean"] is not None
            extra = 0.36 * label.count("\n")
            rows.append(Row(label, look, entry, number_of_block, best, place + extra))
            place += 1 + 2 * extra
        place += 0.6 if block else 0
    return rows, left_out


def draw_orderings(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """The table of orderings as points: a row each, longer ones below, the best of a length first."""
    from matplotlib.lines import Line2D

    rows, left_out = table_of(document)
    if all(row.entry["mean"] is None for row in rows):
        return None
    seen = any((row.entry.get("attention") or {}).get("mean") is not None for row in rows)
    title = f"Orderings of tasks: {about_document(document)}"
    if left_out:
        title += f"; {left_out} worse ones of the longest blocks are left out"
    with canvas(base, WIDEST, 0.9 + 0.175 * (rows[-1].place + 1), formats) as figure:
        panels = figure.subplots(1, 1 + seen, sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + seen])[0]
        for row in rows:
            marker, colour, filled, _ = LOOKS[row.look]
            for axes, entry in zip(panels, (row.entry, row.entry.get("attention") or {}), strict=False):
                draw_whisker(axes, row.place, entry)
                value = percent(entry.get("mean"))
                if row.best and axes is panels[0]:
                    axes.plot(value, row.place, "o", markersize=11, color="black", markerfacecolor="none", gid="best")
                look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if filled else "white"}
                axes.plot(value, row.place, marker, markersize=5, gid="mean", **look)
            if row.entry["mean"] is None:
                beside = panels[0].get_yaxis_transform()
                panels[0].text(0.02, row.place, "failed", transform=beside, va="center", color=GREY, fontsize=8)
        for axes in panels:
            name_rows(axes, [row.label for row in rows], [row.place for row in rows])
            axes.tick_params(axis="y", labelsize=8)
            if axes is not panels[0]:
                axes.tick_params(labelleft=False)
            for above, below in itertools.pairwise(rows):
                if above.block != below.block:
                    axes.axhline((above.place + below.place) / 2, color="0.7", linewidth=0.8)
        panels[0].set(xlabel=accuracy_label(document))
        used = {row.look for row in rows}
        handles = [mark_handle(*look) for name, look in LOOKS.items() if name in used]
        if any(row.best for row in rows):
            handles.append(mark_handle("o", "#000000", False, "around it: best of its length", 10))
        if whiskered([row.entry for row in rows]):
            handles.append(Line2D([], [], color="0.45", linewidth=1.2, label="95 % interval"))
        if seen:
            panels[1].set(xlabel="attention in the region, %")
            coverage = (document.get("attention") or {}).get("coverage")
            if coverage is not None:
                panels[1].axvline(percent(coverage), color="black", linestyle="--", linewidth=1, gid="coverage")
                label = "share of the image that the region covers"
                handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=label))
        if any(row.label.endswith("?") for row in rows):
            text = "?  two of its tasks cannot be told apart: its kind may be chance"
            handles.append(Line2D([], [], linestyle="", label=text))
        entitle(figure, title)
        legend(figure, handles)
    return Figure(base, title)


# ---- the search


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    found = [draw_singles(folder / "singles", document, formats)]
    if document.get("orderings"):
        found.append(draw_orderings(folder / "orderings", document, formats))
        found.append(draw_tree(folder / "tree", document, formats))
    return found
