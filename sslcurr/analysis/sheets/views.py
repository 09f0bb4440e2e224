"""The views of a task drawn on a sheet."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslcurr.analysis.sheets.drawing import in_bytes, lettering, write_sheet
from sslcurr.analysis.sheets.samples import CELL, GAP, TITLE
from sslcurr.engine.batches import Feed
from sslcurr.engine.selection import select
from sslcurr.engine.train import build_task
from sslcurr.seeds import seed_torch, torch_generator
from sslcurr.spec.stage import StageSpec
from sslcurr.tasks import task_class


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
    seed_torch(spec.seed, spec.parent, "step", 0)
    columns = {"image": fixed} | task.pictures(batch)
    sheet = draw_grid({title: in_bytes(images, spec.backbone) for title, images in columns.items()})
    write_sheet(sheet, path)


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
