"""Ways in which a GPU may train faster: which are taken, and those that are more than a setting of torch.

- `channels-last`: images and weights in the layout that convolutions on tensor cores read.
- `ahead`: views are made on a stream of their own, while the device still works on the step before.
- `graphs`: the backbone's forward and backward pass are recorded once for each shape and replayed (CUDA graphs,
  https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs), which spares the host the launch of each kernel.
- `compiled-views`: what makes views is compiled by torch (https://pytorch.org/docs/stable/torch.compiler).

On a CPU none of them is taken. `benchmarks/gpu.py` finds out which of them pay on a GPU and change no result, and
writes that into `gpu.json`, by the device's name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sslcurr.data.views import colour, crops
from sslcurr.data.views import render as batched
from sslcurr.spec.runtime import Runtime

if TYPE_CHECKING:
    from sslcurr.tasks.base import Batch

MEASURED = Path(__file__).with_name("gpu.json")
# Of a GPU on which nothing was measured.
UNMEASURED = frozenset({"channels-last"})
# Recorded shapes keep their activations for good: those of an epoch's batches are two at most.
MOST_SHAPES = 4


def ways_of(runtime: Runtime, device: torch.device, name: str) -> frozenset[str]:
    """The ways that a training takes: those asked for, or what was measured to be best on the device called `name`."""
    if device.type != "cuda" or "none" in runtime.gpu:
        return frozenset()
    if "auto" not in runtime.gpu:
        return frozenset(runtime.gpu)
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    return frozenset(measured[name]["ways"]) if name in measured else UNMEASURED


# ---- views ahead


class Beside:
    """A stream of its own, on which the views of a step are made; None makes them on that of the training."""

    def __init__(self, device: torch.device | None) -> None:
        self._stream = None if device is None else torch.cuda.Stream(device)

    def made(self, make: Callable[[], Batch]) -> Batch:
        """What `make` gives, its kernels on the stream; the training's stream waits for them when it needs them."""
        if self._stream is None:
            return make()
        with torch.cuda.stream(self._stream):
            batch = make()
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for tensor in (*batch.views, batch.index, batch.labels):
            tensor.record_stream(current)  # else its memory were free for the next views while it is still read
        return batch


# ---- recorded passes


def record_passes(network: nn.Module, autocast: Callable[[], Any]) -> None:
    """Let the passes of a backbone be recorded, each shape at its second use, and replayed from then on.

    Only those in training with a gradient, of images that need none. A second pass of one shape before the first has
    its gradient goes the ordinary way: a recording has room for the activations of one.

    Args:
        network: [N, C, H, W] to [N, D], on a GPU, in training.
        autocast: makes the context in which its passes run.
    """
    network.forward = _Recorded(network, network.forward, autocast)


class _Recorded:
    def __init__(self, network: nn.Module, plain: Callable[[Tensor], Tensor], autocast: Callable[[], Any]) -> None:
        self.network = network
        self.plain = plain
        self.autocast = autocast
        self.seen: set[Any] = set()
        self.recorded: dict[Any, Callable[[Tensor], Tensor]] = {}
        self.waiting: set[Any] = set()  # whose gradient is not there yet

    def __call__(self, images: Tensor) -> Tensor:
        if not (self.network.training and torch.is_grad_enabled()) or images.requires_grad:
            return self.plain(images)
        shape = (images.shape, images.dtype, images.is_contiguous())
        if shape not in self.seen and len(self.seen) < MOST_SHAPES:
            self.seen.add(shape)
            return self.plain(images)
        if shape not in self.seen or shape in self.waiting:
            return self.plain(images)
        if shape not in self.recorded:
            self.recorded[shape] = self._record(images)
        output = self.recorded[shape](images)
        self.waiting.add(shape)
        output.register_hook(lambda gradient: self.waiting.discard(shape))
        return output

    def _record(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """A recording; its warm-up moves no running statistics, no gradient and no random numbers."""
        kept = {name: value.clone() for name, value in self.network.named_buffers()}
        gradients = {name: value.grad for name, value in self.network.named_parameters()}
        state = torch.cuda.get_rng_state(images.device)
        try:
            with self.autocast() as context:
                if isinstance(context, torch.autocast):
                    torch.set_autocast_cache_enabled(False)  # casts of weights are a part of the recording
                passes = _Plain(self.network, self.plain)
                made: Any = torch.cuda.make_graphed_callables(passes, (images.clone(),), allow_unused_input=True)
        finally:
            torch.cuda.set_rng_state(state, images.device)
        for name, value in self.network.named_buffers():
            value.copy_(kept[name])
        for name, value in self.network.named_parameters():
            value.grad = gradients[name]
        recorded: Callable[[Tensor], Tensor] = made
        return recorded


class _Plain(nn.Module):
    """The ordinary pass of a network as a module of its own, in whose place torch puts the recording."""

    def __init__(self, network: nn.Module, plain: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.plain = plain

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, D]."""
        return self.plain(images)


# ---- compiled views


@contextmanager
def compiled_views(wanted: bool, backend: str = "inductor") -> Iterator[None]:
    """A context in which the operations that make views are compiled, for tensors of any size.

    Args:
        wanted: whether they are.
        backend: of `torch.compile`.
    """
    if not wanted:
        yield
        return
    compiled = functools.partial(torch.compile, dynamic=True, backend=backend)
    kept = (crops.resize_dense, colour.ADJUST, batched.blur)
    crops.resize_dense = compiled(crops.resize_dense)
    colour.ADJUST = tuple(compiled(adjust) for adjust in colour.ADJUST)
    batched.blur = compiled(batched.blur)
    try:
        yield
    finally:
        crops.resize_dense, colour.ADJUST, batched.blur = kept
