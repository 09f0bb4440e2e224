"""Whether a file of Pillow's holds all of its pixels: decoders fill what is missing and say nothing.

A file that was cut ends too early, which Pillow reports. One that is whole by its own marks, but has too few rows,
comes out with black ones, and a JPEG with grey ones.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFile

from sslcurr.data.decode.image import BrokenImage

__all__ = [
    "AFTER_SCAN",
    "FRAME_HEADERS",
    "ends_grey",
    "fill",
    "require_all_rows",
    "require_all_scans",
    "require_strips",
]

# In a JPEG's compressed data, 0xff is followed by zero or is a restart marker; anything else ends it.
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, RESTART_INTERVAL = 0xD8, 0xD9, 0xDA, 0xDD

NUM_COEFFICIENTS = 64

# What follows the compressed data where it should have ended: any bytes without a marker serve.
FILLER = bytes(range(1, 255)) * 20

FILL, OTHER_FILL = 171, 84  # no bit of which is the same

IMAGE_LENGTH, STRIP_OFFSETS, TILE_OFFSETS = 257, 273, 324  # of TIFF

TOO_FEW_ROWS = "it has fewer rows than its header says"
END_MARKER = b"\xff\xd9"
UNWRITTEN = bytes(64)  # of a file whose download or copy stopped
ENDS_EARLY = "its compressed pixels end early"


def fill(image: ImageFile.ImageFile, value: int = FILL) -> np.ndarray:
    """Give an opened PNG pixels whose last two rows have one value before it is loaded, and return these rows.

    Pillow writes the rows of the file over them, and would leave zeros where there are none, as sound files have too.
    """
    filled = Image.new(image.mode, image.size, None)  # zeros, which cost nothing until they are written over
    width, height = image.size
    value = 255 * (value == FILL) if image.mode == "1" else value  # any but 0 is white there
    filled.paste(value, (0, max(0, height - 2), width, height))
    rows = _last_rows(filled)
    image.im = filled.im
    return rows


def require_all_rows(
    image: ImageFile.ImageFile, rows: np.ndarray, open_again: Callable[[], ImageFile.ImageFile]
) -> None:
    """Raise BrokenImage if one of the last two rows of a loaded PNG is not in its file.

    rows: what `fill` gave before it was loaded. Where a row is still as it was, the PNG is decoded once more onto other
    pixels, as its own may be like these. `open_again` opens it anew.
    """
    untouched = _equal_rows(_last_rows(image), rows)
    if not untouched.any():
        return
    again = open_again()
    others = fill(again, OTHER_FILL)
    again.load()
    if (untouched & _equal_rows(_last_rows(again), others)).any():
        raise BrokenImage(TOO_FEW_ROWS)


def _equal_rows(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows are equal, bool [2]; none in arrays of different shapes."""
    if rows.shape != others.shape:
        return np.zeros(len(rows), bool)
    return np.array([np.array_equal(row, other) for row, other in zip(rows, others, strict=True)])


def require_strips(image: ImageFile.ImageFile) -> None:
    """Raise BrokenImage if the strips or tiles of an opened TIFF do not reach its last row, or some are not in it."""
    tags = getattr(image, "tag_v2", {})
    offsets = [tags.get(tag, ()) for tag in (STRIP_OFFSETS, TILE_OFFSETS)]
    if any(0 in (each if isinstance(each, tuple) else (each,)) for each in offsets):
        raise BrokenImage("parts of its pixels are not stored in it")
    height = tags.get(IMAGE_LENGTH)
    ends = [tile.extents[3] for tile in image.tile if tile.extents is not None]
    if isinstance(height, int) and ends and max(ends) < height:
        raise BrokenImage(TOO_FEW_ROWS)


def _last_rows(image: Image.Image) -> np.ndarray:
    """The last two rows, [2, W] or [2, W, C]: of an interlaced PNG, the odd ones come last."""
    width, height = image.size
    return np.asarray(image.crop((0, max(0, height - 2), width, height)))


def ends_grey(image: Image.Image) -> bool:
    """Whether the last pixel is the grey that a JPEG decoder fills with."""
    value = image.getpixel((image.size[0] - 1, image.size[1] - 1))
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, int) and 126 <= each <= 129 for each in values)


@dataclass(slots=True)
class _Jpeg:
    """The structure of a JPEG: `scans` are (start of its data, components, first and last coefficient, low bit)."""

    frame: int = 0
    height: int = 0
    width: int = 0
    interval: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    scans: list[tuple[int, list[int], int, int, int]] = field(default_factory=list)


