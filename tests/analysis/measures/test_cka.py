"""The mathematics of CKA: by its definition, by slow float64 textbook formulas, and by its invariances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslcurr.analysis.measures import cka
from sslcurr.analysis.measures.cka import (
    BLOCK,
    FEWEST,
    MOST_GROUPS,
    Alignment,
    batch_sums,
    centre,
    cka_of,
    estimates,
    groups_of,
    linear_gram,
    rbf_gram,
)
from sslcurr.errors import DataError

ESTIMATORS = ("unbiased", "biased")
both = pytest.mark.parametrize("estimator", ESTIMATORS)


def drawn(n, dim, seed=0, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def definition(one, other):
    """The unbiased HSIC as a mean over all ordered quadruples of different images (Song et al., section 3)."""
    n = len(one)
    terms = [
        one[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in itertools.permutations(range(n), 4)
    ]
    return math.fsum(terms) / len(terms)


def textbook(one, other, estimator="unbiased"):
    """HSIC of two Gram matrices: Nguyen et al., equation 3, or Kornblith et al., equation 3, in float64."""
    one, other = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    n = len(one)
    if estimator == "biased":
        centring = np.eye(n) - np.ones((n, n)) / n
        return np.trace(one @ centring @ other @ centring) / (n - 1) ** 2
    np.fill_diagonal(one, 0)
    np.fill_diagonal(other, 0)
    ones = np.ones(n)
    first = np.trace(one @ other)
    second = (ones @ one @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (ones @ one @ other @ ones)
    return (first + second - third) / (n * (n - 3))


def slow_cka(layers, estimator="unbiased", gram=lambda features: features @ features.T):
    """CKA of lists of batches of features, one list a layer, by `textbook`; centred, or float64 loses digits too."""
    exact = [[np.asarray(batch, dtype=np.float64) for batch in batches] for batches in layers]
    grams = [[gram(batch - batch.mean(axis=0)) for batch in batches] for batches in exact]
    count = len(layers)
    sums = np.zeros((count, count))
    for i, j in itertools.product(range(count), repeat=2):
        sums[i, j] = sum(textbook(a, b, estimator) for a, b in zip(grams[i], grams[j], strict=True))
    own = np.diagonal(sums)
    scale = np.sqrt(own[:, None] * own[None, :])
    return np.divide(sums, scale, out=np.full_like(sums, np.nan), where=scale > 0)


def fast_cka(layers, estimator="unbiased"):
    """The same by the module, for layers as lists of batches of tensors."""
    found = Alignment(len(layers), estimator)
    for batches in zip(*layers, strict=True):
        found.add(torch.stack([linear_gram(features) for features in batches]))
    return cka_of(found.sums)


def hsic(grams, estimator="unbiased"):
    rows = centre(torch.as_tensor(grams, dtype=torch.float64), estimator)
    return (rows @ rows.T).numpy()


# ---- HSIC


@pytest.mark.parametrize("n", [4, 5, 7])
def test_unbiased_hsic_is_its_definition(n):
    one, other = drawn(n, 3, 1), drawn(n, 2, 2)
    grams = [one @ one.T, other @ other.T]
    expected = [[definition(a.numpy(), b.numpy()) for b in grams] for a in grams]
    np.testing.assert_allclose(hsic(torch.stack(grams)), expected, rtol=1e-10, atol=1e-12)


def test_unbiased_hsic_of_four_images_by_hand():
    # Images 0 and 1 are alike, so are 2 and 3: of 24 quadruples 8 have K = 1 at (i, j), and then L_qr = 1, L_iq = 0.
    gram = torch.zeros(4, 4)
    gram[0, 1] = gram[1, 0] = gram[2, 3] = gram[3, 2] = 1
    assert hsic(gram[None])[0, 0] == pytest.approx(8 * 2 / 24)
    # K = 1 at (0, 1) and L = 1 at (0, 2): of the quadruples that begin with (0, 1) or (1, 0) two have i, q = 0, 2.
    one, other = torch.zeros(4, 4), torch.zeros(4, 4)
    one[0, 1] = one[1, 0] = other[0, 2] = other[2, 0] = 1
    assert hsic(torch.stack([one, other]))[0, 1] == pytest.approx(-2 * 1 / 24)


def test_unbiased_hsic_does_not_see_the_diagonal():
    gram = drawn(9, 4) @ drawn(9, 4).T
    other = gram + torch.diag(torch.arange(9.0, dtype=torch.float64))
    found = hsic(torch.stack([gram, other]))
    np.testing.assert_allclose(found, found[0, 0], rtol=1e-12)


@both
@pytest.mark.parametrize("n", [4, 13, 40])
def test_hsic_agrees_with_the_textbook_for_any_symmetric_matrices(estimator, n):
    grams = torch.stack([drawn(n, n, seed) + drawn(n, n, seed).T for seed in range(3)])
    expected = [[textbook(a.numpy(), b.numpy(), estimator) for b in grams] for a in grams]
    np.testing.assert_allclose(hsic(grams, estimator), expected, rtol=1e-9, atol=1e-12)


def test_centring_changes_no_gram():
    grams = drawn(6, 6)[None] + drawn(6, 6).T[None]
    before = grams.clone()
    for estimator in ESTIMATORS:
        centre(grams, estimator)
        assert torch.equal(grams, before)


@both
def test_sums_of_a_batch_change_no_gram(estimator):
    grams = torch.stack([drawn(21, 5, seed) @ drawn(21, 5, seed).T for seed in range(3)])
    before = grams.clone()
    found = batch_sums(grams, np.arange(21) // 7, estimator)
    assert torch.equal(grams, before)
    assert sorted(found.without) == [0, 1, 2]


def test_unbiased_hsic_is_unbiased_and_the_biased_is_not():
    # Features of two columns with correlation 0.6: HSIC of linear kernels is the sum of squared covariances, 0.36.
    generator = np.random.default_rng(0)
    found = {name: [] for name in ESTIMATORS}
    for _ in range(4000):
        one = generator.normal(size=(6, 1))
        other = 0.6 * one + 0.8 * generator.normal(size=(6, 1))
        grams = torch.from_numpy(np.stack([one @ one.T, other @ other.T]))
        for name in ESTIMATORS:
            found[name].append(hsic(grams, name)[0, 1])
    error = np.std(found["unbiased"]) / math.sqrt(4000)
    assert np.mean(found["unbiased"]) == pytest.approx(0.36, abs=4 * error)
    assert np.mean(found["biased"]) > 0.36 + 8 * error


# ---- CKA


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cka_over_batches_agrees_with_the_textbook(estimator, dtype):
    sizes = (4, 17, 16, 30)
    base = [drawn(n, 40, seed) for seed, n in enumerate(sizes)]
    mixing = drawn(40, 300, 9)
    layers = [
        [b.to(dtype) for b in base],
        [(b @ mixing).relu().to(dtype) for b in base],
        [drawn(n, 12, 50 + n).to(dtype) for n in sizes],
        [(3 + (b @ mixing[:, :60]).tanh()).to(dtype) for b in base],
    ]
    found = fast_cka(layers, estimator)
    np.testing.assert_allclose(found, slow_cka(layers, estimator), atol=1e-6)
    np.testing.assert_allclose(np.diagonal(found), 1, atol=1e-12)
    np.testing.assert_allclose(found, found.T, atol=1e-15)


def test_cka_is_of_summed_hsic_and_not_a_mean_of_cka():
    one = [drawn(8, 3, 1), 5 * drawn(8, 3, 2)]
    other = [drawn(8, 3, 3), drawn(8, 3, 2)]
    found = fast_cka([one, other])[0, 1]
    assert found == pytest.approx(slow_cka([one, other])[0, 1], abs=1e-12)
    means = np.mean([slow_cka([[a], [b]])[0, 1] for a, b in zip(one, other, strict=True)])
    assert abs(found - means) > 0.01


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(5, 24),
    dim=st.integers(1, 30),
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-5, 5),
    estimator=st.sampled_from(ESTIMATORS),
)
def test_cka_does_not_see_rotations_scales_and_shifts(n, dim, seed, scale, shift, estimator):
    one = drawn(n, dim, seed)
    other = one[:, : dim // 2 + 1].tanh() + 0.3 * drawn(n, dim // 2 + 1, seed + 1)
    rotation, _ = torch.linalg.qr(drawn(dim, dim, seed + 2))
    turned = scale * (one @ rotation) + shift
    found = fast_cka([[one], [turned], [other]], estimator)
    assert found[0, 1] == pytest.approx(1, abs=1e-7)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-7)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    again = fast_cka([[one[order]], [other[order]]], estimator)
    assert again[0, 1] == pytest.approx(found[0, 2], abs=1e-9)


def test_cka_sees_other_linear_maps():
    one = drawn(60, 4)
    assert fast_cka([[one], [one * torch.tensor([1.0, 1.0, 1.0, 10.0])]])[0, 1] < 0.9


@settings(max_examples=25, deadline=None)
@given(a=st.floats(0.1, 2), seed=st.integers(0, 10_000))
def test_cka_is_symmetric_and_of_absolute_value_one_at_most(a, seed):
    one, other = drawn(20, 6, seed), a * drawn(20, 6, seed) + drawn(20, 6, seed + 1)
    found = fast_cka([[one], [other]])
    assert abs(found[0, 1]) <= 1 + 1e-12
    assert found[0, 1] == pytest.approx(fast_cka([[other], [one]])[0, 1], abs=1e-12)


def test_independent_features_have_cka_near_zero_on_both_sides_unless_it_is_biased():
    pairs = [([drawn(32, 512, 2 * s, torch.float32)], [drawn(32, 512, 2 * s + 1, torch.float32)]) for s in range(40)]
    found = np.array([fast_cka(list(pair))[0, 1] for pair in pairs])
    assert np.abs(found).max() < 0.25
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(len(found))
    assert found.min() < 0 < found.max()  # negative values are kept
    assert min(fast_cka(list(pair), "biased")[0, 1] for pair in pairs) > 0.9


def test_many_batches_bring_independent_features_nearer_to_zero():
    found = fast_cka([[drawn(32, 64, s) for s in range(200)], [drawn(32, 64, 1000 + s) for s in range(200)]])
    assert abs(found[0, 1]) < 0.02


def test_summed_unbiased_hsic_is_in_float64():
    # 1e4 batches of sums of which one is 1e9 times the others: float32 would lose them.
    kept = Alignment(1)
    gram = torch.zeros(1, 4, 4, dtype=torch.float64)
    gram[0, 0, 1] = gram[0, 1, 0] = gram[0, 2, 3] = gram[0, 3, 2] = 1
    kept.add(gram * math.sqrt(1e9))
    for _ in range(1000):
        kept.add(gram)
    assert kept.sums.dtype == np.float64
    assert kept.sums.sum() == pytest.approx((1e9 + 1000) * 16 / 24, rel=1e-12)


# ---- sums over batches


@both
def test_fewer_than_four_images_are_a_mistake(estimator):
    kept = Alignment(2, estimator)
    with pytest.raises(DataError, match="CKA needs 4 images in a batch, got 3"):
        kept.add(torch.eye(3, dtype=torch.float64).repeat(2, 1, 1))
    assert (kept.num_batches, kept.sums.any()) == (0, False)
    kept.add(torch.stack([drawn(FEWEST, 2) @ drawn(FEWEST, 2).T] * 2))
    assert np.isfinite(cka_of(kept.sums)).all()


def test_memory_does_not_grow_with_the_batches_and_nothing_is_lost():
    kept = Alignment(2)
    groups = groups_of([5] * (2 * MOST_GROUPS + 5))
    each = []
    for number, group in enumerate(groups):
        grams = torch.stack([drawn(5, 3, number) @ drawn(5, 3, number).T, drawn(5, 3, -number) @ drawn(5, 3, number).T])
        grams = grams + grams.transpose(1, 2)
        kept.add(grams, group)
        each.append(hsic(grams))
        assert kept.sums.shape == (2, 2)
        assert len(kept.changes) == min(number + 1, MOST_GROUPS)
    assert kept.num_batches == 2 * MOST_GROUPS + 5
    np.testing.assert_allclose(kept.sums, np.sum(each, axis=0), rtol=1e-12)
    # Whole batches are deleted: those of one group are taken off.
    np.testing.assert_allclose(kept.changes[3], -np.sum(each[3::MOST_GROUPS], axis=0), rtol=1e-12)
    np.testing.assert_allclose(kept.changes[-1], -each[MOST_GROUPS - 1] - each[2 * MOST_GROUPS - 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("batches", "num_groups", "sizes"),
    [([40, 39], 0, set()), ([80], 20, {4}), ([27, 27, 26], 20, {4}), ([50, 50], 20, {5}), ([32] * 30, 30, {32})],
)
def test_groups_of_images(batches, num_groups, sizes):
    groups = groups_of(batches)
    assert len(groups) == len(batches)
    together = np.concatenate(groups)
    assert len(np.unique(together)) == num_groups
    assert set(np.bincount(together.astype(int))) - {0} == sizes
    assert [len(group) for group in groups] == (batches if num_groups else [0] * len(batches))


def without(layers, deleted):
    """CKA of batches of features without some images: a batch counts by the share of its images that is left."""
    sums = np.zeros((len(layers), len(layers)))
    start = 0
    for batches in zip(*layers, strict=True):
        kept = [place for place in range(len(batches[0])) if start + place not in deleted]
        start += len(batches[0])
        if len(kept) >= FEWEST:
            grams = [batch.numpy()[kept] @ batch.numpy()[kept].T for batch in batches]
            for i, j in itertools.product(range(len(layers)), repeat=2):
                sums[i, j] += textbook(grams[i], grams[j], "unbiased") * len(kept) / len(batches[0])
    return sums[0, 1] / math.sqrt(sums[0, 0] * sums[1, 1])


def related(sizes):
    """Two layers that have something in common, as lists of batches."""
    first = [drawn(size, 6, place) for place, size in enumerate(sizes)]
    mixing = drawn(6, 5, 99)
    return [first, [one @ mixing + 1.5 * drawn(len(one), 5, 50 + place) for place, one in enumerate(first)]]


def test_intervals_are_a_jackknife_over_groups_of_images():
    sizes = [30, 30, 30]
    layers, groups = related(sizes), groups_of(sizes)
    kept = Alignment(2)
    for batches, group in zip(zip(*layers, strict=True), groups, strict=True):
        kept.add(torch.stack([linear_gram(features) for features in batches]), group)
    together = np.concatenate(groups)
    values = np.array([without(layers, set(np.flatnonzero(together == group))) for group in range(20)])
    np.testing.assert_allclose(cka_of(kept.sums + kept.changes)[:, 0, 1], values, rtol=1e-8)
    found = estimates(kept.sums, kept.changes)
    value = found.value[0, 1]
    error = math.sqrt(19 / 20 * np.square(values - values.mean()).sum()) / (1 - value**2)
    t = scipy.stats.t.ppf(0.975, 19)
    assert found.low[0, 1] == pytest.approx(math.tanh(math.atanh(value) - t * error))
    assert found.high[0, 1] == pytest.approx(math.tanh(math.atanh(value) + t * error))
    assert found.low[0, 1] < value < found.high[0, 1] < 1
    np.testing.assert_allclose(found.low, found.low.T)
    np.testing.assert_array_equal(np.diagonal(found.low), 1)
    np.testing.assert_array_equal(np.diagonal(found.high), 1)


def test_few_images_have_no_intervals():
    layers = related([40, 39])
    kept = Alignment(2)
    for batches, group in zip(zip(*layers, strict=True), groups_of([40, 39]), strict=True):
        kept.add(torch.stack([linear_gram(features) for features in batches]), group)
    found = estimates(kept.sums, kept.changes)
    assert (found.low, found.high) == (None, None)
    np.testing.assert_allclose(found.value, fast_cka(layers))


def test_estimates_near_and_above_one_have_intervals():
    """The unbiased estimate of layers that are all but equal may be above 1."""
    sums = np.array([[1.0, 1.0001], [1.0001, 1.0]])
    changes = np.random.default_rng(0).normal(0, 1e-4, size=(20, 2, 2))
    found = estimates(sums, changes + changes.transpose(0, 2, 1))
    assert 0.99 < found.low[0, 1] < found.value[0, 1] == found.high[0, 1]


def cover_of(num_images, mix, num_tables):
    """How often the CKA of all images lies in the intervals of so many of them, and in the old ones over batches."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 8, 24))

    def features(number):
        latent, noise = generator.normal(size=(2, number, 8))
        latent[:, 0] += 3 * generator.choice([-1, 1], size=number)
        return np.maximum(latent @ first, 0), np.maximum((mix * latent + math.sqrt(1 - mix**2) * noise) @ second, 0)

    one, other = (part - part.mean(axis=0) for part in features(60_000))
    true = np.square(one.T @ other).sum() / math.sqrt(np.square(one.T @ one).sum() * np.square(other.T @ other).sum())
    sizes = [len(part) for part in np.array_split(np.arange(num_images), 8)]
    groups, inside = groups_of(sizes), []
    for _ in range(num_tables):
        pair, kept, each = features(num_images), Alignment(2), []
        for rows, group in zip(np.split(np.arange(num_images), np.cumsum(sizes)[:-1]), groups, strict=True):
            grams = torch.stack([linear_gram(torch.from_numpy(part[rows])) for part in pair])
            kept.add(grams, group)
            each.append(hsic(grams))
        found = estimates(kept.sums, kept.changes)
        times = generator.multinomial(8, np.full(8, 1 / 8), 400)
        low, high = np.quantile(cka_of(np.einsum("rb,bij->rij", times, np.array(each)))[:, 0, 1], [0.025, 0.975])
        inside.append((found.low[0, 1] <= true <= found.high[0, 1], low <= true <= high))
    return np.mean(inside, axis=0)


