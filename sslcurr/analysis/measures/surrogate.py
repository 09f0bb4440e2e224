"""What is known of all orderings after a few of them were measured: a linear-Gaussian model. Pure functions on arrays.

The balanced accuracy of ordering c at seed s, in points, is taken to be

    y(c, s) = level + task part(c) + pair part(c) + length part(c) + own part(c)
              + luck of the seed(s) + luck of the stages of c(s) + luck of the run(c, s)

with normal terms of unknown scale. The parts are linear in features of the ordering: its tasks, weighted by their
distance from the end, and its last task; its neighbouring pairs, weighted alike; its length. So what one ordering shows
says something of others. Orderings that share stages share their luck at the same seed, which is how runs of one seed
are compared. The scales have weak priors and are integrated over: they are drawn by adaptive importance sampling, and
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
from scipy import linalg, special
from scipy.stats import qmc

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# A task counts this much less for each task that comes after it; so does what its stage had of luck.
DECAY = 0.6
# Values further below the median are raised: in robust standard deviations, of which one has so many points at least.
FENCE, LEAST_STD, FEWEST_FENCED = 3.0, 0.5, 4
# How far the level may lie from the mean of what was measured, in points.
LEVEL = 30.0
# Draws of the scales: from the prior, then round by round from normal distributions that are fitted to all draws
# before, until they are worth so many independent ones.
DRAWN, REFINED, ENOUGH, MOST_ROUNDS = 128, 64, 64.0, 10
# A proposal is fitted to draws that count as at least so many for each scale, its covariance this much wider.
FEWEST_EFFECTIVE, WIDER, SHRUNK, LEAST_VARIANCE = 3.0, 1.2, 0.1, 0.02
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
    """The posterior of the scales: drawn from the prior, then, round by round, around where the posterior is high.

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

    def scales(normals: Floats) -> Floats:
        on = np.ones((len(normals), len(names)))
        on[:, switched] = normals[:, len(names) :] > 0
        return np.asarray(np.exp(centre + widths * normals[:, : len(names)]) * on)

    # In units of the prior: [H, D] normal numbers, what each says of the data, and the distributions they came from.
    normals = _normals(DRAWN, dimensions, 1)
    likelihoods = measured.log_likelihoods(scales(normals))
    proposals = [_Proposal(np.zeros(dimensions), np.eye(dimensions), DRAWN)]
    log_weights = _log_weights(normals, likelihoods, proposals)
    while len(measured.values) and len(proposals) <= MOST_ROUNDS and _effective(_normalised(log_weights)) < ENOUGH:
        proposals.append(_Proposal.fitted(normals, log_weights, REFINED))
        drawn = proposals[-1].middle + _normals(REFINED, dimensions, len(proposals)) @ proposals[-1].root.T
        normals = np.concatenate([normals, drawn])
        likelihoods = np.append(likelihoods, measured.log_likelihoods(scales(drawn)))
        log_weights = _log_weights(normals, likelihoods, proposals)
    return Scales(names, scales(normals), _normalised(log_weights))


class _Proposal(NamedTuple):
    """A normal distribution that `number` draws came from: its mean and the Cholesky factor of its covariance."""

    middle: Floats
    root: Floats
    number: int

    @classmethod
    def fitted(cls, normals: Floats, log_weights: Floats, number: int) -> _Proposal:
        """Where the weighted draws are; flattened until enough of them count."""
        weights, power = _normalised(log_weights), 1.0
        while _effective(weights) < FEWEST_EFFECTIVE * normals.shape[1] and power > 0.01:
            power *= 0.8
            weights = _normalised(power * log_weights)
        middle = weights @ normals
        away = normals - middle
        covariance: Floats = (away * weights[:, None]).T @ away
        covariance = WIDER * ((1 - SHRUNK) * covariance + SHRUNK * np.diag(np.diag(covariance)))
        covariance += LEAST_VARIANCE * np.eye(len(middle))
        return cls(np.asarray(middle), np.asarray(np.linalg.cholesky(covariance), dtype=np.float64), number)

    def log_density(self, normals: Floats) -> Floats:
        """[H] but for a constant that all proposals have."""
        solved = linalg.solve_triangular(self.root, (normals - self.middle).T, lower=True)
        return np.asarray(-0.5 * np.square(solved).sum(axis=0) - np.log(np.diag(self.root)).sum())


def _log_weights(normals: Floats, likelihoods: Floats, proposals: Sequence[_Proposal]) -> Floats:
    """[H] posterior over the mixture of all proposals (https://doi.org/10.1111/j.1467-9469.2011.00756.x)."""
    total = sum(proposal.number for proposal in proposals)
    mixture = [math.log(each.number / total) + each.log_density(normals) for each in proposals]
    prior = -0.5 * np.square(normals).sum(axis=1)
    return np.asarray(likelihoods + prior - np.logaddexp.reduce(mixture))


def _effective(weights: Floats) -> float:
    """How many independent draws of equal weight are worth as much."""
    return 1 / float(np.sum(np.square(weights)))


def _normalised(log_weights: Floats) -> Floats:
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
