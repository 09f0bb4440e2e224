"""How much of the differences between chains is real, and how much the luck of seeds and images. Pure functions.

Balanced accuracies of K chains at S seeds are a two-way layout, chains by seeds. Its mean squares are sums of
components of variance, which are solved for (estimates by analysis of variance: Searle, Casella and McCulloch, Variance
Components, 1992, chapter 4). Chains that begin with one stage share its luck at each seed, a component of its own. What
the choice of images adds to each mean square is known from the influence of each image, and taken off.
docs/statistics.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from sslcurr.analysis.measures.intervals import LEVEL, Floats, Interval, Sample

AT_ONCE = 2048  # images whose influences are in memory together
TINY = 1e-30


class Squares(NamedTuple):
    """Sums of squares of a layout of chains by seeds, and their degrees of freedom or the mean squares of these.

    Attributes:
        between: of chains, between first stages.
        within: of chains, within first stages.
        seeds: of seeds.
        stages: of first stages by seeds.
        runs: of chains by seeds, within first stages.
    """

    between: float
    within: float
    seeds: float
    stages: float
    runs: float

    @property
    def chains(self) -> float:
        """Of chains."""
        return self.between + self.within

    @property
    def residual(self) -> float:
        """Of chains by seeds."""
        return self.stages + self.runs

    def plus(self, other: Squares) -> Squares:
        """Both together."""
        return Squares(*(a + b for a, b in zip(self, other, strict=True)))


def squares_of(values: Floats, stages: Sequence[int]) -> Squares:
    """The sums of squares of [K, S, U] values, added over U.

    Args:
        values: of K chains at S seeds.
        stages: [K] numbers of the first stages, from 0 on.
    """
    num_chains, num_seeds = values.shape[:2]
    member = np.eye(max(stages) + 1)[np.asarray(stages)].T  # [F, K]
    sizes = member.sum(axis=1)
    means, seeds = values.mean(axis=1), values.mean(axis=0)  # [K, U], [S, U]
    grand = means.mean(axis=0)
    residual = values - means[:, None] - seeds[None] + grand
    of_stages = np.tensordot(member, means, axes=1) / sizes[:, None]  # [F, U]
    stages_by_seeds = np.tensordot(member, residual, axes=1) / sizes[:, None, None]  # [F, S, U]
    between = num_seeds * float(sizes @ np.square(of_stages - grand).sum(axis=1))
    shared = float(sizes @ np.square(stages_by_seeds).sum(axis=(1, 2)))
    return Squares(
        between=between,
        within=max(num_seeds * float(np.square(means - grand).sum()) - between, 0.0),
        seeds=num_chains * float(np.square(seeds - grand).sum()),
        stages=shared,
        runs=max(float(np.square(residual).sum()) - shared, 0.0),
    )


def degrees_of(num_seeds: int, stages: Sequence[int]) -> Squares:
    """The degrees of freedom of the sums of squares."""
    num_chains, num_stages = len(stages), max(stages) + 1
    between, within, seeds = num_stages - 1, num_chains - num_stages, num_seeds - 1
    return Squares(between, within, seeds, between * seeds, within * seeds)


@dataclass(frozen=True)
class Components:
    """The variance of a table of chains by its sources; variances are in squares of shares of 1.

    An estimate of a variance may be below 0: nothing of it is to be seen then. So their means over many tables are
    right.

    Attributes:
        num_chains, num_stages: chains, and first stages that they begin with.
        chain: real differences between chains, that other seeds and images would show as well.
        seed: what a seed does to all chains alike.
        stage: the luck of a first stage at a seed, which all chains over it share; None where each has its own, or all
            have one.
        run: the luck of a chain at a seed, beyond that.
        images: the variance of the chains' means that the choice of images makes.
        luck: the variance of the chains' means that the luck of stages and runs makes.
        means: the variance of the chains' means, of which `chain`, `luck` and `images` are the parts.
        interval: ends of the 95 % interval of the real share of `means`; None where all means are equal.
        p_value: how often equal chains would differ as much (F test); None where nothing varies.
    """

    num_chains: int
    num_stages: int
    chain: float
    seed: float
    stage: float | None
    run: float
    images: float
    luck: float
    means: float
    interval: Interval | None
    p_value: float | None

    def share(self, part: float) -> float | None:
        """A part of the variance of the means as a share of it; None where all means are equal."""
        return part / self.means if self.means > TINY else None


def components_of(samples: Sequence[Sample], first: Sequence[Hashable]) -> Components:
    """The components of variance of chains that were measured at the same seeds, on the same images.

    Args:
        samples: K of them, at S seeds each.
        first: [K] their first stages.

    Raises:
        ValueError: there are fewer than two chains or seeds, or not all have the same.
    """
    if len(samples) < 2 or len({each.seeds for each in samples}) > 1 or len(samples[0].seeds) < 2:
        raise ValueError("two chains or more are needed that have the same two seeds or more")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(first))}
    stages = [numbers[name] for name in first]
    num_seeds, num_chains, num_stages = len(samples[0].seeds), len(samples), len(numbers)
    degrees = degrees_of(num_seeds, stages)
    measured = squares_of(np.stack([each.values for each in samples])[..., None], stages)
    images, units = _image_squares(samples, stages)

    def mean_square(squares: Squares, name: str) -> float:
        """A mean square; 0 without degrees of freedom."""
        count = getattr(degrees, name)
        return float(getattr(squares, name)) / count if count else 0.0

    def own(name: str) -> float:
        """A mean square without the part of the images."""
        return mean_square(measured, name) - mean_square(images, name)

    sizes = np.bincount(stages)
    nested = 1 < num_stages < num_chains
    run = own("runs") if nested else own("residual")
    stage = (
        (own("stages") - run) / ((num_chains - float(np.square(sizes).sum()) / num_chains) / (num_stages - 1))
        if nested
        else None
    )
    shared = 0.0 if stage is None else stage * float(np.square(sizes).sum()) / num_chains
    luck = own("residual")
    interval, p_value = _real_share(measured, images, degrees, units)
    return Components(
        num_chains=num_chains,
        num_stages=num_stages,
        chain=(own("chains") - luck) / num_seeds,
        seed=(own("seeds") - run - shared) / num_chains,
        stage=stage,
        run=run,
        images=mean_square(images, "chains") / num_seeds,
        luck=luck / num_seeds,
        means=mean_square(measured, "chains") / num_seeds,
        interval=interval,
        p_value=p_value,
    )


def _image_squares(samples: Sequence[Sample], stages: Sequence[int]) -> tuple[Squares, int]:
    """What the choice of images adds to the sums of squares, on average, and how many units it is known from."""
    by_unit = [each.images.by_unit(each.influence) for each in samples]
    total = Squares(0.0, 0.0, 0.0, 0.0, 0.0)
    for start in range(0, by_unit[0].shape[1], AT_ONCE):
        total = total.plus(squares_of(np.stack([each[:, start : start + AT_ONCE] for each in by_unit]), stages))
    return total, by_unit[0].shape[1]


def _real_share(
    measured: Squares, images: Squares, degrees: Squares, num_units: int
) -> tuple[Interval | None, float | None]:
    """The interval of the real share of the variance between means, and the p-value of no difference.

    The mean square of chains over what it would be without real differences, times one less that share, has an F
    distribution (Searle 1971, Linear Models, section 9.9). Chains that share stages count for fewer degrees of freedom,
    by Satterthwaite's rule (1946, https://doi.org/10.2307/3002019).
    """
    chains = measured.chains / degrees.chains
    # What images alone make of the residual is its least: a luck below none would leave no noise, and prove anything.
    least = images.residual / degrees.residual
    residual = max(measured.residual / degrees.residual, least)
    beyond = images.chains / degrees.chains - least
    noise = residual + beyond
    if chains <= TINY:
        return None, None
    above = _satterthwaite((measured.between, degrees.between), (measured.within, degrees.within))
    own = _satterthwaite((measured.stages, degrees.stages), (measured.runs, degrees.runs))
    if noise <= TINY:
        return (1.0, 1.0), 0.0
    below = noise**2 / (residual**2 / own + beyond**2 / max(num_units - 1, 1)) if residual > 0 else num_units - 1.0
    ratio = chains / noise
    high, low = (float(special.fdtri(above, below, tail)) for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    interval = tuple(min(max(1 - quantile / ratio, 0.0), 1.0) for quantile in (high, low))
    return (interval[0], interval[1]), float(special.fdtrc(above, below, ratio))


def _satterthwaite(*parts: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of (sum of squares, degrees of freedom)."""
    total = sum(squares for squares, _ in parts)
    spread = sum(squares**2 / degrees for squares, degrees in parts if degrees)
    return total**2 / spread if spread > 0 else math.fsum(degrees for _, degrees in parts)
