"""DINO: a student learns the distribution a momentum (EMA) teacher gives to other crops (https://arxiv.org/abs/2104.14294)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslcurr.data.views.view import View
from sslcurr.spec.ranges import ranged
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import (
    Batch,
    Facts,
    Loss,
    Recipe,
    Task,
    Tick,
    full_precision,
    positive,
    scaled_sigma,
    share,
)
from sslcurr.tasks.embedding import (
    MultiCropConfig,
    collapse,
    crops_for,
    frozen_copy,
    move_towards,
    rising_momentum,
    small_momentum,
    small_training,
)
from sslcurr.tasks.swav import swapped_prediction


class DinoHead(nn.Module):
    """[N, dim] features -> [N, outputs] cosines with unit prototypes, by way of a bottleneck."""

    def __init__(self, dim: int, hidden: int, bottleneck: int, outputs: int, *, norms: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (dim, hidden):
            layers += [nn.Linear(before, hidden), *([nn.BatchNorm1d(hidden)] if norms else []), nn.GELU()]
        self.project = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        for part in self.project:
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        self.prototypes = nn.Parameter(torch.empty(outputs, bottleneck).uniform_(-1, 1) / bottleneck**0.5)

    def embed(self, features: Tensor) -> Tensor:
        """[N, dim] -> [N, bottleneck] unit vectors."""
        return F.normalize(self.project(features).float(), dim=1)

    def score(self, embeddings: Tensor, *, frozen: bool = False) -> Tensor:
        """[N, bottleneck] -> [N, outputs]; no gradient reaches the prototypes when they are `frozen`."""
        prototypes = self.prototypes.detach() if frozen else self.prototypes
        return embeddings @ F.normalize(prototypes.float(), dim=1).T


class DINO(Task):
    """Self-distillation: the targets are centred, sharpened outputs of a momentum (EMA) teacher on the large crops.

    The teacher is what the stage ends with, as in DINO's own evaluations: it is better than its student all along.
    """

    name = "dino"
    version = 2
    over_ranks = True
    summary = "learn the distribution a momentum teacher gives to another crop"
    paper = "https://arxiv.org/abs/2104.14294"
    collapses = True

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MultiCropConfig):
        """The values of DINO's own example for ResNet-50. Large crops differ as in BYOL.

        Attributes:
            hidden: Width of the two hidden layers of the head.
            bottleneck: Width of the embeddings that are compared with the prototypes.
            outputs: Prototypes, which are the entries of the distribution that is learnt. More make finer differences.
            head_norms: Whether the hidden layers of the head have batch norms.
            student_temperature: What the student's scores are divided by. A lower one makes its predictions sharper.
            teacher_temperature: What the teacher's scores are divided by once `teacher_warmup` is over. A lower one
                makes its targets sharper.
            first_teacher_temperature: What the teacher's scores are divided by at the first step.
            teacher_warmup: Epochs in which the teacher's temperature goes from the first one to the last one.
            center_momentum: Share of itself that the centre keeps at each step, which is taken off the teacher's
                scores.
            momentum: Share of its weights that the teacher keeps at the first step. It rises to 1 on a cosine.
            frozen_epochs: Epochs at the beginning in which the prototypes are not trained.
            hand_on: Whose backbone the stage ends with.
            blur: Probability that the first large crop is blurred by a Gaussian.
            second_blur: Probability that the second large crop is blurred by a Gaussian.
            small_blur: Probability that a small crop is blurred by a Gaussian.
            solarize: Probability that the first large crop and each small one are solarized: bright values are
                inverted.
            second_solarize: Probability that the second large crop is solarized: its bright values are inverted.
        """

        hidden: int = 2048
        bottleneck: int = 256
        outputs: int = 65536
        head_norms: bool = False
        student_temperature: float = positive(0.1)
        teacher_temperature: float = positive(0.04)
        first_teacher_temperature: float = positive(0.04)
        teacher_warmup: float = 0.0
        center_momentum: float = share(0.9)
        momentum: float = share(0.996)
        frozen_epochs: float = 1.0
        hand_on: Literal["teacher", "student"] = "teacher"
        num_small: int = ranged(8, 0, of_views=True)
        scale: tuple[float, float] = (0.14, 1.0)
        jitter: float = 0.8
        saturation: float = 0.2
        gray: float = 0.2
        blur: float = 1.0
        second_blur: float = share(0.1, of_views=True)
        second_solarize: float = share(0.2, of_views=True)
        small_blur: float = share(0.5, of_views=True)

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Config) -> None:
        super().__init__(backbone, dim, facts, config)
        self.head = DinoHead(dim, config.hidden, config.bottleneck, config.outputs, norms=config.head_norms)
        self.teacher_backbone = frozen_copy(backbone)
        self.teacher_head = frozen_copy(self.head)
        self.center: Tensor
        self.register_buffer("center", torch.zeros(config.outputs))

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """SGD 0.03 for 256 images, warm-up of 10 of 100 epochs, cosine to 1e-6, eight small crops, gradients clipped.

        On small data half as many outputs as images (64 to 4,096), a smaller head, and a faster teacher.
        """
        batch, epochs = facts.batch(256 if facts.small else 512), facts.epochs or (200 if facts.small else 100)
        config = cls.Config(
            **crops_for(facts.image_size),
            frozen_epochs=min(1.0, epochs / 10),
            second_solarize=0.0 if facts.channels == 1 else 0.2,
            blur_sigma=scaled_sigma(facts.image_size),
        )
        if facts.small:
            outputs = max(64, min(4096, facts.num_images // 2))
            momentum = small_momentum(facts.num_images, batch, epochs)
            config = replace(config, hidden=512, bottleneck=128, outputs=outputs, momentum=momentum)
            training = small_training(batch, epochs)
        else:
            lr = 0.03 * batch / 256
            training = Training(
                lr=lr,
                weight_decay=1e-4,
                warmup=min(10.0, epochs / 10),
                final_lr=1e-6 / lr,
                epochs=epochs,
                batch_size=batch,
            )
        return Recipe(config, replace(training, decay_norm_and_bias=False, clip_each=3.0))

    @classmethod
    def views(cls, config: Config) -> tuple[View, ...]:
        """Two large crops from different distributions, and the small ones."""
        second = config.view(blur=config.second_blur, solarize=config.second_solarize)
        return (config.view(), second, *config.small_views(blur=config.small_blur))

    def handed_on(self) -> nn.Module:
        """The teacher's backbone, or the student's."""
        return self.teacher_backbone if self.config.hand_on == "teacher" else self.backbone

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """Cross-entropy of the student on every crop with the teacher on every other large crop."""
        config = self.config
        # The two large crops have one size: one pass for them, one for the small ones.
        sizes = (torch.cat(batch.views[:2]), *batch.views[2:])
        with torch.no_grad():
            taught = self.teacher_head.embed(self.teacher_backbone(sizes[0]))
        features = torch.cat([self.backbone(crops) for crops in sizes])
        embeddings = self.head.embed(features)
        with full_precision(embeddings):
            frozen = tick.step < config.frozen_epochs * tick.steps_per_epoch
            student = self.head.score(embeddings, frozen=frozen)
            with torch.no_grad():
                teacher = self.teacher_head.score(taught)
                targets = F.softmax((teacher - self.center) / self._teacher_temperature(tick), dim=1)
            value = swapped_prediction(
                student, list(targets.chunk(2)), 2 + config.num_small, config.student_temperature
            )
            entropy = -(targets * targets.clamp_min(1e-12).log()).sum(dim=1).mean()
            first = batch.world.gather(embeddings[: len(batch.index)].detach())
        metrics = {"teacher_entropy": entropy, "feature_std": collapse(first)}
        return Loss(value, metrics, {"teacher": torch.stack(teacher.chunk(2)).mean(dim=0)})

    def _teacher_temperature(self, tick: Tick) -> float:
        """Linear from the first temperature to the last over `teacher_warmup` epochs."""
        config = self.config
        share = min(1.0, tick.step / max(1.0, config.teacher_warmup * tick.steps_per_epoch))
        first, last = config.first_teacher_temperature, config.teacher_temperature
        return float(first + (last - first) * share)

    @torch.no_grad()
    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """The teacher follows; its centre is a moving average of its outputs."""
        momentum = rising_momentum(self.config.momentum, tick)
        move_towards(self.teacher_backbone, self.backbone, momentum)
        move_towards(self.teacher_head, self.head, momentum)
        self.center.lerp_(out.keep["teacher"].mean(dim=0), 1.0 - self.config.center_momentum)
