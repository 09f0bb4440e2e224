"""DICOM files to 8-bit arrays, as a viewer would show them first: modality, window, inversion, palette, colour space.

pydicom reads the header and the pixels; what becomes of a stored value is computed here, once for each possible one.
Nothing of a header gets into a message: it may hold a person's name. For the same reason pydicom, whose warnings and
log lines quote values, is silenced while it works.
"""

from __future__ import annotations

import importlib
import io
import itertools
import logging
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.data.decode.depth import count_codes, look_up, to_codes, window, window_table
from sslcurr.data.decode.image import MAX_PIXELS, BrokenImage, Traits
from sslcurr.errors import DataError

__all__ = ["decode_dicom", "has_grey_dicom_header", "looks_like_dicom", "num_frames"]

HINT = "pip install 'sslcurr[dicom]'"

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")

# The object identifier of CMS enveloped data, which is what an encrypted DICOM file is from its first bytes on.
ENVELOPED = bytes.fromhex("06092a864886f70d010703")

# Value representations that a first element, of group 2 or 8, can have.
FIRST_TYPES = frozenset({b"UL", b"OB", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"DT", b"SQ"})

IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
FAMILY_OF_JPEG = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"

JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")

# pydicom's names, the fastest first. gdcm reads more, but it ends the whole process on some damaged JPEGs and writes to
# stderr by itself, so that it is kept for what nothing else reads. pylibjpeg stands for a package of its own for each
# family; the one for JPEG and JPEG-LS is under the GPL and used only if someone has installed it.
PLUGINS = {
    JPEG_BASELINE: ("pillow", "pylibjpeg"),
    JPEG_EXTENDED: ("pillow", "pylibjpeg"),
    **dict.fromkeys(JPEG_LOSSLESS, ("gdcm", "pylibjpeg")),
    **dict.fromkeys(JPEG_LS, ("pyjpegls", "pylibjpeg")),
    **dict.fromkeys(JPEG_2000, ("pylibjpeg", "pillow")),
    RLE: ("pylibjpeg", "pydicom"),
}

END_MARKER = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike, and impossible inside their compressed data
MOST_PADDING = 64  # bytes after the end marker; the standard asks for one at most

# In a JPEG's compressed data, 0xff is followed by zero or is a restart marker; anything else ends it.
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_quiet_lock = threading.Lock()
_num_quiet = 0
_level_before = logging.NOTSET
_IGNORED = ("ignore", None, Warning, re.compile(r"(pydicom|pylibjpeg|PIL|sslcurr\.data\.decode\.dicom)\b"), 0)


def looks_like_dicom(data: bytes) -> bool:
    """Whether the first bytes of a file (132 are enough) are those of DICOM, with or without preamble, or encrypted."""
    if data[128:132] == b"DICM" or _is_encrypted(data):
        return True
    if len(data) < 16:
        return False
    group, element = struct.unpack("<HH", data[:4])
    if (group, element & 0xFF) in ((0x0200, 0), (0x0800, 0)):  # big endian
        return element <= 0x1800 and data[4:6] in FIRST_TYPES
    if group not in (2, 8) or element > 0x18:
        return False
    # Without a type, there is a length of 4 bytes.
    return data[4:6] in FIRST_TYPES or struct.unpack("<I", data[4:8])[0] <= 64


