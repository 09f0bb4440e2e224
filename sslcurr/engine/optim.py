"""Optimizers and learning-rate schedules, as pure functions of a stage's training settings."""

from __future__ import annotations

import math

import torch
from torch import nn

from sslcurr.engine.spec import Training


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


def build_optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer of `training` over the parameters that take a gradient.

    Biases and normalisation layers (all parameters of one dimension) form a group of their own, without weight decay
    unless `decay_norm_and_bias` says so; LARS leaves its trust ratio off where there is no decay.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay},
        {
            "params": [p for p in trained if p.ndim <= 1],
            "weight_decay": training.weight_decay if training.decay_norm_and_bias else 0.0,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "sgd":
        # Fused: one kernel over all parameters; twice as fast as the loop over them, on a CPU too.
        sgd = torch.optim.SGD(
            groups, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov, fused=True
        )
        if training.momentum:
            # The fused kernel cannot start some buffers later than others, as frozen prototypes do. Zeros are the same.
            for parameter in trained:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.lr, fused=True)
    from lightly.utils.lars import LARS

    return LARS(groups, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov)
