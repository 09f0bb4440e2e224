"""Random views as batched tensor operations: drawn on the CPU, made on the device that trains.

A view is described by a `View`, its random numbers by the `Parameters` that `draw` takes from a generator, and `render`
makes it from a batch of packed images. The operations come in the order of MoCo v2 (https://arxiv.org/abs/2003.04297):
crop and resize, rotation, colour jitter, grey, blur, solarize, flips, normalise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sslcurr.data import batched, colour, crops
from sslcurr.errors import SpecError, did_you_mean

CROPS = ("center", "random", "whole")


def _check(holds: bool, name: str, value: object, law: str) -> None:
    if not holds:
        raise SpecError(f"view setting {name} cannot be {value!r}", f"{name} must be {law}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How one kind of view is made; a batch holds `count` of them for each image.

    Raises SpecError for a setting that cannot be.
    """

    size: int  # output height and width in pixels
    count: int = 1
    crop: str = "random"  # "random": RandomResizedCrop in true geometry; "center": largest centred square; "whole": all
    scale: tuple[float, float] = (0.2, 1.0)  # share of the true area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width over height
    horizontal_flip: float = 0.0  # this and what follows without a unit are probabilities
    vertical_flip: float = 0.0
    rotation: float = 0.0  # degrees, uniform in +- rotation
    jitter: float = 0.0  # probability of the next four together, in random order
    brightness: float = 0.4  # factors are uniform in 1 +- this, and never negative
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # share of the colour circle, uniform in +- this
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # in pixels of the view
    solarize: float = 0.0
    solarize_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("size", "count"):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            _check(is_whole and value >= 1, name, value, "a whole number, 1 or more")
        if self.crop not in CROPS:
            raise SpecError(f"view setting crop cannot be {self.crop!r}", did_you_mean(str(self.crop), CROPS))
        for name in ("scale", "ratio", "blur_sigma"):
            value = getattr(self, name)
            is_range = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
            top = 1.0 if name == "scale" else math.inf
            law = "two numbers, the first above 0 and the second not below it" + (", at most 1" if top == 1.0 else "")
            _check(is_range and 0.0 < value[0] <= value[1] <= top, name, value, law)
            object.__setattr__(self, name, tuple(value))  # a list is what JSON makes of a tuple
        for name in ("horizontal_flip", "vertical_flip", "jitter", "gray", "blur", "solarize", "solarize_threshold"):
            value = getattr(self, name)
            _check(_is_number(value) and 0.0 <= value <= 1.0, name, value, "a number from 0 to 1")
        for name, top in (("rotation", 180.0), ("hue", 0.5)):
            value = getattr(self, name)
            _check(_is_number(value) and 0.0 <= value <= top, name, value, f"a number from 0 to {top:g}")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            _check(_is_number(value) and value >= 0.0, name, value, "a number, 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """The random numbers of M views: what `draw` drew. Crop-major: first come the first views of all images.

    An operation that is not applied has its neutral value, so what is here says all that is done.
    """

    image: Tensor  # int64 [M], the image in the batch
    box: Tensor  # float32 [M, 4]: top, left, height and width in pixels of the true image
    true_size: Tensor  # float32 [M, 2]: height and width of the true image in pixels
    flip: Tensor  # bool [M, 2]: horizontal, vertical
    angle: Tensor  # float32 [M], degrees counter-clockwise
    factor: Tensor  # float32 [M, 4]: brightness, contrast, saturation, hue (as colour.OPERATIONS)
    order: Tensor  # int64 [M, 4]: which of the four comes first, second, third and fourth; -1 for none
    gray: Tensor  # bool [M]
    sigma: Tensor  # float32 [M], pixels of the view; 0 for no blur
    solarize: Tensor  # bool [M]
    # The same on the CPU: which views need which operation is read there, so that no accelerator is waited for.
    host: Parameters | None = None

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Parameters:
        """The same parameters on `device`, sent in one piece; they remember the ones on the CPU."""
        if torch.device(device).type == "cpu":
            return self if self.host is None else self.host
        host = self if self.host is None else self.host
        names = [field.name for field in fields(self) if field.name != "host"]
        tensors = batched.send([getattr(host, name) for name in names], torch.device(device), non_blocking)
        return replace(host, host=host, **dict(zip(names, tensors, strict=True)))


def draw(view: View, heights: Tensor, widths: Tensor, channels: int, generator: torch.Generator) -> Parameters:
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


def render(
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
        batched.render(images.contiguous(), parameters, host, view, tuple(mean), tuple(std), result)
    return result.view(-1, channels, view.size, view.size)


def make_views(
    images: Tensor,
    heights: Tensor,
    widths: Tensor,
    views: Sequence[View],
    generator: torch.Generator,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    channels: int,
) -> tuple[Tensor, ...]:
    """Draw and make all `views` of a batch of packed images, in turn from one CPU generator.

    `images` is uint8 [N, C, S, S] on the training device, `heights` and `widths` int [N] are the true sizes in pixels;
    `mean`, `std` and `channels` as in `render`. Returns a float32 [count * N, channels, size, size] for each View.
    """
    return tuple(
        render(
            images,
            draw(view, heights, widths, images.shape[1], generator),
            view,
            mean=mean,
            std=std,
            channels=channels,
        )
        for view in views
    )
