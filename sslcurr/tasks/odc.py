"""ODC: clustering and learning at once, the labels of a memory changed step by step (https://arxiv.org/abs/2006.10645)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.errors import SpecError
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import WEIGHTED_PARTS, Batch, Facts, Loss, Recipe, Rule, Scan, Task, Tick, share
from sslcurr.tasks.clusters import ClusterConfig, check_clusters, kmeans, means, nearest, num_clusters, split_in_two
from sslcurr.tasks.embedding import collapse


class ODC(Task):
    """Online deep clustering: pseudo-labels from a memory of samples and a memory of centroids.

    Both memories are persistent buffers, so a resume goes on from them: nothing is clustered again.
    """

    name = "odc"
    version = 1
    over_ranks = True
    summary = "name the cluster of an image, clusters changing as features do"
    paper = "https://arxiv.org/abs/2006.10645"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ClusterConfig):
        """The paper's values; the recipe scales the number and the least size of clusters to the data.

        Attributes:
            smallest_cluster: Fewest images that a cluster may have. A smaller one is emptied into others and takes half
                of the largest one.
            hidden: Width of the hidden layer between the backbone and the features that are clustered.
            dim: Width of the features that are clustered.
            dropout: Share of the hidden units that are set to 0 at random in each step.
            momentum: Share of its old feature that an image's memory keeps at each visit.
            update_every: Steps between two computations of all centroids.
            reweight: Power of a cluster's size by which its images weigh less in the loss. At 0 all weigh the same.
        """

        smallest_cluster: int = 20
        hidden: int = 512
        dim: int = 256
        dropout: float = share(0.5)
        momentum: float = share(0.5)
        update_every: int = 10
        reweight: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        check_clusters(config.num_clusters, facts.num_images)
        count, least = config.num_clusters, config.smallest_cluster
        if 2 * least * count > facts.num_images:
            # Labels would hop from cluster to cluster without any feature having moved.
            raise SpecError(
                f"{facts.num_images} training images are too few for {count} clusters of {least} or more",
                f"give odc.smallest_cluster={max(1, facts.num_images // count * 20 // 128)}, or fewer clusters",
            )
        self.neck = nn.Sequential(
            nn.Linear(dim, config.hidden),
            nn.BatchNorm1d(config.hidden, momentum=0.001, affine=False),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.dim),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(config.dim, config.num_clusters)
        self.features: Tensor
        self.labels: Tensor
        self.centroids: Tensor
        self.changed: Tensor
        features = F.normalize(torch.rand(facts.num_images, config.dim), dim=1)
        labels = torch.arange(facts.num_images) % config.num_clusters
        self.register_buffer("features", features)
        self.register_buffer("labels", labels)
        self.register_buffer("centroids", means(features, labels, torch.zeros(config.num_clusters, config.dim)))
        self.register_buffer("changed", torch.zeros((), dtype=torch.long))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.06 for 512 images, weight decay 1e-5, 440 epochs, times 0.4 at 400; the head without momentum.

        Clusters of about 128 images and not under 20, or in that proportion. On small data crops of at least a
        fifth, less change of colour, no dropout, and 200 epochs: the paper's learning rate for 512 images is then used
        for 256.
        """
        clusters = num_clusters(facts)
        smallest = max(1, min(20, round(facts.num_images / clusters * 20 / 128)))
        if facts.small:
            batch, epochs = facts.batch(256), facts.epochs or 200
            config = cls.Config(
                image_size=facts.image_size,
                num_clusters=clusters,
                smallest_cluster=smallest,
                dropout=0.0,
                scale=(0.2, 1.0),
                saturation=0.4,
                hue=0.1,
            )
            return Recipe(config, Training(lr=0.06 * batch / 256, weight_decay=1e-5, epochs=epochs, batch_size=batch))
        batch, epochs = facts.batch(512), facts.epochs or 440
        return Recipe(
            cls.Config(image_size=facts.image_size, num_clusters=clusters, smallest_cluster=smallest),
            Training(
                lr=0.06 * batch / 512,
                weight_decay=1e-5,
                schedule="step",
                milestones=(400 / 440,),
                step_factor=0.4,
                epochs=epochs,
                batch_size=batch,
            ),
        )

    @classmethod
    def corrections(cls, config: Config, training: Training) -> tuple[str, ...]:
        """Parts of a step had been divided by their own weights."""
        return WEIGHTED_PARTS if training.accumulate > 1 and config.reweight else ()

    def rules(self) -> dict[str, Rule]:
        """The head's classes change their meaning, so its updates have no momentum."""
        return {"head": Rule(momentum=0.0)}

    @torch.no_grad()
    def start(self, scan: Scan) -> None:
        """Cluster the features of all images once."""
        features = F.normalize(scan(nn.Sequential(self.backbone, self.neck)), dim=1)
        self.features.copy_(features)
        labels, centroids = kmeans(features, self.config.num_clusters)
        self.labels.copy_(labels)
        self.centroids.copy_(centroids)
        self._mend_small_clusters()

    def class_weights(self) -> Tensor:
        """[K] the weight of each cluster in the loss: its size to the power of minus `reweight`, summing to 1."""
        sizes = torch.zeros(len(self.centroids), device=self.labels.device)
        sizes.index_add_(0, self.labels, torch.ones_like(self.labels, dtype=sizes.dtype))
        weights = torch.where(sizes > 0, sizes.clamp_min(1).pow(-self.config.reweight), 0.0)
        return weights / weights.sum()

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy with the images' present clusters, small clusters weighing more."""
        embeddings = self.neck(self.backbone(batch.views[0]))
        logits = self.head(embeddings).float()
        target = self.labels[batch.index]
        weights = self.class_weights()
        value = F.cross_entropy(logits, target, weight=weights)
        unit = F.normalize(embeddings.detach().float(), dim=1)
        accuracy = (logits.argmax(dim=1) == target).float().mean().detach()
        metrics = {"accuracy": accuracy, "feature_std": collapse(batch.world.gather(unit))}
        return Loss(value, metrics, {"features": unit}, weight=weights[target].sum())

    @torch.no_grad()
    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """Update the memories of the batch's images, their labels, small clusters, and now and then all centroids."""
        index = batch.index
        blend = torch.lerp(out.keep["features"], self.features[index], self.config.momentum)
        self.features[index] = F.normalize(blend, dim=1)
        before = self.labels[index]
        self.labels[index] = nearest(self.features[index], self.centroids)
        self.changed += (self.labels[index] != before).sum()
        self._mend_small_clusters()
        if (tick.step + 1) % self.config.update_every == 0:
            self.centroids.copy_(means(self.features, self.labels, self.centroids))

    def _mend_small_clusters(self) -> None:
        """Empty the clusters under the least size, then let each empty one take half of the largest one."""
        config = self.config
        counts = torch.bincount(self.labels, minlength=config.num_clusters)
        small = counts < config.smallest_cluster
        if not small.any():
            return
        large = torch.nonzero(~small).flatten()
        homeless = torch.nonzero(small[self.labels]).flatten()
        self.labels[homeless] = large[nearest(self.features[homeless], self.centroids[large])]
        counts = torch.bincount(self.labels, minlength=config.num_clusters)
        touched = torch.zeros_like(small)
        for empty in torch.nonzero(small).flatten().tolist():
            largest = int(counts.argmax())
            members = torch.nonzero(self.labels == largest).flatten()
            if len(members) < 2:
                break
            moved = members[split_in_two(self.features[members])]
            self.labels[moved] = empty
            counts[largest] -= len(moved)
            counts[empty] = len(moved)
            touched[[largest, empty]] = True
        renewed = means(self.features, self.labels, self.centroids)
        self.centroids.copy_(torch.where(touched[:, None], renewed, self.centroids))

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """How many of the labels changed in the epoch, and the sizes of the clusters."""
        counts = torch.bincount(self.labels, minlength=self.config.num_clusters)
        share = self.changed.item() / self.num_images
        self.changed.zero_()
        return {
            "labels_changed": share,
            "smallest_cluster": float(counts.min()),
            "largest_cluster": float(counts.max()),
        }
