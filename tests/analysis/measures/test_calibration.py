"""Reliability and temperatures, by hand and against other implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sslcurr.analysis.measures.calibration import (
    claims_of,
    expected_error,
    probabilities_of,
    reliability,
    temperature_of,
)


def test_bins_by_hand():
    bins = reliability(np.array([0.05, 0.06, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), num_bins=10)
    assert [(each.num, each.right) for each in bins] == [(2, 0.5), (2, 1.0)]
    assert [each.confidence for each in bins] == pytest.approx([0.055, 0.975])
    assert expected_error(bins) == pytest.approx((2 * 0.445 + 2 * 0.025) / 4)
    assert expected_error([]) is None
    assert len(reliability(np.array([0.0]), np.array([0.0]))) == 1  # the lowest bin is closed


def drawn(num=4000, classes=4, scale=3.0, seed=0):
    """Logits whose softmax is calibrated, times `scale`; and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, classes)) * 1.5
    shares = probabilities_of(logits, exclusive=True)
    labels = (shares.cumsum(axis=1) < rng.random(num)[:, None]).sum(axis=1)
    return logits * scale, labels


def test_the_temperature_undoes_what_made_a_model_too_sure():
    logits, labels = drawn()
    temperature = temperature_of(logits, labels, exclusive=True)
    assert temperature == pytest.approx(3.0, rel=0.05)
    errors = []
    for each in (1.0, temperature):
        probabilities = probabilities_of(logits, exclusive=True, temperature=each)
        errors.append(expected_error(reliability(*claims_of(probabilities, labels, exclusive=True))))
    assert errors[1] < 0.03 < errors[0]


def test_the_temperature_is_that_of_the_least_loss():
    logits, labels = drawn(num=300, seed=1)
    best = temperature_of(logits, labels, exclusive=True)

    def loss(temperature):
        return cross_entropy(torch.from_numpy(logits) / temperature, torch.from_numpy(labels)).item()

    assert loss(best) <= min(loss(best * 1.01), loss(best / 1.01))


def test_labels_that_may_hold_together():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3000, 2)) * 2
    targets = (rng.random((3000, 2)) < probabilities_of(logits, exclusive=False)).astype(float)
    targets[:100, 0] = np.nan
    best = temperature_of(logits * 0.5, targets, exclusive=False)
    assert best == pytest.approx(0.5, rel=0.1)
    known = ~np.isnan(targets)
    expected = [
        binary_cross_entropy_with_logits(torch.from_numpy(logits[known] * 0.5 / t), torch.from_numpy(targets[known]))
        for t in (best, best * 1.05, best / 1.05)
    ]
    assert expected[0] == min(expected)
    confidence, right = claims_of(probabilities_of(logits, exclusive=False), targets, exclusive=False)
    assert len(confidence) == len(right) == known.sum()
    assert expected_error(reliability(confidence, right)) < 0.05
    assert temperature_of(logits[:0], targets[:0], exclusive=False) is None


def test_claims_of_classes_are_of_the_likeliest():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
    confidence, right = claims_of(probabilities, np.array([0, 0]), exclusive=True)
    assert confidence.tolist() == [0.7, 0.6]
    assert right.tolist() == [1.0, 0.0]
