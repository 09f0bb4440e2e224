"""Measures of labels that may hold together and of numbers, against scikit-learn, SciPy and derivatives by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from sslcurr.analysis.measures.intervals import Images, interval_of, sample
from sslcurr.analysis.measures.targets import (
    agreement_of,
    auroc_values,
    average_precision_values,
    least_variance,
    macro_auroc,
    macro_values,
    multilabel_measures,
    r2_values,
    regression_measures,
    spearman_values,
)

STEP = 1e-5


def weighted_r2(true, predicted, weights):
    return r2_score(true, predicted, sample_weight=weights)


def weighted_spearman(true, predicted, weights):
    def ranks(values):
        below = (values[None] < values[:, None]) + 0.5 * (values[None] == values[:, None])
        return below @ weights / weights.sum()

    u, v = ranks(true), ranks(predicted)
    u, v = (each - np.average(each, weights=weights) for each in (u, v))
    return (weights * u * v).sum() / np.sqrt((weights * u**2).sum() * (weights * v**2).sum())


MEASURES = {
    "auroc": (auroc_values, lambda y, s, w: roc_auc_score(y, s, sample_weight=w)),
    "precision": (average_precision_values, lambda y, s, w: average_precision_score(y, s, sample_weight=w)),
    "r2": (r2_values, weighted_r2),
    "spearman": (spearman_values, weighted_spearman),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_values_are_the_measure_and_its_derivative_by_each_image(name, ties):
    values_of, measure = MEASURES[name]
    rng, num = np.random.default_rng(0), 40
    if name in ("auroc", "precision"):
        true = rng.random(num) < 0.3
        scores = rng.normal(size=num) + true
    else:
        true = rng.normal(size=num)
        scores = true + rng.normal(size=num)
    if ties:
        scores = np.round(scores)
    whole, derivatives = measure(true, scores, np.ones(num)), []
    for image in range(num):
        both = []
        for step in (STEP, -STEP):
            weights = np.ones(num)
            weights[image] += step
            both.append(measure(true, scores, weights))
        derivatives.append((both[0] - both[1]) / (2 * STEP))
    np.testing.assert_allclose(values_of(true, scores), whole + num * np.array(derivatives), atol=1e-6)
    assert values_of(true, scores).mean() == pytest.approx(whole)


def test_spearman_is_scipys():
    rng = np.random.default_rng(1)
    true, predicted = rng.normal(size=60), rng.normal(size=60).round(1)
    assert spearman_values(true, predicted).mean() == pytest.approx(spearmanr(true, predicted).statistic)


def made(num=80, seed=0, unknown=0.2):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num, 3)) < [0.5, 0.2, 0.1]).astype(float)
    probabilities = np.clip(0.3 * targets + 0.7 * rng.random((num, 3)), 0, 1)
    targets[rng.random((num, 3)) < unknown] = np.nan
    return targets, probabilities


def test_macro_measures_are_means_over_labels_of_the_images_where_they_are_known():
    targets, probabilities = made()
    found = multilabel_measures(targets, probabilities, ["a", "b", "c"])
    areas, precisions = [], []
    for name, target, score in zip("abc", targets.T, probabilities.T, strict=True):
        known = ~np.isnan(target)
        areas.append(roc_auc_score(target[known], score[known]))
        precisions.append(average_precision_score(target[known], score[known]))
        label = found.labels[name]
        assert (label.auroc, label.average_precision) == (pytest.approx(areas[-1]), pytest.approx(precisions[-1]))
        assert (label.num_known, label.num_holding) == (known.sum(), (target == 1).sum())
        assert label.auroc_interval[0] < label.auroc < label.auroc_interval[1]
    assert found.auroc == pytest.approx(np.mean(areas)) == pytest.approx(macro_auroc(targets, probabilities))
    assert found.average_precision == pytest.approx(np.mean(precisions))
    assert found.interval[0] < found.auroc < found.interval[1]


def test_a_label_that_cannot_be_measured_counts_in_no_mean():
    targets, probabilities = made(unknown=0)
    targets[:, 2] = 0
    found = multilabel_measures(targets, probabilities, ["a", "b", "c"])
    assert found.labels["c"].auroc is found.labels["c"].average_precision_interval is None
    assert found.auroc == pytest.approx(macro_auroc(targets[:, :2], probabilities[:, :2]))
    assert macro_values(targets[:, 2:], probabilities[:, 2:]) is None
    nothing = multilabel_measures(targets[:, 2:], probabilities[:, 2:], ["c"])
    assert (nothing.auroc, nothing.interval, nothing.average_precision) == (None, None, None)


def test_labels_told_without_an_error_are_not_certain():
    targets = np.repeat([[0.0], [1.0]], 10, axis=0)
    found = multilabel_measures(targets, targets, ["a"])
    assert found.auroc == 1.0
    assert found.interval[0] < 0.9
    assert least_variance(targets) == pytest.approx(2 / (2 * 10) ** 2)
    assert least_variance(targets, np.arange(20) // 2) == pytest.approx(2 / (2 * 5) ** 2)


def test_what_is_told_perfectly_is_no_more_certain_than_what_nearly_is():
    """Values that are all exactly 1 are no shares of images."""
    targets = np.zeros((24, 1))
    targets[:2] = 1
    scores = np.linspace(0.9, 0.1, 24)[:, None]
    perfect = multilabel_measures(targets, scores, ["a"])
    scores[[1, 2]] = scores[[2, 1]]
    nearly = multilabel_measures(targets, scores, ["a"])
    for name in ("interval", "average_precision_interval"):
        assert getattr(perfect, name)[1] == 1
        assert getattr(perfect, name)[0] < 0.6
    assert perfect.interval[0] == pytest.approx(nearly.interval[0], abs=0.1)


def test_numbers_in_perfect_order_are_not_certain():
    numbers = np.arange(10.0)
    low, high = regression_measures(numbers, numbers**3).spearman_interval
    assert (0.5 < low < 0.9, high) == (True, 1)


def test_images_of_one_group_count_together():
    targets, probabilities = made(unknown=0)
    twice = np.repeat(targets, 2, axis=0), np.repeat(probabilities, 2, axis=0)
    alone = multilabel_measures(targets, probabilities, ["a", "b", "c"])
    groups = np.repeat(np.arange(len(targets)), 2)
    together = multilabel_measures(*twice, ["a", "b", "c"], groups)
    assert together.auroc == pytest.approx(alone.auroc)
    np.testing.assert_allclose(together.interval, alone.interval, atol=1e-3)


def test_the_interval_of_a_macro_auroc_covers():
    """Of 300 samples of 120 images the interval holds the truth, that of a million, in about 95 %."""
    truth = macro_auroc(*made(200_000, seed=9, unknown=0))
    covered = []
    for seed in range(300):
        found = multilabel_measures(*made(120, seed=100 + seed, unknown=0), ["a", "b", "c"])
        covered.append(found.interval[0] <= truth <= found.interval[1])
    assert 0.91 <= np.mean(covered) <= 0.985


def test_measures_of_numbers():
    rng = np.random.default_rng(2)
    true = rng.normal(40, 10, size=100)
    predicted = true + rng.normal(0, 5, size=100)
    found = regression_measures(true, predicted)
    assert found.r2 == pytest.approx(r2_score(true, predicted))
    assert found.mae == pytest.approx(np.abs(true - predicted).mean())
    assert found.mae_interval == pytest.approx(
        interval_of(sample(np.abs(true - predicted)[None], Images.of(100)), within=(0, np.inf))
    )
    for value, (low, high) in ((found.r2, found.interval), (found.spearman, found.spearman_interval)):
        assert low < value < high <= 1
    same = regression_measures(np.ones(5), predicted[:5])
    assert (same.r2, same.interval, same.spearman) == (None, None, None)
    assert regression_measures(true, np.full(100, 3.0)).spearman is None


def test_tenths_of_what_is_foretold():
    predicted = np.arange(50.0)[::-1]
    bins = agreement_of(predicted + 1, predicted)
    assert [each.num for each in bins] == [5] * 10
    assert [each.foretold for each in bins] == pytest.approx(np.arange(2.0, 50, 5))
    assert all(each.true == pytest.approx(each.foretold + 1) and each.low <= each.true <= each.high for each in bins)
    assert len(agreement_of(predicted[:3], predicted[:3])) == 3
