"""A step's forward pass in each precision."""

from __future__ import annotations

import torch
from torch import nn

from sslcurr.engine.device import placement
from sslcurr.engine.step import add_gradients, clip_gradients, forward
from sslcurr.progress import Reporter
from sslcurr.spec.stage import Training
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


class Weighted(Task):
    """Weighted mean of w * x over the images, w the only parameter; `labels` are the weights."""

    def __init__(self, *, says: bool) -> None:
        nn.Module.__init__(self)
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.says = says

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        values = self.slope * batch.views[0]
        weights = batch.labels.float() if self.says else torch.ones(len(values))
        mean = (weights * values).sum() / weights.sum()
        metrics = {"mean": values.detach().mean()}
        return Loss(mean, metrics, {"x": batch.views[0]}, weights.sum() if self.says else None)


def gradients_of(task: Weighted, sizes: tuple[int, ...]) -> tuple[float, Loss, Batch]:
    x, weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([1, 3, 1, 1, 4])
    views, labels, index = x.split(sizes), weights.split(sizes), torch.arange(5).split(sizes)
    parts = (Batch(views=(v,), index=i, labels=w) for v, i, w in zip(views, index, labels, strict=True))
    out, batch = add_gradients(task, parts, 5, Tick(0, 2, 2), placement("cpu", "32"), Reporter())
    return task.slope.grad.item(), out, batch


def test_parts_of_a_step_are_divided_by_the_weights_of_all():
    # (1 + 6 + 4 + 8 + 64) / 10
    for sizes in ((5,), (2, 3), (1, 1, 3)):
        gradient, out, batch = gradients_of(Weighted(says=True), sizes)
        torch.testing.assert_close([gradient, out.value.item(), out.weight.item()], [8.3, 8.3, 10.0])
        assert out.keep["x"].tolist() == [1.0, 2.0, 4.0, 8.0, 16.0]
        assert batch.labels.tolist() == [1, 3, 1, 1, 4]
        # Metrics are means over images.
        torch.testing.assert_close(out.metrics["mean"].item(), 31 / 5)


def test_parts_without_weights_count_by_their_images():
    for sizes in ((5,), (2, 3), (1, 1, 3)):
        gradient, out, _ = gradients_of(Weighted(says=False), sizes)
        torch.testing.assert_close([gradient, out.value.item()], [31 / 5, 31 / 5])
        assert out.weight is None


def test_clipping_shortens_all_parameters_together_or_each_by_itself():
    task = Recording()
    expected = {"clip": [[3.0, 4.0], [0.0, 12.0]], "clip_each": [[3.0, 4.0], [0.0, 6.5]]}
    for name, (weight, bias) in expected.items():
        task.layer.weight = nn.Parameter(torch.zeros(2))
        task.layer.bias = nn.Parameter(torch.zeros(2))
        task.layer.weight.grad, task.layer.bias.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 12.0])
        clip_gradients(task, Training(**{name: 6.5}))
        scale = 0.5 if name == "clip" else 1.0  # the norm of all is 13
        torch.testing.assert_close(task.layer.weight.grad, torch.tensor(weight) * scale)
        torch.testing.assert_close(task.layer.bias.grad, torch.tensor(bias) * scale)
    clip_gradients(task, Training())
    torch.testing.assert_close(task.layer.bias.grad, torch.tensor([0.0, 6.5]))
