"""What a view of an image is: crop, size and the distribution of its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sslcurr.data.views import transfer
from sslcurr.errors import SpecError, did_you_mean
from sslcurr.spec.ranges import LARGEST_SIDE

CROPS = ("center", "random", "whole")
PROBABILITIES = ("horizontal_flip", "vertical_flip", "jitter", "gray", "blur", "solarize", "solarize_threshold")
MOST = {**dict.fromkeys(PROBABILITIES, 1.0), "rotation": 180.0, "hue": 0.5}
FACTORS = ("brightness", "contrast", "saturation")
PAIRS = ("scale", "ratio", "blur_sigma")
# What settings can be, in words.
RANGES = {
    **{name: f"0 to {most:g}" for name, most in MOST.items()},
    **dict.fromkeys(FACTORS, "at least 0"),
    **dict.fromkeys(PAIRS, "two, above 0, rising"),
    "scale": "two, above 0, at most 1",
    "size": f"1 to {LARGEST_SIDE}",
    "count": "at least 1",
    "crop": " | ".join(CROPS),
}


def _check(holds: bool, name: str, value: object, requirement: str) -> None:
    if not holds:
        raise SpecError(f"view setting {name} cannot be {value!r}", f"{name} must be {requirement}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How one kind of view is made; a batch holds `count` of them for each image.

    Raises SpecError for a setting that cannot be.

    Attributes:
        size: Side of the view, in pixels.
        count: Views of this kind of each image in a batch.
        crop: What is cut out: `random`, a crop as `scale` and `ratio` say; `center`, the largest centred square;
            or `whole`, everything.
        scale: Smallest and largest share of an image's area that a crop takes. Larger shares make views of an image
            more alike.
        ratio: Smallest and largest width of a crop over its height, in true proportions.
        horizontal_flip: Probability that a view is mirrored left to right. 0 keeps left and right apart.
        vertical_flip: Probability that a view is mirrored upside down. 0 keeps top and bottom apart.
        rotation: Largest angle by which each view is turned, either way, in degrees. Corners that come in are black.
        jitter: Probability that brightness, contrast, saturation and hue of a view are changed, in random order.
        brightness: Largest change of the brightness: `jitter` multiplies it by 1 minus this to 1 plus this, never
            below 0.
        contrast: Largest change of the contrast: `jitter` multiplies it by 1 minus this to 1 plus this, never
            below 0.
        saturation: Largest change of the saturation: `jitter` multiplies it by 1 minus this to 1 plus this. Grey
            images have none.
        hue: Largest change of the hue by `jitter`, either way, as a share of the colour circle. Grey images have none.
        gray: Probability that a view of a colour image is turned grey. A larger one hides more of what colour tells.
        blur: Probability that a view is blurred by a Gaussian.
        blur_sigma: Smallest and largest standard deviation of the Gaussian of `blur`, in pixels of the view.
        solarize: Probability that a view is solarized: its values of half the full brightness and above are inverted.
        solarize_threshold: Value from which `solarize` inverts, as a share of the full brightness.
    """

    size: int
    count: int = 1
    crop: str = "random"
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotation: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, most in (("size", LARGEST_SIDE), ("count", math.inf)):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            limit = "or more" if most == math.inf else f"to {most}"
            _check(is_whole and 1 <= value <= most, name, value, f"a whole number, 1 {limit}")
        if self.crop not in CROPS:
            raise SpecError(f"view setting crop cannot be {self.crop!r}", did_you_mean(str(self.crop), CROPS))
        for name in PAIRS:
            value = getattr(self, name)
            is_range = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
            top = 1.0 if name == "scale" else math.inf
            limit = ", at most 1" if top == 1.0 else ""
            requirement = f"two numbers, the first above 0 and the second not below it{limit}"
            _check(is_range and 0.0 < value[0] <= value[1] <= top, name, value, requirement)
            object.__setattr__(self, name, tuple(value))  # a list is what JSON makes of a tuple
        for name, top in MOST.items():
            value = getattr(self, name)
            _check(_is_number(value) and 0.0 <= value <= top, name, value, f"a number from 0 to {top:g}")
        for name in FACTORS:
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

    def of(self, own: slice, count: int) -> Parameters:
        """Those of some images, in a row, of which each has `count` views."""
        num_images = len(self.image) // count
        if (own.start or 0, own.stop if own.stop is not None else num_images) == (0, num_images):
            return self
        rows = torch.arange(num_images)[own]
        views = (torch.arange(count)[:, None] * num_images + rows).flatten()
        chosen = {field.name: getattr(self, field.name)[views] for field in fields(self) if field.name != "host"}
        return Parameters(**{**chosen, "image": torch.arange(len(rows)).repeat(count)})

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Parameters:
        """The same parameters on `device`, sent in one piece; they remember the ones on the CPU."""
        if torch.device(device).type == "cpu":
            return self if self.host is None else self.host
        host = self if self.host is None else self.host
        names = [field.name for field in fields(self) if field.name != "host"]
        tensors = transfer.send([getattr(host, name) for name in names], torch.device(device), non_blocking)
        return replace(host, host=host, **dict(zip(names, tensors, strict=True)))
