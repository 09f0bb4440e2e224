"""What people look at: pictures of a data set, and of the views that a task trains on."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.sheets.drawing import lettering, write_sheet
from sslcurr.data.check import image_at
from sslcurr.data.decode import image
from sslcurr.data.sources.source import Source
from sslcurr.errors import DataError
from sslcurr.seeds import numpy_generator

CELL, GAP, TITLE = 96, 4, 44  # pixels
NAME = 170  # pixels, for the names of classes


def draw_samples(source: Source, path: Path, *, num_images: int = 8, num_classes: int = 30, seed: int = 0) -> list[str]:
    """Write a PNG contact sheet of a data set: a row a class, `num_images` of it at random, shown whole.

    Returns remarks on what is not on it: images that cannot be decoded (another takes the place), further classes.

    Raises:
        DataError: not one image can be decoded.
    """
    from PIL import Image, ImageDraw

    remarks, names = [], [*source.classes, *([None] if None in source.labels else [])]
    if len(names) > num_classes:
        remarks.append(f"the first {num_classes} of {len(names)} rows are drawn: see --num-classes")
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    num_broken = 0
    for label in names[:num_classes]:
        members = [i for i, each in enumerate(source.labels) if each == label]
        pictures: list[NDArray[np.uint8]] = []
        for i in numpy_generator(seed, "sample", label or "").permutation(members).tolist():
            if len(pictures) == num_images:
                break
            try:
                pictures.append(image_at(source, i))
            except image.BrokenImage:
                num_broken += 1
        rows[f"{'no label' if label is None else label} ({len(members):,})"] = pictures
    if num_broken:
        remarks.append(f"{num_broken} of the images cannot be decoded: see sslcurr data check")
    if not any(rows.values()):
        raise DataError(f"not one image of {source.name} can be decoded", "see sslcurr data check")
    pitch = CELL + GAP
    sheet = Image.new("RGB", (NAME + GAP + pitch * num_images, GAP + pitch * len(rows)), "white")
    pen, font = ImageDraw.Draw(sheet), lettering(12)
    for row, (title, pictures) in enumerate(rows.items()):
        top = GAP + row * pitch
        lines = textwrap.wrap(title, 25)[:5]
        pen.multiline_text(
            (GAP, top + CELL // 2 - 8 * len(lines)), "\n".join(lines), fill="black", font=font, spacing=2
        )
        for column, picture in enumerate(pictures):
            shown = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
            scale = CELL / max(shown.size)
            size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
            resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            sheet.paste(shown.resize(size, resample), (NAME + column * pitch, top))
    write_sheet(sheet, path)
    return remarks
