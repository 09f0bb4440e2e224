"""Every interval of the program: means over seeds and images, differences paired by both, jackknives. Pure functions.

A figure has two sources of luck: the images it is measured on, and the seeds that models were trained with. The
variance of a mean over S seeds is

    variance over seeds / S  +  variance over images,

and the half width is its root times a quantile of Student's t, between that of the seeds' degrees of freedom and that
of the images' (Cochran and Cox, Experimental Designs, 1957, section 4.14). Two or three seeds say little of a variance,
so chains of one table lend each other theirs: the variance over seeds is shrunk towards the pooled one with the weight
of an inverse chi-square prior that is fitted to all of them (Smyth 2004, https://doi.org/10.2202/1544-6115.1027). From
what is borrowed the chance of each image by itself is taken off, since the variance over images has it already.
docs/statistics.md has the formulas, and `benchmarks/statistics.py` simulates what the intervals cover.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy  # its parts are imported at their first use
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
# A baseline whose luck may be this many times that of the other chains keeps its own variance.
UNLIKE = 3.0
# Groups of a jackknife, and the fewest images of each.
JACKKNIFE_GROUPS, JACKKNIFE_IMAGES = 20, 4


# ---- what is measured


@dataclass(frozen=True)
class Images:
    """How images are averaged, and which of them belong together.

    Attributes:
        cell: [N] each image's cell: images of one unit and one stratum.
        unit: [M] each cell's unit: a group (a patient, a lesion), or an image without one.
        stratum: [M] each cell's stratum: a class for balanced accuracies, 0 for plain means.
        num_units: how many units there are.
        least: what the variance over images is at least.
        shares: whether figures may be shares of images: means of ones and zeros, of which more is known.
        fold: [M] the fold that tested each cell, where models of several folds were; None for one model.
    """

    cell: NDArray[np.intp]
    unit: NDArray[np.intp]
    stratum: NDArray[np.intp]
    num_units: int
    least: float = 0.0
    fold: NDArray[np.intp] | None = None
    shares: bool = True

    @classmethod
    def of(
        cls,
        num_images: int,
        *,
        classes: NDArray[Any] | None = None,
        groups: NDArray[Any] | None = None,
        least: float = 0.0,
        folds: NDArray[Any] | None = None,
        shares: bool = True,
    ) -> Images:
        """The layout of `num_images` images.

        Args:
            num_images: N.
            classes: [N]; means are over the images of each class, then over classes. None averages all images.
            groups: [N]; images of one group are not independent. None takes each image as its own group.
            least: what the variance over images is at least.
            shares: whether figures whose values are all 1 or 0 are shares of images.
            folds: [N] the fold that tested each image; those of one group are of one fold.
        """
        units = np.arange(num_images) if groups is None else np.unique(groups, return_inverse=True)[1]
        strata = np.zeros(num_images, dtype=np.intp) if classes is None else np.unique(classes, return_inverse=True)[1]
        pairs, cell = np.unique(np.stack([units, strata]), axis=1, return_inverse=True)
        num_units = int(units.max()) + 1 if num_images else 0
        cells, fold = cell.reshape(-1), None
        if folds is not None:
            fold = np.zeros(pairs.shape[1], dtype=np.intp)
            fold[cells] = np.unique(folds, return_inverse=True)[1]
        return cls(cells, pairs[0], pairs[1], num_units, least, fold, shares)

    def totals(self, values: Floats) -> Floats:
        """[S, N] sums over the images of each cell, [S, M]."""
        return summed(values, self.cell)

    def by_stratum(self, cells: Floats) -> Floats:
        """[S, M] sums over the cells of each stratum, [S, C]."""
        return summed(cells, self.stratum)

    def by_unit(self, cells: Floats) -> Floats:
        """[S, M] sums over the cells of each unit, [S, U]."""
        return cells if len(self.unit) == self.num_units else summed(cells, self.unit)


def summed(values: Floats, groups: NDArray[np.intp]) -> Floats:
    """[S, N] sums of the columns of each group; [N] numbers from 0 on, each of which is there."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1)) if len(order) else values


