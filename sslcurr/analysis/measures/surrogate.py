"""What is known of all orderings after a few of them were measured: a linear-Gaussian model. Pure functions on arrays.

The balanced accuracy of ordering c at seed s, in points, is taken to be

    y(c, s) = level + task part(c) + pair part(c) + length part(c) + own part(c)
              + luck of the seed(s) + luck of the stages of c(s) + luck of the run(c, s)

with normal terms of unknown scale. The parts are linear in features of the ordering: its tasks, weighted by their
distance from the end, and its last task; its neighbouring pairs, weighted alike; its length. So what one ordering shows
says something of others. Orderings that share stages share their luck at the same seed, which is how runs of one seed
are compared. The scales have weak priors and are integrated over: they are drawn by importance, in two rounds, and
weighted by the marginal likelihood of all that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# A task counts this much less for each task that comes after it; so does what its stage had of luck.
DECAY = 0.6
# Values further below the median are raised: in robust standard deviations, of which one has so many points at least.
FENCE, LEAST_STD, FEWEST_FENCED = 3.0, 0.5, 4
# How far the level may lie from the mean of what was measured, in points.
LEVEL = 30.0
# Draws of the scales in the first and in the second round, and how many of them are used with equal weights.
DRAWN, REFINED = 256, 128
JITTER = 1e-6
# Of more measurements so many, evenly spaced, say what the scales are.
MOST_FITTED = 160


class Scale(NamedTuple):
    """The prior of a standard deviation in points: log-normal.

    Attributes:
        median: of it.
        log_std: standard deviation of its natural logarithm.
    """

    median: float
    log_std: float


PARTS = {
    "task": Scale(1.5, 1.0),
    "pair": Scale(0.8, 1.0),
    "length": Scale(0.8, 1.0),
    "own": Scale(1.2, 0.8),
}
LUCK = {
    "seed": Scale(1.0, 1.0),
    "stages": Scale(0.8, 1.0),
    "run": Scale(1.5, 0.6),
}
SIDE = Scale(0.8, 1.0)
SIDE_PREFIX = "side "


def fenced(values: Floats) -> Floats:
    """[N] values, of which those far below the rest are raised to a fence.

    A training that collapsed, to chance or to one class, is no draw of a normal distribution. How bad it is does not
    matter for which ordering is best, and must not make all others look alike. The fence is FENCE standard deviations
    below the median; the standard deviation is that of a normal distribution with the median absolute deviation.
    """
    if len(values) < FEWEST_FENCED:
        return values
    middle = float(np.median(values))
    std = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.maximum(values, middle - FENCE * max(std, LEAST_STD))


# ---- orderings as arrays


@dataclass(frozen=True)
class Space:
    """Orderings of tasks as arrays.

    Attributes:
        orderings: C tuples of task numbers.
        features: part -> [C, F] features, scaled so that the mean variance of what they add is 1.
        stages: [C, number of prefixes] how much of the luck of each stage an ordering has: DECAY for each that follows.
    """

    orderings: tuple[tuple[int, ...], ...]
    features: Mapping[str, Floats]
    stages: Floats

    @classmethod
    def of(cls, orderings: Sequence[Sequence[int]], num_tasks: int, side: Mapping[str, Floats] | None = None) -> Space:
        """Orderings with their features.

        Args:
            orderings: C of them, as task numbers.
            num_tasks: how many tasks there are.
            side: name -> [C] another figure of each ordering, such as how unlike its neighbouring tasks are.
        """
        longest = max((len(each) for each in orderings), default=0)
        tasks = np.zeros((len(orderings), 2 * num_tasks))
        pairs = np.zeros((len(orderings), num_tasks * num_tasks))
        length = np.zeros((len(orderings), longest + 1))
        prefixes = {tuple(each[:end]) for each in orderings for end in range(1, len(each) + 1)}
        number = {prefix: place for place, prefix in enumerate(sorted(prefixes))}
        stages = np.zeros((len(orderings), len(number)))
        for row, each in enumerate(orderings):
            last = len(each) - 1
            length[row, len(each)] = 1
            for place, task in enumerate(each):
                stages[row, number[tuple(each[: place + 1])]] = DECAY ** (last - place)
                tasks[row, task] += DECAY ** (last - place)
                if place:
                    pairs[row, each[place - 1] * num_tasks + task] += DECAY ** (last - place)
            if each:
                tasks[row, num_tasks + each[-1]] = 1
        features = {"task": _scaled(tasks), "pair": _scaled(pairs), "length": _scaled(length)}
        for name, values in (side or {}).items():
            features[f"{SIDE_PREFIX}{name}"] = _scaled((values - values.mean())[:, None])
        return cls(tuple(tuple(each) for each in orderings), features, stages)

    def __len__(self) -> int:
        return len(self.orderings)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, the own one last."""
        return (*self.features, "own")

    def covariance(self, part: str, rows: Ints, columns: Ints) -> Floats:
        """[R, C] prior covariance of a part of scale 1, of some orderings with some."""
        if part == "own":
            return (rows[:, None] == columns[None, :]).astype(float)
        features = self.features[part]
        return features[rows] @ features[columns].T


