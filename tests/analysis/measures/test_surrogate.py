"""The model of orderings and the knowledge gradient, by hand and against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from sslcurr.analysis.measures.beliefs import Belief, beliefs_of, drawn, expected_gains, mean_and_std
from sslcurr.analysis.measures.surrogate import (
    DECAY,
    JITTER,
    LEVEL,
    LUCK,
    PARTS,
    Measured,
    Runs,
    Scales,
    Space,
    fenced,
    fitted,
    luck_covariances,
)

ORDERINGS = [order for length in (1, 2, 3) for order in itertools.permutations(range(3), length)]
SCALES = {"task": 1.2, "pair": 0.7, "length": 0.4, "own": 0.9, "seed": 1.1, "stages": 0.8, "run": 0.6}
RUNS = [(0, 0), (1, 0), (2, 0), (5, 0), (9, 0), (9, 1), (12, 1)]
VALUES = np.array([60.0, 61.5, 58.0, 62.0, 63.5, 62.5, 59.5])


@pytest.fixture
def measured() -> Measured:
    return Measured(Space.of(ORDERINGS, 3), Runs.of(RUNS), VALUES)


def test_features_by_hand():
    space = Space.of([(0,), (1, 0)], 2)
    task, pair, length = (space.features[name] for name in ("task", "pair", "length"))
    # By distance from the end, then the last task; scaled to a mean square of 1.
    raw = np.array([[1, 0, 1, 0], [1, DECAY, 1, 0]])
    assert task == pytest.approx(raw / np.sqrt(np.square(raw).sum(axis=1).mean()))
    assert pair == pytest.approx(np.array([[0, 0, 0, 0], [0, 0, 1, 0]]) * np.sqrt(2))
    assert length == pytest.approx(np.array([[0, 1, 0], [0, 0, 1]]))
    assert space.covariance("own", np.array([0, 1]), np.array([1])).tolist() == [[0], [1]]


def test_shared_luck_by_hand():
    a, b, c = (0,), (0, 1), (1, 0)
    space = Space.of([a, b, c], 2)
    shared = space.stages @ space.stages.T
    # Prefix (0,) is in both a and b, where one task follows it; b with itself has two stages.
    assert shared[0].tolist() == pytest.approx([1, DECAY, 0])
    assert shared[1, 1] == pytest.approx(1 + DECAY**2)
    assert shared[1, 2] == 0
    luck = luck_covariances(space, Runs.of([(0, 0), (1, 1)]), Runs.of([(0, 0), (1, 0), (0, 1)]))
    assert luck["seed"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert luck["run"].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert luck["stages"] == pytest.approx(np.array([[1, DECAY, 0], [0, 0, DECAY]]))


class Given(Kernel):
    """A kernel that looks up a covariance of numbered points."""

    def __init__(self, covariance: np.ndarray) -> None:
        self.covariance = covariance

    def __call__(self, X, Y=None, eval_gradient=False):  # noqa: N803
        other = X if Y is None else Y
        return self.covariance[np.ix_(X[:, 0].astype(int), other[:, 0].astype(int))]

    def diag(self, X):  # noqa: N803
        return np.diag(self.covariance)[X[:, 0].astype(int)]

    def is_stationary(self):
        return False


def joint(space: Space, runs: list[tuple[int, int]]) -> np.ndarray:
    """[C + N, C + N] prior covariance of the orderings' means and of runs, term by term."""
    everyone = np.arange(len(space))
    rows = np.concatenate([everyone, [row for row, _ in runs]])
    total = np.full((len(rows), len(rows)), LEVEL**2)
    for part in space.parts:
        total += SCALES[part] ** 2 * space.covariance(part, rows, rows)
    for name, luck in luck_covariances(space, Runs.of(runs), Runs.of(runs)).items():
        total[len(space) :, len(space) :] += SCALES[name] ** 2 * luck
    return total


def test_the_posterior_is_that_of_a_gaussian_process_of_scikit_learn(measured):
    space, number = measured.space, len(measured.space)
    covariance = joint(space, RUNS)
    points = np.arange(len(covariance), dtype=float)[:, None]
    process = GaussianProcessRegressor(Given(covariance), alpha=JITTER, optimizer=None)
    process.fit(points[number:], VALUES - VALUES.mean())
    mean, expected = process.predict(points[:number], return_cov=True)
    belief = Belief.of(measured, SCALES)
    assert belief.mean == pytest.approx(mean + VALUES.mean(), abs=1e-5)
    assert belief.covariance(np.arange(number)) == pytest.approx(expected, abs=1e-4)
    assert belief.variance == pytest.approx(np.diag(expected), abs=1e-4)
    log = process.log_marginal_likelihood_value_ + len(VALUES) / 2 * np.log(2 * np.pi)
    ours = measured.log_likelihoods(np.array([[SCALES[name] for name in measured.names]]))
    assert ours[0] == pytest.approx(log, abs=1e-5)


def test_a_new_run_moves_means_as_conditioning_on_it_does(measured):
    belief, run = Belief.of(measured, SCALES), (4, 1)
    everyone = np.arange(len(ORDERINGS))
    slopes = belief.slopes(Runs.of([run]), everyone)[0]
    # After a value one standard deviation above what is expected, all means are higher by the slopes.
    own = joint(measured.space, [*RUNS, run])
    seen = np.arange(len(ORDERINGS), len(ORDERINGS) + len(RUNS))
    gain = np.linalg.solve(own[np.ix_(seen, seen)] + JITTER * np.eye(len(RUNS)), own[seen, -1])
    expected = VALUES.mean() + gain @ (VALUES - VALUES.mean())
    std = np.sqrt(own[-1, -1] - gain @ own[seen, -1])
    more = Measured(measured.space, Runs.of([*RUNS, run]), np.append(VALUES, expected + std))
    again = Belief.of(more, SCALES)
    # Not to the last digit: the level that is subtracted is now the mean of one value more.
    assert again.mean - belief.mean == pytest.approx(slopes, abs=0.01)
    ahead = belief.after(*run)
    assert ahead.mean is belief.mean
    assert ahead.covariance(everyone) == pytest.approx(again.covariance(everyone), abs=1e-4)
    further = Runs.of([(7, 0), (4, 0)])
    assert ahead.slopes(further, everyone) == pytest.approx(again.slopes(further, everyone), abs=1e-4)