@dataclass(frozen=True)
class Sample:
    """A figure at S seeds, and what each image does to it.

    Attributes:
        seeds: of the runs.
        values: [S] the figure at each seed.
        influence: [S, M] how much each cell of the images moves it from its value over all images; sums to 0.
        images: the layout of the cells.
        step: the root mean square of what one unit can change; 0 for figures that are no counts.
        squares, total: of a weighted sum of chains the sum of the squared weights, and of the weights; 1 for one chain.
        smallest: [C] what the variance over images is at least in each stratum; 0 for figures that are no counts.
    """

    seeds: tuple[int, ...]
    values: Floats
    influence: Floats
    images: Images
    step: float
    squares: float = 1.0
    total: float = 1.0
    smallest: Floats = field(default_factory=lambda: np.zeros(1))

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(self.values.mean())

    @property
    def std(self) -> float | None:
        """The standard deviation over the seeds (n - 1); None for fewer than two."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    def at(self, seeds: Sequence[int]) -> Sample:
        """The same at some of the seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(self, seeds=tuple(seeds), values=self.values[places], influence=self.influence[places])


def sample(values: NDArray[np.floating[Any]], images: Images, seeds: Sequence[int] | None = None) -> Sample:
    """The mean of [S, N] values of images at S seeds: over the images of each stratum, then over strata.

    With classes as strata and 1 for each image that is named rightly it is the balanced accuracy.

    Args:
        values: [S, N]; NaN is no value. A seed that lacks values of a whole stratum is left out.
        images: their layout.
        seeds: S numbers; None counts from 0.
    """
    matrix = np.asarray(values, dtype=float)
    defined = (~np.isnan(matrix)).astype(float)
    filled = np.nan_to_num(matrix)
    numbers = tuple(range(len(matrix))) if seeds is None else tuple(seeds)
    count = images.totals(defined)
    in_stratum = images.by_stratum(count)
    whole = (in_stratum > 0).all(axis=1)
    count, in_stratum, matrix = count[whole], in_stratum[whole], matrix[whole]
    total = images.totals(filled[whole])
    means = images.by_stratum(total) / in_stratum
    num_strata = in_stratum.shape[1]
    units = images.by_stratum((count > 0).astype(float))
    # A variance of so many units is too small by (units - 1) / units.
    wider = np.sqrt(units / np.maximum(units - 1, 1))
    influence = (total - means[:, images.stratum] * count) * (wider / in_stratum / num_strata)[:, images.stratum]
    step, smallest = 0.0, np.full(num_strata, images.least / num_strata)
    if images.shares and len(matrix) and np.isin(matrix[~np.isnan(matrix)], (0.0, 1.0)).all():
        step = math.sqrt(float(np.mean(np.sum(1 / units, axis=1) / units.sum(axis=1)))) / num_strata
        # No share of n units varies by more than 1 / (4 n).
        least = np.minimum(1 / units**2, 1 / (4 * units)).mean(axis=0) / num_strata**2
        smallest = np.maximum(smallest, least)
    return Sample(
        seeds=tuple(numbers[place] for place in np.flatnonzero(whole)),
        values=means.mean(axis=1),
        influence=influence,
        images=images,
        step=step,
        smallest=smallest,
    )


def combined(samples: Sequence[Sample], weights: Sequence[float] | Floats) -> Sample | None:
    """The weighted sum of figures on the same images, paired by seed and image; None where no seed has them all.

    Args:
        samples: K of them.
        weights: [K], or [S, K] for other weights at each of the S seeds that all have.
    """
    seeds = [seed for seed in samples[0].seeds if all(seed in other.seeds for other in samples)]
    if not seeds:
        return None
    rows = np.broadcast_to(np.asarray(weights, dtype=float), (len(seeds), len(samples)))
    values, influence = np.zeros(len(seeds)), np.zeros((len(seeds), len(samples[0].images.unit)))
    for column, each in zip(rows.T, samples, strict=True):
        paired = each.at(seeds)
        values += column * paired.values
        influence += column[:, None] * paired.influence
    squares = float(np.square(rows).sum(axis=1).mean())
    return Sample(
        seeds=tuple(seeds),
        values=values,
        influence=influence,
        images=samples[0].images,
        step=max(each.step for each in samples),
        squares=squares,
        total=float(rows.sum(axis=1).mean()),
        # An image that only one of two chains names rightly moves their difference as it moves one of them.
        smallest=np.max([each.smallest for each in samples], axis=0) * min(squares, 1.0),
    )


