"""How much of a fine-tuned model's attention lies inside masks: class activation maps of images, measured and drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslcurr.analysis.evaluation.cam import CAM_METHODS, class_maps, enlarged
from sslcurr.analysis.evaluation.classifier import classes_of, classifier_of, fixed_view_of, report_job
from sslcurr.analysis.evaluation.masks import ImageMasks, kept_masks
from sslcurr.analysis.measures import attention
from sslcurr.analysis.results.document import Json, Part
from sslcurr.analysis.results.estimate import Estimate, ReportAttention
from sslcurr.analysis.sheets import overlays
from sslcurr.analysis.sheets.drawing import in_bytes
from sslcurr.backbones.build import as_map, stage_names
from sslcurr.backbones.layers import Taps
from sslcurr.data.pack import load_pack
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.device import placement
from sslcurr.engine.graph import Job
from sslcurr.engine.selection import Selection
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError, did_you_mean
from sslcurr.files import read_as, write_whole
from sslcurr.integrity import sound
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec, hash_of, key_of
from sslcurr.spec.target import CLASSES
from sslcurr.spec.target import TARGETS as KINDS

ATTENTION = "attention"
# Raised when the same weights, images and masks give other numbers.
VERSION = 1
TARGETS = ("predicted", "label")
BATCH_SIZE = 64
# Coarser maps say little of where; small images have none finer in the last stage.
FEWEST_CELLS = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AttentionSettings:
    """How attention is measured.

    Attributes:
        method: one of `cam.CAM_METHODS`.
        target: the class whose map is taken: the one that is `predicted`, or the image's `label`.
        layer: the layer whose maps are weighted; empty is the last stage with maps of `FEWEST_CELLS` a side.
        image_size: side of the views, in pixels; 0 is that of the training.

    Raises SpecError for a method or a target that cannot be.
    """

    method: str = "gradcam"
    target: str = "predicted"
    layer: str = ""
    image_size: int = 0

    def __post_init__(self) -> None:
        for name, value, names in (("method", self.method, CAM_METHODS), ("target", self.target, TARGETS)):
            if value not in names:
                raise SpecError(f"--{name} cannot be {value!r}", did_you_mean(value, names))


@dataclass(frozen=True, eq=False)
class ModelAttention:
    """The attention of one model, image by image; all arrays are [N], in the order of the rows of the masks.

    Attributes:
        inside, pointing, coverage: as the functions of `measures.attention`; NaN where a map is zero everywhere.
        predicted: class numbers.
        groups: of the images; None where nothing is known.
        layer: whose maps they are, `map_size` high and wide.
        folder: of the analysis, with `images.csv` and `maps.npy`.
    """

    inside: NDArray[np.float64]
    pointing: NDArray[np.float64]
    coverage: NDArray[np.float64]
    predicted: NDArray[np.int64]
    groups: NDArray[np.integer] | None
    layer: str
    map_size: tuple[int, int]
    folder: Path


class KeptAttention(Part, frozen=True, kw_only=True):
    """What the store keeps of the attention of a model beside its arrays.

    Attributes:
        layer: whose maps they are.
        map_size: their height and width, in cells.
        num_images: with a mask.
        view_size: side of the views, in pixels.
    """

    layer: str
    map_size: tuple[int, int]
    num_images: int
    view_size: int


def measure_attention(
    stage: Stage,
    spec: StageSpec,
    masks: ImageMasks,
    settings: AttentionSettings,
    store: Store,
    device: str,
    progress: Progress | None = None,
) -> ModelAttention:
    """The attention of a fine-tuned stage in the images that have a mask; computed once, then read.

    Args:
        stage, spec: what was fine-tuned.
        masks: of the images that it is shown, whichever data set they are of.
        settings: how.
        store: keeps it.
        device: as `--device`.
        progress: called with the number of images done and of all.

    Raises:
        SpecError: there is no such layer, or labels are asked for that the model does not know.
    """
    pack = masks.pack
    classes = _names_of(stage, spec, masks)
    if settings.target == "label" and pack.target != CLASSES.name:
        raise SpecError(
            f"the labels of {pack.name} are {KINDS[pack.target].outputs}, and --target label is for classes",
            "leave out --target label",
        )
    if settings.target == "label" and tuple(pack.classes) != classes:
        raise SpecError(
            f"{pack.name} has other classes than {stage.key} was fine-tuned for", "leave out --target label"
        )
    folder = store.analysis(
        ATTENTION,
        _inputs(stage, masks, settings),
        lambda part: _measure(stage, spec, masks, settings, classes, device, progress, part).to_json(),
    )
    kept, arrays = read_as(folder / "done.json", KeptAttention), np.load(sound(folder / "images.npz"))
    return ModelAttention(**dict(arrays), groups=masks.groups, layer=kept.layer, map_size=kept.map_size, folder=folder)


def _inputs(stage: Stage, masks: ImageMasks, settings: AttentionSettings) -> Json:
    return {
        "version": VERSION,
        "stage": stage.key,
        "weights": stage.record.weights_sha256,
        "images": masks.pack.fingerprint,
        "pack_size": masks.pack.size,
        "masks": masks.digest,
        **asdict(settings),
    }


class AttentionWork:
    """The attention of a fine-tuned stage: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether it is in the store."""
        stage, masks, settings = _arguments(job, store)
        return store.has_analysis(ATTENTION, _inputs(stage, masks, settings))

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Measure it."""
        stage, masks, settings = _arguments(job, store)
        measure_attention(stage, stage.spec, masks, settings, store, runtime.device)


