"""What `kills.py` and `soak.py` share: small commands, their images, and what of two results must be the same."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

QUICK = ("--backbone", "test_resnet", "--stem", "imagenet", "--image-size", "16", "--batch-size", "8", "--threads", "1")
# A stage saves as often as it can.
SAVED = ("--save-minutes", "0.001")
CODES = {0, 1, 3, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
# What names a time, a place or the machine differs between two stores.
VARYING = re.compile(
    r"seconds|created|again|predictions|checkpoint|files|invocation|command|reused|page|store|hours|sheet|points|images_per"
)


def make_images(folder: Path, count: int, seed: int) -> None:
    """A folder of two classes of `count` small images each."""
    rng = np.random.default_rng(seed)
    for label in (0, 1):
        place = folder / "ab"[label]
        place.mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 120, (20, 20, 3), dtype=np.uint8)
            image[:, ::2] += np.uint8(90 * label)
            Image.fromarray(image).save(place / f"{number}.png")


def make_masks(images: Path, folder: Path) -> None:
    """A mask of the left half of every image, under the same path."""
    for path in images.rglob("*.png"):
        mask = np.zeros((20, 20), dtype=np.uint8)
        mask[:, :10] = 255
        place = folder / path.relative_to(images)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place)


def plain(value: Any) -> Any:
    """A document without what differs from store to store."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if not VARYING.search(name)}
    return [plain(each) for each in value] if isinstance(value, list) else value