def require_all_scans(data: bytes, *, is_grey_at_end: bool) -> None:
    """Raise BrokenImage if the compressed data of a JPEG end before its last block, though its end marker is there.

    A decoder fills with grey from there on, so only a file whose last pixel is grey (see `ends_grey`) is decoded once
    more, with bytes added at the end of its data: those of a whole file change nothing.
    """
    jpeg = _structure(data)
    if jpeg is None or not jpeg.scans or not jpeg.sampling:
        return  # Pillow says what is wrong with it
    if data.endswith(UNWRITTEN) and END_MARKER not in data[jpeg.scans[-1][0] :]:
        raise BrokenImage(ENDS_EARLY)
    several = len(jpeg.scans) > 1 or set(jpeg.scans[0][1]) != set(jpeg.sampling) or jpeg.frame in PROGRESSIVE
    if several and not _are_complete(jpeg):
        raise BrokenImage("scans of its compressed pixels are missing")
    if jpeg.interval and not several and _num_restarts(data, jpeg) < -(-_num_units(jpeg) // jpeg.interval) - 1:
        raise BrokenImage(ENDS_EARLY)
    if is_grey_at_end or (several and jpeg.frame not in PROGRESSIVE):
        added = _with_filler(data, [scan[0] for scan in jpeg.scans])
        if not np.array_equal(_decoded(data), _decoded(added)):
            raise BrokenImage(ENDS_EARLY)


def _structure(data: bytes) -> _Jpeg | None:
    """The headers of a JPEG up to its end; None if they do not follow one another."""
    jpeg, position = _Jpeg(), 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == END_OF_IMAGE:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in FRAME_HEADERS and len(content) >= 6:
            jpeg.frame = marker
            jpeg.height, jpeg.width = struct.unpack_from(">HH", content, 1)
            parts = [content[6 + 3 * i : 9 + 3 * i] for i in range(content[5])]
            if any(len(part) < 3 for part in parts):
                return None
            jpeg.sampling = {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
        elif marker == RESTART_INTERVAL and len(content) >= 2:
            (jpeg.interval,) = struct.unpack_from(">H", content)
        elif marker == START_OF_SCAN and content and len(content) >= 2 * content[0] + 4:
            names = [content[1 + 2 * i] for i in range(content[0])]
            first, last, bits = content[-3:]
            jpeg.scans.append((position, names, first, last, bits & 15))
            if set(names) == set(jpeg.sampling) and jpeg.frame not in PROGRESSIVE:
                break  # all that there is
            end = AFTER_SCAN.search(data, position)
            if end is None:
                break
            position = end.start()
    return jpeg


def _are_complete(jpeg: _Jpeg) -> bool:
    """Whether every coefficient of every component has a scan down to its lowest bit."""
    there: dict[int, set[int]] = {name: set() for name in jpeg.sampling}
    for _, names, first, last, low_bit in jpeg.scans:
        for name in names:
            if low_bit == 0 and name in there:
                there[name] |= set(range(first, last + 1)) if jpeg.frame in PROGRESSIVE else set(range(64))
    return all(len(coefficients) >= NUM_COEFFICIENTS for coefficients in there.values())


def _num_units(jpeg: _Jpeg) -> int:
    """How many units (MCUs) the only scan has."""
    sampling = list(jpeg.sampling.values())
    if len(sampling) == 1:
        across, down = 8, 8
    else:
        across, down = 8 * max(each[0] for each in sampling), 8 * max(each[1] for each in sampling)
    return -(-jpeg.width // max(1, across)) * -(-jpeg.height // max(1, down))


def _num_restarts(data: bytes, jpeg: _Jpeg) -> int:
    start = jpeg.scans[0][0]
    end = AFTER_SCAN.search(data, start)
    return sum(1 for _ in RESTART.finditer(data, start, end.start() if end else len(data)))


def _with_filler(data: bytes, starts: list[int]) -> bytes:
    """The JPEG with `FILLER` behind the data of the scans that begin at `starts`."""
    parts, position = [], 0
    for start in starts:
        end = AFTER_SCAN.search(data, start)
        place = end.start() if end else len(data)
        parts += [data[position:place], FILLER]
        position = place
    return b"".join([*parts, data[position:]])


def _decoded(data: bytes) -> np.ndarray:
    """The JPEG at an eighth of its size, which shows each block, or as near to it as it can be."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft(None, (max(1, image.size[0] // 8), max(1, image.size[1] // 8)))
        image.load()
        return np.asarray(image)
