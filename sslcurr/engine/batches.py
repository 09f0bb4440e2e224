"""From a pack to batches of views on the training device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sslcurr.data.views.draw import make_views
from sslcurr.data.views.view import View
from sslcurr.engine.gpu import Beside
from sslcurr.engine.selection import Selection
from sslcurr.progress import Reporter
from sslcurr.spec.stage import BackboneSpec
from sslcurr.tasks.base import Batch
from sslcurr.world import ALONE, World

# A pack moves to the device's memory when it takes less than this share of what is free there.
DEVICE_SHARE = 0.4


class Feed:
    """Batches and scans of a selection of images, with the normalisation and channels of a backbone."""

    def __init__(
        self, selection: Selection, backbone: BackboneSpec, device: torch.device, beside: Beside | None = None
    ) -> None:
        self.selection = selection
        self.backbone = backbone
        self.device = device
        self.beside = beside or Beside(None)
        self.resident = self._to_device()

    def for_backbone(self, backbone: BackboneSpec) -> Feed:
        """The same images for another backbone; what lies on the device is shared."""
        other = copy.copy(self)
        other.backbone = backbone
        return other

    def _to_device(self) -> Tensor | None:
        images = self.selection.pack.images
        if self.device.type != "cuda" or images.nbytes > DEVICE_SHARE * self._room():
            return None
        resident = torch.empty(images.shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(images), 4096):
            chunk = np.ascontiguousarray(images[start : start + 4096])
            resident[start : start + len(chunk)] = torch.from_numpy(chunk).to(self.device)
        return resident

    def _room(self) -> float:
        """Bytes of the GPU's memory that this process may still take: other workers may share the GPU."""
        free, total = torch.cuda.mem_get_info(self.device)
        share = torch.cuda.get_per_process_memory_fraction(self.device)
        return min(free, share * total - torch.cuda.memory_reserved(self.device))

    def images(self, rows: np.ndarray) -> Tensor:
        """[N, C, S, S] uint8 images of the pack's `rows` on the device."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        images = torch.from_numpy(np.ascontiguousarray(self.selection.pack.images[rows]))
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)

    def views(self, rows: np.ndarray, views: Sequence[View], generator: torch.Generator) -> tuple[Tensor, ...]:
        """One tensor a `View`, [count * N, channels, size, size], crop-major."""
        return self._views_of(self.images(rows), rows, views, generator)

    def _views_of(
        self,
        images: Tensor,
        rows: np.ndarray,
        views: Sequence[View],
        generator: torch.Generator,
        own: slice = slice(None),
    ) -> tuple[Tensor, ...]:
        """The views of the `own` ones of `rows`, which are the `images`; numbers are drawn for all rows."""
        pack = self.selection.pack
        return make_views(
            images,
            torch.from_numpy(pack.heights[rows]),
            torch.from_numpy(pack.widths[rows]),
            views,
            generator,
            own=own,
            mean=self.backbone.mean,
            std=self.backbone.std,
            channels=self.backbone.channels,
        )

    def batch(
        self,
        places: np.ndarray,
        views: Sequence[View],
        generator: torch.Generator,
        report: Reporter | None = None,
        world: World = ALONE,
    ) -> Batch:
        """The training batch of this rank's images of those at `places` of the training rows.

        `report` gets the times of its parts, `world` says which rank this is.
        """
        return self.beside.made(lambda: self._batch(places, views, generator, report or Reporter(), world))

    def _batch(
        self, places: np.ndarray, views: Sequence[View], generator: torch.Generator, report: Reporter, world: World
    ) -> Batch:
        own = world.share(len(places))
        rows = self.selection.rows["train"][places]
        with report.phase("host to device"):
            images = self.images(rows[own])
            index, labels = self.named(places[own])
        with report.phase("views"):
            rendered = self._views_of(images, rows, views, generator, own)
        return Batch(views=rendered, index=index, labels=labels, world=world)

    def named(self, places: np.ndarray) -> tuple[Tensor, Tensor]:
        """The `index` and the `labels` of a batch of the images at `places`."""
        index = torch.from_numpy(places).to(self.device, non_blocking=True)
        targets = self.selection.targets(self.selection.rows["train"][places])
        return index, torch.from_numpy(targets).to(self.device, non_blocking=True)

    def fixed(self, split: str, view: View, batch_size: int = 256, world: World = ALONE) -> Iterator[Tensor]:
        """The fixed views of a split in data order, a batch at a time; of several ranks each has batches of its own."""
        rows = self.selection.rows[split]
        starts = range(0, len(rows), batch_size)
        for start in starts[world.share(len(starts))]:
            yield self.views(rows[start : start + batch_size], [view], torch.Generator())[0]


class Scanner:
    """`scan(module, split)`: [N, D] outputs for the fixed view of every image, in evaluation mode and data order."""

    def __init__(
        self,
        feed: Feed,
        view: View,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        world: World = ALONE,
    ) -> None:
        self.feed = feed
        self.view = view
        self.autocast = autocast
        self.world = world

    @torch.no_grad()
    def __call__(self, module: nn.Module, split: str = "train") -> Tensor:
        """Apply `module` to every image of the split; its modes are put back afterwards."""
        modes = {part: part.training for part in module.modules()}
        module.eval()
        try:
            outputs = []
            for images in self.feed.fixed(split, self.view, world=self.world):
                with self.autocast():
                    outputs.append(module(images).float())
        finally:
            for part, mode in modes.items():
                part.training = mode
        return self.world.joined(outputs)

    def labels(self, split: str = "train") -> Tensor:
        """[N] class numbers, -1 where there is none; or [N, T] values, NaN where nothing is known."""
        selection = self.feed.selection
        return torch.from_numpy(selection.targets(selection.rows[split]))
