"""Nine patches of a view, as relative location and jigsaw puzzles cut them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sslcurr.data.views.view import View
from sslcurr.errors import SpecError
from sslcurr.spec.ranges import LARGEST_SIDE, ranged
from sslcurr.tasks.base import ViewConfig, share
from sslcurr.world import ALONE, World

# Of a 255 px view MMSelfSup cuts cells of 85 px and patches of 64 px, from images of 292 px.
VIEW, PATCH = 255, 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchConfig(ViewConfig):
    """A view of `grid_size` pixels cut into 3 x 3 cells, and a patch at a random place of each cell.

    Between two patches lies a gap that varies, so that edges cannot be matched. `gray` is a measure against chromatic
    aberration (https://arxiv.org/abs/1901.09005), `color_dropping` that of relative location's paper.

    Attributes:
        image_size: Side of whole images, which the network sees outside of training only, in pixels.
        scale: Smallest and largest share of an image's area that is cut into cells.
        gray: Probability that a view of a colour image is turned grey, which hides the colour fringes of a lens.
        grid_size: Side of the view that is cut into 3 x 3 cells, in pixels.
        patch_size: Side of the patch that is taken at a random place of each cell, in pixels. Smaller ones leave wider
            gaps between them.
        color_dropping: Share of the patches of colour images that keep one colour, with faint noise for the other two.
    """

    grid_size: int = ranged(VIEW, 1, LARGEST_SIDE, of_views=True)
    patch_size: int = ranged(PATCH, 1, LARGEST_SIDE, of_views=True)
    color_dropping: float = share(0.0, of_views=True)
    scale: tuple[float, float] = (0.57, 0.77)
    horizontal_flip: float = 0.0

    def __post_init__(self) -> None:
        """Raise SpecError for patches that do not fit their cells."""
        ViewConfig.__post_init__(self)
        if 3 * self.patch_size > self.grid_size:
            raise SpecError(
                f"three patches of {self.patch_size} pixels do not fit a view of {self.grid_size}",
                "patch_size must be at most a third of grid_size",
            )

    def grid_view(self) -> View:
        """The view that is cut: in true geometry, never squeezed."""
        return self.view(size=self.grid_size, ratio=(1.0, 1.0))


def patch_sizes(image_size: int) -> tuple[int, int]:
    """Sides of the view and of its patches for an image size: 255 and 64 px at 224 px, as MMSelfSup has them.

    Patches of small images are enlarged, up to 32 px or half of the image: the network needs more than a few pixels.
    """
    patch = max(round(image_size * PATCH / 224), min(32, image_size // 2), 4)
    return 3 * -(-patch * VIEW // PATCH // 3), patch


def cut(images: Tensor, patch_size: int, world: World = ALONE) -> Tensor:
    """Cut each view into 3 x 3 cells and take a patch at a random place of each cell.

    Args:
        images: [N, C, S, S]. patch_size: P, at most S // 3. world: the ranks that have the other images.

    Returns:
        [9 * N, C, P, P]; the first N are the top left patches, rows of cells follow one another. Places are drawn from
        torch's global CPU generator.
    """
    num_images, channels, size, _ = images.shape
    cell = size // 3
    num_positions = cell - patch_size + 1
    shift = world.drawn(num_images, lambda count: torch.randint(num_positions, (2, 9, count)), dim=2)
    corner = torch.arange(9)
    origin = torch.stack([corner // 3, corner % 3]) * cell
    first = (origin[:, :, None] + shift).to(images.device, non_blocking=True)
    span = torch.arange(patch_size, device=images.device)
    rows, columns = (first[..., None] + span).unbind(0)  # each [9, N, P]
    image = torch.arange(num_images, device=images.device)
    patches = images[
        image[None, :, None, None, None],
        torch.arange(channels, device=images.device)[None, None, :, None, None],
        rows[:, :, None, :, None],
        columns[:, :, None, None, :],
    ]
    return patches.flatten(0, 1)


def drop_colors(patches: Tensor, probability: float, world: World = ALONE) -> Tensor:
    """Leave one colour of some patches [M, 3, P, P] and put faint noise in place of the others.

    The noise has a hundredth of the standard deviation of what is left, about its mean. Patches of one channel stay.
    """
    if probability == 0.0 or patches.shape[1] != 3:
        return patches
    count, device = len(patches), patches.device
    dropped = (world.drawn(count, torch.rand) < probability).to(device, non_blocking=True)
    kept_channel = world.drawn(count, lambda size: torch.randint(3, (size,))).to(device, non_blocking=True)
    noise = world.drawn(count, lambda size: torch.randn((size, *patches.shape[1:]))).to(device, non_blocking=True)
    remaining = patches[torch.arange(count, device=patches.device), kept_channel]
    mean, std = remaining.mean(dim=(1, 2)), remaining.std(dim=(1, 2))
    faint = mean[:, None, None, None] + 0.01 * std[:, None, None, None] * noise
    replaced = torch.arange(3, device=patches.device)[None] != kept_channel[:, None]
    return torch.where((dropped[:, None] & replaced)[:, :, None, None], faint, patches)
