"""Distances between sets of features: by hand, in closed form, against SciPy and the other tools, and by properties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sslcurr.analysis.measures import frechet
from sslcurr.analysis.measures.frechet import (
    ROUNDING,
    Extrapolated,
    Moments,
    extrapolated_distance,
    frechet_distance,
    halves,
    kernel_distance,
)
from sslcurr.errors import DataError, SpecError

Floats = frechet.Floats


def peers(test: Any) -> Any:
    """Other tools' own warnings are theirs."""
    for what in ("DeprecationWarning", "scipy.linalg.LinAlgWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{what}")(test)
    return test


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def relu_features(num: int, dim: int, seed: int, scale: float = 1.0) -> Floats:
    """Like pooled features of a network: not negative, correlated, with channels that are never on."""
    common = np.random.default_rng(7)
    weights = common.standard_normal((dim // 4, dim)) / math.sqrt(dim // 4)
    centres = common.standard_normal((5, dim // 4))
    own = np.random.default_rng(seed)
    hidden = centres[own.integers(5, size=num)] * scale + own.standard_normal((num, dim // 4))
    return np.maximum(0, hidden @ weights - 4 * (np.arange(dim) % 16 == 0))


def with_moments(mean: Floats, covariance: Floats, num: int, seed: int = 0) -> Floats:
    """[num, d] rows whose sample mean and covariance are those given."""
    x = normal(num, len(mean), seed=seed)
    x -= x.mean(axis=0)
    q = np.linalg.qr(x)[0]
    q -= q.mean(axis=0)
    values, vectors = np.linalg.eigh(covariance)
    return q @ (vectors * np.sqrt(np.maximum(values, 0))).T * math.sqrt(num - 1) + mean


def orthonormal(num: int, dim: int, seed: int) -> Floats:
    """[num, dim] orthonormal columns, each of mean 0."""
    x = normal(num, dim, seed=seed)
    q = np.linalg.qr(np.concatenate([np.ones((num, 1)), x], axis=1))[0][:, 1:]
    return q


def traces(a: Floats, b: Floats) -> float:
    return float(a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum())


def by_sqrtm(a: Floats, b: Floats) -> float:
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    change = a.mean(axis=0) - b.mean(axis=0)
    root = scipy.linalg.sqrtm(first @ second)
    return float(change @ change + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


def by_svd(a: Floats, b: Floats) -> float:
    """The definition by singular values of all rows, without any of the short cuts."""
    first = (a - a.mean(axis=0)) / math.sqrt(len(a) - 1)
    second = (b - b.mean(axis=0)) / math.sqrt(len(b) - 1)
    norm = scipy.linalg.svdvals(first @ second.T).sum()
    change = a.mean(axis=0) - b.mean(axis=0)
    return float(change @ change + (first**2).sum() + (second**2).sum() - 2 * norm)


# ---- by hand and in closed form


def test_one_dimension_by_hand():
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0], [9.0]])
    # means 1 and 5, standard deviations sqrt(2) and 4
    expected = 16 + (4 - math.sqrt(2)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-14)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-14)
    assert frechet_distance(a, Moments.of(b)) == pytest.approx(expected, rel=1e-14)


def test_rank_one_by_hand():
    # one direction each, 60 degrees apart: the cross product has one singular value, s1 s2 |cos|
    u, v = np.array([1.0, 0.0, 0.0]), np.array([0.5, math.sqrt(0.75), 0.0])
    a = np.array([-1.0, 1.0])[:, None] * u  # variance 2
    b = np.array([-3.0, 0.0, 3.0])[:, None] * v  # variance 9
    assert frechet_distance(a, b) == pytest.approx(2 + 9 - 2 * math.sqrt(2) * 3 * 0.5, rel=1e-14)


def test_orthogonal_directions_share_nothing():
    a, b = np.zeros((4, 2)), np.zeros((4, 2))
    a[:, 0], b[:, 1] = [-1, 1, -1, 1], [-2, 2, -2, 2]
    assert frechet_distance(a, b) == pytest.approx(4 / 3 + 16 / 3, rel=1e-14)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (200, 500), (40, 400), (65, 64), (66, 70)])
def test_common_eigenbasis_in_closed_form(n: int, m: int):
    dim = 64
    rank_a, rank_b = min(dim, n - 1), min(dim, m - 1)
    basis = np.linalg.qr(normal(dim, dim, seed=1))[0]
    s, t = np.zeros(dim), np.zeros(dim)
    s[:rank_a], t[:rank_b] = np.linspace(0.5, 3, rank_a), np.linspace(2, 1, rank_b)
    a = orthonormal(n, rank_a, 2) @ (s[:, None] * basis)[:rank_a] * math.sqrt(n - 1) + 1
    b = orthonormal(m, rank_b, 3) @ (t[:, None] * basis)[:rank_b] * math.sqrt(m - 1) - 1
    expected = float(np.sum((s - t) ** 2) + 4 * dim)
    for left in (a, Moments.of(a)):
        for right in (b, Moments.of(b)):
            assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("reverse", [False, True], ids=["alike", "opposed"])
@pytest.mark.parametrize(("n", "m"), [(100, 100), (300, 300), (60, 1000)])
def test_spectra_over_twelve_orders_of_magnitude(n: int, m: int, reverse: bool):
    dim = 128
    basis = np.linalg.qr(normal(dim, dim, seed=1))[0]
    rank_a, rank_b = min(dim, n - 1), min(dim, m - 1)
    s, t = np.zeros(dim), np.zeros(dim)
    s[:rank_a], t[:rank_b] = np.logspace(0, -6, dim)[:rank_a], 1.3 * np.logspace(0, -6, dim)[:rank_b]
    t = t[::-1] if reverse else t
    a = orthonormal(n, dim if rank_a == dim else rank_a, 2) @ (s[:, None] * basis)[:rank_a] * math.sqrt(n - 1)
    # rows of t that are zero lie at the end, or, reversed, at the beginning
    kept = np.flatnonzero(t)
    b = orthonormal(m, len(kept), 3) @ (t[:, None] * basis)[kept] * math.sqrt(m - 1)
    expected = float(np.sum((s - t) ** 2))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-13)
    # a covariance alone has lost what is below eps of its largest variance
    loose = 1e-8 if reverse else 1e-11
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=loose)