def difference(a: Sample, b: Sample) -> Sample | None:
    """b minus a, paired by seed and image; None where they have no seed in common."""
    return combined((a, b), (-1.0, 1.0))


# ---- the luck of seeds


@dataclass(frozen=True)
class Luck:
    """What the chains of one table say together about the variance of a run over seeds.

    Attributes:
        within: the variance over seeds of a chain, pooled.
        residual: the same without what a seed does to all chains alike: of differences between them.
        prior: degrees of freedom that a chain borrows; fewer, the more the chains' variances differ.
        degrees: degrees of freedom of the pooled variances.
    """

    within: float
    residual: float
    prior: float
    degrees: float

    def variance(self, figure: Sample) -> float:
        """What the variance over seeds of a figure would be, if its chains were as lucky as all."""
        return self.residual * figure.squares + max(self.within - self.residual, 0.0) * figure.total**2

    def lends_to(self, figure: Sample) -> bool:
        """Whether a baseline, which is trained otherwise than the chains of the table, may borrow their variance.

        Only where its own variance is not above theirs, says at 5 % that its luck is not `UNLIKE` times theirs, and is
        not so small that it is another than theirs at 5 %.
        """
        degrees, borrowed = len(figure.values) - 1, self.variance(figure)
        if degrees < 1 or borrowed <= 0:
            return False
        least = float(scipy.special.fdtri(degrees, self.degrees, 0.05))
        return least <= float(figure.values.var(ddof=1)) / borrowed <= min(1.0, UNLIKE**2 * least)


def luck_of(samples: Sequence[Sample], lineages: Sequence[Hashable] | None = None) -> Luck | None:
    """What chains say together about the luck of seeds; None for fewer than two chains of two seeds.

    Chains of other seeds than most have say nothing here, and may still borrow.

    Args:
        samples: of the chains, on the same images.
        lineages: what each chain's first stage is: chains that share it share its luck, so together they count once.
    """
    names = list(range(len(samples))) if lineages is None else list(lineages)
    together = Counter(frozenset(each.seeds) for each in samples)
    # The seeds that most chains have, of those that are most.
    shared = max(together, key=lambda seeds: (len(seeds), together[seeds]), default=frozenset())
    kept = [(each, name) for each, name in zip(samples, names, strict=True) if shared == set(each.seeds)]
    num_lineages = len({name for _, name in kept})
    if len(shared) < 2 or num_lineages < 2:
        return None
    values = np.stack([each.at(sorted(shared)).values for each, _ in kept])  # [K, S]
    num_chains, degrees = len(values), len(shared) - 1
    centred = values - values.mean(axis=1, keepdims=True)
    residuals = centred - centred.mean(axis=0)
    each = np.square(residuals).sum(axis=1) * num_chains / (num_chains - 1) / degrees
    smallest = float(np.mean([noise_of(figure) for figure, _ in kept])) / 4
    known = (num_lineages - 1) * degrees
    prior = prior_degrees(np.maximum(each, max(smallest, 1e-12)), degrees)
    return Luck(
        within=float(np.square(centred).sum() / num_chains / degrees),
        residual=float(each.mean()),
        prior=max(min(prior, known - degrees), 0.0) if num_chains > 2 else 0.0,
        degrees=known,
    )


