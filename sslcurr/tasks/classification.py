"""Classification: the target task of classes. Fine-tuning is a stage like any other, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.stage import Training
from sslcurr.spec.target import CLASSES
from sslcurr.tasks.base import WEIGHTED_PARTS, Batch, Facts, Loss, Scan, Tick, share
from sslcurr.tasks.target import TargetConfig, TargetTask


class Classification(TargetTask):
    """A linear layer on the backbone, all of it trained; the weights of the best validation epoch are kept."""

    name = CLASSES.task
    version = 1
    over_ranks = True
    summary = "name the class of an image (the target task)"
    paper = "https://arxiv.org/abs/2112.12086"
    monitor = CLASSES.validation

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(TargetConfig):
        """Mild views.

        Attributes:
            balance: What is done for rare classes: they weigh more in the `loss`, are drawn oftener (`sampling`), or
                `none`.
            label_smoothing: Share of each label that is spread evenly over all classes. More makes predictions less
                sure.
        """

        balance: Literal["loss", "sampling", "none"] = "loss"
        label_smoothing: float = share(0.0)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        counts = torch.tensor(facts.class_counts, dtype=torch.float)
        self.class_weights: Tensor
        self.register_buffer("class_weights", counts.sum() / (len(counts) * counts))
        self.sample_weights: Tensor
        self.register_buffer("sample_weights", torch.ones(facts.num_images))

    @classmethod
    def corrections(cls, config: Config, training: Training) -> tuple[str, ...]:
        """Parts of a step had been divided by their own weights."""
        return WEIGHTED_PARTS if training.accumulate > 1 and config.balance == "loss" else ()

    def start(self, scan: Scan) -> None:
        """Learn which image is of which class, for class-balanced sampling."""
        if self.config.balance == "sampling":
            self.sample_weights.copy_(self.class_weights[scan.labels().to(self.class_weights.device)])

    def sampling_weights(self) -> Tensor | None:
        """Every class equally often, when `balance` is `sampling`."""
        return self.sample_weights if self.config.balance == "sampling" else None

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy, rare classes weighing more when `balance` is `loss`."""
        views, other, share = self.mixed(batch)
        logits = self.head(self.backbone(views)).float()
        weights = self.class_weights if self.config.balance == "loss" else None
        smoothing = self.config.label_smoothing
        value = F.cross_entropy(logits, batch.labels, weight=weights, label_smoothing=smoothing)
        if other is not None:  # the weights of a batch have one sum in any order
            labels = batch.world.gather(batch.labels)[other]
            mixed = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
            if weights is not None and batch.world.size > 1:  # those of this rank's images have not
                mixed = mixed * (weights[labels].sum() / weights[batch.labels].sum())
            value = share * value + (1 - share) * mixed
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean().detach()
        weight = None if weights is None else weights[batch.labels].sum()
        return Loss(value, {"accuracy": accuracy}, weight=weight)

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """Loss and balanced accuracy on the validation images."""
        labels = scan.labels("val").cpu()
        if not len(labels):
            return {}
        logits = scan(self.logits(), "val").float().cpu()
        recalls = [(logits[labels == c].argmax(dim=1) == c).float().mean() for c in labels.unique()]
        return {
            "val_loss": F.cross_entropy(logits, labels).item(),
            "val_balanced_accuracy": torch.stack(recalls).mean().item(),
        }