def test_channels_of_very_different_size_keep_their_digits_in_a_covariance():
    size = np.logspace(0, -6, 32)
    a, b = normal(400, 32, seed=1) * size, normal(400, 32, seed=2) * size[::-1]
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(by_svd(a, b), rel=1e-13)


@pytest.mark.parametrize("num", [2, 20, 100, 400])
def test_against_a_constant_set(num: int):
    a, b = relu_features(num, 64, 1), np.full((7, 64), 0.25)
    change = a.mean(axis=0) - 0.25
    expected = float(change @ change + a.var(axis=0, ddof=1).sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-13)
    assert frechet_distance(Moments.of(b), Moments.of(a)) == pytest.approx(expected, rel=1e-13)
    many = np.repeat(b, 40, axis=0)
    assert frechet_distance(a, many) == pytest.approx(expected, rel=1e-13)
    assert frechet_distance(Moments.of(many), Moments.of(a)) == pytest.approx(expected, rel=1e-13)


def test_two_constant_sets():
    assert frechet_distance(np.zeros((3, 8)), np.full((90, 8), 0.5)) == 2.0
    assert frechet_distance(np.zeros((3, 8)), np.zeros((90, 8))) == 0.0


def test_few_images_many_times():
    few = relu_features(5, 64, 1)
    a, b = np.repeat(few, 60, axis=0), relu_features(300, 64, 2)
    assert frechet_distance(a, b) == pytest.approx(by_svd(a, b), rel=1e-12)
    # of covariances without full rank only half of the digits are left
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(by_svd(a, b), rel=1e-7)


