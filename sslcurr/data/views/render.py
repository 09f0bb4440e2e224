"""Views all at once: the operations of a batch, each on the views that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sslcurr.data.views import colour, crops
from sslcurr.data.views.blur import blur
from sslcurr.data.views.transfer import send

if TYPE_CHECKING:
    from sslcurr.data.views.view import Parameters, View

# On a CPU views are made some at a time, so that what is worked on stays in the caches.
CHUNK_BYTES = 1 << 22


class _Plan:
    """Which views need which operation, found on the CPU, so that an accelerator is never waited for.

    Jittered views are moved between two buffers at each position of their orders, so that those with the same operation
    lie together: index "move p" says where each one comes from, "factor p" where its factor is in the flattened [M, 4],
    and `groups[p]` where the four operations begin and end.
    """

    def __init__(self, host: Parameters, rows: np.ndarray) -> None:
        order = host.order.numpy()[rows]
        jittered = np.flatnonzero((order >= 0).any(1))
        place = np.arange(len(rows))
        indices: dict[str, np.ndarray] = {"rows": rows}
        self.groups: list[np.ndarray] = []
        for position in range(4 if len(jittered) else 0):
            operations = order[jittered, position]
            jittered = jittered[np.argsort(operations, kind="stable")]
            operations = order[jittered, position]
            indices[f"move {position}"] = place[jittered]
            indices[f"factor {position}"] = rows[jittered] * 4 + operations.clip(min=0)
            self.groups.append(np.searchsorted(operations, np.arange(5)))
            place[jittered] = np.arange(len(jittered))
        indices["jittered"] = jittered
        for name in ("gray", "sigma", "solarize"):
            indices[name] = np.flatnonzero(getattr(host, name).numpy()[rows])
        self.indices = {name: torch.from_numpy(index) for name, index in indices.items()}

    def to(self, device: torch.device) -> _Plan:
        """This plan, its indices on `device`."""
        self.indices = dict(zip(self.indices, send(list(self.indices.values()), device), strict=True))
        return self


def _chunks(num_images: int, bytes_per_image: int, device: torch.device) -> Iterator[slice]:
    step = num_images if device.type != "cpu" else max(1, CHUNK_BYTES // bytes_per_image)
    for start in range(0, num_images, max(1, step)):
        yield slice(start, min(start + step, num_images))


def render_into(
    images: Tensor,
    parameters: Parameters,
    host: Parameters,
    view: View,
    mean: Sequence[float],
    std: Sequence[float],
    result: Tensor,
) -> None:
    """Make all views of `images`, uint8 [N, C, S, S], into `result`, float32 [count, N, channels, size, size].

    `parameters` are on the device of `images`, `host` are the same on the CPU.
    """
    count, num_images, channels = result.shape[:3]
    every_row = np.arange(count * num_images).reshape(count, num_images)
    for chunk in _chunks(num_images, 4 * count * images.shape[1] * view.size**2, images.device):
        plan = _Plan(host, every_row[:, chunk].reshape(-1)).to(images.device)
        x = _augmented(images[chunk], parameters, host, plan, view, channels)
        x = x.view(count, -1, *x.shape[1:])
        for channel in range(channels):
            source = x[:, :, min(channel, x.shape[2] - 1)]
            target = result[:, chunk, channel]
            torch.mul(source, 1.0 / std[channel], out=target)
            target.sub_(mean[channel] / std[channel])


def _augmented(
    images: Tensor, parameters: Parameters, host: Parameters, plan: _Plan, view: View, channels: int
) -> Tensor:
    """The views of `images` before they are normalised: [count * N, C, size, size]."""
    rows = plan.indices["rows"]
    box = crops.in_pixels(parameters.box[rows], parameters.true_size[rows], images.shape[-1])
    flip = parameters.flip[rows]
    resize = crops.resize_sparse if images.device.type == "cpu" else crops.resize_dense
    x = resize(images, box, flip, view.size, view.count)
    if view.rotation > 0.0:
        # The flips come last, but are folded into the crop: a mirrored turn is a turn the other way.
        angle = parameters.angle[rows]
        x = crops.rotate(x, torch.where(flip[:, 0] == flip[:, 1], angle, -angle))
    if plan.groups:
        _jitter(x, parameters.factor, plan)
    if x.shape[1] == 3 and channels == 1:
        x = colour.to_gray(x)
    elif x.shape[1] == 3:
        _apply_to(x, plan.indices["gray"], colour.to_gray)
    sigma = parameters.sigma[rows]
    _apply_to(x, plan.indices["sigma"], lambda part: blur(part, sigma.index_select(0, plan.indices["sigma"])))
    threshold = view.solarize_threshold
    _apply_to(x, plan.indices["solarize"], lambda part: torch.where(part >= threshold, 1.0 - part, part))
    return x


def _apply_to(x: Tensor, which: Tensor, operation: Callable[[Tensor], Tensor]) -> None:
    """Apply `operation` to the images `which` of `x`, in place."""
    if len(which):
        x.index_copy_(0, which, operation(x.index_select(0, which)).expand(-1, x.shape[1], -1, -1))


def _jitter(x: Tensor, factor: Tensor, plan: _Plan) -> None:
    which = plan.indices["jittered"]
    source, flat = x, factor.view(-1)
    buffers = x.new_empty((2, len(which), *x.shape[1:]))
    for position, ends in enumerate(plan.groups):
        target = buffers[position % 2]
        torch.index_select(source, 0, plan.indices[f"move {position}"], out=target)
        factors = flat.index_select(0, plan.indices[f"factor {position}"])
        for operation, adjust in enumerate(colour.ADJUST):
            group = slice(int(ends[operation]), int(ends[operation + 1]))
            if group.start < group.stop:
                adjust(target[group], factors[group])
        source = target
    x.index_copy_(0, which, source)
