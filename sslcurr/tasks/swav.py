"""SwAV: from one view, predict the cluster code that another view of the image got (https://arxiv.org/abs/2006.09882)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.spec.ranges import ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, full_precision, positive, scaled_sigma
from sslcurr.tasks.embedding import MultiCropConfig, collapse, crops_for, enqueue, projector, small_training
from sslcurr.world import World


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, num_iterations: int) -> Tensor:
    """Codes that use every prototype equally: Sinkhorn-Knopp on exp(scores / epsilon).

    Args:
        scores: [B, K] cosines of embeddings and prototypes, in float32.
        epsilon: entropy of the assignment; smaller is sharper.
        num_iterations: normalisations of rows and columns.

    Returns:
        [B, K] codes, each row summing to 1. Worked out in logarithms, so that nothing overflows or vanishes.
    """
    logs = scores / epsilon
    for _ in range(num_iterations):
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def swapped_prediction(scores: Tensor, codes: list[Tensor], num_crops: int, temperature: float) -> Tensor:
    """Mean cross-entropy between the code of each large crop and the prediction from every other crop.

    Args:
        scores: [num_crops * N, K] cosines, crop-major, the large crops first.
        codes: [N, K] for each large crop.
        num_crops: crops an image, large and small.
        temperature: divides the cosines.
    """
    predictions = F.log_softmax(scores / temperature, dim=1).chunk(num_crops)
    terms = [
        -(code * predictions[other]).sum(dim=1).mean()
        for large, code in enumerate(codes)
        for other in range(num_crops)
        if other != large
    ]
    return torch.stack(terms).mean()


class SwAV(Task):
    """Multi-crop, unit prototypes frozen for the first epochs, Sinkhorn codes in float32, and a queue of embeddings."""

    name = "swav"
    version = 1
    over_ranks = True
    summary = "predict from one crop the cluster code of another"
    paper = "https://arxiv.org/abs/2006.09882"
    coupling = "codes use the prototypes equally over the images of a part"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MultiCropConfig):
        """The paper's values; counts and lengths that small data needs are set by the recipe.

        Attributes:
            dim: Width of the embeddings that are compared with the prototypes.
            hidden: Width of the hidden layer of the projector.
            num_prototypes: Prototypes, the centres of the clusters that crops are given to. More make finer clusters.
            epsilon: Softness of the codes. Lower it where the loss stays at ln(num_prototypes), which is all codes
                alike.
            num_iterations: Rounds of Sinkhorn-Knopp. More let the codes use the prototypes more equally.
            temperature: What the cosines of a prediction are divided by. A lower one makes it sharper.
            frozen_epochs: Epochs at the beginning in which the prototypes are not trained.
            queue_length: Earlier images whose embeddings take part in making the codes. 0 is none.
            queue_start: Epochs before the queue is used. It is never used before it is full.
        """

        dim: int = 128
        hidden: int = 2048
        num_prototypes: int = 3000
        epsilon: float = positive(0.05)
        num_iterations: int = 3
        temperature: float = positive(0.1)
        frozen_epochs: float = 1.0
        queue_length: int = ranged(3840, 0)
        queue_start: float = 15.0
        scale: tuple[float, float] = (0.14, 1.0)
        jitter: float = 0.8
        brightness: float = 0.8
        contrast: float = 0.8
        saturation: float = 0.8
        hue: float = 0.2
        gray: float = 0.2
        blur: float = 0.5

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = projector(dim, config.hidden, config.dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.num_prototypes, config.dim), dim=1))
        self.queue: Tensor
        self.position: Tensor
        self.register_buffer("queue", torch.zeros(config.queue_length, 2, config.dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        # An epoch enqueues every image once, so the queue is full after this many epochs.
        self.queue_start = max(config.queue_start, math.ceil(config.queue_length / facts.num_images))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """LARS 0.6 for 256 images, cosine to a thousandth. On small data fewer prototypes, sharper codes, and SGD.

        Prototypes grow with the root of the number of images (3,000 at ImageNet's 1.28 million), and are frozen for
        one epoch but never over a tenth of the training. The queue starts at the paper's share of the training.

        In a few hundred steps the paper's colour jitter and epsilon leave the loss at ln(prototypes): all codes are
        uniform, nothing is learnt. Half the jitter and an epsilon of 0.01 break that. There is no queue: features that
        still change fast make its old embeddings mislead the codes.
        """
        batch = facts.batch(256)
        epochs = facts.epochs or 200
        num_prototypes = max(2 * facts.num_classes, 16, min(3000, 8 * round(2.65 * math.sqrt(facts.num_images) / 8)))
        config = cls.Config(
            **crops_for(facts.image_size),
            num_prototypes=num_prototypes,
            frozen_epochs=min(1.0, epochs / 10),
            queue_length=0 if facts.small else 3840,
            queue_start=epochs * 15 / 200,
            blur_sigma=scaled_sigma(facts.image_size),
        )
        if facts.small:
            config = replace(config, hidden=512, epsilon=0.01, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
            training = replace(small_training(batch, epochs), final_lr=0.001)
        else:
            training = Training(
                optimizer="lars",
                lr=0.6 * batch / 256,
                weight_decay=1e-6,
                final_lr=0.001,
                epochs=epochs,
                batch_size=batch,
            )
        return Recipe(config, training)

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two large crops and `num_small` small ones."""
        return (config.view(count=2), *config.small_views())

    @torch.no_grad()
    def before_step(self, tick: Tick) -> None:
        """Prototypes are unit vectors whenever they are used."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Swapped prediction; one forward pass for all crops of one size."""
        config = self.config
        features = torch.cat([self.backbone(crops) for crops in batch.views])
        embeddings = self.head(features)
        with full_precision(embeddings):
            embeddings = F.normalize(embeddings.float(), dim=1)
            frozen = tick.step < config.frozen_epochs * tick.steps_per_epoch
            prototypes = self.prototypes.detach() if frozen else self.prototypes
            scores = embeddings @ prototypes.T
            num_images = len(batch.index)
            large = torch.stack(embeddings[: 2 * num_images].detach().chunk(2), dim=1)
            codes = self._codes(scores[: 2 * num_images].detach().chunk(2), tick, batch.world)
            own = [batch.world.rows(code) for code in codes]
            value = swapped_prediction(scores, own, 2 + config.num_small, config.temperature)
            used = torch.stack(codes).mean(dim=(0, 1))
            perplexity = torch.exp(-(used * used.clamp_min(1e-12).log()).sum())
        metrics = {"prototype_perplexity": perplexity, "feature_std": collapse(batch.world.gather(large[:, 0]))}
        return Loss(value, metrics, {"embeddings": large})

    def _codes(self, scores: tuple[Tensor, ...], tick: Tick, world: World) -> list[Tensor]:
        """Codes of each large crop of the whole batch, with the queue in the same assignment once it is full."""
        config = self.config
        in_use = config.queue_length > 0 and tick.step >= self.queue_start * tick.steps_per_epoch
        codes = []
        for crop, score in enumerate(map(world.gather, scores)):
            num_images = len(score)
            if in_use:
                score = torch.cat([self.queue[:, crop] @ self.prototypes.detach().T, score])
            codes.append(sinkhorn(score, config.epsilon, config.num_iterations)[-num_images:])
        return codes

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The embeddings of the large crops enter the queue after they have been used."""
        if self.config.queue_length:
            enqueue(self.queue, self.position, out.keep["embeddings"])
