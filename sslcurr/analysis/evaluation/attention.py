"""Where fine-tuned models look: class activation maps of images, and how much of them lies inside a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslcurr.analysis.evaluation.cam import METHODS, class_maps, enlarged
from sslcurr.analysis.evaluation.masks import Regions
from sslcurr.analysis.measures import attention
from sslcurr.analysis.sheets import overlays
from sslcurr.analysis.sheets.drawing import in_bytes
from sslcurr.backbones.build import build, num_features, stage_names
from sslcurr.backbones.checkpoint import load_into
from sslcurr.backbones.layers import Taps
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.device import placement
from sslcurr.engine.selection import Selection
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import SpecError, did_you_mean
from sslcurr.files import read_json, write_whole
from sslcurr.spec.stage import StageSpec
from sslcurr.tasks import task_class

# Raised when the same weights, images and masks give other numbers.
VERSION = 1
TARGETS = ("predicted", "label")
BATCH_SIZE = 64
# Coarser maps say little of where; small images have none finer in the last stage.
FEWEST_CELLS = 4


@dataclass(frozen=True)
class Settings:
    """How it is looked at.

    Attributes:
        method: one of `cam.METHODS`.
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
        for name, value, known in (("method", self.method, METHODS), ("target", self.target, TARGETS)):
            if value not in known:
                raise SpecError(f"--{name} cannot be {value!r}", did_you_mean(value, known))


@dataclass(frozen=True, eq=False)
class Gaze:
    """Where one model looks, image by image; all arrays are [N], in the order of the regions' rows.

    Attributes:
        inside, pointing, coverage: as the functions of `attention`; NaN where a map is zero everywhere.
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


def gaze_of(
    stage: Stage,
    spec: StageSpec,
    regions: Regions,
    settings: Settings,
    store: Store,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> Gaze:
    """Where a stage of `classification` looks in the images that have a region; computed once, then read.

    Args:
        stage, spec: what was fine-tuned.
        regions: of the images that are looked at, whichever data set they are of.
        settings: how.
        store: keeps it.
        device: as `--device`.
        progress: called with the number of images done and of all.

    Raises:
        SpecError: there is no such layer, or labels are asked for that the model does not know.
    """
    classes = classes_of(spec, regions)
    if settings.target == "label" and tuple(regions.pack.classes) != classes:
        raise SpecError(
            f"{regions.pack.name} has other classes than {stage.key} was fine-tuned for", "leave out --target label"
        )
    inputs = {
        "version": VERSION,
        "stage": stage.key,
        "weights": stage.record.weights_sha256,
        "images": regions.pack.fingerprint,
        "pack_size": regions.pack.size,
        "masks": regions.digest,
        **asdict(settings),
    }
    folder = store.analysis(
        "attention", inputs, lambda part: _look(stage, spec, regions, settings, classes, device, progress, part)
    )
    record, arrays = read_json(folder / "done.json"), np.load(folder / "images.npz")
    height, width = record["map_size"]
    groups = regions.pack.groups
    own = None if groups is None else groups[regions.rows]
    return Gaze(**dict(arrays), groups=own, layer=record["layer"], map_size=(height, width), folder=folder)


def classes_of(spec: StageSpec, regions: Regions) -> tuple[str, ...]:
    """The names of a stage's classes; none where the images it was trained on are gone."""
    from sslcurr.data.pack import load_pack

    if spec.data.fingerprint == regions.pack.fingerprint:
        return tuple(regions.pack.classes)
    there = Path(spec.data.pack) / "pack.json"
    return tuple(load_pack(there.parent).classes) if there.is_file() else ()


