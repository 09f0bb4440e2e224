"""Gaussian blur on batches, each image with its own width."""

from __future__ import annotations

import torch
from torch import Tensor

# Exponents stop here: denormal numbers would make the matrix products ten times slower. All that is added by it to a
# pixel is a millionth of the others.
LEAST_EXPONENT = -18.0


def blur_matrices(sigma: Tensor, size: int) -> Tensor:
    """Matrices [M, size, size] that blur a line of `size` pixels by Gaussians of standard deviation `sigma` [M] pixels.

    The kernel is not cut off. Beyond a border the line goes on mirrored without repeating the border pixel, once on
    each side, so `sigma` should stay below about a quarter of `size`. Rows sum to one.
    """
    position = torch.arange(size, dtype=torch.float32, device=sigma.device)
    distance = position[None, :] - position[:, None]
    before = position[None, :] + position[:, None]
    after = 2.0 * (size - 1) - before
    # The border pixels have no mirror image.
    before[:, 0] = after[:, -1] = float("inf")
    scale = (-0.5 / sigma.square()).view(-1, 1, 1)
    matrix = distance.square().mul(scale).clamp_(min=LEAST_EXPONENT).exp_()
    matrix += before.square().mul(scale).clamp_(min=LEAST_EXPONENT).exp_()
    matrix += after.square().mul(scale).clamp_(min=LEAST_EXPONENT).exp_()
    return matrix.div_(matrix.sum(-1, keepdim=True))


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Images [M, C, size, size] blurred by Gaussians of standard deviation `sigma` [M], in pixels."""
    num_images, channels, size = x.shape[:3]
    matrix = blur_matrices(sigma, size)
    lines = torch.bmm(x.reshape(num_images, channels * size, size), matrix.transpose(1, 2))
    # A copy of the matrix for each channel: with a target that is not contiguous, a product is a slow loop.
    matrix = matrix[:, None].expand(-1, channels, -1, -1).reshape(-1, size, size)
    return torch.bmm(matrix, lines.view(-1, size, size)).view_as(x)
