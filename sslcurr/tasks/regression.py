"""A number for each image: the target task of ages, scores and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.target import REGRESSION
from sslcurr.tasks.base import Batch, Facts, Loss, Scan, Tick, positive
from sslcurr.tasks.target import TargetConfig, TargetTask


class Standardised(nn.Module):
    """A linear layer whose output is in units of the numbers: times their standard deviation, plus their mean.

    What it learns are numbers of mean 0 and deviation 1, whatever their unit is.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(1))
        self.std: Tensor
        self.register_buffer("std", torch.ones(1))

    def forward(self, features: Tensor) -> Tensor:
        """[N, D] features to [N, 1] numbers, in float32."""
        return self.linear(features).float() * self.std + self.mean


class Regression(TargetTask):
    """A linear layer on the backbone that gives a number; the weights of the best validation epoch are kept."""

    name = REGRESSION.task
    version = 1
    over_ranks = True
    summary = "foretell a number for an image (a target task)"
    paper = "https://doi.org/10.1214/aoms/1177703732"
    monitor = REGRESSION.validation

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(TargetConfig):
        """Mild views, and the error of Huber (https://doi.org/10.1214/aoms/1177703732).

        Attributes:
            error: How errors count: `squared`, or `huber`, which is linear beyond `delta`, so that single outliers
                count less.
            delta: Where the `huber` error turns linear, in standard deviations of the training images' numbers.
        """

        error: Literal["squared", "huber"] = "huber"
        delta: float = positive(1.0)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Sequential(nn.Dropout(config.dropout), Standardised(dim))

    @property
    def scale(self) -> Standardised:
        """The last layer, which knows the mean and the deviation of the training images' numbers."""
        layer = self.head[-1]
        assert isinstance(layer, Standardised)
        return layer

    def start(self, scan: Scan) -> None:
        """Learn the mean and the deviation of the numbers."""
        numbers = scan.labels().double()
        self.scale.mean.copy_(numbers.mean())
        self.scale.std.copy_(numbers.std(correction=0).clamp(min=1e-12))

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """The error in standard deviations of the training images' numbers."""
        views, other, share = self.mixed(batch)
        numbers = self.head(self.backbone(views))
        labels = batch.labels
        if other is not None:
            labels = share * labels + (1 - share) * batch.world.gather(labels)[other]
        errors = (numbers - labels) / self.scale.std
        if self.config.error == "huber":
            value = F.huber_loss(errors, torch.zeros_like(errors), delta=self.config.delta)
        else:
            value = 0.5 * errors.square().mean()
        return Loss(value, {"absolute_error": (errors * self.scale.std).abs().mean().detach()})

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """Mean absolute error and R² on the validation images."""
        numbers = scan.labels("val").cpu().double()
        if not len(numbers):
            return {}
        errors = scan(self.logits(), "val").double().cpu() - numbers
        variance = numbers.var(correction=0).item()
        explained = {REGRESSION.validation: 1.0 - errors.square().mean().item() / variance} if variance > 0 else {}
        return {"val_absolute_error": errors.abs().mean().item(), **explained}
