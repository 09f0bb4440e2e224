"""What a stage is: a frozen value, complete before anything runs, and the key that finds it in the store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from sslcurr.errors import SpecError
from sslcurr.spec.ranges import check, chosen, in_range, one_of, ranged
from sslcurr.wording import arrow

# Plain JSON values whose names are not ours: settings of a task, a document within a document, names of layers.
Json = dict[str, Any]
Part = TypeVar("Part")
# Raise it only when the meaning of every key changes: all finished stages are lost to reuse by it.
KEY_FORMAT = 1
# Characters of a key in messages.
KEY_SHOWN = 8
OPTIMIZERS = ("sgd", "lars", "adamw")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("auto", "32", "bf16")
STEMS = ("imagenet", "small", "cifar")
DRAWS = ("log", "uniform")
# Parts of a backbone that are not trained; a whole number is the stem and so many stages.
FREEZES = ("none", "stem", "all")
PRUNERS = ("none", "asha", "hyperband")


def unhashed(default: Any) -> Any:
    """A field that says where or how, not what: it is no part of the key."""
    return field(default=default, metadata={"hashed": False})


def later(as_before: Any) -> Any:
    """A field added after stages were trained: at the value that means "as before" it is no part of the key."""
    return field(default=as_before, metadata={"as_before": as_before})


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec:
    """A timm network without its classifier.

    Attributes:
        name: the name timm knows it by.
        stem: `imagenet` (timm's own); for small images of ResNets `small` (3 x 3 convolution of stride 2, no pooling)
            and `cifar` (the same with stride 1), of vision transformers patches of a quarter or an eighth of the side.
        channels: input channels, 1 or 3.
        mean, std: normalisation of an input in [0, 1], one number a channel.
    """

    name: str
    stem: str = "imagenet"
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        one_of("stem", self.stem, STEMS)
        if self.channels not in (1, 3) or len(self.mean) != self.channels or len(self.std) != self.channels:
            raise SpecError(
                f"a backbone needs 1 or 3 input channels and as many means and deviations, got {self.channels}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Which images a stage uses. The fingerprint is of the contents; where they lie is not part of it.

    Attributes:
        fingerprint: sha256 over the contents, labels, groups and given splits of the whole data set.
        pack_size: side of the packed images, in pixels.
        val, test, split_seed: shares and seed of the split.
        fraction: share of the training images that is used, a nested stratified subset.
        folds, fold: of a cross-validation: how many parts the images are divided in, and which one tests; 0 folds are
            none.
        unlabelled: fingerprints of further data sets, sorted, whose images are training images too: without those that
            the first data set has itself, and each once.
        name: of the data set.
        pack: the folder of the packed images.
        unlabelled_packs: those of the further data sets.
        request: how the images were asked for, to find them again: the fields of a `Request` that say so.
    """

    fingerprint: str
    pack_size: int
    val: float = 0.15
    test: float = 0.2
    split_seed: int = 0
    fraction: float = 1.0
    folds: int = later(0)
    fold: int = later(0)
    unlabelled: tuple[str, ...] = later(())
    name: str = unhashed("")
    pack: str = unhashed("")
    unlabelled_packs: tuple[str, ...] = unhashed(())
    request: Json = field(default_factory=dict, compare=False, metadata={"hashed": False})

    def __post_init__(self) -> None:
        in_range("fraction", self.fraction, 0, 1, above=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a stage is trained.

    `lars` is https://arxiv.org/abs/1708.03888, `layer_decay` that of BEiT (https://arxiv.org/abs/2106.08254) with the
    layers of timm, `head_warmup` is https://arxiv.org/abs/2202.10054. Norms of a part that `freeze` names keep their
    statistics.

    Attributes:
        optimizer: `sgd`; `lars`, whose steps are in proportion to the norm of each weight, for large batches; or
            `adamw`.
        lr: Peak learning rate, for the batch size as it stands. A larger one learns faster until training diverges.
        momentum: Share of the last step that goes into the next one, of SGD and LARS.
        nesterov: Whether the momentum of SGD and LARS looks one step ahead.
        weight_decay: How strongly each step pulls weights to 0, times the learning rate. A larger one keeps them
            smaller.
        decay_norm_and_bias: Whether weight decay, and the scaling of LARS, also apply to biases and normalisation
            layers.
        schedule: Course of the learning rate: `cosine` to `final_lr`, `step` (times `step_factor` at each of
            `milestones`) or `constant`.
        milestones: Where the schedule `step` lowers the learning rate, as shares of the training.
        step_factor: What the schedule `step` multiplies the learning rate by at each of `milestones`.
        warmup: Epochs at the beginning in which the learning rate rises linearly to `lr`.
        warmup_start: Where the warm-up begins, as a share of `lr`.
        final_lr: Where the schedule `cosine` ends, as a share of `lr`.
        epochs: Passes over the training images. Time grows in proportion.
        batch_size: Images of a step of the optimizer, over all its `accumulate` parts. A larger one needs more memory.
        accumulate: Parts of a step that go through the network one after the other. More need less memory.
        clip: Largest norm of the gradient of all weights together, to which longer ones are shortened. 0 is no limit.
        patience: Epochs without a better validation measure after which a task that has one stops. 0 is never.
        precision: Arithmetic of the network: float32 (`32`), bfloat16, or `auto`, which is bf16 on GPUs that have it.
        norm_and_bias_lr: Learning rate of biases and normalisation layers, as a share of `lr`.
        clip_each: Largest norm of the gradient of each weight tensor, to which longer ones are shortened. 0 is no
            limit.
        freeze: Part of the backbone that is not trained: `none`, its `stem`, a number (the stem and so many stages) or
            `all`.
        layer_decay: Learning rate of each layer of the backbone, as a share of that of the layer behind it.
        head_warmup: Epochs at the beginning in which the backbone is not trained, only what is on it.
    """

    optimizer: str = chosen("sgd", OPTIMIZERS)
    lr: float = ranged(0.03, 0, above=True)
    momentum: float = ranged(0.9, 0, 0.99999)
    nesterov: bool = False
    weight_decay: float = ranged(1e-4, 0)
    decay_norm_and_bias: bool = True
    schedule: str = chosen("cosine", SCHEDULES)
    milestones: tuple[float, ...] = ranged((), 0, 1, above=True)
    step_factor: float = ranged(0.1, 0, above=True)
    warmup: float = ranged(0.0, 0)
    warmup_start: float = ranged(0.001, 0)
    final_lr: float = ranged(0.0, 0, 1)
    epochs: int = ranged(200, 1)
    # Batches of an epoch are of equal size, so from 4 on none is ever of a single image, which batch norm refuses.
    batch_size: int = ranged(256, 4)
    accumulate: int = ranged(1, 1)
    clip: float = ranged(0.0, 0)
    patience: int = ranged(0, 0)
    precision: str = chosen("auto", PRECISIONS)
    norm_and_bias_lr: float = ranged(1.0, 0, added=True)
    clip_each: float = ranged(0.0, 0, added=True)
    freeze: str = later("none")
    layer_decay: float = ranged(1.0, 0, 1, above=True, added=True)
    head_warmup: float = ranged(0.0, 0, added=True)

    def __post_init__(self) -> None:
        check(self)
        in_range("accumulate", self.accumulate, 1, self.batch_size // 4)
        if self.head_warmup >= self.epochs:
            raise SpecError(
                f"head_warmup of {self.head_warmup:g} epochs leaves none of {self.epochs} for the backbone",
                "give fewer, or freeze=all, which trains the head alone",
            )
        if not self.freeze.isdigit():
            one_of("freeze", self.freeze, FREEZES)
        elif not int(self.freeze):
            object.__setattr__(self, "freeze", "stem")  # the same, under one key


@dataclass(frozen=True, kw_only=True, slots=True)
class LrSearch:
    """How a stage finds its learning rate before it is trained: random learning rates, each tried on fewer images.

    Attributes:
        low, high: the range of the learning rates.
        trials: how many learning rates are tried.
        draw: `log` (uniform in the logarithm) or `uniform`.
        fraction: share of the stage's training images that a trial uses, a nested stratified subset.
        epochs: epochs of a trial.
        pruner: `none`, `asha` (https://arxiv.org/abs/1810.05934) or `hyperband` (https://arxiv.org/abs/1603.06560)
            stops bad trials early.
        config: the task's settings for that many images.
    """

    low: float
    high: float
    trials: int = 10
    draw: str = "log"
    fraction: float = 0.08
    epochs: int = 5
    pruner: str = "none"
    config: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        in_range("the lowest learning rate", self.low, 0, above=True)
        if not self.low < self.high < math.inf:
            raise SpecError(
                f"the range of learning rates must rise, got {self.low:g} to {self.high:g}",
                "give --lr-range 0.001,0.6",
            )
        in_range("search.trials", self.trials, 1)
        in_range("search.fraction", self.fraction, 0, 1, above=True)
        in_range("search.epochs", self.epochs, 1)
        one_of("search.draw", self.draw, DRAWS)
        one_of("pruner", self.pruner, PRUNERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpec:
    """One training of one task from one parent: all that decides its result.

    Attributes:
        parent: key of the stage it starts from, `sha256:...` of a checkpoint file, or None for scratch.
        lineage: the tasks the parent's weights went through, oldest first (known from the parent; not hashed).
        source: the checkpoint file to start from when `parent` is one (not hashed).
        search: how the learning rate is found; `training.lr` is then only the recipe's. The settings of the search
            are part of the identity, and its result is not.
        corrections: what was corrected in the arithmetic since the first stages of this task's version were trained,
            of that which changes the results of these settings.
        keeps_head: whether it goes on with the last layer of its parent, a stage of the same target task.
    """

    task: str
    version: int
    config: Json
    backbone: BackboneSpec
    data: DataSpec
    training: Training
    seed: int = 0
    parent: str | None = None
    lineage: tuple[str, ...] = unhashed(())
    source: str = unhashed("")
    search: LrSearch | None = field(default=None, metadata={"as_before": None})
    corrections: tuple[str, ...] = later(())
    keeps_head: bool = later(False)
    _key: str = field(default="", init=False, repr=False, compare=False, metadata={"hashed": False, "stored": False})

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks its weights have gone through once it is trained."""
        return (*self.lineage, self.task)

    @property
    def title(self) -> str:
        """What progress calls it: its tasks and its seed."""
        return f"{arrow(self.tasks)}, seed {self.seed}"


def is_hashed(item: dataclasses.Field[Any], content: Any) -> bool:
    """Whether a field with this content is part of the request, and so of the key."""
    as_before = "as_before" in item.metadata and content == item.metadata["as_before"]
    return item.metadata.get("hashed", True) and not as_before


def to_dict(value: Any, *, for_key: bool = False) -> Any:
    """A spec as plain JSON values; `for_key` leaves out what is no part of the identity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_dict(getattr(value, item.name), for_key=for_key)
            for item in dataclasses.fields(value)
            if (is_hashed(item, getattr(value, item.name)) if for_key else item.metadata.get("stored", True))
        }
    if isinstance(value, dict):
        return {str(name): to_dict(content, for_key=for_key) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(content, for_key=for_key) for content in value]
    return value


def plain_stage(spec: StageSpec) -> Json:
    """A whole stage as `to_dict` gives it; parts that thousands of stages share are one object, not to be changed."""
    return {
        item.name: _plain_of_same(_Same(getattr(spec, item.name)))
        for item in dataclasses.fields(spec)
        if item.metadata.get("stored", True)
    }


def stage_from_dict(record: Json) -> StageSpec:
    """The inverse of `to_dict` for a whole stage, as read from `stage.json`."""
    values = dict(record)
    values["backbone"] = part_from_dict(BackboneSpec, values["backbone"])
    values["data"] = part_from_dict(DataSpec, values["data"])
    values["training"] = part_from_dict(Training, values["training"])
    for name in ("lineage", "corrections"):
        values[name] = tuple(values.get(name, ()))
    if values.get("search") is not None:
        values["search"] = part_from_dict(LrSearch, values["search"])
    return StageSpec(**values)


def part_from_dict(kind: type[Part], values: Json) -> Part:
    """The inverse of `to_dict` for a part of a stage: its backbone, data, training or search."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def hash_of(value: Any) -> str:
    """sha256 (hex) of a spec or of plain JSON values, the same on every machine."""
    return hashlib.sha256(f"sslcurr {KEY_FORMAT}\n{_hashed_text(value)}".encode()).hexdigest()


def key_of(spec: StageSpec) -> str:
    """The key of a stage: 16 hexadecimal characters of the hash of its settings."""
    if not spec._key:
        object.__setattr__(spec, "_key", hash_of(spec)[:16])
    return spec._key


class _Same:
    """A value that is looked up by being the same object: equal ones may be written differently (1 and 1.0)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _hashed_text(value: Any) -> str:
    """What is hashed of a value: JSON with sorted names. Of a stage, field by field: thousands share most of them."""
    if not isinstance(value, StageSpec):
        return _json(to_dict(value, for_key=True))
    fields = sorted(dataclasses.fields(value), key=lambda item: item.name)
    texts = []
    for item in fields:
        content = getattr(value, item.name)
        if is_hashed(item, content):
            shared = isinstance(content, (BackboneSpec, DataSpec, Training))
            texts.append(f'"{item.name}":{_text_of_same(_Same(content)) if shared else _hashed_text(content)}')
    return f"{{{','.join(texts)}}}"


def _json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=256)
def _text_of_same(same: _Same) -> str:
    return _hashed_text(same.value)


@lru_cache(maxsize=1024)
def _plain_of_same(same: _Same) -> Any:
    return to_dict(same.value)
