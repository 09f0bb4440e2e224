"""The document of `sslcurr probe`: what frozen features are worth, layer by layer."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, is_set
from sslcurr.analysis.results.estimate import Interval
from sslcurr.analysis.results.overlap import Overlap

PROJECTIONS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


class Probe(Part, frozen=True, kw_only=True):
    """A classifier trained on the frozen features of a layer.

    Attributes:
        validation: the main measure on the validation images, a share of 1; None without any.
        balanced_accuracy: on the reported images, a share of 1; unset where the target is no class.
        interval: ends of the 95 % interval of the main measure; None where it cannot be measured.
        score: the main measure on the reported images where the target is no class; None where it cannot be measured.
    """

    last: ClassVar[tuple[str, ...]] = ("score",)

    validation: float | None
    balanced_accuracy: float | UnsetType = UNSET
    interval: Interval | None
    score: float | UnsetType | None = UNSET

    @property
    def value(self) -> float | None:
        """The main measure on the reported images."""
        return self.balanced_accuracy if is_set(self.balanced_accuracy) else self.score  # type: ignore[return-value]


class KnnProbe(Probe, frozen=True, kw_only=True):
    """k nearest neighbours; `neighbours` was chosen on the validation images."""

    neighbours: int


class LinearProbe(Probe, frozen=True, kw_only=True):
    """Logistic regression; `C`, the inverse of its regularisation, was chosen on the validation images."""

    C: float


class LayerScores(Part, frozen=True, kw_only=True):
    """What the features of a layer are worth.

    Attributes:
        num_features: of an image.
        rankme: effective rank; None where all features are zero.
        knn, linear: the probes; None without labels, and where all images have the same features.
        logme, h_score: scores of features and labels; None without classes.
    """

    num_features: int
    rankme: float | None
    knn: KnnProbe | None
    linear: LinearProbe | None
    logme: float | None
    h_score: float | None


class ModelScores(Part, frozen=True, kw_only=True):
    """The layers of a model.

    Attributes:
        model: its title.
        backbone: the network's name.
        weights: their sha256, or what an untrained network was drawn from.
        split: whose images probes are reported on: test, or val where there are no test images.
        layers: name -> scores, in the order of the network.
    """

    model: str
    backbone: str
    weights: str
    split: str
    layers: dict[str, LayerScores]


class Embedding(Part, frozen=True, kw_only=True):
    """The features of a model's images as points of a plane.

    Attributes:
        model: its title.
        method: one of `PROJECTIONS`.
        explained: shares of the variance that both axes hold; None of a method without such axes.
        layer: whose features are taken.
        split: whose images: test, or all where there are no test images.
        num_images: that are shown.
        points: path of a CSV file with the columns path, label, x and y.
    """

    model: str
    method: str
    explained: list[float] | None
    layer: str
    split: str
    num_images: int
    points: str


class ProbeDocument(Document, frozen=True, kw_only=True):
    """Probes and scores of frozen features.

    Attributes:
        dataset: name of the data set.
        label_fraction: share of the training images that was used.
        models: in the order they were named.
        embeddings: a plane for each model; unset where none was asked for.
        seeds: of untrained networks and of planes; unset in documents of sslcurr 0.1.0.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "probe"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    label_fraction: float
    models: list[ModelScores]
    embeddings: list[Embedding] | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    target: str | UnsetType = UNSET
