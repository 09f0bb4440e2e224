"""Checksums of the pixels of a pack, block by block, each held against its own when it is first read."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.errors import DataError

BLOCKS = "blocks.npy"
BLOCK_BYTES = 2**20
DAMAGED_HINT = "remove the folder; the pack is made again from the data set"


def rows_of_block(row_bytes: int) -> int:
    """How many images a block has: about a mebibyte."""
    return max(1, BLOCK_BYTES // row_bytes)


def checksums(images: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """CRC-32 of each block of images, uint8 [N, C, S, S]."""
    rows = rows_of_block(images[0].nbytes)
    return np.array([_crc(images[start : start + rows]) for start in range(0, len(images), rows)], dtype=np.uint32)


def _crc(block: NDArray[np.uint8]) -> int:
    return zlib.crc32(np.ascontiguousarray(block).data)


class CheckedImages:
    """The images of a pack, uint8 [N, C, S, S], none of which is given that is not what was written."""

    def __init__(self, images: NDArray[np.uint8], sums: NDArray[np.uint32], folder: Path) -> None:
        self._images = images
        self._sums = sums
        self._folder = folder
        self._rows = rows_of_block(images[0].nbytes)
        self._numbers = np.arange(len(images))
        self._is_known = np.zeros(len(sums), dtype=bool)
        self._all_known = False

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, C, S, S]."""
        return self._images.shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return self._images.dtype

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return self._images.nbytes

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Some images, as of an array.

        Raises:
            DataError: they are damaged.
        """
        if not self._all_known:
            self._check(rows[0] if isinstance(rows, tuple) else rows)
        return self._images[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype) if copy or dtype not in (None, np.uint8) else np.asarray(self[:])

    def _check(self, rows: Any) -> None:
        blocks = np.unique(np.atleast_1d(self._numbers[rows]) // self._rows)
        for block in blocks[~self._is_known[blocks]].tolist():
            start = block * self._rows
            if _crc(self._images[start : start + self._rows]) != self._sums[block]:
                end = min(start + self._rows, len(self)) - 1
                raise DataError(
                    f"the pack in {self._folder} is damaged: its images {start} to {end} are not what was written",
                    DAMAGED_HINT,
                )
            self._is_known[block] = True
        self._all_known = bool(self._is_known.all())