def prior_degrees(variances: Floats, degrees: int) -> float:
    """Degrees of freedom of the inverse chi-square prior behind K variances (Smyth 2004, section 6.2).

    Each has `degrees` degrees of freedom. The log of a variance of d degrees of freedom varies by trigamma(d / 2);
    what the logs vary by beyond it is how much the true variances differ. Infinite where they do not.
    """
    if len(variances) < 2:
        return 0.0
    excess = float(np.log(variances).var(ddof=1) - scipy.special.polygamma(1, degrees / 2))
    if excess <= 0:
        return math.inf
    low, high = 1e-6, 1e9
    for _ in range(200):  # trigamma falls: halve on the log scale
        middle = math.sqrt(low * high)
        low, high = (middle, high) if scipy.special.polygamma(1, middle) > excess else (low, middle)
    return 2 * low


def noise_of(figure: Sample) -> float:
    """The part of the variance over seeds of one run that comes from each image by itself; 0 for one seed.

    It shrinks with more images, and is in the variance over images already.
    """
    if len(figure.values) < 2:
        return 0.0
    return float(figure.images.by_unit(figure.influence).var(axis=0, ddof=1).sum())


# ---- intervals


@dataclass(frozen=True)
class Variance:
    """The variance of a mean over seeds and images, by its two sources.

    Attributes:
        seeds: of the mean, from the luck of seeds beyond that of images; 0 where nothing is known of it.
        seed_degrees: degrees of freedom of it.
        images: of the mean, from the choice of images.
        image_degrees: degrees of freedom of it: units less one, of the strata that matter.
    """

    seeds: float
    seed_degrees: float
    images: float
    image_degrees: float

    def half_width(self) -> float:
        """Half the width of the 95 % interval."""
        total = self.seeds + self.images
        if total <= 0:
            return 0.0
        quantile = sum(
            share / total * t_quantile(degrees)
            for share, degrees in ((self.seeds, self.seed_degrees), (self.images, self.image_degrees))
            if share > 0
        )
        return quantile * math.sqrt(total)


def variance_of(figure: Sample, luck: Luck | None = None) -> Variance:
    """The variance of the mean over the seeds of a figure.

    Args:
        figure: of one seed at least.
        luck: of the table that it belongs to; None leaves it its own variance over seeds, and one seed none.
    """
    num_seeds = len(figure.values)
    images, image_degrees = _image_variance(figure)
    degrees = num_seeds - 1
    folds, fold_degrees = _fold_variance(figure, images)
    prior, borrowed = (luck.prior, luck.variance(figure)) if luck is not None else (0.0, 0.0)
    if degrees == 0:
        if luck is None:
            return Variance(folds, fold_degrees, images, image_degrees)
        if folds > borrowed:
            return Variance(folds, fold_degrees, images, image_degrees)
        return Variance(borrowed, max(luck.prior, 1.0), images, image_degrees)
    noise = noise_of(figure)
    own = max(float(figure.values.var(ddof=1)), figure.step**2 / 4)
    shrunk = (prior * max(borrowed - noise, 0.0) + degrees * own) / (prior + degrees)
    if folds > shrunk / num_seeds:
        return Variance(folds, fold_degrees, images, image_degrees)
    return Variance(shrunk / num_seeds, prior + degrees, images, image_degrees)


def _fold_variance(figure: Sample, images: float) -> tuple[float, float]:
    """What models of several folds differ by beyond the luck of their images, of the mean over the folds; and its
    degrees of freedom. Nothing for one model.

    Folds test disjoint images, so that the sum of squares over folds has the variance of images in it.

    Args:
        figure: what was measured.
        images: the variance over images of the mean.
    """
    if figure.images.fold is None:
        return 0.0, math.inf
    sums = summed(figure.influence.mean(axis=0, keepdims=True), figure.images.fold)[0]
    num_folds = len(sums)
    return max(float(np.square(sums).sum()) * num_folds / (num_folds - 1) - images, 0.0), num_folds - 1.0


