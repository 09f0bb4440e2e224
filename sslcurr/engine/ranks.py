"""Several processes that train one stage: what they exchange, by torch.distributed.

The rule: a step's objective is the sum over ranks of a rank's loss times its share of the images, and gradients are
summed. What crosses ranks has its true adjoint, numbers are drawn for the whole batch, and what a step keeps is
gathered in the order of the batch, so that every rank does the same after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sslcurr.world import World

# Bytes of gradients that are summed at once, while the backward pass goes on.
BUCKET_BYTES = 25 * 2**20


def parts(count: int, size: int) -> list[slice]:
    """The rows of each rank, of so many: nearly equally many, in order."""
    ends = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(count), size))]).tolist()
    return [slice(first, last) for first, last in itertools.pairwise(ends)]


class _Gather(torch.autograd.Function):
    """Rows of all ranks, one rank after the other. The adjoint sums the gradients of all ranks and takes the own rows.

    To take the own rows only would lose what an image does to the losses of other ranks.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: tuple[int, ...], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        padded = x.new_zeros((max(counts), *x.shape[1:]))
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        start = sum(ctx.counts[: ctx.rank])
        return gradient[start : start + ctx.counts[ctx.rank]], None, None


class _Sum(torch.autograd.Function):
    """The sum over ranks, whose adjoint is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class Ranks(World):
    """All ranks of this process's group, for a batch of so many images.

    Attributes:
        whole: images of the batch.
        own: the rows of it that this rank has.
    """

    def __init__(self, whole: int = 0) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.whole = whole
        self._parts = parts(whole, self.size)
        self.own = self._parts[self.rank]
        self.num_own = self.own.stop - self.own.start
        self.is_apart = False

    def of(self, whole: int) -> Ranks:
        """The same ranks, for a batch of so many images."""
        return Ranks(whole)

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self._parts)

    def share(self, count: int) -> slice:
        """As of `World`."""
        return parts(count, self.size)[self.rank]

    def joined(self, blocks: list[Tensor]) -> Tensor:
        """As of `World`."""
        own = torch.cat(blocks) if blocks else None
        shapes: list[Any] = [None] * self.size
        dist.all_gather_object(shapes, None if own is None else (tuple(own.shape), own.dtype))
        known = next((shape for shape in shapes if shape is not None), None)
        if known is None:
            return torch.empty(0, 0)
        if own is None:
            own = torch.empty((0, *known[0][1:]), dtype=known[1], device=_device())
        counts = tuple(0 if shape is None else shape[0][0] for shape in shapes)
        joined: Tensor = _Gather.apply(own, counts, self.rank)
        return joined

    def gather(self, x: Tensor) -> Tensor:
        """As of `World`."""
        crops = len(x) // self.num_own
        if crops == 1:
            gathered: Tensor = _Gather.apply(x, self._counts, self.rank)
            return gathered
        rows = x.unflatten(0, (crops, self.num_own)).transpose(0, 1)
        gathered = _Gather.apply(rows, self._counts, self.rank)
        return gathered.transpose(0, 1).flatten(0, 1)

    def rows(self, x: Tensor, dim: int = 0) -> Tensor:
        """As of `World`."""
        crops = x.shape[dim] // self.whole
        own = x.unflatten(dim, (crops, self.whole)).narrow(dim + 1, self.own.start, self.num_own)
        return own.flatten(dim, dim + 1)

    def sum(self, x: Tensor) -> Tensor:
        """As of `World`."""
        total: Tensor = _Sum.apply(x)
        return total

    def drawn(self, num_rows: int, draw: Callable[[int], Tensor], dim: int = 0) -> Tensor:
        """As of `World`: the numbers of all rows are drawn, and the own ones kept."""
        return self.rows(draw(self.total(num_rows)), dim)

    def total(self, num_images: int) -> int:
        """As of `World`."""
        return num_images // self.num_own * self.whole

    def groups_of(self, order: Tensor, num_groups: int) -> tuple[Tensor, int]:
        """As of `World`; where there are fewer groups than ranks, each rank computes all of them."""
        if num_groups < self.size:
            return order, num_groups
        held = parts(num_groups, self.size)[self.rank]
        return torch.cat(order.tensor_split(num_groups)[held]), held.stop - held.start

    def from_groups(self, x: Tensor, order: Tensor, num_groups: int) -> Tensor:
        """As of `World`."""
        if num_groups >= self.size:
            sizes = [len(group) for group in order.tensor_split(num_groups)]
            counts = tuple(sum(sizes[held]) for held in parts(num_groups, self.size))
            x = _Gather.apply(x, counts, self.rank)
        return self.rows(super().from_groups(x, order, num_groups))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """As of `World`."""
        before, self.is_apart = self.is_apart, True
        try:
            yield
        finally:
            self.is_apart = before

    # ---- the engine's part

    def coupled(self) -> AbstractContextManager[Any]:
        """A context in which batch norms see the whole batch, and dropout is drawn for it."""
        return _Coupled(self)

    def agree(self, number: int) -> int:
        """The largest of all ranks' numbers, on the CPU."""
        agreed = torch.tensor([number])
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=_control_group)
        return int(agreed[0])

    def same(self, module: nn.Module) -> None:
        """As of `World`: k-means on a GPU may differ in its last bits."""
        for content in module.state_dict().values():
            dist.broadcast(content, src=0)

    def gradient_sum(self, parameters: Iterable[nn.Parameter]) -> Buckets:
        """As of `World`."""
        return Buckets(parameters)

    def told(self, content: Any) -> Any:
        """What the first rank has, of plain values and tensors on the CPU."""
        box = [content]
        dist.broadcast_object_list(box, src=0, group=_control_group)
        return box[0]


