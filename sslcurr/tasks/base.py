"""The contract between a task, which says what is learnt from a batch, and the engine, which says how.

A task owns its frozen `Config`, its recipe, its views, its heads and memories, and its loss. The engine owns the
optimizer, the schedule, precision, devices, reading and ordering of the data, random numbers, saving and logging.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from sslcurr.backbones.parts import freeze_parts
from sslcurr.data.views.view import View
from sslcurr.spec.facts import Facts as Facts
from sslcurr.spec.ranges import LARGEST_SIDE, check, ranged
from sslcurr.spec.stage import Training
from sslcurr.world import ALONE, World

VIEW_SETTINGS = {item.name for item in fields(View)}
# Of `Task.corrections`.
WEIGHTED_PARTS = ("parts of a step are divided by the weights of the whole step",)


class Tick(NamedTuple):
    """The time, as the engine gives it: tasks never count for themselves."""

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """The epoch of this step, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1)."""
        return self.step / self.total_steps


@dataclass(slots=True)
class Batch:
    """The input of a loss.

    Attributes:
        views: one tensor for each `View` of the task, [count * N, channels, size, size], crop-major:
            the first N rows are the first crop of every image.
        index: [N] place of each image in the stage's data, from 0.
        labels: [N] class numbers, -1 where there is none; of another kind of target [N, T] float32 values, 1 and 0 for
            labels or numbers, NaN where nothing is known.
        world: the ranks that have the other images of the batch, where several train together.
    """

    views: tuple[Tensor, ...]
    index: Tensor
    labels: Tensor
    world: World = ALONE


@dataclass(slots=True)
class Loss:
    """What a loss gives.

    Attributes:
        value: the scalar to go down.
        metrics: scalars to log, detached.
        keep: detached tensors for `after_step`, the first dimension being the images of the batch, so that
            the parts of an accumulated step can be joined.
        weight: the sum that `value` was divided by, a detached scalar, where `value` is a weighted mean. None: it is a
            mean over images. The parts of an accumulated step count by it, so that together they are divided by the
            weight of the whole step.
    """

    value: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    keep: dict[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None


class Scan(Protocol):
    """Features of a whole split: `scan(module, "train")` is [N, D] in data order, in evaluation mode."""

    def __call__(self, module: nn.Module, split: str = "train") -> Tensor:
        """Apply `module` to the fixed view of every image of the split."""

    def labels(self, split: str = "train") -> Tensor:
        """[N] class numbers of the split's images, or [N, T] values, as those of a `Batch`."""


def share(default: float, *, of_views: bool = False) -> Any:
    """A setting from 0 to 1."""
    return ranged(default, 0, 1, of_views=of_views)


def positive(default: float) -> Any:
    """A setting above 0."""
    return ranged(default, 0, above=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig:
    """Settings of a task's views, the base of its `Config`; the fields are those of `View`, which says what they mean.

    Attributes:
        image_size: Side of the views, in pixels. Time and memory of a step grow with its square.
    """

    image_size: int = ranged(224, 1, LARGEST_SIDE, of_views=True)
    scale: tuple[float, float] = (0.2, 1.0)
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    def __post_init__(self) -> None:
        """Raise SpecError for a number out of its range; `View` looks after its own."""
        check(self, leave_out=VIEW_SETTINGS)

    def view(self, **changes: Any) -> View:
        """The view of these settings, with `changes` such as `count` or `size`."""
        shared = VIEW_SETTINGS & {item.name for item in fields(self)}
        return View(**{"size": self.image_size, **{name: getattr(self, name) for name in shared}, **changes})

    def idle(self) -> set[str]:
        """Names of the settings that do nothing because what they are about is off."""
        off = {
            name
            for name in ("vertical_flip", "rotation", "jitter", "gray", "blur", "solarize")
            if not getattr(self, name)
        }
        if "jitter" in off:
            off |= {"brightness", "contrast", "saturation", "hue"}
        return off | ({"blur_sigma"} if "blur" in off else set())


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a part of a task is trained otherwise than the rest: factors on the stage's settings.

    Attributes:
        weight_decay, momentum: times those of the stage's training (AdamW's betas stay).
        scheduled: False keeps the learning rate at `lr` throughout.
    """

    weight_decay: float = 1.0
    momentum: float = 1.0
    scheduled: bool = True


@dataclass(frozen=True, slots=True)
class Recipe:
    """A task's settings for given data: its own and those of its training."""

    config: Any
    training: Training


