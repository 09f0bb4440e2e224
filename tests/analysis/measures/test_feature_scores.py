"""Scores of frozen features: by hand, and against explicit inverses, SciPy's optimisers and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from sslcurr.analysis.measures.feature_scores import MIN_NOISE, h_score, logme, rankme
from sslcurr.errors import DataError

SCORES = {
    "rankme": lambda x, y: rankme(x),
    "logme": logme,
    "h_score": h_score,
    "h_score without shrinkage": lambda x, y: h_score(x, y, shrinkage=False),
}
LABELLED = {name: score for name, score in SCORES.items() if name != "rankme"}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
every_labelled_score = pytest.mark.parametrize("score", LABELLED.values(), ids=LABELLED)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None, derandomize=True)
# N > D, N < D, N = D, N > rank < D, N > D with a copied column, N < D with few directions
SHAPES = {
    "tall": (40, 5, 5, False),
    "wide": (12, 30, 30, False),
    "square": (15, 15, 15, False),
    "low rank": (30, 20, 4, False),
    "copied": (40, 5, 5, True),
    "wide low rank": (12, 30, 4, False),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def case(seed, n, d, rank, copied, classes=3, signal=1.0):
    """Features that tell the classes apart somewhat, not centred, and labels in which each class occurs."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(n) % classes)
    x = signal * generator.normal(size=(classes, rank))[y] + generator.normal(size=(n, rank)) + 0.5
    if rank < d:
        x = x @ generator.normal(size=(rank, d))
    return (np.hstack([x, x[:, :1]]) if copied else x), y


def orthogonal(generator, d):
    return np.linalg.qr(generator.normal(size=(d, d)))[0]


# ---- RankMe


def with_singular_values(values, n, d, seed=0):
    generator = np.random.default_rng(seed)
    k = len(values)
    return orthogonal(generator, n)[:, :k] * values @ orthogonal(generator, d)[:k]


@pytest.mark.parametrize("n", [2, 7, 64])
def test_rankme_of_an_identity_is_its_size(n):
    assert rankme(np.eye(n)) == pytest.approx(n, rel=1e-12)


def test_rankme_of_one_direction_is_one():
    x = np.outer(np.arange(1.0, 9.0), np.arange(-3.0, 4.0))
    assert rankme(x) == pytest.approx(1, abs=1e-12)
    assert rankme(np.full((5, 3), 0.1)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(4, 9), (9, 4)])
def test_rankme_of_two_singular_values(n, d):
    # shares 3/4 and 1/4: exp of their entropy is 4 / 3^(3/4)
    assert rankme(with_singular_values([3.0, 1.0], n, d)) == pytest.approx(4 / 3**0.75, rel=1e-12)


def test_rankme_of_a_singular_value_of_zero():
    assert rankme(np.diag([3.0, 1.0, 0.0])) == pytest.approx(4 / 3**0.75, rel=1e-12)


def test_rankme_does_not_centre():
    # rows (1, 1) and (1, -1) are at right angles; centred, they would lie on one line
    assert rankme(np.array([[1.0, 1.0], [1.0, -1.0]])) == pytest.approx(2, rel=1e-12)


@few
@given(seeds, st.sampled_from([(6, 4), (4, 6), (5, 5)]), st.floats(1e-3, 1e3))
def test_rankme_does_not_change_under_orthogonal_maps_and_scaling(seed, shape, scale):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=shape)
    value = rankme(x)
    assert 1 <= value <= min(shape)
    assert rankme(-scale * x @ orthogonal(generator, shape[1])) == pytest.approx(value, rel=1e-9)
    assert rankme(orthogonal(generator, shape[0]) @ x) == pytest.approx(value, rel=1e-9)
    assert rankme(np.vstack([x, x])) == pytest.approx(value, rel=1e-9)


def test_rankme_of_nothing_is_a_mistake():
    with pytest.raises(DataError, match="all features are zero"):
        rankme(np.zeros((4, 3)))


# ---- LogME


def textbook(x, y, alpha, beta):
    """Log evidence of a Bayesian linear regression, by D x D matrices (Bishop, 3.86)."""
    n, d = x.shape
    a = alpha * np.eye(d) + beta * x.T @ x
    m = beta * np.linalg.solve(a, x.T @ y)
    fit = beta / 2 * np.sum((y - x @ m) ** 2) + alpha / 2 * m @ m
    logs = d * math.log(alpha) + n * math.log(beta) - n * math.log(2 * math.pi) - np.linalg.slogdet(a)[1]
    return logs / 2 - fit


