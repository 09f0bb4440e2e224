"""Charts of results: one style, PNG and SVG, colours that print in grey and suit the colour-blind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.engine.store import write_whole

# Okabe and Ito's (https://jfly.uni-koeln.de/color/) without their yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sslcurr",
}
# More names than these on an axis are thinned out, more cells than these in a row bear no numbers.
MOST_NAMES, MOST_NUMBERS = 40, 12
# Bars of which the highest is so many times the lowest become points.
RANGE = 30


@contextmanager
def chart(base: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib axes of so many inches; what is drawn on it is written as `base`.png and `base`.svg."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.add_subplot()
        for kind in ("png", "svg"):
            metadata = {"Date": None} if kind == "svg" else {}
            write_whole(
                base.with_name(f"{base.name}.{kind}"),
                lambda path, kind=kind, metadata=metadata: figure.savefig(  # type: ignore[misc]
                    path, format=kind, dpi=200, metadata=metadata
                ),
            )


def draw_lines(
    base: Path,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float] | None, Sequence[float] | None]],
    names: Sequence[str],
    *,
    title: str,
    across: str,
    up: str,
) -> None:
    """A line for each of `lines`, title -> values and ends of their intervals, over places that have `names`."""
    beside = len(lines) > 3  # the legend then needs a room of its own
    with chart(base, max(4.8, min(12.0, 1.5 + 0.32 * len(names))) + (2.8 if beside else 0), 3.8) as axes:
        places = np.arange(len(names))
        for number, (label, (values, low, high)) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(
                places,
                values,
                color=colour,
                marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],  # no colour with the same mark twice
                linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
                markersize=4,
                linewidth=1.3,
                label=shortened(label),
            )
            if low is not None and high is not None:
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        _name_places(axes.xaxis, names)
        _turn_names(axes, 40 if len(names) <= 20 else 90)
        finite = [v for values, low, high in lines.values() for each in (values, low, high) for v in each or []]
        finite = [value for value in finite if np.isfinite(value)]
        # From a round tenth below: lines that all lie near 1 are not pressed together.
        axes.set_ylim(np.floor(10 * min([1.0, *finite]) - 0.3) / 10, max([1.02, *finite]))
        bottom = axes.get_ylim()[0]
        axes.set(xlabel=_thinned(across, names), ylabel=up if bottom <= 0 else f"{up} (axis from {bottom:.1f})")
        axes.set_title(wrapped(title, axes), loc="left")
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        axes.legend(**({"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if beside else {"loc": "best"}))


def draw_matrix(
    base: Path,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    across: str,
    down: str,
    what: str,
) -> None:
    """A heat map of [rows, columns] values from 0 to 1 (or from the lowest, where one is below 0); NaN is white."""
    width = max(4.2, min(11.0, 1.8 + 0.3 * len(columns)))
    height = max(3.6, min(10.0, 1.4 + 0.3 * len(rows)))
    with chart(base, width, height) as axes:
        finite = values[np.isfinite(values)]
        lowest = min(0.0, float(finite.min())) if finite.size else 0.0
        image = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=lowest, vmax=1.0, aspect="auto")
        _name_places(axes.xaxis, columns)
        _name_places(axes.yaxis, rows)
        _turn_names(axes, 40 if len(columns) <= 20 else 90)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if max(len(rows), len(columns)) <= MOST_NUMBERS:
            for (row, column), value in np.ndenumerate(values):
                text, colour = "-", (1.0, 1.0, 1.0)
                if not np.isnan(value):
                    text, colour = f"{value:.2f}", image.cmap(image.norm(value))[:3]
                light = float(np.dot(colour, (0.299, 0.587, 0.114))) > 0.45
                ink = "black" if light else "white"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        axes.set(xlabel=_thinned(shortened(across, 60), columns), ylabel=_thinned(shortened(down, 50), rows))
        axes.set_title(wrapped(title, axes), loc="left")
        axes.figure.colorbar(image, ax=axes, label=what, shrink=0.9)


def draw_bars(
    base: Path,
    groups: Mapping[str, Mapping[str, tuple[float, float, float] | None]],
    *,
    title: str,
    across: str,
    up: str,
    line: float | None = None,
    line_name: str = "",
) -> None:
    """Bars in groups: group -> name -> value with the lowest and the highest of it; None, but not for all, is no bar.

    Values far apart become points on a logarithmic axis. `line` draws a level to compare with.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    heights = np.array([bar[0] for bars in groups.values() for bar in bars.values() if bar is not None])
    # Over a wide range bars would hide the small ones; a logarithmic bar has no foot, so these are points.
    wide = bool(heights.min() > 0 and heights.max() > RANGE * heights.min())
    slots = len(names) + 1
    with chart(base, max(5.2, min(13.0, 1.6 + 0.26 * slots * len(groups))), 3.8) as axes:
        for number, name in enumerate(names):
            found = [(place, bars.get(name)) for place, bars in enumerate(groups.values())]
            kept = [(place, value) for place, value in found if value is not None]
            places = [place + (number - (len(names) - 1) / 2) / slots for place, _ in kept]
            values = np.array([value[0] for _, value in kept])
            ends = np.array([[value[0] - value[1], value[2] - value[0]] for _, value in kept]).reshape(-1, 2).T
            look: dict[str, Any] = {"yerr": np.clip(ends, 0, None), "label": shortened(name)}
            colour = COLOURS[number % len(COLOURS)]
            if wide:
                marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
                axes.errorbar(places, values, fmt=marker, color=colour, markersize=5, elinewidth=1, capsize=2, **look)
            else:
                axes.bar(
                    places,
                    values,
                    width=1 / slots,
                    error_kw={"linewidth": 0.8, "capsize": 2},
                    color=colour,
                    hatch=HATCHES[number // len(COLOURS) % len(HATCHES)],
                    edgecolor="white",
                    linewidth=0.5,
                    **look,
                )
        if line is not None:
            axes.axhline(line, color="black", linestyle=":", linewidth=1, label=line_name or None)
        if wide:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            for place in range(1, len(groups)):
                axes.axvline(place - 0.5, color="0.85", linewidth=0.6)
        _name_places(axes.xaxis, list(groups))
        axes.set_xlim(-0.5, len(groups) - 0.5)
        if len(groups) > 3:
            _turn_names(axes, 25)
        axes.set(xlabel=across, ylabel=f"{up} (logarithmic)" if wide else up)
        axes.set_title(wrapped(title, axes), loc="left")
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def _thinned(label: str, names: Sequence[str]) -> str:
    """The label of an axis, which says so where not all names are on it."""
    step = -(-len(names) // MOST_NAMES)
    return label if step == 1 else f"{label} (every {'second' if step == 2 else f'{step}th'} is named)"


def _name_places(axis: Any, names: Sequence[str]) -> None:
    step = -(-len(names) // MOST_NAMES)
    places = list(range(0, len(names), step))
    axis.set_ticks(places, [shortened(names[place], 26) for place in places])
    axis.set_tick_params(labelsize=8 if len(places) <= 25 else 6.5)


def _turn_names(axes: Any, degrees: int) -> None:
    for mark in axes.get_xticklabels():
        mark.set(rotation=degrees, rotation_mode="anchor", ha="right", va="center" if degrees == 90 else "top")


def shortened(text: str, most: int = 40) -> str:
    """A name that fits: its end is left out where it does not."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def wrapped(text: str, axes: Any) -> str:
    """A title in lines that fit the figure."""
    return "\n".join(textwrap.wrap(text, max(30, int(11.5 * (axes.figure.get_size_inches()[0] - 0.7)))))
