"""An image decoded to the side of a pack, with what is noted of it."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sslcurr.data.contents import DIGEST_BYTES, pixel_digest
from sslcurr.data.decode import read
from sslcurr.data.decode.image import Traits
from sslcurr.errors import DataError
from sslcurr.files import NOT_REGULAR, hint_for, open_regular


@dataclass(frozen=True)
class ImageRow:
    """A decoded image.

    Attributes:
        height, width: its true sides in pixels.
        is_grey: whether its content is grey.
        sha256, pixels: what it is known by (hexadecimal): the sha256 of the file's bytes, and the beginning of that of
            all its pixels.
        traits: what was noted of it, as `Traits.to_integers` gives it.
    """

    height: int
    width: int
    is_grey: bool
    sha256: str
    pixels: str
    traits: Sequence[int]


def row_of_array(image: np.ndarray, size: int) -> tuple[np.ndarray, ImageRow]:
    """An embedded image, uint8 [H, W] or [H, W, C]: [size, size, 1 or 3], and what is noted of it."""
    whole = read.to_grey_if_equal(image[..., None] if image.ndim == 2 else image)
    small = read.resize(whole, size)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    known = _known_by(whole)
    return small, ImageRow(image.shape[0], image.shape[1], small.shape[2] == 1, digest, known, noted(whole))


def read_row(path: Path, frame: int | None, stat: tuple[int, int] | None, size: int) -> tuple[np.ndarray, ImageRow]:
    """The image in a file, uint8 [size, size, 1 or 3], and what is noted of it.

    `stat` is the size in bytes and the time of the file as it was; None is not to be compared.

    Raises read.BrokenImage, and DataError for a file that cannot be read or was changed.
    """
    try:
        with open_regular(path) as file:
            file_stat = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        if error.strerror == NOT_REGULAR or error.errno == errno.ELOOP:
            raise read.BrokenImage(str(error.strerror)) from error
        hint = hint_for(error, "is its disk there, and sound?")
        raise DataError(f"{path} cannot be read: {error.strerror}", hint) from error
    same = stat is None or (file_stat.st_size, file_stat.st_mtime_ns) == stat
    if not same or len(data) != file_stat.st_size:
        raise DataError(f"{path} was changed while the pack was made", "run the command again when all is written")
    traits, pixels = Traits(), []
    small, height, width = read.decode_small(data, size, frame, traits, lambda whole: pixels.append(_known_by(whole)))
    digest = hashlib.sha256(data)
    if frame is not None:
        digest.update(f"#{frame}".encode())
    if traits.decoder > 1:  # the same bytes gave other pixels before, and stages were trained on these
        digest.update(f"decoder {traits.decoder}".encode())
    return small, ImageRow(height, width, small.shape[2] == 1, digest.hexdigest(), pixels[0], traits.to_integers())


def _known_by(whole: np.ndarray) -> str:
    """What an image is known by in another file, hexadecimal."""
    return pixel_digest(whole)[:DIGEST_BYTES].hex()


def noted(image: np.ndarray) -> list[int]:
    """What can be noted of the pixels alone, uint8 [H, W, C]."""
    traits = Traits()
    traits.look_at(image)
    return traits.to_integers()
