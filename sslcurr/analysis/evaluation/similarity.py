"""How alike models are, layer by layer: CKA of what each gives for the same images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslcurr.analysis.measures.cka import (
    FEWEST,
    Alignment,
    BatchSums,
    Estimates,
    batch_sums,
    estimates,
    groups_of,
    linear_gram,
    rbf_gram,
)
from sslcurr.analysis.results.document import Json, Part
from sslcurr.analysis.results.estimate import Interval
from sslcurr.analysis.results.similarity.document import (
    ComparedModel,
    LayerSimilarity,
    ModelPair,
    SimilarityDocument,
)
from sslcurr.backbones.fuse import folded
from sslcurr.backbones.layers import POOLED, Taps, layer_names, not_finite
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.dataset import Data, packed_placed, packed_portable
from sslcurr.engine.device import placement
from sslcurr.engine.graph import Job
from sslcurr.engine.models import Model, model_of, model_placed, model_portable
from sslcurr.engine.plan import parent_of
from sslcurr.engine.selection import select, split_rows
from sslcurr.engine.store import Stage, Store, analysis_name
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_as
from sslcurr.integrity import sound
from sslcurr.progress import Reporter
from sslcurr.seeds import numpy_generator
from sslcurr.spec.ranges import in_range
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import hash_of
from sslcurr.wording import counted

CKA, CKA_PART = "cka", "cka-part"
# Raised when the same models and images give other numbers. 2: intervals by a jackknife over images. 3: products
# are summed up in float64.
VERSION = 3
ESTIMATORS, KERNELS, POOLS = ("unbiased", "biased"), ("linear", "rbf"), ("none", "avg")
LARGEST_BATCH = 256
# For several processes it is cut into a part a batch, but so many parts at most: each builds the networks anew.
MOST_PARTS = 32

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CkaSettings:
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
    """Images of a batch: eight batches if each has 32 images then, and 256 at most, for memory."""
    return min(LARGEST_BATCH, max(32, -(-num_images // 8)))


@dataclass(frozen=True)
class Similarity:
    """CKA of all layers of several models.

    Attributes:
        models: in the order asked for.
        layers: of each model.
        estimates: over the layers of all models, one after the other.
        num_images, num_batches: it rests on.
        folder: of the analysis.
    """

    models: tuple[Model, ...]
    layers: tuple[tuple[str, ...], ...]
    estimates: Estimates
    num_images: int
    num_batches: int
    folder: Path

    def place(self, model: int) -> slice:
        """Where a model's layers are in `estimates`."""
        start = sum(len(names) for names in self.layers[:model])
        return slice(start, start + len(self.layers[model]))

    def pair(self, a: int, b: int) -> Estimates:
        """Layers of model a (rows) against those of model b (columns)."""
        rows, columns = self.place(a), self.place(b)
        ends = (None if end is None else end[rows, columns] for end in (self.estimates.low, self.estimates.high))
        return Estimates(self.estimates.value[rows, columns], *ends)

    def same_layers(self, a: int, b: int) -> list[tuple[str, int, int]]:
        """Layers that both models have: name, place in a, place in b."""
        other = {name: place for place, name in enumerate(self.layers[b])}
        return [(name, place, other[name]) for place, name in enumerate(self.layers[a]) if name in other]

    def undefined(self) -> dict[str, list[str]]:
        """Model -> its layers that give the same features for all images, if there are any."""
        is_constant = np.isnan(np.diagonal(self.estimates.value))
        by_model = {}
        for number, (model, names) in enumerate(zip(self.models, self.layers, strict=True)):
            constant = [name for name, each in zip(names, is_constant[self.place(number)], strict=True) if each]
            if constant:
                by_model[model.title] = constant
        return by_model

    def remarks(self) -> list[str]:
        """What a person should know of it, a sentence for each model with layers where CKA is not defined."""
        sentences = []
        for title, names in self.undefined().items():
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            sentences.append(f"{title} gives the same features for all images, so CKA is not defined, at {shown}")
        return sentences


class Comparison(Part, frozen=True, kw_only=True):
    """What the store keeps of a comparison beside its sums: the layers of each model and the number of batches."""

    layers: list[list[str]]
    num_batches: int


class KeptPart(Part, frozen=True, kw_only=True):
    """What the store keeps of a part of a comparison beside the sums of its batches.

    Attributes:
        layers: of each model.
        bandwidths: of each model, layer -> the bandwidth of the RBF kernel; none with another kernel.
    """

    layers: list[list[str]]
    bandwidths: list[dict[str, float]]


