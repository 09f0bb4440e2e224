"""Measures and probes: by hand, and against scikit-learn and lightly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs

from sslcurr.analysis.measures.classification import (
    accuracy_interval,
    balanced_accuracy,
    classification_measures,
    mean_accuracy,
)
from sslcurr.analysis.measures.probes import Features, knn_predictions, probe_knn, probe_layers, probe_linear


def example(n=300, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    shares = np.array([0.5, 0.3, 0.15, 0.05])[:classes]
    labels = rng.choice(classes, size=n, p=shares / shares.sum())
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_report_agrees_with_scikit_learn():
    labels, shares = example()
    names = ["a", "b", "c", "d"]
    report = classification_measures(labels, shares, names)
    predictions = shares.argmax(axis=1)
    assert report.balanced_accuracy == pytest.approx(theirs.balanced_accuracy_score(labels, predictions))
    assert report.accuracy == pytest.approx(theirs.accuracy_score(labels, predictions))
    assert report.auroc == pytest.approx(theirs.roc_auc_score(labels, shares, multi_class="ovr", average="macro"))
    assert report.confusion_matrix == theirs.confusion_matrix(labels, predictions).tolist()
    recalls = theirs.recall_score(labels, predictions, average=None)
    assert list(report.per_class_recall.values()) == pytest.approx(recalls.tolist())
    assert report.num_images == 300


def test_report_by_hand():
    labels = np.array([0, 0, 0, 1])
    shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    report = classification_measures(labels, shares, ["no", "yes"])
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert report.accuracy == 0.75
    assert report.confusion_matrix == [[2, 1], [0, 1]]


def test_report_with_an_absent_class_says_none_instead_of_a_number():
    report = classification_measures(np.array([0, 1, 1]), np.eye(3)[[0, 1, 2]], ["a", "b", "c"])
    assert report.per_class_recall == {"a": 1.0, "b": 0.5, "c": None}
    assert report.auroc is None
    assert report.balanced_accuracy == 0.75


def test_the_interval_agrees_with_a_bootstrap_by_scipy():
    from scipy.stats import bootstrap

    labels, shares = example(n=200, classes=2)
    predictions = shares.argmax(axis=1)
    low, high = accuracy_interval(labels, predictions)
    reference = bootstrap(
        (labels, predictions), balanced_accuracy, paired=True, vectorized=False, method="percentile", n_resamples=2000
    ).confidence_interval
    assert low == pytest.approx(reference.low, abs=0.015)
    assert high == pytest.approx(reference.high, abs=0.015)
    assert low < balanced_accuracy(labels, predictions) < high


def test_images_of_one_group_count_together():
    """Ten copies of each image under one group say no more than the image itself."""
    labels, shares = example(n=60, classes=2)
    predictions = shares.argmax(axis=1)
    once = accuracy_interval(labels, predictions)
    copies = accuracy_interval(np.repeat(labels, 10), np.repeat(predictions, 10), np.repeat(np.arange(60), 10))
    ignored = accuracy_interval(np.repeat(labels, 10), np.repeat(predictions, 10))
    assert copies == pytest.approx(once, abs=0.01)
    assert ignored[1] - ignored[0] < 0.5 * (once[1] - once[0])


def test_knn_agrees_with_lightly():
    from lightly.utils.benchmarking import knn_predict

    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(80, 16)).astype(np.float32), rng.normal(size=(30, 16)).astype(np.float32)
    labels = rng.integers(3, size=80)
    shares = knn_predictions(bank, np.eye(3)[labels], queries, (10, 20))

    def unit(x):
        return torch.nn.functional.normalize(torch.from_numpy(x), dim=1)

    for k in (10, 20):
        expected = knn_predict(unit(queries), unit(bank).T, torch.from_numpy(labels), 3, knn_k=k, knn_t=0.07)
        assert shares[k].argmax(axis=1).tolist() == expected[:, 0].tolist()
        np.testing.assert_allclose(shares[k].sum(axis=1), 1.0)


def test_knn_by_hand():
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    shares = knn_predictions(bank, np.eye(2)[[0, 1, 1]], np.array([[2.0, 0.0]]), (1, 2, 9))
    near, side = np.exp(1 / 0.07), np.exp(0 / 0.07)
    np.testing.assert_allclose(shares[1][0], [1.0, 0.0])
    np.testing.assert_allclose(shares[2][0], [near / (near + side), side / (near + side)], atol=1e-9)
    assert shares[9].shape == (1, 2)  # more neighbours than images count as all of them


def split_features(separation, seed=0):
    rng = np.random.default_rng(seed)
    y = {name: rng.integers(3, size=n) for name, n in (("train", 90), ("val", 45), ("test", 45))}
    centres = rng.normal(size=(3, 8)) * separation
    return Features({name: (centres[c] + rng.normal(size=(len(c), 8))).astype(np.float32) for name, c in y.items()}, y)


@pytest.mark.parametrize("probe", [probe_knn, probe_linear])
def test_probes_find_what_is_there_and_nothing_where_nothing_is(probe):
    result = probe(split_features(4.0), 3, "test")
    labels = split_features(4.0).y["test"]
    assert balanced_accuracy(labels, result.predictions.argmax(axis=1)) > 0.95
    nothing = probe(split_features(0.0), 3, "test")
    assert balanced_accuracy(split_features(0.0).y["test"], nothing.predictions.argmax(axis=1)) < 0.6
    np.testing.assert_allclose(result.predictions.sum(axis=1), 1.0)


def test_the_layer_is_chosen_on_validation():
    layers = {"bad": split_features(0.0), "good": split_features(4.0)}
    best, results = probe_layers(layers, "knn", 3, "test")
    assert best == "good"
    assert results["good"].validation > results["bad"].validation


def test_equal_means_are_equal_in_whichever_order_they_were_added_up():
    """Both are 4/9: of two chains that are equal neither is the best one."""
    first, second = [0.5, 0.25, 7 / 12], [0.5, 1 / 3, 0.5]
    assert np.mean(first) != np.mean(second)
    assert mean_accuracy(first) == mean_accuracy(second) == pytest.approx(4 / 9)
