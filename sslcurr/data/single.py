"""Views one after another, in the cache of a single core: what `views.render` does on a CPU unless views are small.

The laws are those of `crops`, `colour` and `blur`, and the tests hold the two against each other. What differs is how:
resizing and blurring touch only the pixels within reach of the filter, and brightness and contrast are kept as a number
each (the value of a pixel is `scale * x + offset`), so that pixels are touched only to clamp them, or for other
operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sslcurr.data import colour, crops
from sslcurr.data.blur import LEAST_EXPONENT

if TYPE_CHECKING:
    from sslcurr.data.views import Parameters, View

_GRAY_SUM = sum(colour.GRAY)
_NUM_IMAGES_AHEAD = 16  # images for which filters are computed together
_BLUR_REACH = 4.0  # standard deviations; beyond lies 6e-5 of the weight


def block_of(size: int) -> int:
    """How many outputs of a line are computed together: a divisor of `size` from 8 to 32, or 0 for none."""
    divisors = [block for block in range(8, 33) if size % block == 0]
    return max(divisors, key=lambda block: (block % 16 == 0, block), default=0)


def render(
    images: Tensor,
    parameters: Parameters,
    view: View,
    mean: Sequence[float],
    std: Sequence[float],
    result: Tensor,
) -> None:
    """Make all views of `images`, uint8 [N, C, S, S], into `result`, float32 [count, N, channels, size, size]."""
    num_images, depth, num_pixels = images.shape[:3]
    maker = _Maker(view, depth, num_pixels, mean, std)
    rows = torch.arange(view.count * num_images).view(view.count, num_images)
    for start in range(0, num_images, _NUM_IMAGES_AHEAD):
        chunk = slice(start, start + _NUM_IMAGES_AHEAD)
        maker.prepare(parameters, rows[:, chunk].T.reshape(-1))
        for place, image in enumerate(images[chunk]):
            maker.image.view(image.shape).copy_(image)
            for crop in range(view.count):
                maker.make(place * view.count + crop, result[crop, start + place])


class _Maker:
    """Makes views of images [C, S, S] one by one in reused memory."""

    def __init__(self, view: View, depth: int, num_pixels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.view, self.depth, self.num_pixels = view, depth, num_pixels
        size = view.size
        self.block = block_of(size)
        self.num_blocks = size // self.block
        self.image = torch.empty((depth * num_pixels, num_pixels))
        self.reach = max(1, min(math.ceil(_BLUR_REACH * view.blur_sigma[1]), size - 1))
        # Four planes: the fourth holds what a hue shift adds.
        area = size * size
        self.planes = torch.empty((2, 4, area)).unbind()
        self.extremes = torch.empty((2, area))
        self.lines = torch.empty((depth * size, size))
        self.gray = torch.tensor([colour.GRAY])
        self.inverse_std = 1.0 / torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self.bias = -torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) * self.inverse_std
        self.blur_lines: dict[int, tuple[Tensor, Tensor]] = {}

    def prepare(self, parameters: Parameters, rows: Tensor) -> None:
        """Filters and numbers of the views in `rows`, image after image."""
        size, view = self.view.size, self.view
        box = crops.in_pixels(parameters.box[rows], parameters.true_size[rows], self.num_pixels)
        flip = parameters.flip[rows]

        self.row_lines, self.row_weights, num_taps = crops.line_bags(box, flip, size, self.num_pixels, self.depth)
        self.row_bags = torch.arange(0, self.row_lines.shape[1], num_taps)
        self._prepare_columns(box)

        self.mirrored = flip[:, 0].tolist()
        self.angle = torch.where(flip[:, 1], -parameters.angle[rows], parameters.angle[rows])[:, None]
        factor = parameters.factor[rows]
        self.order, self.factor = parameters.order[rows].tolist(), factor.tolist()
        self.grayed, self.solarized = parameters.gray[rows].tolist(), parameters.solarize[rows].tolist()
        if self.depth == 3 and view.jitter > 0.0:
            matrix, weight = colour.hue_law(factor[:, colour.HUE])
            self.hue = torch.cat((matrix, weight[:, None, None].expand(-1, 3, 1)), 2)
            saturation = factor[:, colour.SATURATION, None, None]
            self.saturation = saturation * torch.eye(3) + (1.0 - saturation) * self.gray

        sigma = parameters.sigma[rows]
        self.sigma = sigma.tolist()
        self.blurred = {place: number for number, place in enumerate(sigma.nonzero()[:, 0].tolist())}
        if self.blurred:
            self._prepare_blur(sigma[sigma > 0.0])

    def _prepare_columns(self, box: Tensor) -> None:
        """Blocks of outputs, whose windows into a line begin at regular distances; unflipped, `make` does that last."""
        size, block = self.view.size, self.block
        unflipped = torch.zeros(len(box), dtype=torch.bool)
        middles, support = crops.centers(box[:, 1], box[:, 3], unflipped, size)
        low = (middles[:, 0] - support[:, 0] - 0.5).floor().add_(1.0)
        high = (middles[:, -1] + support[:, 0] - 0.5).ceil().sub_(1.0)
        first, last = low.clamp(min=0.0), high.clamp(max=self.num_pixels - 1)
        # The outer windows are cut off at the borders; the others, as wide, must not fall short because of that.
        short = torch.maximum(first - low, high - last)
        step = (block * box[:, 3] / size - short).floor().clamp_(min=0.0)
        width = last - (self.num_blocks - 1) * step - first + 1.0
        self.first, self.step, self.width = first.long().tolist(), step.long().tolist(), width.long().tolist()

        pixels, weights = crops.taps(box[:, 1], box[:, 3], unflipped, size, self.num_pixels)
        output = torch.arange(size)
        window = first.long()[:, None] + step.long()[:, None] * (output // block)
        widest = max(self.width)
        # A tap outside of its window is one outside of the image too, and weighs nothing.
        place = (pixels - window).clamp_(0, widest - 1)
        place += output // block * widest
        place = place.mul_(block).add_(output % block)
        self.column_weights = torch.zeros((len(box), self.num_blocks * widest * block))
        for index, weight in zip(place, weights, strict=True):
            self.column_weights.scatter_add_(1, index, weight)
        self.column_weights = self.column_weights.view(-1, self.num_blocks, widest, block)

    def _prepare_blur(self, sigma: Tensor) -> None:
        distance = torch.arange(-self.reach, self.reach + 1)
        kernel = (-0.5 / sigma.square())[:, None].mul(distance.square()).clamp_(min=LEAST_EXPONENT).exp_()
        kernel *= distance.abs() <= torch.ceil(_BLUR_REACH * sigma)[:, None]
        self.blur_kernel = kernel.div_(kernel.sum(1, keepdim=True))
        # Entry [n, k, j] is the weight of pixel k of a window for its output j, at distance k - j - reach.
        table = F.pad(kernel, (self.block - 1, self.block - 1))
        length = table.shape[1]
        shape, strides = (len(sigma), self.block + 2 * self.reach, self.block), (length, 1, 1)
        self.blur_columns = table.as_strided(shape, strides).flip(2)

    def make(self, place: int, out: Tensor) -> None:
        size, depth = self.view.size, self.depth
        lines = torch.embedding_bag(
            self.image, self.row_lines[place], self.row_bags, False, 0, False, self.row_weights[place]
        )[0]
        width = self.width[place]
        torch.bmm(
            lines.as_strided(
                (self.num_blocks, depth * size, width),
                (self.step[place], self.num_pixels, 1),
                self.first[place],
            ),
            self.column_weights[place, :, :width],
            out=self.planes[0].as_strided((self.num_blocks, depth * size, self.block), (self.block, size, 1)),
        )
        self.now = 0
        if self.view.rotation > 0.0:
            x = self.planes[0][:depth].view(1, depth, size, size)
            x.copy_(crops.rotate(x, self.angle[place]))
        scale, offset = self._jitter(place)
        if depth == 3 and (self.grayed[place] or len(self.inverse_std) == 1):
            offset = self._to_gray(offset)
            depth = 1
        x = self.planes[self.now][:depth]
        if place in self.blurred:
            x = self._blur(place, depth)
        x = x.view(depth, size, size)
        if self.solarized[place]:
            x = x.mul(scale).add_(offset)
            x = torch.where(x >= self.view.solarize_threshold, 1.0 - x, x)
            scale, offset = 1.0, 0.0
        if self.mirrored[place]:
            x = x.flip(-1)
        torch.mul(x, self.inverse_std * scale, out=out)
        out.add_(torch.add(self.bias, self.inverse_std, alpha=offset))

    def _jitter(self, place: int) -> tuple[float, float]:
        scale, offset = 1.0, 0.0
        for operation in self.order[place]:
            if operation < 0:
                continue
            factor = self.factor[place][operation]
            if operation == colour.HUE:
                self._shift_hue(self.hue[place])
                continue
            if operation == colour.BRIGHTNESS:
                scale, offset = factor * scale, factor * offset
            elif operation == colour.CONTRAST:
                means = self.planes[self.now][: self.depth].mean(1).tolist()
                if self.depth == 3:
                    mean = scale * sum(g * m for g, m in zip(colour.GRAY, means, strict=True)) + _GRAY_SUM * offset
                else:
                    mean = scale * means[0] + offset
                scale, offset = factor * scale, factor * offset + (1.0 - factor) * mean
            else:
                torch.mm(self.saturation[place], self.planes[self.now][:3], out=self.planes[1 - self.now][:3])
                self.now = 1 - self.now
                offset = (factor + (1.0 - factor) * _GRAY_SUM) * offset
            x = self.planes[self.now][: self.depth]
            if scale < 1e-6:
                x.zero_()
                scale = 1.0
            elif factor > 1.0:  # a smaller factor moves values towards others in [0, 1]
                x.clamp_(-offset / scale, (1.0 - offset) / scale)
        return scale, offset

    def _shift_hue(self, law: Tensor) -> None:
        """See `colour.adjust_hue`; scale and offset pass through it."""
        planes, shifted = self.planes[self.now], self.planes[1 - self.now][:3]
        red, green, blue, total = planes.unbind()
        high, low = self.extremes.unbind()
        torch.maximum(torch.maximum(red, green, out=high), blue, out=high)
        torch.minimum(torch.minimum(red, green, out=low), blue, out=low)
        torch.add(high, low, out=total)
        torch.mm(law, planes, out=shifted)
        torch.maximum(shifted, low, out=shifted)
        torch.minimum(shifted, high, out=shifted)
        self.now = 1 - self.now

    def _to_gray(self, offset: float) -> float:
        torch.mm(self.gray, self.planes[self.now][:3], out=self.planes[1 - self.now][:1])
        self.now = 1 - self.now
        return _GRAY_SUM * offset

    def _blur(self, place: int, depth: int) -> Tensor:
        size, block = self.view.size, self.block
        number = self.blurred[place]
        reach = min(math.ceil(_BLUR_REACH * self.sigma[place]), self.reach)
        num_lines, num_taps = depth * size, 2 * reach + 1
        x = self.planes[self.now][:depth].view(depth, size, size)
        padded = F.pad(x, (reach, reach, 0, 0), mode="reflect")
        lines, window = self.lines[:num_lines], block + 2 * reach
        torch.bmm(
            padded.as_strided((self.num_blocks, num_lines, window), (block, size + 2 * reach, 1)),
            self.blur_columns[number].narrow(0, self.reach - reach, window).expand(self.num_blocks, -1, -1),
            out=lines.as_strided((self.num_blocks, num_lines, block), (block, size, 1)),
        )
        if reach not in self.blur_lines:
            index = (torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)).abs()
            index = torch.where(index >= size, 2 * (size - 1) - index, index)
            index = (torch.arange(self.depth)[:, None, None] * size + index).flatten()
            self.blur_lines[reach] = index, torch.arange(0, len(index), num_taps)
        index, bags = self.blur_lines[reach]
        weights = self.blur_kernel[number].narrow(0, self.reach - reach, num_taps).repeat(num_lines)
        return torch.embedding_bag(lines, index[: len(weights)], bags[:num_lines], False, 0, False, weights)[0]
