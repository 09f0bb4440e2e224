"""Masked images: foretell the pixels of patches that are hidden, as SimMIM does (https://arxiv.org/abs/2111.09886)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.backbones.build import as_map, num_map_channels
from sslcurr.spec.ranges import ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, ViewConfig
from sslcurr.world import ALONE, World


class MaskedImage(Task):
    """Random patches of each image are hidden, and a linear layer on the last map foretells their pixels.

    Patches are hidden in the image and not among tokens, by a value that is learnt, so that convolutional networks and
    transformers do the same. Nothing is foretold of what is shown.
    """

    name = "masked-image"
    version = 1
    over_ranks = True
    summary = "foretell the pixels of hidden patches"
    paper = "https://arxiv.org/abs/2111.09886"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """The paper's values.

        Attributes:
            patch: Side of the patches that are hidden or shown, in pixels. Larger ones cannot be guessed from their
                borders.
            hidden: Share of the patches of each view that are hidden. A larger one makes the task harder.
        """

        scale: tuple[float, float] = (0.67, 1.0)
        patch: int = 32
        hidden: float = ranged(0.6, 0, 0.99, above=True)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.grid = max(2, config.image_size // config.patch)
        self.num_hidden = min(math.ceil(config.hidden * self.grid**2), self.grid**2 - 1)
        modes = {part: part.training for part in backbone.modules()}
        with torch.no_grad():
            example = torch.zeros(1, facts.channels, config.image_size, config.image_size)
            side = self._map(example, backbone.eval()).shape[-1]
        for part, mode in modes.items():
            part.training = mode
        self.factor = math.ceil(config.image_size / side)
        self.token = nn.Parameter(torch.zeros(facts.channels, 1, 1))
        self.head = nn.Conv2d(num_map_channels(backbone), self.factor**2 * facts.channels, 1)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """AdamW 0.0008 for 2,048 images, cosine to a twentieth over 100 epochs, after a warm-up of ten.

        On small data AdamW 0.001 for 64 images (with the root of the batch), 200 epochs.
        """
        size = facts.image_size
        config = cls.Config(image_size=size, patch=max(2, round(size / 7)))
        if not facts.small:
            batch, epochs = facts.batch(2048), facts.epochs or 100
            lr = 8e-4 * batch / 2048
        else:
            batch, epochs = facts.batch(64), facts.epochs or 200
            lr = 1e-3 * (batch / 64) ** 0.5
        training = Training(
            optimizer="adamw",
            lr=lr,
            weight_decay=0.05,
            decay_norm_and_bias=False,
            warmup=epochs / 10,
            warmup_start=0.005,
            final_lr=0.05,
            epochs=epochs,
            batch_size=batch,
            clip=5.0,
        )
        return Recipe(config, training)

    @staticmethod
    def _map(images: Tensor, backbone: nn.Module) -> Tensor:
        """[N, C, H, W] images to the last map of the network."""
        return as_map(backbone, backbone.forward_features(images))  # type: ignore[operator]

    def _hidden(self, images: Tensor, world: World = ALONE) -> Tensor:
        """[N, 1, H, W], true where an image is hidden: equally many patches of each, at random places."""
        num_images, cells = len(images), self.grid**2
        order = world.drawn(num_images, lambda count: torch.rand(count, cells)).argsort(dim=1)
        chosen = torch.zeros(num_images, cells).scatter_(1, order[:, : self.num_hidden], 1.0)
        grid = chosen.view(num_images, 1, self.grid, self.grid).to(images.device)
        return F.interpolate(grid, size=images.shape[-2:], mode="nearest").bool()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The image, and what is shown of it."""
        (images,) = batch.views
        return {"image": images, "shown": torch.where(self._hidden(images), self.token.detach(), images)}

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """The mean absolute error of hidden pixels, in deviations of the network's input.

        `unexplained` is that error as a share of the error of each image's own mean.
        """
        (images,) = batch.views
        hidden = self._hidden(images, batch.world)
        shown = torch.where(hidden, self.token.to(images.dtype), images)
        foretold = F.pixel_shuffle(self.head(self._map(shown, self.backbone)).float(), self.factor)
        if foretold.shape[-1] != images.shape[-1]:
            foretold = F.interpolate(foretold, size=images.shape[-2:], mode="bilinear", align_corners=False)
        true, weights = images.float(), hidden.expand_as(images).float()
        counts = weights.sum(dim=(1, 2, 3))
        errors = ((foretold - true).abs() * weights).sum(dim=(1, 2, 3)) / counts
        means = true.mean(dim=(2, 3), keepdim=True)
        plain = ((true - means).abs() * weights).sum(dim=(1, 2, 3)) / counts
        unexplained = batch.world.gather(errors.detach()).mean() / batch.world.gather(plain).mean().clamp(min=1e-6)
        return Loss(errors.mean(), {"unexplained": unexplained.detach()})
