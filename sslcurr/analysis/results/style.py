"""The one style of charts: fonts, sizes, colours, marks, dashes, legends and titles, PNG and SVG.

Colours print in grey and suit the colour-blind; what has a colour of its own has a mark, a dash or a hatch of its own.
"""

from __future__ import annotations

import functools
import io
import math
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.files import write_whole
from sslcurr.version import PROGRAM
from sslcurr.wording import shortened

Formats = Sequence[str]
# Okabe and Ito's (https://jfly.uni-koeln.de/color/) without their yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
# Intervals and what comes second; lines that part rows and join stages; what a page may turn round in its dark mode.
GREY, FAINT, INK, PAPER = "#777777", "#bfbfbf", "#000000", "#ffffff"
# Numbers on coloured cells: a page that turns black ink round in its dark mode leaves these as they are.
DARK, LIGHT = "#111111", "#ffffff"
HEAT = ("Blues", 0.08, 1.0)  # which of matplotlib's, and the part of it: what is lowest can be told from white paper
# Points: titles; all other text; many rows and notes; numbers and names that crowd; the least for numbers in cells.
TITLE, TEXT, SMALL, TINY, LEAST = 10.0, 9.0, 8.0, 6.5, 5.0
# Points: a line, a line that is only for comparison, and a mark where there are many, as usual, and large.
LINE, THIN, MARK, LARGE = 1.3, 0.9, 5.0, 6.5
FONT = "DejaVu Sans"  # comes with matplotlib
# Fonts with the letters that it lacks, where one of them is installed.
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans", "Nirmala UI", "Arial Unicode MS"),
)
DPI = 200
FIGURE_FORMATS = ("png", "svg")
WIDEST = 7.0  # inches: 9 points can still be read when that is printed half as wide
STYLE: Any = {
    "font.family": [FONT],
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "figure.titlesize": TITLE,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "lines.linewidth": LINE,
    "lines.markersize": MARK,
    "errorbar.capsize": 2.0,
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "sslcurr",
    "text.parse_math": False,  # a dollar in a name is a dollar
}


@dataclass(frozen=True)
class Figure:
    """A chart that was drawn.

    Attributes:
        base: its path without suffix; `base`.png and `base`.svg, as far as they were asked for, lie there.
        title: what it shows, in a line of plain text.
    """

    base: Path
    title: str


@dataclass(frozen=True)
class Chart:
    """A chart that is ready to be drawn: into files, or on axes of a figure of your own.

    Attributes:
        name: of its files, without suffix; one of a document's charts.
        title: what it shows, in a line of plain text.
        width, height: inches, before the lines of the title and the legend.
        paint: draws on matplotlib axes (on a figure, where there are several panels); gives the entries of the legend.
        panels: whether it has several panels.
        beside: whether the legend stands at the right of the axes, for many entries, rather than below them.
    """

    name: str
    title: str
    width: float
    height: float
    paint: Callable[[Any], Sequence[Any]]
    panels: bool = False
    beside: bool = False

    def draw(self, axes: Any = None) -> Any:
        """Draw on matplotlib `axes`, or on a new figure; gives the axes, or a list of them where it has several panels.

        Given axes are replaced by panels where it has several; the axes must then be those of a grid of subplots.
        """
        import matplotlib

        with matplotlib.rc_context(STYLE):
            if axes is None:
                sheet = self._sheet()
                return sheet.axes if self.panels else sheet.axes[0]
            width = axes.get_position().width * axes.figure.get_size_inches()[0]
            lines = "\n".join(wrapped(self.title, max(2.0, width), TITLE))
            if self.panels:
                place = axes.figure.add_subfigure(axes.get_subplotspec())
                axes.remove()
                handles = self.paint(place)
                place.suptitle(lines)
                if handles:
                    place.legend(handles=handles, loc="outside lower left")
                return place.axes
            handles = self.paint(axes)
            axes.set_title(lines, loc="left")
            if handles and self.beside:
                legend_beside(axes, handles, loc="upper left", bbox_to_anchor=(1, 1))
            elif handles:
                axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.2))
            return axes

    def save(self, folder: Path, formats: Formats = FIGURE_FORMATS) -> Figure:
        """Write it to an existing folder as PNG, SVG or both; the same chart gives the same bytes."""
        import matplotlib

        with matplotlib.rc_context(STYLE):
            save(self._sheet(), folder / self.name, formats)
        return Figure(folder / self.name, self.title)

    def svg(self) -> str:
        """It as SVG, the text that `save` writes."""
        import matplotlib

        text = io.StringIO()
        with matplotlib.rc_context(STYLE):
            _write(self._sheet(), text, "svg")
        return text.getvalue()

    def _sheet(self) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Sheet

        sheet = Sheet(figsize=(self.width, self.height), layout="constrained")
        FigureCanvasAgg(sheet)
        handles = self.paint(sheet if self.panels else sheet.add_subplot())
        _fit_labels(sheet)
        # A legend at the right begins at the top.
        taken = 0.6 + max(width_of(each.get_label(), SMALL) for each in handles) if self.beside and handles else 0.0
        _entitle(sheet, self.title, self.width - taken - 0.2)
        if self.beside and handles:
            legend_beside(sheet, handles, loc="outside right upper")
        else:
            _legend(sheet, handles)
        _find_letters(sheet)
        return sheet


