"""Image files to 8-bit arrays: what Pillow reads of `PILLOW_FORMATS`, and DICOM, turned upright, without transparency.

What comes out is always uint8 [H, W, 1] (grey) or [H, W, 3] (colour), and grey is judged by content, not by the file's
mode. More than 8 bits a channel are windowed, never clipped: Pillow's own conversion turns a 16-bit X-ray white.
"""

from __future__ import annotations

import io
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from sslcurr.data.decode.depth import has_two_values, window
from sslcurr.data.decode.image import DECODER, DECODER_ERRORS, MAX_PIXELS, PICTURES, BrokenImage, Traits
from sslcurr.data.decode.whole import ends_grey, fill, require_all_rows, require_all_scans, require_strips
from sslcurr.errors import DataError
from sslcurr.files import open_regular, read_regular
from sslcurr.wording import reason_of

__all__ = [
    "MAX_PIXELS",
    "BrokenImage",
    "decode",
    "decode_small",
    "num_frames",
    "pillow_without_warnings",
    "read_image",
    "resize",
    "to_grey_if_equal",
    "window",
]

PILLOW_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
KINDS = "JPEG, PNG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000, PNM, DICOM"

"""The largest image that is decoded, in pixels: 23,170 x 23,170, or 1.6 GB in memory as RGB.

Pillow warns from 89 megapixels on, which whole-slide and panorama images exceed; a header that claims more than this is
taken for broken or hostile."""

SMALLEST_DRAFT = 2
"""A JPEG that is to become smaller is decoded to this many times its target size at least."""

REDUCING_GAP = 2.0
"""Any other is first reduced by whole pixels to at least this many times the size, in a third of the time."""

JPEG_START = b"\xff\xd8"

NEW_SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4  # of TIFF
GDAL_NODATA, COLOR_MAP = 42113, 320
NO_DATA_BEYOND = 1e30
"""Floats beyond this are the type's own limits, as writers of grids use them for no data, and no measurement."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

_OTHER_ORDER = "L" if sys.byteorder == "big" else "B"
# Pillow has no colour mode of 16 bits: its unpacker keeps the high byte of each sample. Unpacking the same bytes in the
# other byte order keeps the low byte, and the two together are the sample.
LOW_BYTE_RAW_MODES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", _OTHER_ORDER))
}

CropBox = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

_opening = threading.Lock()


def read_image(path: Path) -> np.ndarray:
    """The image in a file, uint8 [H, W, 1] if its content is grey, else [H, W, 3]; see `decode`.

    Raises DataError, naming the file and the reason, if it cannot be read or decoded.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with pillow_without_warnings():
            return decode(data)
    except BrokenImage as error:
        hint = "replace the file or take it out of the data set"
        raise DataError(f"{path} cannot be decoded: {error}", hint) from error


def may_be_dicom(path: Path) -> bool:
    """Whether the name leaves it open; archives export DICOM under bare numbers."""
    return path.suffix.lower() not in PICTURES


