"""A step's forward pass in each precision."""

from __future__ import annotations

import torch
from torch import nn

from sslcurr.engine.device import placement
from sslcurr.engine.step import forward
from sslcurr.tasks.base import Batch, Loss, Task, Tick


class Recording(Task):
    """Notes what its loss is called with."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.layer = nn.Linear(4, 2)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        self.views, self.autocast = batch.views, torch.is_autocast_enabled("cpu")
        out = self.layer(batch.views[0])
        return Loss(out.mean(), {"mean": out.detach().mean()}, {"out": out.detach(), "labels": batch.labels})


def a_batch() -> Batch:
    views = (torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),)
    return Batch(views=views, index=torch.arange(3), labels=torch.tensor([2, 0, 1]))


def test_float32_hands_the_batch_through():
    task, batch = Recording(), a_batch()
    out = forward(task, batch, Tick(0, 2, 2), placement("cpu", "32"))
    assert task.views is batch.views
    assert not task.autocast
    assert torch.equal(out.value, task.layer(batch.views[0]).mean())


def test_bf16_is_inside_the_pass_only():
    task, batch = Recording(), a_batch()
    out = forward(task, batch, Tick(0, 2, 2), placement("cpu", "bf16"))
    assert task.autocast
    assert [view.dtype for view in task.views] == [torch.bfloat16]
    assert batch.views[0].dtype == torch.float32
    assert [out.value.dtype, out.metrics["mean"].dtype, out.keep["out"].dtype] == [torch.float32] * 3
    assert torch.equal(out.keep["labels"], batch.labels)
    expected = nn.functional.linear(
        batch.views[0].bfloat16(), task.layer.weight.bfloat16(), task.layer.bias.bfloat16()
    ).float()
    torch.testing.assert_close(out.keep["out"], expected)
    out.value.backward()
    assert task.layer.weight.grad.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
