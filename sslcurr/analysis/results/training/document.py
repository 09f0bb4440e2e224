"""The document of `sslcurr pretrain`, `chain` and `finetune`: the stages, and the test report of the last."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted, is_set
from sslcurr.analysis.results.estimate import Difference, Interval, ReportAttention
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION, TARGETS, TargetKind


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
        val_balanced_accuracy: on the validation images, a share of 1; unset where the target is no class.
        neighbours, C: the setting that was chosen, of `knn` and of `linear`.
        val_score: the main measure on the validation images, where the target is no class.
    """

    val_balanced_accuracy: float | UnsetType = UNSET
    neighbours: int | UnsetType = UNSET
    C: float | UnsetType = UNSET
    val_score: float | UnsetType = UNSET

    @property
    def validation(self) -> float:
        """The main measure on the validation images."""
        return self.val_balanced_accuracy if is_set(self.val_balanced_accuracy) else self.val_score  # type: ignore[return-value]


class LabelReport(Part, frozen=True, kw_only=True):
    """How well one of several labels is told, on the images where it is known.

    Attributes:
        auroc, auroc_interval: area under the ROC curve, and its 95 % interval over images; None where the label holds
            for all images or for none.
        average_precision, average_precision_interval: likewise.
        num_holding, num_known: images.
    """

    auroc: float | None
    auroc_interval: Interval | None
    average_precision: float | None
    average_precision_interval: Interval | None
    num_holding: int
    num_known: int


class ReliabilityBin(Part, frozen=True, kw_only=True):
    """Claims of which a model is about as sure: how many, its mean probability, and the share that came true."""

    num: int
    confidence: float
    right: float


class Calibration(Part, frozen=True, kw_only=True):
    """Whether probabilities mean what they say (https://arxiv.org/abs/1706.04599).

    Attributes:
        error: expected calibration error of the probabilities as they are, a share of 1; above 0 also for a perfect
            model of few images.
        bins: probabilities of the predicted class, or of each label, in bins of equal width.
        temperature: that the validation images choose; None without any.
        calibrated_error, calibrated_bins: the same with outputs divided by the temperature; None without one.
    """

    error: float | None
    bins: list[ReliabilityBin]
    temperature: float | None
    calibrated_error: float | None
    calibrated_bins: list[ReliabilityBin] | None


class NumberBin(Part, frozen=True, kw_only=True):
    """Images of which about the same number is foretold: how many, and means of what is foretold and of what is true.

    Attributes:
        num: images.
        foretold, true: means.
        low, high: between which the middle half of the true numbers lies.
    """

    num: int
    foretold: float
    true: float
    low: float
    high: float


class FoldReport(Part, frozen=True, kw_only=True):
    """One fold of a cross-validation: its number, the main measure on its images (None where it cannot be measured),
    and how many these are."""

    fold: int
    score: float | None
    num_images: int


# What a report has, by its kind of target.
MEASURES = {
    CLASSES: ("balanced_accuracy", "accuracy", "per_class_recall", "confusion_matrix", "auroc", "classes"),
    MULTILABEL: ("auroc", "average_precision", "average_precision_interval", "labels", "classes"),
    REGRESSION: ("r2", "mae", "mae_interval", "spearman", "spearman_interval", "agreement", "classes"),
}