def compare(
    models: Sequence[Model],
    data: Data,
    settings: CkaSettings,
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
    asked = _Asked.of(models, data, settings, image_size)
    parts = [asked.part_name(number) for number in range(asked.num_parts)]

    def work(part: Path) -> Json:
        if all(store.has_named(name) for name in parts):
            names, sums = _read_parts([store.analyses / name for name in parts])
        else:
            batches = _Batches(asked, device)
            names, sums = batches.names, batches.sums()
        alignment: Alignment | None = None
        for number, batch in enumerate(sums):
            alignment = alignment or Alignment(len(batch.products), settings.estimator)
            alignment.add_sums(batch)
            if progress is not None:
                progress(number + 1, len(asked.batches))
        assert alignment is not None
        np.savez(part / "hsic.npz", sums=alignment.sums, changes=alignment.changes)
        return Comparison(layers=names, num_batches=len(asked.batches)).to_json()

    folder = store.analysis(CKA, asked.inputs, work)
    store.discard(name for name in parts if store.has_named(name))
    kept = read_as(folder / "done.json", Comparison)
    with np.load(sound(folder / "hsic.npz")) as arrays:
        values = estimates(arrays["sums"], arrays["changes"])
    layers = tuple(tuple(names) for names in kept.layers)
    return Similarity(tuple(models), layers, values, len(asked.order), kept.num_batches, folder)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is compared.

    Attributes:
        models, data, settings, image_size: as of `compare`.
        sizes: side of the views of each model, in pixels.
        order: [N] rows of the pack, in random order.
        batches: the same, of equal size.
        inputs: what the comparison is keyed by.
    """

    models: Sequence[Model]
    data: Data
    settings: CkaSettings
    image_size: int | None
    sizes: list[int]
    order: NDArray[np.integer]
    batches: list[NDArray[np.integer]]
    inputs: Json

    @classmethod
    def of(cls, models: Sequence[Model], data: Data, settings: CkaSettings, image_size: int | None) -> _Asked:
        """Draw the images; errors as of `compare`."""
        spec = data.spec(1.0)
        rows = split_rows(spec, settings.split, data.pack)
        if len(rows) < FEWEST:
            hint = "give more images" if settings.split == "all" else "give --split all"
            raise DataError(
                f"CKA needs {FEWEST} images, and {data.pack.name} has {len(rows)} of {settings.split}", hint
            )
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
        # Of equal size; a little more than asked for where a batch would have fewer than the fewest.
        batches = np.array_split(order, min(-(-len(order) // batch_size), len(order) // FEWEST))
        return cls(models, data, settings, image_size, sizes, order, batches, inputs)

    # ---- parts, for several processes

    @property
    def num_parts(self) -> int:
        """How many parts it is cut into, whatever the number of processes."""
        return min(len(self.batches), MOST_PARTS)

    def batches_of_part(self, number: int) -> list[int]:
        """The numbers of the batches of a part, one after the other."""
        return [int(each) for each in np.array_split(np.arange(len(self.batches)), self.num_parts)[number]]

    def part_inputs(self, number: int) -> Json:
        """What a part is keyed by."""
        return {**self.inputs, "part": number, "of": self.num_parts}

    def part_name(self, number: int) -> str:
        """The name of a part's analysis."""
        return analysis_name(CKA_PART, self.part_inputs(number))


class _Batches:
    """The sums of batches, computed.

    Args:
        asked: what is compared.
        device: as `--device`.
        bandwidths: of each model, layer -> the bandwidth of the RBF kernel; without, that of the first batch seen.
    """

    def __init__(self, asked: _Asked, device: str, bandwidths: Sequence[dict[str, float]] | None = None) -> None:
        self.asked = asked
        self.names: list[list[str]] = [[] for _ in asked.models]
        where = placement(device, "32")
        pack, models = asked.data.pack, asked.models
        base = Feed(select(asked.data.spec(1.0), labelled=False, pack=pack), models[0].backbone, where.device)
        self.extractors = []
        for number, (model, size) in enumerate(zip(models, asked.sizes, strict=True)):
            feed, view = base.for_backbone(model.backbone), View(size=size, crop="center")
            extractor = GramExtractor(model, asked.settings, where.device, size)
            if bandwidths is not None:
                extractor.bandwidths = {
                    name: torch.tensor(value, dtype=torch.float64, device=where.device)
                    for name, value in bandwidths[number].items()
                }
            self.extractors.append((feed, view, extractor))
        self.groups = groups_of([len(rows) for rows in asked.batches])

    @property
    def bandwidths(self) -> list[dict[str, float]]:
        """Of each model, layer -> the bandwidth of the RBF kernel, once a batch was seen."""
        return [
            {name: float(value) for name, value in extractor.bandwidths.items()} for _, _, extractor in self.extractors
        ]

    def sums(self, numbers: Iterable[int] | None = None) -> Iterator[BatchSums]:
        """The sums of some batches by their numbers, or of all; `names` has the layers of each model from the first
        one on."""
        for number in range(len(self.asked.batches)) if numbers is None else numbers:
            rows = self.asked.batches[number]
            inputs: dict[object, Tensor] = {}  # models that want the same views share them
            grams: list[Tensor] = []
            for place, (feed, view, extractor) in enumerate(self.extractors):
                kind = (view, feed.backbone.channels, feed.backbone.mean, feed.backbone.std)
                if kind not in inputs:
                    (images,) = feed.views(np.sort(rows), [view], torch.Generator())
                    inputs[kind] = images.contiguous(memory_format=torch.channels_last)
                grams += extractor.grams(inputs[kind])
                self.names[place] = extractor.names
            of_images = self.groups[number]  # of the rows in random order, which are shown sorted
            groups = of_images[np.argsort(rows)] if len(of_images) else None
            yield batch_sums(torch.stack(grams), groups, self.asked.settings.estimator)


# ---- parts of a comparison, which several processes compute


class SimilarityWork:
    """The sums of some batches: see `sslcurr.engine.jobs.Work`. `compare` adds them and deletes them."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether they are in the store, or the whole comparison is."""
        return store.has_named(job.name) or store.has_named(job.arguments["whole"])

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Compute them."""
        values = job.arguments
        models = [model_placed(plain, store) for plain in values["models"]]
        data, settings = packed_placed(values["data"], store), CkaSettings(**values["settings"])
        _part(_Asked.of(models, data, settings, values["image_size"]), values["part"], store, runtime.device)


def similarity_jobs(
    models: Sequence[Model], data: Data, settings: CkaSettings, store: Store, *, image_size: int | None = None
) -> list[Job]:
    """The passes that `compare` does with the same arguments as jobs; errors as of `compare`."""
    asked = _Asked.of(models, data, settings, image_size)
    whole = analysis_name(CKA, asked.inputs)
    names = [asked.part_name(number) for number in range(asked.num_parts)]
    arguments = {
        "whole": whole,
        "models": [model_portable(model, store) for model in models],
        "data": packed_portable(data, store),
        "settings": asdict(settings),
        "image_size": image_size,
    }
    return [
        Job(
            name=name,
            kind="similarity",
            title=f"cka of {counted(len(models), 'model')}, part {number + 1} of {len(names)}",
            arguments={**arguments, "part": number},
            needs=(names[0],) if number and settings.kernel == "rbf" else (),
            cost=FORWARD * len(models) * sum(len(asked.batches[each]) for each in asked.batches_of_part(number)),
        )
        for number, name in enumerate(names)
    ]


def _part(asked: _Asked, number: int, store: Store, device: str) -> Path:
    """The folder of a part, computed if it is not there."""

    def work(part: Path) -> Json:
        first = None
        if number and asked.settings.kernel == "rbf":
            first = read_as(_part(asked, 0, store, device) / "done.json", KeptPart).bandwidths
        batches = _Batches(asked, device, first)
        numbers = asked.batches_of_part(number)
        for place, each in enumerate(batches.sums(numbers)):
            _write_sums(part / f"batch-{place}.npz", each)
        return KeptPart(layers=batches.names, bandwidths=batches.bandwidths).to_json()

    return store.analysis(CKA_PART, asked.part_inputs(number), work)


def _write_sums(path: Path, sums: BatchSums) -> None:
    values = list(sums.without.values())
    without = np.stack(values) if values else np.zeros((0, *sums.products.shape))
    np.savez(
        path, products=sums.products, groups=sums.groups, of=np.array(list(sums.without), dtype=int), without=without
    )


def _read_parts(folders: Sequence[Path]) -> tuple[list[list[str]], Iterator[BatchSums]]:
    """The layers of each model, and the sums of all batches in their order."""

    def sums() -> Iterator[BatchSums]:
        for folder in folders:
            for place in range(len(list(folder.glob("batch-*.npz")))):
                with np.load(sound(folder / f"batch-{place}.npz")) as arrays:
                    without = dict(zip(arrays["of"].tolist(), arrays["without"], strict=True))
                    yield BatchSums(arrays["products"], arrays["groups"], without)

    return read_as(folders[0] / "done.json", KeptPart).layers, sums()


# ---- models and layers


class GramExtractor:
    """Gives the Gram matrices of a model's layers, each computed as its layer is passed; no features are kept."""

    def __init__(self, model: Model, settings: CkaSettings, device: torch.device, size: int) -> None:
        self.model = model
        self.settings = settings
        wanted = layer_names(model.network(), settings.layers)
        example = torch.randn(2, model.backbone.channels, size, size, generator=torch.Generator().manual_seed(0))
        modules = [name for name in wanted if name != POOLED]
        self.network: nn.Module = folded(model.network, modules, example).to(device)
        self.names: list[str] = []
        self.matrices: list[Tensor] = []
        self.bandwidths: dict[str, Tensor] = {}
        self.taps = Taps(self.network, wanted, self._add)

    def grams(self, images: Tensor) -> list[Tensor]:
        """[n, n] of each layer, for [n, C, H, W] images.

        Raises:
            SpecError: features that are not finite.
        """
        self.names, self.matrices = [], []
        with self.taps:
            self.taps(images)
        if not self.matrices:
            raise SpecError(
                f"images pass no layer of {self.model.title} that is named {self.settings.layers!r}",
                "name other layers",
            )
        finite = torch.stack([gram.sum() for gram in self.matrices]).isfinite().tolist()
        if not all(finite):
            raise not_finite(self.model.title, self.names[finite.index(False)])
        return self.matrices

    def _add(self, name: str, output: Tensor, again: bool) -> None:
        self.names.append(name)
        if again and self.settings.kernel == "linear":
            self.matrices.append(self.matrices[-1])
            return
        features = flat(output, self.settings.pool)
        if self.settings.kernel == "linear":
            self.matrices.append(linear_gram(features))
        else:
            gram, self.bandwidths[name] = rbf_gram(features, self.bandwidths.get(name))
            self.matrices.append(gram)


def flat(output: Tensor, pool: str) -> Tensor:
    """[n, C, H, W] maps (or [n, C]) as [n, D] rows, in an order of places and channels that is the same for all n."""
    if output.ndim == 4 and pool == "avg":
        return output.mean(dim=(2, 3))
    if output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last):
        return output.permute(0, 2, 3, 1).reshape(len(output), -1)  # a view, where flatten would copy
    return output.flatten(1)