@pytest.mark.parametrize("mix", [1.0, 0.6])
def test_intervals_cover_and_a_bootstrap_over_batches_does_not(mix):
    ours, theirs = cover_of(256, mix, 60)
    error = math.sqrt(0.05 * 0.95 / 60)
    assert ours >= 0.92 - 2 * error
    assert theirs < 0.92


# ---- linear Gram matrices


@pytest.mark.parametrize("mean", [0.0, 5.0])  # 5: shifted by some rows before they are multiplied
@pytest.mark.parametrize("n", [4, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 30])
@pytest.mark.parametrize(("columns", "pieces"), [(4, 1), (4, 2), (3, 8), (9, 1)])  # of 9: with a rest, and without
def test_products_are_those_of_all_rows(n, mean, columns, pieces, monkeypatch):
    monkeypatch.setattr(cka, "COLUMNS", columns)
    monkeypatch.setattr(cka, "PIECES", pieces)
    features = drawn(n, 9) + mean
    found = linear_gram(features)
    assert found.dtype == torch.float64
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    torch.testing.assert_close(centre @ found @ centre, centre @ features @ features.T @ centre)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_many_features_cost_no_digits(mean):
    features = drawn(64, 65536, 1, torch.float32).relu() + mean
    exact = features.double() - features.double().mean(dim=0)
    exact = exact @ exact.T
    centre = torch.eye(64, dtype=torch.float64) - 1 / 64
    error = (centre @ linear_gram(features) @ centre - exact).abs().max() / exact.abs().max()
    assert error < 2e-7  # 1e-6 where float32 sums them all up


