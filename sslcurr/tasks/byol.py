"""BYOL: predict a momentum (EMA) encoder's projection of another view (https://arxiv.org/abs/2006.07733)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from sslcurr.data.views.view import View
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, full_precision, scaled_sigma, share
from sslcurr.tasks.embedding import (
    AsymmetricConfig,
    collapse,
    frozen_copy,
    lars_training,
    move_towards,
    negative_cosine,
    projector,
    rising_momentum,
    small_momentum,
    small_training,
)


class BYOL(Task):
    """An online encoder with a predictor, and a momentum (EMA) copy of the encoder as its target; no negatives."""

    name = "byol"
    version = 1
    over_ranks = True
    summary = "predict a momentum encoder's projection of another view"
    paper = "https://arxiv.org/abs/2006.07733"
    collapses = True

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(AsymmetricConfig):
        """The paper's values.

        Attributes:
            hidden: Width of the hidden layer of the projector, and of that of the predictor.
            dim: Width of the projections that are predicted.
            momentum: Share of its weights that the momentum encoder keeps at the first step. It rises to 1 on a cosine.
        """

        hidden: int = 4096
        dim: int = 256
        momentum: float = share(0.996)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.dim)
        self.predictor = projector(config.dim, config.hidden, config.dim)
        self.target = frozen_copy(nn.Sequential(backbone, self.head))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """LARS 0.3 for 256 images (4.8 for 4,096), warm-up of 10 epochs, cosine, momentum from 0.99 for 200 epochs.

        From 1,000 epochs on the paper's values for so many: LARS 0.2, weight decay 1.5e-6, momentum from 0.996. Up to
        100 epochs LARS 0.45. On small data SGD, crops of at least a fifth, a smaller head, and a momentum that fits the
        length of the training.
        """
        batch, epochs = facts.batch(4096), facts.epochs or 200
        long = epochs >= 1000
        base_lr = 0.2 if long else 0.3 if epochs > 100 else 0.45
        config = cls.Config(
            image_size=facts.image_size,
            momentum=0.996 if long else 0.99,
            second_solarize=0.0 if facts.channels == 1 else 0.2,
            blur_sigma=scaled_sigma(facts.image_size),
        )
        if facts.small:
            batch = facts.batch(256)
            momentum = small_momentum(facts.num_images, batch, epochs)
            config = replace(config, hidden=1024, scale=(0.2, 1.0), momentum=momentum)
            return Recipe(config, small_training(batch, epochs))
        return Recipe(
            config,
            lars_training(base_lr, batch, epochs, weight_decay=1.5e-6 if long else 1e-6),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from different distributions."""
        return config.two_views()

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Squared distance of unit prediction and target, 2 - 2 cosine, summed over both directions: in [0, 8]."""
        with torch.no_grad():
            targets = [self.target(view) for view in batch.views]
        projections = [self.head(self.backbone(view)) for view in batch.views]
        predictions = [self.predictor(projection) for projection in projections]
        with full_precision(targets[0]):
            cosines = negative_cosine(predictions[0], targets[1]) + negative_cosine(predictions[1], targets[0])
            feature_std = collapse(batch.world.gather(F.normalize(projections[0].detach().float(), dim=1)))
        return Loss(4.0 + 2.0 * cosines, {"feature_std": feature_std})

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The target follows, once an optimizer step, more and more slowly."""
        online = nn.Sequential(self.backbone, self.head)
        move_towards(self.target, online, rising_momentum(self.config.momentum, tick))
