"""Charts of attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sslcurr.analysis.results.attention.document import AttentionDocument, ChainAttention, ClassAttention
from sslcurr.analysis.results.charts import distinct
from sslcurr.analysis.results.estimate import Interval
from sslcurr.analysis.results.style import COLOURS, GREY, Chart, mark_of, percent
from sslcurr.wording import shortened

LABEL = "attention in the region, %"
AREA_SHARE = "share of the image in the region"


def charts(document: AttentionDocument) -> Iterator[Chart]:
    """The attention over all images and by class, beside the share that the masks cover."""
    chains = [chain for chain in document.chains if chain.attention.mean is not None]
    if not chains:
        return
    title = (
        f"Attention ({document.method}, {document.layer}) in the marked region: {document.num_images} "
        f"{'' if document.split == 'all' else document.split + ' '}images of {document.dataset}"
    )
    yield _of_many(chains, title) if len(chains) > len(COLOURS) else _by_class(chains, title)


def _by_class(chains: Sequence[ChainAttention], title: str) -> Chart:
    """A row for all images and one for each class, in each a mark for each chain."""
    names = list(dict.fromkeys(name for chain in chains for name in chain.classes))
    step = 0.8 / len(chains)

    def paint(axes: Any) -> Sequence[Any]:
        covered = False
        for number, chain in enumerate(chains):
            shift = (number - (len(chains) - 1) / 2) * step
            covered |= _draw_row(axes, number, shift, step, chain.attention.mean, chain.attention.interval, chain)
            for row, name in enumerate(names, start=1):
                members = chain.classes.get(name)
                if members is not None:
                    place = row + shift
                    covered |= _draw_row(axes, number, place, step, members.attention, members.interval, members)
        for row in range(1, len(names) + 1):
            axes.axhline(row - 0.5, color="0.7" if row == 1 else "0.9", linewidth=0.8)
        axes.set_yticks(range(len(names) + 1), ["all images", *_labels(chains, names)])
        axes.set_ylim(len(names) + 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel=LABEL)
        return _handles(chains, covered)

    return Chart("attention", title, 6.0, 1.0 + (1 + len(names)) * (0.16 + 0.13 * len(chains)), paint)


def _draw_row(
    axes: Any,
    number: int,
    place: float,
    step: float,
    value: float | None,
    interval: Interval | None,
    shown: ChainAttention | ClassAttention,
) -> bool:
    """The mark of one chain in one row; gives whether the share that the masks cover is drawn."""
    colour = COLOURS[number % len(COLOURS)]
    if interval is not None:
        axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=colour, linewidth=1.2)
    if value is not None:
        axes.plot(percent(value), place, mark_of(number), markersize=5, color=colour, gid="attention")
    if shown.coverage is None:
        return False
    ends = [place - step / 2, place + step / 2]
    axes.plot([percent(shown.coverage)] * 2, ends, color="black", linewidth=1.6, gid="coverage")
    return True


def _labels(chains: Sequence[ChainAttention], names: Sequence[str]) -> list[str]:
    counts = {name: members.num_images for chain in chains for name, members in chain.classes.items()}
    return [shortened(name, 26) + (f" ({counts[name]})" if counts[name] else "") for name in names]


def _handles(chains: Sequence[ChainAttention], covered: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    style: Any = {"linestyle": "-" if any(chain.attention.interval for chain in chains) else ""}
    handles = [
        Line2D([], [], color=COLOURS[n % len(COLOURS)], marker=mark_of(n), label=title, **style)
        for n, title in enumerate(distinct([chain.chain for chain in chains]))
    ]
    if covered:
        mark: Any = {"marker": "|", "markersize": 10, "markeredgewidth": 1.6, "linestyle": "", "color": "black"}
        handles.append(Line2D([], [], label=AREA_SHARE, **mark))
    return handles


def _of_many(chains: Sequence[ChainAttention], title: str) -> Chart:
    """A row a chain, over all images: more chains than there are colours cannot be told apart class by class."""
    names = [shortened(name.replace(" -> ", " → "), 60) for name in _titles(chains)]

    def paint(axes: Any) -> Sequence[Any]:
        from matplotlib.lines import Line2D

        for place, chain in enumerate(chains):
            interval = chain.attention.interval
            if interval is not None:
                axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=GREY, linewidth=1.2)
            axes.plot(percent(chain.attention.mean), place, "o", markersize=5, color=COLOURS[0], gid="attention")
            ends = [place - 0.5, place + 0.5]
            axes.plot([percent(chain.coverage)] * 2, ends, color="black", linewidth=1.4, gid="coverage")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel=LABEL)
        whiskers = any(chain.attention.interval for chain in chains)
        return [
            Line2D([], [], color=COLOURS[0], marker="o", linestyle="", label="mean over images and seeds"),
            *([Line2D([], [], color=GREY, label="95 % interval")] if whiskers else []),
            Line2D([], [], color="black", linewidth=1.4, label=AREA_SHARE),
        ]

    return Chart("attention", f"{title}; by class: --json", 6.6, 1.2 + 0.19 * len(chains), paint)


def _titles(chains: Sequence[ChainAttention]) -> list[str]:
    return distinct([chain.chain.removesuffix(" -> classification") for chain in chains])
