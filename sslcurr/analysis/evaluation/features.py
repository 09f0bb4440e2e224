"""Features of many images by one model and layer, kept in the store: computed once, read from disk afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.analysis.evaluation.inception import IMAGE_SIZE, inception
from sslcurr.backbones.build import StageFeatures, stage_names
from sslcurr.backbones.checkpoint import sha256_of
from sslcurr.backbones.fuse import folded
from sslcurr.backbones.layers import POOLED, not_finite
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.dataset import Data
from sslcurr.engine.device import placement
from sslcurr.engine.models import Model
from sslcurr.engine.selection import rows_of, select
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.seeds import numpy_generator
from sslcurr.spec.stage import BackboneSpec, hash_of

# Raised when the same weights and images give other features.
VERSION = 1
Progress = Callable[[int, int], None]


class Sight(Protocol):
    """A model at one layer: what gives features."""

    @property
    def title(self) -> str:
        """What tables call it."""

    @property
    def layer(self) -> str:
        """The layer's name."""

    @property
    def image_size(self) -> int | None:
        """Side of the images it looks at, in pixels; None leaves it to the data set."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its features are keyed by."""

    def look(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """A function from rows of the pack to their features, [N] -> [N, D]."""


@dataclass(frozen=True)
class Backbone:
    """A backbone at the layer `pooled` or at one of its stages, average-pooled; images as it was trained on."""

    model: Model
    layer: str = POOLED

    @property
    def title(self) -> str:
        """That of the model."""
        return self.model.title

    @property
    def image_size(self) -> int | None:
        """That of the model."""
        return self.model.image_size

    @property
    def identity(self) -> dict[str, Any]:
        """As `Sight`."""
        return {**self.model.identity, "layer": self.layer}

    def look(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """As `Sight`.

        Raises:
            SpecError: the network has no such layer.
        """
        network = self.model.network()
        names = [*stage_names(network), POOLED]
        if self.layer not in names:
            what = f"{self.title} ({self.model.backbone.name}) has no layer {self.layer!r}"
            raise SpecError(what, f"there are {', '.join(names)}")
        kept = [] if self.layer == POOLED else [self.layer]
        generator = torch.Generator().manual_seed(0)
        example = torch.randn(2, self.model.backbone.channels, size, size, generator=generator)
        module = StageFeatures(folded(self.model.network, kept, example).to(device), [self.layer]).eval()
        mine, view = feed.seen_by(self.model.backbone), View(size=size, crop="center")

        def see(rows: NDArray[Any]) -> Tensor:
            (images,) = mine.views(rows, [view], torch.Generator())
            return module(images.contiguous(memory_format=torch.channels_last))

        return see


@dataclass(frozen=True)
class Inception:
    """The network of the usual FID, with its own preprocessing."""

    weights: Path
    layer: str = POOLED
    title: str = "Inception"
    image_size: int | None = IMAGE_SIZE

    @property
    def identity(self) -> dict[str, Any]:
        """As `Sight`."""
        return {"weights": sha256_of(self.weights), "inception": self.layer}

    def look(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """As `Sight`."""
        network = inception(self.weights, self.layer, device)
        return lambda rows: network(feed.images(rows))


def drawn(data: Data, split: str, most: int, seed: int) -> NDArray[np.integer]:
    """The rows of at most `most` images of a split, in random order.

    Raises:
        DataError: there are no such images.
    """
    return numpy_generator(seed, "features").permutation(rows_of(data.spec(1.0), split, data.pack))[:most]


def features_of(
    sight: Sight,
    data: Data,
    *,
    split: str,
    most: int,
    seed: int,
    store: Store,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], Path]:
    """Features of at most `most` images of a data set, in random order, [N, D], and the analysis that holds them.

    They are a memory map of the file in the store: nothing is held in memory, however many there are.

    Raises:
        SpecError: no such layer, or features that are not finite. DataError: there are no such images.
    """
    spec, order = data.spec(1.0), drawn(data, split, most, seed)
    inputs = {
        "version": VERSION,
        **sight.identity,
        "image_size": data.image_size,
        "data": hash_of(spec),
        "split": split,
        "num_images": len(order),
        "seed": seed,
    }

    def work(part: Path) -> dict[str, Any]:
        where = placement(device, "32")
        plain = BackboneSpec(name="resnet18")  # its normalisation is replaced by that of the model
        feed = Feed(select(spec, labelled=False, pack=data.pack), plain, where.device)
        see = sight.look(feed, data.image_size, where.device)
        num_features = _write(see, order, part / "features.npy", sight, where.device, progress)
        return {"num_images": len(order), "num_features": num_features}

    folder = store.analysis("features", inputs, work)
    return np.load(folder / "features.npy", mmap_mode="r"), folder


def _write(
    see: Callable[[NDArray[Any]], Tensor],
    order: NDArray[Any],
    path: Path,
    sight: Sight,
    device: torch.device,
    progress: Progress | None,
) -> int:
    """Features of the rows `order` as a NumPy file; gives how many an image has."""
    file: Any = None
    size = 256 if device.type == "cuda" else 64
    for start in range(0, len(order), size):
        with torch.no_grad():
            found = see(order[start : start + size]).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise not_finite(sight.title, sight.layer)
        if file is None:
            shape = (len(order), found.shape[1])
            file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        file[start : start + size] = found
        if progress is not None:
            progress(min(start + size, len(order)), len(order))
    file.flush()
    return int(file.shape[1])