@contextmanager
def pillow_without_warnings() -> Iterator[None]:
    """Keeps Pillow's remarks on odd metadata from the user.

    For the thread that starts others, not inside them: Python's warning filters belong to the whole process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode(data: bytes, frame: int | None = None, traits: Traits | None = None) -> np.ndarray:
    """The image in the bytes of a file, uint8 [H, W, 1] if its content is grey, else [H, W, 3].

    EXIF orientation is applied; transparency is composited over black. Samples of more than 8 bits are mapped to 0..255
    between the percentiles 0.1 and 99.9 of the image's own values (colour channels together, so that hues stay), or
    between its least and greatest value where the percentiles coincide; a constant image becomes zeros. A 16-bit CMYK
    TIFF is an exception: the high byte of each sample is taken. Pixels without a value (NaN, the value that a TIFF's
    GDAL_NODATA declares, floats beyond 1e30) become 0 and do not count for the percentiles.

    DICOM has its own rules, which `dicom.decode_dicom` states.

    frame: the number of the frame or page to take, from 0. With None, a file must have just one page (TIFF) or frame
    (DICOM), and of an animation (GIF, PNG, WebP, AVIF) the first is taken. Reduced copies and masks among a TIFF's
    pages, and the further pictures of an MPO, are no pages.
    traits: gets what is noted of the image.

    Raises BrokenImage, with the reason, if the bytes are not an image or not a whole one; DataError if reading it needs
    a package that is not installed.
    """
    noted = Traits() if traits is None else traits
    array, orientation, _ = _load(data, frame, None, noted)
    if traits is not None:
        traits.look_at(array)
    return to_grey_if_equal(_upright(array, orientation))


def decode_small(
    data: bytes,
    size: int,
    frame: int | None = None,
    traits: Traits | None = None,
    show: Callable[[np.ndarray], None] | None = None,
) -> tuple[np.ndarray, int, int]:
    """The image squashed to uint8 [size, size, C], and its true upright height and width in pixels.

    It is `resize(decode(data, frame), size)`, but for a JPEG much larger than `size`: one is decoded at a half, a
    quarter or an eighth of its size, which is quicker and changes some pixels by a level or two. `traits` get what is
    noted of the image. `show` is given the whole image, as `decode` gives it, which such a JPEG is decoded once more
    for. Raises as `decode`.
    """
    traits = Traits() if traits is None else traits
    array, orientation, reduced = _load(data, frame, size, traits)
    traits.look_at(array)
    if show is not None and reduced is not None:
        show(decode(data, frame))
    if reduced is None:
        image = to_grey_if_equal(_upright(array, orientation))
        if show is not None:
            show(image)
        return resize(image, size), *image.shape[:2]
    # The last row and column may stand for less than the others, and turning first would bring them to another side.
    box, width, height = reduced
    small = _upright(_resized_box(to_grey_if_equal(array), size, box), orientation)
    return small, *((width, height) if orientation >= 5 else (height, width))


Loaded = tuple[np.ndarray, int, tuple[CropBox, int, int] | None]


def _load(data: bytes, frame: int | None, size: int | None, traits: Traits) -> Loaded:
    """The image as stored, uint8 [H, W, C], and its EXIF orientation.

    With a size, a JPEG may come reduced, though not to less than that size; then the third is the part of the array
    that is image, to fractions of a pixel, and the width and height that it has in full. Else the third is None.
    Whatever a decoder raises becomes a BrokenImage.
    """
    # dicom imports this module, and is small itself: pydicom is imported only when a DICOM file is met.
    from sslcurr.data.decode import dicom

    if not data:
        raise BrokenImage("the file is empty")
    try:
        if dicom.looks_like_dicom(data):
            loaded: Loaded = dicom.decode_dicom(data, frame, traits), 1, None
        else:
            loaded = _load_picture(data, frame, size, traits)
    except (BrokenImage, DataError):
        raise
    except UnidentifiedImageError as error:
        raise BrokenImage(f"not an image, or not of a known kind ({KINDS})") from error
    except MemoryError as error:
        raise BrokenImage("there is not enough memory to decode it") from error
    except DECODER_ERRORS as error:
        name = type(error).__name__
        reason = reason_of(error)
        raise BrokenImage(f"the file is damaged ({name})" if reason == name else reason) from error
    return loaded


def _load_picture(data: bytes, frame: int | None, size: int | None, traits: Traits) -> Loaded:
    """As `_load`, for a file that is not DICOM."""
    with _open(data) as image:
        _check_size(image)
        page = _choose_page(image, frame, traits)
        _check_size(image)  # a page may have another
        width, height = image.size
        least = 0 if size is None else SMALLEST_DRAFT * size
        drafted = image.draft(None, (least, least)) if least else None  # None for all but JPEG
        reduced = None if drafted is None or image.size == (width, height) else (drafted[1], width, height)
        require_strips(image)
        rows = fill(image) if image.format == "PNG" and page == 0 else None
        deep = _load_deep_colour(image, data, page)
        if deep is None:
            image.load()
            deep = _load_deep_grey(image)
        _require_whole(image, data, rows)
        no_data = _no_data(image, deep)
        if deep is not None:
            array = window(deep, None if no_data is None else np.broadcast_to(~no_data, deep.shape))
        else:
            array = _load_8_bit(image, traits)
        if deep is not None:
            valued = deep if no_data is None else deep[np.broadcast_to(~no_data, deep.shape)]
            traits.is_deep = not has_two_values(valued)
        if no_data is not None:
            traits.no_data = int(no_data.sum())
            traits.decoder = DECODER
            array = array * ~no_data
        elif deep is not None and deep.dtype.kind == "f":
            traits.no_data = int(np.isnan(deep).any(axis=2).sum())
        return array, _orientation(image), reduced


def _opened_at(data: bytes, page: int) -> ImageFile.ImageFile:
    image = _open(data)
    if page:
        image.seek(page)
    return image


def _require_whole(image: ImageFile.ImageFile, data: bytes, rows: np.ndarray | None) -> None:
    """Raise BrokenImage if a loaded image is filled up with what is not in its file; `rows` are of `whole.fill`."""
    if rows is not None:
        require_all_rows(image, rows, partial(_open, data))
    elif image.format in ("JPEG", "MPO"):
        require_all_scans(data, is_grey_at_end=ends_grey(image))


def _choose_page(image: ImageFile.ImageFile, frame: int | None, traits: Traits) -> int:
    """Goes to the frame or page that is meant, and gives its number in the file."""
    pages = _pages(image)
    if image.format == "MPO":
        traits.pictures_beside = getattr(image, "n_frames", 1) - 1
    if frame is None and len(pages) > 1 and image.format == "TIFF":
        raise BrokenImage(
            f"it has {len(pages)} pages; --frames first takes the first, --frames all takes each for an image"
        )
    if frame is None:
        traits.frames_left_out = len(pages) - 1
    elif not 0 <= frame < len(pages):
        raise BrokenImage(f"it has {len(pages)} frames, counted from 0; there is no frame {frame}")
    page = pages[frame or 0]
    if page or image.tell():
        image.seek(page)
    return page


def _pages(image: ImageFile.ImageFile) -> list[int]:
    """The numbers of the frames or pages that are images of their own."""
    count = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    kept = []
    for page in range(count):
        image.seek(page)
        kind = getattr(image, "tag_v2", {}).get(NEW_SUBFILE_TYPE, 0)
        if not (isinstance(kind, int) and kind & (REDUCED | MASK)):
            kept.append(page)
    return kept or [0]


def num_frames(path: Path) -> int:
    """The number of frames or pages of a file that are images of their own, by its headers; see `decode`.

    1 for a file that is no image. Raises BrokenImage for a damaged DICOM header, OSError if the file cannot be read,
    DataError if pydicom is missing.
    """
    from sslcurr.data.decode import dicom

    with open_regular(path) as file:
        start = file.read(132)
        if dicom.looks_like_dicom(start):
            return dicom.num_frames(path)
        if start[:2] == JPEG_START:
            return 1
        file.seek(0)
        try:
            with pillow_without_warnings(), _open(file) as image:
                return len(_pages(image))
        except DECODER_ERRORS:
            return 1  # decoding it says what is wrong with it


def has_grey_header(path: Path) -> bool:
    """Whether the header says grey; also True for what cannot be opened, about which nothing is known yet.

    Raises DataError for a DICOM file if pydicom is missing.
    """
    from sslcurr.data.decode import dicom

    try:
        with open_regular(path) as file:
            if dicom.looks_like_dicom(file.read(132)):
                return dicom.has_grey_dicom_header(path)
        with open_regular(path) as file, _open(file) as image:
            # Pillow opens PNG with 16-bit grey and alpha as RGBA.
            return image.mode in GREY_MODES
    except DataError:
        raise
    except DECODER_ERRORS:
        return True


def to_grey_if_equal(image: np.ndarray) -> np.ndarray:
    """Drops two channels of [H, W, 3] whose three channels are equal everywhere; anything else is returned as it is."""
    if image.shape[2] != 3:
        return image
    red = image[..., 0]
    # The first row decides for nearly all colour images, without a pass over the rest.
    if not np.array_equal(red[0], image[0, :, 1]):
        return image
    if np.array_equal(red, image[..., 1]) and np.array_equal(red, image[..., 2]):
        return np.ascontiguousarray(image[..., :1])
    return image


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, C] squashed to [size, size, C] with antialiasing; returned as it is if it has that size already."""
    if image.shape[:2] == (size, size):
        return image
    return _resized_box(image, size, None)


