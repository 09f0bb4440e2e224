"""Images that would make a figure mislead: blank ones, those that use a sliver of the range, frames left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from sslcurr.data.decode.image import SLIVER, Traits
from sslcurr.data.pack import Pack
from sslcurr.errors import DataError
from sslcurr.wording import and_more

__all__ = ["Flaws", "flaws_of", "notes_on", "require_content"]

HINT = "sslcurr data check lists them: correct their files (window, no-data value, transparency) or take them out"

BLANK = "is blank, each with its pixels the same"
NARROW = f"is blank or uses less than {SLIVER:.0%} of the range of brightness"

TRAITS = [each.name for each in fields(Traits)]


@dataclass
class Flaws:
    """Names of images by what is odd about them, each with what there is to say of it; see `Traits`.

    `narrow` are not blank; `transparent` are among the blank. Of `without_data` and `beside` nothing is wrong.
    """

    blank: dict[str, str] = field(default_factory=dict)
    transparent: dict[str, str] = field(default_factory=dict)
    narrow: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    without_data: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What would make a figure mislead, a line each kind."""
        opaque = {name: "" for name in self.blank if name not in self.transparent}
        lines = [
            (opaque, "blank, every pixel is the same"),
            (self.transparent, "transparent everywhere, and so black: save them without transparency"),
            (self.narrow, f"less than {SLIVER:.0%} of the range of brightness is used"),
            (
                self.left_out,
                "only the first frame is used; --frames all takes each, --frames first says that this is meant",
            ),
        ]
        return [_sentence(names, what) for names, what in lines if names]

    @property
    def notes(self) -> list[str]:
        """What is worth knowing and misleads nobody, a line each kind."""
        lines = [
            (self.without_data, "pixels without a value are black, and do not count for the window"),
            (self.beside, "of several pictures in one file, the main one is used"),
        ]
        return [_sentence(names, what) for names, what in lines if names]

    def reasons(self) -> dict[str, str]:
        """What is wrong with each image, for a table."""
        reasons = dict.fromkeys(self.blank, "blank") | dict.fromkeys(self.transparent, "transparent")
        reasons |= {name: f"uses {text} only" for name, text in self.narrow.items()}
        for name, text in self.left_out.items():
            reasons[name] = "; ".join([*([reasons[name]] if name in reasons else []), f"has {text}"])
        return reasons


def _sentence(names: dict[str, str], what: str) -> str:
    name, text = next(iter(names.items()))
    return f"{name}{f' ({text})' if text else ''}{and_more(len(names))}: {what}"


def flaws_of(images: Iterable[tuple[str, Traits, int]]) -> Flaws:
    """What is odd about images: their names, traits and numbers of pixels."""
    flaws = Flaws()
    for name, traits, area in images:
        if traits.is_blank:
            flaws.blank[name] = ""
        elif traits.range_used < SLIVER:
            flaws.narrow[name] = f"{traits.low} to {traits.high} of 255"
        if traits.is_blank and traits.is_transparent:
            flaws.transparent[name] = ""
        if traits.frames_left_out:
            flaws.left_out[name] = f"{traits.frames_left_out + 1} frames"
        if traits.no_data:
            flaws.without_data[name] = f"{traits.no_data / area:.1%}"
        if traits.pictures_beside:
            flaws.beside[name] = f"{traits.pictures_beside + 1} pictures"
    return flaws


def notes_on(pack: Pack) -> list[str]:
    """What is odd about the images of a pack, in sentences; none for a pack of a version that did not look."""
    flaws = _flaws_in(pack)
    return [*flaws.problems, *flaws.notes]


def require_content(pack: Pack) -> None:
    """Raise DataError if what is trained or measured on the images of a pack would say nothing of what they show.

    That is so if every image of it, or of a class or a given split, is blank, or if every image uses a sliver of the
    range at most.
    """
    if pack.traits is None:
        return
    blank = _column(pack.traits, "is_blank") == 1
    narrow = _is_narrow(pack.traits) | blank
    everywhere = np.ones(pack.num_images, bool)
    parts = [("every image", everywhere, blank, BLANK), ("every image", everywhere, narrow, NARROW)]
    if blank.any():
        parts += [
            (f"every image of class {name}", pack.labels == code, blank, BLANK)
            for code, name in enumerate(pack.label_names)
        ]
        given = sorted(set(pack.splits.tolist()) - {""}) if pack.splits is not None else []
        parts += [(f"every image of the split {split}", pack.splits == split, blank, BLANK) for split in given]
    for which, members, flawed, what in parts:
        count = int(np.count_nonzero(members))
        if count and bool(flawed[members].all()):
            raise DataError(f"{which} {what} ({pack.names[int(np.argmax(members))]}{and_more(count)})", HINT)


def _column(traits: np.ndarray, name: str) -> np.ndarray:
    """A trait of all images, int64 [N]; -1 where it is not known."""
    return traits[:, TRAITS.index(name)]


def _is_narrow(traits: np.ndarray) -> np.ndarray:
    """Which images use less than `SLIVER` of the range, bool [N]."""
    low, high = _column(traits, "low"), _column(traits, "high")
    return (low >= 0) & (high - low < SLIVER * 255)


def _flaws_in(pack: Pack) -> Flaws:
    if pack.traits is None:
        return Flaws()
    # Few of a hundred thousand images are odd.
    odd = _is_narrow(pack.traits)
    for name in ("is_blank", "frames_left_out", "no_data", "pictures_beside"):
        odd |= _column(pack.traits, name) > 0
    areas = pack.heights.astype(np.int64) * pack.widths
    places = np.flatnonzero(odd).tolist()
    return flaws_of((pack.names[i], Traits.of_integers(pack.traits[i].tolist()), int(areas[i])) for i in places)
