"""Parts of joint-embedding tasks: projectors, momentum (EMA) encoders, queues, contrastive losses, many crops."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sslcurr.data.order import num_steps
from sslcurr.data.views.view import View
from sslcurr.spec.ranges import LARGEST_SIDE, ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Tick, ViewConfig, share
from sslcurr.world import ALONE, World

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class AsymmetricConfig(ViewConfig):
    """Two different distributions of views, as in BYOL: the second is rarely blurred and sometimes solarized.

    Attributes:
        blur: Probability that the first view is blurred by a Gaussian.
        solarize: Probability that the first view is solarized: its values of half the full brightness and above are
            inverted.
        second_blur: Probability that the second view is blurred by a Gaussian.
        second_solarize: Probability that the second view is solarized: its values of half the full brightness and
            above are inverted.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    jitter: float = 0.8
    saturation: float = 0.2
    gray: float = 0.2
    blur: float = 1.0
    second_blur: float = share(0.1, of_views=True)
    second_solarize: float = share(0.2, of_views=True)

    def two_views(self) -> tuple[View, View]:
        """The first and the second view."""
        return self.view(), self.view(blur=self.second_blur, solarize=self.second_solarize)


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiCropConfig(ViewConfig):
    """Two large crops and `num_small` small ones, as SwAV has them.

    Attributes:
        image_size: Side of the two large crops, in pixels. Time and memory of a step grow with its square.
        scale: Smallest and largest share of an image's area that a large crop takes. Larger shares make crops more
            alike.
        small_size: Side of the small crops, in pixels.
        num_small: Small crops of each image. More give more to compare in a step, which takes longer.
        small_scale: Smallest and largest share of an image's area that a small crop takes.
    """

    small_size: int = ranged(96, 1, LARGEST_SIDE, of_views=True)
    num_small: int = ranged(6, 0, of_views=True)
    small_scale: tuple[float, float] = ranged((0.05, 0.14), 0, 1, above=True, of_views=True)

    def small_views(self, **changes: Any) -> tuple[View, ...]:
        """The distribution of the small crops; empty when there are none."""
        if not self.num_small:
            return ()
        return (self.view(size=self.small_size, count=self.num_small, scale=self.small_scale, **changes),)


def small_size(image_size: int) -> int:
    """96 px of small crops beside 224 px of large ones, for another image size; a multiple of four."""
    return max(8, 4 * round(image_size * 96 / 224 / 4))


class Crops(TypedDict, total=False):
    """Settings of a `MultiCropConfig` that depend on the image size."""

    image_size: int
    small_size: int
    num_small: int
    scale: tuple[float, float]
    small_scale: tuple[float, float]


def crops_for(image_size: int) -> Crops:
    """Settings of a `MultiCropConfig` for an image size.

    Views under 128 px have fewer and larger small crops: 5 to 14 % of such an image is a handful of pixels.
    """
    sizes: Crops = {"image_size": image_size, "small_size": small_size(image_size)}
    if image_size >= 128:
        return sizes
    return {**sizes, "num_small": 3, "scale": (0.3, 1.0), "small_scale": (0.1, 0.3)}


def small_training(batch_size: int, epochs: int, base_lr: float = 0.12) -> Training:
    """SGD for small data and batches, where LARS and the papers' learning rates for thousands of images do not apply.

    `base_lr` is the learning rate for 256 images: that of lightly's CIFAR-10 benchmark
    (https://docs.lightly.ai/self-supervised-learning/getting_started/benchmarks.html).
    """
    return Training(lr=base_lr * batch_size / 256, weight_decay=1e-4, epochs=epochs, batch_size=batch_size)


def lars_training(base_lr: float, batch_size: int, epochs: int, **more: Any) -> Training:
    """LARS as in joint-embedding papers: learning rate `base_lr` for 256 images, ten epochs of warm-up, a cosine.

    Weight decay 1e-6; biases and norms have neither decay nor trust ratio. `more` are further settings.
    """
    settings = {"weight_decay": 1e-6, "warmup": min(10.0, epochs / 20), **more}
    return Training(
        optimizer="lars",
        lr=base_lr * batch_size / 256,
        decay_norm_and_bias=False,
        epochs=epochs,
        batch_size=batch_size,
        **settings,
    )