class Task(nn.Module):
    """Base of all tasks. Parameters and persistent buffers hold all of its state, so that a resume is exact."""

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    paper: ClassVar[str]
    Config: ClassVar[type]
    # The epoch measure by which the best weights are kept; higher is better. None: the last weights count.
    monitor: ClassVar[str | None] = None
    # Whether the loss is also low when all embeddings are alike; the metric `feature_std` shows the difference.
    collapses: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    # What of an image's loss depends on the other images of the batch, apart from batch norms. A step in parts
    # (`accumulate`) differs in that from a step in one; where this is empty the two have the same gradient.
    coupling: ClassVar[str] = ""
    # Whether the task asks `Batch.world` wherever images of a batch meet or numbers are drawn for them, so that several
    # ranks can train it. It counts for the class that says so alone: one made of it may not.
    over_ranks: ClassVar[bool] = False

    def __init__(self, backbone: nn.Module, dim: int, facts: Facts, config: Any) -> None:
        """Build the heads on `backbone`, whose pooled features have `dim` channels."""
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.num_images = facts.num_images
        self.frozen: list[nn.Module] = []

    @classmethod
    def recipe(cls, facts: Facts) -> Recipe:
        """The paper's settings, scaled to the data."""
        raise NotImplementedError

    @classmethod
    def views(cls, config: Any) -> tuple[View, ...]:
        """Which views make a batch: one, as the config says, unless the task says otherwise."""
        view: View = config.view()
        return (view,)

    @classmethod
    def input_sizes(cls, config: Any) -> set[int]:
        """Sides, in pixels, of all that goes through the backbone, in training and outside of it."""
        return {view.size for view in (*cls.views(config), cls.fixed_view(config))}

    @classmethod
    def fixed_view(cls, config: Any) -> View:
        """The view of an image outside training: the largest centred square."""
        return View(size=config.image_size, crop="center")

    @classmethod
    def corrections(cls, config: Any, training: Training) -> tuple[str, ...]:
        """What was corrected since this version that concerns a stage of these settings: a part of its key."""
        return ()

    def handed_on(self) -> nn.Module:
        """The backbone that a stage of this task ends with, for the next one."""
        return self.backbone

    def rules(self) -> dict[str, Rule]:
        """Sub-modules, by name, that are trained otherwise than the rest."""
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """What the network is given of each image, for people: title -> [N, channels, size, size], with the labels
        that the task makes itself in the titles."""
        shown: dict[str, Tensor] = {}
        for views in batch.views:
            for view in views.split(len(batch.index)):
                shown[f"view {len(shown) + 1}"] = view
        return shown

    def freeze(self, freeze: str) -> None:
        """Leave a part of the backbone as it is, and of copies that follow it: see `Training.freeze`."""
        names = set(self.backbone.state_dict())
        for part in self.modules():
            if part is self.backbone or (type(part) is type(self.backbone) and set(part.state_dict()) == names):
                self.frozen += freeze_parts(part, freeze)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training; what is frozen stays in that of evaluation."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, batch: Batch, tick: Tick) -> Loss:
        """The loss; the engine calls it through here so that precision and devices apply."""
        return self.loss(batch, tick)

    def loss(self, batch: Batch, tick: Tick) -> Loss:
        """The loss of one batch. Changes no state but the running statistics of batch norms."""
        raise NotImplementedError

    def start(self, scan: Scan) -> None:
        """Once, before the first step (not after a resume)."""

    def before_step(self, tick: Tick) -> None:
        """Before the forward pass of each optimizer step."""

    def after_step(self, batch: Batch, out: Loss, tick: Tick) -> None:
        """After each optimizer step: momentum encoders, queues, memories. `out.keep` is that of the whole step."""

    def end_epoch(self, tick: Tick, scan: Scan) -> dict[str, float]:
        """After each epoch; what it returns is logged."""
        return {}

    def sampling_weights(self) -> Tensor | None:
        """[N] weights with which the next epoch draws its images with replacement; None: each image once."""
        return None


def full_precision(like: Tensor) -> torch.autocast:
    """A context without autocast on the device of `like`: losses are computed in float32."""
    return torch.autocast(like.device.type, enabled=False)


def scaled_sigma(image_size: int) -> tuple[float, float]:
    """The papers' blur of 0.1 to 2 pixels at 224 px, in pixels of a view of another size."""
    return (round(0.1 * image_size / 224, 4), round(2.0 * image_size / 224, 4))
