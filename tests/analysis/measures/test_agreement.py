"""Rank correlations between settings: by hand, and as SciPy has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sslcurr.analysis.measures.agreement import (
    EQUAL,
    FEW_CHAINS,
    FEW_IMAGES,
    NO_WIDTH,
    ONE_SEED,
    across_seeds,
    agreement,
)


def test_by_hand():
    # Chains down, seeds across. Means of the first: 1, 2, 3; of the second: 1.5, 1, 3: one of three pairs is turned.
    first = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    second = np.array([[1.0, 2.0], [0.5, 1.5], [3.0, 3.0]])
    found = agreement(first, second)
    assert found.kendall == pytest.approx(1 / 3)
    assert found.spearman == pytest.approx(1 / 2)
    # Seed 0: 1, 2, 3 against 1, 0.5, 3; seed 1: 1, 2, 3 against 2, 1.5, 3: two pairs agree in each, one does not.
    np.testing.assert_allclose(across_seeds(first, second), [1 / 3, 1 / 3])
    assert found.tau == pytest.approx(1 / 3)
    assert (found.interval, found.reason) == (None, FEW_IMAGES)


def test_as_scipy_and_never_of_one_seed():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=(2, 6, 4)).round(1)  # with ties
    found = agreement(first, second)
    means = first.mean(axis=1), second.mean(axis=1)
    assert found.kendall == pytest.approx(stats.kendalltau(*means).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(*means).statistic)
    others = [np.delete(first, s, axis=1).mean(axis=1).round(12) for s in range(4)]
    each = [stats.kendalltau(others[s], second[:, s]).statistic for s in range(4)]
    assert found.tau == pytest.approx(np.mean(each))


def test_the_interval_is_over_seeds_and_groups_of_images():
    rng = np.random.default_rng(1)
    levels = np.linspace(0.4, 0.6, 6)[:, None]
    first, second = (levels + 0.05 * rng.normal(size=(6, 3)) for _ in range(2))
    deleted = tuple(each[None] + 0.01 * rng.normal(size=(20, 6, 3)) for each in (first, second))
    found = agreement(first, second, deleted)
    assert -1 <= found.interval[0] < found.tau < found.interval[1] <= 1
    assert found.reason is None
    # What images do not change narrows it.
    same = tuple(np.repeat(each[None], 20, axis=0) for each in (first, second))
    narrower = agreement(first, second, same)
    assert narrower.interval[0] > found.interval[0] or found.interval[0] == -1
    taus = across_seeds(first, second)
    half = stats.t.ppf(0.975, 2) * taus.std(ddof=1) / np.sqrt(3)
    assert narrower.interval == pytest.approx((max(taus.mean() - half, -1), min(taus.mean() + half, 1)))


@pytest.mark.parametrize(
    ("shape", "reason", "kendall"),
    [((1, 3), FEW_CHAINS, None), ((2, 3), FEW_CHAINS, 1.0), ((4, 1), ONE_SEED, 1.0), ((4, 3), NO_WIDTH, 1.0)],
)
def test_what_is_not_known_says_why(shape, reason, kendall):
    accuracies = np.arange(shape[0])[:, None] + 0.1 * np.arange(shape[1])[None]
    deleted = np.repeat(accuracies[None], 20, axis=0)
    found = agreement(accuracies, accuracies, (deleted, deleted))
    assert (found.kendall, found.interval, found.reason) == (kendall, None, reason)


def test_equal_accuracies_have_no_order():
    rising = np.arange(4)[:, None] + np.zeros((4, 3))
    found = agreement(rising, np.full((4, 3), 0.5))
    assert (found.kendall, found.spearman, found.tau, found.reason) == (None, None, None, EQUAL)
