"""Charts of attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sslcurr.analysis.results.charts import distinct
from sslcurr.analysis.results.style import COLOURS, GREY, Figure, Formats, chart, entitle, legend, mark_of, percent
from sslcurr.wording import shortened


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    from matplotlib.lines import Line2D

    chains = [chain for chain in document["chains"] if (chain.get("attention") or {}).get("mean") is not None]
    if not chains:
        return []
    classes = list(dict.fromkeys(name for chain in chains for name in chain["classes"]))
    rows: list[str | None] = [None, *classes]  # all images first
    title = (
        f"Attention ({document['method']}, {document['layer']}) in the marked region: {document['num_images']} "
        f"{'' if document['split'] == 'all' else document['split'] + ' '}images of {document['dataset']}"
    )
    base = folder / "attention"
    if len(chains) > len(COLOURS):
        return [_attention_of_many(base, chains, title, formats)]
    step = 0.8 / len(chains)
    with chart(base, 6.0, 1.0 + len(rows) * (0.16 + 0.13 * len(chains)), formats) as axes:
        covered = False
        for number, chain in enumerate(chains):
            colour, marker = COLOURS[number % len(COLOURS)], mark_of(number)
            for row, name in enumerate(rows):
                place = row + (number - (len(chains) - 1) / 2) * step
                entry = chain["classes"].get(name) if name is not None else None
                value, interval, coverage = (
                    (chain["attention"]["mean"], chain["attention"].get("interval"), chain.get("coverage"))
                    if name is None
                    else (None, None, None)
                    if entry is None
                    else (entry["attention"], entry.get("interval"), entry.get("coverage"))
                )
                if interval is not None:
                    axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=colour, linewidth=1.2)
                if value is not None:
                    axes.plot(percent(value), place, marker, markersize=5, color=colour, gid="attention")
                if coverage is not None:
                    covered = True
                    ends = [place - step / 2, place + step / 2]
                    axes.plot([percent(coverage)] * 2, ends, color="black", linewidth=1.6, gid="coverage")
        for row in range(1, len(rows)):
            axes.axhline(row - 0.5, color="0.7" if row == 1 else "0.9", linewidth=0.8)
        counts = {name: entry.get("num_images") for chain in chains for name, entry in chain["classes"].items()}
        labels = [
            "all images" if name is None else shortened(name, 26) + (f" ({counts[name]})" if counts[name] else "")
            for name in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel="attention in the region, %")
        named = distinct([chain["chain"] for chain in chains])
        whiskers = any(chain["attention"].get("interval") for chain in chains)
        handles = [
            Line2D(
                [], [], color=COLOURS[n % len(COLOURS)], marker=mark_of(n), linestyle="-" if whiskers else "", label=t
            )
            for n, t in enumerate(named)
        ]
        if covered:
            mark: Any = {"marker": "|", "markersize": 10, "markeredgewidth": 1.6, "linestyle": "", "color": "black"}
            handles.append(Line2D([], [], label="share of the image in the region", **mark))
        entitle(axes.figure, title)
        legend(axes.figure, handles)
    return [Figure(base, title)]


def _attention_of_many(base: Path, chains: Sequence[Mapping[str, Any]], title: str, formats: Formats) -> Figure:
    """A row a chain, over all images: more chains than there are colours cannot be told apart class by class."""
    from matplotlib.lines import Line2D

    title = f"{title}; by class: --json"
    names = distinct([chain["chain"].removesuffix(" -> classification") for chain in chains])
    with chart(base, 6.6, 1.2 + 0.19 * len(chains), formats) as axes:
        for place, chain in enumerate(chains):
            interval = chain["attention"].get("interval")
            if interval is not None:
                axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=GREY, linewidth=1.2)
            axes.plot(percent(chain["attention"]["mean"]), place, "o", markersize=5, color=COLOURS[0], gid="attention")
            if chain.get("coverage") is not None:
                ends = [place - 0.5, place + 0.5]
                axes.plot([percent(chain["coverage"])] * 2, ends, color="black", linewidth=1.4, gid="coverage")
        axes.set_yticks(range(len(names)), [shortened(name.replace(" -> ", " → "), 60) for name in names], fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel="attention in the region, %")
        entitle(axes.figure, title)
        whiskers = any(chain["attention"].get("interval") for chain in chains)
        handles = [
            Line2D([], [], color=COLOURS[0], marker="o", linestyle="", label="mean over images and seeds"),
            *([Line2D([], [], color=GREY, label="95 % interval")] if whiskers else []),
            Line2D([], [], color="black", linewidth=1.4, label="share of the image in the region"),
        ]
        legend(axes.figure, handles)
    return Figure(base, title)
