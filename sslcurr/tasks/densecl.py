"""DenseCL: MoCo v2 for the image and for its places (https://arxiv.org/abs/2011.09157)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.backbones.build import as_map, num_map_channels
from sslcurr.tasks.base import Batch, Facts, Loss, Tick, full_precision, share
from sslcurr.tasks.embedding import collapse, enqueue, frozen_copy, in_shuffled_groups, info_nce, move_towards
from sslcurr.tasks.mocov2 import MoCoV2


def matched(keys: Tensor, query_features: Tensor, key_features: Tensor) -> Tensor:
    """For every place of the query view, the dense key at the most alike place of the key view.

    Args:
        keys: [N, D, P] dense keys.
        query_features, key_features: [N, C, P] maps of the backbone over P places.

    Returns:
        [N, D, P] keys, place p the one whose feature has the largest cosine with the query's feature at p.
    """
    cosines = F.normalize(query_features, dim=1).transpose(1, 2) @ F.normalize(key_features, dim=1)
    best = cosines.argmax(dim=2)
    return keys.gather(2, best[:, None].expand(-1, keys.shape[1], -1))


class DenseCL(MoCoV2):
    """A second head and queue for the places of the last feature map, matched between views by their features."""

    name = "densecl"
    version = 1
    over_ranks = True
    summary = "as mocov2, for each place of the image too"
    paper = "https://arxiv.org/abs/2011.09157"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MoCoV2.Config):
        """MoCo v2's values.

        Attributes:
            dim: Width of the embeddings of images and of places.
            queue_length: Keys of earlier images that are kept as negatives, in each of two queues: for images, and for
                places.
            dense_weight: Share of the loss that is that of places (the paper's lambda). The rest is that of whole
                images.
        """

        dense_weight: float = share(0.5)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        channels = num_map_channels(backbone)
        self.dense_head = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, config.dim, 1)
        )
        self.key_dense_head = frozen_copy(self.dense_head)
        self.dense_queue: Tensor
        self.dense_position: Tensor
        self.register_buffer("dense_queue", F.normalize(torch.randn(config.queue_length, config.dim), dim=1))
        self.register_buffer("dense_position", torch.zeros((), dtype=torch.long))

    def _encode(self, encoder: nn.Module, dense_head: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, D] embeddings, [N, D, P] dense ones and [N, C, P] features; `encoder` is the backbone and the head."""
        backbone, head = encoder[0], encoder[1]  # type: ignore[index]
        features = backbone.forward_features(images)
        pooled = backbone.forward_head(features, pre_logits=True)
        features = as_map(backbone, features)
        return head(pooled), dense_head(features).flatten(2), features.flatten(2)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """InfoNCE of whole images and of matched places, each against its own queue."""
        config = self.config
        first, second = batch.views[0].chunk(2)
        with torch.no_grad():
            keys, dense_keys, key_features = in_shuffled_groups(
                self.key_encoder,
                lambda images: self._encode(self.key_encoder, self.key_dense_head, images),
                second,
                config.bn_group,
                batch.world,
            )
        query, dense, features = self._encode(nn.Sequential(self.backbone, self.head), self.dense_head, first)
        with full_precision(first):
            query, keys = F.normalize(query.float(), dim=1), F.normalize(keys.float(), dim=1)
            value, accuracy = info_nce(query, keys, self.queue, config.temperature)
            positives = matched(dense_keys.float(), features.detach().float(), key_features.float())
            dense, positives = (F.normalize(x.float().transpose(1, 2).flatten(0, 1), dim=1) for x in (dense, positives))
            dense_value, _ = info_nce(dense, positives, self.dense_queue, config.temperature)
            pooled_keys = F.normalize(dense_keys.float().mean(dim=2), dim=1)
        weight = config.dense_weight
        metrics = {
            "accuracy": accuracy,
            "global_loss": value.detach(),
            "dense_loss": dense_value.detach(),
            "feature_std": collapse(batch.world.gather(query.detach())),
        }
        total = (1.0 - weight) * value + weight * dense_value
        return Loss(total, metrics, {"keys": keys, "dense_keys": pooled_keys})

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """As MoCo v2 does; the mean over places of each image's dense keys enters the dense queue."""
        super().after_step(batch, out, tick)
        move_towards(self.key_dense_head, self.dense_head, self.config.momentum)
        enqueue(self.dense_queue, self.dense_position, out.keep["dense_keys"])
