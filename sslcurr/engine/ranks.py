"""Several processes that train one stage: what they exchange, by torch.distributed.

The rule: a step's objective is the sum over ranks of a rank's loss times its share of the images, and gradients are
summed. What crosses ranks has its true adjoint, numbers are drawn for the whole batch, and what a step keeps is
gathered in the order of the batch, so that every rank does the same after it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sslcurr.world import Left, World

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


class _Way(NamedTuple):
    """How rows go from those who have them to those who normalise them, and back.

    Attributes:
        here: own rows, in the order in which they are sent: rank by rank, each in the order of its groups.
        here_counts: how many go to each rank.
        there: places of what comes, in the order of the own groups.
        there_counts: how many come from each rank.
    """

    here: Tensor
    here_counts: list[int]
    there: Tensor
    there_counts: list[int]


def exchanged(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """What comes from all ranks, rank by rank, where so many `rows` go to each and so many come back; no gradient."""
    found = rows.new_empty((sum(received), *rows.shape[1:]))
    dist.all_to_all_single(found, rows.contiguous(), received, sent)
    return found


class Ranks(World):
    """All ranks of this process's group, for a batch of so many images.

    Attributes:
        whole: images of the batch.
        nodes: machines that the ranks are on.
        own: the rows of it that this rank has.
    """

    def __init__(self, whole: int = 0, nodes: int = 1) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.whole, self.nodes = whole, nodes
        self._parts = parts(whole, self.size)
        self.own = self._parts[self.rank]
        self.num_own = self.own.stop - self.own.start
        self.is_apart = False

    def of(self, whole: int) -> Ranks:
        """The same ranks, for a batch of so many images."""
        return Ranks(whole, self.nodes)

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each rank."""
        return tuple(part.stop - part.start for part in self._parts)

    def share(self, count: int) -> slice:
        """As of `World`."""
        return parts(count, self.size)[self.rank]

    def joined(self, blocks: list[Tensor]) -> Tensor:
        """As of `World`."""
        own = torch.cat(blocks) if blocks else None
        empties = [self._said(None if own is None else own[:0].cpu(), rank) for rank in range(self.size)]
        counts = tuple(self._said(0 if own is None else len(own), rank) for rank in range(self.size))
        known = next((empty for empty in empties if empty is not None), None)
        if known is None:
            return torch.empty(0, 0)
        if own is None:
            own = known.to(_device())
        joined: Tensor = _Gather.apply(own, counts, self.rank)
        return joined

    def gather(self, x: Tensor) -> Tensor:
        """As of `World`."""
        crops = len(x) // self.num_own
        if crops == 1:
            gathered: Tensor = _Gather.apply(x, self.counts, self.rank)
            return gathered
        rows = x.unflatten(0, (crops, self.num_own)).transpose(0, 1)
        gathered = _Gather.apply(rows, self.counts, self.rank)
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

    def of_groups(self, x: Tensor, order: Tensor, num_groups: int) -> tuple[Tensor, int]:
        """As of `World`: each row is sent to the one rank that normalises it. Where there are fewer groups than ranks,
        each rank normalises all of them."""
        if num_groups < self.size:
            return self.gather(x)[order], num_groups
        way = self._way(order, num_groups)
        found = exchanged(x[way.here], way.here_counts, way.there_counts)
        held = parts(num_groups, self.size)[self.rank]
        return torch.empty_like(found).index_copy_(0, way.there, found), held.stop - held.start

    def from_groups(self, x: Tensor, order: Tensor, num_groups: int) -> Tensor:
        """As of `World`: each row is sent back."""
        if num_groups < self.size:
            return self.rows(super().from_groups(x, order, num_groups))
        way = self._way(order, num_groups)
        found = exchanged(x[way.there], way.there_counts, way.here_counts)
        return torch.empty_like(found).index_copy_(0, way.here, found)

    def _way(self, order: Tensor, num_groups: int) -> _Way:
        """How rows go to those who normalise them."""
        sizes = [len(group) for group in order.tensor_split(num_groups)]
        by_rank = order.split([sum(sizes[held]) for held in parts(num_groups, self.size)])
        wanted = [images[(images >= self.own.start) & (images < self.own.stop)] - self.own.start for images in by_rank]
        ends = order.new_tensor([part.stop for part in self._parts])
        owner = torch.bucketize(by_rank[self.rank], ends, right=True)
        return _Way(
            here=torch.cat(wanted),
            here_counts=[len(images) for images in wanted],
            there=owner.argsort(stable=True),
            there_counts=torch.bincount(owner, minlength=self.size).tolist(),
        )

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
        """As of `World`."""
        return self._said(content, 0)

    def _said(self, content: Any, rank: int) -> Any:
        """The content that a rank has, of plain values and tensors on the CPU; no pickle, which could run code."""
        buffer = io.BytesIO()
        if self.rank == rank:
            torch.save(content, buffer)
        size = torch.tensor([len(buffer.getbuffer())])
        dist.broadcast(size, src=rank, group=_control_group)
        sent = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8) if self.rank == rank else None
        received = sent if sent is not None else torch.empty(int(size[0]), dtype=torch.uint8)
        dist.broadcast(received, src=rank, group=_control_group)
        return torch.load(io.BytesIO(received.numpy().tobytes()), weights_only=True)

    def record(self) -> dict[str, Any]:
        """As of `World`."""
        return {"size": self.size, "nodes": self.nodes, "backend": dist.get_backend()}


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
    y, mean, var = _BatchNorm.apply(x, weight, bias, eps, ranks)
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1] // ranks.num_own * ranks.whole
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((var * count / max(1, count - 1)).to(running_var.dtype), momentum)
    return y.to(dtype)


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation of rows of all ranks, with one collective forwards and one backwards.

    Forwards each rank's mean and squared deviations from it are gathered, and joined as by Chan et al.
    (https://doi.org/10.1080/00031305.1983.10483115), which loses no digits where the mean is large. Backwards the two
    sums of the gradient are summed over ranks.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        rows = x.numel() // x.shape[1] // ranks.num_own  # of an image
        own_mean = x.mean(dims)
        own = torch.stack([own_mean, (x - own_mean.view(shape)).square().sum(dims)])
        found = [torch.empty_like(own) for _ in range(ranks.size)]
        dist.all_gather(found, own)
        means, squares = torch.stack(found).unbind(1)
        counts = x.new_tensor(ranks.counts)[:, None] * rows
        total = ranks.whole * rows
        mean = (means * counts).sum(0) / total
        var = (squares + counts * (means - mean).square()).sum(0) / total
        scale = (var + eps).rsqrt()
        normed = (x - mean.view(shape)) * scale.view(shape)
        y = normed if weight is None else normed * weight.view(shape)
        y = y if bias is None else y + bias.view(shape)
        ctx.save_for_backward(x, mean, scale, weight)
        ctx.total, ctx.dims, ctx.shape, ctx.has_bias = total, dims, shape, bias is not None
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, mean, scale, weight = ctx.saved_tensors
        dy, normed = gradients[0], (x - mean.view(ctx.shape)) * scale.view(ctx.shape)
        own = torch.stack([dy.sum(ctx.dims), (dy * normed).sum(ctx.dims)])
        sums = own.clone()
        dist.all_reduce(sums)
        of_mean, of_scale = (sums / ctx.total).unbind(0)
        dx = dy - of_mean.view(ctx.shape) - normed * of_scale.view(ctx.shape)
        factor = scale if weight is None else scale * weight
        # Own sums only: gradients of parameters are summed over ranks with all others.
        dweight = None if weight is None else own[1]
        return dx * factor.view(ctx.shape), dweight, own[0].clone() if ctx.has_bias else None, None, None


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


def join(rank: int, size: int, store: dist.Store, backend: str, patience: timedelta) -> None:
    """Meet the other ranks.

    Args:
        rank, size: of this process.
        store: where they find one another; a group that was left needs another one.
        backend: `gloo` on CPUs, `nccl` on GPUs.
        patience: how long a rank is waited for before it counts as gone.
    """
    from sslcurr.backbones.build import import_timm

    import_timm()  # imported later it would keep the group, and with it the connections, for ever

    global _control_group
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    _control_group = None
    if backend != "gloo":
        _control_group = dist.new_group(backend="gloo", timeout=patience)


def leave() -> None:
    """Part from the other ranks."""
    global _control_group
    if dist.is_initialized():
        dist.destroy_process_group()
    _control_group = None


def is_parting(error: BaseException) -> bool:
    """Whether an error says that another rank has left, is gone, or was not heard of in time."""
    return isinstance(error, (Left, dist.DistError)) or (isinstance(error, RuntimeError) and "gloo" in str(error))