SIZES = [(2, 2), (2, 300), (50, 50), (50, 63), (64, 64), (64, 65), (65, 65), (66, 90), (300, 300), (20, 5000)]


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_definition(n: int, m: int, dtype: Any):
    a, b = relu_features(n, 64, 1).astype(dtype), relu_features(m, 64, 2, scale=1.2).astype(dtype)
    expected = by_svd(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_moments_give_the_distance_of_their_rows(n: int, m: int):
    a, b = relu_features(n, 64, 1), relu_features(m, 64, 2, scale=1.2)
    expected = by_svd(a, b)
    assert frechet_distance(Moments.of(a), b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-9)


def test_both_ways_to_the_trace_agree_and_know_their_error():
    checked = 0
    for n, m in [(300, 300), (1000, 2000), (50, 1000), (150, 200)]:
        a, b = frechet._Set(relu_features(n, 128, 1) + normal(n, 128) / 9), frechet._Set(normal(m, 128, seed=2))
        quick = frechet._quick_nuclear_norm(a, b)
        assert quick is not None
        norm, error = frechet._good_nuclear_norm(a, b)
        assert abs(quick[0] - norm) <= 4 * (quick[1] + error) + ROUNDING * norm
        assert quick[1] < 1e-9 * norm
        checked += 1
    assert checked == 4


def test_the_quick_way_is_left_where_it_would_lose_digits(monkeypatch: pytest.MonkeyPatch):
    asked = []
    good = frechet._good_nuclear_norm
    monkeypatch.setattr(frechet, "_good_nuclear_norm", lambda a, b: asked.append(1) or good(a, b))
    frechet_distance(normal(500, 64, seed=1), 2 * normal(500, 64, seed=2))
    assert asked == []
    basis = np.linalg.qr(normal(64, 64, seed=1))[0]
    size = np.logspace(0, -6, 64)
    frechet_distance(normal(500, 64, seed=1) * size @ basis, normal(500, 64, seed=2) * size[::-1] @ basis)
    assert asked == [1]


# ---- against others


@pytest.mark.parametrize(("n", "m"), [(200, 200), (100, 400), (1000, 300)])
def test_agrees_with_scipy_sqrtm(n: int, m: int):
    a, b = normal(n, 64, seed=1) + 0.1, normal(m, 64, seed=2) @ (np.eye(64) + normal(64, 64, seed=3) / 20)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-9)


@peers
@pytest.mark.parametrize(("n", "m"), [(50, 40), (200, 200), (1000, 500)])
def test_agrees_with_pytorch_fid(n: int, m: int):
    theirs = pytest.importorskip("pytorch_fid.fid_score")
    a, b = relu_features(n, 64, 1), relu_features(m, 64, 2, scale=1.3)
    moments = [part for x in (a, b) for part in (x.mean(axis=0), np.cov(x, rowvar=False))]
    assert frechet_distance(a, b) == pytest.approx(theirs.calculate_frechet_distance(*moments), rel=1e-4)


@peers
@pytest.mark.parametrize(("n", "m"), [(50, 40), (200, 200), (1000, 500)])
def test_agrees_with_torch_fidelity(n: int, m: int):
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    torch = pytest.importorskip("torch")
    a, b = relu_features(n, 64, 1), relu_features(m, 64, 2, scale=1.3)
    found = theirs.fid_statistics_to_metric(
        *(theirs.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)), verbose=False
    )
    assert frechet_distance(a, b) == pytest.approx(found["frechet_inception_distance"], rel=1e-4)


@peers
def test_kernel_distance_agrees_with_torch_fidelity():
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = relu_features(90, 64, 1), relu_features(90, 64, 2, scale=1.3)
    kernel = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    kernels = [theirs.kernel_poly(x, y, **kernel) for x, y in ((a, a), (a, b), (b, b))]
    found = theirs.mmd2(*kernels, mmd_est="unbiased")
    assert kernel_distance(a, b) == pytest.approx(found, rel=1e-9)


