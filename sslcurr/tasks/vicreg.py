"""VICReg: views agree, components vary and do not covary (https://arxiv.org/abs/2105.04906)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, ViewConfig, full_precision, scaled_sigma
from sslcurr.tasks.embedding import collapse, lars_training, projector, small_training


def terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance of the [N, D] projections of two views.

    Returns:
        Their mean squared difference; the mean over both of how far each component's standard deviation is below 1;
        the sum over both of the squared covariances of different components, divided by D.
    """
    variance, covariance = first.new_zeros(()), first.new_zeros(())
    for x in (first, second):
        centred = x - x.mean(dim=0)
        variance = variance + F.relu(1.0 - (x.var(dim=0) + 1e-4).sqrt()).mean() / 2
        matrix = centred.T @ centred / (len(x) - 1)
        covariance = covariance + (matrix.square().sum() - matrix.diagonal().square().sum()) / x.shape[1]
    return F.mse_loss(first, second), variance, covariance


class VICReg(Task):
    """One encoder and a wide projector; each component keeps a standard deviation of 1 over the batch."""

    name = "vicreg"
    version = 1
    over_ranks = True
    summary = "make two views agree while components vary and do not covary"
    paper = "https://arxiv.org/abs/2105.04906"
    coupling = "the variance and the covariance of components are those over a part"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values: BYOL's views, the same distribution for both.

        Attributes:
            hidden: Width of the two hidden layers of the projector.
            dim: Components of a projection, which is the side of the covariance matrix.
            invariance: Weight in the loss of the squared difference of the two views.
            variance: Weight in the loss of how far a component's standard deviation over the batch is below 1.
            covariance: Weight in the loss of the covariances of different components.
        """

        hidden: int = 8192
        dim: int = 8192
        invariance: float = 25.0
        variance: float = 25.0
        covariance: float = 1.0
        scale: tuple[float, float] = (0.08, 1.0)
        jitter: float = 0.8
        saturation: float = 0.2
        gray: float = 0.2
        blur: float = 0.5
        solarize: float = 0.1

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.hidden, config.dim)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """LARS 1.6 for 2,048 images, warm-up of 10 epochs, cosine. On small data SGD and 1,024 components."""
        batch, epochs = facts.batch(2048), facts.epochs or 1000
        config = cls.Config(
            image_size=facts.image_size,
            solarize=0.0 if facts.channels == 1 else 0.1,
            blur_sigma=scaled_sigma(facts.image_size),
        )
        if facts.small:
            batch, epochs = facts.batch(256), facts.epochs or 200
            config = replace(config, hidden=1024, dim=1024, scale=(0.2, 1.0))
            return Recipe(config, small_training(batch, epochs, base_lr=0.03))
        return Recipe(
            config,
            lars_training(0.2, batch, epochs, final_lr=0.001),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from one distribution."""
        return (config.view(count=2),)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """The weighted sum of the three terms, in float32 whatever the precision of the network."""
        config = self.config
        first, second = (self.head(self.backbone(view)) for view in batch.views[0].chunk(2))
        with full_precision(first):
            first, second = batch.world.gather(first.float()), batch.world.gather(second.float())
            invariance, variance, covariance = terms(first, second)
            value = config.invariance * invariance + config.variance * variance + config.covariance * covariance
            feature_std = collapse(F.normalize(first, dim=1))
        metrics = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return Loss(value, {**{name: term.detach() for name, term in metrics.items()}, "feature_std": feature_std})
