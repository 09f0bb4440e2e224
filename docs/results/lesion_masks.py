"""Rough masks of skin lesions, for a demonstration only: nobody drew them.

Darker than Otsu's threshold of the smoothed grey image; of the pieces that do not touch the border the one that weighs
most near the middle (of all pieces where every one touches it), its holes filled.

    python docs/results/lesion_masks.py data/ham/labels.csv masks/
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from scipy import ndimage


def otsu(grey: np.ndarray) -> int:
    """The threshold with the largest variance between both sides (https://doi.org/10.1109/TSMC.1979.4310076)."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(float)
    below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    spread = np.zeros(256)
    both = (below > 0) & (above > 0)
    spread[both] = (sums[-1] * below[both] / below[-1] - sums[both]) ** 2 / (below[both] * above[both])
    return int(spread.argmax())


def lesion(grey: np.ndarray) -> np.ndarray:
    """[H, W] booleans of a grey image."""
    pieces, count = ndimage.label(grey <= otsu(grey))
    rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]]
    height, width = grey.shape
    nearness = np.exp(-(((rows - height / 2) / (height / 3)) ** 2) - ((columns - width / 2) / (width / 3)) ** 2)
    weights = ndimage.sum(nearness, pieces, range(1, count + 1))
    border = set(np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])))
    inner = np.array([number not in border for number in range(1, count + 1)])
    if inner.any() and weights[inner].max() > 0.01 * nearness.sum():
        weights = np.where(inner, weights, 0)
    return ndimage.binary_fill_holes(pieces == 1 + int(weights.argmax()))


def main() -> None:
    """Write a PNG for every image of the table."""
    table, out = Path(sys.argv[1]), Path(sys.argv[2])
    for path in pd.read_csv(table)["path"]:
        with Image.open(table.parent / path) as image:
            grey = np.array(image.convert("L").filter(ImageFilter.GaussianBlur(3)))
        target = (out / path).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((lesion(grey) * 255).astype(np.uint8)).save(target)


if __name__ == "__main__":
    main()
