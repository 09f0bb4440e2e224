"""Relative location: on which side of another patch does a patch lie (https://arxiv.org/abs/1505.05192)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Rule, Task, Tick, share
from sslcurr.tasks.patches import PatchConfig, cut, drop_colors, patch_sizes

CENTER = 4
SIDES = ("above left", "above", "above right", "left", "right", "below left", "below", "below right")


class RelativeLocation(Task):
    """Eight pairs an image: each outer patch with the centre one. Each patch goes through the backbone once.

    Outer and centre patches are two passes, as in MMSelfSup: batch norms normalise each kind by itself.
    """

    name = "relative-location"
    version = 1
    over_ranks = True
    summary = "name the side of the centre patch on which a patch lies"
    paper = "https://arxiv.org/abs/1505.05192"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(PatchConfig):
        """MMSelfSup's values; two of three images are grey, against chromatic aberration.

        Attributes:
            hidden: Width of the hidden layer that takes the features of two patches.
            dropout: Share of the hidden units that are set to 0 at random in each step.
        """

        hidden: int = 4096
        dropout: float = share(0.5)
        gray: float = 0.66

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        first = nn.Linear(2 * dim, config.hidden)
        self.neck = nn.Sequential(
            first,
            nn.BatchNorm1d(config.hidden, momentum=0.003),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
        )
        self.head = nn.Linear(config.hidden, 8)
        for layer, std in ((first, 0.01), (self.head, 0.005)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.2 for 512 images, warm-up of 5 epochs, steps at 30 and 50 of 70. On small data a smaller neck."""
        batch, epochs = facts.batch(512 if not facts.small else 64), facts.epochs or 70
        grid_size, patch_size = patch_sizes(facts.image_size)
        config = cls.Config(
            image_size=facts.image_size,
            grid_size=grid_size,
            patch_size=patch_size,
            hidden=512 if facts.small else 4096,
        )
        return Recipe(
            config,
            Training(
                lr=(0.05 * batch / 64) if facts.small else 0.2 * batch / 512,
                weight_decay=1e-4,
                schedule="step",
                milestones=(30 / 70, 50 / 70),
                warmup=epochs * 5 / 70,
                warmup_start=0.1,
                epochs=epochs,
                batch_size=batch,
            ),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """The view that is cut."""
        return (config.grid_view(),)

    def rules(self) -> dict[str, Rule]:
        """Five times the weight decay behind the backbone."""
        return {"neck": Rule(weight_decay=5.0), "head": Rule(weight_decay=5.0)}

    @classmethod
    def input_sizes(cls, config: Config) -> set[int]:
        """Patches, and whole images outside of training."""
        return {config.patch_size, config.image_size}

    def _patches(self, batch: Batch) -> Tensor:
        patches = cut(batch.views[0], self.config.patch_size, batch.world)
        return drop_colors(patches, self.config.color_dropping, batch.world)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The nine patches, the outer ones with their labels."""
        patches = list(self._patches(batch).chunk(9))
        shown = {"view": batch.views[0], "centre": patches.pop(CENTER)}
        return shown | {f"{i}: {side}": patch for i, (side, patch) in enumerate(zip(SIDES, patches, strict=True))}

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy over the eight sides; a label counts the outer cells row by row from the top left."""
        patches = list(self._patches(batch).chunk(9))
        center = self.backbone(patches.pop(CENTER))
        pairs = torch.cat([self.backbone(torch.cat(patches)), center.repeat(8, 1)], dim=1)
        side = torch.arange(8, device=pairs.device).repeat_interleave(len(center))
        logits = self.head(self.neck(pairs)).float()
        accuracy = (logits.argmax(dim=1) == side).float().mean().detach()
        return Loss(F.cross_entropy(logits, side), {"accuracy": accuracy})
