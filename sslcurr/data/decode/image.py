"""What every decoder shares: file endings, limits, what is noted of an image, and the error for one that is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PICTURES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
        *(".png", ".apng", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp", ".avif"),
        *(".pgm", ".ppm", ".pbm", ".pnm", ".pfm"),
        *(".jp2", ".j2k", ".jpx", ".jpf"),
    }
)


EXTENSIONS = PICTURES | {".dcm", ".dicom"}


MAX_PIXELS = 2**29


DECODER_ERRORS = (Exception,)
"""What Pillow, pydicom and their plug-ins raise on damaged bytes: anything, also assertions and errors of C code."""


DECODER = 2
"""Raised when files of the kinds of `may_be_revised` give other pixels than before; see `Traits.decoder`."""

REVISED = frozenset({".tif", ".tiff"})

END_SHARE = 0.001
"""The share of pixels at either end that does not count for the range that an image uses."""

MOST_SAMPLES = 2**16
"""Of an image with more samples, an even part is looked at for the range that it uses."""


class BrokenImage(ValueError):
    """Bytes that are not a readable image; its text is the reason, without the file's name."""


@dataclass(slots=True)
class Traits:
    """What is noted of an image while it is decoded, beside its pixels; integers, as a pack keeps them in this order.

    Attributes:
        low, high: between which bytes the image lies, without the 0.1 % of its samples at either end. Where 16 bits or
            more were mapped to 8, without those at one end of the range too, if that leaves others: a value that stands
            for no data takes one end of the range, and all others share what it leaves. Where a window left nearly
            nothing between the ends, both are the end that most samples have.
        is_blank: every pixel is the same.
        is_transparent: every pixel is wholly transparent, and so it is black.
        frames_left_out: frames or pages of the file that are left out without having been asked for.
        pictures_beside: images in the file beside the main one, as its format says (MPO).
        no_data: pixels without a value by the file's own word, which are black.
        is_deep: more than two values of more than 8 bits were mapped to 0 to 255, by percentiles or by the file itself.
        decoder: the least `DECODER` that gives these pixels.
    """

    low: int = 0
    high: int = 0
    is_blank: bool = False
    is_transparent: bool = False
    frames_left_out: int = 0
    pictures_beside: int = 0
    no_data: int = 0
    is_deep: bool = False
    decoder: int = 1

    def to_integers(self) -> list[int]:
        """The attributes in their order."""
        return [int(value) for value in astuple(self)]

    @classmethod
    def of_integers(cls, values: Sequence[int]) -> Traits:
        """What `to_integers` gave."""
        low, high, blank, transparent, frames, pictures, no_data, deep, decoder = (int(value) for value in values)
        flags = (bool(blank), bool(transparent))
        return cls(low, high, *flags, frames, pictures, no_data, bool(deep), decoder)

    @property
    def range_used(self) -> float:
        """Which share of the 8 bits the image uses, from 0 to 1."""
        return (self.high - self.low) / 255

    def look_at(self, image: np.ndarray) -> None:
        """Note which range the decoded image uses, uint8 [H, W, C], and whether it is blank."""
        import numpy as np

        self.is_blank = _is_blank(image)
        step = max(1, image.size // MOST_SAMPLES)
        counts = np.bincount(image.reshape(-1, image.shape[2])[::step].reshape(-1), minlength=256)
        if self.is_deep:
            counts = _without_clipped(counts)
            for end in (0, 255):
                rest = counts.copy()
                rest[end] = 0
                if rest.any():
                    counts = rest if _range_of(rest)[1] - _range_of(rest)[0] < SLIVER * 255 else counts
        self.low, self.high = _range_of(counts)


def _without_clipped(counts: np.ndarray) -> np.ndarray:
    """Counts [256] of an image's bytes; those at its fuller end alone where a window has clipped nearly all others.

    Air around a head is rightly black, so that much may be; much that is white, or black and white with next to nothing
    between, is the mark of a window for other values.
    """
    black, white, total = int(counts[0]), int(counts[255]), int(counts.sum())
    between = total - black - white
    least = 0.1 if white > black else 0.05 if white > 0.1 * total else 0.01
    if black + white == 0 or between >= least * total:
        return counts
    alone = counts * 0
    alone[255 if white > black else 0] = total
    return alone


SLIVER = 0.1
"""An image that uses less than this share of the 8 bits is reported."""


def may_be_revised(suffix: str) -> bool:
    """Whether a file with this ending may give other pixels than before `DECODER`: TIFF, and what may be DICOM."""
    return suffix.lower() in REVISED or suffix.lower() not in PICTURES


def _is_blank(image: np.ndarray) -> bool:
    first = image[0, 0]
    # The first row decides for nearly all images, without a pass over the rest.
    return bool((image[0] == first).all() and (image == first).all())


def _range_of(counts: np.ndarray) -> tuple[int, int]:
    """The bytes between which all but `END_SHARE` at either end lie, of counts [256] that are not all zero."""
    ends = counts.cumsum()
    outside = ends[-1] * END_SHARE
    low = int(ends.searchsorted(outside, side="right"))
    high = int(ends.searchsorted(ends[-1] - outside, side="left"))
    return low, high
