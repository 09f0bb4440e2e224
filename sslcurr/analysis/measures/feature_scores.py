"""Scores of frozen features that need no training: pure functions on arrays, in float64.

Larger is better for all three. They rank backbones on one set of images: values from different images or classes do not
compare. None of them changes when all features are multiplied by one number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.errors import DataError

Floats = NDArray[np.float64]

MAX_ITERATIONS = 1000  # of LogME's fixed point, for each class
TOLERANCE = 1e-9  # relative change of alpha / beta at which LogME's fixed point has converged
MIN_NOISE = 1e-10  # least variance of the noise that LogME assumes on its targets of 0 and 1
LEAST, MOST = 1e-40, 1e10  # range of alpha / beta in units of the largest squared singular value


def rankme(features: NDArray[Any]) -> float:
    """Effective rank of [N, D] features: RankMe (Garrido et al. 2023, arXiv 2210.02885); needs no labels.

    exp(-sum p log p), where p are the singular values divided by their sum and 0 log 0 is 0. The features are not
    centred, as in the paper. 1 says that all features are multiples of one vector, min(N, D), the most there can be,
    that all directions are used alike.

    The paper adds 1e-7 to each p, stable-pretraining adds 1e-5, without dividing by the new sum. Nothing is added here,
    so that values are up to min(N, D) and do not depend on it otherwise: for features of rank one with N = D = 2,048 it
    is 1 here, 1.003 with 1e-7 and 1.27 with 1e-5.

    Raises:
        DataError: if there are fewer than 2 images, or features that are NaN, infinite, or all zero.
    """
    x = _checked(features)
    values = np.linalg.svd(x, compute_uv=False)
    if not values.any():
        raise DataError("all features are zero", "the backbone is dead or was not loaded; RankMe of it is not defined")
    shares = values / values.sum()
    shares = shares[shares > 0]
    return math.exp(-float(np.sum(shares * np.log(shares))))


def logme(features: NDArray[Any], labels: NDArray[Any]) -> float:
    """LogME of [N, D] features for [N] class numbers (You et al. 2021, arXiv 2102.11005).

    For each class, the targets y (1 for its images, 0 for others) are taken as a Bayesian linear regression on the
    features F, y ~ Normal(0, I / beta + F F^T / alpha). LogME is log p(y) / N at the best alpha and beta, averaged over
    the classes that occur in `labels`. It lies between -1.42, for features that say nothing of a class of all images,
    and 10.6; as it is the logarithm of a density, its zero means nothing.

    The features are neither centred nor scaled, as with the authors: a common shift of the features changes the value.
    Features of zero have the value of targets that are noise alone.

    alpha and beta come from the fixed-point iteration on the singular values of F (arXiv 2110.10545). Three things
    differ from the authors' code: it begins at the best of a grid of alpha / beta rather than at 1, and so does not
    end in a lower maximum, and runs until alpha / beta moves by less than TOLERANCE, MAX_ITERATIONS times at most,
    rather than 11 times; the best value that it met counts. Where F fits y exactly with N > rank the evidence has no
    bound, so 1 / beta is MIN_NOISE or more rather than 1e-5 added to sums of squares. Classes without images are left
    out, not counted.

    Raises:
        DataError: if there are fewer than 2 images, features that are NaN or infinite, labels that do not fit, or one
            class only.
    """
    x = _checked(features)
    index, counts = _classes(labels, len(x))
    u, s = _range(x)
    targets = np.eye(len(counts))[index]
    inside = u.T @ targets
    rest = np.sum((targets - u @ inside) ** 2, axis=0)
    evidence = _evidence(s**2 / s[0] ** 2 if len(s) else s, inside**2, rest, len(x))
    return float(np.mean(evidence)) / len(x)


def h_score(features: NDArray[Any], labels: NDArray[Any], *, shrinkage: bool = True) -> float:
    """H-score of [N, D] features f for [N] class numbers y: Tr(cov(f)^-1 cov(E[f|y])) (Bao et al. 2019).

    It is the variance between classes as a share of all variance, summed over directions. It lies between 0, for class
    means that are equal, and the smaller of classes - 1 and the rank of the centred features, for features that fix
    the class by a linear map. Constant features have 0.

    With `shrinkage` it is that of Ibrahim et al. 2021 (arXiv 2110.06893), Tr(cov_a(f)^-1 (1 - a) cov(E[f|y])), where
    cov_a is cov shrunk to a multiple of the identity by the a of Ledoit and Wolf; both covariances divide by N.
    Where cov is a multiple of the identity already (as with one feature) a is 0.

    Without, cov(f)^-1 is the pseudo-inverse: singular values of the centred features below max(N, D) times the float64
    epsilon times the largest count as 0. It does not change under any invertible linear map of the features, but says
    nothing when N <= D: it then is classes - 1 for whatever labels, if the centred features have rank N - 1.

    Raises:
        DataError: if there are fewer than 2 images, features that are NaN or infinite, labels that do not fit, or one
            class only.
    """
    x = _checked(features)
    index, counts = _classes(labels, len(x))
    x = x - x[0]  # first, so that a constant feature is exactly 0 after the mean is taken off
    x = x - x.mean(axis=0)
    u, s = _range(x)
    sums = np.zeros((len(counts), len(s)))
    np.add.at(sums, index, u)
    between = np.sum(sums**2 / counts[:, None], axis=0)  # share of each direction's variance that is between classes
    if not shrinkage:
        return float(between.sum())
    a = _ledoit_wolf(x, s)
    kept, added = (1 - a) * s**2, a * np.sum(s**2) / x.shape[1]
    return float(np.sum(between * kept / (kept + added)))


def _checked(features: NDArray[Any]) -> Floats:
    """The features in float64, divided by the largest absolute value, so that squares neither vanish nor overflow."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"features have the shape {list(x.shape)}", "give [N, D]: one row of features for each image")
    if len(x) < 2:
        raise DataError(f"scores of features need at least 2 images, got {len(x)}", "give more images")
    bad = int(np.sum(~np.isfinite(x).all(axis=1)))
    if bad:
        raise DataError(
            f"features of {bad} of {len(x)} images are NaN or infinite",
            "the backbone diverged, or the images hold such values",
        )
    most = np.abs(x).max()
    return x / most if most > 0 else x


