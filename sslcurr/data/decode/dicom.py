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
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.data.decode.depth import count_codes, has_two_values, look_up, to_codes, window, window_table
from sslcurr.data.decode.dicom_header import (
    DEFLATED,
    MONOCHROME,
    PIXEL_KEYWORDS,
    Layout,
    first_number,
    has_words,
    inflated,
    is_compressed,
    items,
    layout_of,
    num_frames_of,
    numbers,
    overlay_bits,
    table_of,
    text,
)
from sslcurr.data.decode.image import DECODER, DECODER_ERRORS, MAX_PIXELS, BrokenImage, Traits
from sslcurr.data.decode.whole import AFTER_SCAN, FRAME_HEADERS, require_all_scans
from sslcurr.errors import DataError
from sslcurr.files import open_regular

__all__ = ["decode_dicom", "has_grey_dicom_header", "is_compressed_dicom", "looks_like_dicom", "num_frames"]

HINT = "pip install 'sslcurr[dicom]'"

# The object identifier of CMS enveloped data, which is what an encrypted DICOM file is from its first bytes on.
ENVELOPED = bytes.fromhex("06092a864886f70d010703")

META_BYTES = 4096  # of a file, within which its transfer syntax is named

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
PANIC = "PanicException"  # what a package in Rust raises; it is no Exception
START_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
JPEG_LS_FRAME = 0xF7
MOST_PADDING = 64  # bytes after the end marker; the standard asks for one at most

_quiet_lock = threading.Lock()
_num_quiet = 0
_level_before = logging.NOTSET
_IGNORED = ("ignore", None, Warning, re.compile(r"(pydicom|pylibjpeg|PIL|sslcurr\.data\.decode\.dicom(_header)?)\b"), 0)


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


