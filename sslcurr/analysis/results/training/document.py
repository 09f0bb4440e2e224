"""The document of `sslcurr pretrain`, `chain` and `finetune`: the stages, and the test report of the last."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted
from sslcurr.analysis.results.estimate import Difference, Interval, ReportAttention
from sslcurr.analysis.results.overlap import Overlap


class TrainedStage(Part, frozen=True, kw_only=True):
    """A stage of the chain.

    Attributes:
        task: what was learnt.
        key: in the store.
        checkpoint: the weights of its backbone.
        reused: whether the store had it already.
        metrics: measures at its end.
        seconds: that its training took.
        images_per_second: speed of its training; not in the JSON.
    """

    unprinted: ClassVar[tuple[str, ...]] = ("images_per_second",)

    task: str
    key: str
    checkpoint: str
    reused: bool
    metrics: dict[str, int | float]
    seconds: float
    images_per_second: float | None = None


class ProbedLayer(Part, frozen=True, kw_only=True):
    """A layer that a probe tried.

    Attributes:
        val_balanced_accuracy: on the validation images, a share of 1.
        neighbours, C: the setting that was chosen, of `knn` and of `linear`.
    """

    val_balanced_accuracy: float
    neighbours: int | UnsetType = UNSET
    C: float | UnsetType = UNSET


class ClassificationReport(Part, frozen=True, kw_only=True):
    """How good a classifier is on one split.

    Attributes:
        split: whose images.
        balanced_accuracy: mean recall over the classes, a share of 1.
        interval: its 95 % interval over images, those of one group together: of this model.
        accuracy: share of the images that are named rightly.
        per_class_recall: by class; None for a class without images.
        confusion_matrix: counts; rows are true classes, columns predicted ones.
        auroc: one class against the rest, averaged; None where a class has no image.
        num_images: of the split.
        classes: names in the order of the matrix.
        probe: `knn` or `linear`, where frozen features were classified.
        layer, neighbours, C: what the probe chose on the validation images.
        layers: all layers that it tried.
        attention: inside masks, where masks are known.
        predictions: path of the table with every prediction.
    """

    split: str
    balanced_accuracy: float
    interval: Interval
    accuracy: float
    per_class_recall: dict[str, float | None]
    confusion_matrix: list[list[int]]
    auroc: float | None
    num_images: int
    classes: list[str]
    probe: str | UnsetType = UNSET
    layer: str | UnsetType = UNSET
    neighbours: int | UnsetType = UNSET
    C: float | UnsetType = UNSET
    layers: dict[str, ProbedLayer] | UnsetType = UNSET
    attention: ReportAttention | UnsetType = UNSET
    predictions: str | UnsetType = UNSET


class TrainDocument(Document, frozen=True, kw_only=True):
    """A trained chain.

    Attributes:
        stages: in the order of their training; none for a probe.
        downstream: the test report of the chain; unset where it ends with a pretext task.
        baseline: the same from scratch; unset without one.
        gain: of the chain over the baseline in balanced accuracy, paired by image; unset without a baseline, and in
            documents of 0.1.0.
        dataset, seeds: of the training; unset in documents of sslcurr 0.1.0 and before.
        overlap: test images that the start of the chain was trained on; unset in documents before 0.2, and where
            nothing is reported.
        title: what the chain is called in tables; not in the JSON.
        baseline_stages: those that were trained from scratch to compare; not in the JSON.
    """

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2
    unprinted: ClassVar[tuple[str, ...]] = ("title", "baseline_stages")

    stages: list[TrainedStage]
    downstream: ClassificationReport | UnsetType = UNSET
    baseline: ClassificationReport | UnsetType = UNSET
    gain: Difference | UnsetType = UNSET
    dataset: str | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    title: str = ""
    baseline_stages: list[TrainedStage] = msgspec.field(default_factory=list)

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of the chain and its baseline."""
        seed = self.seeds[0] if isinstance(self.seeds, list) else 0
        return {
            name: [Predicted(seed, report.predictions)]
            for name, report in self.reports().items()
            if isinstance(report.predictions, str)
        }

    def reports(self, title: str = "") -> dict[str, ClassificationReport]:
        """The test reports by the name of what was tested."""
        named = {title or self.title or "this chain": self.downstream, "scratch": self.baseline}
        return {name: report for name, report in named.items() if isinstance(report, ClassificationReport)}
