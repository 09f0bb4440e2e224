"""Features of many images by one model and layer, kept in the store: computed once, read from disk afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.analysis.evaluation.inception import IMAGE_SIZE, find_weights, inception
from sslcurr.analysis.results.distances.document import INCEPTION
from sslcurr.analysis.results.document import Json
from sslcurr.backbones.build import StageFeatures, stage_names
from sslcurr.backbones.fuse import folded
from sslcurr.backbones.layers import POOLED, not_finite
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.dataset import Data, packed_placed, packed_portable
from sslcurr.engine.device import placement
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import AnalysisWork
from sslcurr.engine.models import Model, model_placed, model_portable
from sslcurr.engine.selection import select, split_rows
from sslcurr.engine.store import Store, analysis_name
from sslcurr.errors import SpecError
from sslcurr.files import sha256_of
from sslcurr.integrity import sound
from sslcurr.progress import Reporter
from sslcurr.seeds import numpy_generator
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import BackboneSpec, hash_of

FEATURES = "features"
# Raised when the same weights and images give other features.
VERSION = 1
Progress = Callable[[int, int], None]


class FeatureExtractor(Protocol):
    """A model at one layer: what gives features."""

    @property
    def title(self) -> str:
        """What tables call it."""

    @property
    def layer(self) -> str:
        """The layer's name."""

    @property
    def image_size(self) -> int | None:
        """Side of the images it takes, in pixels; None leaves it to the data set."""

    @property
    def identity(self) -> dict[str, object]:
        """What its features are keyed by."""

    def prepare(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """A function from rows of the pack to their features, [N] -> [N, D].

        Args:
            feed: the images of the pack.
            size: side of the views, in pixels.
            device: where features are computed.
        """


@dataclass(frozen=True)
class BackboneExtractor:
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
    def identity(self) -> dict[str, object]:
        """As `FeatureExtractor`."""
        return {**self.model.identity, "layer": self.layer}

    def prepare(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """As `FeatureExtractor`.

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
        normalised, view = feed.for_backbone(self.model.backbone), View(size=size, crop="center")

        def features(rows: NDArray[Any]) -> Tensor:
            (images,) = normalised.views(rows, [view], torch.Generator())
            return module(images.contiguous(memory_format=torch.channels_last))

        return features


@dataclass(frozen=True)
class InceptionExtractor:
    """The network of the usual FID, with its own preprocessing."""

    weights: Path
    layer: str = POOLED
    title: str = "Inception"
    image_size: int | None = IMAGE_SIZE

    @property
    def identity(self) -> dict[str, object]:
        """As `FeatureExtractor`."""
        return {"weights": sha256_of(self.weights), "inception": self.layer}

    def prepare(self, feed: Feed, size: int, device: torch.device) -> Callable[[NDArray[Any]], Tensor]:
        """As `FeatureExtractor`."""
        network = inception(self.weights, self.layer, device)
        return lambda rows: network(feed.images(rows))


def extractor_portable(extractor: FeatureExtractor, store: Store) -> Json:
    """An extractor as plain values for other processes; `root` is that of the store."""
    if isinstance(extractor, InceptionExtractor):
        return {"inception": str(extractor.weights.resolve()), "layer": extractor.layer}
    assert isinstance(extractor, BackboneExtractor)
    return {"model": model_portable(extractor.model, store), "layer": extractor.layer}


def extractor_placed(plain: Json, store: Store) -> FeatureExtractor:
    """An extractor from plain values, with the paths that it has on this machine."""
    if "inception" in plain:
        return InceptionExtractor(Path(plain["inception"]), plain["layer"])
    return BackboneExtractor(model_placed(plain["model"], store), plain["layer"])


def extractors_of(
    texts: Sequence[str], models: Sequence[Model], layer: str, weights: Path | None = None, *, download: bool = False
) -> list[FeatureExtractor]:
    """Extractors in the order of `texts`, each at one layer; Inception has layers of its own.

    Args:
        texts: what a person called them; `inception` is the network of the usual FID, the others are `models`.
        models: without Inception, in the same order.
        layer: such as `pooled` or `layer3`.
        weights: torch-fidelity's weights of the Inception network; None takes them from where it keeps them.
        download: fetches them where they are absent.

    Raises:
        SpecError: Inception and other models have no such layer in common. CheckpointError: there are no such weights.
    """
    extractors: list[FeatureExtractor] = []
    others = iter(models)
    for text in texts:
        if text != INCEPTION:
            extractors.append(BackboneExtractor(next(others), layer))
        elif layer != POOLED and models:
            raise SpecError(f"the models have no layer {layer!r} in common", "leave out --layer, or inception")
        else:
            extractors.append(InceptionExtractor(find_weights(weights, download=download), layer))
    return extractors


def drawn(data: Data, split: str, most: int, seed: int) -> NDArray[np.integer]:
    """The rows of at most `most` images of a split, in random order.

    Raises:
        DataError: there are no such images.
    """
    return numpy_generator(seed, "features").permutation(split_rows(data.spec(1.0), split, data.pack))[:most]


def extract(
    extractor: FeatureExtractor,
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

    def work(part: Path) -> Json:
        where = placement(device, "32")
        plain = BackboneSpec(name="resnet18")  # its normalisation is replaced by that of the model
        feed = Feed(select(spec, labelled=False, pack=data.pack), plain, where.device)
        features = extractor.prepare(feed, data.image_size, where.device)
        num_features = _write(features, order, part / "features.npy", extractor, where.device, progress)
        return {"num_images": len(order), "num_features": num_features}

    folder = store.analysis(FEATURES, _inputs(extractor, data, split, len(order), seed), work)
    return np.load(sound(folder / "features.npy"), mmap_mode="r"), folder


def _inputs(extractor: FeatureExtractor, data: Data, split: str, num_images: int, seed: int) -> Json:
    return {
        "version": VERSION,
        **extractor.identity,
        "image_size": data.image_size,
        "data": hash_of(data.spec(1.0)),
        "split": split,
        "num_images": num_images,
        "seed": seed,
    }


class FeaturesWork(AnalysisWork):
    """The features of a data set by a model: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Extract them."""
        values = dict(job.arguments)
        extractor = extractor_placed(values.pop("extractor"), store)
        data = packed_placed(values.pop("data"), store)
        extract(extractor, data, **values, store=store, device=runtime.device)


def features_job(extractor: FeatureExtractor, data: Data, *, split: str, most: int, seed: int, store: Store) -> Job:
    """What `extract` does with the same arguments as a job.

    Raises:
        DataError: there are no such images.
    """
    num_images = len(drawn(data, split, most, seed))
    return Job(
        name=analysis_name(FEATURES, _inputs(extractor, data, split, num_images, seed)),
        kind="features",
        title=f"features of {extractor.title} on {data.pack.name}",
        arguments={
            "extractor": extractor_portable(extractor, store),
            "data": packed_portable(data, store),
            "split": split,
            "most": most,
            "seed": seed,
        },
        cost=FORWARD * num_images,
    )


def _write(
    features: Callable[[NDArray[Any]], Tensor],
    order: NDArray[Any],
    path: Path,
    extractor: FeatureExtractor,
    device: torch.device,
    progress: Progress | None,
) -> int:
    """Features of the rows `order` as a NumPy file; gives how many an image has."""
    file: Any = None
    size = 256 if device.type == "cuda" else 64
    for start in range(0, len(order), size):
        with torch.no_grad():
            batch = features(order[start : start + size]).float().cpu().numpy()
        if not np.isfinite(batch).all():
            raise not_finite(extractor.title, extractor.layer)
        if file is None:
            shape = (len(order), batch.shape[1])
            file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        file[start : start + size] = batch
        if progress is not None:
            progress(min(start + size, len(order)), len(order))
    file.flush()
    return int(file.shape[1])
