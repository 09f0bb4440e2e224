"""Attention drawn over images: for each class the one with most of it inside the mask, the median, and the least."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.sheets.drawing import lettering, write_sheet

CELL, GAP, CAPTION, NAME, HEAD = 128, 6, 34, 120, 58  # pixels
MOST_CLASSES = 12
RANKS = ("best", "median", "worst")
OUTLINE = (0, 255, 255)
STRENGTH = 0.65  # of the colours where the attention is highest


@dataclass(frozen=True, eq=False)
class Example:
    """One image of a sheet.

    Attributes:
        rank: one of `RANKS`.
        image: [S, S, 3] uint8, as the network sees it.
        attention: [S, S], 0 or more.
        mask: [S, S], shares.
        caption: a line or two below it.
    """

    rank: str
    image: NDArray[np.uint8]
    attention: NDArray[np.floating[Any]]
    mask: NDArray[np.floating[Any]]
    caption: str


def chosen(values: NDArray[np.floating[Any]], labels: NDArray[np.integer], label: int) -> dict[str, int]:
    """The places of the best, the median and the worst of `values` with that label, by rank; NaN never.

    Of two there is no median, of one only the best.
    """
    members = np.flatnonzero((labels == label) & ~np.isnan(values))
    order = members[np.argsort(-values[members], kind="stable")]
    wanted = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    ranks = {1: ("best",), 2: ("best", "worst")}.get(len(order), RANKS if len(order) else ())
    return {rank: int(order[wanted[rank]]) for rank in ranks}


def draw_sheet(
    rows: Sequence[tuple[str, Sequence[Example]]], title: str, path: Path, remarks: Sequence[str] = ()
) -> None:
    """Write a PNG: a row a class, with the image and its mask's outline beside the same under its attention.

    Args:
        rows: the class's name and its examples.
        title: over the sheet, and `remarks` below it.
        path: of the file.
    """
    from PIL import Image, ImageDraw

    pitch, height = 2 * CELL + 3 * GAP, CELL + CAPTION + GAP
    width = NAME + pitch * len(RANKS)
    sheet = Image.new("RGB", (width, HEAD + height * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    font, small = lettering(13), lettering(11)
    key = "line: mask; colour: attention, each map from 0 to its own highest value"
    for number, line in enumerate([title, "; ".join([key, *remarks])]):
        pen.text((GAP, 4 + 17 * number), _fitting(line, pen, font, width - 2 * GAP), fill="black", font=font)
    for column, rank in enumerate(RANKS):
        pen.text((NAME + column * pitch, HEAD - 19), rank, fill="black", font=font)
    for row, (name, examples) in enumerate(rows):
        top = HEAD + row * height
        lines = [_fitting(line, pen, font, NAME - 2 * GAP) for line in textwrap.wrap(name, 16)[:6]]
        pen.multiline_text((GAP, top + CELL // 2 - 8 * len(lines)), "\n".join(lines), fill="black", font=font)
        for example in examples:
            left = NAME + RANKS.index(example.rank) * pitch
            for number, picture in enumerate(pictures_of(example)):
                sheet.paste(Image.fromarray(picture), (left + number * (CELL + GAP // 2), top))
            caption = "\n".join(_fitting(line, pen, small, 2 * CELL) for line in example.caption.split("\n")[:2])
            pen.multiline_text((left, top + CELL + 2), caption, fill="black", font=small, spacing=2)
    write_sheet(sheet, path)


def pictures_of(example: Example) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image with the outline of its mask, and the same under its attention: [CELL, CELL, 3] each."""
    from matplotlib import colormaps

    image = _resized(example.image).astype(float)
    attention = _resized(example.attention.astype(np.float32)).clip(min=0)
    strength = attention / attention.max() if attention.max() > 0 else attention
    colours = colormaps["inferno"](strength)[..., :3] * 255
    share = STRENGTH * strength[..., None]
    edge = outline(_resized(example.mask.astype(np.float32)) >= 0.5)
    pictures = []
    for picture in (image, image * (1 - share) + colours * share):
        picture[edge] = OUTLINE
        pictures.append(picture.round().clip(0, 255).astype(np.uint8))
    return pictures[0], pictures[1]


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells of a [H, W] mask with a neighbour outside of it; the picture's border is no outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, border_value=1)


def _resized(values: NDArray[Any]) -> NDArray[Any]:
    from PIL import Image

    picture = Image.fromarray(values)
    enlarging = picture.width < CELL and values.dtype == np.uint8
    resample = Image.Resampling.NEAREST if enlarging else Image.Resampling.BILINEAR
    return np.array(picture.resize((CELL, CELL), resample))


def _fitting(text: str, pen: Any, font: Any, width: int) -> str:
    """The text, its end left out where it is wider than so many pixels."""
    measure: Callable[[str], float] = lambda part: pen.textlength(part, font=font)  # noqa: E731
    if measure(text) <= width:
        return text
    while text and measure(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
