"""One optimizer step: forward, backward, update, in parts where it is accumulated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sslcurr.engine.batches import Feed
from sslcurr.engine.device import Placement
from sslcurr.engine.loop import Loop
from sslcurr.engine.optim import hold_back, lr_at, set_lr
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_torch, torch_generator
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Batch, Loss, Task, Tick
from sslcurr.world import GradientSum


def one_step(loop: Loop, where: Placement, feed: Feed, places: Any, tick: Tick) -> tuple[Loss, Batch]:
    """Forward, backward and optimizer step, in `accumulate` parts; gives the loss and batch of the whole step."""
    spec, task, optimizer, phase = loop.spec, loop.task, loop.optimizer, loop.report.phase
    seed_torch(spec.seed, spec.parent, "step", tick.step)
    lr = lr_at(spec.training, tick.step, tick.total_steps, tick.steps_per_epoch)
    set_lr(optimizer, spec.training, lr)
    task.before_step(tick)
    generator = torch_generator(spec.seed, spec.parent, "views", tick.step)
    chunks = split_evenly(places, spec.training.accumulate)
    batches = (feed.batch(chunk, loop.views, generator, loop.report, loop.world.of(len(chunk))) for chunk in chunks)
    out, batch = add_gradients(task, batches, len(places), tick, where, loop.report, loop.sums)
    if loop.world.size > 1:  # what comes after the step is told of all of its images
        batch = Batch((), *feed.named(places))
    with phase("optimizer"):
        if tick.step < spec.training.head_warmup * tick.steps_per_epoch:
            hold_back(optimizer)
        clip_gradients(task, spec.training)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return out, batch


def add_gradients(
    task: Task,
    batches: Iterable[Batch],
    num_images: int,
    tick: Tick,
    where: Placement,
    report: Reporter,
    sums: GradientSum | None = None,
) -> tuple[Loss, Batch]:
    """Forward and backward pass of the parts of a step, one after the other.

    The parameters then have the gradient of the mean over the whole step: parts count by `Loss.weight`, or else by
    their images.

    Args:
        task: what is trained; its parameters have no gradient yet.
        batches: the parts of the step.
        num_images: images of all parts.
        tick: the time.
        where: the device and precision.
        report: is told of the phases.
        sums: of the gradients of several ranks.

    Returns:
        The loss and the batch of the whole step.
    """
    parts, losses, sizes = [], [], []
    for batch in batches:
        with report.phase("forward"), batch.world.coupled():
            out = forward(task, batch, tick, where)
        sizes.append(batch.world.total(len(batch.index)))
        share = (len(batch.index) if out.weight is None else out.weight) / num_images
        if sums is not None and sum(sizes) == num_images:
            sums.last_part()
        with report.phase("backward"):
            (out.value if len(batch.index) == num_images else out.value * share).backward()
        parts.append(batch)
        losses.append(of_all_ranks(out, batch))
    if sums is not None:
        sums.finish()
    if (len(parts) > 1 or sums is not None) and losses[0].weight is not None:
        # The weight of the step is only known now.
        total = torch.stack([out.weight for out in losses if out.weight is not None]).sum()
        for parameter in task.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(num_images / total.clamp(min=1e-12))
    return join(losses, sizes), join_batches(parts)


def of_all_ranks(out: Loss, batch: Batch) -> Loss:
    """The loss of a part of a step, of all ranks that have images of it: values by weight, metrics by images."""
    world = batch.world
    if world.size == 1:
        return out
    share = len(batch.index) / world.total(len(batch.index))
    by_weight = out.value.new_tensor(share) if out.weight is None else out.weight.to(out.value)
    metrics = [share * each.to(out.value) for each in out.metrics.values()]
    weight, value, *metrics = world.sum(torch.stack([by_weight, by_weight * out.value, *metrics]).detach())
    return Loss(
        value / weight.clamp(min=1e-12),
        dict(zip(out.metrics, metrics, strict=True)),
        {name: world.gather(content) for name, content in out.keep.items()},
        None if out.weight is None else weight,
    )


def clip_gradients(task: Task, training: Training) -> None:
    """Shorten the gradient of all parameters to `clip`, and that of each to `clip_each`, where these are set."""
    if training.clip:
        torch.nn.utils.clip_grad_norm_(task.parameters(), training.clip)
    if training.clip_each:
        for parameter in task.parameters():
            torch.nn.utils.clip_grad_norm_([parameter], training.clip_each)


def forward(task: Task, batch: Batch, tick: Tick, where: Placement) -> Loss:
    """The loss in the precision of `where`: for bf16, views in bf16, layers under autocast, and results in float32."""
    if where.precision == "32":
        out: Loss = task(batch, tick)
        return out
    views = tuple(view.to(torch.bfloat16) for view in batch.views)
    with where.autocast():
        out = task(replace(batch, views=views), tick)
    return Loss(
        out.value.float(),
        {name: in_float32(content) for name, content in out.metrics.items()},
        {name: in_float32(content) for name, content in out.keep.items()},
        None if out.weight is None else out.weight.float(),
    )


def in_float32(content: Tensor) -> Tensor:
    """A tensor of numbers with a fraction in float32, others as they are."""
    return content.float() if content.is_floating_point() else content


def split_evenly(places: Any, num_parts: int) -> list[Any]:
    """Parts whose sizes differ by one at most."""
    import numpy as np

    return [places] if num_parts == 1 else list(np.array_split(places, num_parts))


def join(losses: list[Loss], sizes: list[int]) -> Loss:
    """The loss of a step from those of its parts of `sizes` images: values by weight, metrics by images."""
    first = losses[0]
    if len(losses) == 1:
        return replace(first, value=first.value.detach())
    shares = [size / sum(sizes) for size in sizes]
    value = weighted_sum(shares, [out.value.detach() for out in losses])
    weight = None
    if first.weight is not None:
        weights = [out.weight for out in losses if out.weight is not None]
        weight = torch.stack(weights).sum()
        value = weighted_sum([part / weight for part in weights], [out.value.detach() for out in losses])
    metrics = {name: weighted_sum(shares, [out.metrics[name] for out in losses]) for name in first.metrics}
    return Loss(value, metrics, {name: torch.cat([out.keep[name] for out in losses]) for name in first.keep}, weight)


def weighted_sum(shares: Sequence[float | Tensor], contents: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape, each times its share."""
    products = (share * content for share, content in zip(shares, contents, strict=True))
    return sum(products, torch.zeros_like(contents[0]))


def join_batches(parts: list[Batch]) -> Batch:
    """The batch of a whole step; its views are dropped when it had several parts."""
    if len(parts) == 1:
        return parts[0]
    return Batch(
        views=(), index=torch.cat([part.index for part in parts]), labels=torch.cat([part.labels for part in parts])
    )
