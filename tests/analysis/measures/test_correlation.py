"""Rank correlations: against SciPy, and p-values by hand."""

import numpy as np
import pytest
import scipy.stats

from sslcurr.analysis.measures import correlation
from sslcurr.analysis.measures.correlation import kendall_tau, spearman_rho, with_p_value

PAIRS = [(spearman_rho, scipy.stats.spearmanr), (kendall_tau, scipy.stats.kendalltau)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_correlations_agree_with_scipy(ours, theirs):
    generator = np.random.default_rng(0)
    a, b = generator.integers(6, size=(5, 9)), generator.integers(6, size=(5, 9))
    expected = [theirs(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ours(a, b), expected)
    assert np.isnan(ours(np.ones(4), np.arange(4)))


@pytest.mark.parametrize("ours", [spearman_rho, kendall_tau])
def test_sums_in_another_order_are_ties(ours):
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last digit, and are equal accuracies."""
    first, second = 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1
    assert first != second
    assert ours(np.array([first, second, 0.9]), np.array([1, 2, 3])) == ours(np.array([1, 1, 2]), np.array([1, 2, 3]))


@pytest.mark.parametrize("ours", [spearman_rho, kendall_tau])
def test_p_values_by_hand(ours):
    """Of three pairs in order two of the six orders are as far from 0, of four two of twenty-four."""
    assert with_p_value(ours, [1, 2, 3], [10, 20, 30]) == (1, pytest.approx(2 / 6))
    assert with_p_value(ours, [1, 2, 3, 4], [4, 3, 2, 1]) == (-1, pytest.approx(2 / 24))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_p_values_agree_with_scipy(ours, theirs, monkeypatch):
    a, b = np.random.default_rng(3).normal(size=(2, 6))
    expected = scipy.stats.permutation_test(
        (a,), lambda x: theirs(x, b).statistic, permutation_type="pairings", n_resamples=np.inf, vectorized=False
    )
    value, p = with_p_value(ours, a, b)
    assert (value, p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    monkeypatch.setattr(correlation, "MOST_EXACT", 5)
    assert with_p_value(ours, a, b) == (pytest.approx(value), pytest.approx(p, abs=0.015))