def classifier_of(stage: Stage, spec: StageSpec) -> tuple[nn.Module, nn.Module]:
    """The backbone of a fine-tuned stage, and the same with its classifier: [N, C, H, W] to [N, classes] logits."""
    from safetensors.torch import load_file

    backbone = build(spec.backbone)
    load_into(backbone, stage.weights)
    head = load_file(stage.folder / "head.safetensors")
    (matrix,) = [value for value in head.values() if value.ndim == 2]
    (bias,) = [value for value in head.values() if value.ndim == 1]
    linear = nn.Linear(num_features(backbone), len(matrix))
    linear.load_state_dict({"weight": matrix, "bias": bias})
    return backbone, nn.Sequential(backbone, linear).eval()


def finest_needed(backbone: nn.Module, channels: int, size: int) -> str:
    """The last stage whose maps have `FEWEST_CELLS` a side or more for views of `size` pixels; else the first stage."""
    sides: dict[str, int] = {}

    def see(name: str, output: torch.Tensor, again: bool) -> None:
        sides[name] = min(output.shape[2:]) if output.ndim == 4 else 0

    stages = stage_names(backbone)
    with Taps(backbone, stages, see) as taps:
        taps(torch.zeros(1, channels, size, size))
    return next((name for name in reversed(stages) if sides[name] >= FEWEST_CELLS), stages[0])


def _look(
    stage: Stage,
    spec: StageSpec,
    regions: Regions,
    settings: Settings,
    classes: Sequence[str],
    device: str,
    progress: Callable[[int, int], None] | None,
    part: Path,
) -> dict[str, Any]:
    backbone, classifier = classifier_of(stage, spec)
    kind = task_class(spec.task)
    view = kind.fixed_view(kind.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.config.items()}))
    view = replace(view, size=settings.image_size or view.size)
    layer = settings.layer or finest_needed(backbone, spec.backbone.channels, view.size)
    names = [name for name, _ in backbone.named_modules() if name]
    if layer not in names:
        raise SpecError(f"{spec.backbone.name} has no layer {layer!r}", did_you_mean(layer, stage_names(backbone)))
    where = placement(device, "32")
    classifier.to(where.device)
    feed = Feed(Selection(regions.pack, {"test": regions.rows}), spec.backbone, where.device)
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("inside", "pointing", "coverage", "predicted")}
    every_map = []
    for start in range(0, len(regions.rows), BATCH_SIZE):
        places = np.arange(start, min(start + BATCH_SIZE, len(regions.rows)))
        rows = regions.rows[places]
        (images,) = feed.views(rows, [view], torch.Generator())
        labels = torch.from_numpy(regions.pack.labels[rows]) if settings.target == "label" else None
        maps, predicted = class_maps(classifier, backbone.get_submodule(layer), images, settings.method, labels)
        seen, large = regions.seen(places, view), enlarged(maps, view.size)
        columns["inside"].append(attention.inside(large, seen))
        columns["pointing"].append(attention.pointing(large, seen))
        columns["coverage"].append(attention.coverage(seen))
        columns["predicted"].append(predicted)
        every_map.append(maps)
        if progress is not None:
            progress(int(places[-1]) + 1, len(regions.rows))
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    maps = np.concatenate(every_map)
    np.save(part / "maps.npy", maps)
    np.savez(part / "images.npz", **found)  # type: ignore[arg-type]
    _write_table(part, regions, classes, found)
    _draw(part, spec, regions, settings, layer, classes, feed, view, {**found, "maps": maps})
    return {"layer": layer, "map_size": list(maps.shape[1:]), "num_images": len(maps), "view_size": view.size}


