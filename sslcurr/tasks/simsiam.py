"""SimSiam: predict one view's projection from the other's, with a stop-gradient (https://arxiv.org/abs/2011.10566)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import nn

from sslcurr.data.views.view import View
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Rule, Task, Tick, ViewConfig, full_precision, scaled_sigma
from sslcurr.tasks.embedding import collapse, negative_cosine, projector, small_training


class SimSiam(Task):
    """One encoder, a predictor on one side and a stop-gradient on the other; no negatives, no momentum encoder."""

    name = "simsiam"
    version = 1
    over_ranks = True
    summary = "predict one view's projection from the other's"
    paper = "https://arxiv.org/abs/2011.10566"
    collapses = True

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values; its views are those of MoCo v2.

        Attributes:
            hidden: Width of the two hidden layers of the projector.
            dim: Width of the projections that are predicted.
            predictor: Width of the hidden layer of the predictor, a bottleneck where it is under `dim`.
        """

        hidden: int = 2048
        dim: int = 2048
        predictor: int = 512
        jitter: float = 0.8
        gray: float = 0.2
        blur: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.hidden, config.dim, last_norm=True, affine=False)
        self.predictor = projector(config.dim, config.predictor, config.dim)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.05 for 256 images, cosine, the predictor's learning rate constant. On small data a smaller head."""
        batch, epochs = facts.batch(256), facts.epochs or 200
        config = cls.Config(image_size=facts.image_size, blur_sigma=scaled_sigma(facts.image_size))
        if facts.small:
            return Recipe(replace(config, hidden=512, dim=512, predictor=128), small_training(batch, epochs))
        return Recipe(config, Training(lr=0.05 * batch / 256, weight_decay=1e-4, epochs=epochs, batch_size=batch))

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from one distribution."""
        return (config.view(count=2),)

    def rules(self) -> dict[str, Rule]:
        """The predictor keeps its learning rate: it must stay ahead of the encoder (section 4.2 of the paper)."""
        return {"predictor": Rule(scheduled=False)}

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Mean over both directions of minus the cosine of prediction and projection, in [-1, 1]."""
        projections = [self.head(self.backbone(view)) for view in batch.views[0].chunk(2)]
        predictions = [self.predictor(projection) for projection in projections]
        with full_precision(projections[0]):
            value = 0.5 * (
                negative_cosine(predictions[0], projections[1]) + negative_cosine(predictions[1], projections[0])
            )
            feature_std = collapse(batch.world.gather(F.normalize(projections[0].detach().float(), dim=1)))
        return Loss(value, {"feature_std": feature_std})
