"""Charts of rankings: single tasks, the table of orderings, the tree of their stages, the search for a good one."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis import curriculum
from sslcurr.analysis.charts import (
    COLOURS,
    DASHES,
    GREY,
    WIDEST,
    Figure,
    canvas,
    chart,
    entitle,
    legend,
    percent,
    shortened,
)
from sslcurr.data.source import counted

# A block of orderings shows so many rows: its curricula, and the best of the others. Wider trees are not drawn.
MOST_ROWS, MOST_LEAVES = 60, 200
MEASURES = {"finetune": "fine-tuned", "linear": "linear probe", "knn": "nearest neighbours"}
# Marker, colour, filled or open, and what it is called in the legend.
LOOKS = {
    "baseline": ("X", "#000000", True, "without these tasks"),
    curriculum.SINGLE: ("s", GREY, True, "one task"),
    curriculum.CURRICULUM: ("o", COLOURS[0], True, "curriculum"),
    curriculum.ANTI: ("v", COLOURS[1], True, "anti-curriculum"),
    curriculum.MIXED: ("o", COLOURS[2], False, "mixed"),
    curriculum.TIED: ("D", COLOURS[2], False, "tied"),
}


def draw_singles(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """Accuracies of single tasks in curriculum order, with baselines, seeds and ties."""
    rows = list(document["tasks"])
    if all(row["mean"] is None for row in rows):
        return None
    order = {task: place for place, task in enumerate(document["curriculum"])}
    rows.sort(key=lambda row: order.get(row["task"], len(order)))
    title = f"One task alone: {_about(document)}"
    with chart(base, 6.0, 1.0 + 0.3 * len(rows), formats) as axes:
        from matplotlib.lines import Line2D

        handles = []
        several = any(len(row.get("runs") or ()) > 1 for row in rows)
        for place, row in enumerate(rows):
            _whisker(axes, place, row)
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
        handles.append(_handle("o", COLOURS[0], True, "mean, 95 % interval" if _whiskered(rows) else "mean", 6))
        if several:
            handles.append(_handle("o", GREY, False, "one seed", 3))
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
        _rows(axes, [shortened(row["task"], 34) for row in rows])
        axes.set(xlabel=_accuracy(document))
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
    blocks.append([(shortened(row["task"]), curriculum.SINGLE, row) for row in document["tasks"]])
    longer: dict[int, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for row in document["orderings"]:
        kind = row["kind"] if row["kind"] in LOOKS else curriculum.MIXED
        name = " → ".join(shortened(task, 24) for task in row["ordering"]) + (" ?" if row["uncertain"] else "")
        longer.setdefault(len(row["ordering"]), []).append((name, kind, row))
    rows, left_out, place = [], 0, 0.0
    for number_of_block, block in enumerate([*blocks, *(longer[length] for length in sorted(longer))]):
        ordered = sorted(block, key=lambda line: -line[2]["mean"] if line[2]["mean"] is not None else np.inf)
        curricula = [line for line in ordered if line[1] == curriculum.CURRICULUM]
        others = [line for line in ordered if line[1] != curriculum.CURRICULUM]
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
    title = f"Orderings of tasks: {_about(document)}"
    if left_out:
        title += f"; {left_out} worse ones of the longest blocks are left out"
    with canvas(base, WIDEST, 0.9 + 0.175 * (rows[-1].place + 1), formats) as figure:
        panels = figure.subplots(1, 1 + seen, sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + seen])[0]
        for row in rows:
            marker, colour, filled, _ = LOOKS[row.look]
            for axes, entry in zip(panels, (row.entry, row.entry.get("attention") or {}), strict=False):
                _whisker(axes, row.place, entry)
                value = percent(entry.get("mean"))
                if row.best and axes is panels[0]:
                    axes.plot(value, row.place, "o", markersize=11, color="black", markerfacecolor="none", gid="best")
                look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if filled else "white"}
                axes.plot(value, row.place, marker, markersize=5, gid="mean", **look)
            if row.entry["mean"] is None:
                beside = panels[0].get_yaxis_transform()
                panels[0].text(0.02, row.place, "failed", transform=beside, va="center", color=GREY, fontsize=8)
        for axes in panels:
            _rows(axes, [row.label for row in rows], [row.place for row in rows])
            axes.tick_params(axis="y", labelsize=8)
            if axes is not panels[0]:
                axes.tick_params(labelleft=False)
            for above, below in itertools.pairwise(rows):
                if above.block != below.block:
                    axes.axhline((above.place + below.place) / 2, color="0.7", linewidth=0.8)
        panels[0].set(xlabel=_accuracy(document))
        used = {row.look for row in rows}
        handles = [_handle(*look) for name, look in LOOKS.items() if name in used]
        if any(row.best for row in rows):
            handles.append(_handle("o", "#000000", False, "around it: best of its length", 10))
        if _whiskered([row.entry for row in rows]):
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


@dataclass
class Node:
    """A stage of the tree of chains.

    Attributes:
        prefix: the tasks up to and with it; none is the root.
        entry: of the chain that ends there, if there is one.
        chains: how many chains go through it; they share its weights.
        children: the stages trained from it.
        place: how far down it is drawn.
    """

    prefix: tuple[str, ...]
    entry: Mapping[str, Any] | None
    chains: int = 0
    children: list[Node] = field(default_factory=list)
    place: float = 0.0

    def walk(self) -> list[Node]:
        """It and all below it."""
        return [self, *(node for child in self.children for node in child.walk())]


def tree_of(document: Mapping[str, Any]) -> Node:
    """The tree of all chains of a ranking: a leaf is a row, a parent lies amid its children."""
    ends = {(row["task"],): row for row in document["tasks"]}
    ends |= {tuple(row["ordering"]): row for row in document.get("orderings") or ()}
    start = next((row for name, row in document["baselines"].items() if name != "ImageNet"), None)
    nodes = {(): Node((), start)}
    rank = {task: place for place, task in enumerate(document["curriculum"])}
    for ordering in sorted(ends, key=lambda names: [(rank.get(name, len(rank)), name) for name in names]):
        for length in range(1, len(ordering) + 1):
            prefix = ordering[:length]
            if prefix not in nodes:
                nodes[prefix] = Node(prefix, ends.get(prefix))
                nodes[prefix[:-1]].children.append(nodes[prefix])
            nodes[prefix].chains += 1
    leaves = 0
    for node in reversed(nodes[()].walk()):  # children before their parents, the last row first
        if node.children:
            node.place = (node.children[0].place + node.children[-1].place) / 2
        else:
            node.place, leaves = float(-leaves), leaves + 1
    for node in nodes.values():
        node.place += leaves - 1
    return nodes[()]


def draw_tree(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """The stages as a tree from left to right, with the accuracy of the chain that ends at each."""
    if not document.get("orderings"):
        return None
    root = tree_of(document)
    nodes = root.walk()
    num_leaves = sum(not node.children for node in nodes)
    measured = any(node.prefix and (node.entry or {}).get("mean") is not None for node in nodes)
    if num_leaves > MOST_LEAVES or not measured:
        return None
    start = next((name for name in document["baselines"] if name != "ImageNet"), "start")
    texts = {node.prefix: _node_text(node, start) for node in nodes}
    depth = max(len(node.prefix) for node in nodes)
    # Two lines a node where one is too wide; widths of letters are about these.
    letter, gap = 0.066, 0.36
    for between in (" ", "\n"):
        labels = {prefix: between.join(filter(None, parts)) for prefix, parts in texts.items()}
        widths = [0.0] * (depth + 1)
        for prefix, label in labels.items():
            widths[len(prefix)] = max(widths[len(prefix)], gap + letter * max(map(len, label.split("\n"))))
        if sum(widths) <= WIDEST - 0.2:
            break
    lefts = np.cumsum([0.0, *widths])
    high = 0.2 if between == " " else 0.34
    title = f"Chains and the stages that they share: {_about(document)}; numbers are balanced accuracies, %"
    with chart(base, max(4.5, lefts[-1] + 0.2), 0.5 + high * num_leaves, formats) as axes:
        for node in nodes:
            left = lefts[len(node.prefix)]
            shared = node.chains > 1
            if node.children:
                stem = lefts[len(node.prefix) + 1] - 0.14
                last = max(map(len, labels[node.prefix].split("\n")))
                axes.plot([left + 0.14 + letter * last, stem], [node.place] * 2, color="0.6", linewidth=0.8)
                ends = [node.children[0].place, node.children[-1].place]
                axes.plot([stem] * 2, [min(node.place, ends[0]), max(node.place, ends[1])], color="0.6", linewidth=0.8)
            for child in node.children:
                axes.plot([stem, lefts[len(child.prefix)]], [child.place] * 2, color="0.6", linewidth=0.8)
            colour = COLOURS[0] if shared else GREY
            look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if shared else "white"}
            marker = "s" if not node.prefix else "o"
            gid = "shared" if shared else "once" if node.prefix else "root"
            if node.prefix:
                axes.plot(left, node.place, marker, markersize=6 if shared else 4, gid=gid, zorder=3, **look)
            else:
                axes.plot(left, node.place, "s", markersize=5, color="black", gid=gid, zorder=3)
            axes.text(left + 0.1, node.place, labels[node.prefix], va="center", fontsize=8.5, linespacing=1.05)
        axes.set_xlim(-0.08, max(4.3, lefts[-1]))
        axes.set_ylim(num_leaves - 0.4, -0.6)
        axes.axis("off")
        entitle(axes.figure, title)
        handles = []
        if any(node.chains > 1 for node in nodes):
            handles.append(_handle("o", COLOURS[0], True, "trained once, used by N chains: (x N)", 6))
        handles.append(_handle("o", GREY, False, "used by one chain", 4))
        legend(axes.figure, handles)
    return Figure(base, title)


def _node_text(node: Node, start: str) -> tuple[str, str]:
    name = shortened(node.prefix[-1] if node.prefix else start, 22)
    if node.entry is None:
        parts = []
    else:
        mean = node.entry.get("mean")
        parts = ["failed" if mean is None else f"{100 * mean:.1f}"]
    if node.chains > 1:
        parts.append(f"(x {node.chains})")
    return name, " ".join(parts)


# ---- the search


def draw_search(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """What the search looked at, by length: a row a candidate, a point a look; and how its finalists did."""
    from matplotlib.lines import Line2D

    looks = list(dict.fromkeys((rung["short"], rung["seeds"]) for rung in document["rungs"]))
    looks.sort(key=lambda look: (not look[0], look[1]))  # the short look, then longer ones with more seeds
    blocks: dict[int, dict[tuple[str, ...], dict[tuple[bool, int], Mapping[str, Any]]]] = {}
    left_out: dict[int, set[tuple[str, ...]]] = {}
    for rung in document["rungs"]:
        block = blocks.setdefault(rung["length"], {})
        for candidate in rung["candidates"]:
            block.setdefault(tuple(candidate["ordering"]), {})[rung["short"], rung["seeds"]] = candidate
        for ordering in rung["not_afforded"]:
            block.setdefault(tuple(ordering), {})
            left_out.setdefault(rung["length"], set()).add(tuple(ordering))
    if not any(blocks.values()):
        return None
    names: list[str] = []
    places: list[float] = []
    place = 0.0
    title = f"The search: {_about(document)}; the validation images choose what is found"
    finalists = [row for row in document["finalists"] if row.get("mean") is not None]
    num_rows = sum(map(len, blocks.values())) + 0.6 * len(blocks)
    heights = [num_rows, len(finalists) + 0.4]
    with canvas(base, WIDEST, 1.0 + 0.2 * sum(heights) + 0.5 * bool(finalists), formats) as figure:
        if finalists:
            axes, below = figure.subplots(2, 1, height_ratios=[heights[0], heights[1]])
        else:
            axes, below = figure.add_subplot(), None
        for number, (length, block) in enumerate(sorted(blocks.items())):
            if number:
                axes.axhline(place - 0.3, color="0.7", linewidth=0.8)
                place += 0.6
            # Those that came furthest first, among them by the last score.
            order = sorted(block, key=lambda name: (-len(block[name]), -_last_score(block[name]), name))
            for ordering in order:
                for look, candidate in block[ordering].items():
                    which = looks.index(look)
                    colour = COLOURS[which % len(COLOURS)]
                    axes.plot(
                        percent(candidate["score"]),
                        place,
                        "o^sDvPX"[which % 7],
                        markersize=5.5,
                        color=colour,
                        markerfacecolor=colour if candidate["kept"] else "white",
                        gid="kept" if candidate["kept"] else "dropped",
                    )
                if ordering in left_out.get(length, ()) and not block[ordering]:
                    text = "left out: budget"
                    axes.text(
                        0.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=8
                    )
                names.append(_joined(ordering))
                places.append(place)
                place += 1
        _rows(axes, names, places)
        axes.tick_params(axis="y", labelsize=8)
        axes.set(xlabel="score: balanced accuracy of a probe on validation images, %")
        handles = []
        for which, (short, seeds) in enumerate(looks):
            label = f"{'short look' if short else 'all epochs'}, {seeds} seed{'s' * (seeds != 1)}"
            handles.append(_handle("o^sDvPX"[which % 7], COLOURS[which % len(COLOURS)], True, label))
        handles.append(Line2D([], [], linestyle="", label="filled: kept; open: dropped"))
        if below is not None:
            for row_place, row in enumerate(finalists):
                mean, std = percent(row["mean"]), row.get("std")
                below.plot(mean, row_place, "P", markersize=7, color="black", gid="finalist")
                if std is not None:
                    below.hlines(row_place, mean - 100 * std, mean + 100 * std, color="black", linewidth=1.2)
            found = document.get("ordering")
            chosen = [" (found)" if row["ordering"] == found else "" for row in finalists]
            _rows(below, [_joined(row["ordering"]) + mark for row, mark in zip(finalists, chosen, strict=True)])
            below.tick_params(axis="y", labelsize=8)
            below.set(xlabel=_accuracy(document))
            spread = any(row.get("std") is not None for row in finalists)
            label = "finalist, fully trained" + (" (± standard deviation over seeds)" if spread else "")
            handles.append(_handle("P", "#000000", True, label, 7))
        entitle(figure, title)
        legend(figure, handles)
    return Figure(base, title)


def _last_score(looks: Mapping[tuple[bool, int], Mapping[str, Any]]) -> float:
    scores = [candidate["score"] for candidate in looks.values() if candidate["score"] is not None]
    return float(scores[-1]) if scores else -1.0


# ---- what all of them share


def _joined(ordering: Sequence[str]) -> str:
    return " → ".join(shortened(task, 24) for task in ordering) or "-"


def _about(document: Mapping[str, Any]) -> str:
    parts = [document["dataset"], counted(len(document["seeds"]), "seed")]
    if document.get("num_images") is not None:
        parts.insert(1, f"{document['num_images']} {document['split']} images")
    return ", ".join([*parts, MEASURES.get(document["measure"], document["measure"])])


def _accuracy(document: Mapping[str, Any]) -> str:
    return f"balanced accuracy on {document['split']} images, %"


def _whiskered(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row.get("interval") is not None for row in rows)


def _whisker(axes: Any, place: float, entry: Mapping[str, Any]) -> None:
    if entry.get("interval") is not None:
        low, high = entry["interval"]
        axes.plot([100 * low, 100 * high], [place] * 2, color="0.45", linewidth=1.2, zorder=1.5, gid="interval")


def _rows(axes: Any, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Names of rows, the first on top."""
    at = list(range(len(names))) if places is None else list(places)
    axes.set_yticks(at, list(names))
    axes.set_ylim(at[-1] + 0.6, at[0] - 0.6)
    axes.grid(axis="x", linewidth=0.5, alpha=0.5)


def _handle(marker: str, colour: str, filled: bool, label: str, size: float = 5) -> Any:
    from matplotlib.lines import Line2D

    face = colour if filled else "white" if size < 9 else "none"
    return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="", markersize=size, label=label)
