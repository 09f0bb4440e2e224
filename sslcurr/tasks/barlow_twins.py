"""Barlow Twins: the same components in both views, each different from the others (https://arxiv.org/abs/2103.03230)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, full_precision, scaled_sigma
from sslcurr.tasks.embedding import AsymmetricConfig, collapse, lars_training, projector, small_training


def standardised(x: Tensor) -> Tensor:
    """Each column of [N, D] with mean 0 and (biased) variance 1 over the rows."""
    return (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()


def redundancy(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """Distance of the cross-correlation matrix of two views from the identity.

    Args:
        first, second: [N, D] projections of the two views.
        off_diagonal: weight of the redundancy between components (the paper's lambda).

    Returns:
        Sum over i of (1 - C_ii)^2, plus `off_diagonal` times the sum over i != j of C_ij^2.
    """
    correlation = standardised(first).T @ standardised(second) / len(first)
    diagonal = correlation.diagonal()
    on = (1.0 - diagonal).square().sum()
    return on + off_diagonal * (correlation.square().sum() - diagonal.square().sum())


class BarlowTwins(Task):
    """One encoder and a wide projector; no negatives, no predictor, no momentum encoder."""

    name = "barlow-twins"
    version = 1
    over_ranks = True
    summary = "make two views agree in components that differ from each other"
    paper = "https://arxiv.org/abs/2103.03230"
    coupling = "the correlation of two components is that over a part"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(AsymmetricConfig):
        """The paper's values.

        Attributes:
            hidden: Width of the two hidden layers of the projector.
            dim: Components of a projection, which is the side of the correlation matrix. Many want a large batch.
            off_diagonal: Weight in the loss of correlations between different components (the paper's lambda).
        """

        hidden: int = 8192
        dim: int = 8192
        off_diagonal: float = 0.0051

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.hidden, config.dim)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """LARS 1.6 for 2,048 images, of biases and norms 0.0384; warm-up of 10 epochs, cosine to a thousandth.

        On small data SGD, crops of at least a fifth, and 1,024 components: the matrix is an average over the batch, so
        a small batch cannot tell many components apart. The loss is a sum over components, not a mean, so the learning
        rate is a hundredth of the other tasks'.
        """
        batch, epochs = facts.batch(2048), facts.epochs or 300
        config = cls.Config(
            image_size=facts.image_size,
            second_solarize=0.0 if facts.channels == 1 else 0.2,
            blur_sigma=scaled_sigma(facts.image_size),
        )
        if facts.small:
            batch = facts.batch(256)
            config = replace(config, hidden=1024, dim=1024, scale=(0.2, 1.0))
            return Recipe(config, small_training(batch, epochs, base_lr=0.0012))
        return Recipe(
            config,
            lars_training(0.2, batch, epochs, norm_and_bias_lr=0.024, weight_decay=1.5e-6, final_lr=0.001),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from different distributions."""
        return config.two_views()

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """The redundancy of both views, in float32 whatever the precision of the network."""
        first, second = (self.head(self.backbone(view)) for view in batch.views)
        with full_precision(first):
            first, second = batch.world.gather(first.float()), batch.world.gather(second.float())
            value = redundancy(first, second, self.config.off_diagonal)
            feature_std = collapse(F.normalize(first, dim=1))
            agreement = (standardised(first.detach()) * standardised(second.detach())).mean()
        return Loss(value, {"correlation": agreement, "feature_std": feature_std})
