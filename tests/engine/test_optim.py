"""Learning rates by hand, optimizers against the formula."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sslcurr.engine.lars import LARS
from sslcurr.engine.optim import build_optimizer, corrections, lr_at, set_lr
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Rule


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


def test_lars_scales_gradients_without_weight_decay_too():
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0]]))
        module.bias.fill_(2.0)
    training = Training(optimizer="lars", lr=1.0, momentum=0.0, weight_decay=0.0, decay_norm_and_bias=False)
    optimizer = build_optimizer(module, training)
    module.weight.grad, module.bias.grad = torch.tensor([[6.0, 8.0]]), torch.tensor([0.5])
    optimizer.step()
    # 0.001 * 5 / 10 of the gradient; biases are not scaled.
    torch.testing.assert_close(module.weight.data, torch.tensor([[3.0 - 0.003, 4.0 - 0.004]]))
    torch.testing.assert_close(module.bias.data, torch.tensor([1.5]))
    both = build_optimizer(module, replace(training, decay_norm_and_bias=True))
    module.weight.grad, module.bias.grad = None, torch.tensor([0.5])
    both.step()
    torch.testing.assert_close(module.bias.data, torch.tensor([1.5 - 0.001 * 1.5]))


def random_weights():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 7, generator=generator), torch.zeros(3, 3), torch.randn(7, generator=generator)]


def walk(make, steps=20):
    """The weights after some steps along the same random gradients; `make` gives the optimizer of the weights."""
    weights = [nn.Parameter(weight.clone()) for weight in random_weights()]
    optimizer, generator = make(weights), torch.Generator().manual_seed(1)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return [weight.data for weight in weights]


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_with_weight_decay_is_that_of_lightly_to_the_bit(nesterov):
    from lightly.utils import lars

    def groups(weights, **adapted):
        decays = {"params": weights[:2], "weight_decay": 0.3}
        return [decays, {"params": weights[2:], "weight_decay": 0.0, **adapted}]

    mine = walk(lambda weights: LARS(groups(weights, adapted=False), lr=0.7, momentum=0.9, nesterov=nesterov))
    theirs = walk(lambda weights: lars.LARS(groups(weights), lr=0.7, momentum=0.9, nesterov=nesterov))
    assert all(torch.equal(one, two) for one, two in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("decay", [0.0, 1e-6, 1.5e-6])
def test_lars_is_the_formula_of_byol_simclr_and_barlow_twins_at_their_weight_decays(decay):
    class Authors:
        """w -= lr * m; m = 0.9 m + q (g + decay w); q = 0.001 |w| / |g + decay w|, or 1 where either norm is 0."""

        def __init__(self, weights):
            self.weights, self.momenta = weights, [torch.zeros_like(weight) for weight in weights]

        def step(self):
            for weight, momentum in zip(self.weights, self.momenta, strict=True):
                update = weight.grad + decay * weight.data
                norms = weight.data.norm(), update.norm()
                ratio = 0.001 * norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1.0
                momentum.mul_(0.9).add_(ratio * update)
                weight.data -= 0.7 * momentum

    mine = walk(lambda weights: LARS(weights, lr=0.7, momentum=0.9, weight_decay=decay))
    for one, two in zip(mine, walk(Authors), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_only_lars_without_weight_decay_was_corrected():
    assert corrections(Training(optimizer="lars", weight_decay=0.0)) != ()
    assert corrections(Training(optimizer="lars")) == corrections(Training(weight_decay=0.0)) == ()


def test_lars_goes_on_from_a_state_that_does_not_say_what_is_adapted():
    module = nn.Linear(2, 2)
    training = Training(optimizer="lars", lr=1.0, momentum=0.0, weight_decay=0.5, decay_norm_and_bias=False)
    state = build_optimizer(module, training).state_dict()
    for group in state["param_groups"]:
        del group["adapted"]
    built = build_optimizer(module, training)
    built.load_state_dict(state)
    before = module.bias.detach().clone()
    module.bias.grad = torch.ones(2)
    built.step()
    torch.testing.assert_close(module.bias.data, before - 1.0)


class Parts(nn.Module):
    """A backbone and two parts with rules of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head, self.predictor = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.head_of_another_name = nn.Linear(2, 2)


RULES = {"head": Rule(weight_decay=5.0, momentum=0.0), "predictor": Rule(scheduled=False)}


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_rules_hold_for_their_part_only(optimizer):
    module = Parts()
    training = Training(optimizer=optimizer, lr=0.4, weight_decay=0.1, norm_and_bias_lr=0.5, decay_norm_and_bias=False)
    built = build_optimizer(module, training, RULES)
    set_lr(built, training, 0.2)
    found = {id(p): group for group in built.param_groups for p in group["params"]}
    assert len(found) == 8
    for name, parameter in module.named_parameters():
        part, kind = name.split(".")
        group = found[id(parameter)]
        factor = 5.0 if part == "head" else 1.0
        assert group["weight_decay"] == pytest.approx(0.1 * factor if kind == "weight" else 0.0)
        rate = 0.4 if part == "predictor" else 0.2
        assert group["lr"] == pytest.approx(rate * (1.0 if kind == "weight" else 0.5))
        if optimizer != "adamw":
            assert group["momentum"] == (0.0 if part == "head" else 0.9)
    # What is logged as the rate is that of the first group.
    assert built.param_groups[0]["lr"] == pytest.approx(0.2)


def test_a_part_without_momentum_takes_plain_steps():
    module = Parts()
    built = build_optimizer(module, Training(lr=0.1, weight_decay=0.0), RULES)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for _ in range(2):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        built.step()
    torch.testing.assert_close(module.head.weight.data, before["head.weight"] - 0.2)
    torch.testing.assert_close(module.backbone.weight.data, before["backbone.weight"] - 0.1 - 0.19)


def test_a_state_saved_before_there_were_rules_goes_on():
    module = nn.Linear(2, 2)
    training = Training(lr=0.4)
    state = build_optimizer(module, training).state_dict()
    for group in state["param_groups"]:
        del group["lr_factor"], group["scheduled"]
    built = build_optimizer(module, training)
    built.load_state_dict(state)
    set_lr(built, training, 0.2)
    assert [group["lr"] for group in built.param_groups] == [0.2, 0.2]