class TargetReport(Part, frozen=True, kw_only=True):
    """How good a model is at the target task on one split.

    Attributes:
        split: whose images.
        balanced_accuracy: of classes, the main measure: mean recall over the classes, a share of 1.
        interval: the 95 % interval of the main measure over images, those of one group together: of this model. None
            where it cannot be measured.
        accuracy: of classes, share of the images that are named rightly.
        per_class_recall: by class; None for a class without images.
        confusion_matrix: counts; rows are true classes, columns predicted ones.
        auroc: of classes, one against the rest, averaged; None where a class has no image. Of labels that may hold
            together, the main measure: the mean over labels.
        num_images: of the split.
        classes: names in the order of the matrix.
        probe: `knn` or `linear`, where frozen features were classified.
        layer, neighbours, C: what the probe chose on the validation images.
        layers: all layers that it tried.
        attention: inside masks, where masks are known.
        predictions: path of the table with every prediction.
        target: `multilabel` or `regression`, where the target is no class.
        average_precision, average_precision_interval: of labels that may hold together, the mean over labels.
        labels: by name.
        r2: of numbers, the main measure: share of their variance that is explained.
        mae, mae_interval: mean absolute error, in their units.
        spearman, spearman_interval: rank correlation.
        agreement: of numbers, tenths of the images by what is foretold.
        folds: of a cross-validation, each by itself; the other figures are of all of them.
        calibration: of probabilities; unset for numbers, probes, and in documents before 0.2.
    """

    split: str
    balanced_accuracy: float | UnsetType = UNSET
    interval: Interval | None
    accuracy: float | UnsetType = UNSET
    per_class_recall: dict[str, float | None] | UnsetType = UNSET
    confusion_matrix: list[list[int]] | UnsetType = UNSET
    auroc: float | UnsetType | None = UNSET
    num_images: int
    classes: list[str] | UnsetType = UNSET
    probe: str | UnsetType = UNSET
    layer: str | UnsetType = UNSET
    neighbours: int | UnsetType = UNSET
    C: float | UnsetType = UNSET
    layers: dict[str, ProbedLayer] | UnsetType = UNSET
    attention: ReportAttention | UnsetType = UNSET
    predictions: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    average_precision: float | UnsetType | None = UNSET
    average_precision_interval: Interval | UnsetType | None = UNSET
    labels: dict[str, LabelReport] | UnsetType = UNSET
    r2: float | UnsetType | None = UNSET
    mae: float | UnsetType = UNSET
    mae_interval: Interval | UnsetType | None = UNSET
    spearman: float | UnsetType | None = UNSET
    spearman_interval: Interval | UnsetType | None = UNSET
    agreement: list[NumberBin] | UnsetType = UNSET
    calibration: Calibration | UnsetType = UNSET
    folds: list[FoldReport] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raise ValueError for a report that lacks a measure of its kind of target."""
        if isinstance(self.target, str) and self.target not in TARGETS:
            raise ValueError(f"there is no target {self.target!r}")
        lacking = [name for name in MEASURES[self.kind] if isinstance(getattr(self, name), UnsetType)]
        if lacking:
            raise ValueError(f"no {lacking[0]}")

    @property
    def kind(self) -> TargetKind:
        """The kind of target."""
        return TARGETS[self.target] if isinstance(self.target, str) else CLASSES

    @property
    def score(self) -> float | None:
        """The main measure of its kind of target; None where it cannot be measured."""
        value = getattr(self, self.kind.metric)
        return None if isinstance(value, UnsetType) else value


class TrainDocument(Document, frozen=True, kw_only=True):
    """A trained chain.

    Attributes:
        stages: in the order of their training; none for a probe.
        downstream: the test report of the chain; unset where it ends with a pretext task.
        baseline: the same from scratch; unset without one.
        gain: of the chain over the baseline in the main measure, paired by image; unset without a baseline, and in
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
    downstream: TargetReport | UnsetType = UNSET
    baseline: TargetReport | UnsetType = UNSET
    gain: Difference | UnsetType = UNSET
    dataset: str | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    title: str = ""
    baseline_stages: list[TrainedStage] = msgspec.field(default_factory=list)

    def next_commands(self) -> list[str]:
        """What a person may do next, where this is the latest run of the store."""
        commands = ["sslcurr report"]
        if not self.stages:
            return commands
        if not isinstance(self.downstream, TargetReport):
            return ["sslcurr finetune last", *commands]
        is_one_model = not isinstance(self.downstream.folds, list)
        return ["sslcurr predict last ~/new-images", *commands] if is_one_model else commands

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of the chain and its baseline."""
        seed = self.seeds[0] if isinstance(self.seeds, list) else 0
        return {
            name: [Predicted(seed, report.predictions)]
            for name, report in self.reports().items()
            if isinstance(report.predictions, str)
        }

    def reports(self, title: str = "") -> dict[str, TargetReport]:
        """The test reports by the name of what was tested."""
        named = {title or self.title or "this chain": self.downstream, "scratch": self.baseline}
        return {name: report for name, report in named.items() if isinstance(report, TargetReport)}
