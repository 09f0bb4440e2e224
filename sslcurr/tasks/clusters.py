"""Clustering of features on the device they are on: k-means, PCA-whitening, and how many clusters data can have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sslcurr.errors import SpecError
from sslcurr.spec.ranges import ranged
from sslcurr.tasks.base import Facts, ViewConfig

# Distances worked out at once, so that a million images by ten thousand clusters fit the memory.
CHUNK = 2**25

# Starts that are tried for each cluster.
CANDIDATES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig(ViewConfig):
    """MMSelfSup's views for clustering tasks, and the number of clusters, which the recipe scales to the data.

    Attributes:
        num_clusters: Clusters that the training images are divided into. More are smaller ones, with finer labels.
    """

    num_clusters: int = ranged(10_000, 2)
    scale: tuple[float, float] = (0.08, 1.0)
    rotation: float = 2.0
    jitter: float = 1.0
    saturation: float = 1.0
    hue: float = 0.5
    gray: float = 0.2


def num_clusters(facts: Facts) -> int:
    """Clusters for a data set: one for 128 images, as ImageNet's 10,000, and at least two a class and ten.

    At most one for four images.
    """
    desired = max(round(facts.num_images / 128), 2 * facts.num_classes, 10)
    return max(2, min(10_000, desired, facts.num_images // 4))


def check_clusters(num_clusters: int, num_images: int) -> None:
    """Raise SpecError for more clusters than images."""
    if num_clusters > num_images:
        raise SpecError(
            f"{num_images} training images cannot be {num_clusters} clusters",
            "give a smaller num_clusters, or more images",
        )


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """[N] the index of the centroid [K, D] with the smallest Euclidean distance to each row of x [N, D]."""
    offset = centroids.square().sum(dim=1) / 2
    rows = max(1, CHUNK // len(centroids))
    return torch.cat([(part @ centroids.T - offset).argmax(dim=1) for part in x.split(rows)])


def means(x: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """[K, D] the mean of the rows of each cluster; an empty cluster keeps its row of `centroids`."""
    counts = torch.bincount(labels, minlength=len(centroids))
    sums = torch.zeros_like(centroids).index_add_(0, labels, x)
    return torch.where((counts > 0)[:, None], sums / counts.clamp_min(1)[:, None], centroids)


def kmeans(x: Tensor, num_clusters: int, num_iterations: int = 20) -> tuple[Tensor, Tensor]:
    """Lloyd's k-means from a k-means++ start; its random numbers come from torch's global CPU generator.

    Args:
        x: [N, D] float32, on any device. N is at least `num_clusters`.
        num_clusters: K.
        num_iterations: most rounds; fewer when nothing changes any more.

    Returns:
        [N] labels (int64) and [K, D] centroids. A cluster that gets empty takes the row farthest from its centroid, so
        none is empty where there are K different rows.
    """
    centroids = _kmeans_start(x, num_clusters)
    labels = nearest(x, centroids)
    for _ in range(num_iterations):
        labels = _fill_empty(x, labels, centroids)
        centroids = means(x, labels, centroids)
        moved = nearest(x, centroids)
        if torch.equal(moved, labels):
            return labels, centroids
        labels = moved
    labels = _fill_empty(x, labels, centroids)
    return labels, means(x, labels, centroids)


def _kmeans_start(x: Tensor, num_clusters: int) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007): each start is the best of four that are drawn by their squared
    distance to those before, best in what it leaves of these distances."""
    draws = torch.rand(num_clusters, CANDIDATES, dtype=torch.float64).to(x.device)
    lengths = x.square().sum(dim=1, keepdim=True)
    distance = torch.ones_like(lengths)  # the first start is drawn evenly, and nothing is better than any other
    starts: list[Tensor] = []
    for draw in draws:
        cumulative = distance.flatten().double().cumsum(dim=0)
        drawn = torch.searchsorted(cumulative, draw * cumulative[-1], right=True).clamp_max(len(x) - 1)
        # |x - row|^2 by one product, without a copy of x for each row.
        to_drawn = (lengths - 2.0 * (x @ x[drawn].T) + lengths[drawn].T).clamp_min(0.0)
        distances_left = torch.minimum(distance, to_drawn) if starts else to_drawn
        best = distances_left.sum(dim=0).argmin()
        starts.append(x[drawn[best]])
        distance = distances_left[:, best, None]
    return torch.stack(starts)


def _fill_empty(x: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Give each empty cluster the row farthest from its centroid, of a cluster that has others."""
    counts = torch.bincount(labels, minlength=len(centroids))
    empty = torch.nonzero(counts == 0).flatten().tolist()
    if not empty:
        return labels
    labels, remaining = labels.clone(), counts.tolist()
    farthest = (x - centroids[labels]).square().sum(dim=1).argsort(descending=True).tolist()
    owners = labels.tolist()
    for row in farthest:
        if not empty:
            break
        if remaining[owners[row]] > 1:
            remaining[owners[row]] -= 1
            labels[row] = empty.pop(0)
    return labels


def split_in_two(x: Tensor) -> Tensor:
    """[N] boolean: one of two clusters of x [N, D], N at least 2, never all or none.

    Two-means from the row farthest from the mean and the row farthest from that one; equal rows are halved by order.
    """
    first = (x - x.mean(dim=0)).square().sum(dim=1).argmax()
    second = (x - x[first]).square().sum(dim=1).argmax()
    centroids = torch.stack([x[first], x[second]])
    labels = nearest(x, centroids)
    for _ in range(10):
        centroids = means(x, labels, centroids)
        moved = nearest(x, centroids)
        if torch.equal(moved, labels):
            break
        labels = moved
    side = labels == 1
    if side.all() or not side.any():
        side = torch.arange(len(x), device=x.device) >= len(x) // 2
    return side


def whitened(x: Tensor, dim: int) -> Tensor:
    """Unit vectors [N, min(dim, D, N - 1)] of the principal components of x [N, D], each scaled to variance 1 first."""
    centred = (x - x.mean(dim=0)).double()
    variances, directions = torch.linalg.eigh(centred.T @ centred / max(1, len(x) - 1))
    num_components = max(1, min(dim, x.shape[1], len(x) - 1))
    variances, directions = variances[-num_components:].flip(0), directions[:, -num_components:].flip(1)
    # Directions in which nothing varies would blow up rounding errors.
    scale = torch.where(variances > 1e-10 * variances[0].clamp_min(1e-30), variances, torch.inf).rsqrt()
    return F.normalize((centred @ directions * scale).float(), dim=1)
