"""Colour operations on batches, each image with its own factors, by torchvision's formulas for floats in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)
GRAY = (0.2989, 0.587, 0.114)  # torchvision's weights; their sum is 0.9999


def adjust_brightness(x: Tensor, factor: Tensor) -> None:
    """Multiply images [M, C, H, W] by `factor` [M], clamped to [0, 1], in place."""
    x.mul_(factor.view(-1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_contrast(x: Tensor, factor: Tensor) -> None:
    """Blend images [M, C, H, W] with the mean of their grey versions by `factor` [M], clamped, in place."""
    mean = x.mean((2, 3))
    if x.shape[1] == 3:
        mean = GRAY[0] * mean[:, 0] + GRAY[1] * mean[:, 1] + GRAY[2] * mean[:, 2]
    mean = mean.view(-1) * (1.0 - factor)
    x.mul_(factor.view(-1, 1, 1, 1)).add_(mean.view(-1, 1, 1, 1)).clamp_(0.0, 1.0)


def to_gray(x: Tensor) -> Tensor:
    """The grey version [M, 1, H, W] of images [M, 3, H, W]."""
    return (x[:, :1] * GRAY[0]).add_(x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:], alpha=GRAY[2])


def adjust_saturation(x: Tensor, factor: Tensor) -> None:
    """Blend images [M, 3, H, W] with their grey versions by `factor` [M], clamped, in place."""
    factor = factor.view(-1, 1, 1, 1)
    gray = to_gray(x).mul_(1.0 - factor)
    x.mul_(factor).add_(gray).clamp_(0.0, 1.0)


def hue_matrices(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices [M, 3, 3] and weights [M] by which a hue shift is a clamped linear map (see `adjust_hue`)."""
    turn = factor.remainder(1.0) * 6.0
    sextant = turn.floor()
    part = turn - sextant
    one, other = torch.ones_like(part), 2.0 * part - 1.0
    base = torch.stack((one, -one, other, other, one, -one, -one, other, one), 1).view(-1, 3, 3)
    # A sixth of the circle is the complement of a turn back by a third: red, green, blue take the next one's place.
    rows = (torch.arange(3, device=factor.device) + sextant.long()[:, None]) % 3
    matrix = base.gather(1, rows[:, :, None].expand(-1, -1, 3))
    odd = sextant.remainder(2.0)
    return matrix * (1.0 - 2.0 * odd)[:, None, None], torch.lerp(1.0 - part, part, odd)


def adjust_hue(x: Tensor, factor: Tensor) -> None:
    """Shift the hue of images [M, 3, H, W] by `factor` [M], shares of the colour circle in [-0.5, 0.5], in place.

    A shift keeps the largest and the smallest channel of a pixel as values and moves along the edges of the hexagon
    between them. For a shift by a part d of a sixth of the circle, red becomes

        clamp(r - g - (1 - 2 d) b + (1 - d) (max + min), min, max)

    and green and blue likewise in turn, which is the same as through HSV without its divisions and cases; whole sixths
    permute the channels and complement them against max + min.
    """
    matrix, weight = hue_matrices(factor)
    red, green, blue = x.unbind(1)
    high = torch.maximum(red, green)
    low = torch.minimum(red, green)
    torch.maximum(high, blue, out=high)
    torch.minimum(low, blue, out=low)
    shifted = torch.bmm(matrix, x.flatten(2)).view_as(x)
    shifted.add_(((high + low).mul_(weight.view(-1, 1, 1)))[:, None])
    torch.maximum(shifted, low[:, None], out=shifted)
    torch.minimum(shifted, high[:, None], out=x)


ADJUST: tuple[Callable[[Tensor, Tensor], None], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)