def document_of(similarity: Similarity, settings: CkaSettings, data: Data) -> SimilarityDocument:
    """The document of a comparison on the images of `data`."""
    return SimilarityDocument(
        dataset=data.pack.name,
        split=settings.split,
        num_images=similarity.num_images,
        num_batches=similarity.num_batches,
        estimator=settings.estimator,
        kernel=settings.kernel,
        pool=settings.pool,
        models=[
            ComparedModel(title=model.title, backbone=model.backbone.name, weights=model.digest, layers=list(names))
            for model, names in zip(similarity.models, similarity.layers, strict=True)
        ],
        pairs=[_pair(similarity, a, b) for a, b in itertools.combinations(range(len(similarity.models)), 2)],
        seeds=[settings.seed],
    )


def _pair(similarity: Similarity, a: int, b: int) -> ModelPair:
    pair = similarity.pair(a, b)
    rows, columns = pair.value.shape
    matrix = [[_number(value) for value in row] for row in pair.value]
    intervals: list[list[Interval | None]] | None = None
    if pair.low is not None and pair.high is not None:
        low, high = pair.low, pair.high
        intervals = [[_interval(low[i, j], high[i, j]) for j in range(columns)] for i in range(rows)]
    return ModelPair(
        a=similarity.models[a].title,
        b=similarity.models[b].title,
        layers=[
            LayerSimilarity(layer=name, cka=matrix[i][j], interval=None if intervals is None else intervals[i][j])
            for name, i, j in similarity.same_layers(a, b)
        ],
        matrix=matrix,
        matrix_interval=intervals,
    )


def _number(value: float) -> float | None:
    """A value for JSON; None where it is not defined."""
    return None if math.isnan(value) else float(value)


def _interval(low: float, high: float) -> Interval | None:
    """The ends of an interval; None where CKA is not defined."""
    return None if math.isnan(low) or math.isnan(high) else (float(low), float(high))


def dissimilarity(data: Data, store: Store, device: str = "auto") -> Callable[[Stage, Stage], float]:
    """A function of two stages: one minus the mean CKA of their layers, on the validation images of `data`.

    0 where features are alike but for rotation and scale, about 1 where they have nothing in common.
    """

    def between(a: Stage, b: Stage) -> float:
        models = [model_of(parent_of(stage.spec), store) for stage in (a, b)]
        similarity = compare(models, data, CkaSettings(split="val", pool="avg"), store, device)
        pair = similarity.pair(0, 1)
        values = [pair.value[i, j] for _, i, j in similarity.same_layers(0, 1)]
        finite = [value for value in values if np.isfinite(value)]
        return 1.0 - float(np.mean(finite)) if finite else 1.0

    return between