def _resized_box(image: np.ndarray, size: int, box: CropBox | None) -> np.ndarray:
    """uint8 [H, W, C], or the part of it between left, top, right and bottom, to [size, size, C]."""
    flat = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    # Image.resize widens the filter with the reduction, which is what antialiases; torchvision's does the same.
    small = np.asarray(flat.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=REDUCING_GAP))
    return small.reshape(size, size, image.shape[2])


def _open(source: bytes | IO[bytes]) -> ImageFile.ImageFile:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    # Pillow's own limit is a global that warns; ours is checked by `_check_size`. Reading a header takes microseconds.
    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=PILLOW_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(image: ImageFile.ImageFile) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"its header says {width} x {height} pixels, more than the {MAX_PIXELS} that are read")
    if width == 0 or height == 0:
        raise BrokenImage(f"its header says {width} x {height} pixels")


def _load_deep_colour(image: ImageFile.ImageFile, data: bytes, page: int) -> np.ndarray | None:
    """Colour, or grey with alpha, of 16 bits a channel as floats or uint16 [H, W, C]; None if it is another kind."""
    raw_modes = {_raw_mode(tile) for tile in image.tile}
    if raw_modes == {"LA;16B"}:
        # Four bytes a pixel: grey high, grey low, alpha high, alpha low. RGBA unpacks them unchanged.
        parts = np.asarray(_reopened(data, page, "RGBA")).astype(np.uint16)
        samples = parts[..., 0::2] << 8 | parts[..., 1::2]
    elif len(raw_modes) == 1 and (raw_mode := raw_modes.pop()) in LOW_BYTE_RAW_MODES:
        low = np.asarray(_reopened(data, page, LOW_BYTE_RAW_MODES[raw_mode]))
        image.load()
        samples = np.asarray(image).astype(np.uint16) << 8 | low
    else:
        tags = getattr(image, "tag_v2", {})
        if image.mode not in GREY_MODES and tags.get(284) == 2 and max(tags.get(258, (8,))) > 8:
            # Pillow takes the bytes of such planes for 8-bit samples and returns noise.
            raise BrokenImage(
                "TIFF with more than 8 bits a channel in separate planes; save it with interleaved channels"
            )
        return None
    if image.mode == "RGBX":
        samples = samples[..., :3]
    if samples.shape[2] in (2, 4):
        return samples[..., :-1] * (samples[..., -1:] / 65535.0)
    return samples