def decode_dicom(data: bytes, frame: int | None = None, traits: Traits | None = None) -> np.ndarray:
    """The image in the bytes of a DICOM file, uint8 [H, W, 1] for grey, [H, W, 3] for colour; borders are kept.

    Grey values go through the modality look-up table or rescale slope and intercept, then through the first VOI look-up
    table or, without one, the first window, whose output range becomes 0..255. Without either, they are mapped between
    their percentiles 0.1 and 99.9 as in `depth.window`, to which padding does not count; unsigned values of 8 bits
    without any of this are taken as they are. MONOCHROME1 is inverted: high is bright in the result. Colour of more
    than 8 bits is mapped by percentiles.

    frame: the number of a frame, from 0; only that one is decoded. None if the file must have just one.

    Raises BrokenImage, with a reason that quotes nothing of the header, if there is no image, not a whole one, an
    encrypted one, or several frames and `frame` is None; DataError if a package is missing.
    """
    if _is_encrypted(data):
        raise BrokenImage("it is encrypted")
    _require_pydicom()
    with _quiet():
        try:
            return _decode(data, frame)
        except MemoryError:
            raise BrokenImage("there is not enough memory to decode it") from None
        except _damage() as error:
            if isinstance(error, BrokenImage):
                raise
            # The text of pydicom's errors quotes values, and so would a traceback that showed them as the cause.
            raise BrokenImage(f"its DICOM header is damaged ({type(error).__name__})") from None


def num_frames(path: Path) -> int:
    """The number of frames of a DICOM file by its header, which is all that is read; 1 if the file is of another kind.

    Raises BrokenImage if the header cannot be read, OSError if the file cannot, DataError if pydicom is missing.
    """
    with path.open("rb") as file:
        start = file.read(132)
        if not looks_like_dicom(start) or _is_encrypted(start):
            return 1
    header = _header(path, ["NumberOfFrames"])
    with _quiet():
        try:
            return _num_frames(header)
        except _damage() as error:
            if isinstance(error, BrokenImage):
                raise
            raise BrokenImage(f"its DICOM header is damaged ({type(error).__name__})") from None


def has_grey_dicom_header(path: Path) -> bool:
    """Whether the header of a DICOM file says grey; also True for one that cannot be read or does not say.

    Raises DataError if pydicom is missing.
    """
    try:
        header = _header(path, ["PhotometricInterpretation", "SamplesPerPixel"])
        with _quiet():
            kind, samples = header.get("PhotometricInterpretation"), header.get("SamplesPerPixel")
    except (BrokenImage, OSError):
        return True
    except _damage():
        return True
    return samples in (None, 1) and kind != "PALETTE COLOR"


def _is_encrypted(data: bytes) -> bool:
    return data[:1] == b"\x30" and ENVELOPED in data[:64]


def _require_pydicom() -> None:
    try:
        importlib.import_module("pydicom")
    except ModuleNotFoundError as error:
        raise DataError("reading DICOM needs pydicom", HINT) from error


def _damage() -> tuple[type[Exception], ...]:
    """What pydicom and its decoders raise on damaged files."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        ArithmeticError,
        AssertionError,
        AttributeError,
        BytesLengthException,
        EOFError,
        InvalidDicomError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps pydicom's warnings and log lines back while any thread is in here.

    Filters and levels belong to the whole process. warnings.catch_warnings would put back a list that other threads may
    have changed meanwhile, so the one filter is added and taken away by itself.
    """
    global _num_quiet, _level_before
    logger = logging.getLogger("pydicom")
    with _quiet_lock:
        _num_quiet += 1
        if _num_quiet == 1:
            _level_before = logger.level
            logger.setLevel(logging.CRITICAL + 1)
        if _IGNORED not in warnings.filters:
            warnings.filters.insert(0, _IGNORED)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _quiet_lock:
            _num_quiet -= 1
            if _num_quiet == 0:
                logger.setLevel(_level_before)
                while _IGNORED in warnings.filters:
                    warnings.filters.remove(_IGNORED)  # type: ignore[attr-defined]


def _header(path: Path, keywords: list[str]) -> Any:
    """The data set of a file with these elements only. Raises BrokenImage, OSError, DataError."""
    _require_pydicom()
    from pydicom import dcmread

    with _quiet(), path.open("rb") as file:
        try:
            return dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(keywords))
        except _damage() as error:
            raise BrokenImage(f"its DICOM header is damaged ({type(error).__name__})") from None


