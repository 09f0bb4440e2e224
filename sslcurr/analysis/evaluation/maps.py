"""Maps of the attention of a fine-tuned model in the images that have a mask: computed, written and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslcurr.analysis.evaluation.attending import FEWEST_CELLS, AttentionSettings, KeptAttention, Progress
from sslcurr.analysis.evaluation.cam import class_maps, enlarged
from sslcurr.analysis.evaluation.classifier import classifier_of, fixed_view_of
from sslcurr.analysis.evaluation.masks import ImageMasks
from sslcurr.analysis.measures import attention
from sslcurr.analysis.sheets import overlays
from sslcurr.analysis.sheets.drawing import in_bytes
from sslcurr.backbones.build import as_map, stage_names
from sslcurr.backbones.layers import Taps
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.device import placement
from sslcurr.engine.selection import Selection
from sslcurr.engine.store import Stage
from sslcurr.errors import SpecError, did_you_mean
from sslcurr.files import write_whole
from sslcurr.spec.stage import StageSpec

BATCH_SIZE = 64


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


def measure_maps(
    stage: Stage,
    spec: StageSpec,
    masks: ImageMasks,
    settings: AttentionSettings,
    classes: Sequence[str],
    device: str,
    progress: Progress | None,
    part: Path,
) -> KeptAttention:
    """The attention of a fine-tuned stage, written into the folder `part`: see `attention.measure_attention`."""
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
