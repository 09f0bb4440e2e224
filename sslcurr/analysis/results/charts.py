"""Charts of results: one style, PNG and SVG, colours that print in grey and suit the colour-blind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.style import (
    COLOURS,
    DARK,
    DASHES,
    FORMATS,
    LIGHT,
    WIDEST,
    Figure,
    chart,
    entitle,
    legend,
    mark_of,
)
from sslcurr.wording import shortened

HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
# More names than these on an axis are thinned out, more cells than these in a row bear no numbers.
MOST_NAMES, MOST_NUMBERS = 40, 12
# Bars of which the highest is so many times the lowest become points.
RANGE = 30


def draw_lines(
    base: Path,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float] | None, Sequence[float] | None]],
    names: Sequence[str],
    *,
    title: str,
    across: str,
    up: str,
    shares: bool = True,
    formats: Sequence[str] = FORMATS,
) -> Figure:
    """A line for each of `lines`, title -> values and ends of their intervals, over places that have `names`.

    `shares` are at most 1, and their intervals are bands; of other values intervals are whiskers.
    """
    with chart(base, max(4.8, min(WIDEST, 1.5 + 0.32 * len(names))), 3.8, formats) as axes:
        places = np.arange(len(names))
        for number, (label, (values, low, high)) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            # Side by side where there are whiskers, which would hide each other.
            shift = 0.0 if shares else (number - (len(lines) - 1) / 2) * min(0.08, 0.5 / len(lines))
            axes.plot(
                places + shift,
                values,
                color=colour,
                marker=mark_of(number),
                linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
                markersize=4,
                linewidth=1.3,
                label=shortened(label, 60),
            )
            if low is not None and high is not None and shares:
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            elif low is not None and high is not None:
                axes.vlines(places + shift, low, high, color=colour, linewidth=1)
        _name_places(axes.xaxis, names)
        _turn_if_long(axes, names)
        if len(names) == 1:
            axes.set_xlim(-0.5, 0.5)
        if shares:
            finite = [v for values, low, high in lines.values() for each in (values, low, high) for v in each or []]
            finite = [value for value in finite if np.isfinite(value)]
            # From a round tenth below: lines that all lie near 1 are not pressed together.
            axes.set_ylim(np.floor(10 * min([1.0, *finite]) - 0.3) / 10, max([1.02, *finite]))
            bottom = axes.get_ylim()[0]
            up = up if bottom <= 0 else f"{up} (axis from {bottom:.1f})"
        axes.set(xlabel=_thinned(across, names), ylabel=up)
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        entitle(axes.figure, title)
        legend(axes.figure, axes.get_legend_handles_labels()[0])
    return Figure(base, title)


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
    formats: Sequence[str] = FORMATS,
) -> Figure:
    """A heat map of [rows, columns] values from 0 to 1 (or from the lowest, where one is below 0); NaN is white."""
    width = max(4.2, min(WIDEST, 1.8 + 0.3 * len(columns)))
    height = max(3.6, min(10.0, 1.4 + 0.3 * len(rows)))
    with chart(base, width, height, formats) as axes:
        finite = values[np.isfinite(values)]
        lowest = min(0.0, float(finite.min())) if finite.size else 0.0
        texts = None
        if max(len(rows), len(columns)) <= MOST_NUMBERS:
            texts = [["-" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
        heat(
            axes,
            values,
            rows,
            columns,
            low=lowest,
            high=1.0,
            what=what,
            texts=texts,
            across=across,
            down=down,
            text_size=8,
        )
        entitle(axes.figure, title)
    return Figure(base, title)


def heat(
    axes: Any,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    low: float,
    high: float,
    across: str,
    down: str,
    what: str,
    texts: Sequence[Sequence[str]] | None,
    text_size: float,
    colours: str = "cividis",
) -> None:
    """Coloured cells with names at both sides, `texts` in them and a bar that says `what` the colours are."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, aspect="auto")
    _name_places(axes.xaxis, columns)
    _name_places(axes.yaxis, rows)
    _turn_if_long(axes, columns)
    axes.set(xlabel=_thinned(shortened(across, 60), columns), ylabel=_thinned(shortened(down, 50), rows))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    for row, line in enumerate(texts or ()):
        for column, text in enumerate(line):
            value = values[row, column]
            # A cell without a value has no colour of its own: its text has that of all other text.
            ink = "black" if np.isnan(value) else _ink(image.cmap(image.norm(value))[:3])
            axes.text(column, row, text, ha="center", va="center", fontsize=text_size, color=ink)
    axes.figure.colorbar(image, ax=axes, label=what, shrink=0.9)