def _decode(data: bytes, frame: int | None) -> np.ndarray:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(data), force=True)
    _require_image(dataset)
    frames = _num_frames(dataset)
    if frame is None and frames > 1:
        raise BrokenImage(
            f"it has {frames} frames; --frames first takes the first, --frames all takes each for an image"
        )
    frame = frame or 0
    if not 0 <= frame < frames:
        raise BrokenImage(f"it has {frames} frames, counted from 0; there is no frame {frame}")
    width, height = int(dataset.Columns), int(dataset.Rows)
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"its header says {width} x {height} pixels, more than the {MAX_PIXELS} that are read")
    if width == 0 or height == 0:
        raise BrokenImage(f"its header says {width} x {height} pixels")

    syntax = _transfer_syntax(dataset)
    pixels, colour_space = _pixels(dataset, syntax, frame, frames)
    if pixels.ndim == 3:
        return _colour(pixels, colour_space, dataset)
    if colour_space == "PALETTE COLOR":
        return _by_palette(pixels, dataset)
    if colour_space not in MONOCHROME:
        raise BrokenImage("its header names a colour space that does not fit one sample a pixel")
    shown = _grey(pixels, dataset, syntax, frame)
    return shown[..., None]


def _require_image(dataset: Any) -> None:
    if any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        return
    if "EncryptedAttributesSequence" in dataset:
        raise BrokenImage("it is encrypted")
    if "Rows" in dataset and "Columns" in dataset:
        raise BrokenImage("the file is cut off: it has the header of an image, but no pixels")
    kind = dataset.get("SOPClassUID") or getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID")
    name = _standard_name(kind)
    raise BrokenImage(f"it holds no image ({name})" if name else "it holds no image, or is cut off")


def _standard_name(uid: Any) -> str:
    """What the standard calls an identifier; empty for one it does not know, which may identify its maker."""
    name = str(getattr(uid, "name", ""))
    return "" if name == str(uid) else name


def _num_frames(dataset: Any) -> int:
    value = dataset.get("NumberOfFrames")
    frames = 1 if value in (None, "") else int(value)
    return max(frames, 1)