def projector(*widths: int, last_norm: bool = False, affine: bool = True) -> nn.Sequential:
    """Linear layers from `widths[0]` to `widths[-1]`, batch norm and ReLU between them.

    `last_norm` adds a batch norm at the end, `affine` says whether it has a scale and a shift.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=affine))
    return nn.Sequential(*layers)


def frozen_copy(module: Module) -> Module:
    """A copy whose parameters take no gradient, for momentum (EMA) encoders."""
    clone = copy.deepcopy(module)
    for parameter in clone.parameters():
        parameter.requires_grad_(False)
    return clone


@torch.no_grad()
def move_towards(average: nn.Module, online: nn.Module, momentum: float) -> None:
    """Exponential moving average of parameters: average = momentum * average + (1 - momentum) * online."""
    get_ema_multi_avg_fn(momentum)(list(average.parameters()), list(online.parameters()), 0)


def rising_momentum(start: float, tick: Tick) -> float:
    """The momentum of a momentum (EMA) encoder: `start` at the first step, 1 at the end, on a cosine (BYOL, DINO)."""
    return 1.0 - (1.0 - start) * 0.5 * (1.0 + math.cos(math.pi * tick.progress))


def small_momentum(num_images: int, batch_size: int, epochs: int) -> float:
    """The momentum of a momentum (EMA) encoder for small data: 0.99, or less in short trainings, 0.9 at least.

    It lags behind by a twentieth of the training at most. At 0.99 the momentum encoder would stay near its random start
    for the first hundreds of steps, which may be the whole training.
    """
    steps = epochs * num_steps(num_images, batch_size)
    return round(min(0.99, max(0.9, 1.0 - 20.0 / steps)), 4)


@torch.no_grad()
def in_shuffled_groups(
    encoder: nn.Module,
    encode: Callable[[Tensor], tuple[Tensor, ...]],
    images: Tensor,
    group: int,
    world: World = ALONE,
) -> tuple[Tensor, ...]:
    """`encode` of shuffled images whose batch norms see groups of about `group`, put back in the order of `images`.

    Batch norms then normalise each image among others than in another pass, as MoCo's shuffling between GPUs has it.
    `encoder` has the norms that `encode` uses; all other layers take the images together. Where several ranks have the
    images, each encodes whole groups, of images that it is sent.
    """
    num_groups = max(1, round(world.total(len(images)) / group))
    if num_groups == 1:
        return encode(images)
    order = torch.randperm(world.total(len(images))).to(images.device, non_blocking=True)
    own, count = world.of_groups(images, order, num_groups)
    with world.apart(), norms_in_groups(encoder, count):
        shuffled = encode(own)
    return tuple(world.from_groups(output, order, num_groups) for output in shuffled)


@contextmanager
def norms_in_groups(module: nn.Module, num_groups: int) -> Iterator[None]:
    """Let each batch norm of `module` normalise `num_groups` parts of its batch by themselves, one after the other."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.forward = partial(_in_groups, norm.forward, num_groups)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _in_groups(norm: Callable[[Tensor], Tensor], num_groups: int, x: Tensor) -> Tensor:
    return torch.cat([norm(part) for part in x.tensor_split(num_groups)])


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE of unit vectors against one positive each and a shared set of negatives.

    Args:
        query, key: [N, D] unit vectors; row i of both is of the same image.
        negatives: [K, D] unit vectors of other images.
        temperature: divides the cosines.

    Returns:
        The loss (a scalar) and the share of queries whose own key is nearest.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ negatives.T], dim=1) / temperature
    target = torch.zeros(len(query), dtype=torch.long, device=query.device)
    return F.cross_entropy(logits, target), (logits.argmax(dim=1) == 0).float().mean().detach()


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of minus the cosine of the rows of [N, D] predictions and targets; no gradient reaches the target."""
    from lightly.loss import NegativeCosineSimilarity

    value: Tensor = NegativeCosineSimilarity()(prediction.float(), target.detach().float())
    return value


def collapse(embeddings: Tensor) -> Tensor:
    """Collapse monitor: scaled standard deviation of unit vectors [N, D]. 1: they fill the sphere. 0: all are equal."""
    return (embeddings.detach().std(dim=0).mean() * embeddings.shape[1] ** 0.5).detach()


@torch.no_grad()
def enqueue(queue: Tensor, position: Tensor, rows: Tensor) -> None:
    """Write `rows` [N, D] over the oldest rows of `queue` [K, D] and move `position` (int64 scalar) on.

    Wraps around at the end whatever N and K are; when N > K the last K rows stay.
    """
    length = len(queue)
    rows = rows[-length:]
    index = (position + torch.arange(len(rows), device=queue.device)) % length
    queue.index_copy_(0, index, rows.to(queue.dtype))
    position.copy_((position + len(rows)) % length)
