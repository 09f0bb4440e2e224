"""Images read a block at a time, without a pack: as many as there are need no more memory than a few."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sslcurr.data.contents import numbers
from sslcurr.data.decode import read
from sslcurr.data.decode.image import BrokenImage
from sslcurr.data.decode.parallel import Crashed, Processes, in_threads
from sslcurr.data.pack import Pack
from sslcurr.data.rows import ImageRow, read_row, row_of_array
from sslcurr.data.sources.source import Source
from sslcurr.errors import DataError

BLOCK = 256  # images; those of a batch of `sslcurr.engine.batches.Feed.fixed`

Item = TypeVar("Item")


@dataclass(frozen=True)
class Block:
    """Some images of a source, decoded as a pack has them.

    Attributes:
        places: [n] their numbers in the source.
        images: uint8 [n, C, S, S], C 1 or 3.
        heights, widths: [n] true sides in pixels.
        contents: uint64 [n, 2], what they are known by.
        broken: number in the source -> why it cannot be read, of those that are not among `places`.
    """

    places: NDArray[np.intp]
    images: NDArray[np.uint8]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    contents: NDArray[np.uint64]
    broken: dict[int, str]

    @property
    def pack(self) -> Pack:
        """The same as a pack in memory, without labels."""
        return Pack(
            folder=Path(),
            name="",
            images=self.images,
            heights=self.heights,
            widths=self.widths,
            labels=np.full(len(self.places), -1, dtype=np.int64),
            classes=(),
            groups=None,
            splits=None,
            names=[str(place) for place in self.places],
            fingerprint="",
            size=self.images.shape[-1],
            channels=self.images.shape[1],
        )


def blocks_of(source: Source, size: int, *, channels: int = 1, workers: int = 0) -> Iterator[Block]:
    """The images of a source in its order, decoded as a pack of `size` pixels has them; the next block is read while
    one is used.

    Args:
        source: the images.
        size: side in pixels.
        channels: of a block at least: 3 where the pack of the training had so many. A block with an image in colour
            has 3.
        workers: threads that decode, one a core for 0.
    """
    places = range(len(source.names))
    dicom = 0 if source.root is None else sum(read.may_be_dicom(source.place(i)[0]) for i in places)
    count = workers or os.cpu_count() or 1
    starts = range(0, len(places), BLOCK)
    with read.pillow_without_warnings(), Processes.for_dicom(dicom, count) as processes:
        one = partial(_block, source, size, channels, count, processes)
        yield from ahead(one(places[start : start + BLOCK]) for start in starts)


def blocks_of_pack(pack: Pack, rows: NDArray[np.integer], contents: NDArray[np.uint64]) -> Iterator[Block]:
    """The same of rows of a pack; `contents` are those of all its images, and `places` are numbers of `rows`."""
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        yield Block(
            places=np.arange(start, start + len(some)),
            images=np.ascontiguousarray(pack.images[some]),
            heights=pack.heights[some],
            widths=pack.widths[some],
            contents=contents[some],
            broken={},
        )


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each made while the one before is used."""
    waiting = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, waiting, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, waiting, None)
            yield item


def _block(
    source: Source, size: int, channels: int, workers: int, processes: Processes, places: Sequence[int]
) -> Block:
    images: dict[int, np.ndarray] = {}
    rows: dict[int, ImageRow] = {}
    broken: dict[int, str] = {}
    with closing(in_threads(partial(_decoded, source, size, processes), places, workers)) as results:
        for place, result in results:
            if isinstance(result, str):
                broken[place] = result
            else:
                images[place], rows[place] = result
    kept = [place for place in places if place in rows]
    depth = max([channels, *(images[place].shape[2] for place in kept)])
    stacked = np.empty((len(kept), depth, size, size), dtype=np.uint8)
    for target, place in zip(stacked, kept, strict=True):
        target[:] = images[place].transpose(2, 0, 1)  # a grey image fills all channels
    files, pixels = ([getattr(rows[place], name) for place in kept] for name in ("sha256", "pixels"))
    return Block(
        places=np.array(kept, dtype=np.intp),
        images=stacked,
        heights=np.array([rows[place].height for place in kept], dtype=np.int32),
        widths=np.array([rows[place].width for place in kept], dtype=np.int32),
        contents=np.column_stack([_digests(files), _digests(pixels)]),
        broken=broken,
    )


def _decoded(source: Source, size: int, processes: Processes, place: int) -> tuple[np.ndarray, ImageRow] | str:
    """An image of a source, or why it cannot be read."""
    if source.arrays is not None:
        return row_of_array(source.arrays[place], size)
    path, frame = source.place(place)
    work = partial(read_row, path, frame, None, size)
    try:
        return processes.read(path, work)
    except (BrokenImage, Crashed) as error:
        return str(error)
    except DataError as error:
        return str(error).removeprefix(f"{path} ")


def _digests(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The first 64 bits of hexadecimal digests."""
    raw = np.array([list(bytes.fromhex(text)[:8]) for text in texts], dtype=np.uint8).reshape(-1, 8)
    return np.asarray(numbers(raw))