def save(figure: Any, base: Path, formats: Sequence[str]) -> None:
    """Write a matplotlib figure; the same figure gives the same bytes."""
    for kind in formats:
        write_whole(base.with_name(f"{base.name}.{kind}"), lambda path, kind=kind: _write(figure, path, kind))  # type: ignore[misc]


def _write(figure: Any, place: Path | io.StringIO, kind: str) -> None:
    """Write a matplotlib figure as PNG or SVG into a file."""
    metadata = {"Date": None} if kind == "svg" else {"Software": PROGRAM}
    with warnings.catch_warnings():
        # Names in scripts that no font here has: an SVG shows them all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(place, format=kind, dpi=DPI, metadata=metadata)


# ---- looks


def colour_of(number: int) -> str:
    """The colour of the so-manieth of several things."""
    return COLOURS[number % len(COLOURS)]


def mark_of(number: int) -> str:
    """The marker of the so-manieth of several things; no colour comes with the same marker twice in 49."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def dash_of(number: int) -> str:
    """The dash of the so-manieth of several lines."""
    return DASHES[number % len(DASHES)]


def hatch_of(number: int) -> str:
    """The hatch of the so-manieth of several bars; no colour comes with the same hatch twice in 49."""
    return HATCHES[(number + number // len(COLOURS)) % len(HATCHES)]


def heat_colours() -> Any:
    """The colours of heat maps, from light to dark, as matplotlib's colour map; white where there is no value."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    name, low, high = HEAT
    return ListedColormap(colormaps[name](np.linspace(low, high, 256)), name="heat", bad=PAPER)


def percent(value: float | None) -> float:
    """A share in per cent; NaN, which is not drawn, for one that is not known."""
    return math.nan if value is None else 100 * value


def plain(value: float, _: Any = None) -> str:
    """A number on an axis as a person writes it: 0.003, 20,000, and 3e-6 where noughts would have to be counted."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.10g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def logarithmic(axis: Any) -> None:
    """Make an axis logarithmic, with so many numbers on it as can be read: its limits must be those of the data."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high < 30 * low else (1.0, 3.0) if high < 3000 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(plain)
    axis.set_minor_locator(NullLocator())


# ---- text and its width


@functools.cache
def _letters() -> Any:
    """The font of charts. Its size is this file's own: fonts that matplotlib hands out change theirs."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    font = FT2Font(findfont(FontProperties(family=[FONT])))
    font.set_size(100, 72)
    return font


@functools.cache
def _advance(letter: str) -> float:
    """How wide a letter is, as a share of the size of the text."""
    font = _letters()
    if not font.get_char_index(ord(letter)):  # of another font: those of East Asia fill a square
        return 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.65
    return float(font.load_char(ord(letter)).linearHoriAdvance) / 65536 / 100


def width_of(text: str, size: float = TEXT) -> float:
    """Inches that the widest line of a text takes, in so many points, with what rounding to pixels adds."""
    return 1.03 * max(sum(map(_advance, line)) for line in text.split("\n")) * size / 72


def cut(text: str, width: float, size: float = TEXT) -> str:
    """A name that fits so many inches: its middle is left out where it does not."""
    most = len(text)
    while width_of(text, size) > width and most > 5:
        most -= 1
        text = shortened(text, most)
    return text


def wrapped(text: str, width: float, size: float = TEXT) -> list[str]:
    """A text in lines of so many inches, parted at spaces; a word that is wider than that is cut in its middle."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.replace(" %", "\u00a0%").split(" "):
            longer = f"{line} {word}" if line else word
            if line and width_of(longer, size) > width:
                lines.append(line)
                line = cut(word, width, size)
            else:
                line = longer if line else cut(word, width, size)
        lines.append(line)
    return [line.replace("\u00a0%", " %") for line in lines]


