"""Centred kernel alignment (CKA) of layers: HSIC of Gram matrices, summed over batches; pure functions on tensors.

CKA is of Kornblith et al. 2019 (https://arxiv.org/abs/1905.00414), the unbiased HSIC of Song et al. 2012
(https://jmlr.org/papers/v13/song12a.html), its mean over batches of Nguyen et al. 2021 (https://arxiv.org/abs/2010.15327).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.analysis.measures.intervals import JACKKNIFE_GROUPS, jackknife_deviation, jackknife_groups, t_quantile
from sslcurr.errors import DataError

# The fewest images of a batch for which the unbiased estimate exists.
FEWEST = 4
# The jackknife deletes so many groups of images at most: memory does not grow with the batches.
MOST_GROUPS = 64
# Features whose variance is a smaller share of their mean square than this differ by rounding only.
CONSTANT = 1e-10
# On a CPU features are multiplied in pieces of so many columns, so many pieces at once: cores share them, and what is
# summed up in float32 is short. A Gram matrix is made in blocks of so many rows; those below the diagonal are copied.
COLUMNS, PIECES, BLOCK = 2048, 8, 64
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
    return torch.where(_rows_are_equal(gram, reference), 0.0, gram)


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
    for pieces in _pieces(features, reference):
        for start in range(0, num, BLOCK):
            products = torch.bmm(pieces[:, start : start + BLOCK], pieces[:, start:].transpose(1, 2))
            gram[start : start + BLOCK, start:] += products.sum(dim=0, dtype=torch.float64)
    return _mirrored(gram)


def _mirrored(square: Tensor) -> Tensor:
    """A square matrix with its upper half mirrored: not every BLAS gives a @ a.T symmetric to the bit."""
    return square.triu() + square.triu(1).T


def _pieces(features: Tensor, reference: Tensor) -> Iterator[Tensor]:
    """[k, n, d] pieces of the columns of [n, D] features, shifted where that keeps digits, some at a time."""
    few = features[:FEW]
    far_apart = bool((few - reference).square().sum() > SPREAD * few.square().sum())
    for left in range(0, features.shape[1], COLUMNS * PIECES):
        columns = slice(left, left + COLUMNS * PIECES)
        part = features[:, columns] if far_apart else features[:, columns] - reference[columns]
        whole = part.shape[1] // COLUMNS * COLUMNS
        if whole:
            yield part[:, :whole].unflatten(1, (-1, COLUMNS)).transpose(0, 1)
        if whole < part.shape[1]:
            yield part[None, :, whole:]


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
    return _centre_in_place(grams.clone(), estimator)


def _centre_in_place(centred: Tensor, estimator: str) -> Tensor:
    """What `centre` gives, in the memory of its argument: those of many layers take hundreds of megabytes."""
    n = centred.shape[-1]
    if estimator == "biased":
        means = centred.mean(dim=2, keepdim=True)
        centred -= means
        centred -= means.transpose(1, 2)
        centred += means.mean(dim=1, keepdim=True)
        return centred.flatten(1).div_(n - 1)
    centred.diagonal(dim1=1, dim2=2).zero_()
    sums = centred.sum(dim=2, keepdim=True)
    total = sums.sum(dim=1, keepdim=True)
    for layer, of_rows in zip(centred, sums, strict=True):
        layer -= (of_rows + of_rows.T) / (n - 2)
    centred += total / ((n - 1) * (n - 2))
    centred.diagonal(dim1=1, dim2=2).zero_()
    return centred.flatten(1).div_((n * (n - 3)) ** 0.5)


def groups_of(batches: Sequence[int]) -> list[NDArray[np.intp]]:
    """The jackknife group of each image, for batches of so many images each.

    Whole batches make the groups where there are enough of them, else groups are runs of images, which a batch then has
    several of. Below 80 images there are none, and the arrays are empty.
    """
    num_images, num_batches = sum(batches), len(batches)
    num_groups = jackknife_groups(num_images)
    if num_batches >= num_groups > 0:
        return [np.full(size, number % MOST_GROUPS) for number, size in enumerate(batches)]
    every = np.arange(num_images) * num_groups // max(num_images, 1) if num_groups else np.empty(0, dtype=np.intp)
    return np.split(every, np.cumsum(batches)[:-1]) if num_groups else [every for _ in batches]


@dataclass(frozen=True)
class BatchSums:
    """HSIC of every layer with every layer in one batch.

    Attributes:
        products: [L, L] float64, of all its images.
        groups: [g] the jackknife groups that its images are in, in order; none where there are no groups.
        without: group -> [L, L], of the images outside it, times their share of the batch; none where fewer than four
            are left.
    """

    products: NDArray[np.float64]
    groups: NDArray[np.integer]
    without: dict[int, NDArray[np.float64]]


def batch_sums(grams: Tensor, groups: NDArray[np.integer] | None = None, estimator: str = "unbiased") -> BatchSums:
    """HSIC of the Gram matrices [L, n, n] of one batch.

    Args:
        grams: one of each layer.
        groups: [n] the jackknife groups of the images; None or none where there are no groups.
        estimator: as `centre` takes it.

    Raises:
        DataError: fewer than four images.
    """
    num_images = grams.shape[-1]
    if num_images < FEWEST:
        raise DataError(f"CKA needs {FEWEST} images in a batch, got {num_images}", "give more images, or --split all")
    found = np.unique(groups) if groups is not None else np.empty(0, dtype=np.intp)
    without = {}
    for group in found.tolist():
        kept = torch.from_numpy(np.flatnonzero(groups != group)).to(grams.device)
        if len(kept) >= FEWEST:
            rows = _centre_in_place(grams[:, kept][:, :, kept], estimator)
            without[group] = _hsic(rows) * (len(kept) / num_images)
    return BatchSums(_hsic(centre(grams, estimator)), found, without)


def _hsic(rows: Tensor) -> NDArray[np.float64]:
    return np.asarray((rows @ rows.T).cpu().numpy())


class Alignment:
    """HSIC of every layer with every layer, summed over batches; memory does not grow with their number.

    Attributes:
        sums: [L, L] float64, over all batches.
        changes: [G, L, L], what deleting each of G groups of images does to the sums; G grows with the groups seen.
        num_batches: added so far.
    """

    def __init__(self, num_layers: int, estimator: str = "unbiased") -> None:
        self.estimator = estimator
        self.sums = np.zeros((num_layers, num_layers))
        self.changes = np.zeros((0, num_layers, num_layers))
        self.num_batches = 0

    def add(self, grams: Tensor, groups: NDArray[np.integer] | None = None) -> None:
        """The Gram matrices [L, n, n] of one batch, and the jackknife groups of its n images.

        A batch that has lost images counts by the share that is left of them.

        Raises:
            DataError: fewer than four images.
        """
        self.add_sums(batch_sums(grams, groups, self.estimator))

    def add_sums(self, batch: BatchSums) -> None:
        """The sums of one batch; the last bits depend on the order of the batches."""
        self.sums = self.sums + batch.products
        self.num_batches += 1
        for group in batch.groups.tolist():
            if group >= len(self.changes):
                new = np.zeros((group + 1 - len(self.changes), *self.sums.shape))
                self.changes = np.concatenate([self.changes, new])
            self.changes[group] -= batch.products
            if group in batch.without:
                self.changes[group] += batch.without[group]


@dataclass(frozen=True)
class Estimates:
    """CKA of layers with layers.

    Attributes:
        value: [L, L], NaN where a layer gives the same features for all images.
        low, high: [L, L] ends of 95 % intervals over images; None where there are too few images to say.
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


def estimates(sums: NDArray[Any], changes: NDArray[Any]) -> Estimates:
    """CKA from the sums of an `Alignment`, with intervals over images by a jackknife.

    The standard error is taken from the CKA without each group of images, and the interval is by Student's t on
    Fisher's scale (the inverse hyperbolic tangent), since values near 1 are skewed. Values so near 1 that the error
    reaches it have no place there, and theirs is on the plain scale, up to 1. Below 80 images there is none.
    """
    value = cka_of(sums)
    if len(changes) < JACKKNIFE_GROUPS:
        return Estimates(value, None, None)
    deviation = jackknife_deviation(cka_of(sums + changes))
    half = t_quantile(len(changes) - 1) * deviation
    with np.errstate(invalid="ignore", divide="ignore"):
        near = 1 - np.abs(value) <= half
        fisher, wide = np.arctanh(np.where(near, 0, value)), half / (1 - value**2)
        low = np.where(near, value - half, np.tanh(fisher - wide))
        high = np.where(near, np.maximum(np.minimum(value + half, 1), value), np.tanh(fisher + wide))
    return Estimates(value, np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high))
