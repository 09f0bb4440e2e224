"""Charts of attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sslcurr.analysis.results.attention.document import AttentionDocument, ChainAttention, ClassAttention
from sslcurr.analysis.results.charts import MOST_ROWS, distinct, draw_whisker, interval_handle, name_rows, rows_of
from sslcurr.analysis.results.estimate import Interval
from sslcurr.analysis.results.style import (
    COLOURS,
    FAINT,
    INK,
    LINE,
    THIN,
    Chart,
    colour_of,
    line_handle,
    mark_handle,
    mark_of,
    percent,
)
from sslcurr.wording import images_of, shortened

# Marks that a chart by class has at most: there are fewer classes where there are more chains.
MOST_MARKS = 120
METHODS = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "eigencam": "EigenCAM"}
LABEL = "attention in the region, %"
AREA_SHARE = "share of the image in the region"


def charts(document: AttentionDocument) -> Iterator[Chart]:
    """The attention over all images and by class, beside the share that the masks cover."""
    chains = [chain for chain in document.chains if chain.attention.mean is not None]
    if not chains:
        return
    title = (
        f"Attention in the marked region: {document.dataset}, {images_of(document.num_images, document.split)}, "
        f"{METHODS.get(document.method, document.method)} of {document.layer}"
    )
    yield _of_many(chains, title) if len(chains) > len(COLOURS) else _by_class(chains, title)


def _by_class(chains: Sequence[ChainAttention], title: str) -> Chart:
    """A row for all images and one for each class, in each a mark for each chain."""
    counts = {name: members.num_images for chain in chains for name, members in chain.classes.items()}
    most = MOST_MARKS // len(chains) - 1
    largest = sorted(counts, key=lambda name: -counts[name])[:most]
    names = [name for name in counts if name in largest]
    if len(names) < len(counts):
        title += f"; the {len(names)} largest of {len(counts)} classes"
    step = 0.8 / len(chains)
    labels = ["all images", *(shortened(name, 26) + (f" ({counts[name]:,})" if counts[name] else "") for name in names)]
    rows = rows_of(labels)

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
            axes.axhline(row - 0.5, color=FAINT, linewidth=LINE if row == 1 else THIN, alpha=1 if row == 1 else 0.4)
        name_rows(axes, rows)
        axes.set_ylim(len(names) + 0.5, -0.5)
        axes.set(xlabel=LABEL)
        return _handles(chains, covered)

    return Chart("attention", title, 6.0, 1.0 + len(labels) * (0.16 + 0.13 * len(chains)), paint)


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
    colour = colour_of(number)
    draw_whisker(axes, place, interval, colour)
    if value is not None:
        axes.plot(percent(value), place, mark_of(number), color=colour, gid="attention")
    return _draw_coverage(axes, place, step, shown)


def _draw_coverage(axes: Any, place: float, high: float, shown: ChainAttention | ClassAttention) -> bool:
    """A line across a row at the share that the masks cover, where that is known."""
    if shown.coverage is None:
        return False
    ends = [place - high / 2, place + high / 2]
    axes.plot([percent(shown.coverage)] * 2, ends, color=INK, gid="coverage")
    return True


def _handles(chains: Sequence[ChainAttention], covered: bool) -> list[Any]:
    handles = [
        mark_handle(mark_of(number), colour_of(number), True, title) for number, title in enumerate(_titles(chains))
    ]
    members = [each for chain in chains for each in chain.classes.values()]
    if any(chain.attention.interval for chain in chains) or any(each.interval for each in members):
        handles.append(interval_handle())
    if covered:
        handles.append(mark_handle("|", INK, True, AREA_SHARE, 10))
    return handles


def _of_many(chains: Sequence[ChainAttention], title: str) -> Chart:
    """A row a chain, over all images: more chains than there are colours cannot be told apart class by class."""
    if len(chains) > MOST_ROWS:
        title += f"; the {MOST_ROWS} of {len(chains)} chains with the most"
        least = sorted((chain.attention.mean or 0.0 for chain in chains), reverse=True)[MOST_ROWS - 1]
        chains = [chain for chain in chains if (chain.attention.mean or 0.0) >= least][:MOST_ROWS]
    rows = rows_of(_titles(chains), few=0)

    def paint(axes: Any) -> Sequence[Any]:
        covered = False
        for place, chain in zip(rows.places, chains, strict=True):
            draw_whisker(axes, place, chain.attention.interval)
            axes.plot(percent(chain.attention.mean), place, "o", color=COLOURS[0], gid="attention")
            covered |= _draw_coverage(axes, place, 1.0, chain)
        name_rows(axes, rows)
        axes.set(xlabel=LABEL)
        whiskers = any(chain.attention.interval for chain in chains)
        return [
            mark_handle("o", COLOURS[0], True, "mean over images and seeds"),
            *([interval_handle()] if whiskers else []),
            *([line_handle(INK, AREA_SHARE)] if covered else []),
        ]

    return Chart("attention", title, 6.6, 1.2 + rows.inches, paint)


def _titles(chains: Sequence[ChainAttention]) -> list[str]:
    """What was trained before the classification, which all have."""
    names = [chain.chain.removesuffix(" -> classification").replace(" -> ", " → ") for chain in chains]
    return distinct(["classification alone" if name == "classification" else name for name in names], most=120)
