"""The documents of `sslcurr data list`, `show`, `check`, `prepare` and `sample`."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from sslcurr.analysis.results.document import Document, Part


class DatasetDocument(Document, frozen=True, kw_only=True):
    """What is known of a data set that has a name.

    Attributes:
        name: as `--dataset` takes it.
        title, modality, target: what it shows, how it was taken, and what its classes are.
        images, classes: how many; no classes where images have no label, or several.
        group, split: what its groups and its splits are.
        licence, citation, where: under which it may be used, what to cite, and the page to get it from.
        files, tree: the files to fetch, and where they go.
        download: how sslcurr fetches it, or that it does not.
        image_size: side of the views, in pixels.
        augmentations, normalisation: what its tasks do with the images.
        there: the folder where it is, or what is missing.
    """

    kind: ClassVar[str] = "dataset"

    name: str
    title: str
    modality: str
    images: int
    classes: int
    target: str
    group: str
    split: str
    licence: str
    citation: str
    where: str
    files: list[str]
    tree: list[str]
    download: str
    image_size: int
    augmentations: str
    normalisation: str
    there: str


class DatasetsDocument(Document, frozen=True, kw_only=True):
    """The data sets that have a name."""

    kind: ClassVar[str] = "datasets"

    datasets: list[DatasetDocument]


class Sides(Part, frozen=True, kw_only=True):
    """Sides of images, in pixels."""

    shortest: int
    median: int
    longest: int


class FaultRow(Part, frozen=True, kw_only=True):
    """An image that cannot be used, and why."""

    image: str
    reason: str


class CheckDocument(Document, frozen=True, kw_only=True):
    """What is wrong with a data set.

    Attributes:
        dataset: its name.
        images: how many.
        classes, splits: images of each. Of another target, images with each label, or with numbers in each range.
        groups: how many; None without groups.
        grey: images without colour.
        sides: of the images.
        faults: images that are missing or have a label that makes no sense.
        broken: images that cannot be decoded.
        copies: names of images with equal pixels.
        contradictions: those of them that have different labels.
        across_splits: those of them that lie in different splits.
        not_in_one_group: copies that no group holds together.
        trained_and_tested: those of them that sslcurr, without settings, would train on and test on; unset in documents
            before 0.2.
        empty_classes: names of classes without an image.
        undivided: why the images cannot be divided; empty where they can.
        parts: images of each split where sslcurr divides them.
        notes: remarks on how the data set was read.
        problems: how many things would stop or falsify a training.
        root: the folder.
        counts: images by class and split, "" where sslcurr divides them.
        sentences: the problems in words.
        blank: images whose pixels are all the same.
        narrow_range: other images that use less than a tenth of the range of brightness.
        frames_left_out: images of which only the first frame is used though nobody asked for that.
        without_data: images with pixels that have no value.
        target: `multilabel` or `regression`, where labels are no classes.
    """

    kind: ClassVar[str] = "check"
    unprinted: ClassVar[tuple[str, ...]] = ("root", "counts", "sentences")

    dataset: str
    images: int
    classes: dict[str, int]
    splits: dict[str, int]
    groups: int | None
    grey: int
    sides: Sides
    faults: list[FaultRow]
    broken: list[FaultRow]
    copies: list[list[str]]
    contradictions: list[list[str]]
    across_splits: list[list[str]]
    not_in_one_group: list[list[str]]
    trained_and_tested: list[list[str]] | UnsetType = UNSET
    empty_classes: list[str]
    undivided: str
    parts: dict[str, int]
    notes: list[str]
    problems: int
    root: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    blank: list[str] | UnsetType = UNSET
    narrow_range: list[str] | UnsetType = UNSET
    frames_left_out: list[str] | UnsetType = UNSET
    without_data: list[str] | UnsetType = UNSET
    target: str | UnsetType = UNSET


class PackDocument(Document, frozen=True, kw_only=True):
    """A data set decoded once, for trainings of one image size.

    Attributes:
        dataset: its name.
        images, left_out: packed images, and those that could not be decoded.
        image_size, pack_size: sides of the training views and of the packed images, in pixels.
        channels: 1 or 3.
        bytes: of the packed images.
        seconds: that packing took.
        pack: its folder.
        fingerprint: sha256 of the contents.
    """

    kind: ClassVar[str] = "pack"

    dataset: str
    images: int
    left_out: int
    image_size: int
    pack_size: int
    channels: int
    bytes: int
    seconds: float
    pack: str
    fingerprint: str