# ---- zero, and what is not zero


@pytest.mark.parametrize("num", [2, 40, 64, 65, 300])
def test_equal_sets_are_at_distance_zero(num: int):
    a = relu_features(num, 64, 1)
    for left in (a, Moments.of(a)):
        for right in (a, a.copy(), Moments.of(a)):
            found = frechet_distance(left, right)
            assert found == 0.0
            assert math.copysign(1, found) == 1
    assert frechet_distance(a.astype(np.float32), a.astype(np.float32)) == 0.0


@pytest.mark.parametrize("num", [2, 40, 64, 65, 100, 300, 3000])
@pytest.mark.parametrize("kind", ["relu", "steep", "far"])
def test_another_order_is_the_same_set(num: int, kind: str):
    a = relu_features(num, 64, 1)
    if kind == "steep":
        a = normal(num, 64) * np.logspace(0, -6, 64) @ np.linalg.qr(normal(64, 64, seed=3))[0]
    if kind == "far":
        a = a + 1e3
    b = np.random.default_rng(4).permutation(a)
    limit = 1e-12 * traces(a, b)
    assert frechet_distance(a, b) <= limit
    if kind == "relu":
        assert frechet_distance(a, b) == 0.0
    assert frechet_distance(Moments.of(a), Moments.of(b)) <= limit


@pytest.mark.parametrize("num", [2, 40, 64, 65, 300])
@pytest.mark.parametrize("by", [1e-3, 1.0, 50.0])
def test_shifted_by_a_constant(num: int, by: float):
    a = relu_features(num, 64, 1)
    b = a + by
    actual = float(np.sum((b.mean(axis=0) - a.mean(axis=0)) ** 2))
    assert frechet_distance(a, b) == pytest.approx(actual, rel=1e-12)
    assert frechet_distance(a, b) == pytest.approx(by * by * 64, rel=1e-12 if by >= 1 else 1e-11)


@pytest.mark.parametrize("num", [40, 300])
def test_small_differences_are_not_hidden(num: int):
    a = normal(num, 64, seed=1)
    # one channel wider by a hundred-thousandth: (s1 - s2)^2 where all channels are uncorrelated
    a = orthonormal(num, 39, 1) @ np.eye(39, 64) if num == 40 else orthonormal(num, 64, 1)
    b = a.copy()
    b[:, 3] *= 1 + 1e-5
    expected = 1e-10 / (num - 1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=0.01)
    # the means alone differ, by much less than the covariances could tell
    c = a.copy()
    c[:, 3] += 1e-9
    assert frechet_distance(a, c) == pytest.approx(1e-18, rel=1e-3)


# ---- properties


