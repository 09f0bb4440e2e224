"""Distances between two sets of features: Fréchet, its extrapolation to many images, and kernel.

Everything is computed in float64 with as many threads as the caller set. No square root of a matrix is taken: with
factors F1^T F1 = S1 and F2^T F2 = S2 of the covariances, Tr (S1 S2)^(1/2) is the sum of the singular values of F1 F2^T.
That has no imaginary part, is exact for covariances without full rank, and is small where the images are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from sslcurr.errors import DataError, SpecError
from sslcurr.seeds import numpy_generator

Floats = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
NUM_ROWS = 4096  # rows that are lifted to float64 at a time
PRECISE = 1e-12  # error up to which eigenvalues do instead of singular values, relative to the distance
PRECISE_OF_TRACES = 1e-14  # or relative to the traces, to which singular values are good to about 1e-15
ROUNDING = 16 * EPS  # of the traces: what two sums of variances cannot be told apart by


# ---- features and their moments


class Moments:
    """Number, mean and covariance of features that are seen a batch at a time.

    Up to as many rows as a row is long are held as they are: they give a distance faster and more exactly than a
    covariance without full rank. Beyond, memory is one d x d matrix, however many rows follow.
    """

    def __init__(self) -> None:
        self.num = 0
        self._held: list[Floats] | None = []
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """The moments of all `features`, [n, d]."""
        moments = cls()
        moments.add(features)
        return moments

    def add(self, features: ArrayLike) -> None:
        """Take in more rows, [b, d]; batches are merged by Chan's formula, so that a large mean costs no digits."""
        rows = _checked(features)
        if self.num and rows.shape[1] != self.dim:
            raise SpecError(_widths(self.dim, rows.shape[1]), "give features of one model and one of its layers")
        if not len(rows):
            return
        if self.num == 0:
            self._mean = np.zeros(rows.shape[1])
        if self._held is not None:
            if self.num + len(rows) <= self.dim:
                part = np.array(rows, dtype=np.float64)
                mean = _mean(part)
                self._held.append(part)
                self._mean += (mean - self._mean) * (len(part) / (self.num + len(part)))
                self.num += len(part)
                return
            held, self._held = self._held, None
            self.num, self._scatter = 0, np.zeros((self.dim, self.dim))
            if held:
                self._merge(np.concatenate(held))
        for start in range(0, len(rows), NUM_ROWS):
            self._merge(rows[start : start + NUM_ROWS])

    def _merge(self, rows: NDArray[np.floating]) -> None:
        mean = _mean(rows)
        centred = np.subtract(rows, mean, dtype=np.float64)
        total = self.num + len(rows)
        change = mean - self._mean
        with np.errstate(over="ignore", invalid="ignore"):  # a distance says so
            scatter = centred.T @ centred
            if self.num:
                scatter += self._scatter
                scatter += np.outer(change * (self.num * (len(rows) / total)), change)
        self._scatter = scatter
        self._mean = self._mean + change * (len(rows) / total) if self.num else mean
        self.num = total

    @property
    def dim(self) -> int:
        """The length of a row; 0 before the first."""
        return len(self._mean)

    @property
    def mean(self) -> Floats:
        """[d]."""
        return self._mean.copy()

    @property
    def covariance(self) -> Floats:
        """[d, d], with n - 1 in the denominator."""
        _enough(self.num)
        if self._held is not None:
            rows = _reduced(np.concatenate(self._held), self._mean)
            return rows.T @ rows / (self.num - 1)
        return self._scatter / (self.num - 1)

    @property
    def rows(self) -> Floats | None:
        """The features themselves, [n, d], while they are held."""
        return None if self._held is None or not self.num else np.concatenate(self._held)


def _checked(features: ArrayLike) -> NDArray[np.floating]:
    """Features as an array of floats, not copied where they are one already."""
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise SpecError(f"features of the shape {list(rows.shape)}", "give one row for an image, [n, d]")
    if rows.dtype.kind not in "fiu":
        raise SpecError(f"features of the type {rows.dtype}", "give float32 or float64")
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)