def _fit_labels(sheet: Any) -> None:
    """Part the labels of axes into lines, so that none is longer than its axes, which names at the left narrow."""
    wide, high = sheet.get_size_inches()
    for axes in sheet.axes:
        place = axes.get_position()
        for axis, room in ((axes.xaxis, 0.72 * wide * place.width), (axes.yaxis, high * place.height)):
            axis.label.set_text("\n".join(wrapped(axis.label.get_text(), max(1.2, room), axis.label.get_size())))


def _entitle(sheet: Any, title: str, room: float) -> None:
    """Write the title over the figure, in lines of so many inches; the figure grows by those after the first."""
    width, height = sheet.get_size_inches()
    lines = wrapped(title, room, TITLE)
    sheet.set_size_inches(width, height + 0.17 * (len(lines) - 1))
    sheet.suptitle("\n".join(lines), x=0.01, ha="left")


def _find_letters(sheet: Any) -> None:
    """Give texts with letters that the font lacks another one beside it, if one is installed."""
    strange = [text for text in sheet.findobj(_is_text) if any(map(_is_missing, text.get_text()))]
    if strange:
        others = [name for name in OTHER_FONTS if name in _installed()]
        for text in strange:
            text.set_fontfamily([FONT, *others])


def _is_text(artist: Any) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text)


def _is_missing(letter: str) -> bool:
    return not letter.isascii() and not _letters().get_char_index(ord(letter))


@functools.cache
def _installed() -> frozenset[str]:
    from matplotlib.font_manager import fontManager

    return frozenset(font.name for font in fontManager.ttflist)


# ---- legends


def mark_handle(marker: Any, colour: str, filled: bool, label: str, size: float = MARK) -> Any:
    """An entry of a legend: a marker with its name."""
    from matplotlib.lines import Line2D

    face = colour if filled else PAPER if size < 9 else "none"
    return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="", markersize=size, label=label)


def line_handle(colour: str, label: str, dash: str = "-", width: float = LINE) -> Any:
    """An entry of a legend: a line with its name."""
    from matplotlib.lines import Line2D

    look: Any = {"linestyle": dash}
    return Line2D([], [], color=colour, linewidth=width, label=label, **look)


def sign_handle(sign: str, label: str) -> Any:
    """An entry of a legend: a sign that stands in the chart, such as "?", with its meaning."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), sign, size=1, prop=FontProperties(family=[FONT]))
    box = path.get_extents()
    centred = path.transformed(Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2))
    handle = mark_handle(centred, INK, True, label, 8.0)
    handle.set_markeredgewidth(0)
    return handle


def labelled(axes: Any) -> list[Any]:
    """The artists of the axes that have a label, for the legend."""
    artists: list[Any] = axes.get_legend_handles_labels()[0]
    return artists


def _legend(figure: Any, handles: Sequence[Any]) -> None:
    """A legend of labelled artists below the axes; the figure grows by what it takes."""
    if not handles:
        return
    width, height = figure.get_size_inches()
    # Beside the letters are a mark and a gap.
    labels = ["\n".join(wrapped(handle.get_label(), width - 0.65)) for handle in handles]
    needed = [width_of(label) + 0.55 for label in labels]
    for columns in range(len(handles), 0, -1):
        # Filled from top to bottom, the first ones with a row more where it does not come out even.
        sizes = [len(part) for part in np.array_split(np.arange(len(handles)), columns)]
        starts = np.cumsum([0, *sizes[:-1]])
        groups = [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        if sum(max(needed[place] for place in group) for group in groups) <= width - 0.1:
            break
    lines = max(sum(1 + 0.8 * labels[place].count("\n") for place in group) for group in groups)
    figure.set_size_inches(width, height + 0.18 * lines + 0.1)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.2)


def legend_beside(place: Any, handles: Sequence[Any], **where: Any) -> None:
    """A legend of points at the right of the axes, of a figure or of axes; points that are half transparent are not."""
    beside = place.legend(handles=handles, fontsize=SMALL, markerscale=1.6, **where)
    for handle in beside.legend_handles:
        handle.set_alpha(1)
