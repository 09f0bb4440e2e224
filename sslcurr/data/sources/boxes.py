"""Boxes that people drew into images, as challenges write them down."""

from __future__ import annotations

import ast
import json
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from sslcurr.errors import DataError

__all__ = ["Box", "Boxes", "Mask"]

Box = tuple[float, float, float, float]  # left, top, width, height

OPACITY, NO_OPACITY = "opacity", "none"
LABEL_WORDS = 6
BOX_COLUMNS = ("x", "y", "width", "height")
BOXES_EXAMPLE = '[{"x": 10, "y": 20, "width": 30, "height": 40}] or [[10, 20, 30, 40]]'
BOX_HINT = "a box is its left, top, width and height in pixels"
SHOWN = 60


@dataclass(frozen=True)
class Boxes:
    """Rectangles of an image: left, top, width and height of each, in pixels of the image upright and in full size.

    Pixel i reaches from i to i + 1. `origin` names the image in messages and is no part of the value.

    Raises DataError if there is none, if a number is not finite, or a width or height not above 0.
    """

    boxes: tuple[Box, ...]
    origin: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.boxes:
            raise DataError(f"no box{of(self.origin)}", "an image without a region has no mask at all")
        for box in self.boxes:
            if not all(math.isfinite(number) for number in box):
                raise DataError(f"the box {described(box)}{of(self.origin)} has a number that is not finite", BOX_HINT)
            if box[2] <= 0 or box[3] <= 0:
                raise DataError(f"the box {described(box)}{of(self.origin)} has no area", BOX_HINT)

    @classmethod
    def from_text(cls, text: str, origin: str = "") -> Boxes | None:
        """The boxes of a list of {"x", "y", "width", "height"} or of [x, y, width, height]; None if the list is empty.

        Either quotes will do: the SIIM challenge wrote its lists with Python. Raises DataError for any other text.
        """
        items = _literal(text)
        boxes = [_box(item) for item in items] if isinstance(items, list | tuple) else [None]
        readable = tuple(box for box in boxes if box is not None)
        if len(readable) < len(boxes):
            raise DataError(
                f"the boxes{of(origin)} cannot be read: {shortened(text)}", f"write them as {BOXES_EXAMPLE}"
            )
        return cls(readable, origin) if readable else None

    @classmethod
    def from_label(cls, text: str, origin: str = "") -> Boxes | None:
        """The boxes of the SIIM challenge's labels: `opacity 1 left top right bottom`, any number of times in a row.

        None for an empty text and for its `none 1 0 0 1 1`. Raises DataError for any other text.
        """
        words = text.split()
        boxes: list[Box] = []
        try:
            for start in range(0, len(words), LABEL_WORDS):
                kind, _, left, top, right, bottom = words[start : start + LABEL_WORDS]
                if kind not in (OPACITY, NO_OPACITY):
                    raise ValueError
                if kind == OPACITY:
                    x, y = float(left), float(top)
                    boxes.append((x, y, float(right) - x, float(bottom) - y))
        except ValueError:
            raise DataError(
                f"the label{of(origin)} says nothing of boxes: {shortened(text)}",
                f"boxes in a label are '{OPACITY} 1 left top right bottom', and '{NO_OPACITY} 1 0 0 1 1' is no box",
            ) from None
        return cls(tuple(boxes), origin) if boxes else None


Mask = Path | Boxes
"""A region of an image: a PNG file whose black is outside, or boxes."""


def described(box: Box) -> str:
    """A box in words."""
    left, top, width, height = box
    return f"at {left:g}, {top:g} of {width:g} x {height:g} pixels"


def shortened(text: str) -> str:
    """A text in quotes on one line, of which the beginning is enough to find it."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _literal(text: str) -> object:
    """What JSON or a Python literal says; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of numbers and escapes that Python frowns upon
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _box(item: object) -> Box | None:
    """A box of an object or of a list of four numbers; None if it is neither."""
    values = [item.get(name) for name in BOX_COLUMNS] if isinstance(item, dict) else item
    if not isinstance(values, list | tuple) or len(values) != len(BOX_COLUMNS):
        return None
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(BOX_COLUMNS):
        return None
    try:
        left, top, width, height = map(float, numbers)
    except OverflowError:
        return None
    return left, top, width, height


def of(origin: str) -> str:
    """What follows a thing whose image is known, or is not."""
    return f" of {origin}" if origin else ""
