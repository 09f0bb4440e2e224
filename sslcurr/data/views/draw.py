"""Random views as batched tensor operations: drawn on the CPU, made on the device that trains.

A view is described by a `View`. `draw_parameters` takes its random numbers from a generator, as `Parameters`.
`render_views` makes it from a batch of packed images. The operations come in the order of MoCo v2 (https://arxiv.org/abs/2003.04297):
crop and resize, rotation, colour jitter, grey, blur, solarize, flips, normalise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sslcurr.data.views import colour, crops
from sslcurr.data.views import render as batched
from sslcurr.data.views.view import Parameters, View


def draw_parameters(
    view: View, heights: Tensor, widths: Tensor, channels: int, generator: torch.Generator
) -> Parameters:
    """Draw the random numbers of `view.count` views of each of N images, on the CPU.

    `heights` and `widths` are int [N], the sizes of the true images in pixels; `channels` is that of the images, 1 or
    3: hue, saturation and grey leave images of one channel alone. As many numbers are drawn whatever the settings are,
    so a setting changes nothing but what it is about, and the views of an image depend on its own size, its place in
    the batch and N, not on the other images.
    """
    heights, widths = heights.cpu().long().repeat(view.count), widths.cpu().long().repeat(view.count)
    num_views = len(heights)
    num_images = num_views // view.count
    uniform = torch.rand((crops.NUM_CROP_DRAWS + 18, num_views), dtype=torch.float64, generator=generator)
    crop, rest = uniform[: crops.NUM_CROP_DRAWS], uniform[crops.NUM_CROP_DRAWS :]
    chance = rest[:8]  # of which two are degrees and pixels
    if view.crop == "random":
        box = crops.random_boxes(crop, heights, widths, view.scale, view.ratio)
    else:
        box = (crops.center_boxes if view.crop == "center" else crops.whole_boxes)(heights, widths)

    jitter = chance[3] < view.jitter
    strength = [view.brightness, view.contrast, view.saturation, view.hue]
    low = [max(0.0, 1.0 - strength[0]), max(0.0, 1.0 - strength[1]), max(0.0, 1.0 - strength[2]), -strength[3]]
    high = [1.0 + strength[0], 1.0 + strength[1], 1.0 + strength[2], strength[3]]
    colourless = (colour.SATURATION, colour.HUE) if channels == 1 else ()
    factor = torch.empty((num_views, 4), dtype=torch.float32)
    order = rest[8:12].argsort(0).T.contiguous()
    for operation, neutral in enumerate(colour.NEUTRAL):
        off = strength[operation] == 0.0 or operation in colourless
        value = low[operation] + (high[operation] - low[operation]) * rest[12 + operation]
        factor[:, operation] = torch.where(jitter & (not off), value, neutral)
        if off:
            order[order == operation] = -1
    order[~jitter] = -1

    sigma = view.blur_sigma[0] + (view.blur_sigma[1] - view.blur_sigma[0]) * chance[6]
    return Parameters(
        image=torch.arange(num_images).repeat(view.count),
        box=box.float(),
        true_size=torch.stack((heights, widths), 1).float(),
        flip=torch.stack((chance[0] < view.horizontal_flip, chance[1] < view.vertical_flip), 1),
        angle=((2.0 * chance[2] - 1.0) * view.rotation).float(),
        factor=factor,
        order=order,
        gray=(chance[4] < view.gray) & (channels != 1),
        sigma=torch.where(chance[5] < view.blur, sigma, 0.0).float(),
        solarize=chance[7] < view.solarize,
    )


def render_views(
    images: Tensor,
    parameters: Parameters,
    view: View,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    channels: int,
) -> Tensor:
    """Make the views that `parameters` describe, on the device of `images`.

    `images` is uint8 [N, C, S, S], C 1 or 3: packed images, squashed to squares. `mean` and `std`, of values in [0, 1],
    have one number for each of the `channels` (1 or 3) of the result: grey images are repeated for a network of three
    channels, and colours turned grey, after the colour operations, for one of one channel.
    Returns float32 [view.count * N, channels, size, size], crop-major. It does not wait for an accelerator.
    """
    host = parameters if parameters.host is None else parameters.host
    parameters = parameters if parameters.image.device == images.device else host.to(images.device)
    result = torch.empty((view.count, len(images), channels, view.size, view.size), device=images.device)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        batched.render_into(images.contiguous(), parameters, host, view, tuple(mean), tuple(std), result)
    return result.view(-1, channels, view.size, view.size)


def make_views(
    images: Tensor,
    heights: Tensor,
    widths: Tensor,
    views: Sequence[View],
    generator: torch.Generator,
    *,
    own: slice = slice(None),
    mean: Sequence[float],
    std: Sequence[float],
    channels: int,
) -> tuple[Tensor, ...]:
    """Draw and make all `views` of a batch of packed images, in turn from one CPU generator.

    `images` is uint8 [N, C, S, S] on the training device, `heights` and `widths` int [N] are the true sizes in pixels;
    `mean`, `std` and `channels` as in `render_views`. Where `images` are the `own` ones of a larger batch, heights and
    widths are those of all of it: what is drawn for an image does not depend on who makes its views. Returns float32
    [count * N, channels, size, size] for each View.
    """
    return tuple(
        render_views(
            images,
            draw_parameters(view, heights, widths, images.shape[1], generator).of(own, view.count),
            view,
            mean=mean,
            std=std,
            channels=channels,
        )
        for view in views
    )
