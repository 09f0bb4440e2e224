"""DeepCluster: name the cluster of an image, all clustered anew each epoch (https://arxiv.org/abs/1807.05520)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Rule, Scan, Task, Tick
from sslcurr.tasks.clusters import ClusterConfig, check_clusters, kmeans, num_clusters, whitened


class DeepCluster(Task):
    """k-means of whitened features gives the labels of an epoch; the head starts afresh with them.

    The paper's Sobel filter before the network is left out: it makes a backbone that no other stage can read.
    """

    name = "deepcluster"
    version = 1
    over_ranks = True
    summary = "name the cluster of an image, all clustered anew each epoch"
    paper = "https://arxiv.org/abs/1807.05520"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ClusterConfig):
        """The paper's values; the recipe scales the number of clusters to the data.

        Attributes:
            dim: Principal components of the features that are kept for clustering, at most.
        """

        dim: int = 256

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        check_clusters(config.num_clusters, facts.num_images)
        self.head = nn.Linear(dim, config.num_clusters)
        self.labels: Tensor
        self.register_buffer("labels", torch.arange(facts.num_images) % config.num_clusters)
        self._new_head()

    def _new_head(self) -> None:
        # Drawn on the CPU: the numbers are the same on every device.
        self.head.weight.data.copy_(torch.randn(self.head.weight.shape) * 0.01)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.1 for 512 images, constant, weight decay 1e-5, 200 epochs; the head without momentum.

        Clusters of about 128 images. On small data crops of at least a fifth, less change of colour, and one component
        for 32 images: with as many components as images, whitened features are all equally far apart.
        """
        clusters = num_clusters(facts)
        epochs = facts.epochs or 200
        if facts.small:
            batch = facts.batch(256)
            config = cls.Config(
                image_size=facts.image_size,
                num_clusters=clusters,
                dim=min(256, max(8, facts.num_images // 32)),
                scale=(0.2, 1.0),
                saturation=0.4,
                hue=0.1,
            )
        else:
            batch = facts.batch(512)
            config = cls.Config(image_size=facts.image_size, num_clusters=clusters)
        training = Training(
            lr=0.1 * batch / (256 if facts.small else 512),
            weight_decay=1e-5,
            schedule="constant",
            epochs=epochs,
            batch_size=batch,
        )
        return Recipe(config, training)

    def rules(self) -> dict[str, Rule]:
        """The head starts afresh each epoch, so it has no momentum."""
        return {"head": Rule(momentum=0.0)}

    @torch.no_grad()
    def _cluster(self, scan: Scan) -> None:
        features = whitened(scan(self.backbone), self.config.dim)
        labels, _ = kmeans(features, self.config.num_clusters)
        self.labels.copy_(labels)
        self._new_head()

    def start(self, scan: Scan) -> None:
        """The clusters of the first epoch."""
        self._cluster(scan)

    def sampling_weights(self) -> Tensor:
        """Every cluster equally often."""
        counts = torch.bincount(self.labels, minlength=self.config.num_clusters)
        return 1.0 / counts[self.labels].float()

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy with the images' clusters of this epoch."""
        logits = self.head(self.backbone(batch.views[0])).float()
        target = self.labels[batch.index]
        accuracy = (logits.argmax(dim=1) == target).float().mean().detach()
        return Loss(F.cross_entropy(logits, target), {"accuracy": accuracy})

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """Cluster anew for the next epoch; logs how alike the two clusterings are."""
        if tick.step >= tick.total_steps:
            return {}
        from sklearn.metrics import normalized_mutual_info_score

        before = self.labels.clone()
        self._cluster(scan)
        counts = torch.bincount(self.labels, minlength=self.config.num_clusters)
        return {
            "mutual_information": float(normalized_mutual_info_score(before.cpu().numpy(), self.labels.cpu().numpy())),
            "smallest_cluster": float(counts.min()),
            "largest_cluster": float(counts.max()),
        }