def is_compressed_dicom(path: Path) -> bool:
    """Whether a file is DICOM whose pixels are compressed, or may be; also False for one that cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(META_BYTES)
    except OSError:
        return False
    return looks_like_dicom(start) and is_compressed(start)


def decode_dicom(data: bytes, frame: int | None = None, traits: Traits | None = None) -> np.ndarray:
    """The image in the bytes of a DICOM file, uint8 [H, W, 1] for grey, [H, W, 3] for colour; borders are kept.

    Grey values go through the modality look-up table or rescale slope and intercept, then through the first VOI look-up
    table or, without one, the first window, whose output range becomes 0..255. Without either, they are mapped between
    their percentiles 0.1 and 99.9 as in `depth.window`, to which padding does not count; unsigned values of 8 bits
    without any of this are taken as they are. MONOCHROME1 is inverted: high is bright in the result. Colour of more
    than 8 bits is mapped by percentiles.

    Elements that are absent, empty or no numbers are read as the standard's defaults: slope 1, intercept 0, unsigned,
    one frame, as many bits as allocated, and MONOCHROME2 (or MONOCHROME1 for the shape INVERSE) for one sample a pixel.
    Samples lie below `HighBit`; those that fit no reading of the header are refused.

    frame: the number of a frame, from 0; only that one is decoded. None if the file must have just one.
    traits: gets what is noted of the image.

    Raises BrokenImage, with a reason that quotes nothing of the header, if there is no image, not a whole one, an
    encrypted one, or several frames and `frame` is None; DataError if a package is missing.
    """
    if _is_encrypted(data):
        raise BrokenImage("it is encrypted")
    require_pydicom()
    with _quiet(), _damage_is_broken():
        return _decode(data, frame, Traits() if traits is None else traits)


def num_frames(path: Path) -> int:
    """The number of frames of a DICOM file by its header, which is all that is read; 1 if the file is of another kind.

    Raises BrokenImage if the header cannot be read, OSError if the file cannot, DataError if pydicom is missing.
    """
    with open_regular(path) as file:
        start = file.read(132)
        if not looks_like_dicom(start) or _is_encrypted(start):
            return 1
    header = _header(path, ["NumberOfFrames"])
    with _quiet(), _damage_is_broken():
        return num_frames_of(header)


def has_grey_dicom_header(path: Path) -> bool:
    """Whether the header of a DICOM file says grey; also True for one that cannot be read or does not say.

    Raises DataError if pydicom is missing.
    """
    try:
        header = _header(path, ["PhotometricInterpretation", "SamplesPerPixel"])
    except (BrokenImage, OSError):
        return True
    with _quiet():
        kind, samples = text(header, "PhotometricInterpretation"), first_number(header, "SamplesPerPixel")
    return samples in (None, 1) and kind in ("", *MONOCHROME)


def _is_encrypted(data: bytes) -> bool:
    return data[:1] == b"\x30" and ENVELOPED in data[:64]


def require_pydicom() -> None:
    """Raises DataError if pydicom is missing."""
    try:
        importlib.import_module("pydicom")
    except ModuleNotFoundError as error:
        raise DataError("DICOM needs pydicom", HINT) from error


@contextmanager
def _damage_is_broken() -> Iterator[None]:
    """Makes a BrokenImage of whatever pydicom and its decoders raise, without its text, which quotes values.

    Neither is it kept as the cause: a traceback would show it.
    """
    try:
        yield
    except (BrokenImage, DataError):
        raise
    except MemoryError:
        raise BrokenImage("there is not enough memory to decode it") from None
    except DECODER_ERRORS as error:
        raise BrokenImage(f"its DICOM header is damaged ({type(error).__name__})") from None
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise BrokenImage("its compressed pixels are damaged") from None


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
    require_pydicom()
    from pydicom import dcmread

    with open_regular(path) as file:
        start = file.read(META_BYTES)
        with _quiet(), _damage_is_broken():
            if DEFLATED in start:
                source: Any = io.BytesIO(inflated(start + file.read(), header_only=True))
            else:
                file.seek(0)
                source = file
            return dcmread(source, stop_before_pixels=True, force=True, specific_tags=list(keywords))


def _decode(data: bytes, frame: int | None, traits: Traits) -> np.ndarray:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(inflated(data)), force=True)
    _require_image(dataset)
    frames = num_frames_of(dataset)
    if frame is None and frames > 1:
        raise BrokenImage(
            f"it has {frames} frames; --frames first takes the first, --frames all takes each for an image"
        )
    frame = frame or 0
    if not 0 <= frame < frames:
        raise BrokenImage(f"it has {frames} frames, counted from 0; there is no frame {frame}")
    syntax = _transfer_syntax(dataset)
    decoder = _decoder(syntax)
    layout = layout_of(dataset, is_native=decoder.is_native, is_jpeg=str(syntax) in (JPEG_BASELINE, JPEG_EXTENDED))
    layout.write_to(dataset)
    pixels, colour_space = _pixels(dataset, decoder, layout, frame)
    image = _Image(dataset, layout, frame, _keeps_sign(str(syntax), layout), traits)
    if pixels.ndim == 3:
        return _colour(pixels, colour_space, image)
    if colour_space == "PALETTE COLOR":
        return _by_palette(pixels, image)
    if colour_space not in MONOCHROME:
        raise BrokenImage("its header names a colour space that does not fit one sample a pixel")
    return _grey(pixels, image)[..., None]


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


def _decoder(syntax: Any) -> Any:
    """pydicom's decoder of a transfer syntax. Raises BrokenImage if there is none."""
    from pydicom.pixels import get_decoder

    try:
        return get_decoder(syntax)
    except NotImplementedError:
        name = _standard_name(syntax) or "an unknown transfer syntax"
        raise BrokenImage(f"its pixels are stored as {name}, which is not read") from None


def _pixels(dataset: Any, decoder: Any, layout: Layout, frame: int) -> tuple[np.ndarray, str]:
    """One frame as stored, [H, W] or [H, W, samples], and its colour space after YBR was converted to RGB."""
    syntax = str(decoder.UID)
    # Options of pydicom, which types each of them by itself.
    options: dict[str, Any] = {"allow_excess_frames": False}
    if not _keeps_sign(syntax, layout):
        options["correct_unused_bits"] = False  # the look-up table does it, without two passes over a copy
    if decoder.is_native:
        try:
            pixels, properties = decoder.as_array(dataset, index=frame, **options | {"view_only": True})
        except DECODER_ERRORS as error:
            raise BrokenImage(f"its pixels are cut off or damaged ({type(error).__name__})") from None
        return pixels, str(properties["photometric_interpretation"])

    name = _standard_name(decoder.UID)
    candidates = PLUGINS.get(syntax, decoder.available_plugins)
    plugins = [plugin for plugin in candidates if plugin in decoder.available_plugins]
    if not plugins:
        raise DataError(f"reading DICOM with {name} needs another package", HINT)
    part = _whole_frame(dataset, syntax, frame, layout.frames)
    _require_possible_size(part, syntax)
    if syntax in JPEG_LOSSLESS:
        _require_sound_jpeg(part, dataset)
    if syntax == RLE and not _is_plain_rle(part, dataset):
        plugins = ["pydicom"]
    for plugin in plugins:
        try:
            pixels, properties = decoder.as_array(dataset, index=frame, decoding_plugin=plugin, **options)
        except DECODER_ERRORS:
            continue
        if syntax == JPEG_BASELINE:
            last = pixels[-1, -1].reshape(-1).astype(int)
            require_all_scans(part, is_grey_at_end=bool((abs(last - 127.5) < 2).all()))
        return pixels, str(properties["photometric_interpretation"])
    if syntax == JPEG_EXTENDED and layout.stored > 8 and "pylibjpeg" not in plugins:
        raise BrokenImage("its pixels are JPEG with 12 bits, which only the package pylibjpeg-libjpeg reads")
    raise BrokenImage(f"its pixels cannot be decoded ({name})")


