"""One optimizer step: forward, backward, update, in parts where it is accumulated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sslcurr.engine.batches import Feed
from sslcurr.engine.device import Placement
from sslcurr.engine.loop import Loop
from sslcurr.engine.optim import lr_at, set_lr
from sslcurr.seeds import seed_for, torch_generator
from sslcurr.tasks.base import Batch, Loss, Task, Tick


def one_step(loop: Loop, where: Placement, feed: Feed, places: Any, tick: Tick) -> tuple[Loss, Batch]:
    """Forward, backward and optimizer step, in `accumulate` parts; gives the loss and batch of the whole step."""
    spec, task, optimizer, phase = loop.spec, loop.task, loop.optimizer, loop.report.phase
    torch.manual_seed(seed_for(spec.seed, spec.parent, "step", tick.step))
    lr = lr_at(spec.training, tick.step, tick.total_steps, tick.steps_per_epoch)
    set_lr(optimizer, spec.training, lr)
    task.before_step(tick)
    generator = torch_generator(spec.seed, spec.parent, "views", tick.step)
    parts, losses = [], []
    for chunk in split_evenly(places, spec.training.accumulate):
        batch = feed.batch(chunk, loop.views, generator, loop.report)
        with phase("forward"):
            out = forward(task, batch, tick, where)
        share = len(chunk) / len(places)
        with phase("backward"):
            (out.value * share if share < 1 else out.value).backward()
        parts.append(batch)
        losses.append((share, out))
    with phase("optimizer"):
        if spec.training.clip:
            torch.nn.utils.clip_grad_norm_(task.parameters(), spec.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return join(losses), join_batches(parts)


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
    )


def in_float32(content: Tensor) -> Tensor:
    """A tensor of numbers with a fraction in float32, others as they are."""
    return content.float() if content.is_floating_point() else content


def split_evenly(places: Any, num_parts: int) -> list[Any]:
    """Parts whose sizes differ by one at most."""
    import numpy as np

    return [places] if num_parts == 1 else list(np.array_split(places, num_parts))


def join(losses: list[tuple[float, Loss]]) -> Loss:
    """The loss of a step from those of its parts, weighted by their shares of the images."""
    if len(losses) == 1:
        out = losses[0][1]
        return Loss(out.value.detach(), out.metrics, out.keep)
    value = sum(
        (share * out.value.detach() for share, out in losses), torch.zeros((), device=losses[0][1].value.device)
    )
    first = losses[0][1]
    metrics = {
        name: sum((share * out.metrics[name] for share, out in losses), torch.zeros_like(content))
        for name, content in first.metrics.items()
    }
    return Loss(value, metrics, {name: torch.cat([out.keep[name] for _, out in losses]) for name in first.keep})


def join_batches(parts: list[Batch]) -> Batch:
    """The batch of a whole step; its views are dropped when it had several parts."""
    if len(parts) == 1:
        return parts[0]
    return Batch(
        views=(), index=torch.cat([part.index for part in parts]), labels=torch.cat([part.labels for part in parts])
    )