def _scaled(features: Floats) -> Floats:
    variance = float(np.mean(np.square(features).sum(axis=1))) if len(features) else 0.0
    return features / math.sqrt(variance) if variance > 0 else features


class Runs(NamedTuple):
    """Orderings at seeds.

    Attributes:
        rows: [N] places of the orderings in the space.
        seeds: [N] numbers of the seeds.
    """

    rows: Ints
    seeds: Ints

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]]) -> Runs:
        """From (place, seed) pairs."""
        array = np.array(pairs, dtype=np.intp).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])


def luck_covariances(space: Space, a: Runs, b: Runs) -> dict[str, Floats]:
    """Kind of luck -> [A, B] prior covariance of scale 1 between runs."""
    same = (a.seeds[:, None] == b.seeds[None, :]).astype(float)
    shared = space.stages[a.rows] @ space.stages[b.rows].T
    again = same * (a.rows[:, None] == b.rows[None, :])
    return {"seed": same, "stages": same * shared, "run": again}


# ---- the scales


@lru_cache(maxsize=32)
def _normals(number: int, dimensions: int, seed: int) -> Floats:
    """[number, dimensions] quasi-random standard normal numbers, always the same."""
    points = qmc.Sobol(dimensions, scramble=True, seed=seed).random(number)
    drawn: Floats = special.ndtri(np.clip(points, 1e-6, 1 - 1e-6))
    drawn.flags.writeable = False
    return drawn


@dataclass(frozen=True)
class Scales:
    """Draws of the standard deviations of parts and of luck, in points.

    Attributes:
        names: of them.
        values: [H, number of names]; 0 where a part is left out.
        weights: [H], 1 in sum.
    """

    names: tuple[str, ...]
    values: Floats
    weights: Floats

    def of(self, name: str) -> Floats:
        """[H] draws of one of them."""
        return self.values[:, self.names.index(name)]

    def typical(self, name: str) -> float:
        """The root of the mean square of one of them."""
        return float(np.sqrt(self.weights @ np.square(self.of(name))))

    def included(self, name: str) -> float:
        """The posterior probability that a part is not left out."""
        return float(self.weights @ (self.of(name) > 0))

    def resampled(self, number: int) -> Scales:
        """`number` draws of equal weight that stand for all: systematic resampling, heavy ones more than once."""
        order = np.argsort(-self.weights, kind="stable")
        ends = np.cumsum(self.weights[order])
        picked = order[np.searchsorted(ends / ends[-1], (np.arange(number) + 0.5) / number)]
        return replace(self, values=self.values[picked], weights=np.full(number, 1 / number))


