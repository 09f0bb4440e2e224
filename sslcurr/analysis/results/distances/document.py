"""The document of `sslcurr fid`: how far data sets are from a reference in the features of models."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part

# The name of the network of FID among the models.
INCEPTION = "inception"


class Distance(Part, frozen=True, kw_only=True):
    """A distance over random draws of images.

    Attributes:
        mean: over the draws.
        sd: standard deviation over the draws (n - 1); None for a single one.
        values: of each draw.
    """

    mean: float
    sd: float | None
    values: list[float]


class Distances(Part, frozen=True, kw_only=True):
    """The distances of two sets of images.

    Attributes:
        fid: the Fréchet distance.
        kid: the kernel distance.
        extrapolated: the Fréchet distance estimated for endlessly many images; unset where it was not asked for.
    """

    fid: Distance
    kid: Distance
    extrapolated: Distance | UnsetType = UNSET


class NormalisedDistances(Distances, frozen=True, kw_only=True):
    """The distances of a set of images to one half of the reference.

    Attributes:
        normalised: the Fréchet distance over that of the other half, draw by draw; None where the halves are equal.
    """

    normalised: Distance | None


class DatasetDistances(NormalisedDistances, frozen=True, kw_only=True):
    """The distances of a data set to the reference.

    Attributes:
        dataset: its name.
    """

    dataset: str


class ModelDistances(Part, frozen=True, kw_only=True):
    """All distances in the features of one model.

    Attributes:
        model: its title.
        layer: whose features are taken.
        image_size: side of the images it was shown, in pixels.
        num_features: of an image.
        halves: of two random halves of the reference, which have no image in common.
        datasets: in the order they were named.
    """

    model: str
    layer: str
    image_size: int
    num_features: int
    halves: Distances
    datasets: list[DatasetDistances]


class Correlation(Part, frozen=True, kw_only=True):
    """How the distance of a data set goes with the accuracy of models.

    Attributes:
        dataset: whose normalised distance.
        accuracy_on: the data set of the accuracies; None where it is not named.
        num_models: that have both.
        spearman, kendall: rank correlations over models.
        spearman_p, kendall_p: their p-values.
    """

    dataset: str
    accuracy_on: str | None
    num_models: int
    spearman: float
    spearman_p: float
    kendall: float
    kendall_p: float


class DistancesDocument(Document, frozen=True, kw_only=True):
    """Fréchet and kernel distances of data sets to a reference.

    Attributes:
        reference: name of the data set that distances are measured from.
        split: whose images are taken: all, train, val or test.
        num_images: of each side of each pair.
        draws: how many times images are drawn.
        models: in the order they were named.
        accuracies: data set ("" is any) -> model -> accuracy, a share of 1.
        correlations: of distance and accuracy, for each data set where three models have both.
        dataset: the reference, by the name that other kinds give their data set; unset in documents of sslcurr 0.1.0.
        seeds: of the draws; unset in documents of sslcurr 0.1.0.
    """

    kind: ClassVar[str] = "fid"

    reference: str
    split: str
    num_images: int
    draws: int
    models: list[ModelDistances]
    accuracies: dict[str, dict[str, float]]
    correlations: list[Correlation]
    dataset: str | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
