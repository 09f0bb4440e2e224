"""Forms that charts of results share: lines, bars, heat maps, and rows of marks with their intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.estimate import INTERVAL, Interval
from sslcurr.analysis.results.style import (
    DARK,
    FAINT,
    GREY,
    INK,
    LARGE,
    LEAST,
    LIGHT,
    LINE,
    MARK,
    SMALL,
    TEXT,
    THIN,
    TINY,
    WIDEST,
    Chart,
    colour_of,
    cut,
    dash_of,
    hatch_of,
    heat_colours,
    labelled,
    line_handle,
    logarithmic,
    mark_of,
    percent,
    width_of,
)
from sslcurr.wording import shortened

# More names than these on an axis are thinned out, more cells than these in a row bear no numbers.
MOST_NAMES, MOST_NUMBERS = 40, 12
# More lines than these would be a tangle: they become rows of a heat map, which has at most so many rows.
MOST_LINES, MOST_ROWS = 7, 60
# More rows of marks than these are small ones.
FEW_ROWS = 12
# Inches that names of rows take at most.
NAME_WIDTH = 2.5
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


# ---- lines


def line_chart(
    name: str,
    lines: Mapping[str, Line],
    places: Sequence[str],
    *,
    title: str,
    across: str,
    up: str,
    shares: bool = True,
    interval: str = INTERVAL,
) -> Chart:
    """A line for each of `lines`, by its title, over `places` that have names; a heat map of more than `MOST_LINES`.

    `shares` are at most 1, and their intervals are bands; of other values intervals are whiskers, which `interval`
    names.
    """
    if len(lines) > MOST_LINES:
        return _heat_of_lines(name, lines, places, title, across, up, shares=shares)

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
        axes.grid(axis="y")
        return [*labelled(axes), *_interval_handles(any(line.low for line in lines.values()), interval, band=shares)]

    return Chart(name, title, max(4.8, min(WIDEST, 1.5 + 0.32 * len(places))), 3.8, paint)


def _draw_line(axes: Any, line: Line, number: int, label: str, shift: float, *, bands: bool) -> None:
    """One of several lines, moved to the right by `shift` places."""
    places, colour = np.arange(len(line.values)), colour_of(number)
    axes.plot(
        places + shift,
        line.values,
        color=colour,
        marker=mark_of(number),
        linestyle=dash_of(number),
        label=shortened(label, 60),
    )
    if line.low is not None and line.high is not None and bands:
        axes.fill_between(places, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    elif line.low is not None and line.high is not None:
        axes.vlines(places + shift, line.low, line.high, color=colour, linewidth=THIN)


def _interval_handles(known: bool, label: str, *, band: bool) -> list[Any]:
    """What bands or whiskers are, where there are any."""
    from matplotlib.patches import Patch

    if not known:
        return []
    return [Patch(color=GREY, alpha=0.3, linewidth=0, label=label) if band else line_handle(GREY, label, width=THIN)]


def line_of(values: Sequence[float | None], intervals: Sequence[Interval | None], factor: float = 1.0) -> Line:
    """Values and the ends of their intervals as a line of a chart; None is not drawn."""
    scaled = [math.nan if value is None else factor * value for value in values]
    if not any(intervals):
        return Line(scaled)
    ends = [(math.nan, math.nan) if ends is None else (factor * ends[0], factor * ends[1]) for ends in intervals]
    return Line(scaled, [low for low, _ in ends], [high for _, high in ends])


# ---- heat maps


def _heat_of_lines(
    name: str,
    lines: Mapping[str, Line],
    places: Sequence[str],
    title: str,
    across: str,
    up: str,
    *,
    shares: bool,
) -> Chart:
    """A row for each of many lines, the one that is highest at the first place on top."""
    first = {label: -line.values[0] if np.isfinite(line.values[0]) else math.inf for label, line in lines.items()}
    ordered = sorted(lines, key=lambda label: first[label])
    kept = ordered[:MOST_ROWS]
    if len(kept) < len(ordered):
        title += f"; {len(ordered) - len(kept)} lower ones are left out"
    values = np.array([lines[label].values for label in kept], dtype=float)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if shares:
        low, high = min(low, 0.0), max(high, 1.0)
    form = ".2f" if shares else ".1f"
    texts = None
    if len(places) <= MOST_NUMBERS:
        texts = [["-" if np.isnan(value) else format(value, form) for value in line] for line in values]
    names = row_names(kept, SMALL)

    def paint(axes: Any) -> Sequence[Any]:
        heat(
            axes,
            values,
            names,
            places,
            low=low,
            high=high if high > low else low + 1,
            what=up,
            texts=texts,
            across=across,
            down="",
            text_size=SMALL,
        )
        # All rows are named: of names that were cut, orderings of the same tasks would look alike.
        axes.set_yticks(range(len(kept)), names, fontsize=SMALL)
        return ()

    named = 0.4 + max(width_of(each, SMALL) for each in names)
    lines_of_row = max(1 + each.count("\n") for each in names)
    width = max(5.6, min(WIDEST, named + 1.6 + 0.6 * len(places)))
    return Chart(name, title, width, 1.4 + (0.09 + 0.13 * lines_of_row) * len(kept), paint)


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
            text_size=SMALL,
        )
        return ()

    width = max(4.2, min(WIDEST, 1.8 + 0.36 * len(columns)))
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
) -> None:
    """Coloured cells with names at both sides, `texts` in them and a bar that says `what` the colours are."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap=heat_colours(), vmin=low, vmax=high, aspect="auto")
    _name_places(axes.xaxis, columns)
    _name_places(axes.yaxis, rows)
    _turn_if_long(axes, columns)
    axes.set(xlabel=_thinned(shortened(across, 80), columns), ylabel=_thinned(shortened(down, 80), rows))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    for row, line in enumerate(texts or ()):
        for column, text in enumerate(line):
            value = values[row, column]
            # A cell without a value has no colour of its own: its text has that of all other text.
            ink = INK if np.isnan(value) else _ink(image.cmap(image.norm(value))[:3])
            axes.text(column, row, text, ha="center", va="center", fontsize=text_size, color=ink)
    axes.figure.colorbar(image, ax=axes, label=what, shrink=0.9)