def _raw_mode(tile: tuple) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _reopened(data: bytes, page: int, raw_mode: str) -> ImageFile.ImageFile:
    """The same image, its samples unpacked by another raw mode."""
    again = _opened_at(data, page)
    again.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in again.tile
    ]
    again.load()
    return again


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation of a loaded image, 1 to 8; what else there may be is taken for 1, which is upright."""
    try:
        orientation = image.getexif().get(274, 1)
    except DECODER_ERRORS:
        return 1  # damaged metadata does not make a good image a broken one
    return orientation if orientation in range(1, 9) else 1


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (3, 4, 7):
        array = array[::-1]
    if orientation in (2, 3, 7):
        array = array[:, ::-1]
    if orientation in (5, 7):
        array = array.swapaxes(0, 1)
    if orientation in (6, 8):
        array = np.rot90(array, 1 if orientation == 8 else -1)
    return np.ascontiguousarray(array)


def _load_deep_grey(image: ImageFile.ImageFile) -> np.ndarray | None:
    """A loaded grey image of 16 or 32 bits as [H, W, 1] in its own type; None if it has 8 bits or colour."""
    if image.mode not in DEEP_MODES:
        return None
    values = _grey_samples(image)
    if getattr(image, "tag_v2", {}).get(262) == 0:  # white is zero, which Pillow heeds for 8 bits only
        values = -values.astype(np.float64)
    return values


def _grey_samples(image: ImageFile.ImageFile) -> np.ndarray:
    """The samples of a loaded image of one channel as the file has them, [H, W, 1]."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)
    return values[..., None]


def _low_palette(image: Image.Image) -> np.ndarray | None:
    """The palette of a TIFF with colours of 8 bits where 16 are meant, uint8 [N, 3]; None for any other.

    Pillow takes the high bytes, which are all zero. libtiff's tools look for this too (`checkcmap` of tiff2rgba).
    """
    colours = np.asarray(getattr(image, "tag_v2", {}).get(COLOR_MAP, ()))
    if colours.size == 0 or colours.size % 3 or not 0 < colours.max() < 256:
        return None
    return colours.reshape(3, -1).T.astype(np.uint8)


def _no_data(image: ImageFile.ImageFile, deep: np.ndarray | None) -> np.ndarray | None:
    """Where a loaded image has no value though there is a number, bool [H, W, 1]; None if nowhere.

    That is the value which a TIFF declares, in all channels, and what is beyond `NO_DATA_BEYOND`.
    """
    found: np.ndarray | None = None
    if deep is not None and image.mode == "F":
        found = np.isfinite(deep) & (np.abs(deep) > NO_DATA_BEYOND)
    text = getattr(image, "tag_v2", {}).get(GDAL_NODATA)
    try:
        declared = math.nan if text is None else float(str(text).strip("\0 "))
    except ValueError:
        declared = math.nan
    if math.isfinite(declared) and image.mode in ("L", "RGB", *DEEP_MODES):
        if deep is not None and deep.shape[2] > 1:
            values = deep
        else:
            values = np.asarray(image) if image.mode == "RGB" else _grey_samples(image)
        with np.errstate(over="ignore"):
            value = np.float32(declared) if values.dtype == np.float32 else declared
        equal = (values == value).all(axis=2, keepdims=True)
        found = equal if found is None else found | equal
    return found if found is not None and found.any() else None


def _load_8_bit(image: Image.Image, traits: Traits) -> np.ndarray:
    if image.mode == "P" and (palette := _low_palette(image)) is not None:
        traits.decoder = DECODER
        return palette[np.asarray(image)]
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
        alpha = rgba[..., 3:].astype(np.uint16)
        if alpha.min() == 255:
            return rgba[..., :3]
        traits.is_transparent = int(alpha.max()) == 0
        return ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