def _transfer_syntax(dataset: Any) -> Any:
    """How the pixels are stored; files without this element are uncompressed, as their header was readable."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = getattr(dataset, "file_meta", None)
    if meta is not None and meta.get("TransferSyntaxUID"):
        return meta.TransferSyntaxUID
    is_implicit, is_little = dataset.original_encoding
    explicit = EXPLICIT_LITTLE if is_little else EXPLICIT_BIG
    syntax = UID(IMPLICIT_LITTLE if is_implicit else explicit)
    dataset.file_meta = meta = FileMetaDataset() if meta is None else meta
    meta.TransferSyntaxUID = syntax
    return syntax


def _pixels(dataset: Any, syntax: Any, frame: int, frames: int) -> tuple[np.ndarray, str]:
    """One frame as stored, [H, W] or [H, W, samples], and its colour space after YBR was converted to RGB."""
    from pydicom.pixels import get_decoder

    name = _standard_name(syntax) or "an unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BrokenImage(f"its pixels are stored as {name}, which is not read") from None
    # Options of pydicom, which types each of them by itself.
    options: dict[str, Any] = {"allow_excess_frames": False}
    if not _keeps_sign(syntax):
        options["correct_unused_bits"] = False  # the look-up table does it, without two passes over a copy
    if decoder.is_native:
        try:
            pixels, properties = decoder.as_array(dataset, index=frame, **options | {"view_only": True})
        except _damage() as error:
            raise BrokenImage(f"its pixels are cut off or damaged ({type(error).__name__})") from None
        return pixels, str(properties["photometric_interpretation"])

    candidates = PLUGINS.get(str(syntax), decoder.available_plugins)
    plugins = [plugin for plugin in candidates if plugin in decoder.available_plugins]
    if not plugins:
        raise DataError(f"reading DICOM with {name} needs another package", HINT)
    part = _whole_frame(dataset, str(syntax), frame, frames)
    if str(syntax) in JPEG_LOSSLESS:
        _require_sound_jpeg(part, dataset)
    if str(syntax) == RLE and not _is_plain_rle(part, dataset):
        plugins = ["pydicom"]
    for plugin in plugins:
        try:
            pixels, properties = decoder.as_array(dataset, index=frame, decoding_plugin=plugin, **options)
        except _damage():
            continue
        return pixels, str(properties["photometric_interpretation"])
    if syntax == JPEG_EXTENDED and dataset.BitsStored > 8 and "pylibjpeg" not in plugins:
        raise BrokenImage("its pixels are JPEG with 12 bits, which only the package pylibjpeg-libjpeg reads")
    raise BrokenImage(f"its pixels cannot be decoded ({name})")


def _keeps_sign(syntax: Any) -> bool:
    """Whether pydicom itself gives samples of this kind their sign and drops their unused bits."""
    return str(syntax) in JPEG_LS or str(syntax).startswith((JPEG_2000[0][:-1], "1.2.840.10008.1.2.4.20"))


def _whole_frame(dataset: Any, syntax: str, frame: int, frames: int) -> bytes:
    """The compressed pixels of a frame.

    Raises BrokenImage if they end early, of which some decoders make half an image without a word.
    """
    from pydicom.encaps import get_frame

    content = dataset.PixelData
    position = 0
    while position + 8 <= len(content):
        tag, length = struct.unpack_from("<II", content, position)
        if tag == 0xE0DDFFFE:
            break
        position += 8 + length
        if tag != 0xE000FFFE or position > len(content):
            raise BrokenImage("its compressed pixels are cut off or damaged")
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    part = get_frame(content, frame, number_of_frames=frames, extended_offsets=offsets if all(offsets) else None)
    if not part:
        raise BrokenImage("its compressed pixels are cut off")
    if syntax.startswith(FAMILY_OF_JPEG) and END_MARKER not in part[-MOST_PADDING:]:
        raise BrokenImage("its compressed pixels are cut off")
    return part


def _is_plain_rle(data: bytes, dataset: Any) -> bool:
    """Whether each segment gives just the bytes that it should; else pylibjpeg-rle panics, or leaves pixels black.

    Also False if that package is missing; pydicom's own decoder is ten times slower, but sound.
    """
    try:
        from rle.utils import decode_segment
    except ImportError:
        return False
    count, *starts = struct.unpack_from("<16I", data)
    if count != int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8 or count > len(starts):
        return False
    segments = [data[start:end] for start, end in itertools.pairwise([*starts[:count], len(data)])]
    num_pixels = int(dataset.Rows) * int(dataset.Columns)
    return all(segment and len(decode_segment(segment)) == num_pixels for segment in segments)


def _require_sound_jpeg(data: bytes, dataset: Any) -> None:
    """Raises BrokenImage unless a JPEG's segments follow one another to its end and its size is as the header says.

    gdcm ends the process if that is not so, or writes beyond its memory.
    """
    size = struct.pack(">HHB", int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    bits = 16 if int(dataset.BitsAllocated) > 8 else 8
    position, sized = 2, False
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        if marker == 0xFF:  # fill
            position += 1
            continue
        if marker <= 1 or 0xD0 <= marker <= 0xD8 or length < 2 or len(content) != length - 2:
            break
        if marker in FRAME_HEADERS:
            if sized or content[1:6] != size or not 2 <= content[0] <= bits or bits - content[0] >= 8:
                break
            sized = True
        if marker == 0xC4 and not _are_huffman_tables(content):
            break
        if marker == 0xEE and content.startswith(b"Adobe") and (len(content) != 12 or content[11] > 2):
            break  # a colour transform that does not exist
        position += 2 + length
        if marker == 0xDA:
            if not sized or (end := AFTER_SCAN.search(data, position)) is None:
                break
            position = end.start()
            if data[position + 1] == 0xD9:
                return
    raise BrokenImage("its compressed pixels are damaged")


def _are_huffman_tables(content: bytes) -> bool:
    position = 0
    while position + 17 <= len(content):
        position += 17 + sum(content[position + 1 : position + 17])
    return position == len(content)


def _colour(pixels: np.ndarray, colour_space: str, dataset: Any) -> np.ndarray:
    if pixels.shape[2] != 3:
        raise BrokenImage(f"it has {pixels.shape[2]} samples a pixel; 1 and 3 are read")
    if colour_space != "RGB":
        raise BrokenImage("its header names a colour space that is not read")
    stored = int(dataset.BitsStored) if "BitsStored" in dataset else 0
    if pixels.dtype.kind == "u" and stored == 8:
        return np.ascontiguousarray(pixels.astype(np.uint8, copy=False))
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 4 and 0 < stored < 8 * pixels.dtype.itemsize:
        pixels = pixels & pixels.dtype.type((1 << stored) - 1)
    return np.ascontiguousarray(window(pixels))


def _by_palette(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut

    codes = to_codes(pixels)
    table = apply_color_lut(np.arange(256**codes.itemsize, dtype=codes.dtype).reshape(1, -1), dataset)[0, :, :3]
    # Some writers put values of 8 bits into words of 16, as the low byte.
    if table.dtype.itemsize == 2:
        table = table >> 8 if table.max() > 255 else table
    return look_up(np.ascontiguousarray(table.astype(np.uint8)), codes)


def _grey(pixels: np.ndarray, dataset: Any, syntax: Any, frame: int) -> np.ndarray:
    """Stored values [H, W] to uint8 [H, W]."""
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2:
        shown = _grey_by_pixel(pixels, dataset, frame)
        return 255 - shown if inverted else shown

    codes = to_codes(pixels)
    bits = 8 * codes.itemsize
    if not _keeps_sign(syntax):
        bits = min(bits, int(dataset.BitsStored))
    stored = np.arange(2**bits, dtype=np.int32)
    if pixels.dtype.kind == "i":
        stored[stored.size // 2 :] -= stored.size
    values = _modality(stored, dataset, frame)
    table = _voi(values, dataset, frame)
    if table is None and bits == 8 and values is stored and pixels.dtype.kind == "u":
        table = stored.astype(np.uint8)
    elif table is None:
        # Whatever unused bits hold, the same stored value is the same entry.
        counts = count_codes(codes).reshape(-1, stored.size).sum(axis=0)
        counts[_is_padding(stored, dataset, bits)] = 0
        table = window_table(values, counts)
    if inverted:
        table = 255 - table
    return look_up(np.tile(table, 256**codes.itemsize // stored.size), codes)


def _grey_by_pixel(pixels: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    """For floats and integers of 32 bits and more, whose values are too many for a table."""
    bits = 8 * pixels.dtype.itemsize
    if pixels.dtype.kind != "f" and (unused := bits - int(dataset.BitsStored)) > 0:
        pixels = pixels.astype(pixels.dtype.newbyteorder("=")) << unused >> unused
    values = _modality(pixels, dataset, frame)
    shown = _voi(values, dataset, frame)
    return window(values, ~_is_padding(pixels, dataset, bits)) if shown is None else shown


def _is_padding(stored: np.ndarray, dataset: Any, bits: int) -> np.ndarray:
    """Where stored values are the padding value, or in its range: bool of the same shape."""
    for keyword in ("PixelPaddingValue", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"):
        if (first := _first_number(dataset, keyword)) is None:
            continue
        second = _first_number(dataset, keyword.replace("Value", "RangeLimit"))
        second = first if second is None else second
        if stored.dtype.kind == "f":
            return (stored >= min(first, second)) & (stored <= max(first, second))
        first, second = (_wrapped(int(x), bits, signed=bool(dataset.PixelRepresentation)) for x in (first, second))
        return (stored >= min(first, second)) & (stored <= max(first, second))
    return np.zeros(stored.shape, bool)


def _wrapped(value: int, bits: int, signed: bool) -> int:
    """A padding value written as unsigned where pixels are signed, or the other way round, as the pixels have it."""
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def _modality(stored: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    """Stored values in the modality's unit; the same array if that is what they are in."""
    if items := dataset.get("ModalityLUTSequence"):
        return _by_lut(stored, items[0], dataset)[0]
    source = _holder(dataset, frame, "RescaleSlope", "PixelValueTransformationSequence")
    slope, intercept = _first_number(source, "RescaleSlope"), _first_number(source, "RescaleIntercept")
    if slope is None or intercept is None or (slope == 1 and intercept == 0):
        return stored
    return stored.astype(np.float64) * slope + intercept