def _keeps_sign(syntax: str, layout: Layout) -> bool:
    """Whether pydicom itself gives samples of this kind their sign and drops their unused bits, which it takes for the
    highest."""
    is_of_them = syntax in JPEG_LS or syntax.startswith((JPEG_2000[0][:-1], "1.2.840.10008.1.2.4.20"))
    return is_of_them and layout.shift == 0


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


def _require_possible_size(data: bytes, syntax: str) -> None:
    """Raise BrokenImage for compressed pixels that say they are more than is read, whatever the header says."""
    width = height = 0
    if data.startswith(START_OF_JPEG_2000) and len(data) >= 16:
        width, height = struct.unpack_from(">II", data, 8)
    elif syntax.startswith(FAMILY_OF_JPEG):
        position = 2
        while position + 9 <= len(data) and data[position] == 0xFF:
            if data[position + 1] in (*FRAME_HEADERS, JPEG_LS_FRAME):
                height, width = struct.unpack_from(">HH", data, position + 5)
                break
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"its pixels cannot be decoded: they are {width} x {height}, more than {MAX_PIXELS}")


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


@dataclass(frozen=True, slots=True)
class _Image:
    """A frame that is decoded: its data set, the layout of its samples, and where to note what is seen of it.

    `keeps_sign` says that its decoder gives samples their sign and their place.
    """

    dataset: Any
    layout: Layout
    frame: int
    keeps_sign: bool
    traits: Traits

    def mend(self) -> None:
        """Note that the header was not taken at its word."""
        self.traits.decoder = DECODER


def _colour(pixels: np.ndarray, colour_space: str, image: _Image) -> np.ndarray:
    layout = image.layout
    if pixels.shape[2] != 3:
        raise BrokenImage(f"it has {pixels.shape[2]} samples a pixel; 1 and 3 are read")
    if colour_space != "RGB":
        raise BrokenImage("its header names a colour space that is not read")
    if layout.shift:
        image.mend()
    if pixels.dtype.kind == "u" and layout.stored == 8:
        shown = pixels >> layout.shift if layout.shift else pixels
        return np.ascontiguousarray(shown.astype(np.uint8, copy=False))
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 4 and layout.stored < 8 * pixels.dtype.itemsize:
        pixels = (pixels >> layout.shift) & pixels.dtype.type((1 << layout.stored) - 1)
    image.traits.is_deep = True
    return np.ascontiguousarray(window(pixels))


def _stored_of(codes: np.ndarray, image: _Image) -> tuple[np.ndarray, int]:
    """The stored value without its sign, int32 [256 or 65536], of each possible word, and how many bits it has.

    Samples of fewer bits than their words lie below the highest bit. One that lies at the bottom though its header says
    another bit is taken there. Bits outside of samples may hold anything that is the same in all words, the sign, or
    overlays that the header declares.

    Raises BrokenImage if samples fit no such reading.
    """
    words = np.arange(256**codes.itemsize, dtype=np.int32)
    allocated, layout = 8 * codes.itemsize, image.layout
    if image.keeps_sign or layout.stored >= allocated:
        return words, allocated
    bits, shift = layout.stored, layout.shift
    flat, overlays = codes.reshape(-1), overlay_bits(image.dataset)
    used = int(np.bitwise_or.reduce(flat)) & ~overlays
    varying = used & ~int(np.bitwise_and.reduce(flat))
    if shift and varying & ((1 << shift) - 1):
        if used >> bits and not _are_signs(codes, 0, bits, overlays, image):
            raise BrokenImage("its samples lie at other bits than its header says (HighBit)")
        shift = 0
    if varying >> (shift + bits) and not _are_signs(codes, shift, bits, overlays, image):
        raise BrokenImage(f"its samples have more than the {bits} bits that its header says (BitsStored)")
    if shift:
        image.mend()
    return (words >> shift if shift else words) & (2**bits - 1), bits


