"""Jigsaw: name the permutation by which nine patches were shuffled (https://arxiv.org/abs/1603.09246)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.spec.ranges import ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Facts, Loss, Recipe, Task, Tick, share
from sslcurr.tasks.patches import PatchConfig, cut, drop_colors, patch_sizes
from sslcurr.world import ALONE, World


@lru_cache(maxsize=4)
def permutation_set(count: int) -> tuple[tuple[int, ...], ...]:
    """`count` permutations of nine that are far from one another, beginning with the identity.

    As the paper's Algorithm 1, each next one is chosen by its Hamming distances to those before it: here the largest
    smallest distance, then the largest sum, then the first in order. At most 9! = 362,880.
    """
    every = np.array(list(permutations(range(9))), dtype=np.int8)
    smallest = np.full(len(every), 127, dtype=np.int32)
    total = np.zeros(len(every), dtype=np.int32)
    chosen = [0]
    while len(chosen) < count:
        distance = (every != every[chosen[-1]]).sum(axis=1, dtype=np.int32)
        smallest = np.minimum(smallest, distance)
        total += distance
        # A sum is under 9 * 362,880; those chosen have a smallest distance of 0 and never come again.
        chosen.append(int((smallest.astype(np.int64) * 2**32 + total).argmax()))
    return tuple(tuple(int(i) for i in every[row]) for row in chosen)


class Jigsaw(Task):
    """Each patch goes through the backbone alone; their features, in shuffled order, go to the head.

    Shuffling features is shuffling patches, so one pass of the backbone serves several permutations.
    """

    name = "jigsaw"
    version = 1
    over_ranks = True
    summary = "name the permutation by which nine patches were shuffled"
    paper = "https://arxiv.org/abs/1603.09246"

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(PatchConfig):
        """The paper's values: 1,000 permutations, three of ten images grey, every patch normalised by itself.

        Attributes:
            num_permutations: Permutations of the nine patches that are told apart. More make the task harder.
            shuffles: Permutations of each image in a step. More cost little: patches go through the backbone once.
            normalise: Whether each channel of a patch is brought to mean 0 and standard deviation 1, so that
                brightness tells nothing.
            patch_features: Width of what the head is given of each patch.
            hidden: Width of the hidden layer of the head.
            dropout: Share of the head's hidden units that are set to 0 at random in each step.
        """

        num_permutations: int = ranged(1000, 2, 2000)
        shuffles: int = 1
        normalise: bool = True
        patch_features: int = 512
        hidden: int = 4096
        dropout: float = share(0.5)
        gray: float = 0.3

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.patch_head = nn.Sequential(nn.Linear(dim, config.patch_features), nn.ReLU(inplace=True))
        self.head = nn.Sequential(
            nn.Linear(9 * config.patch_features, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.num_permutations),
        )
        self.permutations: Tensor
        self.register_buffer("permutations", torch.tensor(permutation_set(config.num_permutations)))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.01 for 256 images, steps at 2/7, 4/7 and 6/7 of 70 epochs.

        On small data 64 permutations, eight of them of each image a step, a smaller head, and a cosine.
        """
        batch, epochs = facts.batch(256 if not facts.small else 64), facts.epochs or 70
        grid_size, patch_size = patch_sizes(facts.image_size)
        config = cls.Config(image_size=facts.image_size, grid_size=grid_size, patch_size=patch_size)
        if facts.small:
            config = replace(config, num_permutations=64, shuffles=8, patch_features=128, hidden=512)
            return Recipe(config, Training(lr=0.03 * batch / 64, weight_decay=1e-4, epochs=epochs, batch_size=batch))
        return Recipe(
            config,
            Training(
                lr=0.01 * batch / 256,
                weight_decay=5e-4,
                schedule="step",
                milestones=(2 / 7, 4 / 7, 6 / 7),
                epochs=epochs,
                batch_size=batch,
            ),
        )

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """The view that is cut."""
        return (config.grid_view(),)

    @classmethod
    def input_sizes(cls, config: Config) -> set[int]:
        """Patches, and whole images outside of training."""
        return {config.patch_size, config.image_size}

    def _cut(self, batch: Batch) -> Tensor:
        """[9 * N, C, P, P] patches in the order of their cells."""
        patches = cut(batch.views[0], self.config.patch_size, batch.world)
        return drop_colors(patches, self.config.color_dropping, batch.world)

    def _patches(self, batch: Batch) -> Tensor:
        """The patches as the backbone is given them."""
        patches = self._cut(batch)
        if self.config.normalise:
            mean, std = patches.mean(dim=(2, 3), keepdim=True), patches.std(dim=(2, 3), correction=0, keepdim=True)
            patches = (patches - mean) / std.clamp_min(1e-2)
        return patches

    def _draw(self, num_images: int, world: World = ALONE) -> Tensor:
        """[shuffles * N] numbers of permutations."""
        num_rows, choices = self.config.shuffles * num_images, len(self.permutations)
        return world.drawn(num_rows, lambda count: torch.randint(choices, (count,))).to(self.permutations.device)

    def _shuffled(self, cells: Tensor, labels: Tensor) -> Tensor:
        """[9, N, ...] things of cells -> [shuffles * N, 9, ...]: place p has that of cell `permutations[label][p]`."""
        image = torch.arange(cells.shape[1], device=cells.device).repeat(self.config.shuffles)
        return cells[self.permutations[labels], image[:, None]]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The patches of each cell, and the same in the order of the permutation that is the label of all rows."""
        cells = self._cut(batch).unflatten(0, (9, -1))
        label = int(self._draw(1)[0])
        order = [int(cell) for cell in self.permutations[label]]
        shown = {"view": batch.views[0]} | {f"cell {i}": cells[i] for i in range(9)}
        return shown | {f"{label}: place {place}, cell {cell}": cells[cell] for place, cell in enumerate(order)}

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy over the permutations."""
        features = self.patch_head(self.backbone(self._patches(batch))).unflatten(0, (9, -1))
        labels = self._draw(len(batch.index), batch.world)
        logits = self.head(self._shuffled(features, labels).flatten(1)).float()
        accuracy = (logits.argmax(dim=1) == labels).float().mean().detach()
        return Loss(F.cross_entropy(logits, labels), {"accuracy": accuracy})
