"""How alike models are, layer by layer: CKA of what each gives for the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslcurr.analysis.measures.cka import FEWEST, Alignment, Estimates, estimates, linear_gram, rbf_gram
from sslcurr.backbones.fuse import folded
from sslcurr.backbones.layers import POOLED, Taps, layer_names, not_finite
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.dataset import Data
from sslcurr.engine.device import placement
from sslcurr.engine.models import Model, model_of
from sslcurr.engine.plan import parent_of
from sslcurr.engine.selection import rows_of, select
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_json
from sslcurr.seeds import numpy_generator
from sslcurr.spec.stage import hash_of, in_range

# Raised when the same models and images give other numbers.
VERSION = 1
ESTIMATORS, KERNELS, POOLS = ("unbiased", "biased"), ("linear", "rbf"), ("none", "avg")
LARGEST_BATCH = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How models are compared.

    Attributes:
        layers: as `layer_names` takes them.
        split: whose images are shown: `train`, `val`, `test` or `all`.
        num_images: so many of them at random; None is all.
        estimator: of HSIC; `biased` is near 1 for unrelated features of few images.
        kernel: `linear`, or `rbf` with the median distance of the first batch as its bandwidth.
        pool: `none` compares whole maps, `avg` their mean over places.
        batch_size: 0 leaves it to `batch_size_for`.
        seed: of the choice and the order of the images.
    """

    layers: str = "stages"
    split: str = "test"
    num_images: int | None = None
    estimator: str = "unbiased"
    kernel: str = "linear"
    pool: str = "none"
    batch_size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("estimator", ESTIMATORS), ("kernel", KERNELS), ("pool", POOLS)):
            if getattr(self, name) not in values:
                raise SpecError(f"unknown {name} {getattr(self, name)!r}", f"known: {', '.join(values)}")
        if self.num_images is not None:
            in_range("--num-images", self.num_images, FEWEST)
        if self.batch_size:
            in_range("--batch-size", self.batch_size, FEWEST)


