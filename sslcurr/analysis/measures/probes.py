"""Probes: kNN and linear models on frozen features; every choice is made on the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.classification import balanced_accuracy
from sslcurr.analysis.measures.targets import macro_auroc, r2_values
from sslcurr.spec.target import CLASSES, MULTILABEL, TargetKind

NEIGHBOURS = (5, 10, 20, 50, 100, 200)
TEMPERATURE = 0.07
STRENGTHS = tuple(float(10.0**power) for power in range(-5, 3))


@dataclass(frozen=True)
class Features:
    """Features of the three splits at one layer.

    Attributes:
        x: split -> [N, D] float32 features.
        y: split -> [N] class numbers, or [N, T] values of another kind of target, NaN where nothing is known.
    """

    x: dict[str, NDArray[Any]]
    y: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe at one layer.

    Attributes:
        validation: the main measure on the validation images, by which it was chosen.
        setting: the choice, such as `{"neighbours": 20}`.
        predictions: [N, T] probabilities, or numbers, on the test images (of the validation images where there are no
            test images).
    """

    validation: float
    setting: dict[str, float]
    predictions: NDArray[Any]


def quality_of(targets: NDArray[Any], predictions: NDArray[Any], target: TargetKind) -> float:
    """The main measure of predictions, [N, T]; -inf where it cannot be measured."""
    if target is CLASSES:
        return balanced_accuracy(targets, predictions.argmax(axis=1))
    if target is MULTILABEL:
        measured = macro_auroc(targets, predictions)
        return -np.inf if measured is None else measured
    values = r2_values(targets[:, 0].astype(np.float64), predictions[:, 0].astype(np.float64))
    return -np.inf if values is None else float(values.mean())


def knn_predictions(
    bank: NDArray[Any], bank_values: NDArray[Any], queries: NDArray[Any], neighbours: tuple[int, ...]
) -> dict[int, NDArray[Any]]:
    """Weighted kNN as in instance discrimination (https://arxiv.org/abs/1805.01978): votes exp(cosine / 0.07).

    Args:
        bank: [N, D] features.
        bank_values: [N, T] of these: 1 for the class of each, or any values; NaN is no value.
        queries: [M, D] features.
        neighbours: the numbers of neighbours to try; those above N count as N.

    Returns:
        [M, T] means of the neighbours' values, by their votes, for each number of neighbours. Where no neighbour has a
        value, the mean of the bank.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    most = min(max(neighbours), len(bank))
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(normalize(bank))
    distances, index = search.kneighbors(normalize(queries))
    cosines = 1.0 - distances**2 / 2.0
    votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)[:, :, None]
    values = bank_values[index]
    known = ~np.isnan(values)
    sums, weights = np.cumsum(np.nan_to_num(values) * votes, axis=1), np.cumsum(known * votes, axis=1)
    means = np.nanmean(bank_values, axis=0)
    found = {}
    for number in neighbours:
        total, weight = (each[:, min(number, most) - 1] for each in (sums, weights))
        found[number] = np.where(weight > 0, total / np.where(weight > 0, weight, 1), means)
    return found


def probe_knn(features: Features, num_outputs: int, report_on: str, target: TargetKind = CLASSES) -> ProbeResult:
    """kNN with the training images as its bank; the number of neighbours is chosen on the validation images."""
    x, y = features.x, features.y
    chosen_on = "val" if len(y["val"]) else "train"
    values = np.eye(num_outputs)[y["train"]] if target is CLASSES else y["train"].astype(np.float64)
    scores = knn_predictions(x["train"], values, x[chosen_on], NEIGHBOURS)
    quality = {k: quality_of(y[chosen_on], p, target) for k, p in scores.items()}
    best = max(quality, key=lambda k: (quality[k], -k))
    predictions = knn_predictions(x["train"], values, x[report_on], (best,))[best]
    return ProbeResult(quality[best], {"neighbours": best}, predictions)


def probe_linear(features: Features, num_outputs: int, report_on: str, target: TargetKind = CLASSES) -> ProbeResult:
    """A linear model on standardised features: logistic regression of classes, weighted alike, or of each label; ridge
    regression of numbers. Its strength is chosen on the validation images."""
    from sklearn.preprocessing import StandardScaler

    x, y = features.x, features.y
    chosen_on = "val" if len(y["val"]) else "train"
    scaler = StandardScaler().fit(x["train"])
    scaled = {split: scaler.transform(values) for split, values in x.items() if len(values)}
    best: tuple[float, float, NDArray[Any]] | None = None
    for strength in STRENGTHS:
        model = _fitted(scaled["train"], y["train"], strength, target, num_outputs)
        quality = quality_of(y[chosen_on], model(scaled[chosen_on]), target)
        if best is None or quality > best[0]:
            best = (quality, strength, model(scaled[report_on]))
    assert best is not None
    return ProbeResult(best[0], {"C": best[1]}, best[2])


def _fitted(x: NDArray[Any], y: NDArray[Any], strength: float, target: TargetKind, num_outputs: int) -> Any:
    """A function from [N, D] features to [N, T] predictions."""
    from sklearn.linear_model import LogisticRegression, Ridge

    def logistic(x: NDArray[Any], y: NDArray[Any]) -> Any:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000, tol=1e-4)
        return model.fit(x, y)

    if target is CLASSES:
        model = logistic(x, y)

        def of_classes(x: NDArray[Any]) -> NDArray[Any]:
            probabilities = np.zeros((len(x), num_outputs))
            probabilities[:, model.classes_] = model.predict_proba(x)
            return probabilities

        return of_classes
    if target is MULTILABEL:
        known = ~np.isnan(y)
        # Of a label that all images have, or none, its share.
        models = [
            logistic(x[rows], column[rows])
            if len(set(column[rows].tolist())) > 1
            else float(np.mean(column[rows] == 1))
            for rows, column in zip(known.T, y.T, strict=True)
        ]
        return lambda x: np.column_stack(
            [np.full(len(x), each) if isinstance(each, float) else each.predict_proba(x)[:, 1] for each in models]
        )
    middle = float(y.mean())
    ridge = Ridge(alpha=1 / strength).fit(x, y[:, 0] - middle)
    return lambda x: ridge.predict(x)[:, None] + middle


PROBES = {"knn": probe_knn, "linear": probe_linear}


def probe_layers(
    layers: dict[str, Features], kind: str, num_outputs: int, report_on: str, target: TargetKind = CLASSES
) -> tuple[str, dict[str, ProbeResult]]:
    """Probe every layer; gives the best one on the validation images, and all results by layer."""
    results = {name: PROBES[kind](features, num_outputs, report_on, target) for name, features in layers.items()}
    return max(results, key=lambda name: results[name].validation), results
