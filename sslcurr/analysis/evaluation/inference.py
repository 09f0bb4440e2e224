"""Predictions and features of images that no pack holds: decoded, cropped and normalised as in the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import UnsetType
from numpy.typing import NDArray
from torch import Tensor, nn

from sslcurr.analysis.evaluation.classifier import (
    classes_of,
    classifier_of,
    evaluate,
    fixed_view_of,
    kept_report,
    predictions_of_outputs,
)
from sslcurr.analysis.evaluation.groups import seedless
from sslcurr.backbones.build import StageFeatures, stage_names
from sslcurr.backbones.export import Fitted
from sslcurr.backbones.exported import backbone_of, is_exported, read_exported
from sslcurr.backbones.layers import POOLED, not_finite
from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.stream import Block
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed, Scanner
from sslcurr.engine.dataset import packed_side
from sslcurr.engine.device import Placement, placement, tested_placement
from sslcurr.engine.models import Model
from sslcurr.engine.selection import Selection
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError
from sslcurr.spec.stage import KEY_SHOWN, BackboneSpec, StageSpec
from sslcurr.spec.target import REGRESSION, TARGET_TASKS, TARGETS, TargetKind
from sslcurr.tasks import config_of
from sslcurr.wording import arrow

SEEDS = "seeds"
HORIZONTAL, VERTICAL = "horizontal", "vertical"
DIMENSIONS = {HORIZONTAL: (3,), VERTICAL: (2,)}

Blocks = Callable[[int, int], Iterator[Block]]


# ---- fine-tuned models


@dataclass(frozen=True, eq=False)
class Predictor:
    """A fine-tuned model, ready for images.

    Attributes:
        title: what a person calls it.
        stage: the stage it is; None of an exported file.
        target: the kind of target.
        classes: names of its T outputs: classes, labels, or the number.
        backbone: how its input is normalised.
        view: the part of an image that it sees.
        pack_size: side to which images are squashed first, in pixels.
        channels: of the pack that it was trained on.
        flips: `horizontal`, `vertical`: those that it was trained with.
        temperature: by which outputs are divided for calibrated probabilities; None where it is not known.
        network: [N, C, H, W] to [N, T].
        where: the device and precision.
    """

    title: str
    stage: Stage | None
    target: TargetKind
    classes: tuple[str, ...]
    backbone: BackboneSpec
    view: View
    pack_size: int
    channels: int
    flips: tuple[str, ...]
    temperature: float | None
    network: nn.Module
    where: Placement

    def predictions(self, block: Block, *, calibrated: bool, flipped: bool) -> NDArray[np.float64]:
        """[N, T] probabilities of classes or labels, or numbers, of the images of a block.

        Args:
            block: images.
            calibrated: divide outputs by the temperature.
            flipped: the mean over the image and its mirror images, of those that the training saw.
        """
        temperature = 1.0
        if calibrated and self.target is not REGRESSION:
            assert self.temperature is not None
            temperature = self.temperature
        scan = Scanner(feed_of(block, self.backbone, self.where.device), self.view, self.where.autocast)
        shown = [()] if not flipped else self._mirrored()
        found = []
        for dimensions in shown:
            network = _Mirrored(self.network, dimensions) if dimensions else self.network
            outputs = scan(network, "test").double().cpu().numpy()
            found.append(predictions_of_outputs(outputs, self.target, temperature))
        return found[0] if len(found) == 1 else np.mean(found, axis=0)

    def _mirrored(self) -> list[tuple[int, ...]]:
        """The dimensions that are turned round, for the image itself and each of its mirror images."""
        shown: list[tuple[int, ...]] = [()]
        for name in self.flips:
            shown += [(*before, *DIMENSIONS[name]) for before in shown]
        return shown


class _Mirrored(nn.Module):
    """A network that is shown mirror images."""

    def __init__(self, network: nn.Module, dimensions: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.dimensions = dimensions

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] to what the network gives."""
        outputs: Tensor = self.network(images.flip(self.dimensions))
        return outputs


