"""What target tasks have in common: a linear layer on the backbone, all of it trained on labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sslcurr.spec.ranges import ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Recipe, Task, ViewConfig, share


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetConfig(ViewConfig):
    """Mild views, dropout before the last layer, and mixup (https://arxiv.org/abs/1710.09412).

    Attributes:
        dropout: Share of the features that are set to 0 at random before the last layer, in training.
        mixup: Parameter of the beta distribution of the shares in which two images and their labels are mixed.
            0 mixes none, larger ones mix more evenly.
    """

    dropout: float = share(0.0)
    mixup: float = ranged(0.0, 0, added=True)
    scale: tuple[float, float] = (0.4, 1.0)
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.1
    hue: float = 0.02


class TargetTask(Task):
    """A linear layer on the backbone, all of it trained; the weights of the best validation epoch are kept."""

    labelled = True
    Config: ClassVar[Any]

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Any) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(dim, facts.num_outputs))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """AdamW 0.001 for 64 images, cosine after a short warm-up; stops after a quarter of its epochs without gain."""
        batch = facts.batch(128, steps=16)
        epochs = facts.epochs or (100 if facts.small else 30)
        return Recipe(
            cls.Config(image_size=facts.image_size),
            Training(
                optimizer="adamw",
                lr=1e-3 * (batch / 64) ** 0.5,
                weight_decay=0.05,
                decay_norm_and_bias=False,
                warmup=epochs / 20,
                epochs=epochs,
                batch_size=batch,
                patience=max(5, epochs // 4),
            ),
        )

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor | None, float]:
        """The views of a batch, each mixed with that of another image.

        Returns:
            The views, [N, C, H, W]; [N] which image of the whole batch each is mixed with, None where there is no
            mixing; and the share of the first.
        """
        views = batch.views[0]
        if not self.config.mixup:
            return views, None, 1.0
        share = float(torch.distributions.Beta(self.config.mixup, self.config.mixup).sample())
        every = batch.world.gather(views)
        other = batch.world.rows(torch.randperm(len(every)).to(views.device))
        return share * views + (1 - share) * every[other], other, share

    def logits(self) -> nn.Module:
        """The module that gives [N, outputs] of fixed views."""
        return nn.Sequential(self.backbone, self.head)
