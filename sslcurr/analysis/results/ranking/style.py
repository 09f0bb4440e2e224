"""What the charts of rankings and searches share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.estimate import Interval, measure_of
from sslcurr.wording import counted, shortened

MEASURES = {"finetune": "fine-tuned", "linear": "linear probe", "knn": "nearest neighbours"}


def joined_tasks(ordering: Sequence[str]) -> str:
    """Tasks in their order, shortened."""
    return " → ".join(shortened(task, 24) for task in ordering) or "-"


def about_chains(dataset: str, split: str, num_images: int | None, num_seeds: int, measure: str) -> str:
    """The data set, images, seeds and measure in a line."""
    parts = [dataset, counted(num_seeds, "seed"), MEASURES.get(measure, measure)]
    if num_images is not None:
        parts.insert(1, f"{num_images} {split} images")
    return ", ".join(parts)


def accuracy_label(split: str, target: str | UnsetType) -> str:
    """The label of an axis of the main measure."""
    return f"{measure_of(target)} on {split} images, %"


def draw_whisker(axes: Any, place: float, interval: Interval | None) -> None:
    """Draw an interval of shares, if there is one."""
    if interval is not None:
        low, high = interval
        axes.plot([100 * low, 100 * high], [place] * 2, color="0.45", linewidth=1.2, zorder=1.5, gid="interval")


def name_rows(axes: Any, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Names of rows, the first on top."""
    at = list(range(len(names))) if places is None else list(places)
    axes.set_yticks(at, list(names))
    axes.set_ylim(at[-1] + 0.6, at[0] - 0.6)
    axes.grid(axis="x", linewidth=0.5, alpha=0.5)


def mark_handle(marker: str, colour: str, filled: bool, label: str, size: float = 5) -> Any:
    """An entry of a legend: a marker with its name."""
    from matplotlib.lines import Line2D

    face = colour if filled else "white" if size < 9 else "none"
    return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="", markersize=size, label=label)
