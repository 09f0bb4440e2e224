"""Masks of images: lungs, lesions, the boxes of radiologists. They serve measurements and never a training.

A mask is a PNG file or `Boxes`. It belongs to the upright image; what is tagged in the file of a mask
(EXIF) does not turn it. A PNG may have any size: it is laid over its image as a share of height and width, which is how
packs squash images, so that `read_mask` at a pack's size, or at a feature map's, agrees with it.

Inside of a PNG is every pixel that is not 0: not black, or in a palette not its first colour. Alpha is ignored, but in
a file that is black everywhere and has an alpha that varies: there inside is what is not wholly transparent.
"""

from __future__ import annotations

import io
import os
import posixpath
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from sslcurr.data.decode.image import EXTENSIONS, MAX_PIXELS
from sslcurr.data.decode.read import LOW_BYTE_RAW_MODES, pillow_without_warnings
from sslcurr.data.sources.boxes import BOX_COLUMNS, BOX_HINT, Box, Boxes, Mask, described_box, of_origin
from sslcurr.data.sources.columns import MASK_COLUMNS
from sslcurr.data.sources.source import Source
from sslcurr.data.sources.tables import PATH_COLUMNS, TABLE_SUFFIXES, check_masks, mask_of, read_columns
from sslcurr.data.sources.walk import images_below
from sslcurr.errors import DataError
from sslcurr.files import open_regular
from sslcurr.wording import reason_of

__all__ = ["Boxes", "Mask", "find_masks", "is_squashed", "proportions", "read_mask"]

ENDINGS = ("", "_mask")
ID_ENDING = "_image"
OTHER_PROPORTIONS = 1.05
INSIDE = 255


def find_masks(source: Source, where: Path | None = None) -> dict[str, Mask]:
    """The masks of a source's images by their names; images without one are not in it.

    They are those that the source knows, or instead of these what is in `where`: a folder of PNG files that are named
    like the images, or a table. For the image `a/b/c.dcm` a folder is searched for `a/b/c.png`, `a/b/c_mask.png`,
    `c.png` and `c_mask.png`, in this order. Files that are images of the source themselves do not count.

    A table (CSV, Parquet, JSON lines) names images in the column `path` (relative to the source's folder, or to the
    table's), or by their names without folder and extension in `id`, behind which `_image` is allowed. It has a column
    `mask`, `boxes` or both; else `x`, `y`, `width` and `height`; else boxes in `label` as the SIIM challenge writes
    them. Boxes of several rows add up. Rows of images that the source has not are ignored.

    A frame `c.dcm#2` without a mask of its own has that of `c.dcm`.

    Raises DataError if `where` is not there, has no mask of any image, or leaves open which image one is of; and what
    `sslcurr.data.sources.tables.from_table` raises for masks.
    """
    if where is None:
        return _masks_by_image(source, source.masks)
    place = Path(os.path.realpath(where.expanduser()))
    if place.is_dir():
        return _in_folder(source, place)
    if not os.path.exists(place):
        raise DataError(f"the masks {where} are not there", f"looked for {place}")
    if place.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(
            f"the masks {where} are a file, but not a table",
            f"give a folder of PNG masks or a {', '.join(TABLE_SUFFIXES)} file",
        )
    return _in_table(source, place)


def read_mask(mask: Mask, height: int, width: int, size: int) -> NDArray[np.uint8]:
    """A mask as uint8 [size, size], squashed like the image: the share of each cell that is inside, 255 for all of it.

    `height` and `width` are those of the image in pixels, upright, which boxes need. Shares are exact but for rounding,
    and overlapping boxes count once. Should all shares round to 0, the greatest becomes 1: no mask vanishes.

    Raises DataError if the file cannot be read, if nothing is inside, or if a box lies wholly outside of the image.
    """
    shares = _shares_of_boxes(mask, height, width, size) if isinstance(mask, Boxes) else _shares_of_file(mask, size)
    cells = np.rint(INSIDE * shares).astype(np.uint8)
    if not cells.any():
        cells.flat[shares.argmax()] = 1
    return cells


def proportions(mask: Mask) -> float | None:
    """Width by height of a mask's file, of which only the header is read; None for boxes. Raises DataError."""
    if isinstance(mask, Boxes):
        return None
    with _opened(mask) as image:
        return image.width / image.height


