"""NPID: tell each image from all others by a memory of their features (https://arxiv.org/abs/1805.01978)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Scan, Task, Tick, ViewConfig, full_precision, positive, share
from sslcurr.tasks.embedding import collapse, small_training


class NPID(Task):
    """Instance discrimination: the memory has a unit vector an image, indexed by the image.

    The negatives of a batch are drawn once for all of its images, with replacement, and an image's own memory is
    masked out wherever it was drawn; up to `num_negatives` images, all others are negatives and nothing is drawn.
    """

    name = "npid"
    version = 1
    over_ranks = True
    summary = "tell each image from all others by a memory of them"
    paper = "https://arxiv.org/abs/1805.01978"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values, with the 65,536 negatives of MMSelfSup.

        Attributes:
            dim: Width of the features in the memory.
            num_negatives: Negatives of a step, drawn from the memory. Up to so many other images, all are negatives.
            temperature: What cosines are divided by. A lower one makes the negatives most like the image weigh more.
            momentum: Share of its old feature that an image's memory keeps at each visit.
        """

        dim: int = 128
        num_negatives: int = 65536
        temperature: float = positive(0.07)
        momentum: float = share(0.5)
        jitter: float = 1.0
        hue: float = 0.4
        gray: float = 0.2

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Linear(dim, config.dim)
        self.memory: Tensor
        self.register_buffer("memory", F.normalize(torch.randn(facts.num_images, config.dim), dim=1))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.03 for 256 images, steps at 60 and 80 % of 200 epochs.

        On small data SGD on a cosine, a temperature of 0.2 and a quarter of the change of hue.
        """
        batch, epochs = facts.batch(256), facts.epochs or 200
        if facts.small:
            config = cls.Config(image_size=facts.image_size, temperature=0.2, hue=0.1)
            return Recipe(config, small_training(batch, epochs))
        return Recipe(
            cls.Config(image_size=facts.image_size),
            Training(
                lr=0.03 * batch / 256,
                weight_decay=1e-4,
                schedule="step",
                milestones=(0.6, 0.8),
                epochs=epochs,
                batch_size=batch,
            ),
        )

    @torch.no_grad()
    def start(self, scan: Scan) -> None:
        """Fill the memory with the features that the network has of the images, so that the first epoch teaches too."""
        features = scan(nn.Sequential(self.backbone, self.head))
        self.memory.copy_(F.normalize(features, dim=1))

    def negatives(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Places [K] of the memory to compare with, and [N, K], true where a place is the image's own."""
        if self.num_images - 1 <= self.config.num_negatives:
            places = torch.arange(self.num_images, device=index.device)
        else:
            drawn = torch.randint(self.num_images, (self.config.num_negatives,))
            places = drawn.to(index.device, non_blocking=True)
        return places, places == index[:, None]

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Softmax over the image's own memory and the negatives."""
        embeddings = self.head(self.backbone(batch.views[0]))
        with full_precision(embeddings):
            embeddings = F.normalize(embeddings.float(), dim=1)
            places, is_own = self.negatives(batch.index)
            positive = (embeddings * self.memory[batch.index]).sum(dim=1, keepdim=True)
            others = (embeddings @ self.memory[places].T).masked_fill(is_own, -torch.inf)
            logits = torch.cat([positive, others], dim=1) / self.config.temperature
            target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
            value = F.cross_entropy(logits, target)
            accuracy = (logits.argmax(dim=1) == 0).float().mean().detach()
        metrics = {"accuracy": accuracy, "feature_std": collapse(batch.world.gather(embeddings.detach()))}
        return Loss(value, metrics, {"embeddings": embeddings.detach()})

    @torch.no_grad()
    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The memories of the images of the batch move towards what they are now, on the sphere."""
        blend = torch.lerp(out.keep["embeddings"], self.memory[batch.index], self.config.momentum)
        self.memory[batch.index] = F.normalize(blend, dim=1)
