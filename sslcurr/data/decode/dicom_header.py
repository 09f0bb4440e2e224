"""What a DICOM header says of its pixels, each element by itself: absent, empty, not a number, or against the others.

Sources: PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), C.11.2 (VOI LUT), PS3.5 A.5 (deflated). Nothing of a header
gets into a message: it may hold a person's name.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslcurr.data.decode.image import DECODER_ERRORS, MAX_PIXELS, BrokenImage

__all__ = [
    "MONOCHROME",
    "PIXEL_KEYWORDS",
    "Layout",
    "Table",
    "first_number",
    "has_words",
    "inflated",
    "is_compressed",
    "items",
    "layout_of",
    "num_frames_of",
    "numbers",
    "overlay_bits",
    "table_of",
    "text",
]

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
ONE_SAMPLE = (*MONOCHROME, "PALETTE COLOR")

DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT = b"1.2.840.10008.1.2.1\0\0\0"
UNCOMPRESSED = (b"", b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", DEFLATED)
"""Transfer syntaxes of pixels as they are; a file that names none is one of these."""
LONG_TYPES = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
HEADER_BYTES = 2**24
MOST_INFLATED = 2**31
"""Bytes that a header, and a whole deflated file, may have."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels are stored, by the elements of the image pixel module and the standard's defaults.

    `frames` is 1 at least. A sample is `stored` bits of the `allocated`, of which `high` is the highest, from 0.
    `photometric` is of the standard's terms. `planar` is 1 where each colour has a plane of its own.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    is_signed: bool
    photometric: str
    planar: int

    @property
    def shift(self) -> int:
        """How many unused bits are below a sample."""
        return self.high + 1 - self.stored

    @property
    def frame_bits(self) -> int:
        """Bits of an uncompressed frame."""
        return self.rows * self.columns * self.samples * self.allocated

    def write_to(self, dataset: Any) -> None:
        """Give a data set these elements, for pydicom, which takes none of them for granted."""
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = self.rows, self.columns, self.samples
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = self.allocated, self.stored, self.high
        dataset.PixelRepresentation, dataset.PhotometricInterpretation = int(self.is_signed), self.photometric
        dataset.NumberOfFrames = self.frames
        if self.samples > 1:
            dataset.PlanarConfiguration = self.planar


def numbers(dataset: Any, keyword: str) -> list[float | None]:
    """The values of an element, None for each that is no finite number; an empty list if it is absent or empty."""
    try:
        value = dataset.get(keyword)
    except DECODER_ERRORS:
        # One of several values cannot be read: pydicom gives none of them.
        raw = getattr(dataset.get_item(keyword), "value", b"")
        value = raw.decode("ascii", "replace").split("\\") if isinstance(raw, bytes) else None
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    values = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)
    return [_number(each) for each in values]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def first_number(dataset: Any, keyword: str) -> float | None:
    """The first value of an element; None if it is absent, empty or not a finite number."""
    return next(iter(numbers(dataset, keyword)), None)


def has_words(dataset: Any, *keywords: str) -> bool:
    """Whether one of these numbers is written as text of another type, which versions before took for none."""
    for keyword in keywords:
        try:
            value = dataset.get(keyword)
        except DECODER_ERRORS:
            continue
        if isinstance(value, str) and first_number(dataset, keyword) is not None:
            return True
    return False


def _integer(dataset: Any, keyword: str, default: int, accepted: range) -> int:
    number = first_number(dataset, keyword)
    return default if number is None or int(number) not in accepted else int(number)


