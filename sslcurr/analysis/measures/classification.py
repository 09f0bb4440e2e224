"""Measures of predictions: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import Images, Interval, interval_of, sample
from sslcurr.analysis.measures.targets import macro_values


@dataclass(frozen=True)
class ClassificationMeasures:
    """How good predictions are on one split; accuracies and recalls are shares of 1.

    Attributes:
        balanced_accuracy: mean recall over the classes that occur.
        interval: ends of its 95 % interval over images, those of one group together: of this model, not of its kind.
        accuracy: share of the images that are named rightly.
        per_class_recall: by the name of the class; None for one without images.
        confusion_matrix: counts; rows are true classes, columns predicted ones, in the order of `classes`.
        auroc: one class against the rest, averaged over classes; None where a class has no images, or all.
        num_images: N.
        classes: names, in class-number order.
    """

    balanced_accuracy: float
    interval: Interval
    accuracy: float
    per_class_recall: dict[str, float | None]
    confusion_matrix: list[list[int]]
    auroc: float | None
    num_images: int
    classes: list[str]


def balanced_accuracy(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean recall over the classes that occur in `labels`; both are [N] class numbers."""
    return float(np.mean([np.mean(predictions[labels == c] == c) for c in np.unique(labels)]))


def mean_accuracy(accuracies: Sequence[float]) -> float:
    """The mean of accuracies, to 12 digits: equal means stay equal, in whichever order shares were added up."""
    return round(float(np.mean(accuracies)), 12)


def accuracy_interval(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    groups: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
) -> Interval:
    """The 95 % interval over images of a balanced accuracy, from [N] class numbers, group numbers and folds."""
    images = Images.of(len(labels), classes=labels, groups=groups, folds=folds)
    interval = interval_of(sample((labels == predictions)[None], images), within=(0.0, 1.0))
    assert interval is not None
    return interval


def classification_measures(
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    groups: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
) -> ClassificationMeasures:
    """What a person asks of a classifier on one split.

    Args:
        labels: [N] class numbers.
        probabilities: [N, C] predicted shares, rows summing to 1.
        classes: C names, in class-number order.
        groups: [N] group numbers; images of one group are not independent.
        folds: [N] the fold that tested each image; None for one model.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    predictions = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predictions, labels=list(range(len(classes))))
    counts = matrix.sum(axis=1)
    auroc = None
    if counts.all() and (counts < len(labels)).all():
        if folds is None:
            each = [roc_auc_score(labels == c, probabilities[:, c]) for c in range(len(classes))]
            auroc = float(np.mean(each))
        else:
            # Scores of different models are not compared.
            values = macro_values(np.eye(len(classes))[labels], probabilities, folds=folds)
            auroc = None if values is None else float(values.mean())
    return ClassificationMeasures(
        balanced_accuracy=balanced_accuracy(labels, predictions),
        interval=accuracy_interval(labels, predictions, groups, folds),
        accuracy=float(np.mean(predictions == labels)),
        per_class_recall={
            name: float(matrix[c, c] / counts[c]) if counts[c] else None for c, name in enumerate(classes)
        },
        confusion_matrix=matrix.tolist(),
        auroc=auroc,
        num_images=len(labels),
        classes=list(classes),
    )
