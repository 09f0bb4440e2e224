"""The tree of stages that chains share, as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.results.ranking.style import about_document, mark_handle
from sslcurr.analysis.results.style import COLOURS, GREY, WIDEST, Figure, chart, entitle, legend
from sslcurr.wording import shortened

# A block of orderings shows so many rows: its curricula, and the best of the others. Wider trees are not drawn.
MOST_LEAVES = 200


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
    title = f"Chains and the stages that they share: {about_document(document)}; numbers are balanced accuracies, %"
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
            handles.append(mark_handle("o", COLOURS[0], True, "trained once, used by N chains: (x N)", 6))
        handles.append(mark_handle("o", GREY, False, "used by one chain", 4))
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