def text(dataset: Any, keyword: str) -> str:
    """The first value of an element of words, in capitals; empty if it is absent or cannot be read."""
    try:
        value = dataset.get(keyword)
    except DECODER_ERRORS:
        return ""
    if value is not None and not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        value = next(iter(value), "")
    return str(value or "").strip("\0 ").upper()


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; none if it is absent, empty or no sequence."""
    try:
        value = dataset.get(keyword)
    except DECODER_ERRORS:
        return []
    return (
        list(value) if value is not None and not isinstance(value, str | bytes) and hasattr(value, "__iter__") else []
    )


def num_frames_of(dataset: Any) -> int:
    """How many frames the header says; 1 where it says none. Raises BrokenImage for what is no number."""
    values = numbers(dataset, "NumberOfFrames")
    if values and values[0] is None and text(dataset, "NumberOfFrames"):
        raise BrokenImage("its DICOM header is damaged (NumberOfFrames)")
    return max(1, int(values[0] or 1)) if values else 1


def layout_of(dataset: Any, *, is_native: bool, is_jpeg: bool) -> Layout:
    """The layout of the pixels in a data set. Raises BrokenImage if it has no size, or one that cannot be.

    is_native: the pixels are not compressed, so that their length counts. is_jpeg: they are a JPEG.
    """
    frames = num_frames_of(dataset)
    rows, columns = (_integer(dataset, keyword, -1, range(2**16)) for keyword in ("Rows", "Columns"))
    if rows < 0 or columns < 0:
        raise BrokenImage("its DICOM header is damaged: it does not say how many rows and columns it has")
    if rows * columns > MAX_PIXELS:
        raise BrokenImage(f"its header says {columns} x {rows} pixels, more than the {MAX_PIXELS} that are read")
    if rows == 0 or columns == 0:
        raise BrokenImage(f"its header says {columns} x {rows} pixels")
    photometric = text(dataset, "PhotometricInterpretation")
    samples = _integer(dataset, "SamplesPerPixel", 0, range(1, 2**16))
    samples = samples or (1 if photometric in (*ONE_SAMPLE, "") else 3)
    if not photometric and samples == 1:
        photometric = "MONOCHROME1" if text(dataset, "PresentationLUTShape") == "INVERSE" else "MONOCHROME2"
    photometric = photometric or ("YBR_FULL_422" if is_jpeg else "RGB")
    stored = _integer(dataset, "BitsStored", 0, range(1, 65))
    keyword = next(each for each in PIXEL_KEYWORDS if each in dataset)
    if keyword == "PixelData":
        pixels = dataset.PixelData if is_native else b""
        guessed = 8 * (len(pixels) // (rows * columns * samples * frames)) or 8 * -(-stored // 8) or 8
        allocated = _integer(dataset, "BitsAllocated", guessed, range(1, 65))
    else:
        allocated = stored = 32 if keyword == "FloatPixelData" else 64
    stored = min(stored or allocated, allocated)
    high = _integer(dataset, "HighBit", stored - 1, range(stored - 1, allocated))
    is_signed = _integer(dataset, "PixelRepresentation", 0, range(2)) == 1
    planar = _integer(dataset, "PlanarConfiguration", 0, range(2))
    layout = Layout(rows, columns, samples, frames, allocated, stored, high, is_signed, photometric, planar)
    if is_native:
        _require_as_many(8 * len(getattr(dataset, keyword)), layout)
    return layout


def _require_as_many(bits: int, layout: Layout) -> None:
    """Raise BrokenImage if uncompressed pixels of so many bits are not those of the layout."""
    # Two pixels share their colours there.
    expected = layout.frames * layout.frame_bits * (2 if layout.photometric == "YBR_FULL_422" else 3) // 3
    if bits < expected:
        raise BrokenImage("its pixels are cut off, or fewer than its header says (frames, size or bits are wrong)")
    # One byte, or an incomplete frame, may be padding.
    if bits - expected >= max(16, layout.frame_bits):
        raise BrokenImage("it has pixels for more images than its header says (frames, size or bits are wrong)")


def overlay_bits(dataset: Any) -> int:
    """The unused bits in which a header says that overlays lie, as was once allowed: a number with them set."""
    found = 0
    for tag in sorted(dataset.keys()):
        if tag >> 24 == 0x60 and tag & 0x1FFFF == 0x0102:  # of an even group
            position = dataset[tag].value
            found |= 1 << position if isinstance(position, int) and 0 < position < 64 else 0
    return found


@dataclass(frozen=True, slots=True)
class Table:
    """A look-up table of a header: `entries` int32 [N], the value `first` that has the first, and the entries' bits.

    `written` are the first value and the bits by the letter of the header, which may contradict the table.
    """

    entries: np.ndarray
    first: int
    bits: int
    written: tuple[int, int]

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values through the table, int32 of the same shape; those beyond it to its ends."""
        places = np.nan_to_num(values.astype(np.float64), nan=self.first) - self.first
        return self.entries[places.clip(0, len(self.entries) - 1).astype(np.int64)]


