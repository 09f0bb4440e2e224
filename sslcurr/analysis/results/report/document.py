"""The document of `sslcurr report`: all that a store holds, of which the page is made."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Json, Part, is_set


class DeviceUse(Part, frozen=True, kw_only=True):
    """What was trained on one device.

    Attributes:
        device: its name.
        stages: how many.
        hours: that their training took.
    """

    device: str
    stages: int
    hours: float


class VersionUse(Part, frozen=True, kw_only=True):
    """What was trained by one set of versions.

    Attributes:
        versions: program -> version: sslcurr, torch, python.
        stages: how many.
    """

    versions: dict[str, str]
    stages: int


class Totals(Part, frozen=True, kw_only=True):
    """All of it together.

    Attributes:
        runs: how many.
        finished: how many of them came to their end.
        stages: how many, each once.
        hours: that their training took.
        devices: the one with most hours first.
        versions: the one with most stages first.
    """

    runs: int
    finished: int
    stages: int
    hours: int | float
    devices: list[DeviceUse]
    versions: list[VersionUse]


class StoredDataset(Part, frozen=True, kw_only=True):
    """A data set that stages and runs saw.

    Attributes:
        name: of the data set.
        num_images, skipped, classes, channels: of its packs; None where these are not in the store any more.
        fingerprint: sha256 of its contents.
        sizes: sides of its packs, in pixels.
        counts: class -> images of it; unset where images have no class, and where the packs are gone.
        num_groups: groups of images that stay together, such as patients; None where images have none.
        given: images of each split that comes with the data set; unset where none does.
        place: where its files were when they were packed.
        licence, page: of a data set that has a name in sslcurr: under which it may be used, and where it is from.
    """

    name: str | None
    num_images: int | None
    skipped: int | None
    classes: list[str] | None
    channels: int | None
    fingerprint: str
    sizes: list[int]
    counts: dict[str, int] | UnsetType = UNSET
    num_groups: int | UnsetType | None = UNSET
    given: dict[str, int] | UnsetType = UNSET
    place: str | UnsetType = UNSET
    licence: str | UnsetType = UNSET
    page: str | UnsetType = UNSET


class StoredSplit(Part, frozen=True, kw_only=True):
    """How the images of a stage were divided, where the data set does not bring a split.

    Attributes:
        val, test: shares of the images, of 1.
        seed: of the split.
        folds: of a cross-validation; 0 without one.
    """

    val: float
    test: float
    seed: int
    folds: int


class StageSettings(Part, frozen=True, kw_only=True):
    """How a stage was trained.

    Attributes:
        version: of its task.
        backbone, stem, channels: of its network.
        image_size: side of the views, in pixels; None where the task has none.
        epochs, batch_size, optimizer: of its training.
        lr: the peak learning rate.
        lr_searched: whether it was looked for.
        share: of the training images, of 1.
    """

    version: int
    backbone: str
    stem: str
    channels: int
    image_size: int | None
    epochs: int | float
    batch_size: int
    optimizer: str
    lr: int | float | None
    lr_searched: bool
    share: int | float


class RunSettings(StageSettings, frozen=True, kw_only=True):
    """How stages of a run were trained.

    Attributes:
        task: of the stages.
        stages: how many were trained so.
    """

    first: ClassVar[tuple[str, ...]] = ("task",)

    task: str
    stages: int


class StoredStage(Part, frozen=True, kw_only=True):
    """A stage.

    Attributes:
        key: in the store.
        task: what was learnt.
        chain: all tasks that its weights went through.
        parent: key of the stage that it started from, `sha256:...` of a checkpoint, or None for scratch.
        dataset, fingerprint, pack: name of its images, sha256 of their contents, and the folder of their pack.
        seed: of weights, order and views.
        num_images: training images.
        steps: optimizer steps.
        hours, images_per_second: time and speed of its training.
        device, precision, versions: where it was trained.
        metrics: measures at its end.
        settings: how it was trained.
        curve: [step, loss] at no more than 60 places.
        split: how its images were divided; unset in documents before 0.2.
    """

    key: str
    task: str
    chain: list[str]
    parent: str | None
    dataset: str
    fingerprint: str
    pack: str
    seed: int
    num_images: int
    steps: int
    hours: float
    images_per_second: float
    device: str
    precision: str
    versions: dict[str, str]
    metrics: dict[str, int | float]
    settings: StageSettings
    curve: list[tuple[int, float]]
    split: StoredSplit | UnsetType = UNSET


class StoredRun(Part, frozen=True, kw_only=True):
    """A run: a command, what it needs of the store and what it found.

    Attributes:
        run: its name.
        kind: of its document; None where that is not kept.
        title, dataset, seed: what it is about.
        created: when it was begun, ISO 8601.
        finished: whether it came to its end.
        balanced_accuracy: of its best chain, a share of 1; None where nothing was measured, or the target is no class.
        command: the command line, word by word; unset in records of old versions of `data prepare`.
        stages: keys of those it needs.
        missing: keys of those that are not in the store any more.
        hours: that the training of its stages took.
        devices: where its stages were trained.
        failed: chains that could not be trained, as its document has them.
        settings: how its stages were trained, each way once.
        document: what it found, plain values of its kind; None where that is not kept.
        fault: why what it found cannot be read; empty where it can.
        target: `multilabel` or `regression`, where the target is no class.
        score: the main measure of its best chain then.
    """

    unprinted: ClassVar[tuple[str, ...]] = ("fault",)

    run: str
    kind: str | None
    title: str
    dataset: str
    seed: int
    created: str
    finished: bool
    balanced_accuracy: float | None
    command: list[str] | UnsetType = UNSET
    stages: list[str]
    missing: list[str]
    hours: int | float
    devices: list[str]
    failed: list[Json]
    settings: list[RunSettings]
    document: Json | None
    fault: str = ""
    target: str | UnsetType = UNSET
    score: float | UnsetType | None = UNSET

    @property
    def best(self) -> float | None:
        """The main measure of its best chain."""
        return self.score if is_set(self.score) else self.balanced_accuracy


class ReportDocument(Document, frozen=True, kw_only=True):
    """All that a store holds, or some runs of it.

    Attributes:
        store: its folder.
        created: when the report was made, ISO 8601.
        sslcurr: the version that made it.
        totals: all together.
        datasets: those that stages and runs saw.
        runs: newest first.
        stages: newest first.
        page: path of the page; None where none was written.
        page_size: bytes of the page.
        num_figures: in the page.
    """

    kind: ClassVar[str] = "report"
    unprinted: ClassVar[tuple[str, ...]] = ("page_size", "num_figures")

    store: str
    created: str
    sslcurr: str
    totals: Totals
    datasets: list[StoredDataset]
    runs: list[StoredRun]
    stages: list[StoredStage]
    page: str | None = None
    page_size: int = 0
    num_figures: int = 0
