"""What people look at: pictures of a data set, and of the views that a task trains on."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.data import read
from sslcurr.data.check import image_at
from sslcurr.data.source import Source
from sslcurr.engine.feed import Feed
from sslcurr.engine.selection import select
from sslcurr.engine.spec import BackboneSpec, StageSpec
from sslcurr.engine.store import write_whole
from sslcurr.engine.train import build_task
from sslcurr.errors import DataError
from sslcurr.seeds import numpy_generator, seed_for, torch_generator
from sslcurr.tasks import task_class

CELL, GAP, TITLE = 96, 4, 44  # pixels
NAME = 170  # pixels, for the names of classes


def draw_views(spec: StageSpec, path: Path, num_images: int = 6) -> None:
    """Write a PNG of what the network of `spec` is given in a first step: a row an image, a column a view.

    The first column is the image as probes see it; titles hold the labels that the task makes itself. The images are
    spread evenly over the training images.
    """
    selection = select(spec.data, labelled=task_class(spec.task).labelled)
    feed = Feed(selection, spec.backbone, torch.device("cpu"))
    task = build_task(spec, selection, None)
    num_train = len(selection.rows["train"])
    places = np.linspace(0, num_train - 1, min(num_images, num_train)).round().astype(int)
    generator = torch_generator(spec.seed, spec.parent, "views", 0)
    batch = feed.batch(places, task.views(task.config), generator)
    (fixed,) = feed.views(selection.rows["train"][places], [task.fixed_view(task.config)], torch.Generator())
    torch.manual_seed(seed_for(spec.seed, spec.parent, "step", 0))
    columns = {"image": fixed} | task.pictures(batch)
    sheet = draw_grid({title: in_bytes(images, spec.backbone) for title, images in columns.items()})
    write_whole(path, lambda temporary: sheet.save(temporary, format="PNG"))


def lettering(size: int) -> Any:
    """A font of so many pixels with the letters of most languages: DejaVu, which comes with matplotlib."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def in_bytes(images: Tensor, backbone: BackboneSpec) -> NDArray[np.uint8]:
    """[N, C, S, S] normalised images as [N, S, S, 3] bytes."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (backbone.mean, backbone.std))
    colours = (images * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    return (colours.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def draw_grid(columns: dict[str, NDArray[np.uint8]]) -> Any:
    """A PIL image of columns of pictures, title -> [N, S, S, 3]; each picture is enlarged or shrunk to one size."""
    from PIL import Image, ImageDraw

    num_rows = len(next(iter(columns.values())))
    pitch = CELL + GAP
    sheet = Image.new("RGB", (GAP + pitch * len(columns), TITLE + pitch * num_rows), "white")
    pen, font = ImageDraw.Draw(sheet), lettering(12)
    for column, (title, pictures) in enumerate(columns.items()):
        left = GAP + column * pitch
        pen.multiline_text((left, 2), "\n".join(textwrap.wrap(title, 15)[:3]), fill="black", font=font, spacing=1)
        for row, picture in enumerate(pictures):
            shown = Image.fromarray(picture)
            resample = Image.Resampling.NEAREST if shown.width < CELL else Image.Resampling.LANCZOS
            sheet.paste(shown.resize((CELL, CELL), resample), (left, TITLE + row * pitch))
    return sheet


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
        members = [i for i, found in enumerate(source.labels) if found == label]
        pictures: list[NDArray[np.uint8]] = []
        for i in numpy_generator(seed, "sample", label or "").permutation(members).tolist():
            if len(pictures) == num_images:
                break
            try:
                pictures.append(image_at(source, i))
            except read.BrokenImage:
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
    write_whole(path, lambda temporary: sheet.save(temporary, format="PNG"))
    return remarks
