"""Classification: the target task. Fine-tuning is a stage like any other, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.spec.stage import Training
from sslcurr.tasks.base import WEIGHTED_PARTS, Batch, Facts, Loss, Recipe, Scan, Task, Tick, ViewConfig, share


class Classification(Task):
    """A linear layer on the backbone, all of it trained; the weights of the best validation epoch are kept."""

    name = "classification"
    version = 1
    summary = "name the class of an image (the target task)"
    paper = "https://arxiv.org/abs/2112.12086"
    monitor = "val_balanced_accuracy"
    labelled = True

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(ViewConfig):
        """Mild views. `balance`: rare classes weigh more in the `loss`, are drawn oftener (`sampling`), or `none`."""

        balance: Literal["loss", "sampling", "none"] = "loss"
        label_smoothing: float = share(0.0)
        dropout: float = share(0.0)
        scale: tuple[float, float] = (0.4, 1.0)
        jitter: float = 0.5
        brightness: float = 0.2
        contrast: float = 0.2
        saturation: float = 0.1
        hue: float = 0.02

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(dim, facts.num_classes))
        counts = torch.tensor(facts.class_counts, dtype=torch.float)
        self.class_weights: Tensor
        self.register_buffer("class_weights", counts.sum() / (len(counts) * counts))
        self.sample_weights: Tensor
        self.register_buffer("sample_weights", torch.ones(facts.num_images))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """AdamW 0.001 for 64 images, cosine after a short warm-up; stops after a quarter of its epochs without gain."""
        batch = facts.batch(128, steps=16)
        epochs = facts.epochs or (100 if facts.small else 30)
        return Recipe(
            cls.Config(image_size=facts.image_size),
            Training(
                optimizer="adamw",
                lr=1e-3 * (batch / 64) ** 0.5,
                weight_decay=0.05,
                decay_norm_and_bias=False,
                warmup=epochs / 20,
                epochs=epochs,
                batch_size=batch,
                patience=max(5, epochs // 4),
            ),
        )

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
        logits = self.head(self.backbone(batch.views[0])).float()
        weights = self.class_weights if self.config.balance == "loss" else None
        smoothing = self.config.label_smoothing
        value = F.cross_entropy(logits, batch.labels, weight=weights, label_smoothing=smoothing)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean().detach()
        weight = None if weights is None else weights[batch.labels].sum()
        return Loss(value, {"accuracy": accuracy}, weight=weight)

    def logits(self) -> nn.Module:
        """The module that gives [N, classes] logits of fixed views."""
        return nn.Sequential(self.backbone, self.head)

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