def is_squashed(mask: Mask, height: int, width: int) -> bool:
    """Whether a mask's file differs by more than 5 % in its proportions from its image of these pixels.

    Many keep masks as squares: it is taken as squashed, which is worth a note. Raises DataError.
    """
    mask_ratio = proportions(mask)
    if mask_ratio is None:
        return False
    ratio = mask_ratio * height / width
    return max(ratio, 1 / ratio) > OTHER_PROPORTIONS


# --- finding them


def _file_of(source: Source, name: str) -> str:
    """The name of the file that an image lies in: the image's own, but for frames."""
    return source.frames[name][0] if name in source.frames else name


def _masks_by_image(source: Source, masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """The masks by images, of those that are known by images or by files."""
    mask_of_image = {name: masks.get(name, masks.get(_file_of(source, name))) for name in source.names}
    return {name: mask for name, mask in mask_of_image.items() if mask is not None}


def _bare(file: str) -> str:
    """A path without its extension, if it is one of an image: numbers with points are names, too."""
    base, suffix = posixpath.splitext(file)
    return base if suffix.lower() in EXTENSIONS else file


def _by_stem(source: Source) -> dict[str, list[str]]:
    """The files of a source by their names without folder and extension."""
    stems: dict[str, list[str]] = {}
    for file in dict.fromkeys(_file_of(source, name) for name in source.names):
        stems.setdefault(posixpath.basename(_bare(file)), []).append(file)
    return stems


def _in_folder(source: Source, folder: Path) -> dict[str, Mask]:
    files = {_file_of(source, name) for name in source.names}
    images = set() if source.root is None else {os.path.join(os.path.realpath(source.root), file) for file in files}
    names = [name for name in images_below(folder) if name.lower().endswith(".png")]
    names = [name for name in names if os.path.join(folder, name) not in images]
    if not names:
        raise DataError(
            f"the folder {folder} has no PNG masks",
            "masks are PNG files named like the images, and no images of the data set themselves",
        )
    listed = {name[: -len(".png")]: name for name in reversed(names)}
    stems = _by_stem(source)
    masks: dict[str, Mask] = {}
    owners: dict[str, str] = {}
    for name in source.names:
        file = _file_of(source, name)
        base = _bare(file)
        stem = posixpath.basename(base)
        # A frame's own mask goes before that of its file.
        bare_names = [f"{start}{name[len(file) :]}" for start in (base, stem)] + [base, stem]
        names_tried = [bare + ending for bare in dict.fromkeys(bare_names) for ending in ENDINGS]
        mask_name = next((bare for bare in names_tried if bare in listed), None)
        if mask_name is None:
            continue
        is_flat = "/" in base and "/" not in mask_name
        other = owners.setdefault(mask_name, file)
        if is_flat and other == file:
            other = next((each for each in stems[stem] if each != file), file)
        if other != file:
            raise DataError(
                f"the mask {folder / listed[mask_name]} could be of two images: {', '.join(sorted((file, other)))}",
                "put masks in folders like those of the images, or list them in a table",
            )
        masks[name] = folder / listed[mask_name]
    if not masks:
        file = _file_of(source, source.names[0])
        names_tried = [start + ending for start in (_bare(file), posixpath.basename(_bare(file))) for ending in ENDINGS]
        raise DataError(
            f"no mask in {folder} is of an image of {source.name}",
            f"for {file} looked for {', '.join(f'{each}.png' for each in dict.fromkeys(names_tried))}",
        )
    return masks


def _in_table(source: Source, table: Path) -> dict[str, Mask]:
    columns = read_columns(table, (*PATH_COLUMNS, "id", *MASK_COLUMNS, *BOX_COLUMNS, "label"))
    key = next((column for column in (*PATH_COLUMNS, "id") if column in columns), None)
    if key is None:
        raise DataError(f"{table} has no column path (or id)", "it says which image a mask is of")
    images, mask_in = _Images(source, table.parent), _reader(columns, table)
    files: dict[str, Path] = {}
    boxes: dict[str, list[Box]] = {}
    names_an_image = False
    for row, text in enumerate(columns[key]):
        if not text:
            raise DataError(f"{table} has nothing under {key} in row {row + 1}", "fill it in or remove the row")
        image = images.of_id(text, table) if key == "id" else images.of_path(text)
        if image is None:
            continue
        names_an_image = True
        mask = mask_in(row, image)
        if isinstance(mask, Boxes):
            boxes.setdefault(image, []).extend(mask.boxes)
        elif mask is not None and files.setdefault(image, mask) != mask:
            raise DataError(f"{table} names two masks for {image}", "keep one of them; only boxes add up")
    both = next((image for image in files if image in boxes), None)
    if both is not None:
        raise DataError(f"{table} has both a mask and boxes for {both}", "keep one of them")
    masks: dict[str, Mask] = {**files, **{image: Boxes(tuple(b), f"{image} in {table}") for image, b in boxes.items()}}
    check_masks(masks, table)
    if not names_an_image:
        first = _file_of(source, source.names[0])
        example = posixpath.basename(_bare(first)) if key == "id" else first
        raise DataError(f"{table} names no image of {source.name}", f"looked for {example} under {key}, to begin with")
    if not masks:
        raise DataError(f"{table} has no mask for any image of {source.name}", "all its rows of these images are empty")
    return _masks_by_image(source, masks)


class _Images:
    """The files and frames of a source, to be met by what tables call them."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.names = {*source.names, *(_file_of(source, name) for name in source.names)}
        self.stems = _by_stem(source)
        self.root = None if source.root is None else os.path.realpath(source.root)
        self.folder = folder

    def of_path(self, text: str) -> str | None:
        """The image at a path relative to the source's folder, or to the table's; None if there is none."""
        name = posixpath.normpath(text)
        if name not in self.names and self.root is not None:
            name = os.path.relpath(os.path.join(self.folder, text), self.root).replace(os.sep, "/")
        return name if name in self.names else None

    def of_id(self, text: str, table: Path) -> str | None:
        """The image of this name without folder and extension; None if there is none, DataError if there are two."""
        files = self.stems.get(text) or self.stems.get(text.removesuffix(ID_ENDING)) or []
        if len(files) > 1:
            raise DataError(
                f"{text} in {table} could be two images: {', '.join(sorted(files[:2]))}",
                "name images by their paths, in a column path",
            )
        return files[0] if files else None


def _reader(columns: dict[str, list[str]], table: Path) -> Callable[[int, str], Mask | None]:
    """What finds the mask of an image in a row of a table, by the columns that it has."""
    if any(column in columns for column in MASK_COLUMNS):
        nothing = [""] * len(next(iter(columns.values())))
        files, boxes = (columns.get(column, nothing) for column in MASK_COLUMNS)
        return lambda row, image: mask_of(files[row], boxes[row], image, table.parent, table)
    if all(column in columns for column in BOX_COLUMNS):
        return lambda row, image: _box_of([columns[column][row] for column in BOX_COLUMNS], f"{image} in {table}")
    if "label" in columns:
        return lambda row, image: Boxes.from_label(columns["label"][row], f"{image} in {table}")
    raise DataError(f"{table} has no masks", "it needs a column mask or boxes, or x, y, width and height")


def _box_of(cells: list[str], origin: str) -> Boxes | None:
    if not any(cells):
        return None
    try:
        left, top, width, height = map(float, cells)
    except ValueError:
        raise DataError(f"the box of {origin} cannot be read: {', '.join(cells)!r}", BOX_HINT) from None
    return Boxes(((left, top, width, height),), origin)


# --- reading them


def _shares_of_boxes(mask: Boxes, height: int, width: int, size: int) -> NDArray[np.float64]:
    """The share of each cell of [size, size] that lies in any of the boxes."""
    ends = []
    for box in mask.boxes:
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            where = of_origin(mask.origin)
            raise DataError(
                f"the box {described_box(box)}{where} lies outside of its image, which has {width} x {height}",
                "boxes are in pixels of the image's file, upright: was it resized since they were drawn?",
            )
        ends.append((left, top, right, bottom))
    # Their sides cut the image into rectangles, each of which is inside as a whole or not at all.
    across, down = (np.unique([end[axis::2] for end in ends]) for axis in (0, 1))
    inside = np.zeros((len(down) - 1, len(across) - 1))
    for left, top, right, bottom in ends:
        rows = slice(*np.searchsorted(down, (top, bottom)))
        inside[rows, slice(*np.searchsorted(across, (left, right)))] = 1.0
    return _overlaps(down, height, size) @ inside @ _overlaps(across, width, size).T


def _overlaps(ends: NDArray[np.float64], length: float, size: int) -> NDArray[np.float64]:
    """The share of each of `size` cells of a line that lies between two neighbouring ends: [size, len(ends) - 1]."""
    cells = np.arange(size + 1)[:, None] * (length / size)
    common = np.minimum(ends[1:], cells[1:]) - np.maximum(ends[:-1], cells[:-1])
    return np.maximum(common, 0.0) * (size / length)


def _shares_of_file(path: Path, size: int) -> NDArray[np.float64]:
    """The share of each cell of [size, size] that is inside of a PNG file."""
    with _opened(path) as image:
        inside = _inside(image)
    if not inside.any():
        raise DataError(f"the mask {path} is empty", "remove it; images without a mask are left out")
    counts = _summed(_summed(inside, size).T, size).T
    return counts / inside.size


def _summed(values: NDArray, size: int) -> NDArray[np.float64]:
    """[n, m] to [size, m]: the sums over cells of n / size rows each, times `size`, which keeps whole numbers whole."""
    sums = np.empty((size, values.shape[1]))
    for cell in range(size):
        start, end = cell * len(values), (cell + 1) * len(values)
        rows = np.arange(start // size, -(-end // size))
        sums[cell] = (np.minimum((rows + 1) * size, end) - np.maximum(rows * size, start)) @ values[
            rows[0] : rows[-1] + 1
        ]
    return sums


def _inside(image: PngImageFile) -> NDArray[np.bool_]:
    """The pixels of an opened file that are inside, [H, W]; see the top of this module."""
    samples = _samples(image)
    if samples.ndim == 2:
        return samples != 0
    num_colours = samples.shape[2] - (image.mode in ("LA", "RGBA"))
    inside = (samples[..., :num_colours] != 0).any(axis=2)
    alpha = samples[..., num_colours:]
    if alpha.size and not inside.any() and alpha.min() < alpha.max():
        return alpha[..., 0] != 0
    return inside


def _samples(image: PngImageFile) -> NDArray:
    """The stored values: [H, W] of grey or of a palette's places, else [H, W, C], alpha last."""
    (raw_mode,) = {str(tile.args) for tile in image.tile}
    if raw_mode == "LA;16B":  # as four bytes: grey high, grey low, alpha high, alpha low
        parts = _unpacked(image, "RGBA").astype(np.uint16)
        return parts[..., 0::2] << 8 | parts[..., 1::2]
    if raw_mode in LOW_BYTE_RAW_MODES:  # Pillow itself keeps the high byte only
        high, low = _unpacked(image, raw_mode), _unpacked(image, LOW_BYTE_RAW_MODES[raw_mode])
        return high.astype(np.uint16) << 8 | low
    return np.asarray(image)


def _unpacked(image: PngImageFile, raw_mode: str) -> NDArray[np.uint8]:
    """The samples of the file that `image` was opened from, unpacked by another raw mode."""
    again = PngImageFile(io.BytesIO(_bytes_of(image)))
    again.tile = [tile._replace(args=raw_mode) for tile in again.tile]
    return np.asarray(again)


def _bytes_of(image: PngImageFile) -> bytes:
    assert image.fp is not None, "opened, and not loaded yet"
    image.fp.seek(0)
    return image.fp.read()


@contextmanager
def _opened(path: Path) -> Iterator[PngImageFile]:
    """A PNG file, its header read; DataError, with the reason, for whatever goes wrong with it inside."""
    hint = "masks are PNG files; save it again, or remove it"
    try:
        with open_regular(path) as file, pillow_without_warnings(), PngImageFile(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"its header says {image.width} x {image.height} pixels, more than are read")
            yield image
    except MemoryError as error:
        raise DataError(f"there is not enough memory for the mask {path}", hint) from error
    except OSError as error:
        raise DataError(f"the mask {path} cannot be read: {error.strerror or error}", hint) from error
    except (ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error) as error:
        reason = reason_of(error)
        raise DataError(f"the mask {path} cannot be read: {reason}", hint) from error