def _arguments(job: Job, store: Store) -> tuple[Stage, ImageMasks, AttentionSettings]:
    values = job.arguments
    stage = store.stage(values["stage"])
    masks = kept_masks(store.analyses / values["masks"], load_pack(store.packs / values["pack"]))
    return stage, masks, AttentionSettings(**values["settings"])


def attention_job(spec: StageSpec, masks: ImageMasks, settings: AttentionSettings) -> Job | None:
    """The attention of a fine-tuned stage as a job; None for masks of a version that did not keep whose they are.

    Args:
        spec: the stage.
        masks: of the images that it is shown, in the store.
        settings: how.
    """
    if not (masks.folder / "rows.npy").is_file():
        return None
    arguments = {
        "stage": key_of(spec),
        "masks": masks.folder.name,
        "pack": masks.pack.folder.name,
        "settings": asdict(settings),
    }
    return Job(
        name=f"attention {hash_of(arguments)[:16]}",
        kind="attention",
        title=f"{spec.title}: attention",
        arguments=arguments,
        needs=(key_of(spec),),
        cost=float(len(masks.rows)),
    )


def measuring_jobs(
    spec: StageSpec, num_images: int, masks: ImageMasks | None, settings: AttentionSettings
) -> list[Job]:
    """What is measured of a fine-tuned stage as jobs: its test report, and its attention where masks are known.

    Args:
        spec: the stage.
        num_images: that are reported.
        masks: of these images, in the store.
        settings: how attention is measured.
    """
    attended = None if masks is None else attention_job(spec, masks, settings)
    return [report_job(spec, num_images), *([] if attended is None else [attended])]


def _names_of(stage: Stage, spec: StageSpec, masks: ImageMasks) -> tuple[str, ...]:
    """The names of a stage's classes; none where nobody knows them any more."""
    if spec.data.fingerprint == masks.pack.fingerprint:
        return tuple(masks.pack.classes)
    try:
        return tuple(load_pack(Path(spec.data.pack)).classes)
    except DataError:  # it is gone
        return classes_of(stage) if isinstance(stage.record.classes, list) else ()


def finest_needed(backbone: nn.Module, channels: int, size: int) -> str:
    """The last stage whose maps have `FEWEST_CELLS` a side or more for views of `size` pixels; else the first stage."""
    sides: dict[str, int] = {}

    def note_side(name: str, output: torch.Tensor, again: bool) -> None:
        sides[name] = min(as_map(backbone, output).shape[2:])

    stages = stage_names(backbone)
    if getattr(backbone, "global_pool", None) == "token" and len(stages) > 1:
        stages = stages[:-1]  # of the last block only the class token is used: no place in it matters
    with Taps(backbone, stages, note_side) as taps:
        taps(torch.zeros(1, channels, size, size))
    return next((name for name in reversed(stages) if sides[name] >= FEWEST_CELLS), stages[0])


# ---- one model, measured


@dataclass(frozen=True, eq=False)
class _Maps:
    """The maps of one model and what they were made of; arrays are [N, ...], in the order of the rows of the masks."""

    spec: StageSpec
    masks: ImageMasks
    settings: AttentionSettings
    classes: Sequence[str]
    layer: str
    feed: Feed
    view: View
    maps: NDArray[np.float32]
    columns: dict[str, NDArray[Any]]


def _measure(
    stage: Stage,
    spec: StageSpec,
    masks: ImageMasks,
    settings: AttentionSettings,
    classes: Sequence[str],
    device: str,
    progress: Progress | None,
    part: Path,
) -> KeptAttention:
    backbone, classifier = classifier_of(stage, spec)
    view = fixed_view_of(spec)
    view = replace(view, size=settings.image_size or view.size)
    layer = settings.layer or finest_needed(backbone, spec.backbone.channels, view.size)
    if layer not in [name for name, _ in backbone.named_modules() if name]:
        raise SpecError(f"{spec.backbone.name} has no layer {layer!r}", did_you_mean(layer, stage_names(backbone)))
    where = placement(device, "32")
    classifier.to(where.device)
    feed = Feed(Selection(masks.pack, {"test": masks.rows}), spec.backbone, where.device)
    maps, columns = _maps_of(classifier, backbone, layer, masks, settings, feed, view, progress)
    np.save(part / "maps.npy", maps)
    np.savez(part / "images.npz", **columns)  # type: ignore[arg-type]
    measured = _Maps(spec, masks, settings, classes, layer, feed, view, maps, columns)
    _write_table(part, measured)
    _draw_sheet(part, measured)
    height, width = maps.shape[1:]
    return KeptAttention(layer=layer, map_size=(height, width), num_images=len(maps), view_size=view.size)