@st.composite
def sets(draw: st.DrawFn, max_rows: int = 24, num: int = 2) -> list[Floats]:
    """Sets of one width, some without full rank, with equal rows, with dead channels or far from the origin."""
    dim = draw(st.integers(1, 10))
    found = []
    for _ in range(num):
        rows = draw(st.integers(2, max_rows))
        generator = np.random.default_rng(draw(st.integers(0, 10_000)))
        rank = draw(st.integers(1, dim))
        x = generator.standard_normal((rows, rank)) @ generator.standard_normal((rank, dim))
        kind = draw(st.sampled_from(["plain", "relu", "repeated", "constant", "far", "steep"]))
        if kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "repeated":
            x = x[generator.integers(0, max(1, rows // 3), size=rows)]
        elif kind == "constant":
            x = np.repeat(x[:1], rows, axis=0)
        elif kind == "far":
            x = x + 100
        elif kind == "steep":
            x = x * np.logspace(0, -8, dim)
        found.append(x)
    return found


def near(found: float, expected: float, a: Floats, b: Floats) -> bool:
    """Whether two distances are equal up to rounding, which is relative to the traces and to the means."""
    size = traces(a, b) + float(np.sum(a.mean(axis=0) ** 2) + np.sum(b.mean(axis=0) ** 2))
    return abs(found - expected) <= 1e-11 * max(size, abs(expected))


@given(sets())
@settings(max_examples=150, deadline=None)
def test_never_negative_never_nan_and_symmetric(pair: list[Floats]):
    a, b = pair
    found = frechet_distance(a, b)
    assert found >= 0
    assert math.isfinite(found)
    assert near(found, frechet_distance(b, a), a, b)
    assert near(found, by_svd(a, b), a, b)
    of_moments = frechet_distance(Moments.of(a), Moments.of(b))
    assert of_moments >= 0
    assert abs(of_moments - found) <= 1e-6 * (traces(a, b) + found) + 1e-12


@given(sets(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_turning_and_moving_both_changes_nothing(pair: list[Floats], seed: int):
    a, b = pair
    dim = a.shape[1]
    turn, move = np.linalg.qr(normal(dim, dim, seed=seed))[0], normal(dim, seed=seed + 1)
    c, d = a @ turn + move, b @ turn + move
    assert near(frechet_distance(c, d), frechet_distance(a, b), np.concatenate([a, c]), np.concatenate([b, d]))


@given(sets(), st.sampled_from([-3.0, 0.125, 1e-4, 1e5]))
@settings(max_examples=60, deadline=None)
def test_scaling_both_scales_by_the_square(pair: list[Floats], by: float):
    a, b = pair
    assert near(frechet_distance(by * a, by * b), by * by * frechet_distance(a, b), by * a, by * b)


@given(sets(num=1), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_equal_and_permuted_sets_are_at_distance_zero(one: list[Floats], seed: int):
    (a,) = one
    assert frechet_distance(a, a.copy()) == 0.0
    order = np.random.default_rng(seed).permutation(len(a))
    size = 2 * traces(a, a) + float(np.sum(a.mean(axis=0) ** 2))
    assert frechet_distance(a, a[order]) <= 1e-12 * size


# ---- moments


@given(st.integers(1, 12), st.lists(st.integers(0, 15), min_size=1, max_size=8), st.sampled_from([0.0, 1e6]))
@settings(max_examples=100, deadline=None)
def test_batches_of_any_size_give_the_same_moments(dim: int, batches: list[int], mean: float):
    num = sum(batches)
    assume(num >= 2)
    x = normal(num, dim, seed=num) + mean
    moments = Moments()
    for part in np.split(x, np.cumsum(batches)[:-1]):
        moments.add(part)
    assert moments.num == num
    assert moments.dim == dim
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-13, atol=1e-13)
    expected = np.atleast_2d(np.cov(x, rowvar=False))
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-9, atol=1e-9)


def test_moments_hold_no_more_than_d_rows():
    moments = Moments()
    moments.add(normal(5, 8))
    moments.add(normal(3, 8))
    assert moments.rows is not None
    assert moments.rows.shape == (8, 8)
    moments.add(normal(1, 8))
    assert moments.rows is None
    assert moments._scatter.shape == (8, 8)
    assert moments._held is None


def test_a_batch_may_be_overwritten_after_it_was_added():
    batch, moments = normal(4, 8), Moments()
    moments.add(batch)
    expected = moments.covariance
    batch[:] = 0
    np.testing.assert_array_equal(moments.covariance, expected)
    given_mean = moments.mean
    given_mean[:] = 9
    assert not np.array_equal(moments.mean, given_mean)


def test_a_large_mean_costs_no_digits_in_float32():
    x = (normal(3000, 4) + 3000).astype(np.float32)
    expected = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(Moments.of(x).covariance, expected, rtol=1e-10, atol=1e-10)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch):
    a, b = relu_features(500, 32, 1), relu_features(450, 32, 2, scale=1.3)
    basis = np.linalg.qr(normal(32, 32, seed=1))[0]
    steep = [normal(500, 32, seed=s) * np.logspace(0, -e, 32) @ basis for s, e in ((1, 6), (2, -6))]
    whole = frechet_distance(a, b), frechet_distance(*steep)
    monkeypatch.setattr(frechet, "NUM_ROWS", 70)
    assert (frechet_distance(a, b), frechet_distance(*steep)) == pytest.approx(whole, rel=1e-11)


# ---- the kernel distance


def test_kernel_distance_by_a_double_loop():
    a, b = normal(7, 3, seed=1), normal(5, 3, seed=2) + 0.5

    def k(x: Floats, y: Floats) -> float:
        return float((x @ y / 3 + 1) ** 3)

    first = sum(k(a[i], a[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    second = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / (5 * 4)
    between = sum(k(x, y) for x in a for y in b) / (7 * 5)
    assert kernel_distance(a, b) == pytest.approx(first + second - 2 * between, rel=1e-12)


def test_kernel_distance_in_blocks():
    x = relu_features(50, 16, 1)
    y = relu_features(31, 16, 2)
    for num in (1, 7, 50, 2048):
        assert frechet._kernel_sum(x, num=num) == pytest.approx(frechet._kernel_sum(x), rel=1e-12)
        assert frechet._kernel_sum(x, y, num=num) == pytest.approx(frechet._kernel_sum(x, y), rel=1e-12)
    rows = relu_features(2100, 8, 3)
    kernel = (rows @ rows.T / 8 + 1) ** 3
    assert frechet._kernel_sum(rows) == pytest.approx(kernel.sum() - np.trace(kernel), rel=1e-12)


def test_kernel_distance_has_no_bias():
    generator = np.random.default_rng(0)
    draws = [kernel_distance(*generator.standard_normal((2, 12, 4))) for _ in range(2000)]
    error = np.std(draws) / math.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error
    assert min(draws) < 0
    apart = [kernel_distance(*(generator.standard_normal((2, 12, 4)) * [[[1]], [[1.5]]])) for _ in range(2000)]
    assert np.mean(apart) > 10 * error


# ---- samples


def test_extrapolation_takes_the_bias_away():
    raw, found = [], []
    for seed in range(6):
        a, b = relu_features(1200, 32, 2 * seed), relu_features(1200, 32, 2 * seed + 1)
        raw.append(frechet_distance(a, b))
        result = extrapolated_distance(a, b, seed=seed)
        assert result.distances[-1] == raw[-1]
        assert result.sizes[0] == 120
        assert result.sizes[-1] == 1200
        assert len(result.sizes) == len(result.distances) == 15
        assert result.slope > 0
        found.append(result.value)
    assert np.mean(np.abs(found)) < np.mean(raw) / 2
    assert abs(np.mean(found)) < np.mean(raw) / 4


def test_extrapolation_is_a_line_in_one_over_n_and_a_function_of_its_seed():
    a, b = relu_features(150, 16, 1), relu_features(90, 16, 2)
    found = extrapolated_distance(a, b, num_sizes=5, seed=3)
    assert found.sizes == (32, 46, 61, 76, 90)
    x = np.array([[1, 1 / n] for n in found.sizes])
    weight = np.array(found.sizes)
    value, slope = np.linalg.lstsq(x * weight[:, None], np.array(found.distances) * weight)[0]
    assert (found.value, found.slope) == pytest.approx((value, slope), rel=1e-9)
    assert extrapolated_distance(a, b, num_sizes=5, seed=3) == found
    assert extrapolated_distance(a, b, num_sizes=5, seed=4) != found
    assert isinstance(found, Extrapolated)


def test_extrapolation_of_few_images_uses_the_upper_half():
    a, b = relu_features(40, 64, 1), relu_features(40, 64, 2)
    assert extrapolated_distance(a, b, seed=0).sizes[0] == 20
    tiny = extrapolated_distance(a[:4], b[:4], seed=0)
    assert tiny.sizes == (2, 3, 4)


def test_halves_share_nothing():
    counts = np.zeros(11)
    for seed in range(200):
        first, second = halves(11, 5, np.random.default_rng(seed))
        assert len(first) == len(second) == 5
        assert len({*first, *second}) == 10
        assert min(*first, *second) >= 0
        counts[[*first, *second]] += 1
    assert counts.min() > 160  # every number is drawn: 182 times on average
    assert counts.max() < 200
    one = halves(11, 5, np.random.default_rng(1))
    np.testing.assert_array_equal(one, halves(11, 5, np.random.default_rng(1)))


# ---- mistakes


def broken(*values: float) -> Floats:
    x = normal(100, 8)
    x[: len(values), 0] = values
    return x


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (normal(1, 8), DataError, "a set of 1 image has no covariance"),
        (normal(0, 8), DataError, "a set of 0 images has no covariance"),
        (Moments(), DataError, "a set of 0 images has no covariance"),
        (Moments.of(normal(1, 8)), DataError, "a set of 1 image has no covariance"),
        (normal(9, 5), SpecError, "features of 5 and of 8 dimensions cannot be compared"),
        (Moments.of(normal(9, 5)), SpecError, "features of 5 and of 8 dimensions cannot be compared"),
        (normal(8), SpecError, r"features of the shape \[8\]"),
        (normal(8, 0), SpecError, r"features of the shape \[8, 0\]"),
        (np.full((4, 8), "x"), SpecError, "features of the type"),
        (broken(math.nan, math.inf), DataError, "2 of 100 rows of features are not finite"),
        (broken(-math.inf)[:5], DataError, "1 of 5 rows of features are not finite"),
        (broken(math.inf, -math.inf)[:5], DataError, "2 of 5 rows of features are not finite"),
        (broken(1e200, -1e200), DataError, "too large for a covariance"),
        (broken(1e200, -1e200)[:5], DataError, "too large for a covariance"),
        (broken(1.7e308, 1.7e308), DataError, "too large for a mean"),
    ],
)
def test_mistakes_in_features(given: Any, error: type[DataError], message: str):
    good = normal(20, 8, seed=3)
    with pytest.raises(error, match=message) as caught:
        frechet_distance(given, good)
    assert caught.value.hint
    with pytest.raises(error, match=message.replace("of 5 and of 8 d", "of 8 and of 5 d")):
        frechet_distance(good, given)


@pytest.mark.parametrize("of", [kernel_distance, lambda a, b: extrapolated_distance(a, b, seed=0)])
def test_mistakes_in_rows(of: Any):
    good = normal(20, 8)
    for bad, error, message in [
        (normal(20, 5), SpecError, "dimensions cannot be compared"),
        (normal(1, 8), DataError, "a set of 1 image"),
        (broken(math.nan), DataError, "1 of 100 rows of features are not finite"),
        (Moments.of(good), SpecError, "moments have no rows"),
    ]:
        for sides in ((bad, good), (good, bad)):
            with pytest.raises(error, match=message) as caught:
                of(*sides)
            assert caught.value.hint


def test_other_mistakes():
    good = normal(20, 8)
    with pytest.raises(SpecError, match="a line through 1 sizes"):
        extrapolated_distance(good, good, num_sizes=1, seed=0)
    with pytest.raises(DataError, match="3 images are too few"):
        extrapolated_distance(good[:3], good, seed=0)
    with pytest.raises(SpecError, match="two sets of 6 without a common image cannot be drawn from 11") as caught:
        halves(11, 6, np.random.default_rng(0))
    assert caught.value.hint == "give a size from 1 to 5"
    with pytest.raises(SpecError, match="two sets of 0"):
        halves(11, 0, np.random.default_rng(0))
    moments = Moments.of(good)
    with pytest.raises(SpecError, match="features of 8 and of 7 dimensions cannot be compared"):
        moments.add(normal(2, 7))
    with pytest.raises(DataError, match="1 of 100 rows"):
        moments.add(broken(math.nan))
    with pytest.raises(DataError, match="a set of 0 images"):
        _ = Moments().covariance
