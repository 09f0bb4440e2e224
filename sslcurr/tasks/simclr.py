"""SimCLR: find the other view of an image among all views of the batch (https://arxiv.org/abs/2002.05709)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
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
)
from sslcurr.tasks.embedding import collapse, lars_training, projector, small_training


def nt_xent(embeddings: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Normalised, temperature-scaled cross-entropy (NT-Xent).

    Args:
        embeddings: [2 * N, D] unit vectors; rows i and N + i are of the same image.
        temperature: divides the cosines.

    Returns:
        The loss (a scalar) and the share of views whose other view is nearest.
    """
    num_views = len(embeddings)
    logits = embeddings @ embeddings.T / temperature
    logits = logits.masked_fill(torch.eye(num_views, dtype=torch.bool, device=logits.device), -torch.inf)
    other = torch.arange(num_views, device=logits.device).roll(num_views // 2)
    return F.cross_entropy(logits, other), (logits.argmax(dim=1) == other).float().mean().detach()


class SimCLR(Task):
    """One encoder, two views from one distribution, all other views of the batch as negatives."""

    name = "simclr"
    version = 1
    over_ranks = True
    summary = "find an image's other view among the views of the batch"
    paper = "https://arxiv.org/abs/2002.05709"
    coupling = "the negatives of an image are the other views of its part"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values, colour distortion of strength 1.

        Attributes:
            dim: Width of the embeddings that are compared.
            hidden: Width of the hidden layer of the projector.
            temperature: What cosines are divided by. A lower one makes the negatives most like the view weigh more.
        """

        dim: int = 128
        hidden: int = 2048
        temperature: float = positive(0.1)
        scale: tuple[float, float] = (0.08, 1.0)
        jitter: float = 0.8
        brightness: float = 0.8
        contrast: float = 0.8
        saturation: float = 0.8
        hue: float = 0.2
        gray: float = 0.2
        blur: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.dim, last_norm=True)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """LARS 0.3 for 256 images, warm-up of 10 epochs, cosine.

        On small data SGD, crops of at least a fifth, half the colour distortion, and a temperature of 0.2: with few
        images a batch holds near-duplicates that a lower one would push apart.
        """
        batch, epochs = facts.batch(256), facts.epochs or 200
        if facts.small:
            config = cls.Config(
                image_size=facts.image_size,
                hidden=512,
                temperature=0.2,
                scale=(0.2, 1.0),
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                blur_sigma=scaled_sigma(facts.image_size),
            )
            return Recipe(config, small_training(batch, epochs))
        return Recipe(
            cls.Config(image_size=facts.image_size, blur_sigma=scaled_sigma(facts.image_size)),
            lars_training(0.3, batch, epochs),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two views from one distribution."""
        return (config.view(count=2),)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """NT-Xent over both views of the batch, encoded in one pass."""
        (images,) = batch.views
        embeddings = self.head(self.backbone(images))
        with full_precision(images):
            embeddings = batch.world.gather(F.normalize(embeddings.float(), dim=1))
            value, accuracy = nt_xent(embeddings, self.config.temperature)
        return Loss(value, {"accuracy": accuracy, "feature_std": collapse(embeddings)})
