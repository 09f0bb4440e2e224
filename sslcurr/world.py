"""The processes that train one stage together, as tasks see them. `ALONE` is a training in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# What ranks agree on where one of them has failed; above the numbers of signals.
FAILED = 1000


class Left(Exception):
    """Another rank has failed, or is gone, and this one ends the stage too."""


class GradientSum(Protocol):
    """Sums the gradients of several ranks, while the backward pass goes on."""

    def last_part(self) -> None:
        """The backward pass that comes is the last of the step."""

    def finish(self) -> None:
        """Wait for all sums: every parameter then has the gradient of the whole step."""


class World:
    """What the images of a batch that lie with several ranks have to exchange; here one rank has them all.

    A task asks for these wherever images of a batch meet, or where numbers are drawn for them. Then its loss is that
    of the whole batch, wherever its images are. The objective of a step is the sum of the ranks' losses, each times the
    rank's share of the images, and what crosses ranks has its true adjoint: gradients of all ranks come back.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> slice:
        """Which of so many things this rank has."""
        return slice(0, count)

    def joined(self, blocks: list[Tensor]) -> Tensor:
        """The rows of what this rank computed of its share of blocks, after those of the ranks before it, and before
        those after it: [N, ...], all of them on every rank. [0, 0] where there are none."""
        return torch.cat(blocks) if blocks else torch.empty(0, 0)

    def gather(self, x: Tensor) -> Tensor:
        """The rows of all ranks in the order of the batch: [count * own, ...] to [count * whole, ...], crop-major."""
        return x

    def rows(self, x: Tensor, dim: int = 0) -> Tensor:
        """The own rows of something of the whole batch, the inverse of `gather`; `dim` is that of the images."""
        return x

    def sum(self, x: Tensor) -> Tensor:
        """The sum over ranks of something of one shape."""
        return x

    def drawn(self, num_rows: int, draw: Callable[[int], Tensor], dim: int = 0) -> Tensor:
        """Random numbers for rows of images, the same however many ranks there are.

        Args:
            num_rows: of this rank: its images, or as many times these as each has rows.
            draw: gives the numbers for so many rows from torch's global generator, crop-major along `dim`.
            dim: that of the rows.

        Returns:
            The numbers of the own rows.
        """
        return draw(num_rows)

    def total(self, num_images: int) -> int:
        """How many images all ranks have together, where this one has `num_images`."""
        return num_images

    def of_groups(self, x: Tensor, order: Tensor, num_groups: int) -> tuple[Tensor, int]:
        """The rows that this rank normalises in groups of their own.

        Args:
            x: [own, ...] a row for each own image; no gradient goes through.
            order: [whole] the images of the batch in the order in which groups follow one another.
            num_groups: of nearly equal size.

        Returns:
            [M, ...] the rows of the own part of `order`, which is whole groups, and how many these are.
        """
        return x[order], num_groups

    def from_groups(self, x: Tensor, order: Tensor, num_groups: int) -> Tensor:
        """The rows of the own images of what all ranks computed for their groups, [M, ...], as `of_groups` says."""
        return torch.empty_like(x).index_copy_(0, order, x)

    # ---- for the engine

    def of(self, whole: int) -> World:
        """The same ranks, for a batch of so many images."""
        return self

    def coupled(self) -> AbstractContextManager[Any]:
        """A context in which norms see the whole batch, and dropout is drawn for it."""
        return nullcontext()

    def agree(self, number: int) -> int:
        """The largest of all ranks' numbers."""
        return number

    def told(self, content: Any) -> Any:
        """What the first rank has, of plain values and tensors on the CPU."""
        return content

    def record(self) -> dict[str, Any] | None:
        """Of the ranks, for the record of a stage: `size`, `nodes` and `backend`; None where there is one."""
        return None

    def same(self, module: nn.Module) -> None:
        """Give all ranks the first one's parameters and buffers."""

    def gradient_sum(self, parameters: Iterable[nn.Parameter]) -> GradientSum | None:
        """What sums the gradients of all ranks; None where there is one."""
        return None

    def apart(self) -> AbstractContextManager[None]:
        """A context in which norms see the images of this rank only."""
        return nullcontext()


ALONE = World()
