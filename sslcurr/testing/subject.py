"""A task to be checked, with small images and a small network: nothing to fetch, seconds to train."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sslcurr.data.sources import catalog
from sslcurr.engine.batches import Feed
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Stage, Store
from sslcurr.engine.train import build_task
from sslcurr.files import write_whole
from sslcurr.progress import Reporter
from sslcurr.seeds import torch_generator
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec
from sslcurr.spec.target import CLASSES, MULTILABEL, TARGET_TASKS
from sslcurr.tasks import task_class
from sslcurr.tasks.base import Batch, Task

EPOCHS, BATCH_SIZE = 3, 8
WORDS = ("trouser", "sandal", "bag")
IMAGE_SIZES = (16, 64)


@dataclass(frozen=True)
class Subject:
    """A task to be checked.

    Attributes:
        task: its name.
        stage: makes a stage of three epochs of it; takes `image_size`, 16 pixels where none is given.
        folder: an empty folder for the stores of one check.
        golden: the file with the loss curve of this version of the task, if there is one.
        device: as `--device`.
    """

    task: str
    stage: Callable[..., StageSpec]
    folder: Path
    golden: Path | None = None
    device: str = "auto"

    @property
    def kind(self) -> type[Task]:
        """The class of the task."""
        return task_class(self.task)

    def images(self, spec: StageSpec) -> Selection:
        """The images of a stage."""
        return select(spec.data, labelled=self.kind.labelled)

    def module(self, spec: StageSpec) -> Task:
        """The task of a stage before its first step, on the CPU."""
        return build_task(spec, self.images(spec), None)

    def batch(self, spec: StageSpec, num_images: int = 12) -> Batch:
        """The same batch of training images each time, on the CPU; images of all classes, in the data's order."""
        selection = self.images(spec)
        feed = Feed(selection, spec.backbone, torch.device("cpu"))
        views = self.kind.views(self.kind.Config(**spec.config))
        places = np.arange(num_images) * len(selection.rows["train"]) // num_images
        return feed.batch(places, views, torch_generator("test"))

    def train(self, spec: StageSpec, place: str = "store", **runtime: Any) -> Stage:
        """Train a stage in a store of that name; `runtime` are fields of Runtime."""
        return train_stage(spec, Store(self.folder / place), Runtime(**{"device": self.device, **runtime}), Reporter())


def subject_of(
    task: str, folder: Path, *, settings: Sequence[str] = (), golden: Path | None = None, device: str = "cpu"
) -> Subject:
    """A task with small images of three kinds of clothing and timm's network for tests, all in `folder`."""
    images, packs = write_images(folder / "clothes"), Store(folder / "packs")

    @functools.cache
    def stage(image_size: int = IMAGE_SIZES[0]) -> StageSpec:
        request = Request(
            **dataset_for(task, images),
            backbone="test_resnet",
            stem="imagenet",
            image_size=image_size,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            settings=tuple(f"{task}.{setting}" for setting in settings),
        )
        return Planner(request, packs, [task]).chain([task])[0]

    return Subject(task, stage, folder, golden, device)


def dataset_for(task: str, images: Path) -> dict[str, Any]:
    """The fields of a `Request` for images of `write_images`, with labels of the kind that a task learns.

    Labels that may hold together are the class, and whether it is worn; numbers rise from class to class.
    """
    kind = TARGET_TASKS.get(task, CLASSES)
    if kind is CLASSES:
        return {"dataset": str(images)}
    table = images / f"{kind.name}.csv"
    if not table.is_file():
        lines = ["path,label"]
        for number, path in enumerate(sorted(images.glob("*/*.png"))):
            name = path.parent.name
            several = f"{name}|worn" if name != "bag" else name
            label = several if kind is MULTILABEL else 10 * sorted(WORDS).index(name) + number % 5 + 0.5
            lines.append(f"{name}/{path.name},{label}")
        write_whole(table, ("\n".join(lines) + "\n").encode())
    return {"dataset": str(table), "target_kind": kind.name}


def write_images(root: Path, each: int = 21) -> Path:
    """A folder of real images, `each` of three classes, 28 x 28, grey: some of those that come with sslcurr."""
    source = catalog.find_source("fashion")
    assert source.arrays is not None
    labels = np.array(source.labels)
    for name in WORDS:
        (root / name).mkdir(parents=True)
        for i in np.flatnonzero(labels == name)[:each]:
            Image.fromarray(source.arrays[i]).save(root / name / f"{i:04d}.png")
    return root
