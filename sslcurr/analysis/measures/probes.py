"""Probes: kNN and linear classification on frozen features; every choice is made on the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.classification import balanced_accuracy

NEIGHBOURS = (5, 10, 20, 50, 100, 200)
TEMPERATURE = 0.07
STRENGTHS = tuple(float(10.0**power) for power in range(-5, 3))


@dataclass(frozen=True)
class Features:
    """Features of the three splits at one layer.

    Attributes:
        x: split -> [N, D] float32 features.
        y: split -> [N] class numbers.
    """

    x: dict[str, NDArray[Any]]
    y: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe at one layer.

    Attributes:
        validation: balanced accuracy on the validation images, by which it was chosen.
        setting: the choice, such as `{"neighbours": 20}`.
        probabilities: [N, C] on the test images (of the validation images where there are no test images).
    """

    validation: float
    setting: dict[str, float]
    probabilities: NDArray[Any]


def knn_probabilities(
    bank: NDArray[Any], bank_labels: NDArray[Any], queries: NDArray[Any], num_classes: int, neighbours: tuple[int, ...]
) -> dict[int, NDArray[Any]]:
    """Weighted kNN as in instance discrimination (https://arxiv.org/abs/1805.01978): votes exp(cosine / 0.07).

    Args:
        bank: [N, D] features with `bank_labels` [N].
        queries: [M, D] features.
        neighbours: the numbers of neighbours to try; those above N count as N.

    Returns:
        [M, num_classes] shares of the votes for each number of neighbours.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    most = min(max(neighbours), len(bank))
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(normalize(bank))
    distances, index = search.kneighbors(normalize(queries))
    cosines = 1.0 - distances**2 / 2.0
    votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)
    one_hot = np.eye(num_classes)[bank_labels[index]] * votes[:, :, None]
    sums = np.cumsum(one_hot, axis=1)
    shares = {}
    for number in neighbours:
        chosen = sums[:, min(number, most) - 1]
        shares[number] = chosen / chosen.sum(axis=1, keepdims=True)
    return shares


def probe_knn(features: Features, num_classes: int, report_on: str) -> ProbeResult:
    """kNN with the training images as its bank; the number of neighbours is chosen on the validation images."""
    x, y = features.x, features.y
    chosen_on = "val" if len(y["val"]) else "train"
    scores = knn_probabilities(x["train"], y["train"], x[chosen_on], num_classes, NEIGHBOURS)
    quality = {k: balanced_accuracy(y[chosen_on], p.argmax(axis=1)) for k, p in scores.items()}
    best = max(quality, key=lambda k: (quality[k], -k))
    probabilities = knn_probabilities(x["train"], y["train"], x[report_on], num_classes, (best,))[best]
    return ProbeResult(quality[best], {"neighbours": best}, probabilities)


def probe_linear(features: Features, num_classes: int, report_on: str) -> ProbeResult:
    """Logistic regression on standardised features, classes weighted alike; its strength is chosen on validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = features.x, features.y
    chosen_on = "val" if len(y["val"]) else "train"
    scaler = StandardScaler().fit(x["train"])
    scaled = {split: scaler.transform(values) for split, values in x.items() if len(values)}
    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000, tol=1e-4)
        model.fit(scaled["train"], y["train"])
        quality = balanced_accuracy(y[chosen_on], model.predict(scaled[chosen_on]))
        if best is None or quality > best[0]:
            best = (quality, strength, model)
    assert best is not None
    quality, strength, model = best
    probabilities = np.zeros((len(y[report_on]), num_classes))
    probabilities[:, model.classes_] = model.predict_proba(scaled[report_on])
    return ProbeResult(quality, {"C": strength}, probabilities)


PROBES = {"knn": probe_knn, "linear": probe_linear}


def probe_layers(
    layers: dict[str, Features], kind: str, num_classes: int, report_on: str
) -> tuple[str, dict[str, ProbeResult]]:
    """Probe every layer; gives the best one on the validation images, and all results by layer."""
    results = {name: PROBES[kind](features, num_classes, report_on) for name, features in layers.items()}
    return max(results, key=lambda name: results[name].validation), results