class _Foreign(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] to what the function gives."""
        return self.function(images)


def feed_of(block: Block, backbone: BackboneSpec, device: torch.device) -> Feed:
    """Batches of the images of a block, all of them in its split `test`."""
    return Feed(Selection(block.pack, {"test": np.arange(len(block.places))}), backbone, device)


def fine_tuned_stage(text: str, store: Store) -> Stage:
    """The fine-tuned stage that a person names: the beginning of its key, its folder or file, or a run with one.

    Raises:
        StoreError: there is none of that name.
        SpecError: it is not fine-tuned, or a run has several.
    """
    path = Path(text).expanduser()
    folder = path.parent if path.is_file() else path
    if (folder / "done.json").is_file() and (folder / "stage.json").is_file():
        stages = [Stage(folder.resolve().name, folder.resolve())]
    else:
        stages = [store.resolve(text)]
    stage = stages[0]
    if stage.spec.task not in TARGET_TASKS:
        raise SpecError(
            f"{arrow(stage.spec.tasks)} ({stage.key[:KEY_SHOWN]}) ends with a pretext task, and predicts nothing",
            f"fine-tune it first: sslcurr finetune {stage.key[:KEY_SHOWN]}; sslcurr embed gives its features",
        )
    return stage


def predictors_of(names: Sequence[str], store: Store, device: str, *, calibrated: bool) -> list[Predictor]:
    """Fine-tuned models by what a person calls them; `seeds` after the first stands for its chain's other seeds.

    Args:
        names: keys of stages, their folders, runs with one, or files that `sslcurr export` wrote.
        store: where the stages are.
        device: as `--device`.
        calibrated: whether temperatures are needed.

    Raises:
        SpecError, StoreError, CheckpointError: something among them is no such model, or they do not go together.
    """
    models: list[Predictor] = []
    for name in names:
        if name == SEEDS:
            if not models or models[0].stage is None:
                raise SpecError("--ensemble seeds is for a stage of the store", "name the other models one by one")
            stages = _other_seeds(models[0].stage, store)
        elif is_exported(Path(name)):
            models.append(_exported(Path(name), device))
            continue
        else:
            stages = [fine_tuned_stage(name, store)]
        models += [_of_stage(stage, store, device, calibrated=calibrated) for stage in stages]
    first = models[0]
    for other in models[1:]:
        if (other.target, other.classes) != (first.target, first.classes):
            raise SpecError(
                f"{other.title} predicts {_shown(other)}, and {first.title} {_shown(first)}",
                "average models of the same classes",
            )
    if calibrated:
        _check_calibration(models)
    return models


def _shown(model: Predictor) -> str:
    return f"{model.target.outputs} {', '.join(model.classes[:3])}{', ...' if len(model.classes) > 3 else ''}"


def _check_calibration(models: Sequence[Predictor]) -> None:
    if models[0].target is REGRESSION:
        raise SpecError("--calibrated is for probabilities, and the model predicts a number", "leave out --calibrated")
    lacking = next((model for model in models if model.temperature is None), None)
    if lacking is not None:
        raise SpecError(
            f"no temperature is known of {lacking.title}: there were no validation images beside the reported ones",
            "leave out --calibrated, or fine-tune with data.val above 0",
        )


def _other_seeds(stage: Stage, store: Store) -> list[Stage]:
    """The fine-tuned stages of a store that differ from one by their seeds alone.

    Raises:
        SpecError: there are none.
    """
    own, spec = seedless(stage, store), stage.spec
    found = {
        other.spec.seed: other
        for other in store.readable()
        if other.spec.task == spec.task and other.spec.seed != spec.seed and seedless(other, store) == own
    }
    if not found:
        raise SpecError(
            f"the store has no other seed of {arrow(spec.tasks)} ({stage.key[:KEY_SHOWN]})",
            "train some: the same command with --seed 1, or rank --seeds 3",
        )
    return [found[seed] for seed in sorted(found)]


def _of_stage(stage: Stage, store: Store, device: str, *, calibrated: bool) -> Predictor:
    spec = stage.spec
    where = tested_placement(device, spec.training.precision)
    _, network = classifier_of(stage, spec)
    fitted = fitted_of(stage, store)
    temperature = fitted.temperature
    if calibrated and temperature is None and TARGETS[fitted.target] is not REGRESSION:
        temperature = _temperature(evaluate(stage, spec, store, device)[0])
    return Predictor(
        title=f"{arrow(spec.tasks)}, seed {spec.seed} ({stage.key[:KEY_SHOWN]})",
        stage=stage,
        target=TARGETS[fitted.target],
        classes=fitted.classes,
        backbone=spec.backbone,
        view=fixed_view_of(spec),
        pack_size=fitted.pack_size,
        channels=_channels(spec),
        flips=fitted.flips,
        temperature=temperature,
        network=network.to(where.device),
        where=where,
    )


def _temperature(report: Any) -> float | None:
    calibration = report.calibration
    return None if isinstance(calibration, UnsetType) else calibration.temperature


def _channels(spec: StageSpec) -> int:
    """Channels of the pack that a stage was trained on; 1 where it is gone: images in colour have 3 in any case."""
    pack = own_pack(spec)
    return 1 if pack is None else pack.channels


def own_pack(spec: StageSpec) -> Pack | None:
    """The packed images that a stage was trained on; None where they are gone."""
    try:
        return load_pack(Path(spec.data.pack))
    except DataError:
        return None


def fitted_of(stage: Stage, store: Store) -> Fitted:
    """What is known of a fine-tuned stage beside its network; the temperature where its test report is in the store."""
    spec = stage.spec
    report, config = kept_report(stage, spec, store), config_of(spec)
    flips = [(HORIZONTAL, config.horizontal_flip), (VERTICAL, config.vertical_flip)]
    return Fitted(
        classes=classes_of(stage),
        pack_size=spec.data.pack_size,
        target=TARGET_TASKS[spec.task].name,
        flips=tuple(name for name, share in flips if share > 0),
        temperature=None if report is None else _temperature(report),
    )


def _exported(path: Path, device: str) -> Predictor:
    where = placement(device, "32")
    network, about = read_exported(path, where.device)
    return Predictor(
        title=str(path),
        stage=None,
        target=TARGETS[about.target],
        classes=tuple(about.classes),
        backbone=backbone_of(vars(about)),
        view=View(size=about.image_size, crop="center"),
        pack_size=about.pack_size,
        channels=1,
        flips=tuple(about.flips),
        temperature=about.temperature,
        network=network if isinstance(network, nn.Module) else _Foreign(network),
        where=where,
    )


def predicted(
    models: Sequence[Predictor], blocks: Blocks, *, calibrated: bool, flipped: bool
) -> Iterator[tuple[Block, NDArray[np.float64]]]:
    """Blocks of images with their predictions, [n, T]: means over the models.

    Args:
        models: one or more.
        blocks: gives the blocks of all images at a side in pixels, with so many channels at least.
        calibrated, flipped: as `Predictor.predictions`.
    """
    kinds = list(dict.fromkeys((model.pack_size, model.channels) for model in models))
    for same in zip(*(blocks(*kind) for kind in kinds), strict=True):
        by_kind = dict(zip(kinds, same, strict=True))
        if not len(same[0].places):
            yield same[0], np.empty((0, len(models[0].classes)))
            continue
        found = [
            model.predictions(by_kind[model.pack_size, model.channels], calibrated=calibrated, flipped=flipped)
            for model in models
        ]
        yield same[0], found[0] if len(found) == 1 else np.mean(found, axis=0)


# ---- features


@dataclass(frozen=True, eq=False)
class Embedder:
    """A backbone at one layer, ready for images.

    Attributes:
        model: the backbone with its weights.
        layer: `pooled`, or a stage of the network, average-pooled.
        image_size: side of the views, in pixels.
        pack_size: side to which images are squashed first, in pixels.
        channels: of the pack that it was trained on.
        num_features: D.
        module: [N, C, H, W] to [N, D].
        where: the device.
    """

    model: Model
    layer: str
    image_size: int
    pack_size: int
    channels: int
    num_features: int
    module: nn.Module
    where: Placement

    def features(self, block: Block) -> NDArray[np.float32]:
        """[N, D] features of the images of a block.

        Raises:
            SpecError: they are not finite.
        """
        scan = Scanner(
            feed_of(block, self.model.backbone, self.where.device), View(size=self.image_size, crop="center")
        )
        found = scan(self.module, "test").float().cpu().numpy()
        if not np.isfinite(found).all():
            raise not_finite(self.model.title, self.layer)
        return np.asarray(found, dtype=np.float32)


def embedder_of(model: Model, layer: str, device: str, image_size: int | None) -> Embedder:
    """A model at a layer.

    Args:
        model: any checkpoint.
        layer: `pooled` or the name of a stage of its network.
        device: as `--device`.
        image_size: side of the views in pixels; None is that of its training, or 224.

    Raises:
        SpecError: the network has no such layer.
    """
    network = model.network()
    names = [*stage_names(network), POOLED]
    if layer not in names:
        raise SpecError(
            f"{model.title} ({model.backbone.name}) has no layer {layer!r}", f"there are {', '.join(names)}"
        )
    where = placement(device, "32")
    size = image_size or model.image_size or 224
    spec = None if model.stage is None else model.stage.spec
    same = spec is not None and size == model.image_size
    module = StageFeatures(network.to(where.device), [layer]).eval()
    with torch.inference_mode():
        example = module(torch.zeros(1, model.backbone.channels, size, size, device=where.device))
    return Embedder(
        model=model,
        layer=layer,
        image_size=size,
        pack_size=spec.data.pack_size if spec is not None and same else packed_side(size),
        channels=1 if spec is None else _channels(spec),
        num_features=example.shape[1],
        module=module,
        where=where,
    )