def table_of(dataset: Any, item: Any, *, is_signed: bool, prefix: str = "LUT", data: str = "LUTData") -> Table | None:
    """The table in an item of a sequence; None if it has no descriptor or no data.

    The descriptor is read so: a length of 0 means 65,536; the first value is negative from 32,768 on where values
    `is_signed`, and never where they are not; the bits are as many as the entries need where these go beyond what it
    says, or use less than a quarter of that: many writers put there the 16 bits of a word.

    Raises BrokenImage if the table is shorter than its descriptor says.
    """
    descriptor, content = numbers(item, f"{prefix}Descriptor"), _content(item, data)
    if len(descriptor) < 2 or content is None or len(content) == 0:
        return None
    length, first = (int(value or 0) for value in descriptor[:2])
    said = int((descriptor[2] if len(descriptor) > 2 else 0) or 0)
    length = length % 2**16 or 2**16
    written = (first, said)
    first %= 2**16
    if is_signed and first >= 2**15:
        first -= 2**16
    is_big = dataset.original_encoding[1] is False
    if isinstance(content, bytes):
        if len(content) >= 2 * length:
            entries = np.frombuffer(content[: 2 * length], ">u2" if is_big else "<u2")
        elif said > 8:
            raise BrokenImage("a look-up table in its header is cut off or damaged")
        else:  # entries of 8 bits, two a word
            entries = np.frombuffer(content, "u1")
            entries = entries[: len(entries) // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1) if is_big else entries
    else:
        entries = np.asarray(content).reshape(-1)
    if len(entries) < length:
        raise BrokenImage("a look-up table in its header is cut off or damaged")
    entries = entries[:length].astype(np.int32)
    highest = int(entries.max())
    needed = max(8, highest.bit_length())
    bits = said
    if not 1 <= said <= 16 or highest >= 1 << said or highest < 1 << max(0, said - 2):
        bits = needed
    return Table(entries, first, bits, written)


def _content(item: Any, keyword: str) -> Any:
    try:
        value = item.get(keyword)
    except DECODER_ERRORS:
        return None
    return [value] if isinstance(value, int) else value


def is_compressed(start: bytes) -> bool:
    """Whether a DICOM file with this start keeps its pixels by a codec, or in a way that is not known."""
    end, syntax = _meta_end(start)
    return syntax not in UNCOMPRESSED or (not syntax and end + 8 > len(start))


def inflated(data: bytes, *, header_only: bool = False) -> bytes:
    """A deflated DICOM file as one that is not, and any other as it is.

    header_only: no more than the header, and what of the pixels follows it.

    Raises BrokenImage for one that is cut off, and, before it takes more memory than an image of its header's size
    does, for one that goes on beyond that.
    """
    end, syntax = _meta_end(data)
    if syntax != DEFLATED:
        return data
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    start = data[:end].replace(DEFLATED, EXPLICIT)
    content = decompressor.decompress(data[end:], HEADER_BYTES)
    if header_only or decompressor.eof:
        return start + content
    if decompressor.unconsumed_tail:
        most = _num_bytes(start + content) + HEADER_BYTES
        rest = decompressor.decompress(decompressor.unconsumed_tail, max(1, min(most, MOST_INFLATED) - len(content)))
        if not decompressor.eof and decompressor.unconsumed_tail:
            raise BrokenImage("it is deflated, and has more in it than an image of the size in its header")
        content += rest
    if not decompressor.eof:
        raise BrokenImage("the file is cut off")
    return start + content


def _num_bytes(data: bytes) -> int:
    """The length of the pixels by the header at the start of an inflated file."""
    from pydicom import dcmread

    tags = ["Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated"]
    header = dcmread(io.BytesIO(data), stop_before_pixels=True, force=True, specific_tags=list(tags))
    rows, columns = (_integer(header, keyword, 0, range(2**16)) for keyword in tags[:2])
    if rows * columns > MAX_PIXELS:
        raise BrokenImage(f"its header says {columns} x {rows} pixels, more than the {MAX_PIXELS} that are read")
    samples, bits = _integer(header, tags[2], 3, range(1, 5)), _integer(header, tags[4], 16, range(1, 65))
    return rows * columns * samples * num_frames_of(header) * -(-bits // 8)


def _meta_end(data: bytes) -> tuple[int, bytes]:
    """Where the file meta information ends, and the transfer syntax in it; it is explicit little endian always."""
    position, syntax = 132 if data[128:132] == b"DICM" else 0, b""
    while position + 8 <= len(data):
        group, element, kind, length = struct.unpack_from("<HH2sH", data, position)
        if group != 2:
            break
        start = position + 8
        if kind in LONG_TYPES and position + 12 <= len(data):
            (length,) = struct.unpack_from("<I", data, start)
            start += 4
        if element == 0x0010:
            syntax = re.sub(rb"[\0 ]+$", b"", data[start : start + length])
        position = start + length
    return position, syntax
