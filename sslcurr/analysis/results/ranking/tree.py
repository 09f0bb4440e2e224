"""The tree of stages that chains share, as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sslcurr.analysis.results.estimate import Summary, measure_of
from sslcurr.analysis.results.ranking.document import IMAGENET, Ordering, RankDocument
from sslcurr.analysis.results.ranking.labels import about_chains
from sslcurr.analysis.results.style import (
    COLOURS,
    GREY,
    INK,
    LARGE,
    PAPER,
    SMALL,
    THIN,
    WIDEST,
    Chart,
    cut,
    mark_handle,
    width_of,
)
from sslcurr.wording import shortened

# Wider trees are not drawn.
MOST_LEAVES = 200
GAP = 0.36  # inches: what is before the name of a stage


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

    prefix: Ordering
    entry: Summary | None
    chains: int = 0
    children: list[Node] = field(default_factory=list)
    place: float = 0.0

    def walk(self) -> list[Node]:
        """It and all below it."""
        return [self, *(node for child in self.children for node in child.walk())]


def tree_of(document: RankDocument) -> Node:
    """The tree of all chains of a ranking: a leaf is a row, a parent lies amid its children."""
    ends: dict[Ordering, Summary] = {(row.task,): row for row in document.tasks}
    ends |= {tuple(row.ordering): row for row in document.orderings or ()}
    start = next((row for name, row in document.baselines.items() if name != IMAGENET), None)
    nodes: dict[Ordering, Node] = {(): Node((), start)}
    rank = {task: place for place, task in enumerate(document.curriculum)}
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


def tree_chart(document: RankDocument) -> Chart | None:
    """The stages as a tree from left to right, with the accuracy of the chain that ends at each; None where there is
    nothing to draw, or too much."""
    if not document.orderings:
        return None
    nodes = tree_of(document).walk()
    num_leaves = sum(not node.children for node in nodes)
    measured = any(node.prefix and node.entry is not None and node.entry.mean is not None for node in nodes)
    if num_leaves > MOST_LEAVES or not measured:
        return None
    start = next((name for name in document.baselines if name != IMAGENET), "start")
    texts = {node.prefix: _node_text(node, start) for node in nodes}
    room = (WIDEST - 0.2) / (1 + max(len(node.prefix) for node in nodes)) - GAP
    # Two lines a node where one is too wide, and shorter names where these are, too.
    for between, most in ((" ", WIDEST), ("\n", WIDEST), ("\n", room)):
        labels = {
            prefix: between.join(filter(None, (cut(name, most, SMALL), numbers)))
            for prefix, (name, numbers) in texts.items()
        }
        lefts = _lefts(labels)
        if lefts[-1] <= WIDEST - 0.2:
            break

    wide = max(4.6, lefts[-1])
    high = 0.2 if between == " " else 0.34

    def paint(axes: Any) -> Sequence[Any]:
        for node in nodes:
            _draw_node(axes, node, lefts, labels[node.prefix])
        axes.set_xlim(-0.08, wide)
        axes.set_ylim(num_leaves - 0.4, -0.6)
        axes.axis("off")
        handles = []
        if any(node.chains > 1 for node in nodes):
            handles.append(mark_handle("o", COLOURS[0], True, "trained once, used by N chains: (x N)", LARGE))
        return [*handles, mark_handle("o", GREY, False, "used by one chain", 4)]

    about = about_chains(document.dataset, document.split, document.num_images, len(document.seeds), document.measure)
    title = f"Chains and the stages that they share: {about}; numbers: {measure_of(document.target)}, %"
    return Chart("tree", title, wide + 0.2, 0.5 + high * num_leaves, paint)


def _lefts(labels: Mapping[Ordering, str]) -> list[float]:
    """Where each column of stages begins, in inches, and behind the last where that ends."""
    widths = [0.0] * (1 + max(map(len, labels)))
    for prefix, label in labels.items():
        widths[len(prefix)] = max(widths[len(prefix)], GAP + width_of(label, SMALL))
    return [float(left) for left in np.cumsum([0.0, *widths])]


def _draw_node(axes: Any, node: Node, lefts: Sequence[float], label: str) -> None:
    """A stage with its name, and the lines to those trained from it."""
    left, is_shared = lefts[len(node.prefix)], node.chains > 1
    if node.children:
        stem = lefts[len(node.prefix) + 1] - 0.14
        axes.plot([left + 0.14 + width_of(label, SMALL), stem], [node.place] * 2, color=GREY, linewidth=THIN)
        ends = [node.children[0].place, node.children[-1].place]
        axes.plot([stem] * 2, [min(node.place, ends[0]), max(node.place, ends[1])], color=GREY, linewidth=THIN)
        for child in node.children:
            axes.plot([stem, lefts[len(child.prefix)]], [child.place] * 2, color=GREY, linewidth=THIN)
    if node.prefix:
        colour = COLOURS[0] if is_shared else GREY
        axes.plot(
            left,
            node.place,
            "o",
            markersize=LARGE if is_shared else 4,
            gid="shared" if is_shared else "once",
            zorder=3,
            color=colour,
            markerfacecolor=colour if is_shared else PAPER,
        )
    else:
        axes.plot(left, node.place, "s", color=INK, gid="shared" if is_shared else "root", zorder=3)
    axes.text(left + 0.1, node.place, label, va="center", fontsize=SMALL, linespacing=1.05)


def _node_text(node: Node, start: str) -> tuple[str, str]:
    name = shortened(node.prefix[-1] if node.prefix else start, 22)
    parts = []
    if node.entry is not None:
        parts.append("failed" if node.entry.mean is None else f"{100 * node.entry.mean:.1f}")
    if node.chains > 1:
        parts.append(f"(x {node.chains})")
    return name, " ".join(parts)