def _are_signs(codes: np.ndarray, shift: int, bits: int, overlays: int, image: _Image) -> bool:
    """Whether the bits above all samples are zero, or copies of a negative one's sign; padding may be anything."""
    present = np.flatnonzero(count_codes(codes))
    padding = first_number(image.dataset, "PixelPaddingValue")
    if padding is not None:
        present = present[present != int(padding) % 256**codes.itemsize]
    present = present & ~overlays
    above = present >> (shift + bits)
    all_ones = ((256**codes.itemsize - 1) & ~overlays) >> (shift + bits)
    is_negative = (present >> (shift + bits - 1)) & 1 == 1
    return bool(((above == 0) | ((above == all_ones) & is_negative & image.layout.is_signed)).all())


def _by_palette(pixels: np.ndarray, image: _Image) -> np.ndarray:
    codes = to_codes(pixels)
    index, bits = _stored_of(codes, image)
    stored = _signed(index, bits, image.layout.is_signed)
    dataset, columns = image.dataset, []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        table = table_of(dataset, dataset, is_signed=image.layout.is_signed, prefix=name, data=f"{name}Data")
        if table is None:
            return _by_segmented_palette(index, bits, codes, dataset)
        columns.append(table.of(stored))
    colours = np.stack(columns, axis=1)
    # Some writers put values of 8 bits into words of 16, as the low byte, and some values of 12.
    highest = int(colours.max())
    if 255 < highest < 4096:
        image.mend()
    colours = colours >> (8 if highest > 4095 else 4 if highest > 255 else 0)
    return look_up(np.ascontiguousarray(colours.astype(np.uint8)), codes)