def gaussian(x, y, alpha, beta):
    """The same as the density of the targets."""
    covariance = np.eye(len(x)) / beta + x @ x.T / alpha
    return scipy.stats.multivariate_normal.logpdf(y, cov=covariance)


def slow_logme(x, y):
    found = []
    for c in np.unique(y):
        target = (y == c).astype(float)
        tries = [
            scipy.optimize.minimize(
                lambda p, t=target: -textbook(x, t, *np.exp(p)) / len(x),
                [start, 1.0],
                method="Nelder-Mead",
                bounds=[(-25, 25), (-25, -math.log(MIN_NOISE))],
                options={"xatol": 1e-7, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000},
            )
            for start in (-3.0, 1.0, 5.0)
        ]
        best = min(tries, key=lambda found: found.fun)
        alpha, beta = np.exp(best.x)
        assert gaussian(x, target, alpha, beta) / len(x) == pytest.approx(-best.fun, rel=1e-5)
        found.append(-best.fun)
    return float(np.mean(found))


@pytest.mark.parametrize("shape", ["tall", "low rank", "copied", "wide low rank"])
@pytest.mark.parametrize("seed", [0, 1])
def test_logme_agrees_with_the_slow_textbook(shape, seed):
    x, y = case(seed, *SHAPES[shape])
    assert logme(x, y) == pytest.approx(slow_logme(x, y), rel=1e-6)


def test_logme_agrees_with_the_slow_textbook_for_wide_features_with_noise():
    x, y = case(3, 25, 30, 30, False, signal=0.5)
    x[:, 3:] /= 30  # three strong directions: the noise is not fitted away
    assert logme(x, y) == pytest.approx(slow_logme(x, y), rel=1e-5)


def test_logme_by_hand():
    # One image of each class, features of the first only: y = (1, 0) and (0, 1), F F^T = diag(1, 0).
    # Density of (1, 0): Normal(1; 0, v + w) Normal(0; 0, v), v the noise, w >= 0: v at its bound, v + w = 1.
    # Density of (0, 1): w = 0, v = 1/2.
    first = (-math.log(2 * math.pi) - math.log(MIN_NOISE) / 2 - 1 / 2) / 2
    second = (-math.log(2 * math.pi) - math.log(1 / 2) - 1) / 2
    x, y = np.array([[1.0], [0.0]]), np.array([4, 9])
    assert logme(x, y) == pytest.approx((first + second) / 2, rel=1e-8)


def test_logme_of_class_codes_is_bounded_by_the_least_noise():
    # Of n dimensions n - 2 hold noise of variance v alone, at its bound; the other two have the variance w, and the
    # target has the square n / 2 along one of them and 0 along the other: the best w is n / 4.
    n = 20
    y = np.arange(n) % 2
    logs = n * math.log(2 * math.pi) + (n - 2) * math.log(MIN_NOISE) + 2 * math.log(n / 4) + 2
    assert logme(np.eye(2)[y], y) == pytest.approx(-logs / 2 / n, rel=1e-9)


@pytest.mark.parametrize("x", [np.zeros((6, 3)), np.array([[1.0], [-1.0], [1.0], [-1.0], [0.0], [0.0]])])
def test_logme_of_features_that_say_nothing_is_that_of_noise(x):
    y = np.array([0, 0, 1, 1, 1, 1])  # both classes' sums of features are 0
    expected = np.mean([-math.log(2 * math.pi * share) / 2 - 1 / 2 for share in (1 / 3, 2 / 3)])
    assert logme(x, y) == pytest.approx(expected, rel=1e-12)


def test_logme_of_constant_features():
    # not centred: one direction, which explains the share of each class
    x, y = np.full((20, 4), 0.1), np.arange(20) % 4
    assert logme(x, y) == pytest.approx(slow_logme(x, y), rel=1e-6)
    assert logme(x, y) > logme(np.zeros((20, 4)), y)


@few
@given(
    seeds,
    st.sampled_from(list(SHAPES.values())),
    st.floats(-15, 15),
    st.floats(-10, 15),
)
def test_no_alpha_and_beta_do_better_than_logme(seed, shape, log_alpha, log_beta):
    x, y = case(seed, *shape)
    alpha, beta = math.exp(log_alpha), math.exp(log_beta)
    each = [textbook(x, (y == c).astype(float), alpha, beta) for c in np.unique(y)]
    assert np.mean(each) / len(x) <= logme(x, y) + 1e-9


