"""The document of `sslcurr attend`: how much of the attention of fine-tuned models lies inside masks (AIL)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part
from sslcurr.analysis.results.estimate import Difference, Estimate, Interval
from sslcurr.analysis.results.overlap import Overlap


class ClassAttention(Part, frozen=True, kw_only=True):
    """The attention in the images of one class; shares of 1, means over images and seeds.

    Attributes:
        num_images: of the class, with a mask.
        attention: share of the maps inside the masks; None where every map is zero everywhere.
        interval: its 95 % interval over images and seeds.
        coverage: share of the view that the masks cover, which a map without preference would have.
        pointing: share of the images whose highest point lies inside.
    """

    num_images: int
    attention: float | None
    interval: Interval | None
    coverage: float | None
    pointing: float | None


class ChainAttention(Part, frozen=True, kw_only=True):
    """The attention of one chain over its seeds; shares of 1.

    Attributes:
        chain: its title, unlike that of the others.
        tasks: that its weights went through.
        stages: keys of its fine-tuned stages, one for each of `seeds`.
        seeds: of the stages.
        attention: share of the maps inside the masks.
        coverage: share of the view that the masks cover, which a map without preference would have; a mean over images.
        pointing: share of the images whose highest point lies inside.
        num_images: with a mask.
        num_undefined: maps that are zero everywhere, which are left out.
        classes: name of the images' class -> the same for its images.
        layer: whose maps are weighted.
        map_size: height and width of its maps, in cells.
        sheet: path of a picture of examples, of the first seed.
        images: paths of the tables with every image, one for each of `seeds`.
        difference: its attention minus that of the first chain, paired by seed and image; unset for that, where other
            images were shown, and in documents of 0.1.0.
    """

    chain: str
    tasks: list[str]
    stages: list[str]
    seeds: list[int]
    attention: Estimate
    coverage: float
    pointing: Estimate
    num_images: int
    num_undefined: int
    classes: dict[str, ClassAttention]
    layer: str
    map_size: tuple[int, int]
    sheet: str
    images: list[str]
    difference: Difference | UnsetType = UNSET


class AttentionDocument(Document, frozen=True, kw_only=True):
    """How much of the attention of fine-tuned models lies inside masks.

    Attributes:
        dataset: name of the data set whose images the models were shown.
        split: train, val, test or all.
        method: how the maps are made: gradcam, gradcam++ or eigencam.
        target: the class whose map is taken: predicted or label.
        layer: whose maps are weighted; several are separated by commas.
        masks: where they are from.
        num_images: with a mask, of the chain that was shown most.
        chains: in the order they were named.
        seeds: of all chains; unset in documents of sslcurr 0.1.0.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
    """

    kind: ClassVar[str] = "attend"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    split: str
    method: str
    target: str
    layer: str
    masks: str
    num_images: int
    chains: list[ChainAttention]
    seeds: list[int] | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