def size_in(width: float, letters: int) -> float:
    """The largest size at which so many digits fit a cell of so many inches."""
    sizes = (TEXT, SMALL, TINY, LEAST)
    return next((size for size in sizes if 0.72 * size / 72 * letters <= width), 0.0)


def _ink(colour: Sequence[float]) -> str:
    """The ink with more contrast, as https://www.w3.org/TR/WCAG22/ defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return DARK if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.19 else LIGHT


# ---- bars


def bar_chart(
    name: str,
    groups: Mapping[str, Mapping[str, Bar | None]],
    *,
    title: str,
    across: str,
    up: str,
    whisker: str,
    line: float | None = None,
    line_name: str = "",
) -> Chart:
    """Bars in groups: group -> title -> bar; None, but not for all, is no bar.

    Values far apart become points on a logarithmic axis. `whisker` says what the whiskers are, `line` draws a level to
    compare with.
    """
    titles = list(dict.fromkeys(each for bars in groups.values() for each, bar in bars.items() if bar is not None))
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
        handles = [*labelled(axes), line_handle(INK, whisker, width=THIN)]
        if line is not None:
            axes.axhline(line, color=INK, linestyle=":", linewidth=THIN)
            handles.append(line_handle(INK, line_name, ":", THIN))
        if wide:
            logarithmic(axes.yaxis)
            for place in range(1, len(groups)):
                axes.axvline(place - 0.5, color=FAINT, linewidth=THIN)
        _name_places(axes.xaxis, list(groups))
        axes.set_xlim(-0.5, len(groups) - 0.5)
        if len(groups) > 3:
            _turn_if_long(axes, list(groups))
        axes.set(xlabel=_thinned(across, list(groups)), ylabel=f"{up} (logarithmic)" if wide else up)
        axes.grid(axis="y")
        return handles

    return Chart(name, title, max(5.2, min(WIDEST, 1.6 + 0.26 * slots * len(groups))), 3.6, paint)


def _draw_bars(axes: Any, bars: Mapping[float, Bar], number: int, label: str, width: float | None) -> None:
    """Bars of one colour by their places; points where `width` is None."""
    places, colour = list(bars), colour_of(number)
    values = np.array([bar.value for bar in bars.values()])
    ends = np.array([[bar.value - bar.low, bar.high - bar.value] for bar in bars.values()]).reshape(-1, 2).T
    whiskers, name = np.clip(ends, 0, None), shortened(label)
    if width is None:
        axes.errorbar(places, values, yerr=whiskers, label=name, fmt=mark_of(number), color=colour, elinewidth=THIN)
        return
    axes.bar(
        places,
        values,
        yerr=whiskers,
        label=name,
        width=width,
        error_kw={"linewidth": THIN},
        color=colour,
        hatch=hatch_of(number),
        edgecolor=LIGHT,
        linewidth=0.5,
    )


# ---- rows


def row_names(names: Sequence[str], size: float) -> list[str]:
    """Names of rows, in lines where they are long; an ordering is parted at its arrows, a pair between its two."""
    return ["\n".join(_parted(name, size)) for name in names]


def _parted(name: str, size: float) -> list[str]:
    """Lines of a name; a part that is too wide for one is cut in its middle."""
    parts = re.split(" (→|\\|) ", name)
    lines = [cut(parts[0], NAME_WIDTH, size)]
    for sign, part in zip(parts[1::2], parts[2::2], strict=True):
        longer = f"{lines[-1]} {sign} {part}"
        if width_of(longer, size) > NAME_WIDTH:
            lines[-1] += f" {sign}"
            lines.append(cut(part, NAME_WIDTH - 0.2, size))
        else:
            lines[-1] = longer
    return lines


class Rows(NamedTuple):
    """Rows of marks: their names in lines, how far down each is, and the size of the names.

    The height of a row of one line is 1.
    """

    names: list[str]
    places: list[float]
    size: float

    @property
    def last(self) -> float:
        """Where the next row would be."""
        return self.places[-1] + 1 if self.places else 0.0

    @property
    def inches(self) -> float:
        """What they take."""
        return self.last * (0.3 if self.size == TEXT else 0.19)


def rows_of(names: Sequence[str], *, few: int = FEW_ROWS) -> Rows:
    """Rows of these names, smaller ones where they are more than `few`."""
    size = TEXT if len(names) <= few else SMALL
    return placed([row_names(names, size)], size, 0.0)


def placed(blocks: Sequence[Sequence[str]], size: float, gap: float) -> Rows:
    """Rows of names that are in lines already, in blocks with a gap between; longer names take more room."""
    names: list[str] = []
    places: list[float] = []
    place = 0.0
    for block in blocks:
        for name in block:
            extra = (0.2 if size == TEXT else 0.36) * name.count("\n")
            names.append(name)
            places.append(place + extra)
            place += 1 + 2 * extra
        place += gap if block else 0
    return Rows(names, places, size)


def name_rows(axes: Any, rows: Rows) -> None:
    """Names of rows, the first on top."""
    axes.set_yticks(rows.places, rows.names)
    axes.tick_params(axis="y", labelsize=rows.size)
    axes.set_ylim(rows.places[-1] + 0.6 + _half(rows.names[-1]), rows.places[0] - 0.6 - _half(rows.names[0]))
    axes.grid(axis="x")


def _half(name: str) -> float:
    return 0.3 * name.count("\n")


def draw_whisker(axes: Any, place: float, interval: Interval | None, colour: str = GREY) -> None:
    """Draw an interval of shares in a row, if there is one."""
    if interval is not None:
        axes.plot(
            [100 * end for end in interval], [place] * 2, color=colour, linewidth=LINE, zorder=1.5, gid="interval"
        )


def draw_mean(axes: Any, place: float, value: float | None, *, filled: bool = True, large: bool = True) -> None:
    """Draw a share as the mark of a row; "failed" where there is none."""
    if value is None:
        note_failure(axes, place)
        return
    axes.plot(
        percent(value),
        place,
        "o",
        markersize=LARGE if large else MARK,
        color=colour_of(0),
        markerfacecolor=colour_of(0) if filled else LIGHT,
        gid="mean",
    )


def note_failure(axes: Any, place: float, text: str = "failed") -> None:
    """Write into a row why there is no mark in it."""
    axes.text(0.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=SMALL)


def interval_handle(label: str = INTERVAL) -> Any:
    """An entry of a legend: what whiskers are."""
    return line_handle(GREY, label)


# ---- names on axes


def _thinned(label: str, names: Sequence[str]) -> str:
    """The label of an axis, which says so where not all names are on it."""
    step = -(-len(names) // MOST_NAMES)
    return label if step <= 1 else f"{label} (every {'second' if step == 2 else f'{step}th'} is named)"


def _name_places(axis: Any, names: Sequence[str]) -> None:
    step = max(1, -(-len(names) // MOST_NAMES))
    places = list(range(0, len(names), step))
    axis.set_ticks(places, ["\n".join(cut(line, 1.6) for line in names[place].split("\n")) for place in places])
    axis.set_tick_params(labelsize=TEXT if len(places) <= 16 else SMALL if len(places) <= 25 else TINY)


def _turn_if_long(axes: Any, names: Sequence[str]) -> None:
    """Turn the names below an axis where they would run into each other."""
    room = axes.get_position().width * axes.figure.get_size_inches()[0]
    if max((width_of(name) for name in names), default=0.0) * len(names) > 0.85 * room:
        degrees = 40 if len(names) <= 20 else 90
        for mark in axes.get_xticklabels():
            mark.set(rotation=degrees, rotation_mode="anchor", ha="right", va="center" if degrees == 90 else "top")


def distinct(names: Sequence[str], most: int = 60) -> list[str]:
    """Names of so many letters, numbered where they would be the same in a legend."""
    short = [shortened(name, most) for name in names]
    return [
        f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name
        for place, name in enumerate(short)
    ]
