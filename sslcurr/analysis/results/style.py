"""One style of charts: PNG and SVG, colours that print in grey and suit the colour-blind."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.files import write_whole
from sslcurr.version import PROGRAM

Formats = Sequence[str]
# Okabe and Ito's (https://jfly.uni-koeln.de/color/) without their yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
GREY = "#777777"
# Numbers on coloured cells: a page that turns black ink round in its dark mode leaves these as they are.
DARK, LIGHT = "#111111", "#ffffff"
FIGURE_FORMATS = ("png", "svg")
WIDEST = 7.0  # inches: 9 points can still be read when that is printed half as wide
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
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
            lines = "\n".join(textwrap.wrap(self.title, 60))
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
        entitle(sheet, self.title)
        if self.beside and handles:
            legend_beside(sheet, handles, loc="outside right upper")
        else:
            legend(sheet, handles)
        return sheet


@contextmanager
def canvas(base: Path, width: float, height: float, formats: Sequence[str] = FIGURE_FORMATS) -> Iterator[Any]:
    """A matplotlib figure of so many inches, written as `base`.png, `base`.svg or both when it is drawn."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    with matplotlib.rc_context(STYLE):
        figure = Sheet(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        save(figure, base, formats)


@contextmanager
def chart(base: Path, width: float, height: float, formats: Sequence[str] = FIGURE_FORMATS) -> Iterator[Any]:
    """Like `canvas`, for a figure of one pair of axes, which it gives."""
    with canvas(base, width, height, formats) as figure:
        yield figure.add_subplot()


def save(figure: Any, base: Path, formats: Sequence[str]) -> None:
    """Write a matplotlib figure; the same figure gives the same bytes."""
    for kind in formats:
        write_whole(base.with_name(f"{base.name}.{kind}"), lambda path, kind=kind: _write(figure, path, kind))  # type: ignore[misc]


def _write(figure: Any, place: Path | io.StringIO, kind: str) -> None:
    """Write a matplotlib figure as PNG or SVG into a file."""
    metadata = {"Date": None} if kind == "svg" else {"Software": PROGRAM}
    with warnings.catch_warnings():
        # Names in scripts that matplotlib's font lacks: an SVG shows them all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(place, format=kind, dpi=200, metadata=metadata)


def mark_of(number: int) -> str:
    """The marker of the so-manieth of several things; no colour comes with the same marker twice."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def percent(value: float | None) -> float:
    """A share in per cent; NaN, which is not drawn, for one that is not known."""
    return math.nan if value is None else 100 * value


def legend(figure: Any, handles: Sequence[Any]) -> None:
    """A legend of labelled artists below the axes; the figure grows by what it takes."""
    if not handles:
        return
    width, height = figure.get_size_inches()
    # Letters are about so wide, and beside them are a mark and a gap.
    needed = [0.066 * len(handle.get_label()) + 0.55 for handle in handles]
    for columns in range(len(handles), 0, -1):
        rows = math.ceil(len(handles) / columns)
        # Filled from top to bottom, the first ones with a row more where it does not come out even.
        sizes = [len(part) for part in np.array_split(np.arange(len(handles)), columns)]
        starts = np.cumsum([0, *sizes[:-1]])
        if sum(max(needed[start : start + size]) for start, size in zip(starts, sizes, strict=True)) <= width - 0.1:
            break
    figure.set_size_inches(width, height + 0.18 * rows + 0.1)
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, columnspacing=1.2)


def legend_beside(place: Any, handles: Sequence[Any], **where: Any) -> None:
    """A legend of points at the right of the axes, of a figure or of axes; points that are half transparent are not."""
    beside = place.legend(handles=handles, fontsize=8, markerscale=1.6, **where)
    for handle in beside.legend_handles:
        handle.set_alpha(1)


def entitle(figure: Any, title: str) -> None:
    """Write the title over the whole figure, in lines that fit it; the figure grows by those after the first."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(title.replace(" %", "\u00a0%"), max(30, int(11.8 * (width - 0.2))), break_on_hyphens=False)
    figure.set_size_inches(width, height + 0.17 * (len(lines) - 1))
    figure.suptitle("\n".join(lines), x=0.01, ha="left")