@pytest.mark.parametrize("n", [12, 100])
def test_a_large_common_mean_costs_no_digits(n):
    noise = drawn(n, 200, 1)
    features = [(1e4 + 0.5 * noise).float(), (1e4 + noise[:, :50].tanh()).float(), (-2e3 + noise).float()]
    exact = slow_cka([[f.double()] for f in features])
    np.testing.assert_allclose(fast_cka([[f] for f in features]), exact, atol=1e-4)
    assert exact[0, 2] == pytest.approx(1, abs=0.01)
    assert exact[0, 1] < 0.9  # the mean is not what these are alike in


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, 2.0, 3.0, 3.3, 10.0, 100.0])
def test_centring_begins_before_rounding_is_seen(mean):
    noise = drawn(40, 500, 3)
    features = [(mean + noise).float(), (mean + noise.tanh()).float(), (mean + drawn(40, 500, 4)).float()]
    np.testing.assert_allclose(
        fast_cka([[f] for f in features]), slow_cka([[f.double()] for f in features]), atol=1e-6 * max(1, mean)
    )


@pytest.mark.parametrize("n", [8, 100])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1234.5])
def test_a_layer_that_gives_the_same_for_all_images_is_undefined(n, scale):
    one = scale * drawn(1, 700, 5, torch.float32)
    constant = one.repeat(n, 1)
    assert not linear_gram(constant).any()
    found = fast_cka([[constant], [drawn(n, 5)]])
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, 0]).all()
    assert found[1, 1] == pytest.approx(1)