@dataclass
class Measured:
    """Runs that were measured, with what their likelihood needs: made once, used for all scales.

    Attributes:
        runs: N orderings at seeds.
        values: [N] balanced accuracies in points.
        covariances: name of a part or kind of luck -> [N, N] covariance of scale 1.
    """

    space: Space
    runs: Runs
    values: Floats
    covariances: dict[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        rows = self.runs.rows
        parts = {part: self.space.covariance(part, rows, rows) for part in self.space.parts}
        self.covariances = parts | luck_covariances(self.space, self.runs, self.runs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scales."""
        return tuple(self.covariances)

    @property
    def level(self) -> float:
        """The mean of what was measured."""
        return float(self.values.mean()) if len(self.values) else 0.0

    def covariance(self, values: Floats) -> Floats:
        """[H, number of names] scales -> [H, N, N] covariance of the measurements."""
        number = len(self.values)
        stacked = np.stack([self.covariances[name].reshape(number * number) for name in self.names])
        total: Floats = (np.square(values) @ stacked).reshape(len(values), number, number)
        return total + LEVEL**2 + JITTER * np.eye(number)

    def log_likelihoods(self, values: Floats) -> Floats:
        """[H, number of names] scales -> [H] log marginal likelihoods."""
        number = len(self.values)
        if not number:
            return np.zeros(len(values))
        # The last row of the factor of [[covariance, y], [y', large]] is y, solved with the factor of the covariance.
        bordered = np.empty((len(values), number + 1, number + 1))
        bordered[:, :number, :number] = self.covariance(values)
        bordered[:, number, :number] = bordered[:, :number, number] = centred = self.values - self.level
        bordered[:, number, number] = 1.0 + float(centred @ centred) / JITTER
        factors = np.linalg.cholesky(bordered)
        roots = np.diagonal(factors, axis1=1, axis2=2)[:, :number]
        return np.asarray(-0.5 * np.square(factors[:, number, :number]).sum(axis=1) - np.log(roots).sum(axis=1))


def fitted(measured: Measured) -> Scales:
    """The posterior of the scales: drawn from the prior, then around where the likelihood is high.

    A side figure is left out of half of the draws, so that the data say whether it helps.
    """
    if len(measured.values) > MOST_FITTED:
        kept = np.linspace(0, len(measured.values) - 1, MOST_FITTED).astype(int)
        runs = Runs(measured.runs.rows[kept], measured.runs.seeds[kept])
        measured = Measured(measured.space, runs, measured.values[kept])
    names = measured.names
    priors = [PARTS.get(name) or LUCK.get(name) or SIDE for name in names]
    centre = np.log([prior.median for prior in priors])
    widths = np.array([prior.log_std for prior in priors])
    switched = np.array([name.startswith(SIDE_PREFIX) for name in names])
    dimensions = len(names) + int(switched.sum())

    def scales(normals: Floats) -> tuple[Floats, Floats]:
        on = np.ones((len(normals), len(names)))
        on[:, switched] = normals[:, len(names) :] > 0
        logs = normals[:, : len(names)]
        return logs, np.exp(centre + widths * logs) * on

    normals = _normals(DRAWN, dimensions, 1)
    _, values = scales(normals)
    first = measured.log_likelihoods(values)
    weights = _normalised(first)
    if not len(measured.values):
        return Scales(names, values, weights)
    # The second round: a normal distribution of the weighted draws, made wider; both rounds together are weighted by
    # prior over mixture.
    middle = weights @ normals
    spread = 1.25 * np.sqrt(np.maximum(weights @ np.square(normals - middle), 0.15**2))
    refined = middle + spread * _normals(REFINED, dimensions, 2)
    _, more = scales(refined)
    second = measured.log_likelihoods(more)
    everything = np.concatenate([normals, refined])
    share = DRAWN / (DRAWN + REFINED)
    ratio = _log_normal(everything, middle, spread) - _log_normal(everything, np.zeros(dimensions), np.ones(dimensions))
    log_weights = np.concatenate([first, second]) - np.logaddexp(math.log(share), math.log(1 - share) + ratio)
    return Scales(names, np.concatenate([values, more]), _normalised(log_weights))


def _log_normal(points: Floats, middle: Floats, spread: Floats) -> Floats:
    return np.asarray(-0.5 * np.square((points - middle) / spread).sum(axis=1) - np.log(spread).sum())


def _normalised(log_weights: Floats) -> Floats:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