@few
@given(seeds, st.sampled_from(list(SHAPES.values())), st.floats(1e-3, 1e3))
def test_logme_does_not_change_under_orthogonal_maps_and_scaling(seed, shape, scale):
    x, y = case(seed, *shape)
    generator = np.random.default_rng(seed)
    value = logme(x, y)
    assert -1.42 < value < 10.6
    assert logme(-scale * x @ orthogonal(generator, x.shape[1]), y) == pytest.approx(value, rel=1e-6)
    order = generator.permutation(len(x))
    assert logme(x[order], 7 - 2 * y[order]) == pytest.approx(value, rel=1e-6)


def test_logme_is_per_image():
    x, y = case(0, *SHAPES["tall"])
    once, many = logme(x, y), logme(np.vstack([x] * 200), np.hstack([y] * 200))
    assert many == pytest.approx(once, abs=0.3)
    assert many > once  # more images of the same kind determine the weights better


def test_logme_takes_the_higher_of_two_maxima():
    # a strong feature that explains a little, and a weak one, among weak ones of noise, that explains much more
    generator = np.random.default_rng(0)
    y = np.arange(20) % 2
    x = generator.normal(size=(20, 6)) * [100, 0.01, 0.01, 0.01, 0.01, 0.01]
    x[:, 0] += 60 * y
    x[:, 1] += 0.03 * y
    target = y.astype(float)

    def best_beta(log_q):  # alpha / beta
        v = np.eye(20) + x @ x.T / math.exp(log_q)
        beta = 20 / (target @ np.linalg.solve(v, target))
        return textbook(x, target, math.exp(log_q) * beta, beta)

    values = np.array([best_beta(log_q) for log_q in np.linspace(-20, 20, 200)])
    tops = np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])) + 1
    assert len(tops) == 2
    assert values[tops[0]] > values[tops[1]] + 0.3
    assert logme(x, y) == pytest.approx(slow_logme(x, y), rel=1e-6)


# ---- H-score


def explicit_h_score(x, y, shrinkage):
    """By D x D matrices, as the papers write it."""
    means = np.stack([x[y == label].mean(axis=0) for label in y])
    between = np.cov(means, rowvar=False, bias=True).reshape(x.shape[1], -1)
    if not shrinkage:
        return np.trace(np.linalg.inv(np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1)) @ between)
    covariance, a = ledoit_wolf(x)
    return np.trace(np.linalg.inv(covariance) @ ((1 - a) * between))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_h_score_of_class_codes_is_classes_less_one(classes):
    y = np.arange(40) % classes
    y[:7] = 0  # unequal classes
    assert h_score(np.eye(classes)[y], y, shrinkage=False) == pytest.approx(classes - 1, rel=1e-10)


