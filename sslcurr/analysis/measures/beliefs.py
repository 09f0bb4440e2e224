"""What is believed of orderings after some were measured, and how much another run is expected to teach.

Pure functions on arrays, for one draw of the scales of `sslcurr.analysis.measures.surrogate` at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, special

from sslcurr.analysis.measures.surrogate import (
    JITTER,
    LEVEL,
    LUCK,
    Floats,
    Ints,
    Measured,
    Runs,
    Scales,
    Space,
    luck_covariances,
)


@dataclass(frozen=True)
class Belief:
    """The mean accuracies of all orderings over seeds, in points, given what was measured and one draw of the scales.

    Attributes:
        space: C orderings.
        runs: N runs that it is conditioned on.
        features: [C, F] whose products are the prior covariance of the linear parts and the level.
        own: variance of the own part.
        luck: kind of luck -> its variance.
        factor: [N, N] Cholesky factor of the covariance of the measurements.
        cross: [N, C] factor^-1 times the covariance of measurements and orderings.
        mean: [C] posterior means.
    """

    space: Space
    runs: Runs
    features: Floats
    own: float
    luck: Mapping[str, float]
    factor: Floats
    cross: Floats
    mean: Floats

    @classmethod
    def of(cls, measured: Measured, scales: Mapping[str, float]) -> Belief:
        """From measurements and scales.

        Args:
            measured: N runs.
            scales: name of a part or kind of luck -> standard deviation in points.
        """
        space, rows = measured.space, measured.runs.rows
        columns = [scales[part] * features for part, features in space.features.items() if scales[part] > 0]
        features = np.concatenate([np.full((len(space), 1), LEVEL), *columns], axis=1)
        own = scales["own"] ** 2
        covariance = measured.covariance(np.array([[scales[name] for name in measured.names]]))[0]
        factor = np.linalg.cholesky(covariance)
        prior = features[rows] @ features.T
        prior[np.arange(len(rows)), rows] += own
        cross = _solved(factor, prior)
        residual = _solved(factor, measured.values - measured.level)
        luck = {name: scales[name] ** 2 for name in LUCK}
        return cls(space, measured.runs, features, own, luck, factor, cross, measured.level + residual @ cross)

    def covariance(self, rows: Ints) -> Floats:
        """[R, R] posterior covariance of some orderings."""
        prior = self.features[rows] @ self.features[rows].T + self.own * np.eye(len(rows))
        return np.asarray(prior - self.cross[:, rows].T @ self.cross[:, rows])

    @property
    def variance(self) -> Floats:
        """[C] posterior variances."""
        prior = np.square(self.features).sum(axis=1) + self.own
        return np.asarray(np.maximum(prior - np.square(self.cross).sum(axis=0), 0.0))

    def slopes(self, runs: Runs, columns: Ints) -> Floats:
        """[A, R] how far the means of R orderings move for each standard deviation of the value of one of A runs."""
        return self._slopes(runs, columns)[0]

    def _slopes(self, runs: Runs, columns: Ints) -> tuple[Floats, Floats, Floats]:
        ours = self.features[runs.rows]
        moved = ours @ self.features[columns].T + self.own * (runs.rows[:, None] == columns)
        again = ours @ self.features[self.runs.rows].T + self.own * (runs.rows[:, None] == self.runs.rows)
        for name, covariance in luck_covariances(self.space, runs, self.runs).items():
            again += self.luck[name] * covariance
        solved = _solved(self.factor, again.T)  # [N, A]
        moved = moved - solved.T @ self.cross[:, columns]
        prior = np.square(ours).sum(axis=1) + self.own + self.luck["seed"] + self.luck["run"]
        prior += self.luck["stages"] * np.square(self.space.stages[runs.rows]).sum(axis=1)
        std = np.sqrt(np.maximum(prior - np.square(solved).sum(axis=0), JITTER))
        return moved / std[:, None], solved, std

    def after(self, row: int, seed: int) -> Belief:
        """What is believed once a run has shown just what was expected of it: less is uncertain."""
        run = Runs.of([(row, seed)])
        slopes, solved, std = self._slopes(run, np.arange(len(self.space)))
        number = len(self.factor)
        factor = np.zeros((number + 1, number + 1))
        factor[:number, :number] = self.factor
        factor[number, :number], factor[number, number] = solved[:, 0], std[0]
        runs = Runs(np.append(self.runs.rows, row), np.append(self.runs.seeds, seed))
        return replace(self, runs=runs, factor=factor, cross=np.concatenate([self.cross, slopes]))


def _solved(factor: Floats, right: Floats) -> Floats:
    if not len(factor):
        return right
    return np.asarray(linalg.solve_triangular(factor, right, lower=True, check_finite=False))


def beliefs_of(measured: Measured, scales: Scales, number: int) -> list[Belief]:
    """`number` equally likely beliefs, for draws of the scales that stand for all."""
    drawn = scales.resampled(number)
    return [Belief.of(measured, dict(zip(drawn.names, row, strict=True))) for row in drawn.values]


def mean_and_std(beliefs: Sequence[Belief]) -> tuple[Floats, Floats]:
    """[C] means over the beliefs, and standard deviations with what they differ by."""
    means = np.stack([belief.mean for belief in beliefs])
    variance = np.mean([belief.variance for belief in beliefs], axis=0) + means.var(axis=0)
    return np.asarray(means.mean(axis=0)), np.sqrt(variance)


def drawn(beliefs: Sequence[Belief], rows: Ints, number: int) -> Floats:
    """[about `number`, R] draws of the accuracies of some orderings, as many from each belief; always the same."""
    each = max(2, -(-number // len(beliefs)))
    normals = np.random.default_rng(0).standard_normal((each, len(rows)))
    draws = []
    for belief in beliefs:
        # The level is so uncertain beside the rest that rounding may make a variance negative.
        root = np.linalg.cholesky(belief.covariance(rows) + 1e-4 * np.eye(len(rows)))
        draws.append(belief.mean[rows] + normals @ root.T)
    return np.concatenate(draws)


# ---- the knowledge gradient


def expected_gains(means: Floats, slopes: Floats) -> Floats:
    """How much one more measurement is expected to raise the highest mean.

    It is E[max_j (m_j + b_j Z)] - max_j m_j for a standard normal Z: the correlated knowledge gradient (Frazier, Powell
    and Dayanik 2009, https://doi.org/10.1287/ijoc.1080.0314), exact: the upper envelope of the lines is walked from the
    smallest slope to the largest, for all measurements at once.

    Args:
        means: [C] m.
        slopes: [A, C] b, of A measurements.

    Returns:
        [A], none below 0.
    """
    numbers = np.arange(len(slopes))
    gains = np.zeros(len(slopes))
    # Of lines with the smallest slope the highest is the first of the envelope.
    lowest = slopes.min(axis=1, keepdims=True)
    line = np.where(slopes <= lowest, means, -np.inf).argmax(axis=1)
    active = numbers
    while len(active):
        steeper = slopes[active] - slopes[active, line[active]][:, None]
        below = means[line[active]][:, None] - means
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where(steeper > 1e-12, below / steeper, np.inf)
        first = crossing.min(axis=1)
        goes_on = np.isfinite(first)
        active, crossing, first, steeper = active[goes_on], crossing[goes_on], first[goes_on], steeper[goes_on]
        # Of lines that cross there together the steepest goes on.
        chosen = np.where(crossing <= first[:, None], steeper, -np.inf).argmax(axis=1)
        away = np.abs(first)
        density = np.exp(-0.5 * np.square(away)) / math.sqrt(2 * math.pi)
        gains[active] += steeper[np.arange(len(active)), chosen] * (density - away * special.ndtr(-away))
        line[active] = chosen
    return np.maximum(gains, 0.0)
