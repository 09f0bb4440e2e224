"""Reported images that a model was trained on before, by any stage that its weights went through.

They are known by their contents, which each stage keeps of the images that its training saw, in `images.npy`. These are
its training images and, where a measure on the validation images chose the weights, the validation images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sslcurr.data.contents import PIXELS, UNKNOWN, contents_of, known_among
from sslcurr.data.joined import contents_of_pack
from sslcurr.data.pack import Pack, about_pack, load_pack
from sslcurr.data.split import assign
from sslcurr.engine.ancestry import Weights, ancestry, title_of
from sslcurr.engine.selection import select, split_settings
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError, StoreError
from sslcurr.files import FOLDER_HINT, hint_for, write_array
from sslcurr.integrity import sound
from sslcurr.spec.stage import DataSpec, StageSpec
from sslcurr.tasks import task_class
from sslcurr.wording import reason_of

IMAGES = "images.npy"


@dataclass(frozen=True)
class StageOverlap:
    """A stage that was trained on reported images, and on how many."""

    stage: Stage
    spec: StageSpec
    images: int


@dataclass(frozen=True)
class OverlapResult:
    """Reported images that were trained on before.

    Attributes:
        images: how many, each once.
        of: how many images are reported.
        stages: that were trained on them.
        copies: reported images with a copy among the training images of the same data set.
        unknown: what is not known, each completes "not known: ".
    """

    images: int
    of: int
    stages: tuple[StageOverlap, ...] = ()
    copies: int = 0
    unknown: tuple[str, ...] = ()


def write_trained_images(spec: StageSpec, folder: Path) -> None:
    """Keep in the folder of a stage the contents of the images that its training sees."""
    contents = _trained_contents(spec, load_pack(Path(spec.data.pack)))
    write_array(folder / IMAGES, contents)


def _trained_contents(spec: StageSpec, pack: Pack) -> np.ndarray:
    """What the images of a pack that the training of a stage sees are known by, and those of further data sets.

    Raises:
        SpecError: the package that brings the task is not installed.
    """
    kind = task_class(spec.task)
    selection = select(spec.data, labelled=kind.labelled, pack=pack)
    rows = selection.rows
    seen = np.concatenate([rows["train"], *([rows["val"]] if kind.monitor is not None else [])])
    return contents_of_pack(selection.pack)[seen]


def find_overlap(
    weights: Sequence[Weights], data: DataSpec, pack: Pack, rows: np.ndarray, split: str, store: Store
) -> OverlapResult:
    """Which reported images the stages of `weights` were trained on; each stage is looked at once.

    Args:
        weights: those that are tested, or that training starts from.
        data: the split of the target.
        pack: its images.
        rows: those of the pack that are reported.
        split: their name.
        store: where the stages are.
    """
    ancestries = [ancestry(each, store) for each in dict.fromkeys(weights)]
    unknown = [f"whether {each.unknown} saw the {split} images" for each in ancestries if each.unknown]
    contents = contents_of(pack.folder)
    reported = contents[rows]
    seen = np.zeros(len(rows), dtype=bool)
    stages = []
    for stage in {stage.key: stage for each in ancestries for stage in each.stages}.values():
        spec = stage.spec
        if _same_split(spec.data, data, pack):
            continue  # such images were held out from it
        trained = trained_images(stage, spec, store)
        if trained is None:
            unknown.append(
                f"whether {title_of(stage.key, spec)}, of an older version and without its pack, saw the {split} images"
            )
            continue
        if (trained[:, PIXELS] == UNKNOWN).any() or (contents[:, PIXELS] == UNKNOWN).any():
            unknown.append(
                f"whether {title_of(stage.key, spec)} saw copies in other file formats: a pack of an older version "
                "knows the bytes of files only"
            )
        known = known_among(reported, trained)
        seen |= known
        if known.any():
            stages.append(StageOverlap(stage, spec, int(known.sum())))
    training = select(replace(data, fraction=1.0), labelled=False, pack=pack).rows["train"]
    copies = int(known_among(reported, contents[training]).sum())
    return OverlapResult(int(seen.sum()), len(rows), tuple(stages), copies, tuple(dict.fromkeys(unknown)))


def _same_split(trained: DataSpec, data: DataSpec, pack: Pack) -> bool:
    """Whether a stage was trained on the same data set, divided in the same way."""
    if trained.fingerprint != data.fingerprint:
        return False
    return np.array_equal(assign(pack, split_settings(trained)), assign(pack, split_settings(data)))


def trained_images(stage: Stage, spec: StageSpec, store: Store) -> np.ndarray | None:
    """Contents [N, 2] of the images that a stage was trained on; None where nobody knows them any more.

    Of a stage of a version that did not keep them, they are taken from a pack of its data set, if there is one.

    Raises:
        StoreError: what was kept is damaged.
    """
    path = stage.folder / IMAGES
    if path.is_file():
        try:
            contents: np.ndarray = np.load(sound(path), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"cannot read {path} ({reason_of(error)})", hint_for(error, FOLDER_HINT)) from error
        if contents.shape[1:] != (2,) or not len(contents) or contents.dtype != np.uint64:
            raise StoreError(f"cannot read {path} (it holds no contents of images)", FOLDER_HINT)
        return contents
    for folder in _packs_of(spec.data, store):
        try:
            return _trained_contents(spec, load_pack(folder))
        except (DataError, SpecError):
            continue  # a damaged pack, or the task of a package that is not installed
    return None


def _packs_of(data: DataSpec, store: Store) -> Iterator[Path]:
    """Folders of packs with the images of a stage: its own, then those of other sizes."""
    own = [Path(data.pack), store.packs / Path(data.pack).name]
    for folder in dict.fromkeys((*own, *(path.parent for path in sorted(store.packs.glob("*/pack.json"))))):
        about = folder / "pack.json"
        try:
            if data.pack and about.is_file() and about_pack(folder)["fingerprint"] == data.fingerprint:
                yield folder
        except (DataError, StoreError, ValueError, KeyError, TypeError):
            continue  # a damaged one is not the one that is looked for