def test_h_score_by_hand():
    # one feature with variance 5/4; the class means 1 and 2 have variance 1/4
    x, y = np.array([[0.0], [2.0], [1.0], [3.0]]), np.array([0, 0, 1, 1])
    assert h_score(x, y) == pytest.approx(1 / 5, rel=1e-12)
    assert h_score(x, y, shrinkage=False) == pytest.approx(1 / 5, rel=1e-12)
    # a constant feature and a copy add nothing
    wide = np.hstack([x, np.full((4, 1), 0.1), 3 * x])
    assert h_score(wide, y, shrinkage=False) == pytest.approx(1 / 5, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_h_score_without_shrinkage_agrees_with_the_explicit_inverse(seed):
    x, y = case(seed, *SHAPES["tall"])
    y[y == 2] = seed % 2  # unequal classes
    assert h_score(x, y, shrinkage=False) == pytest.approx(explicit_h_score(x, y, False), rel=1e-10)


@every_shape
@pytest.mark.parametrize("seed", [0, 1])
def test_h_score_agrees_with_the_explicit_inverse_of_scikit_learns_shrinkage(shape, seed):
    x, y = case(seed, *shape, signal=2.0)
    assert 0 < ledoit_wolf(x)[1] < 1
    assert h_score(x, y) == pytest.approx(explicit_h_score(x, y, True), rel=1e-9)


@few
@given(seeds)
def test_h_score_without_shrinkage_does_not_change_under_invertible_maps(seed):
    x, y = case(seed, *SHAPES["tall"])
    generator = np.random.default_rng(seed)
    turn, back = orthogonal(generator, 5), orthogonal(generator, 5)
    any_map = turn * generator.uniform(0.01, 100, size=5) @ back
    value = h_score(x, y, shrinkage=False)
    assert 0 <= value <= 2
    assert h_score(x @ any_map + 3.0, y, shrinkage=False) == pytest.approx(value, rel=1e-8)


@few
@given(seeds, st.sampled_from(list(SHAPES.values())), st.floats(1e-3, 1e3))
def test_h_score_does_not_change_under_orthogonal_maps_shifts_and_scaling(seed, shape, scale):
    x, y = case(seed, *shape)
    value = h_score(x, y)
    turned = -scale * (x @ orthogonal(np.random.default_rng(seed), x.shape[1]) + 1.0)
    assert 0 <= value <= 2
    assert h_score(turned, 7 - 2 * y) == pytest.approx(value, rel=1e-6)


def test_h_score_without_shrinkage_says_nothing_of_wide_features_but_with_it_does():
    x, y = case(0, 12, 30, 30, False, signal=3.0)
    shuffled = np.random.default_rng(0).permutation(y)
    assert h_score(x, y, shrinkage=False) == pytest.approx(2, rel=1e-9)
    assert h_score(x, shuffled, shrinkage=False) == pytest.approx(2, rel=1e-9)
    assert h_score(x, y) > h_score(x, shuffled) + 0.3


@pytest.mark.parametrize("shrinkage", [True, False])
def test_h_score_of_constant_features_is_zero(shrinkage):
    x = np.tile([0.1, 1e5 / 3, -7.0], (11, 1))
    assert h_score(x, np.arange(11) % 2, shrinkage=shrinkage) == 0.0


def test_h_score_of_a_covariance_that_is_a_multiple_of_the_identity_is_not_shrunk():
    x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    for seed in range(20):  # rounding goes either way
        turned = x @ orthogonal(np.random.default_rng(seed), 2)
        assert h_score(turned, np.array([0, 0, 1, 1])) == pytest.approx(1, rel=1e-10)


def test_h_score_of_a_covariance_shrunk_wholly_is_zero():
    x = np.array([[1.0, 1.1], [1.0, -1.1], [-1.0, 1.1], [-1.0, -1.1], [2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert ledoit_wolf(x)[1] == 1
    assert h_score(x, np.array([0, 0, 1, 1, 0, 1, 0, 1])) == 0.0


# ---- all


@every_labelled_score
@pytest.mark.parametrize("n", [300, 60])
def test_informative_features_score_higher_than_shuffled_labels(score, n):
    d = 40  # n > d: the H-score without shrinkage says something too
    x, y = case(0, n, d, d, False, classes=4, signal=1.0)
    shuffled = [score(x, np.random.default_rng(seed).permutation(y)) for seed in range(5)]
    weaker = score(case(0, n, d, d, False, classes=4, signal=0.5)[0], y)
    assert score(x, y) > weaker > max(shuffled)


@every_score
@every_shape
def test_float32_and_large_and_small_numbers_are_taken(score, shape):
    x, y = case(0, *shape)
    value = score(x, y)
    assert math.isfinite(value)
    if shape[0] > shape[1] == shape[2] and not shape[3]:  # of full rank, which rounding does not change
        assert score(x.astype(np.float32), y) == pytest.approx(value, rel=1e-5)
    assert score(x * 1e200, y) == pytest.approx(value, rel=1e-6)
    assert score(x * 1e-200, y) == pytest.approx(value, rel=1e-6)


@every_score
def test_features_are_left_as_they_were(score):
    x, y = case(0, *SHAPES["tall"])
    before = x.copy()
    score(x, y)
    assert np.array_equal(x, before)


@every_score
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 3)), "at least 2 images, got 1"),
        (np.ones((0, 3)), "at least 2 images, got 0"),
        (np.ones(3), r"shape \[3\]"),
        (np.ones((3, 0)), r"shape \[3, 0\]"),
        (np.array([[1.0, math.nan], [math.inf, -math.inf], [0.0, 1.0]]), "of 2 of 3 images are NaN or infinite"),
    ],
)
def test_features_that_cannot_be_scored(score, x, message):
    with pytest.raises(DataError, match=message) as raised:
        score(x, np.arange(len(x)))
    assert raised.value.hint


@every_labelled_score
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 1]), r"features are of 3 images, labels have the shape \[2\]"),
        (np.array([[0], [1], [0]]), r"labels have the shape \[3, 1\]"),
        (np.array([5, 5, 5]), "all images are of one class"),
        (np.array([0.0, math.nan, 1.0]), "labels of 1 of 3 images are NaN"),
    ],
)
def test_labels_that_do_not_fit(score, y, message):
    with pytest.raises(DataError, match=message) as raised:
        score(np.eye(3), y)
    assert raised.value.hint
