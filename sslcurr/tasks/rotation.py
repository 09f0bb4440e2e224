"""Rotation: name the angle by which an image was turned (https://arxiv.org/abs/1803.07728)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, ViewConfig


class Rotation(Task):
    """Each image of the batch is turned by 0, 90, 180 and 270 degrees; the head names the angle."""

    name = "rotation"
    version = 1
    over_ranks = True
    summary = "name the angle by which an image was turned"
    paper = "https://arxiv.org/abs/1803.07728"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """Views as of the MMSelfSup recipe, with crops of at least a fifth of the image.

        The four rotations of a view are made in the loss, pixel for pixel.
        """

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Linear(dim, 4)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.2 for 128 images (512 rotated ones), warm-up of 5 epochs, steps at 30 and 50 of 70.

        On small data a quarter of the learning rate: the paper's is for 700,000 steps.
        """
        batch = facts.batch(128)
        epochs = facts.epochs or 70
        return Recipe(
            cls.Config(image_size=facts.image_size),
            Training(
                lr=(0.05 if facts.small else 0.2) * batch / 128,
                weight_decay=1e-4,
                schedule="step",
                milestones=(30 / 70, 50 / 70),
                warmup=epochs * 5 / 70,
                warmup_start=0.1,
                epochs=epochs,
                batch_size=batch,
            ),
        )

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Each image at its four angles."""
        turned, _ = self._turned(batch)
        return {f"{i}: {90 * i} degrees": part for i, part in enumerate(turned.chunk(4))}

    def _turned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[4 * N, C, S, S] images at the four angles, and their labels [4 * N]."""
        (images,) = batch.views
        turned = torch.cat([torch.rot90(images, quarter, dims=(2, 3)) for quarter in range(4)])
        return turned, torch.arange(4, device=images.device).repeat_interleave(len(images))

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy over the four angles of every image; a label k means k quarter turns anticlockwise."""
        turned, angle = self._turned(batch)
        logits = self.head(self.backbone(turned)).float()
        accuracy = (logits.argmax(dim=1) == angle).float().mean().detach()
        return Loss(F.cross_entropy(logits, angle), {"accuracy": accuracy})
