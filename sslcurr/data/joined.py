"""Several packs as one: the images of a data set, and further ones that have no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.data.contents import contents_of, known_among
from sslcurr.data.pack import ImageArray, Pack


class JoinedImages:
    """The images of several packs of one size, read as one array, uint8 [N, C, S, S]; grey ones fill all channels."""

    def __init__(self, parts: Sequence[ImageArray]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        channels = max(part.shape[1] for part in parts)
        self.shape = (int(self.ends[-1]), channels, *parts[0].shape[2:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Of all images, in all channels."""
        return int(np.prod(self.shape))

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Some images, by a slice or by numbers."""
        numbers = np.arange(len(self))[rows]
        images = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        part_of = np.searchsorted(self.ends, numbers, side="right")
        for place, part in enumerate(self.parts):
            members = np.flatnonzero(part_of == place)
            if len(members):
                first = int(self.ends[place]) - len(part)
                images[members] = part[numbers[members] - first]
        return images


@dataclass(frozen=True)
class Added:
    """Which images of further data sets are training images.

    Attributes:
        rows: of the joined pack.
        held_out: how many are validation or test images of the first data set.
        repeated: how many are its training images, or were in another further data set.
    """

    rows: NDArray[np.intp]
    held_out: int
    repeated: int


def joined(first: Pack, others: Sequence[Pack]) -> Pack:
    """The images of a pack, then those of others, which have no label; `parts` says where they are."""
    num_others = sum(other.num_images for other in others)
    groups = None
    if any(pack.groups is not None for pack in (first, *others)):
        codes, next_code = [], 0
        for pack in (first, *others):
            own = np.arange(pack.num_images) if pack.groups is None else pack.groups
            codes.append(own + next_code)
            next_code += int(own.max(initial=-1)) + 1
        groups = np.concatenate(codes)
    values = None
    if first.values is not None:
        values = np.concatenate([first.values, np.full((num_others, first.values.shape[1]), np.nan, dtype=np.float32)])
    packs = (first, *others)
    return replace(
        first,
        images=JoinedImages([pack.images for pack in packs]),
        heights=np.concatenate([pack.heights for pack in packs]),
        widths=np.concatenate([pack.widths for pack in packs]),
        labels=np.concatenate([first.labels, np.full(num_others, -1, dtype=np.int64)]),
        groups=groups,
        splits=None,
        names=[name for pack in packs for name in pack.names],
        channels=max(pack.channels for pack in packs),
        skipped=sum(pack.skipped for pack in packs),
        traits=None,
        values=values,
        parts=tuple(folder for pack in packs for folder in pack.folders),
    )


def added_images(first: Pack, splits: NDArray[Any], others: Sequence[Pack]) -> Added:
    """Which images of other packs are training images beside those of the first: such as it has not, each once.

    Args:
        first: the labelled data set.
        splits: of its images, as `sslcurr.data.split.assign` gives them.
        others: further data sets.
    """
    own = _contents(first.folder)
    training = own[splits == "train"]
    held_out = own[splits != "train"]
    rows, num_held, num_repeated, start = [], 0, 0, first.num_images
    seen = own
    for other in others:
        contents = _contents(other.folder)
        known = known_among(contents, seen)
        held = known_among(contents, held_out) & ~known_among(contents, training)
        rows.append(start + np.flatnonzero(~known))
        num_held += int(held.sum())
        num_repeated += int((known & ~held).sum())
        start += other.num_images
        seen = np.concatenate([seen, contents])
    return Added(np.concatenate(rows), num_held, num_repeated)


@lru_cache(maxsize=8)
def _contents(folder: Path) -> NDArray[np.uint64]:
    return contents_of(folder)


def contents_of_pack(pack: Pack) -> NDArray[np.uint64]:
    """What all images of a pack are known by, [N, 2]; of a joined one too."""
    return np.concatenate([contents_of(folder) for folder in pack.folders])