def test_rows_that_differ_by_rounding_only_are_undefined_and_small_differences_are_not():
    one = 1 + drawn(1, 600, 6).abs()
    noise = drawn(30, 600, 7)
    rounding = (one * (1 + 1e-6 * noise)).float()
    assert np.isnan(fast_cka([[rounding], [noise]])[0, 1])
    small = (one * (1 + 1e-3 * noise)).float()
    assert fast_cka([[small], [(one * noise).float()]])[0, 1] == pytest.approx(1, abs=1e-3)


def test_a_batch_without_differences_adds_nothing():
    one, other = drawn(8, 6, 1), drawn(8, 6, 2)
    alone = fast_cka([[one], [other]])
    both_batches = fast_cka([[one, torch.ones(8, 6)], [other, drawn(8, 6, 3)]])
    assert both_batches[0, 0] == pytest.approx(1)
    assert 0 < abs(both_batches[0, 1]) < abs(alone[0, 1])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [8, 100])
@pytest.mark.parametrize("gram", [linear_gram, lambda features: rbf_gram(features)[0]], ids=["linear", "rbf"])
def test_features_that_are_not_finite_are_seen_in_the_gram(gram, n, wrong):
    features = drawn(n, 6, 1, torch.float32)
    features[2, 3] = wrong
    assert not torch.isfinite(gram(features).sum())


