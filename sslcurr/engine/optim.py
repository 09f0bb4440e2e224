"""Optimizers and learning-rate schedules, as pure functions of a stage's training settings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from sslcurr.backbones.parts import HEAD, layers_of
from sslcurr.engine.lars import LARS
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Rule

BACKBONE = "backbone."


def lr_at(training: Training, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, from 0: linear warm-up, then the schedule over what is left."""
    warmup_steps = min(total_steps, round(training.warmup * steps_per_epoch))
    if step < warmup_steps:
        start = training.warmup_start
        return training.lr * (start + (1.0 - start) * step / warmup_steps)
    if training.schedule == "constant":
        return training.lr
    if training.schedule == "step":
        passed = sum(step >= milestone * total_steps for milestone in training.milestones)
        return training.lr * training.step_factor**passed
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return training.lr * (training.final_lr + (1.0 - training.final_lr) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def build_optimizer(
    module: nn.Module, training: Training, rules: Mapping[str, Rule] | None = None
) -> torch.optim.Optimizer:
    """The optimizer of `training` over the parameters that take a gradient.

    Biases and normalisation layers (all parameters of one dimension) form groups of their own, without weight decay
    and without the trust ratio of LARS unless `decay_norm_and_bias` says so. `rules` names parts of the module that are
    trained otherwise than the rest, by the beginning of their parameters' names.
    """
    shares = _layer_shares(module, training.layer_decay)
    grouped: dict[tuple[Rule, bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rule = next((rule for part, rule in (rules or {}).items() if name.startswith(f"{part}.")), Rule())
            waits = training.head_warmup > 0 and name.startswith(BACKBONE)
            grouped.setdefault((rule, waits, parameter.ndim > 1, shares.get(name, 1.0)), []).append(parameter)
    groups = []
    for (rule, waits, is_weight, share), parameters in sorted(grouped.items(), key=lambda item: _order(*item[0])):
        decays = is_weight or training.decay_norm_and_bias
        settings: dict[str, object] = {
            "params": parameters,
            "weight_decay": training.weight_decay * rule.weight_decay if decays else 0.0,
            "lr_factor": share * (1.0 if is_weight else training.norm_and_bias_lr),
            "scheduled": rule.scheduled,
            "waits": waits,
        }
        if training.optimizer != "adamw":
            settings["momentum"] = training.momentum * rule.momentum
        if training.optimizer == "lars":
            settings["adapted"] = decays
        groups.append(settings)
    if training.optimizer == "sgd":
        # Fused: one kernel over all parameters; twice as fast as the loop over them, on a CPU too.
        sgd = torch.optim.SGD(
            groups, lr=training.lr, nesterov=training.nesterov, momentum=training.momentum, fused=True
        )
        for group in sgd.param_groups:
            # The fused kernel cannot start some buffers later than others, as frozen prototypes do. Zeros are the same.
            for parameter in group["params"] if group["momentum"] else ():
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.lr, fused=True)
    return LARS(groups, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov)


def _order(rule: Rule, waits: bool, is_weight: bool, share: float) -> tuple[bool, bool, bool, float]:
    """The order of the groups: the first has the learning rate of the schedule, where a group has it."""
    return rule != Rule(), waits, not is_weight, -share


def _layer_shares(module: nn.Module, decay: float) -> dict[str, float]:
    """The learning rates of the backbone's parameters as shares of that of the head, by name."""
    if decay == 1.0:
        return {}
    layers = layers_of(module.get_submodule(BACKBONE.rstrip(".")))
    return {f"{BACKBONE}{name}": decay ** (layers[HEAD] - number) for name, number in layers.items()}


def hold_back(optimizer: torch.optim.Optimizer) -> None:
    """Take the gradients of the groups that wait for the head: the next step leaves them as they are."""
    for group in optimizer.param_groups:
        if group.get("waits"):
            for parameter in group["params"]:
                parameter.grad = None


def corrections(training: Training) -> tuple[str, ...]:
    """What was corrected in the optimizers, of that which concerns these settings: a part of a stage's key."""
    without_ratio = training.optimizer == "lars" and training.weight_decay == 0
    return ("LARS scales gradients without weight decay too",) if without_ratio else ()


def set_lr(optimizer: torch.optim.Optimizer, training: Training, lr: float) -> None:
    """Set the learning rate of every group, where the schedule gives `lr`."""
    for group in optimizer.param_groups:
        # Groups that sslcurr 0.1.0 saved in a resume.pt have neither entry.
        base = lr if group.get("scheduled", True) else training.lr
        group["lr"] = group.get("lr_factor", 1.0) * base
