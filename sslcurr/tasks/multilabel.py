"""Several labels that may hold together: the target task of findings. A sigmoid for each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.analysis.measures.targets import macro_auroc
from sslcurr.spec.ranges import ranged
from sslcurr.spec.target import MULTILABEL
from sslcurr.tasks.base import Batch, Facts, Loss, Scan, Tick
from sslcurr.tasks.target import TargetConfig, TargetTask


class MultiLabel(TargetTask):
    """A linear layer on the backbone and a sigmoid for each label; what is not known of an image is left out.

    Binary cross-entropy, as for the fourteen findings of ChestX-ray14 (https://arxiv.org/abs/1705.02315).
    """

    name = MULTILABEL.task
    version = 1
    over_ranks = True
    summary = "say which labels hold for an image (a target task)"
    paper = "https://arxiv.org/abs/1705.02315"
    monitor = MULTILABEL.validation

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(TargetConfig):
        """Mild views.

        Attributes:
            balance: What is done for rare labels: where they hold they weigh more in the `loss`, or `none`, which
                keeps probabilities calibrated.
            most_weight: Largest weight of a label that holds under `balance=loss`, which is else the number of images
                without it for each with it.
        """

        balance: Literal["loss", "none"] = "none"
        most_weight: float = ranged(20.0, 1)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.holding_weights: Tensor
        self.register_buffer("holding_weights", torch.ones(facts.num_outputs))

    def start(self, scan: Scan) -> None:
        """Learn how rare labels are."""
        if self.config.balance == "loss":
            targets = scan.labels()
            holding, others = (targets == 1).sum(dim=0), (targets == 0).sum(dim=0)
            weights = (others / holding.clamp(min=1)).clamp(1.0, self.config.most_weight)
            self.holding_weights.copy_(weights)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Binary cross-entropy, a mean over the labels that are known."""
        views, other, share = self.mixed(batch)
        logits = self.head(self.backbone(views)).float()
        labels = batch.labels
        if other is not None:
            labels = share * labels + (1 - share) * batch.world.gather(labels)[other]
        known = ~labels.isnan()
        targets = labels.nan_to_num().to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.holding_weights, reduction="none", weight=known.float()
        )
        count = known.sum()
        right = batch.world.sum((((logits > 0) == (targets > 0.5)) & known).sum())
        accuracy = right / batch.world.sum(count).clamp(min=1)
        return Loss(each.sum() / count.clamp(min=1), {"accuracy": accuracy}, weight=count.to(each.dtype))

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """Loss and macro AUROC on the validation images."""
        targets = scan.labels("val").cpu()
        if not len(targets):
            return {}
        logits = scan(self.logits(), "val").float().cpu()
        known = ~targets.isnan()
        loss = F.binary_cross_entropy_with_logits(logits[known], targets[known])
        auroc = macro_auroc(targets.numpy(), logits.double().numpy())
        return {"val_loss": loss.item(), **({} if auroc is None else {MULTILABEL.validation: auroc})}
