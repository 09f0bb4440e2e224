"""The images of a data set before they are opened: where they are and what is known about each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.data.sources.boxes import Mask
from sslcurr.spec.target import CLASSES

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ImageFault", "Looks", "Source"]


@dataclass(frozen=True)
class ImageFault:
    """An image that was promised and cannot be used.

    `reason` completes the sentence that begins with its name; `row` is its place among all that a table lists.
    """

    name: str
    reason: str
    row: int | None = None


@dataclass(frozen=True)
class Looks:
    """What was looked at to find the images below a folder.

    Attributes:
        folders: all of them, by absolute path, with the time of change in nanoseconds before they were read.
        others: files whose content was looked into and that are no images of the data set.
    """

    folders: dict[str, int]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """The images of a data set, not yet opened, with what is known about each; all lists have one entry an image.

    `names` are paths relative to `root` with forward slashes, or synthetic where the images are embedded (`arrays`,
    uint8 [N, H, W] or [N, H, W, C]; `root` is None then). A name in `frames` is one frame of a file: the file's path
    relative to `root`, and the frame's number from 0. A label None is no label. `splits` are "train", "val" or "test",
    or "" where that is left to `sslcurr.data.split.assign`; a group "" means that the image is a group of its own.
    `target` is the kind of what the labels say, of `sslcurr.spec.target`. `classes` are sorted by name, or in the data
    set's own order where it has one; they are the labels that may hold together, or the name of the number, of other
    targets, whose `labels` are texts of `sslcurr.data.targets`; `label_columns` are those that had a column each, so
    that of no others anything is known. `image_size` is the training size in pixels that suits the data set, if it is
    known. `faults` are images that a table promises and that are not there,
    or whose label makes no sense; they are not among `names`. `notes` are one-line remarks worth showing to the user.
    `epochs` by task replace the recipes' where a data set is for a short demonstration. `masks` are the regions that
    are known, by the name of their image: a lung, a lesion, a radiologist's boxes. They serve what is measured on a
    trained network; no training, pack or fingerprint knows of them. `looks` are of a folder that nothing but the names
    of its files describes; None of all others.
    """

    name: str
    root: Path | None
    names: list[str]
    labels: list[str | None]
    groups: list[str] | None
    splits: list[str] | None
    arrays: np.ndarray | None
    image_size: int | None
    classes: tuple[str, ...]
    faults: tuple[ImageFault, ...] = ()
    notes: tuple[str, ...] = ()
    frames: dict[str, tuple[str, int]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    masks: dict[str, Mask] = field(default_factory=dict)
    target: str = CLASSES.name
    label_columns: tuple[str, ...] = ()
    looks: Looks | None = None

    def place(self, i: int) -> tuple[Path, int | None]:
        """The file of image i and the frame of it that is meant, None where it holds one image only."""
        assert self.root is not None, "embedded images have no file"
        name, frame = self.frames.get(self.names[i], (self.names[i], None))
        return self.root / name, frame

    def paths(self) -> Iterator[str]:
        """The file of each image, as text: for what is done with every file each time, a Path costs too much."""
        assert self.root is not None, "embedded images have no file"
        root = str(self.root)
        for file in self.files():
            yield os.path.join(root, file)

    def files(self) -> Iterable[str]:
        """The same relative to `root`."""
        return (
            (self.frames[name][0] if name in self.frames else name for name in self.names)
            if self.frames
            else self.names
        )


def with_free_parts(splits: list[str] | None, notes: list[str]) -> list[str] | None:
    """Leaves a part that no image was given to (val, mostly) to be taken from the training images, and says so."""
    if splits is None or not any(splits):
        return None
    absent = [part for part in ("val", "test") if part not in splits]
    if not absent or "" in splits or "train" not in splits:
        return splits
    notes.append(f"no images were given as {' or '.join(absent)}: taken from the training images")
    freed = ["" if split == "train" else split for split in splits]
    return freed if any(freed) else None


def sorted_classes(labels: Iterable[str | None]) -> tuple[str, ...]:
    """The labels that occur, sorted by name."""
    return tuple(sorted({label for label in labels if label is not None}))