def _maps_of(
    classifier: nn.Module,
    backbone: nn.Module,
    layer: str,
    masks: ImageMasks,
    settings: AttentionSettings,
    feed: Feed,
    view: View,
    progress: Progress | None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """[N, h, w] maps, and the columns of `ModelAttention`."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("inside", "pointing", "coverage", "predicted")}
    every_map = []
    part, to_map = backbone.get_submodule(layer), partial(as_map, backbone)
    for start in range(0, len(masks.rows), BATCH_SIZE):
        places = np.arange(start, min(start + BATCH_SIZE, len(masks.rows)))
        rows = masks.rows[places]
        (images,) = feed.views(rows, [view], torch.Generator())
        labels = torch.from_numpy(masks.pack.labels[rows]) if settings.target == "label" else None
        maps, predicted = class_maps(classifier, part, images, settings.method, labels, to_map)
        shares, large = masks.in_view(places, view), enlarged(maps, view.size)
        columns["inside"].append(attention.inside(large, shares))
        columns["pointing"].append(attention.pointing(large, shares))
        columns["coverage"].append(attention.coverage(shares))
        columns["predicted"].append(predicted)
        every_map.append(maps)
        if progress is not None:
            progress(int(places[-1]) + 1, len(masks.rows))
    return np.concatenate(every_map), {name: np.concatenate(parts) for name, parts in columns.items()}


def _write_table(part: Path, measured: _Maps) -> None:
    import pandas as pd

    pack, rows, classes, columns = measured.masks.pack, measured.masks.rows, measured.classes, measured.columns
    table = pd.DataFrame(
        {
            "path": [pack.names[row] for row in rows],
            "label": [pack.label_names[label] if label >= 0 else "" for label in pack.labels[rows]],
            "prediction": [classes[c] if classes else str(c) for c in columns["predicted"]],
            "attention": columns["inside"],
            "coverage": columns["coverage"],
            "pointing": columns["pointing"],
        }
    )
    write_whole(part / "images.csv", lambda path: table.to_csv(path, index=False, float_format="%.6g"))


def _draw_sheet(part: Path, measured: _Maps) -> None:
    """The best, the median and the worst image of each class, with maps and masks."""
    pack, labels, settings = measured.masks.pack, measured.masks.labels, measured.settings
    names: dict[int, str] = dict(enumerate(pack.label_names)) if (labels >= 0).any() else {-1: "all images"}
    shown = {label: name for label, name in names.items() if label in labels}
    remarks = [f"the first {overlays.MOST_CLASSES} classes"] if len(shown) > overlays.MOST_CLASSES else []
    rows = []
    for label, name in list(shown.items())[: overlays.MOST_CLASSES]:
        ranks = overlays.chosen(measured.columns["inside"], labels, label)
        if ranks:
            rows.append((name, _examples(measured, name, ranks)))
        else:
            remarks.append(f"no map of {name} is above zero")
    about = f"{settings.method}, {measured.layer}, {settings.target} class"
    title = f"{' -> '.join(measured.spec.tasks)}, seed {measured.spec.seed}, on {pack.name}: {about}"
    overlays.draw_sheet(rows, title, part / "sheet.png", remarks)


def _examples(measured: _Maps, name: str, ranks: dict[str, int]) -> list[overlays.Example]:
    """The images of a class at the places of `ranks`."""
    places = np.array(list(ranks.values()), dtype=np.int64)
    (images,) = measured.feed.views(measured.masks.rows[places], [measured.view], torch.Generator())
    columns, classes = measured.columns, measured.classes
    examples = []
    for rank, place, image, map_, mask in zip(
        ranks,
        places.tolist(),
        in_bytes(images.cpu(), measured.spec.backbone),
        enlarged(measured.maps[places], measured.view.size),
        measured.masks.in_view(places, measured.view),
        strict=True,
    ):
        predicted = classes[columns["predicted"][place]] if classes else ""
        inside, covered = 100 * columns["inside"][place], 100 * columns["coverage"][place]
        mistake = f"\nnamed {predicted}" if predicted and predicted != name else ""
        caption = f"{inside:.0f} % inside, {covered:.0f} % covered{mistake}"
        examples.append(overlays.Example(rank, image, map_, mask, caption))
    return examples


# ---- what it comes to


def estimate_of(values: NDArray[np.float64], groups: NDArray[np.integer] | None) -> Estimate:
    """The mean of [S, N] shares by seed and image, as `measures.attention.summary`, for documents."""
    mean = attention.summary(values, groups)
    return Estimate(mean=mean.mean, std=mean.std, interval=mean.interval)


def report_attention(measured: ModelAttention) -> ReportAttention:
    """The attention of one model, for the report of its test images."""
    mean = attention.summary(measured.inside[None], measured.groups)
    return ReportAttention(
        mean=mean.mean,
        interval=mean.interval,
        coverage=float(measured.coverage.mean()),
        pointing=attention.mean_of(measured.pointing[None]),
        num_images=len(measured.inside),
    )