def _voi(values: np.ndarray, dataset: Any, frame: int) -> np.ndarray | None:
    """Values in the modality's unit to uint8 by the first VOI look-up table or window; None if there is neither."""
    source = _holder(dataset, frame, "VOILUTSequence", "FrameVOILUTSequence")
    if items := source.get("VOILUTSequence"):
        entries, bits = _by_lut(values, items[0], dataset)
        return np.rint(entries.astype(np.float64) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
    source = _holder(dataset, frame, "WindowWidth", "FrameVOILUTSequence")
    centre, width = _first_number(source, "WindowCenter"), _first_number(source, "WindowWidth")
    if centre is None or width is None:
        return None
    function = str(source.get("VOILUTFunction") or "LINEAR").upper()
    exact = function in ("LINEAR_EXACT", "SIGMOID")
    if width <= 0 or (width < 1 and not exact):
        return None
    wide = np.nan_to_num(values.astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    if function == "SIGMOID":
        # Beyond these bounds every byte is 0 or 255, and the exponential would overflow.
        shown = 1 / (1 + np.exp((-4 * (wide - centre) / width).clip(-100, 100)))
    else:
        if not exact:
            centre, width = centre - 0.5, width - 1
        shown = ((wide - centre) / width + 0.5).clip(0, 1) if width > 0 else np.float64(wide > centre)
    return np.rint(shown * 255).astype(np.uint8)


def _holder(dataset: Any, frame: int, keyword: str, group: str) -> Any:
    """What holds an element: the data set, else the functional group of the frame, else the one all frames share."""
    if keyword in dataset:
        return dataset
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(sequence) or []
        if index < len(items) and (group_items := items[index].get(group)) and keyword in group_items[0]:
            return group_items[0]
    return dataset


def _first_number(dataset: Any, keyword: str) -> float | None:
    """The first value of an element; None if it is absent, empty or not finite."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, str | bytes):
        return None
    if hasattr(value, "__len__"):
        if len(value) == 0:
            return None
        value = value[0]
    number = float(value)
    return number if math.isfinite(number) else None


def _by_lut(values: np.ndarray, item: Any, dataset: Any) -> tuple[np.ndarray, int]:
    """Values through a look-up table of the header, those beyond it to its ends; and the bits of its entries.

    Raises BrokenImage if the table is shorter than its descriptor says.
    """
    length, first, bits = (int(x) for x in item.LUTDescriptor)
    length = length or 2**16
    content = item.LUTData
    if isinstance(content, bytes):
        order = ">" if dataset.original_encoding[1] is False else "<"
        # Entries of 8 bits may be packed, two a word.
        kind = f"{order}u2" if len(content) >= 2 * length else "u1"
        entries = np.frombuffer(content, kind)
    else:
        entries = np.asarray(content).reshape(-1)
    if len(entries) < length or not 1 <= bits <= 16:
        raise BrokenImage("a look-up table in its header is cut off or damaged")
    places = np.nan_to_num(values.astype(np.float64), nan=first) - first
    return entries[places.clip(0, length - 1).astype(np.int64)].astype(np.int32), bits
