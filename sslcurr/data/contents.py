"""Images known again by their contents, whatever they are called and wherever they lie.

Two digests of 64 bits stand for an image: that of its file's bytes, and that of its decoded pixels at their full size.
The first is the same for a copy under another name, the second also for one in another file format that loses nothing.
Among a million images and another million, the chance that two different ones agree is 5e-8. Images that were resized
or compressed again are other images.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from sslcurr.integrity import sound

__all__ = ["UNKNOWN", "contents_of", "known_among", "pixel_digest"]

DIGEST_BYTES = 8
FILE, PIXELS = 0, 1  # columns of contents
UNKNOWN = 0
"""The digest of pixels in packs of versions that kept none."""


def pixel_digest(image: np.ndarray) -> bytes:
    """sha256 of the shape and the pixels of an image, uint8 [H, W, 1] if its content is grey, else [H, W, 3]."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def contents_of(pack: Path) -> np.ndarray:
    """What the images in the folder of a pack are known by, uint64 [N, 2]: digests of files and of pixels.

    Where the pack was made by a version that kept no digests of pixels, these are `UNKNOWN`.
    """
    with np.load(sound(pack / "rows.npz"), allow_pickle=False) as rows:
        files = numbers(rows["sha256"])
        pixels = numbers(rows["pixels"]) if "pixels" in rows else np.full(len(files), UNKNOWN, dtype=np.uint64)
    return np.column_stack([files, pixels])


def numbers(digests: np.ndarray) -> np.ndarray:
    """The first 64 bits of digests, uint8 [N, at least 8], as uint64 [N]."""
    return np.ascontiguousarray(digests[:, :DIGEST_BYTES]).view("<u8")[:, 0].astype(np.uint64)


def known_among(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `images` (contents, [N, 2]) are among `others` (contents, [M, 2]), bool [N]."""
    same_file = np.isin(images[:, FILE], others[:, FILE])
    same_pixels = np.isin(images[:, PIXELS], others[:, PIXELS]) & (images[:, PIXELS] != UNKNOWN)
    return same_file | same_pixels