def test_expected_gains_by_hand_integral_and_brute_force():
    # Two lines: E max(0, b Z) = b / sqrt(2 pi).
    assert expected_gains(np.zeros(2), np.array([[0.0, 2.0]])) == pytest.approx([2 / np.sqrt(2 * np.pi)])
    # Equal slopes teach nothing, nor does a line that is never the highest.
    assert expected_gains(np.array([1.0, 0.0]), np.array([[3.0, 3.0]])).tolist() == [0.0]
    generator = np.random.default_rng(0)
    for _ in range(6):
        means, slopes = generator.normal(size=6), generator.normal(size=(3, 6))
        for line, gain in zip(slopes, expected_gains(means, slopes), strict=True):

            def integrand(z: float, line=line, means=means) -> float:
                return float((means + line * z).max() * stats.norm.pdf(z))

            crossings = [(means[i] - means[j]) / (line[j] - line[i]) for i, j in itertools.combinations(range(6), 2)]
            near = sorted(z for z in crossings if abs(z) < 9)
            exact = integrate.quad(integrand, -10, 10, points=near, limit=200)[0]
            assert gain == pytest.approx(exact - means.max(), abs=1e-8)


def test_gains_survive_ties_and_far_tails():
    assert expected_gains(np.array([1.0, 1.0, 1.0]), np.array([[0.0, 1.0, 1.0]]))[0] == pytest.approx(0.39894228)
    tiny = expected_gains(np.array([10.0, 0.0]), np.array([[0.0, 1.0]]))[0]
    assert 0 < tiny < 1e-22


def test_draws_have_the_mean_and_covariance_of_the_belief(measured):
    belief = Belief.of(measured, SCALES)
    rows = np.array([0, 4, 9])
    draws = drawn([belief], rows, 40_000)
    assert draws.mean(axis=0) == pytest.approx(belief.mean[rows], abs=0.05)
    assert np.cov(draws.T) == pytest.approx(belief.covariance(rows), abs=0.1)
    assert drawn([belief], rows, 10).tolist() == drawn([belief], rows, 10).tolist()


def test_scales_follow_the_data_and_are_always_the_same():
    space = Space.of([order for n in (1, 2, 3) for order in itertools.permutations(range(4), n)], 4)
    generator, runs = np.random.default_rng(3), [(row, seed) for seed in (0, 1, 2) for row in range(40)]
    own, noise = generator.normal(size=40) * 3, generator.normal(size=len(runs)) * 0.5
    values = np.array([60 + own[row] for row, _ in runs]) + noise
    scales = fitted(Measured(space, Runs.of(runs), values))
    assert scales.typical("own") == pytest.approx(3, abs=0.8)
    assert scales.typical("run") == pytest.approx(0.5, abs=0.2)
    assert scales.weights.sum() == pytest.approx(1)
    again = fitted(Measured(space, Runs.of(runs), values))
    assert (again.values == scales.values).all()
    # Before anything is measured the scales are the priors'.
    prior = fitted(Measured(space, Runs.of([]), np.array([])))
    medians = {name: np.median(prior.of(name)) for name in prior.names}
    expected = {name: scale.median for name, scale in (PARTS | LUCK).items()}
    assert medians == pytest.approx(expected, rel=0.05)


def test_a_side_figure_is_kept_where_it_helps_and_left_out_where_not():
    orderings = [order for n in (1, 2, 3) for order in itertools.permutations(range(4), n)]
    generator = np.random.default_rng(1)
    figure = generator.normal(size=40)
    helpful = 60 + 3 * figure + generator.normal(size=40) * 0.3
    useless = 60 + generator.normal(size=40) * 2
    runs = Runs.of([(row, 0) for row in range(40)])
    space = Space.of(orderings, 4, {"cka": figure})
    assert fitted(Measured(space, runs, helpful)).included("side cka") > 0.95
    assert fitted(Measured(space, runs, useless)).included("side cka") < 0.5


def test_values_far_below_the_rest_are_raised_to_a_fence():
    values = np.array([60.0, 61.0, 62.0, 63.0, 64.0, 10.0])
    middle, std = 61.5, 1.4826 * 1.5
    assert fenced(values) == pytest.approx([60, 61, 62, 63, 64, middle - 3 * std])
    assert fenced(values[-3:]).tolist() == values[-3:].tolist()  # of three nobody knows which is odd
    assert fenced(np.array([60.0, 60.0, 60.0, 60.0, 50.0])).min() == pytest.approx(58.5)


def test_resampled_scales_stand_for_their_weights():
    scales = Scales(("own",), np.array([[1.0], [2.0], [3.0]]), np.array([0.5, 0.0, 0.5]))
    assert sorted(scales.resampled(4).of("own")) == [1, 1, 3, 3]


def test_beliefs_differ_by_their_scales(measured):
    beliefs = beliefs_of(measured, fitted(measured), 8)
    mean, std = mean_and_std(beliefs)
    assert mean == pytest.approx(np.mean([belief.mean for belief in beliefs], axis=0))
    assert (std >= np.sqrt(np.mean([belief.variance for belief in beliefs], axis=0)) - 1e-9).all()
