"""MoCo v2: a view is told from other images by the key of another view of it (https://arxiv.org/abs/2003.04297)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views import View
from sslcurr.engine.spec import Training
from sslcurr.tasks.base import (
    Batch,
    Facts,
    Loss,
    Recipe,
    Task,
    Tick,
    ViewConfig,
    collapse,
    enqueue,
    frozen_copy,
    full_precision,
    move_towards,
    scaled_sigma,
)


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE of unit vectors against one positive each and a shared set of negatives.

    Args:
        query, key: [N, D] unit vectors; row i of both is of the same image.
        negatives: [K, D] unit vectors of other images.
        temperature: divides the cosines.

    Returns:
        The loss (a scalar) and the share of queries whose own key is nearest.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ negatives.T], dim=1) / temperature
    target = torch.zeros(len(query), dtype=torch.long, device=query.device)
    return F.cross_entropy(logits, target), (logits.argmax(dim=1) == 0).float().mean().detach()


class MoCoV2(Task):
    """Query encoder, momentum (key) encoder, and a queue of keys of other images.

    Batch norm on one device: within one normalised batch a network could tell a key by the statistics that it shares
    with its query. The paper shuffles keys between GPUs against that. Here the keys of a batch are shuffled and
    normalised in groups of about `bn_group` images, the paper's images a GPU, which is the same on one device.
    """

    name = "mocov2"
    version = 1
    summary = "tell an image's other view from a queue of other images"
    paper = "https://arxiv.org/abs/2003.04297"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values; lengths and rates that small data needs are set by the recipe."""

        dim: int = 128
        queue_length: int = 65536
        momentum: float = 0.999
        temperature: float = 0.2
        bn_group: int = 32
        jitter: float = 0.8
        gray: float = 0.2
        blur: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, config.dim))
        self.key_encoder = frozen_copy(nn.Sequential(backbone, self.head))
        self.queue: Tensor
        self.position: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(config.queue_length, config.dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.03 for 256 images, cosine. On small data a shorter queue, a faster key encoder and a higher rate.

        The queue holds a quarter of the images at most, so that few keys in it are of the query's own image. The
        slow copy keeps pace with it: at 0.999 it would hardly move in the few hundred steps of a small training.
        """
        batch = facts.batch(256)
        queue = min(65536, max(16, min(facts.num_images // 2, max(facts.num_images // 4, 2 * batch))))
        rate = 0.12 if facts.small else 0.03
        return Recipe(
            cls.Config(
                image_size=facts.image_size,
                queue_length=queue,
                momentum=0.99 if facts.small else 0.999,
                blur_sigma=scaled_sigma(facts.image_size),
            ),
            Training(lr=rate * batch / 256, weight_decay=1e-4, epochs=facts.epochs or 200, batch_size=batch),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views of one law."""
        return (config.view(count=2),)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """InfoNCE of the queries of the first views against the keys of the second ones and the queue."""
        first, second = batch.views[0].chunk(2)
        query = self.head(self.backbone(first))
        keys = self._encode_keys(second)
        with full_precision(first):
            query, keys = F.normalize(query.float(), dim=1), F.normalize(keys.float(), dim=1)
            value, accuracy = info_nce(query, keys, self.queue, self.config.temperature)
        return Loss(value, {"accuracy": accuracy, "feature_std": collapse(query)}, {"keys": keys})

    @torch.no_grad()
    def _encode_keys(self, images: Tensor) -> Tensor:
        """[N, dim] keys, normalised in shuffled groups of about `bn_group` images."""
        num_groups = max(1, round(len(images) / self.config.bn_group))
        if num_groups == 1:
            keys: Tensor = self.key_encoder(images)
            return keys
        order = torch.randperm(len(images)).to(images.device, non_blocking=True)
        shuffled = torch.cat([self.key_encoder(part) for part in images[order].chunk(num_groups)])
        return torch.empty_like(shuffled).index_copy_(0, order, shuffled)

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The slow encoder follows; the keys enter the queue after the loss, so none was its own negative."""
        move_towards(self.key_encoder, nn.Sequential(self.backbone, self.head), self.config.momentum)
        enqueue(self.queue, self.position, out.keep["keys"])
