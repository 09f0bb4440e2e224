"""A pack: a data set decoded once into 8-bit images of one size, memory-mapped, with labels, groups and true sizes.

A pack is written in `<folder>.part/` under a file lock and published by one rename, so that a folder without `.part` is
whole. The part can be taken up again after any end, kill -9 and a power cut included:

- `pixels.bin` has its full length from the start; row i is image i, uint8 [C, S, S];
- `rows.jsonl` gets a line for an image only after its pixels are on the disk;
- `pack.json` is written last.

`blocks.npy` has a checksum for each mebibyte of the pixels, `hashes.json` those of the other files.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sslcurr.data.blocks import BLOCKS, DAMAGED_HINT, CheckedImages
from sslcurr.errors import DataError
from sslcurr.files import read_regular
from sslcurr.integrity import sound
from sslcurr.spec.target import CLASSES
from sslcurr.wording import reason_of

PACK_FORMAT = 2
"""Raised when the same files would give other pixels or another layout; packs of other formats are not used."""

ROWS = ("heights", "widths", "labels", "values", "groups", "splits", "traits")


class ImageArray(Protocol):
    """Images as a pack has them, uint8 [N, C, S, S]: a memory map, or several that are read as one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, C, S, S]."""

    @property
    def nbytes(self) -> int:
        """Of all of them."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any) -> Any:
        """Some images, by a number, a slice or numbers."""


@dataclass(frozen=True, eq=False)
class Pack:
    """A data set of N images, ready for training; all arrays have one entry an image, in the order of `names`.

    `images` is a read-only memory map, uint8 [N, C, S, S]: each image squashed to a square of `size` pixels. `heights`
    and `widths` (int32) are the true ones in pixels, upright. `labels` (int64) are places in `classes`, -1 for none, or
    for another kind of `target` in `strata`, in which images are divided. Such a target's `values` (float32 [N, T])
    have what is learnt: 1 and 0 for each of the `classes`, which may hold together, or the one number that `classes`
    names; NaN is not known. `groups` (int64) are codes, one for each group; `splits` are "train", "val", "test", or ""
    where it is left open; each is None where nothing is known. `channels` is 1 if every image is grey, else 3.
    `skipped` images were broken and are left out. `traits` (int64 [N, 9]) are what was noted of the images, in the
    order of `Traits.to_integers`; a row of -1 where nothing was, None in packs of versions that noted nothing.
    `fingerprint` (sha256) is of the contents: names, the bytes of the files, labels, groups and splits, but neither of
    where they lie nor of the pack's size.
    """

    folder: Path
    name: str
    images: ImageArray
    heights: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None
    splits: np.ndarray | None
    names: list[str]
    fingerprint: str
    size: int
    channels: int
    skipped: int = 0
    traits: np.ndarray | None = None
    target: str = CLASSES.name
    values: np.ndarray | None = None
    strata: tuple[str, ...] = ()
    parts: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the images are, in their order; several of packs that were joined (`parts`)."""
        return self.parts or (self.folder,)

    @property
    def is_labelled(self) -> bool:
        """Whether there is something to learn from labels."""
        return len(self.classes) > (self.target == CLASSES.name)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the numbers of `labels` stand for: classes, or strata of another target."""
        return self.strata or self.classes

    @property
    def num_images(self) -> int:
        """N, without the broken ones."""
        return len(self.names)


def load_pack(folder: Path) -> Pack:
    """The finished pack in a folder; its pixels are held against their checksums when they are read.

    Raises:
        DataError: there is none, or one of another format, or a damaged one.
        StoreError: one of its files is not what was written.
    """
    try:
        return _loaded(folder)
    except (ValueError, TypeError, KeyError, IndexError, EOFError, zipfile.BadZipFile, RecursionError) as error:
        raise DataError(f"the pack in {folder} is damaged ({reason_of(error)})", DAMAGED_HINT) from error


def about_pack(folder: Path) -> dict[str, Any]:
    """What a pack says of itself, its `pack.json`. Raises DataError if there is none or one of another format."""
    try:
        about: dict[str, Any] = json.loads(read_regular(sound(folder / "pack.json")))
    except FileNotFoundError as error:
        raise DataError(f"there is no pack in {folder}", "it is made again when the data set is opened") from error
    if about["format"] != PACK_FORMAT:
        raise DataError(f"the pack in {folder} has format {about['format']}, not {PACK_FORMAT}", DAMAGED_HINT)
    return about


def _loaded(folder: Path) -> Pack:
    about = about_pack(folder)
    channels, pack_size, num_images = about["channels"], about["size"], about["num_images"]
    pixels = folder / about["pixels"]
    # Reading beyond the end of a mapped file is a signal that kills, not an exception.
    if not pixels.is_file() or pixels.stat().st_size < num_images * channels * pack_size**2:
        raise DataError(f"the pack in {folder} is damaged: its pixels are not all there", DAMAGED_HINT)
    with np.load(sound(folder / "rows.npz"), allow_pickle=False) as rows:
        arrays = {key: rows[key] for key in ROWS if key in rows}
    images: Any = np.memmap(pixels, dtype=np.uint8, mode="r", shape=(num_images, channels, pack_size, pack_size))
    if (folder / BLOCKS).is_file():
        images = CheckedImages(images, np.load(sound(folder / BLOCKS), allow_pickle=False), folder)
    return Pack(
        folder=folder,
        name=about["name"],
        images=images,
        heights=arrays["heights"],
        widths=arrays["widths"],
        labels=arrays["labels"],
        classes=tuple(about["classes"]),
        groups=arrays.get("groups"),
        splits=arrays.get("splits"),
        names=json.loads(sound(folder / "names.json").read_text(encoding="utf-8")),
        fingerprint=about["fingerprint"],
        size=pack_size,
        channels=channels,
        skipped=about["skipped"],
        traits=arrays.get("traits"),
        target=about.get("target", CLASSES.name),
        values=arrays.get("values"),
        strata=tuple(about.get("strata", ())),
    )
