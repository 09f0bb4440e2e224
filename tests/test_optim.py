"""Learning rates by hand, optimizers against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sslcurr.engine.optim import build_optimizer, lr_at
from sslcurr.engine.spec import Training


def test_cosine_by_hand():
    training = Training(lr=0.4, epochs=10, final_lr=0.1)
    assert lr_at(training, 0, 100, 10) == pytest.approx(0.4)
    assert lr_at(training, 50, 100, 10) == pytest.approx(0.4 * (0.1 + 0.9 / 2))
    assert lr_at(training, 100, 100, 10) == pytest.approx(0.04)


def test_warmup_starts_low_and_meets_the_schedule():
    training = Training(lr=1.0, epochs=10, warmup=2.0, warmup_start=0.1)
    assert lr_at(training, 0, 100, 10) == pytest.approx(0.1)
    assert lr_at(training, 10, 100, 10) == pytest.approx(0.55)
    assert lr_at(training, 20, 100, 10) == pytest.approx(1.0)
    assert lr_at(training, 60, 100, 10) == pytest.approx(0.5)


def test_steps_and_constant():
    training = Training(lr=1.0, schedule="step", milestones=(0.3, 0.6), step_factor=0.1)
    assert [lr_at(training, s, 10, 1) for s in (0, 2, 3, 5, 6, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert lr_at(Training(lr=0.2, schedule="constant"), 7, 10, 1) == 0.2


def test_cosine_agrees_with_torch():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert lr_at(Training(lr=0.3), step, 20, 5) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_biases_and_norms_have_a_group_of_their_own(optimizer, decay_all):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    module[2].bias.requires_grad_(False)
    training = Training(optimizer=optimizer, weight_decay=0.1, decay_norm_and_bias=decay_all)
    matrices, vectors = build_optimizer(module, training).param_groups
    assert [p.ndim for p in matrices["params"]] == [4, 2]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]
    assert matrices["weight_decay"] == 0.1
    assert vectors["weight_decay"] == (0.1 if decay_all else 0.0)


def test_sgd_with_momentum_by_hand_also_for_a_parameter_that_starts_late():
    module = nn.ParameterList([nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))])
    optimizer = build_optimizer(module, Training(lr=0.1, momentum=0.9, weight_decay=0.0))
    module[0].grad = torch.tensor([1.0])
    optimizer.step()
    module[1].grad = torch.tensor([1.0])
    optimizer.step()
    # First: 1 - 0.1, then velocity 1.9; second: its first step, velocity 1.
    assert module[0].item() == pytest.approx(1 - 0.1 - 0.19)
    assert module[1].item() == pytest.approx(1 - 0.1)


def test_lars_by_hand():
    """Trust ratio 0.001 |w| / (|g| + wd |w|), https://arxiv.org/abs/1708.03888."""
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0]]))
    optimizer = build_optimizer(module, Training(optimizer="lars", lr=1.0, momentum=0.0, weight_decay=0.5))
    module.weight.grad = torch.tensor([[0.6, 0.8]])
    optimizer.step()
    gradient = torch.tensor([[0.6, 0.8]]) + 0.5 * torch.tensor([[3.0, 4.0]])
    ratio = 0.001 * 5.0 / (1.0 + 0.5 * 5.0)
    torch.testing.assert_close(module.weight.data, torch.tensor([[3.0, 4.0]]) - ratio * gradient, rtol=1e-4, atol=1e-6)
    assert math.isfinite(module.weight.sum().item())
