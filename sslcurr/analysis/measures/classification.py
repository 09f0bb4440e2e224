"""Measures of predictions: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import bootstrap_interval


def balanced_accuracy(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean recall over the classes that occur in `labels`; both are [N] class numbers."""
    return float(np.mean([np.mean(predictions[labels == c] == c) for c in np.unique(labels)]))


def classification_report(
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    groups: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """What a person asks of a classifier on one split, as plain values.

    Args:
        labels: [N] class numbers.
        probabilities: [N, C] predicted shares, rows summing to 1.
        classes: C names, in class-number order.
        groups: [N] group numbers for the bootstrap.

    Returns:
        `balanced_accuracy` with its 95 % `interval`, `accuracy`, `per_class_recall` (by name; None for a class
        without images), `confusion_matrix` (rows true, columns predicted), `auroc` (one class against the rest,
        averaged over classes; None when a class has no images), `num_images`, `classes`.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    predictions = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predictions, labels=list(range(len(classes))))
    counts = matrix.sum(axis=1)
    auroc = None
    if np.all(counts > 0) and np.all(counts < len(labels)):
        each = [roc_auc_score(labels == c, probabilities[:, c]) for c in range(len(classes))]
        auroc = float(np.mean(each))
    return {
        "balanced_accuracy": balanced_accuracy(labels, predictions),
        "interval": list(bootstrap_interval(labels, predictions, groups)),
        "accuracy": float(np.mean(predictions == labels)),
        "per_class_recall": {
            name: float(matrix[c, c] / counts[c]) if counts[c] else None for c, name in enumerate(classes)
        },
        "confusion_matrix": matrix.tolist(),
        "auroc": auroc,
        "num_images": len(labels),
        "classes": list(classes),
    }