def test_cka_of_sums_without_variance_is_nan_without_a_warning(recwarn):
    sums = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.5]])
    found = cka_of(sums)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(found[[0, 0, 2], [0, 2, 2]], [1, -1, 1])
    several = estimates(sums, np.zeros((20, 3, 3)))
    assert np.isnan(several.low[1]).all()
    assert several.low[0, 2] == several.high[0, 2] == pytest.approx(-1)
    assert not recwarn.list


# ---- RBF


@pytest.mark.parametrize("n", [5, 6, 100])
def test_rbf_has_the_median_distance_as_its_bandwidth(n):
    features = drawn(n, 7, 3)
    distances = torch.cdist(features, features)
    middle = sorted(distances[i, j].item() for i, j in itertools.combinations(range(n), 2))
    gram, bandwidth = rbf_gram(features)
    low, high = middle[(len(middle) - 1) // 2], middle[len(middle) // 2]
    assert low - 1e-9 <= float(bandwidth) <= high + 1e-9
    expected = torch.exp(-(distances**2) / (2 * float(bandwidth) ** 2))
    torch.testing.assert_close(gram, expected, rtol=1e-9, atol=1e-9)
    assert gram.dtype == torch.float64


def test_rbf_by_hand():
    # Distances 1, 1, 1, 2, 2, 3 of points on a line: the middle two are 1 and 2, the lower is taken.
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    gram, bandwidth = rbf_gram(features)
    assert float(bandwidth) == pytest.approx(1)
    assert gram[0].tolist() == pytest.approx([1, math.exp(-0.5), math.exp(-2), math.exp(-4.5)])
    given_one, same = rbf_gram(features, torch.tensor(2.0))
    assert float(same) == 2
    assert given_one[0].tolist() == pytest.approx([1, math.exp(-1 / 8), math.exp(-1 / 2), math.exp(-9 / 8)])


def test_rbf_sees_no_shift_and_with_the_median_no_scale():
    features = drawn(20, 6, 1)
    gram, _ = rbf_gram(features)
    torch.testing.assert_close(rbf_gram(300 * features + 77)[0], gram, rtol=1e-6, atol=1e-6)
    far = (features + 1e4).float()
    torch.testing.assert_close(rbf_gram(far)[0], rbf_gram(far.double())[0], rtol=1e-5, atol=1e-5)


@both
def test_rbf_cka_agrees_with_the_textbook(estimator):
    one = drawn(25, 8, 1)
    features = [one.float(), (one @ drawn(8, 30, 2)).relu().float(), drawn(25, 4, 3).float()]

    def gram(values):
        distances = np.sqrt(((values[:, None] - values[None, :]) ** 2).sum(axis=-1))
        middle = np.sort(distances[np.triu_indices(len(values), 1)])[(len(values) * (len(values) - 1) // 2 - 1) // 2]
        return np.exp(-(distances**2) / (2 * middle**2))

    kept = Alignment(3, estimator)
    kept.add(torch.stack([rbf_gram(each)[0] for each in features]))
    expected = slow_cka([[each.numpy()] for each in features], estimator, gram)
    np.testing.assert_allclose(cka_of(kept.sums), expected, atol=1e-6)


@pytest.mark.parametrize("n", [8, 100])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1234.5])
def test_rbf_of_rows_that_are_the_same_is_undefined(n, scale):
    constant = (scale * drawn(1, 700, 5, torch.float32)).repeat(n, 1)
    assert not rbf_gram(constant)[0].any()


def test_rbf_of_rows_that_differ_by_rounding_only_is_undefined():
    rounding = ((1 + drawn(1, 600, 6).abs()) * (1 + 1e-6 * drawn(30, 600, 7))).float()
    assert not rbf_gram(rounding)[0].any()


# ---- peers


def test_hsic_agrees_with_pytorch_cka():
    theirs = pytest.importorskip("cka")
    grams = torch.stack([drawn(20, 5, seed) @ drawn(20, 5, seed).T for seed in range(3)])
    found, _, _ = theirs.hsic(grams, grams)
    np.testing.assert_allclose(hsic(grams) / hsic(grams)[0, 0], (found / found[0, 0]).numpy(), rtol=1e-5, atol=1e-6)


def test_constants_are_as_documented():
    assert (cka.FEWEST, cka.MOST_GROUPS) == (4, 64)
