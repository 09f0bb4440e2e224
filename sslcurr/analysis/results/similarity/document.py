"""The document of `sslcurr cka`: how alike models are, layer by layer."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part
from sslcurr.analysis.results.estimate import Interval


class ComparedModel(Part, frozen=True, kw_only=True):
    """A model that was compared.

    Attributes:
        title: unlike that of the others.
        backbone: the network's name.
        weights: their sha256, or what an untrained network was drawn from.
        layers: names of the compared layers, in the order of the network.
    """

    title: str
    backbone: str
    weights: str
    layers: list[str]


class LayerSimilarity(Part, frozen=True, kw_only=True):
    """A layer of one model against the layer of the same name of another.

    Attributes:
        layer: its name.
        cka: 1 is alike, 0 unrelated; None where a model gives the same features for all images.
        interval: ends of the 95 % interval over images; None below 80 images. In documents of 0.1.0 it is over batches,
            and too narrow.
    """

    layer: str
    cka: float | None
    interval: Interval | None


class ModelPair(Part, frozen=True, kw_only=True):
    """Two models.

    Attributes:
        a, b: their titles.
        layers: the layers that both have.
        matrix: CKA of the layers of `a` (rows) with those of `b` (columns); None where it is not defined.
        matrix_interval: ends of the 95 % interval of each value of `matrix`; None for fewer than 80 images; unset in
            documents of sslcurr 0.1.0.
    """

    a: str
    b: str
    layers: list[LayerSimilarity]
    matrix: list[list[float | None]]
    matrix_interval: list[list[Interval | None]] | UnsetType | None = UNSET


class SimilarityDocument(Document, frozen=True, kw_only=True):
    """CKA of every layer of every model with every other.

    Attributes:
        dataset: name of the data set whose images the models were shown.
        split: train, val, test or all.
        num_images, num_batches: that the values rest on.
        estimator: of HSIC: unbiased or biased.
        kernel: linear or rbf.
        pool: none compares whole maps, avg their mean over places.
        models: in the order they were named.
        pairs: of each model with each that follows it.
        seeds: of the choice and the order of the images; unset in documents of sslcurr 0.1.0.
    """

    kind: ClassVar[str] = "cka"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    split: str
    num_images: int
    num_batches: int
    estimator: str
    kernel: str
    pool: str
    models: list[ComparedModel]
    pairs: list[ModelPair]
    seeds: list[int] | UnsetType = UNSET
