"""What every decoder shares: file endings, limits, and the error for an image that cannot be decoded."""

from __future__ import annotations

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})


EXTENSIONS = PICTURES | {".dcm", ".dicom"}


MAX_PIXELS = 2**29


class BrokenImage(ValueError):
    """Bytes that are not a readable image; its text is the reason, without the file's name."""