def _classes(labels: NDArray[Any], num_images: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The class of each image, counted over the classes that occur, and their numbers of images."""
    y = np.asarray(labels)
    if y.shape != (num_images,):
        raise DataError(
            f"features are of {num_images} images, labels have the shape {list(y.shape)}", "give one label for each"
        )
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise DataError(f"labels of {int(np.isnan(y).sum())} of {num_images} images are NaN", "leave these images out")
    _, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise DataError("all images are of one class", "give images of at least 2 classes")
    return index, counts


def _range(x: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors [N, R] and singular values [R] of [N, D], R being the rank in float64."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > max(x.shape) * np.finfo(np.float64).eps * s[0]))
    return u[:, :rank], s[:rank]


def _ledoit_wolf(x: Floats, s: Floats) -> float:
    """The share of the identity in the covariance of centred [N, D] features with the singular values [R]."""
    n, d = x.shape
    mean = float(np.sum(s**2)) / (n * d)
    squares = float(np.sum(s**4)) / n**2
    distance = squares / d - mean**2  # of the covariance from mean * identity, squared, for each feature
    if distance <= 1e-12 * mean**2:
        return 0.0
    error = (float(np.sum(np.sum(x**2, axis=1) ** 2)) / n - squares) / (n * d)
    return float(min(max(error, 0.0) / distance, 1.0))


def _evidence(s2: Floats, inside: Floats, rest: Floats, n: int) -> Floats:
    """The largest log evidence of each of C targets over alpha and beta, [C].

    With q = alpha / beta, y^T (I + F F^T / q)^-1 y is sum(inside * q / (q + s2)) + rest.

    Args:
        s2: [R] squared singular values of the features, the largest being 1.
        inside: [R, C] squared parts of the targets along the left singular vectors.
        rest: [C] squared length of what is left of the targets.
        n: number of images.
    """

    def at(error: Floats, log_det: Any) -> Floats:
        beta = np.minimum(n / error, 1 / MIN_NOISE)  # the best one for this q
        return np.asarray(n * np.log(beta / (2 * math.pi)) - beta * error - log_det) / 2

    best: Floats = at(rest + inside.sum(axis=0), 0.0)  # q infinite: the features are of no use
    grid = np.geomspace(LEAST, MOST, 201)[:, None]
    values = at(grid / (grid + s2) @ inside + rest, np.log1p(s2 / grid).sum(axis=1, keepdims=True))
    best = np.maximum(best, values.max(axis=0))
    for c, q in enumerate(grid[values.argmax(axis=0), 0]):
        part = inside[:, c]
        for _ in range(MAX_ITERATIONS):
            noise = q / (q + s2)
            length = float(np.sum(part * s2 / (q + s2) ** 2))  # squared, of the mean weights
            if length == 0:
                break
            used = float(np.sum(s2 / (q + s2)))  # effective number of weights
            free = n - len(s2) + float(noise.sum())  # n - used, without cancellation
            alpha = used / length
            beta = min(free / (rest[c] + float(np.sum(part * noise**2))), 1 / MIN_NOISE)
            before, q = q, min(max(alpha / beta, LEAST), MOST)
            value = at(np.sum(part * q / (q + s2)) + rest[c], np.log1p(s2 / q).sum())
            best[c] = max(best[c], float(value))
            if abs(q - before) <= TOLERANCE * before:
                break
    return best