class _Coupled(TorchFunctionMode):
    """Catches what couples the images of a batch, or draws numbers for them, inside of layers.

    Nothing is converted: modules, their names and their states stay what they are in one process.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.batch_norm and not self.ranks.is_apart:
            return batch_norm(self.ranks, *args, **(kwargs or {}))
        if function is F.dropout:
            return dropout(self.ranks, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def dropout(ranks: Ranks, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As `F.dropout` of the whole batch."""
    if not training or p == 0:
        return x
    kept = ranks.drawn(len(x), lambda count: torch.dropout(x.new_ones((count, *x.shape[1:])), p, True))
    return x * kept


def batch_norm(
    ranks: Ranks,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `F.batch_norm` of the whole batch, in float32 at least; on a GPU by the kernels of torch.nn.SyncBatchNorm."""
    if not training:
        return torch.batch_norm(
            x, weight, bias, running_mean, running_var, False, momentum, eps, torch.backends.cudnn.enabled
        )
    if x.device.type == "cuda":
        from torch.nn.modules._functions import SyncBatchNorm

        normed: Tensor = SyncBatchNorm.apply(
            x, weight, bias, running_mean, running_var, eps, momentum, dist.group.WORLD, ranks.size
        )
        return normed
    dtype = x.dtype
    x = x.float() if dtype in (torch.bfloat16, torch.float16) else x
    dims = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = x.numel() // x.shape[1] // ranks.num_own * ranks.whole
    mean = ranks.sum(x.sum(dims)) / count
    centred = x - mean.view(shape)
    var = ranks.sum(centred.square().sum(dims)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.detach().to(running_mean.dtype), momentum)
            running_var.lerp_((var.detach() * count / max(1, count - 1)).to(running_var.dtype), momentum)
    y = centred * (var + eps).rsqrt().view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    if bias is not None:
        # Of one row on one place the gradient of a plain sum is no new tensor, and a residual connection would give two
        # norms one and the same, to which the next part of a step is added twice.
        y = y + (bias * 1).view(shape)
    return y.to(dtype)


class Buckets:
    """Sums gradients over ranks in buckets, each as soon as its gradients are there, while the backward pass goes on.

    Buckets begin in one order on all ranks, that of the parameters from the last to the first.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        trained = [each for each in parameters if each.requires_grad][::-1]
        self._buckets: list[list[nn.Parameter]] = [[]]
        size = 0
        for each in trained:
            if size and size + each.numel() * each.element_size() > BUCKET_BYTES:
                self._buckets.append([])
                size = 0
            self._buckets[-1].append(each)
            size += each.numel() * each.element_size()
        self._bucket_of = {each: number for number, bucket in enumerate(self._buckets) for each in bucket}
        self._left: list[int] = []
        self._begun: list[tuple[list[Tensor], Tensor, Any]] = []
        self._next = 0
        self._is_last = False
        for each in trained:  # they end with the stage, and so do the hooks
            each.register_post_accumulate_grad_hook(self._is_there)

    def last_part(self) -> None:
        """The backward pass that comes is the last of the step."""
        self._left = [len(bucket) for bucket in self._buckets]
        self._next, self._is_last = 0, True

    def _is_there(self, parameter: Tensor) -> None:
        if not self._is_last:
            return
        self._left[self._bucket_of[parameter]] -= 1  # type: ignore[index]
        while self._next < len(self._buckets) and self._left[self._next] == 0:
            self._begin(self._next)

    def _begin(self, number: int) -> None:
        gradients = [each.grad for each in self._buckets[number] if each.grad is not None]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._begun.append((gradients, flat, dist.all_reduce(flat, async_op=True)))
        self._next = number + 1

    def finish(self) -> None:
        """Wait for all sums. What has no gradient has none on any rank: that depends on the time only."""
        while self._next < len(self._buckets):
            self._begin(self._next)
        for gradients, flat, work in self._begun:
            work.wait()
            for gradient, total in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
                gradient.copy_(total.view_as(gradient))
        self._begun, self._is_last = [], False


def _device() -> torch.device:
    """That of the group's tensors."""
    is_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device("cpu")


# For what is on the CPU, beside GPUs; None is the only group there is.
_control_group: Any = None


def join(rank: int, size: int, address: str, backend: str, patience: timedelta) -> None:
    """Meet the other ranks.

    Args:
        rank, size: of this process.
        address: `tcp://host:port` of the first rank.
        backend: `gloo` on CPUs, `nccl` on GPUs.
        patience: how long a rank is waited for before it counts as gone.
    """
    global _control_group
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=patience)
    _control_group = None
    if backend != "gloo":
        _control_group = dist.new_group(backend="gloo", timeout=patience)


def leave() -> None:
    """Part from the other ranks."""
    global _control_group
    if dist.is_initialized():
        dist.destroy_process_group()
    _control_group = None
