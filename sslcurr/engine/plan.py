"""From a command to stages: every value is filled in before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sslcurr.data.flaws import require_content
from sslcurr.data.order import num_steps
from sslcurr.engine.ancestry import Weights
from sslcurr.engine.answers import Answers
from sslcurr.engine.dataset import open_data, split_of, with_unlabelled
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError
from sslcurr.spec import settings
from sslcurr.spec.facts import Facts
from sslcurr.spec.request import Request
from sslcurr.spec.stage import BackboneSpec, DataSpec, LrSearch, StageSpec, Training, key_of
from sslcurr.spec.target import CLASSES, TARGET, TARGET_TASKS, TARGETS
from sslcurr.tasks import TASKS
from sslcurr.wording import short

# Images up to this side get ResNet-18 with the small stem, others the study's ResNet-50.
SMALL_IMAGE = 64
# Networks that have a stem for small images.
SMALL_STEMS = ("resnet", "vit", "deit")
IMAGENET_NORMALISATION = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}
FEWEST_TRAINING_IMAGES = 4
SEARCH = "search"


@dataclass(frozen=True, kw_only=True, slots=True)
class LrSearchSettings:
    """What `--set search.NAME=VALUE` can change of a search for learning rates: how many are tried, how they are drawn,
    and the share of the images and the epochs of a trial (0: 8 % but four batches at least; 40 steps, two epochs at
    least, and no more than the stage has)."""

    trials: int = 10
    draw: str = "log"
    fraction: float = 0.0
    epochs: int = 0


@dataclass(frozen=True)
class Parent:
    """Where a chain starts: a stage, a checkpoint file, or nothing."""

    key: str | None = None
    lineage: tuple[str, ...] = ()
    source: str = ""
    backbone: BackboneSpec | None = None
    image_size: int | None = None

    @property
    def named_weights(self) -> Weights | None:
        """The weights; None from scratch."""
        return None if self.key is None else Weights(self.key, self.source)


SCRATCH = Parent()


class Planner:
    """Resolves the request of one command against its data."""

    def __init__(
        self,
        request: Request,
        store: Store,
        tasks: Sequence[str],
        parent: Parent | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Check the settings, then find and pack the data.

        `parent` is where the first of `tasks` starts; its image size counts where the request has none.

        Raises:
            SpecError: settings that cannot be. DataError: data that is not there, cannot be read or shows nothing.
        """
        names = ("epochs", "batch_size", "lr", "precision", "freeze", "layer_decay")
        requested = {name: getattr(request, name) for name in names}
        Training(**{name: value for name, value in requested.items() if value not in (None, SEARCH)})
        self.request = request
        self.answers = store.answers
        self.parent = parent or SCRATCH
        targets = TARGET_TASKS if TARGET in tasks else ()
        self.settings = settings.parse(request.settings, [*(set(tasks) - {TARGET}), *targets, "data", SEARCH])
        # All mistakes that can be detected without the images are reported before they are decoded.
        for task in [section for section in self.settings if section in TASKS]:
            values = {name: value for name, value in self.settings[task].items() if (name, value) != ("lr", SEARCH)}
            self.answers.check_settings(task, values)
        self.data_settings = split_of(self.settings)
        if request.folds:
            self.data_settings = replace(self.data_settings, folds=request.folds)
        (self.search_settings,) = settings.apply(self.settings.get(SEARCH, {}), LrSearchSettings(), section=SEARCH)
        self._check_search()
        self.data = open_data(request, self.data_settings, store, self.parent.image_size, progress)
        if request.unlabelled and any(task not in TARGET_TASKS and task != TARGET for task in tasks):
            self.data = with_unlabelled(self.data, request, store, progress)
        if tasks:
            for pack in (self.data.pack, *self.data.unlabelled):
                require_content(pack)
        self.target = TARGETS[self.data.pack.target]
        if TARGET in tasks:
            self._check_target()
        self._selections: dict[tuple[bool, float], Selection] = {}
        self._folds: dict[int, Planner] = {}
        self._clear_plans()

    def requesting(self, **changes: Any) -> Planner:
        """This planner with other values of its request that concern neither data nor settings, such as `seed`."""
        name = repr(sorted(changes.items()))
        if name not in self._others:
            other = self._others[name] = copy.copy(self)
            other.request = replace(self.request, **changes)
            other._clear_plans()
        return self._others[name]

    def of_fold(self, number: int) -> Planner:
        """This planner where another fold of its cross-validation tests."""
        if number not in self._folds:
            other = self._folds[number] = copy.copy(self)
            other.data = replace(self.data, split=replace(self.data.split, fold=number))
            other.data_settings = other.data.split
            other._selections = {}
            other._clear_plans()
        return self._folds[number]

    def _clear_plans(self) -> None:
        """Begin without planned stages: they are of another request."""
        self._others: dict[str, Planner] = {}
        self._tasks: dict[tuple[str, BackboneSpec | None, bool, int | None], StageSpec] = {}
        self._stages: dict[tuple[str, Parent, int | None], StageSpec] = {}

    def _check_target(self) -> None:
        """Raise SpecError for settings of a target task that the data set has not."""
        other = next((name for name in self.settings if name in TARGET_TASKS and name != self.target.task), None)
        if other is not None and len(self.data.pack.classes):
            setting = next(iter(self.settings[other]))
            raise SpecError(
                f"--set {other}.{setting}: the labels of {self.data.pack.name} are {self.target.outputs}",
                f"give --set {self.target.task}.{setting}",
            )

    def named(self, task: str) -> str:
        """A task by its name; `TARGET` is that of the data set."""
        return self.target.task if task == TARGET else task

    def _check_search(self) -> None:
        """Raise SpecError for a search that cannot be, or for settings of one that is not requested."""
        search, request = self.search_settings, self.request
        low, high = request.lr_range or (1e-4, 0.6)
        LrSearch(low=low, high=high, trials=search.trials, draw=search.draw, pruner=request.lr_pruner or "none")
        for name in ("fraction", "epochs"):
            if getattr(search, name):
                LrSearch(low=low, high=high, **{name: getattr(search, name)})
        is_requested = request.lr == SEARCH or any(values.get("lr") == SEARCH for values in self.settings.values())
        idle = {
            "--lr-range": request.lr_range,
            "--lr-pruner": request.lr_pruner,
            "--set search": self.settings.get(SEARCH),
        }
        for option, value in idle.items():
            if value and not is_requested:
                raise SpecError(f"{option} is for a learning-rate search, and none is requested", "add --lr search")

    def selection(self, task: str) -> Selection:
        """The images of a task.

        Raises:
            DataError: too few of them, or no labels where the task needs them.
        """
        task = self.named(task)
        labelled = self.answers.is_labelled(task)
        fraction = self.request.label_fraction if labelled else self.request.fraction
        if (labelled, fraction) in self._selections:
            return self._selections[labelled, fraction]
        name = self.data.pack.name
        if labelled and not len(self.data.pack.classes):
            raise DataError(
                f"{name} has no labels, which {task} needs",
                "give one sub-folder a class or a table with a column label; chain --no-finetune only pretrains",
            )
        if labelled and task != self.target.task and len(self.data.pack.classes):
            raise DataError(
                f"{task} is not for {name}, whose labels are {self.target.outputs}",
                f"{self.target.task} is; --target says what labels are",
            )
        if labelled and self.target is CLASSES and len(self.data.pack.classes) < 2:
            raise DataError(f"{name} has one class only, {self.data.pack.classes[0]!r}", f"{task} needs two at least")
        selection = select(self._images(fraction, labelled=labelled), labelled=labelled, pack=self.data.pack)
        num_images = len(selection.rows["train"])
        if num_images < FEWEST_TRAINING_IMAGES:
            raise DataError(
                f"{task} has {num_images} training images of {name}, and needs {FEWEST_TRAINING_IMAGES}",
                "give more images or a larger fraction",
            )
        self._selections[labelled, fraction] = selection
        return selection

    def _images(self, fraction: float, *, labelled: bool) -> DataSpec:
        """The images of a stage that uses a share of the training images."""
        return self.data.spec(fraction) if labelled else self.data.pretext_spec(fraction)

    def backbone(self, parent: Parent) -> BackboneSpec:
        """The backbone of a chain: the parent's, or the requested one, or the one that fits the image size.

        Raises:
            SpecError: the request contradicts the parent.
        """
        request, inherited = self.request, parent.backbone
        if inherited is not None:
            for requested, has, option in (
                (request.backbone, inherited.name, "--backbone"),
                (request.stem, inherited.stem, "--stem"),
            ):
                if requested not in (None, has):
                    raise SpecError(f"the checkpoint holds a {has}, not a {requested}", f"leave out {option}")
            return inherited
        small = self.data.image_size <= SMALL_IMAGE
        name = request.backbone or ("resnet18" if small else "resnet50")
        is_small = small and name.startswith(SMALL_STEMS) and self.answers.can_have_stem(name, "small")
        stem = request.stem or ("small" if is_small else "imagenet")
        channels = self.data_settings.channels or self.data.channels
        if channels not in IMAGENET_NORMALISATION:
            raise SpecError(f"data.channels must be 1 or 3, got {channels}", "give --set data.channels=1")
        mean, std = IMAGENET_NORMALISATION[channels]
        return BackboneSpec(name=name, stem=stem, channels=channels, mean=mean, std=std)

    def backbone_at(self, image_size: int) -> BackboneSpec:
        """The network from scratch that images of another size would have.

        Raises:
            SpecError: the one that is asked for cannot see such images.
        """
        other = copy.copy(self)
        other.data = replace(self.data, image_size=image_size)
        backbone = other.backbone(SCRATCH)
        self.answers.check_backbone(backbone, [image_size])
        return backbone

    def facts(self, task: str, parent: Parent) -> Facts:
        """What a recipe needs to know."""
        selection = self.selection(task)
        return Facts(
            num_images=len(selection.rows["train"]),
            class_counts=selection.class_counts(),
            outputs=selection.num_outputs,
            image_size=self.data.image_size,
            channels=self.backbone(parent).channels,
            batch_size=self.request.batch_size,
            epochs=self.request.epochs or self.data.epochs.get(task),
            pretrained=parent.key is not None,
        )

    def stage(self, task: str, parent: Parent, epochs: int | None = None) -> StageSpec:
        """One stage, every value of it resolved; `epochs` counts before the request.

        Thousands of chains share most of their stages, and a task's values do not depend on which stage its parent is.
        """
        task = self.named(task)
        if (task, parent, epochs) not in self._stages:
            values_key = (task, parent.backbone, parent.key is None, epochs)
            if values_key not in self._tasks:
                self._tasks[values_key] = self._resolved(task, parent, epochs)
            self._stages[task, parent, epochs] = replace(
                self._tasks[values_key], parent=parent.key, lineage=parent.lineage, source=parent.source
            )
        return self._stages[task, parent, epochs]

    def _resolved(self, task: str, parent: Parent, epochs: int | None) -> StageSpec:
        request, labelled = self.request, self.answers.is_labelled(task)
        task_settings = dict(self.settings.get(task, {})) | ({} if epochs is None else {"epochs": str(epochs)})
        rate = task_settings.get("lr", request.lr)  # the setting of the task comes before --lr
        if task_settings.get("lr") == SEARCH:
            del task_settings["lr"]
        facts = self.facts(task, parent)
        # A recipe scales its other values by these two, so it must know them.
        for name in ("batch_size", "epochs"):
            if name in task_settings:
                facts = replace(facts, **{name: settings.convert_text(task_settings.pop(name), int, f"{task}.{name}")})
        changes: dict[str, Any] = {"precision": request.precision}
        if isinstance(request.lr, float):
            changes["lr"] = request.lr
        if labelled:
            asked = {name: getattr(request, name) for name in ("freeze", "layer_decay")}
            changes |= {name: value for name, value in asked.items() if value is not None}
        resolved = self.answers.resolved(task, facts, task_settings, changes)
        training = resolved.training
        if training.freeze != "none" or training.layer_decay < 1:
            self.answers.check_parts(self.backbone(parent), training.freeze)
        most = max(1, facts.num_images // num_steps(facts.num_images, training.batch_size) // 2)
        if training.accumulate > most:
            raise SpecError(
                f"a step of {task} has too few images for {training.accumulate} parts", f"give {task}.accumulate={most}"
            )
        return StageSpec(
            task=task,
            version=resolved.version,
            config=resolved.config,
            backbone=self.backbone(parent),
            data=self._images(request.label_fraction if labelled else request.fraction, labelled=labelled),
            training=training,
            seed=request.seed,
            parent=parent.key,
            lineage=parent.lineage,
            source=parent.source,
            search=self.search(task, training, facts, task_settings) if rate == SEARCH else None,
            corrections=resolved.corrections,
        )

    def again(self, stage: Stage) -> StageSpec:
        """A stage trained on, from its weights and with its settings; the request may have other epochs and rates."""
        spec, request = stage.spec, self.request
        training = replace(spec.training, lr=stage.record.lr or spec.training.lr, head_warmup=0.0)
        asked: dict[str, Any] = {"epochs": request.epochs, "lr": request.lr}
        training = replace(training, **{name: value for name, value in asked.items() if value is not None})
        keeps_head = spec.task in TARGET_TASKS
        return replace(
            spec, training=training, search=None, parent=stage.key, lineage=spec.tasks, source="", keeps_head=keeps_head
        )

    def search(self, task: str, training: Training, facts: Facts, task_settings: dict[str, str]) -> LrSearch:
        """How the learning rate of a stage is found; `task_settings` are those requested for its task."""
        request, requested, labelled = self.request, self.search_settings, self.answers.is_labelled(task)
        share = requested.fraction or max(0.08, min(1.0, 4 * training.batch_size / facts.num_images))
        part = (request.label_fraction if labelled else request.fraction) * share
        data = self._images(part, labelled=labelled)
        trial_images = select(data, labelled=labelled, pack=self.data.pack)
        num_images = len(trial_images.rows["train"])
        if num_images < FEWEST_TRAINING_IMAGES:
            raise SpecError(f"a trial of {task} would have {num_images} images", "give --set search.fraction=0.5")
        epochs = requested.epochs or min(training.epochs, max(2, -(-40 // num_steps(num_images, training.batch_size))))
        facts = replace(facts, num_images=num_images, class_counts=trial_images.class_counts())
        facts = replace(facts, batch_size=training.batch_size, epochs=training.epochs)
        low, high = request.lr_range or rates_around(training, pretrained=facts.pretrained)
        return LrSearch(
            low=low,
            high=high,
            trials=requested.trials,
            draw=requested.draw,
            fraction=share,
            epochs=epochs,
            pruner=request.lr_pruner or "none",
            config=self.answers.config(task, facts, task_settings),
        )

    def check_backbone(self, specs: Iterable[StageSpec]) -> None:
        """Raises SpecError where the network of some stages cannot see views as small as theirs."""
        sizes: dict[BackboneSpec, set[int]] = {}
        for spec in specs:
            sizes.setdefault(spec.backbone, set()).update(self.answers.input_sizes(spec.task, spec.config))
        for backbone, seen in sizes.items():
            self.answers.check_backbone(backbone, seen)

    def chain(self, tasks: Sequence[str], parent: Parent | None = None) -> list[StageSpec]:
        """The stages of `tasks`, each starting from the one before, the first from `parent` or the planner's own."""
        stages = []
        parent = self.parent if parent is None else parent
        for task in tasks:
            stage = self.stage(task, parent)
            stages.append(stage)
            parent = parent_of(stage)
        return stages


def rates_around(training: Training, *, pretrained: bool) -> tuple[float, float]:
    """The range of the learning-rate search, where the request gives none.

    The study's (arXiv 2112.12086): 0.01 to 0.6 from scratch, 0.0001 to 0.6 from trained weights, for SGD at 256 images.
    Rates of SGD and LARS go with the batch size, AdamW's are a hundredth at 256 images and go with its root. Widened
    where that leaves out a third or three times the recipe's learning rate.
    """
    low, high = (1e-4 if pretrained else 0.01), 0.6
    size = training.batch_size / 256
    factor = size**0.5 / 100 if training.optimizer == "adamw" else size
    return min(low * factor, training.lr / 3), max(high * factor, training.lr * 3)


def parent_of(stage: StageSpec) -> Parent:
    """A planned stage as the parent of the next."""
    return Parent(
        key=key_of(stage), lineage=stage.tasks, backbone=stage.backbone, image_size=stage.config["image_size"]
    )


# Settings of fine-tuning that are shown where they are not off.
TUNING: dict[str, object] = {"freeze": "none", "layer_decay": 1.0, "head_warmup": 0.0}


def described_search(search: LrSearch) -> str:
    """A learning-rate search, in a line."""
    pruner = "" if search.pruner == "none" else f", {search.pruner}"
    return (
        f"search ({search.trials} from {search.low:.3g} to {search.high:.3g}, {search.draw}, each "
        f"{search.epochs} epochs on {search.fraction:.0%} of the images{pruner})"
    )


def describe(spec: StageSpec, answers: Answers | None = None) -> dict[str, object]:
    """The resolved values that a person wants to see before a run, in order; what is off is left out."""
    training = spec.training
    idle = (answers or Answers()).idle(spec.task, spec.config)
    return {
        "backbone": spec.backbone.name + ("" if spec.backbone.stem == "imagenet" else f" ({spec.backbone.stem} stem)"),
        "optimizer": training.optimizer,
        "lr": training.lr if spec.search is None else described_search(spec.search),
        "weight decay": training.weight_decay,
        "epochs": training.epochs,
        "batch size": training.batch_size,
        **{name.replace("_", " "): value for name, off in TUNING.items() if (value := getattr(training, name)) != off},
        **{name: value for name, value in spec.config.items() if name not in idle},
    }


def resolved_settings(spec: StageSpec, answers: Answers | None = None) -> dict[str, str]:
    """The values of `describe` as text."""
    return {name: short(value) for name, value in describe(spec, answers).items()}
