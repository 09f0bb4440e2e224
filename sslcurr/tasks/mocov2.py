"""MoCo v2: distinguish an image from others by the key of another view of it (https://arxiv.org/abs/2003.04297)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import (
    Batch,
    Facts,
    Loss,
    Recipe,
    Task,
    Tick,
    ViewConfig,
    full_precision,
    positive,
    scaled_sigma,
    share,
)
from sslcurr.tasks.embedding import (
    collapse,
    enqueue,
    frozen_copy,
    in_shuffled_groups,
    info_nce,
    move_towards,
    small_training,
)


def queue_length(facts: Facts, batch_size: int) -> int:
    """The paper's 65,536 keys, or a quarter of the images, so that few keys are of the query's own image."""
    quarter = max(facts.num_images // 4, 2 * batch_size)
    return min(65536, max(16, min(facts.num_images // 2, quarter)))


class MoCoV2(Task):
    """Query encoder, momentum (key) encoder, and a queue of keys of other images.

    Batch norm on one device: within one normalised batch a network could tell a key by the statistics that it shares
    with its query. The paper shuffles keys between GPUs against that. Here the keys of a batch are shuffled and
    normalised in groups of about `bn_group` images, the paper's images a GPU, which is the same on one device. A batch
    of less than one and a half groups is one group: nothing is shuffled, which was measured to cost no accuracy.
    """

    name = "mocov2"
    version = 2
    over_ranks = True
    summary = "tell an image's other view from a queue of other images"
    paper = "https://arxiv.org/abs/2003.04297"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values; lengths and learning rates that small data needs are set by the recipe.

        Attributes:
            dim: Width of the embeddings of images.
            queue_length: Keys of earlier images that are kept as negatives.
            momentum: Share of its weights that the key encoder keeps at each step. A larger one makes it follow more
                slowly.
            temperature: What cosines are divided by. A lower one makes the negatives most like the image weigh more.
            bn_group: Images that batch norms of the key encoder normalise together, about. Under 1.5 times as many are
                one group.
        """

        dim: int = 128
        queue_length: int = 65536
        momentum: float = share(0.999)
        temperature: float = positive(0.2)
        bn_group: int = 32
        jitter: float = 0.8
        gray: float = 0.2
        blur: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        from lightly.models.modules.heads import MoCoProjectionHead

        super().__init__(backbone, dim, facts, config)
        # Its layers alone, so that the names of the weights in a saved state are the same as ever.
        self.head = MoCoProjectionHead(dim, dim, config.dim).layers
        self.key_encoder = frozen_copy(nn.Sequential(backbone, self.head))
        self.queue: Tensor
        self.position: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(config.queue_length, config.dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.03 for 256 images, cosine.

        On small data a shorter queue, a faster key encoder and a higher learning rate. At 0.999 the
        key encoder would hardly move in the few hundred steps of a small training.
        """
        batch, epochs = facts.batch(256), facts.epochs or 200
        return Recipe(
            cls.Config(
                image_size=facts.image_size,
                queue_length=queue_length(facts, batch),
                momentum=0.99 if facts.small else 0.999,
                blur_sigma=scaled_sigma(facts.image_size),
            ),
            small_training(batch, epochs)
            if facts.small
            else Training(lr=0.03 * batch / 256, weight_decay=1e-4, epochs=epochs, batch_size=batch),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from one distribution."""
        return (config.view(count=2),)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """InfoNCE of the queries of the first views against the keys of the second ones and the queue."""
        first, second = batch.views[0].chunk(2)
        encoder, world = self.key_encoder, batch.world
        # The keys come first: what their pass takes for a while is gone before that of the queries keeps its own.
        (keys,) = in_shuffled_groups(encoder, lambda images: (encoder(images),), second, self.config.bn_group, world)
        query = self.head(self.backbone(first))
        with full_precision(first):
            query, keys = F.normalize(query.float(), dim=1), F.normalize(keys.float(), dim=1)
            value, accuracy = info_nce(query, keys, self.queue, self.config.temperature)
        feature_std = collapse(world.gather(query.detach()))
        return Loss(value, {"accuracy": accuracy, "feature_std": feature_std}, {"keys": keys})

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The key encoder follows; the keys enter the queue after the loss, so none was its own negative."""
        move_towards(self.key_encoder, nn.Sequential(self.backbone, self.head), self.config.momentum)
        enqueue(self.queue, self.position, out.keep["keys"])