def batch_size_for(num_images: int) -> int:
    """Images of a batch: eight batches if each has 32 images then, for the intervals, and 256 at most, for memory."""
    return min(LARGEST_BATCH, max(32, -(-num_images // 8)))


@dataclass(frozen=True)
class Similarity:
    """CKA of all layers of several models.

    Attributes:
        models: in the order asked for.
        layers: of each model.
        found: over the layers of all models, one after the other.
        num_images, num_batches: it rests on.
        folder: of the analysis.
    """

    models: tuple[Model, ...]
    layers: tuple[tuple[str, ...], ...]
    found: Estimates
    num_images: int
    num_batches: int
    folder: Path

    def place(self, model: int) -> slice:
        """Where a model's layers are in `found`."""
        start = sum(len(names) for names in self.layers[:model])
        return slice(start, start + len(self.layers[model]))

    def pair(self, a: int, b: int) -> Estimates:
        """Layers of model a (rows) against those of model b (columns)."""
        rows, columns = self.place(a), self.place(b)
        ends = (None if end is None else end[rows, columns] for end in (self.found.low, self.found.high))
        return Estimates(self.found.value[rows, columns], *ends)

    def same_layers(self, a: int, b: int) -> list[tuple[str, int, int]]:
        """Layers that both models have: name, place in a, place in b."""
        other = {name: place for place, name in enumerate(self.layers[b])}
        return [(name, place, other[name]) for place, name in enumerate(self.layers[a]) if name in other]

    def undefined(self) -> dict[str, list[str]]:
        """Model -> its layers that give the same features for all images, if there are any."""
        own = np.isnan(np.diagonal(self.found.value))
        found = {}
        for number, model in enumerate(self.models):
            absent = [name for name, lacks in zip(self.layers[number], own[self.place(number)], strict=True) if lacks]
            if absent:
                found[model.title] = absent
        return found


def compare(
    models: Sequence[Model],
    data: Data,
    settings: Settings,
    store: Store,
    device: str = "auto",
    *,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Similarity:
    """CKA of every layer of every model with every other, on the images of `data`.

    What the store holds of the same weights, images and settings is not computed again.

    Raises:
        DataError: fewer than four images. SpecError: no such layer, or features that are not finite.
    """
    spec = data.spec(1.0)
    rows = rows_of(spec, settings.split, data.pack)
    if len(rows) < FEWEST:
        hint = "give more images" if settings.split == "all" else "give --split all"
        raise DataError(f"CKA needs {FEWEST} images, and {data.pack.name} has {len(rows)} of {settings.split}", hint)
    if settings.num_images is not None and settings.num_images > len(rows):
        raise DataError(
            f"{data.pack.name} has {len(rows)} images of {settings.split}, fewer than --num-images "
            f"{settings.num_images}",
            f"give --num-images {len(rows)}, or leave it out",
        )
    # In random order: images of a data set often lie class by class, and each batch stands for all of them.
    order = numpy_generator(settings.seed, "cka").permutation(rows)[: settings.num_images]
    sizes = [image_size or model.image_size or data.image_size for model in models]
    batch_size = min(settings.batch_size or batch_size_for(len(order)), len(order))
    inputs = {
        "version": VERSION,
        "models": [{**model.identity, "image_size": size} for model, size in zip(models, sizes, strict=True)],
        "data": hash_of(spec),
        "split": settings.split,
        "num_images": len(order),
        "batch_size": batch_size,
        "layers": settings.layers,
        "estimator": settings.estimator,
        "kernel": settings.kernel,
        "pool": settings.pool,
        "seed": settings.seed,
    }

    def work(part: Path) -> dict[str, Any]:
        # Of equal size; a little more than asked for where a batch would have fewer than the fewest.
        batches = np.array_split(order, min(-(-len(order) // batch_size), len(order) // FEWEST))
        names, sums, counts = _compare(models, sizes, data, batches, settings, device, progress)
        np.savez(part / "hsic.npz", sums=sums, counts=counts)
        return {"layers": names, "num_batches": len(batches)}

    folder = store.analysis("cka", inputs, work)
    record = read_json(folder / "done.json")
    with np.load(folder / "hsic.npz") as held:
        found = estimates(held["sums"], held["counts"], seed=settings.seed)
    layers = tuple(tuple(names) for names in record["layers"])
    return Similarity(tuple(models), layers, found, len(order), record["num_batches"], folder)


def _compare(
    models: Sequence[Model],
    sizes: Sequence[int],
    data: Data,
    batches: Sequence[NDArray[Any]],
    settings: Settings,
    device: str,
    progress: Progress | None,
) -> tuple[list[list[str]], NDArray[Any], NDArray[Any]]:
    """Layers of each model, and the sums of an `Alignment` with their counts."""
    where = placement(device, "32")
    base = Feed(select(data.spec(1.0), labelled=False, pack=data.pack), models[0].backbone, where.device)
    eyes = []
    for model, size in zip(models, sizes, strict=True):
        feed, view = base.seen_by(model.backbone), View(size=size, crop="center")
        eyes.append((feed, view, Eye(model, settings, where.device, size)))
    alignment: Alignment | None = None
    for number, rows in enumerate(batches):
        seen: dict[Any, Tensor] = {}  # models that want the same views share them
        grams: list[Tensor] = []
        for feed, view, eye in eyes:
            wanted = (view, feed.backbone.channels, feed.backbone.mean, feed.backbone.std)
            if wanted not in seen:
                (images,) = feed.views(np.sort(rows), [view], torch.Generator())
                seen[wanted] = images.contiguous(memory_format=torch.channels_last)
            grams += eye.grams(seen[wanted])
        if alignment is None:
            alignment = Alignment(len(grams), settings.estimator)
        alignment.add(torch.stack(grams))
        if progress is not None:
            progress(number + 1, len(batches))
    assert alignment is not None
    return [eye.names for _, _, eye in eyes], alignment.sums, alignment.counts


class Eye:
    """A model that gives the Gram matrices of its layers; each is computed as its layer is passed, and nothing kept."""

    def __init__(self, model: Model, settings: Settings, device: torch.device, size: int) -> None:
        self.model = model
        self.settings = settings
        wanted = layer_names(model.network(), settings.layers)
        example = torch.randn(2, model.backbone.channels, size, size, generator=torch.Generator().manual_seed(0))
        modules = [name for name in wanted if name != POOLED]
        self.network: nn.Module = folded(model.network, modules, example).to(device)
        self.names: list[str] = []
        self.found: list[Tensor] = []
        self.bandwidths: dict[str, Tensor] = {}
        self.taps = Taps(self.network, wanted, self._see)

    def grams(self, images: Tensor) -> list[Tensor]:
        """[n, n] of each layer, for [n, C, H, W] images.

        Raises:
            SpecError: features that are not finite.
        """
        self.names, self.found = [], []
        with self.taps:
            self.taps(images)
        if not self.found:
            raise SpecError(
                f"images pass no layer of {self.model.title} that is named {self.settings.layers!r}",
                "name other layers",
            )
        finite = torch.stack([gram.sum() for gram in self.found]).isfinite().tolist()
        if not all(finite):
            raise not_finite(self.model.title, self.names[finite.index(False)])
        return self.found

    def _see(self, name: str, output: Tensor, again: bool) -> None:
        self.names.append(name)
        if again and self.settings.kernel == "linear":
            self.found.append(self.found[-1])
            return
        features = flat(output, self.settings.pool)
        if self.settings.kernel == "linear":
            self.found.append(linear_gram(features))
        else:
            gram, self.bandwidths[name] = rbf_gram(features, self.bandwidths.get(name))
            self.found.append(gram)


def flat(output: Tensor, pool: str) -> Tensor:
    """[n, C, H, W] maps (or [n, C]) as [n, D] rows, in an order of places and channels that is the same for all n."""
    if output.ndim == 4 and pool == "avg":
        return output.mean(dim=(2, 3))
    if output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last):
        return output.permute(0, 2, 3, 1).reshape(len(output), -1)  # a view, where flatten would copy
    return output.flatten(1)


def dissimilarity(data: Data, store: Store, device: str = "auto") -> Callable[[Stage, Stage], float]:
    """A function of two stages: one minus the mean CKA of their layers, on the validation images of `data`.

    0 where features are alike but for rotation and scale, about 1 where they have nothing in common.
    """

    def between(a: Stage, b: Stage) -> float:
        models = [model_of(parent_of(stage.spec), store) for stage in (a, b)]
        found = compare(models, data, Settings(split="val", pool="avg"), store, device)
        pair = found.pair(0, 1)
        values = [pair.value[i, j] for _, i, j in found.same_layers(0, 1)]
        known = [value for value in values if np.isfinite(value)]
        return 1.0 - float(np.mean(known)) if known else 1.0

    return between