def _draw(
    part: Path,
    spec: StageSpec,
    regions: Regions,
    settings: Settings,
    layer: str,
    classes: Sequence[str],
    feed: Feed,
    view: View,
    found: dict[str, NDArray[Any]],
) -> None:
    pack, labels = regions.pack, regions.pack.labels[regions.rows]
    names: dict[int, str] = dict(enumerate(pack.classes)) if (labels >= 0).any() else {-1: "all images"}
    shown = {label: name for label, name in names.items() if label in labels}
    remarks = [f"the first {overlays.MOST_CLASSES} classes"] if len(shown) > overlays.MOST_CLASSES else []
    rows = []
    for label, name in list(shown.items())[: overlays.MOST_CLASSES]:
        ranks = overlays.chosen(found["inside"], labels, label)
        places = np.array(list(ranks.values()), dtype=np.int64)
        if not len(places):
            remarks.append(f"no map of {name} is above zero")
            continue
        (images,) = feed.views(regions.rows[places], [view], torch.Generator())
        examples = []
        for rank, place, image, map_, mask in zip(
            ranks,
            places.tolist(),
            in_bytes(images.cpu(), spec.backbone),
            enlarged(found["maps"][places], view.size),
            regions.seen(places, view),
            strict=True,
        ):
            predicted = classes[found["predicted"][place]] if classes else ""
            caption = f"{100 * found['inside'][place]:.0f} % inside, {100 * found['coverage'][place]:.0f} % covered"
            told = f"\nnamed {predicted}" if predicted and predicted != name else ""
            examples.append(overlays.Example(rank, image, map_, mask, caption + told))
        rows.append((name, examples))
    about = f"{settings.method}, {layer}, {settings.target} class"
    title = f"{' -> '.join(spec.tasks)}, seed {spec.seed}, on {pack.name}: {about}"
    overlays.draw_sheet(rows, title, part / "sheet.png", remarks)


def _write_table(part: Path, regions: Regions, classes: Sequence[str], found: dict[str, NDArray[Any]]) -> None:
    import pandas as pd

    pack, rows = regions.pack, regions.rows
    table = pd.DataFrame(
        {
            "path": [pack.names[row] for row in rows],
            "label": [pack.classes[label] if label >= 0 else "" for label in pack.labels[rows]],
            "prediction": [classes[c] if classes else str(c) for c in found["predicted"]],
            "attention": found["inside"],
            "coverage": found["coverage"],
            "pointing": found["pointing"],
        }
    )
    write_whole(part / "images.csv", lambda path: table.to_csv(path, index=False, float_format="%.6g"))


def described(gazes: Sequence[Gaze], regions: Regions) -> dict[str, Any]:
    """What the looks of one chain, a seed each, come to: plain values, over all images and by class.

    Returns:
        `attention` and `pointing`: `mean`, `std` over seeds, 95 % `interval` over images and seeds; `coverage`: what a
        map without preference has, a mean; `num_images`; `num_undefined`: maps that are zero everywhere, which are left
        out; `classes`: name of the images' label -> `num_images`, `attention` (a mean) with its `interval`, `coverage`,
        `pointing`.
    """
    labels = regions.pack.labels[regions.rows]
    inside, pointing = (np.stack([getattr(gaze, name) for gaze in gazes]) for name in ("inside", "pointing"))
    groups, coverage = gazes[0].groups, gazes[0].coverage
    classes = {}
    for label, name in enumerate(regions.pack.classes):
        members = labels == label
        if members.any():
            found = attention.summary(inside[:, members], None if groups is None else groups[members])
            classes[name] = {
                "num_images": int(members.sum()),
                "attention": found["mean"],
                "interval": found["interval"],
                "coverage": float(coverage[members].mean()),
                "pointing": attention.mean_of(pointing[:, members]),
            }
    return {
        "attention": attention.summary(inside, groups),
        "coverage": float(coverage.mean()),
        "pointing": attention.summary(pointing, groups),
        "num_images": len(labels),
        "num_undefined": int(np.isnan(inside).sum()),
        "classes": classes,
    }


def in_short(gaze: Gaze) -> dict[str, Any]:
    """The same of one model, for the report of its test images: `mean` with its `interval`, and the rest."""
    found = attention.summary(gaze.inside[None], gaze.groups)
    return {
        "mean": found["mean"],
        "interval": found["interval"],
        "coverage": float(gaze.coverage.mean()),
        "pointing": attention.mean_of(gaze.pointing[None]),
        "num_images": len(gaze.inside),
    }
