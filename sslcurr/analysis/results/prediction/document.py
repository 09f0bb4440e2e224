"""The documents of `sslcurr predict` and `sslcurr embed`: what a finished model says of images."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from sslcurr.analysis.results.document import Document, Part
from sslcurr.analysis.results.training.document import TargetReport


class PredictedImage(Part, frozen=True, kw_only=True):
    """What is predicted of an image.

    Attributes:
        path: as the data set calls it, or its path.
        label: what is known of it, as text; empty where nothing is, and `?` where labels may hold together, since there
            no label is a label, too. Unset where nothing is known of any image.
        prediction: the likeliest class, the labels that hold with a probability of a half or more (`|` between them),
            or the number; None for a file that cannot be read.
        probabilities: of each class or label, the likeliest first; unset for numbers.
        reason: why a file cannot be read; empty where it can.
    """

    path: str
    label: str | UnsetType = UNSET
    prediction: str | float | None
    probabilities: dict[str, float] | UnsetType = UNSET
    reason: str


class PredictDocument(Document, frozen=True, kw_only=True):
    """Predictions of a fine-tuned model.

    Attributes:
        models: what was asked, with their seeds and keys; several are averaged.
        target: the kind of target.
        classes: names of the classes, labels or numbers.
        inputs: what was given; empty for the stage's own images.
        split: of the stage's own images; unset otherwise.
        num_images: how many were given.
        num_broken: of these, files that cannot be read.
        calibrated: whether outputs were divided by the temperatures that the validation images chose.
        flips: mirror images that were averaged, too: `horizontal`, `vertical`.
        out: the file with all predictions; None where they are here.
        images: the predictions; unset where there is a file.
        report: how good they are, where labels are known.
        num_trained: images with labels that the model was trained on, so that they are no part of the report.
        num_unknown: images with labels that the model does not know, which are no part of the report either.
        unknown: what is not known of the images of the report, each completes "not known: ".
    """

    kind: ClassVar[str] = "predict"

    models: list[str]
    target: str
    classes: list[str]
    inputs: list[str]
    split: str | UnsetType = UNSET
    num_images: int
    num_broken: int
    calibrated: bool
    flips: list[str]
    out: str | None
    images: list[PredictedImage] | UnsetType = UNSET
    report: TargetReport | UnsetType = UNSET
    num_trained: int = 0
    num_unknown: int = 0
    unknown: list[str] = field(default_factory=list)


class EmbedDocument(Document, frozen=True, kw_only=True):
    """Features of images, in a file.

    Attributes:
        model: its title.
        layer: whose features they are.
        image_size: side of the views, in pixels.
        inputs: what was given.
        num_images: how many were given.
        num_broken: of these, files that cannot be read; their features are NaN.
        num_features: of an image.
        out: the file.
    """

    kind: ClassVar[str] = "embed"

    model: str
    layer: str
    image_size: int
    inputs: list[str]
    num_images: int
    num_broken: int
    num_features: int
    out: str
