"""Centred kernel alignment (CKA) of layers: HSIC of Gram matrices, summed over batches; pure functions on tensors.

CKA is of Kornblith et al. 2019 (https://arxiv.org/abs/1905.00414), the unbiased HSIC of Song et al. 2012
(https://jmlr.org/papers/v13/song12a.html), its mean over batches of Nguyen et al. 2021 (https://arxiv.org/abs/2010.15327).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.analysis.measures.intervals import LEVEL, ends_of, times_drawn
from sslcurr.errors import DataError
from sslcurr.seeds import numpy_generator

# The fewest images of a batch for which the unbiased estimate exists.
FEWEST = 4
# Sums of batches are kept apart for the bootstrap, in so many groups at most: memory does not grow with the batches.
GROUPS = 64
# Features whose variance is a smaller share of their mean square than this differ by rounding only.
CONSTANT = 1e-10
# On a CPU so many columns of the features are shifted and multiplied at once, so many rows of a Gram matrix; the blocks
# below the diagonal are copied.
COLUMNS, BLOCK = 16384, 64
# The mean of so many rows is what features are shifted by ...
FEW = 4
# ... unless these rows differ by more than this share of their mean square: the products then lose next to no digits.
SPREAD = 0.25


def linear_gram(features: Tensor) -> Tensor:
    """Inner products of rows that were all shifted alike, [n, D] -> [n, n] float64; zeros where all rows are equal.

    HSIC does not change when something is added to all rows. Shifted by the mean of a few of them, what all have in
    common, which is most of the features of many layers, costs no digits of the float32 products.
    """
    reference = features[:FEW].mean(dim=0)
    gram = _products(features, reference)
    return torch.where(_rows_are_equal(gram, reference), torch.zeros_like(gram), gram)


def _rows_are_equal(gram: Tensor, reference: Tensor) -> Tensor:
    """Whether the rows behind `_products` differ by rounding only; not where something is not finite."""
    variance = gram.diagonal().sum() - gram.sum() / len(gram)
    return variance <= CONSTANT * len(gram) * reference.double().square().sum()


def _products(features: Tensor, reference: Tensor) -> Tensor:
    """[n, n] float64 inner products of `features` less `reference`."""
    num = len(features)
    if features.device.type != "cpu":
        shifted = features - reference
        return _mirrored((shifted @ shifted.T).double())
    gram = features.new_zeros(num, num, dtype=torch.float64)
    for part in _stripes(features, reference):
        for start in range(0, num, BLOCK):
            stop = start + BLOCK
            gram[start:stop, start:] += part[start:stop] @ part[start:].T
    for start in range(0, num, BLOCK):
        stop = start + BLOCK
        gram[stop:, start:stop] = gram[start:stop, stop:].T
        gram[start:stop, start:stop] = _mirrored(gram[start:stop, start:stop])
    return gram


def _mirrored(square: Tensor) -> Tensor:
    """A square matrix with its upper half mirrored: not every BLAS gives a @ a.T symmetric to the bit."""
    return square.triu() + square.triu(1).T


def _stripes(features: Tensor, reference: Tensor) -> Iterator[Tensor]:
    """Columns of the features, shifted where that keeps digits, some at a time where they are."""
    few = features[:FEW]
    if (few - reference).square().sum() > SPREAD * few.square().sum():
        yield features
        return
    for left in range(0, features.shape[1], COLUMNS):
        yield features[:, left : left + COLUMNS] - reference[left : left + COLUMNS]


def rbf_gram(features: Tensor, bandwidth: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """exp(-distance^2 / (2 bandwidth^2)) of rows, [n, D] -> [n, n] float64, and the bandwidth.

    Without one given it is the median distance between different rows (Kornblith et al., appendix).
    """
    reference = features[:FEW].mean(dim=0)
    products = _products(features, reference)
    squares = products.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * products).clamp(min=0)
    if bandwidth is None:
        above = torch.triu_indices(len(features), len(features), offset=1, device=features.device)
        bandwidth = distances[above[0], above[1]].median().sqrt()
    if bandwidth == 0 or _rows_are_equal(products, reference):
        return torch.zeros_like(products), bandwidth  # most rows are alike: no two can be told apart
    return torch.exp(-distances / (2 * bandwidth**2)), bandwidth


def centre(grams: Tensor, estimator: str) -> Tensor:
    """[L, n, n] Gram matrices -> [L, n * n] rows whose inner products are their HSIC, with all factors.

    `unbiased`: U-centred (https://arxiv.org/abs/1310.2926), over n (n - 3): the estimate of Song et al., which may be
    negative. `biased`: centred, over (n - 1)^2.
    """
    n = grams.shape[-1]
    if estimator == "biased":
        means = grams.mean(dim=2, keepdim=True)
        centred = grams - means - means.transpose(1, 2) + means.mean(dim=1, keepdim=True)
        return centred.flatten(1) / (n - 1)
    centred = grams - torch.diag_embed(grams.diagonal(dim1=1, dim2=2))
    sums = centred.sum(dim=2, keepdim=True)
    total = sums.sum(dim=1, keepdim=True)
    centred = centred - (sums + sums.transpose(1, 2)) / (n - 2) + total / ((n - 1) * (n - 2))
    centred.diagonal(dim1=1, dim2=2).zero_()
    return centred.flatten(1) / (n * (n - 3)) ** 0.5


class Alignment:
    """HSIC of every layer with every layer, summed over batches; memory does not grow with their number.

    Attributes:
        sums: [groups, L, L] float64; batch number b is in group b modulo `GROUPS`.
        counts: [groups], the batches in each.
    """

    def __init__(self, num_layers: int, estimator: str = "unbiased") -> None:
        self.estimator = estimator
        self.sums = np.zeros((0, num_layers, num_layers))
        self.counts = np.zeros(0)
        self.num_batches = 0

    def add(self, grams: Tensor) -> None:
        """The Gram matrices [L, n, n] of one batch.

        Raises:
            DataError: fewer than four images.
        """
        if grams.shape[-1] < FEWEST:
            raise DataError(
                f"CKA needs {FEWEST} images in a batch, got {grams.shape[-1]}", "give more images, or --split all"
            )
        rows = centre(grams, self.estimator)
        products = (rows @ rows.T).cpu().numpy()
        if self.num_batches < GROUPS:
            self.sums = np.concatenate([self.sums, products[None]])
            self.counts = np.append(self.counts, 1.0)
        else:
            self.sums[self.num_batches % GROUPS] += products
            self.counts[self.num_batches % GROUPS] += 1
        self.num_batches += 1


@dataclass(frozen=True)
class Estimates:
    """CKA of layers with layers.

    Attributes:
        value: [L, L], NaN where a layer gives the same features for all images.
        low, high: [L, L] ends of 95 % intervals; None where there are too few batches to say.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None


def cka_of(sums: NDArray[Any]) -> NDArray[np.float64]:
    """[..., L, L] sums of HSIC -> CKA of the same shape; NaN where a layer has no variance.

    Values are not clipped: unbiased estimates of unrelated features lie around 0, on both sides.
    """
    diagonal = np.diagonal(sums, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(diagonal[..., :, None] * diagonal[..., None, :])
        return np.where(scale > 0, sums / scale, np.nan)


def estimates(
    sums: NDArray[Any], counts: NDArray[Any], *, num_resamples: int = 1000, level: float = LEVEL, seed: int = 0
) -> Estimates:
    """CKA from the sums of an `Alignment`, with percentile bootstrap intervals over its batches.

    With fewer than four batches there are no intervals.
    """
    value = cka_of(sums.sum(axis=0))
    if len(counts) < FEWEST:
        return Estimates(value, None, None)
    generator = numpy_generator(seed, "bootstrap of batches")
    drawn = times_drawn(generator, len(counts), num_resamples)
    diagonal = drawn @ np.diagonal(sums, axis1=1, axis2=2)
    low, high = np.empty_like(value), np.empty_like(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        for row in range(len(value)):
            resampled = (drawn @ sums[:, row]) / np.sqrt(diagonal[:, row, None] * diagonal)
            low[row], high[row] = ends_of(resampled, level, axis=0)
    return Estimates(value, low, high)
