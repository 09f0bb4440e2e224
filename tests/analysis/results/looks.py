"""What is wrong with the looks of a chart: text outside or on other text, fonts, sizes and colours of its own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.collections import Collection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from sslcurr.analysis.results import style

SIZES = (style.TITLE, style.TEXT, style.SMALL, style.TINY, style.LEAST)
GREYS = (style.GREY, style.FAINT, style.INK, style.PAPER, style.DARK, style.LIGHT)
PALETTE = {colors.to_hex(each) for each in (*style.COLOURS, *GREYS)}
# Pixels that boxes of text may lie in each other: these hold room for letters that hang down.
CLOSE = 4.0
SLIPS = re.compile(r"\b1 (seed|image|draw|task|chain|epoch)s\b|  |_|->|\bknn\b|gradcam|None|UNSET|\bnan\b|, ?[:;]|: ?;")


def faults(figure: Any, title: str, names: tuple[str, ...] = ()) -> list[str]:
    """A line for each fault of a matplotlib figure that was written as PNG; `names` of a document are as they are."""
    said = title
    for name in names:
        said = said.replace(name, "NAME")
    slips = [f"{title!r} has {found.group()!r}" for found in SLIPS.finditer(said)]
    if not title[:1].isupper():
        slips.append(f"{title!r} does not begin with a capital")
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [*slips, *_of_text(figure, texts), *_colours(figure)]


def _of_text(figure: Any, texts: list[Text]) -> Iterator[str]:
    figure.dpi = style.DPI  # where labels are is what was computed when it was written
    renderer, page, hidden = figure.canvas.get_renderer(), figure.bbox, _hidden(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        boxes = [(text, text.get_window_extent(renderer)) for text in texts if id(text) not in hidden]
    for text, box in boxes:
        if text.get_fontfamily()[0] != style.FONT:
            yield f"{text.get_text()!r} is in {text.get_fontfamily()}"
        if text.get_fontsize() not in SIZES:
            yield f"{text.get_text()!r} has {text.get_fontsize()} points"
        if box.x0 < page.x0 - 2 or box.y0 < page.y0 - 2 or box.x1 > page.x1 + 2 or box.y1 > page.y1 + 2:
            yield f"{text.get_text()!r} lies outside: {box.extents} of {page.extents}"
    level = [(text, box) for text, box in boxes if text.get_rotation() % 90 == 0]
    edges = np.array([box.extents for _, box in level]).reshape(-1, 4)
    left, low, right, high = edges.T
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left) > CLOSE
    down = np.minimum(high[:, None], high) - np.maximum(low[:, None], low) > CLOSE
    for first, second in np.argwhere(np.triu(across & down, 1)):
        yield f"{level[first][0].get_text()!r} lies on {level[second][0].get_text()!r}"


def _hidden(figure: Any) -> set[int]:
    """Labels of axes that are not drawn, by id: outside of the limits, left over, or of axes that are off."""
    hidden: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low)
            drawn = [tick for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
            ticks = [tick for tick in (*axis.majorTicks, *axis.minorTicks) if tick not in drawn or not axes.axison]
            hidden |= {id(label) for tick in ticks for label in (tick.label1, tick.label2)}
    return hidden


def _colours(figure: Any) -> Iterator[str]:
    used: set[Any] = set()
    for line in figure.findobj(Line2D):
        used |= {line.get_color()} if line.get_linestyle().lower() != "none" else set()
        used |= {line.get_markeredgecolor()}
        used |= {line.get_markerfacecolor()} if line.get_marker() in Line2D.filled_markers else set()
    for patch in filter(Patch.get_visible, figure.findobj(Patch)):
        used |= {patch.get_facecolor(), patch.get_edgecolor()}
    for group in figure.findobj(Collection):
        if group.get_array() is None:
            used |= {tuple(each) for each in [*group.get_facecolor(), *group.get_edgecolor()]}
    used |= {text.get_color() for text in figure.findobj(Text) if text.get_text()}
    for colour in used:
        if colour != "none" and colors.to_hex(colour) not in PALETTE:
            yield f"{colors.to_hex(colour)} is no colour of the style"