def _image_variance(figure: Sample) -> tuple[float, float]:
    """The variance over images of the mean over seeds, and its degrees of freedom.

    A stratum whose images agree has shown no variance, which the others do not make up for: it has the smallest one.
    """
    influence = figure.influence.mean(axis=0, keepdims=True)
    by_stratum = figure.images.by_stratum(np.square(influence))[0]
    known = by_stratum >= figure.smallest * (1 - 1e-9)
    lacking = float(np.sum(np.where(known, 0, figure.smallest - by_stratum)))
    total = float(np.square(figure.images.by_unit(influence)).sum()) + lacking
    units = np.bincount(figure.images.stratum)
    spread = float(np.sum(np.square(np.where(known, by_stratum, 0)) / np.maximum(units - 1, 1)))
    degrees = (float(by_stratum.sum()) + lacking) ** 2 / spread if spread > 0 else max(figure.images.num_units - 1, 1)
    return max(total, figure.step**2), degrees


def interval_of(
    figure: Sample | None, luck: Luck | None = None, *, within: Interval = (-math.inf, math.inf)
) -> Interval | None:
    """The 95 % interval of the mean over the seeds of a figure; None for one without a seed.

    With one seed, and no other chains to lend a variance, it is over images only: its target is that model's figure.

    Args:
        figure: what was measured.
        luck: of the table that it belongs to.
        within: what the figure can be; the interval does not leave it.
    """
    if figure is None or not len(figure.values):
        return None
    half = variance_of(figure, luck).half_width()
    return max(figure.mean - half, within[0]), min(figure.mean + half, within[1])


# ---- jackknife


def jackknife_groups(num_images: int) -> int:
    """How many groups of images a jackknife deletes in turn; 0 where there are too few images to say anything."""
    return JACKKNIFE_GROUPS if num_images >= JACKKNIFE_GROUPS * JACKKNIFE_IMAGES else 0


def jackknife_deviation(deleted: NDArray[np.floating[Any]]) -> Floats:
    """[G, ...] figures, each without one of G groups -> [...] standard errors of the figure of all groups."""
    num_groups = len(deleted)
    squares = np.square(deleted - deleted.mean(axis=0)).sum(axis=0)
    return np.asarray(np.sqrt(squares * (num_groups - 1) / num_groups))


def jackknifed(values: Floats, deleted: Floats) -> Sample:
    """A figure at S seeds whose part of the images is known by a jackknife only.

    Args:
        values: [S], over all images.
        deleted: [G, S], without each of G groups of images.
    """
    num_groups, num_seeds = deleted.shape
    influence = (deleted - deleted.mean(axis=0)).T * math.sqrt((num_groups - 1) / num_groups)
    return Sample(tuple(range(num_seeds)), np.asarray(values, dtype=float), influence, Images.of(num_groups), 0.0)


def without_groups(values: NDArray[np.floating[Any]], images: Images, num_groups: int) -> Floats:
    """Means as in `sample` of [S, N] values without NaN, without each of some groups of images, [G, S].

    Units go to the groups in turn, stratum by stratum, so that groups are alike. A stratum that lies in one group is
    left out where that is deleted.
    """
    first = np.zeros(images.num_units, dtype=np.intp)
    np.maximum.at(first, images.unit, images.stratum)
    group = np.empty(images.num_units, dtype=np.intp)
    group[np.argsort(first, kind="stable")] = np.arange(images.num_units) % num_groups
    matrix = np.asarray(values, dtype=float)
    total, count = images.totals(matrix), images.totals(np.ones_like(matrix[:1]))
    rows = []
    for number in range(num_groups):
        kept = (group[images.unit] != number).astype(float)
        sums, sizes = images.by_stratum(total * kept), images.by_stratum(count * kept)
        rows.append(np.mean((sums / np.where(sizes > 0, sizes, np.nan))[:, sizes[0] > 0], axis=1))
    return np.array(rows)


def t_quantile(degrees: float) -> float:
    """The quantile of Student's t whose central interval has 95 %."""
    tail = (1 + LEVEL) / 2
    return float(scipy.special.ndtri(tail) if math.isinf(degrees) else scipy.special.stdtrit(degrees, tail))
