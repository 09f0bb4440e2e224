"""Charts of results: one style, PNG and SVG, colours that print in grey and suit the colour-blind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.estimate import Interval
from sslcurr.analysis.results.style import COLOURS, DARK, DASHES, LIGHT, WIDEST, Chart, mark_of
from sslcurr.wording import shortened

HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
# More names than these on an axis are thinned out, more cells than these in a row bear no numbers.
MOST_NAMES, MOST_NUMBERS = 40, 12
# Bars of which the highest is so many times the lowest become points.
RANGE = 30


class Line(NamedTuple):
    """Values at places, NaN where there is none, and the ends of their intervals, where these are known."""

    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Bar(NamedTuple):
    """A value and the ends of its whisker."""

    value: float
    low: float
    high: float


def line_chart(
    name: str,
    lines: Mapping[str, Line],
    places: Sequence[str],
    *,
    title: str,
    across: str,
    up: str,
    shares: bool = True,
) -> Chart:
    """A line for each of `lines`, by its title, over `places` that have names.

    `shares` are at most 1, and their intervals are bands; of other values intervals are whiskers.
    """

    def paint(axes: Any) -> Sequence[Any]:
        for number, (label, line) in enumerate(lines.items()):
            # Side by side where there are whiskers, which would hide each other.
            shift = 0.0 if shares else (number - (len(lines) - 1) / 2) * min(0.08, 0.5 / len(lines))
            _draw_line(axes, line, number, label, shift, bands=shares)
        _name_places(axes.xaxis, places)
        _turn_if_long(axes, places)
        if len(places) == 1:
            axes.set_xlim(-0.5, 0.5)
        what = up
        if shares:
            finite = [v for line in lines.values() for each in line for v in each or [] if np.isfinite(v)]
            # From a round tenth below: lines that all lie near 1 are not pressed together.
            axes.set_ylim(np.floor(10 * min([1.0, *finite]) - 0.3) / 10, max([1.02, *finite]))
            bottom = axes.get_ylim()[0]
            what = up if bottom <= 0 else f"{up} (axis from {bottom:.1f})"
        axes.set(xlabel=_thinned(across, places), ylabel=what)
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        return labelled(axes)

    return Chart(name, title, max(4.8, min(WIDEST, 1.5 + 0.32 * len(places))), 3.8, paint)


def _draw_line(axes: Any, line: Line, number: int, label: str, shift: float, *, bands: bool) -> None:
    """One of several lines, moved to the right by `shift` places."""
    places, colour = np.arange(len(line.values)), COLOURS[number % len(COLOURS)]
    axes.plot(
        places + shift,
        line.values,
        color=colour,
        marker=mark_of(number),
        linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
        markersize=4,
        linewidth=1.3,
        label=shortened(label, 60),
    )
    if line.low is not None and line.high is not None and bands:
        axes.fill_between(places, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    elif line.low is not None and line.high is not None:
        axes.vlines(places + shift, line.low, line.high, color=colour, linewidth=1)


def matrix_chart(
    name: str,
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    across: str,
    down: str,
    what: str,
) -> Chart:
    """A heat map of [rows, columns] values from 0 to 1 (or from the lowest, where one is below 0); NaN is white."""
    finite = values[np.isfinite(values)]
    lowest = min(0.0, float(finite.min())) if finite.size else 0.0
    texts = None
    if max(len(rows), len(columns)) <= MOST_NUMBERS:
        texts = [["-" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]

    def paint(axes: Any) -> Sequence[Any]:
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
        return ()

    width = max(4.2, min(WIDEST, 1.8 + 0.3 * len(columns)))
    return Chart(name, title, width, max(3.6, min(10.0, 1.4 + 0.3 * len(rows))), paint)


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


def bar_chart(
    name: str,
    groups: Mapping[str, Mapping[str, Bar | None]],
    *,
    title: str,
    across: str,
    up: str,
    line: float | None = None,
    line_name: str = "",
) -> Chart:
    """Bars in groups: group -> title -> bar; None, but not for all, is no bar.

    Values far apart become points on a logarithmic axis. `line` draws a level to compare with.
    """
    titles = list(dict.fromkeys(each for bars in groups.values() for each in bars))
    heights = np.array([bar.value for bars in groups.values() for bar in bars.values() if bar is not None])
    # Over a wide range bars would hide the small ones; a logarithmic bar has no foot, so these are points.
    wide = bool(heights.min() > 0 and heights.max() > RANGE * heights.min())
    slots = len(titles) + 1

    def paint(axes: Any) -> Sequence[Any]:
        for number, label in enumerate(titles):
            shift = (number - (len(titles) - 1) / 2) / slots
            bars = {place + shift: by_title.get(label) for place, by_title in enumerate(groups.values())}
            drawn = {place: bar for place, bar in bars.items() if bar is not None}
            _draw_bars(axes, drawn, number, label, None if wide else 1 / slots)
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
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        return labelled(axes)

    return Chart(name, title, max(5.2, min(WIDEST, 1.6 + 0.26 * slots * len(groups))), 3.6, paint)


def _draw_bars(axes: Any, bars: Mapping[float, Bar], number: int, label: str, width: float | None) -> None:
    """Bars of one colour by their places; points where `width` is None."""
    places, colour = list(bars), COLOURS[number % len(COLOURS)]
    values = np.array([bar.value for bar in bars.values()])
    ends = np.array([[bar.value - bar.low, bar.high - bar.value] for bar in bars.values()]).reshape(-1, 2).T
    whiskers, name = np.clip(ends, 0, None), shortened(label)
    if width is None:
        axes.errorbar(
            places,
            values,
            yerr=whiskers,
            label=name,
            fmt=mark_of(number),
            color=colour,
            markersize=5,
            elinewidth=1,
            capsize=2,
        )
        return
    axes.bar(
        places,
        values,
        yerr=whiskers,
        label=name,
        width=width,
        error_kw={"linewidth": 0.8, "capsize": 2},
        color=colour,
        hatch=HATCHES[number // len(COLOURS) % len(HATCHES)],
        edgecolor="white",
        linewidth=0.5,
    )


def labelled(axes: Any) -> list[Any]:
    """The artists of the axes that have a label, for the legend."""
    artists: list[Any] = axes.get_legend_handles_labels()[0]
    return artists


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


def line_of(values: Sequence[float | None], intervals: Sequence[Interval | None], factor: float = 1.0) -> Line:
    """Values and the ends of their intervals as a line of a chart; None is not drawn."""
    scaled = [math.nan if value is None else factor * value for value in values]
    if not any(intervals):
        return Line(scaled)
    ends = [(math.nan, math.nan) if ends is None else (factor * ends[0], factor * ends[1]) for ends in intervals]
    return Line(scaled, [low for low, _ in ends], [high for _, high in ends])


def distinct(names: Sequence[str]) -> list[str]:
    """Names, numbered where they would be the same in a legend."""
    short = [shortened(name, 60) for name in names]
    return [
        f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name
        for place, name in enumerate(short)
    ]