def _by_segmented_palette(index: np.ndarray, bits: int, codes: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut

    stored = np.arange(2**bits, dtype=codes.dtype).reshape(1, -1)
    colours = apply_color_lut(stored, dataset)[0, :, :3]
    colours = colours >> 8 if colours.dtype.itemsize == 2 and colours.max() > 255 else colours
    return look_up(np.ascontiguousarray(colours.astype(np.uint8)[index]), codes)


def _signed(index: np.ndarray, bits: int, is_signed: bool) -> np.ndarray:
    return np.where(index >= 2 ** (bits - 1), index - 2**bits, index) if is_signed else index


def _grey(pixels: np.ndarray, image: _Image) -> np.ndarray:
    """Stored values [H, W] to uint8 [H, W]."""
    inverted = image.layout.photometric == "MONOCHROME1"
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2:
        shown = _grey_by_pixel(pixels, image)
        return 255 - shown if inverted else shown

    codes = to_codes(pixels)
    index, bits = _stored_of(codes, image)
    stored = _signed(np.arange(2**bits, dtype=np.int32), bits, pixels.dtype.kind == "i")
    values = _modality(stored, image)
    table = _voi(values, image)
    if _has_half_a_rescale(image) and (table is not None or bits == 8):
        image.mend()
    if table is not None:
        image.traits.is_deep = not has_two_values(codes)
    if table is None and bits == 8 and values is stored and pixels.dtype.kind == "u":
        table = stored.astype(np.uint8)
    elif table is None:
        # Whatever unused bits hold, the same stored value is the same entry.
        counts = np.bincount(index, count_codes(codes), minlength=stored.size).astype(np.int64)
        counts[_is_padding(stored, image, bits)] = 0
        table = window_table(values, counts)
        image.traits.is_deep = int(np.count_nonzero(counts)) > 2
    if inverted:
        table = 255 - table
    return look_up(table[index], codes)


def _grey_by_pixel(pixels: np.ndarray, image: _Image) -> np.ndarray:
    """For floats and integers of 32 bits and more, whose values are too many for a table."""
    bits, layout = 8 * pixels.dtype.itemsize, image.layout
    if pixels.dtype.kind != "f" and (unused := bits - layout.stored) > 0:
        pixels = pixels.astype(pixels.dtype.newbyteorder("=")) << (unused - layout.shift) >> unused
        if layout.shift:
            image.mend()
    values = _modality(pixels, image)
    shown = _voi(values, image)
    if shown is not None:
        if _has_half_a_rescale(image):
            image.mend()
        return shown
    counted = ~_is_padding(pixels, image, bits)
    image.traits.is_deep = not has_two_values(values[counted])
    return window(values, counted)


def _is_padding(stored: np.ndarray, image: _Image, bits: int) -> np.ndarray:
    """Where stored values are the padding value, or in its range: bool of the same shape."""
    for keyword in ("PixelPaddingValue", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"):
        if (first := first_number(image.dataset, keyword)) is None:
            continue
        second = first_number(image.dataset, keyword.replace("Value", "RangeLimit"))
        second = first if second is None else second
        if stored.dtype.kind == "f":
            return (stored >= min(first, second)) & (stored <= max(first, second))
        first, second = (_wrapped(int(x), bits, signed=image.layout.is_signed) for x in (first, second))
        return (stored >= min(first, second)) & (stored <= max(first, second))
    return np.zeros(stored.shape, bool)


def _wrapped(value: int, bits: int, signed: bool) -> int:
    """A padding value written as unsigned where pixels are signed, or the other way round, as the pixels have it."""
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def _modality(stored: np.ndarray, image: _Image) -> np.ndarray:
    """Stored values in the modality's unit; the same array if that is what they are in."""
    for item in items(image.dataset, "ModalityLUTSequence")[:1]:
        table = table_of(image.dataset, item, is_signed=image.layout.is_signed)
        if table is not None:
            if table.first != table.written[0]:
                image.mend()
            return table.of(stored)
    slope, intercept = _rescale(image)
    if slope == 0:
        image.mend()
    slope, intercept = slope or 1.0, intercept or 0.0
    return stored if slope == 1 and intercept == 0 else stored.astype(np.float64) * slope + intercept


def _rescale(image: _Image) -> tuple[float | None, float | None]:
    source = _holder(image, ("RescaleSlope", "RescaleIntercept"), "PixelValueTransformationSequence")
    if has_words(source, "RescaleSlope", "RescaleIntercept"):
        image.mend()
    return first_number(source, "RescaleSlope"), first_number(source, "RescaleIntercept")


def _has_half_a_rescale(image: _Image) -> bool:
    """Whether there is a slope or an intercept alone, which matters where values are not mapped by percentiles."""
    slope, intercept = _rescale(image)
    return (slope is None) != (intercept is None)


def _voi(values: np.ndarray, image: _Image) -> np.ndarray | None:
    """Values in the modality's unit to uint8 by the first VOI look-up table or window; None if there is neither."""
    source = _holder(image, ("VOILUTSequence",), "FrameVOILUTSequence")
    for item in items(source, "VOILUTSequence"):
        table = table_of(image.dataset, item, is_signed=bool(values.size and values.min() < 0))
        if table is not None:
            if (table.first, table.bits) != table.written:
                image.mend()
            entries = table.of(values).astype(np.float64)
            return np.rint(entries * (255 / (2**table.bits - 1))).clip(0, 255).astype(np.uint8)
    source = _holder(image, ("WindowWidth", "WindowCenter"), "FrameVOILUTSequence")
    function = text(source, "VOILUTFunction") or "LINEAR"
    least = 0 if function in ("LINEAR_EXACT", "SIGMOID") else 1
    windows = list(zip(numbers(source, "WindowCenter"), numbers(source, "WindowWidth"), strict=False))
    for place, (centre, width) in enumerate(windows):
        if centre is not None and width is not None and width > 0 and width >= least:
            if place or has_words(source, "WindowCenter", "WindowWidth"):
                image.mend()
            return _by_window(values, centre, width, function)
    return None


def _by_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Values to uint8 by a window; the functions are those of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    wide = values.astype(np.float64)
    if values.dtype.kind == "f":
        wide = np.nan_to_num(wide, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    if function == "SIGMOID":
        # Beyond these bounds every byte is 0 or 255, and the exponential would overflow.
        shown = 1 / (1 + np.exp((-4 * (wide - centre) / width).clip(-100, 100)))
    else:
        if function != "LINEAR_EXACT":
            centre, width = centre - 0.5, width - 1
        shown = ((wide - centre) / width + 0.5).clip(0, 1) if width > 0 else np.float64(wide > centre)
    return np.rint(shown * 255).astype(np.uint8)


def _holder(image: _Image, keywords: tuple[str, ...], group: str) -> Any:
    """What holds one of these elements with a value: the data set, else the functional group of the frame, else the one
    that all frames share."""
    dataset = image.dataset
    holders = [dataset]
    for sequence, index in (("PerFrameFunctionalGroupsSequence", image.frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = items(dataset, sequence)
        holders += items(groups[index], group)[:1] if index < len(groups) else []
    for holder in holders:
        if any(items(holder, each) if each.endswith("Sequence") else numbers(holder, each) for each in keywords):
            return holder
    return dataset