def _mean(rows: NDArray[np.floating]) -> Floats:
    """The mean of rows in float64; raises DataError where it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = rows.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        num_bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise DataError(
            f"{num_bad} of {len(rows)} rows of features are not finite"
            if num_bad
            else "the features are too large for a mean",
            "look at the images that they come from, and at the weights: a broken checkpoint gives NaN",
        )
    return mean


def _widths(first: int, second: int) -> str:
    return f"features of {first} and of {second} dimensions cannot be compared"


def _enough(num: int) -> None:
    if num < 2:
        raise DataError(f"a set of {num} image{'' if num == 1 else 's'} has no covariance", "give two images or more")


def _reduced(rows: NDArray[np.floating], mean: Floats) -> Floats:
    """[n, d] -> [n - 1, d] with the same scatter matrix as the centred rows.

    A Householder reflection takes the direction of the mean (all ones) to the first row, which centring makes zero.
    Without that row F1 F2^T has no singular value that is zero for every set.
    """
    shift = mean + (rows[0] - mean) / (math.sqrt(len(rows)) + 1)
    return np.subtract(rows[1:], shift, dtype=np.float64)


# ---- the Fréchet distance


class _Set:
    """One side of a distance. Factors F are of the scatter matrix, F^T F = (n - 1) S."""

    def __init__(self, features: ArrayLike | Moments) -> None:
        self.moments = features if isinstance(features, Moments) else None
        self.rows = features.rows if isinstance(features, Moments) else _checked(features)
        self.num = features.num if isinstance(features, Moments) else len(self.rows)  # type: ignore[arg-type]
        _enough(self.num)
        self.dim = features.dim if isinstance(features, Moments) else self.rows.shape[1]  # type: ignore[union-attr]
        self.short = self.rows is not None and self.num <= self.dim
        self.trace = 0.0  # of the scatter matrix
        if self.short:
            assert self.rows is not None
            self.mean = _mean(self.rows)
            self.factor = _reduced(self.rows, self.mean)
            self.trace = float(np.vdot(self.factor, self.factor))
        else:
            if self.moments is None:
                assert self.rows is not None
                self.moments = Moments.of(self.rows)
            self.mean = self.moments._mean
            self.scatter = self.moments._scatter
            self.trace = float(np.trace(self.scatter))
        if not math.isfinite(self.trace):
            raise DataError("the features are too large for a covariance", "their squares are beyond float64")

    def equals(self, other: _Set) -> bool:
        """Whether the sets are known to be the same, row by row or in their moments."""
        if self.rows is not None and other.rows is not None:
            return self.rows is other.rows or np.array_equal(self.rows, other.rows)
        if self.short or other.short or self.num != other.num:
            return False
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.scatter, other.scatter)

    def cholesky(self) -> Floats | None:
        """The lower Cholesky factor of the scatter matrix; None where that is not positive definite."""
        # The scatter matrix is symmetric, so its transpose is itself, in the order of memory that LAPACK wants.
        lower, info = scipy.linalg.lapack.dpotrf(self.scatter.T, lower=1, clean=1)
        return lower if info == 0 else None

    def largest(self) -> float:
        """About the largest eigenvalue of the scatter matrix, from below, by a few steps of the power iteration."""
        if self.short:
            vector = self.factor[int(np.argmax(np.einsum("ij,ij->i", self.factor, self.factor)))]
        else:
            vector = self.scatter[int(np.argmax(np.diag(self.scatter)))]
        length = 0.0
        for _ in range(6):
            norm = float(np.linalg.norm(vector))
            if norm == 0:
                return length
            vector = vector / norm
            vector = self.factor.T @ (self.factor @ vector) if self.short else self.scatter @ vector
            length = float(np.linalg.norm(vector))
        return length

    def good_factor(self) -> Floats:
        """The rows, the R of their QR decomposition, or, without rows, the pivoted Cholesky factor."""
        if self.short:
            return self.factor
        if self.rows is not None:
            upper = np.zeros((0, self.dim))
            for rows in _blocks(self.rows, max(NUM_ROWS, 2 * self.dim)):
                centred = np.subtract(rows, self.mean, dtype=np.float64)
                upper = np.asarray(np.linalg.qr(np.concatenate([upper, centred]), mode="r"))
            return upper
        # By channel, pivots are chosen after scaling to unit variance: a channel with small values is not noise.
        scale = np.sqrt(np.maximum(np.diag(self.scatter), 0))
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf((self.scatter * inverse * inverse[:, None]).T, lower=1)
        factor = np.empty((rank, self.dim))
        factor[:, pivots - 1] = np.tril(lower)[:, :rank].T
        return factor * scale


def _blocks(rows: NDArray[np.floating], num: int) -> Iterator[NDArray[np.floating]]:
    for start in range(0, len(rows), num):
        yield rows[start : start + num]


def _quick_nuclear_norm(a: _Set, b: _Set) -> tuple[float, float] | None:
    """The sum of the singular values of F1 F2^T by eigenvalues of F1 S2 F1^T, and its error; None without a factor.

    At least one of the sets has more than d rows.

    Rounding in a covariance, its Cholesky factor or the eigenvalues is an error E with about eps times the norm of the
    whole matrix, and an eigenvalue of eigenvector u moves by u^T E u. That is 1 / sqrt(k) of the norm of E for k
    eigenvalues, of either sign. A root keeps the error relative to the eigenvalue where that is large, and has the root
    of the error where it is small. On features like those of networks the true error was 1 to 6 times smaller than
    what is returned.
    """
    if a.short or b.short:
        few, many = (a, b) if a.short else (b, a)
        gram = few.factor @ many.scatter @ few.factor.T
    else:
        lower, other = a.cholesky(), b
        if lower is None:
            lower, other = b.cholesky(), a
        if lower is None:
            return None
        # L^T S L in one triangle, the lower one, which is what `eigvalsh` reads
        gram, _ = scipy.linalg.lapack.dsygst(other.scatter.T, lower, itype=2, lower=1)
    values = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    size = max(float(np.linalg.norm(values)), a.largest() * b.largest())
    noise = EPS / 2 * size / math.sqrt(len(values))
    error = 0.0
    if noise > 0:
        error = float(np.linalg.norm(noise / (2 * np.sqrt(np.maximum(values, noise)))))
    return float(np.sum(np.sqrt(values))), error


def _good_nuclear_norm(a: _Set, b: _Set) -> tuple[float, float]:
    """The sum of the singular values of F1 F2^T, and its error."""
    first, second = a.good_factor(), b.good_factor()
    if not len(first) or not len(second):
        return 0.0, 0.0
    values = np.linalg.svd(first @ second.T, compute_uv=False)
    return float(np.sum(values)), 4 * EPS * math.sqrt(len(values)) * float(values[0])


def frechet_distance(a: ArrayLike | Moments, b: ArrayLike | Moments) -> float:
    """The squared Fréchet distance |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), https://arxiv.org/abs/1706.08500.

    It is 0.0 for equal sets, never negative and never NaN. The parts of the means and of the covariances are each set
    to 0.0 where they cannot be told from rounding: that of the covariances up to 16 eps (4e-15) of Tr S1 + Tr S2 and
    the error of the last term (together below 5e-14 of them at d = 2,048), that of the means up to (4 eps)^2 n of their
    squared norms.

    Sets of d rows or fewer are compared by singular values of their cross product. Larger ones are by eigenvalues where
    these are known to about 1e-12 of the distance or 1e-14 of the traces, else by singular values too: arrays then
    go through a QR decomposition, which loses nothing; of `Moments` beyond d rows only the covariance is left, in which
    variances below 1e-16 of the largest drown.

    Args:
        a, b: [n, d] and [m, d] features, or their `Moments`.

    Raises:
        DataError: a set has fewer than two rows, or some that are not finite.
        SpecError: the sets differ in d.
    """
    first, second = _Set(a), _Set(b)
    if first.dim != second.dim:
        raise SpecError(_widths(first.dim, second.dim), "give both from one model and one of its layers")
    if first.equals(second):
        return 0.0
    change = first.mean - second.mean
    of_means = float(change @ change)
    size = float(first.mean @ first.mean + second.mean @ second.mean)
    if of_means <= (4 * EPS) ** 2 * max(first.num, second.num) * size:
        of_means = 0.0
    traces = first.trace / (first.num - 1) + second.trace / (second.num - 1)
    scale = 2 / math.sqrt((first.num - 1) * (second.num - 1))
    quick = None if first.short and second.short else _quick_nuclear_norm(first, second)
    if quick is not None:
        value = of_means + traces - scale * quick[0]
        if scale * quick[1] > max(PRECISE * value, PRECISE_OF_TRACES * traces):
            quick = None
    norm, error = quick or _good_nuclear_norm(first, second)
    of_covariances = traces - scale * norm
    if of_covariances <= ROUNDING * traces + scale * error:
        of_covariances = 0.0
    return of_means + of_covariances


# ---- the kernel distance


def kernel_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The kernel distance (KID): unbiased MMD^2 with the kernel (x.y / d + 1)^3, https://arxiv.org/abs/1801.01401.

    All pairs are used, a block at a time. Its mean over draws of one distribution is 0, so it is often negative there.

    Args:
        a, b: [n, d] and [m, d] features.
    """
    first, second = _pair(a, b)
    n, m = len(first), len(second)
    within = _kernel_sum(first) / (n * (n - 1)) + _kernel_sum(second) / (m * (m - 1))
    return within - 2 * _kernel_sum(first, second) / (n * m)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Two sets of rows of one width, finite, two rows or more each."""
    if isinstance(a, Moments) or isinstance(b, Moments):
        raise SpecError("moments have no rows to draw from or to compare", "give the features themselves")
    first, second = _checked(a), _checked(b)
    for rows in (first, second):
        _enough(len(rows))
        _mean(rows)
    if first.shape[1] != second.shape[1]:
        raise SpecError(_widths(first.shape[1], second.shape[1]), "give both from one model and one of its layers")
    return first, second


def _kernel_sum(rows: NDArray[np.floating], others: NDArray[np.floating] | None = None, num: int = 2048) -> float:
    """The sum of the kernel over all pairs, without those of a row and itself where there are no `others`."""
    dim = rows.shape[1]
    total = 0.0
    for start in range(0, len(rows), num):
        block = rows[start : start + num].astype(np.float64, copy=False)
        columns = rows if others is None else others
        for at in range(start if others is None else 0, len(columns), num):
            kernel = block @ columns[at : at + num].astype(np.float64, copy=False).T
            kernel /= dim
            kernel += 1
            cube = kernel * kernel
            cube *= kernel
            if others is not None:
                total += float(cube.sum())
            elif at == start:
                np.fill_diagonal(cube, 0.0)
                total += float(cube.sum())
            else:  # the block below the diagonal has the same sum
                total += 2 * float(cube.sum())
    return total


# ---- samples


@dataclass(frozen=True)
class Extrapolated:
    """A distance as the number of images grows: value + slope / n.

    Attributes:
        value: the intercept, the distance for endlessly many images; may be below 0.
        slope: what a distance is too large by, times n.
        sizes: images a set, rising.
        distances: the Fréchet distance at each size.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolated_distance(a: ArrayLike, b: ArrayLike, *, num_sizes: int = 15, seed: int) -> Extrapolated:
    """The Fréchet distance without the bias of few images (FID infinity), https://arxiv.org/abs/1911.07023.

    Both sets are drawn from, as many rows of each, and a straight line in 1 / n is fitted, with weights: the spread of
    a distance between samples of one distribution falls as 1 / n. (The paper's line has none, and its intercept spreads
    up to half as much again.) Sizes are evenly spaced up to N, the smaller of both sets, and begin at N / 10, or at 2 d
    where that is more, but not beyond N / 2: below about 2 d rows the distance is no straight line in 1 / n. Sets
    smaller than 4 d thus leave a part of the bias.
    """
    first, second = _pair(a, b)
    if num_sizes < 2:
        raise SpecError(f"a line through {num_sizes} sizes", "give two sizes or more")
    most = min(len(first), len(second))
    if most < 4:
        raise DataError(f"{most} images are too few to extrapolate from", "give four or more, better thousands")
    least = max(2, min(max(most // 10, 2 * first.shape[1]), most // 2))
    sizes = sorted({round(size) for size in np.linspace(least, most, num_sizes)})
    generator = numpy_generator(seed, "extrapolate")
    distances = []
    for size in sizes:
        sets = [
            rows if len(rows) == size else rows[np.sort(generator.choice(len(rows), size, replace=False))]
            for rows in (first, second)
        ]
        distances.append(frechet_distance(*sets))
    slope, value = np.polyfit(1 / np.array(sizes), distances, 1, w=sizes)
    return Extrapolated(float(value), float(slope), tuple(sizes), tuple(distances))


def halves(num: int, size: int, generator: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two random sets of `size` numbers below `num` that have none in common, each rising."""
    if size < 1 or 2 * size > num:
        raise SpecError(
            f"two sets of {size} without a common image cannot be drawn from {num}",
            f"give a size from 1 to {num // 2}" if num >= 2 else "give two images or more",
        )
    order = generator.permutation(num)
    return np.sort(order[:size]), np.sort(order[size : 2 * size])
