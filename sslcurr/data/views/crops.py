"""Boxes drawn in the geometry of the true image, and batched antialiased resizing of them to squares."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
NUM_CROP_DRAWS = 2 * NUM_ATTEMPTS + 2

# A box computed from shares may miss a pixel border by a rounding error; it does not touch that pixel.
_TOUCH = 1e-3


def random_boxes(
    uniform: Tensor, heights: Tensor, widths: Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Boxes as torchvision's RandomResizedCrop draws them, for all images at once.

    Ten attempts at a share of the area, uniform in `scale`, and an aspect ratio, log-uniform in `ratio`; the first that
    fits is placed uniformly, and where none fits the largest centred box with an allowed ratio is taken.

    `uniform` is [22, M], float64 in [0, 1); `heights` and `widths` are int64 [M], in pixels. Returns int64 [M, 4]: top,
    left, height and width in pixels.
    """
    area = (heights * widths).double() * (scale[0] + (scale[1] - scale[0]) * uniform[:NUM_ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * uniform[NUM_ATTEMPTS : 2 * NUM_ATTEMPTS])
    width = torch.sqrt(area * aspect).round().long()
    height = torch.sqrt(area / aspect).round().long()
    fits = (width > 0) & (width <= widths) & (height > 0) & (height <= heights)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)  # 0 where none fits
    width, height = width.gather(0, first)[0], height.gather(0, first)[0]
    top = (uniform[-2] * (heights - height + 1)).floor().long()
    left = (uniform[-1] * (widths - width + 1)).floor().long()

    whole = widths.double() / heights.double()
    narrow, wide = whole < ratio[0], whole > ratio[1]
    last_height = torch.where(narrow, (widths / ratio[0]).round().long(), heights)
    last_width = torch.where(wide, (heights * ratio[1]).round().long(), widths)
    last = torch.stack(((heights - last_height) // 2, (widths - last_width) // 2, last_height, last_width), 1)
    return torch.where(fits.any(0)[:, None], torch.stack((top, left, height, width), 1), last)


def center_boxes(heights: Tensor, widths: Tensor) -> Tensor:
    """The largest centred square of each image: int64 [M, 4], top, left, height and width in pixels."""
    side = torch.minimum(heights, widths)
    return torch.stack(((heights - side) // 2, (widths - side) // 2, side, side), 1)


def whole_boxes(heights: Tensor, widths: Tensor) -> Tensor:
    """The whole of each image: int64 [M, 4], top, left, height and width in pixels."""
    nothing = torch.zeros_like(heights)
    return torch.stack((nothing, nothing, heights, widths), 1)


def in_pixels(boxes: Tensor, true_size: Tensor, num_pixels: int) -> Tensor:
    """Boxes [M, 4] in pixels of true images of `true_size` [M, 2], in pixels of their packs of `num_pixels` squared."""
    return boxes * num_pixels / true_size.repeat(1, 2)


def centers(start: Tensor, length: Tensor, flip: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where the output pixels lie in the input [M, size], and the half width of the filter [M, 1], in input pixels."""
    position = torch.arange(size, dtype=torch.float32, device=start.device) + 0.5
    step = length[:, None] / size
    position = torch.where(flip[:, None], size - position, position)
    return start[:, None] + step * position, step.clamp(min=1.0)


def triangle(pixels: Tensor, middles: Tensor, support: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """The triangle filter at input `pixels`, nothing outside of the pixels that the box touches; not yet normalised."""
    weights = (1.0 - (pixels + 0.5 - middles).abs_() / support).clamp_(min=0.0)
    first = (start + _TOUCH).floor()
    last = (start + length - _TOUCH).ceil() - 1.0
    return weights.mul_((pixels >= first) & (pixels <= last))


def interpolation(start: Tensor, length: Tensor, flip: Tensor, size: int, num_pixels: int) -> Tensor:
    """Matrices that resize segments of a line of `num_pixels` pixels to `size` pixels, antialiased, flipped or not.

    `start` and `length` [M] are in pixels, and need not be whole; `flip` [M] is boolean. Rows sum to one. For whole
    numbers this is torchvision's `resize(crop(...), antialias=True)` along one axis: a triangle as wide as the
    downscaling factor, at least one pixel, cut at the box. Otherwise taps are the pixels the box touches.
    Returns float32 [M, size, num_pixels].
    """
    middles, support = centers(start, length, flip, size)
    pixels = torch.arange(num_pixels, dtype=torch.float32, device=start.device)
    weights = triangle(pixels, middles[..., None], support[..., None], start[:, None, None], length[:, None, None])
    return weights.div_(weights.sum(-1, keepdim=True))


def taps(start: Tensor, length: Tensor, flip: Tensor, size: int, num_pixels: int) -> tuple[Tensor, Tensor]:
    """The entries of `interpolation` that may differ from zero: their columns, int64, and values, float32 [T, M, size].

    For tensors on the CPU, whose largest scale can be looked at to know T.
    """
    middles, support = centers(start, length, flip, size)
    num_taps = math.ceil(2.0 * float(support.max())) if len(start) else 1
    first = (middles - support - 0.5).floor_().add_(1.0)
    pixels = first + torch.arange(num_taps).view(-1, 1, 1)
    weights = triangle(pixels, middles, support, start[:, None], length[:, None])
    weights /= weights.sum(0)
    return pixels.clamp_(0, num_pixels - 1).long(), weights


def line_bags(boxes: Tensor, flips: Tensor, size: int, num_pixels: int, channels: int) -> tuple[Tensor, Tensor, int]:
    """Which lines of an image [channels * num_pixels, num_pixels] make the lines of its crop, and their weights.

    For `torch.embedding_bag`, which adds up few rows of a table: int64 and float32 [M, channels * size * T], T entries
    for each line of a crop [channels * size, ...]; and T. The weights turn bytes into values in [0, 1].
    """
    lines, weights = taps(boxes[:, 0], boxes[:, 2], flips[:, 1], size, num_pixels)
    first = torch.arange(channels).view(-1, 1, 1) * num_pixels
    lines = lines.permute(1, 2, 0)[:, None] + first
    weights = weights.mul_(1 / 255).permute(1, 2, 0)[:, None].expand_as(lines)
    return lines.flatten(1), weights.flatten(1), lines.shape[-1]


def resize_sparse(images: Tensor, boxes: Tensor, flips: Tensor, size: int, count: int) -> Tensor:
    """`resize_dense` for a CPU: rows are summed by their few taps, columns by a matrix product."""
    num_images, channels, num_pixels = images.shape[:3]
    num_views = count * num_images
    lines, weights, num_taps = line_bags(boxes, flips, size, num_pixels, channels)
    lines += (torch.arange(num_images) * channels * num_pixels).repeat(count)[:, None]
    bags = torch.arange(0, lines.numel(), num_taps)
    table = images.view(-1, num_pixels).float()
    rows = torch.embedding_bag(table, lines.view(-1), bags, False, 0, False, weights.view(-1))[0]
    pixels, weights = taps(boxes[:, 1], boxes[:, 3], flips[:, 0], size, num_pixels)
    pixels, weights = pixels.permute(1, 2, 0), weights.permute(1, 2, 0)
    columns = torch.zeros((num_views, size, num_pixels)).scatter_add_(2, pixels, weights)
    rows = rows.view(num_views, channels * size, num_pixels)
    return torch.bmm(rows, columns.transpose(1, 2)).view(num_views, channels, size, size)


def resize_dense(images: Tensor, boxes: Tensor, flips: Tensor, size: int, count: int) -> Tensor:
    """Cut and resize `count` boxes of each image by two matrix products with full interpolation matrices.

    The column matrices of all crops of an image lie side by side, so that an image is read once however many crops it
    has. For accelerators.

    `images` is uint8 [N, C, S, S]; `boxes` float32 [count * N, 4] in pixels of it and `flips` boolean [count * N, 2],
    horizontal and vertical, crop-major. Returns float32 [count * N, C, size, size] in [0, 1].
    """
    num_images, channels, num_pixels = images.shape[:3]
    rows = interpolation(boxes[:, 0], boxes[:, 2], flips[:, 1], size, num_pixels).mul_(1 / 255)
    columns = interpolation(boxes[:, 1], boxes[:, 3], flips[:, 0], size, num_pixels)
    columns = columns.view(count, num_images, size, num_pixels).permute(1, 3, 0, 2)
    columns = columns.reshape(num_images, num_pixels, count * size)
    lines = torch.bmm(images.float().view(num_images, channels * num_pixels, num_pixels), columns)
    lines = lines.view(num_images, channels, num_pixels, count * size)
    crops = images.new_empty((count * num_images, channels, size, size), dtype=torch.float32)
    for crop in range(count):
        which = slice(crop * num_images, (crop + 1) * num_images)
        for channel in range(channels):
            part = lines[:, channel, :, crop * size : (crop + 1) * size]
            torch.bmm(rows[which], part, out=crops[which, channel])
    return crops


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image counter-clockwise about its centre, bilinear, black outside the image.

    `x` is [M, C, size, size], `degrees` [M]; as torchvision's `rotate`.
    """
    angle = torch.deg2rad(degrees)
    cosine, sine, nothing = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack((cosine, -sine, nothing, sine, cosine, nothing), 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