def _ink(colour: Sequence[float]) -> str:
    """The ink with more contrast, as https://www.w3.org/TR/WCAG22/ defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return DARK if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.19 else LIGHT


def draw_bars(
    base: Path,
    groups: Mapping[str, Mapping[str, tuple[float, float, float] | None]],
    *,
    title: str,
    across: str,
    up: str,
    line: float | None = None,
    line_name: str = "",
    formats: Sequence[str] = FORMATS,
) -> Figure:
    """Bars in groups: group -> name -> value with the lowest and the highest of it; None, but not for all, is no bar.

    Values far apart become points on a logarithmic axis. `line` draws a level to compare with.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    heights = np.array([bar[0] for bars in groups.values() for bar in bars.values() if bar is not None])
    # Over a wide range bars would hide the small ones; a logarithmic bar has no foot, so these are points.
    wide = bool(heights.min() > 0 and heights.max() > RANGE * heights.min())
    slots = len(names) + 1
    width = max(5.2, min(WIDEST, 1.6 + 0.26 * slots * len(groups)))
    with chart(base, width, 3.6, formats) as axes:
        for number, name in enumerate(names):
            found = [(place, bars.get(name)) for place, bars in enumerate(groups.values())]
            kept = [(place, value) for place, value in found if value is not None]
            places = [place + (number - (len(names) - 1) / 2) / slots for place, _ in kept]
            values = np.array([value[0] for _, value in kept])
            ends = np.array([[value[0] - value[1], value[2] - value[0]] for _, value in kept]).reshape(-1, 2).T
            look: dict[str, Any] = {"yerr": np.clip(ends, 0, None), "label": shortened(name)}
            colour = COLOURS[number % len(COLOURS)]
            if wide:
                axes.errorbar(
                    places, values, fmt=mark_of(number), color=colour, markersize=5, elinewidth=1, capsize=2, **look
                )
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
        entitle(axes.figure, title)
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        legend(axes.figure, axes.get_legend_handles_labels()[0])
    return Figure(base, title)


def _thinned(label: str, names: Sequence[str]) -> str:
    """The label of an axis, which says so where not all names are on it."""
    step = -(-len(names) // MOST_NAMES)
    return label if step == 1 else f"{label} (every {'second' if step == 2 else f'{step}th'} is named)"


def _name_places(axis: Any, names: Sequence[str]) -> None:
    step = max(1, -(-len(names) // MOST_NAMES))
    places = list(range(0, len(names), step))
    axis.set_ticks(places, [shortened(names[place], 26) for place in places])
    axis.set_tick_params(labelsize=9 if len(places) <= 16 else 8 if len(places) <= 25 else 6.5)


def _turn_if_long(axes: Any, names: Sequence[str]) -> None:
    if max((len(name) for name in names), default=0) * len(names) > 40:
        _turn_names(axes, 40 if len(names) <= 20 else 90)


def _turn_names(axes: Any, degrees: int) -> None:
    for mark in axes.get_xticklabels():
        mark.set(rotation=degrees, rotation_mode="anchor", ha="right", va="center" if degrees == 90 else "top")


def line_of(
    rows: Sequence[Mapping[str, Any]], name: str, factor: float
) -> tuple[list[float], list[float] | None, list[float] | None]:
    """A value of each row and the ends of its interval, for `draw_lines`; NaN is not drawn."""
    values = [math.nan if row.get(name) is None else factor * row[name] for row in rows]
    ends = [row.get("interval") if row.get(name) is not None else None for row in rows]
    if not any(ends):
        return values, None, None
    low, high = ([factor * end[side] if end else math.nan for end in ends] for side in (0, 1))
    return values, low, high


def distinct(names: Sequence[str]) -> list[str]:
    """Names, numbered where they would be the same in a legend."""
    short = [shortened(name, 60) for name in names]
    return [
        f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name
        for place, name in enumerate(short)
    ]
