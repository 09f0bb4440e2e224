"""Which images of a pack a stage trains on, validates on and is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sslcurr.data.joined import added_images, joined
from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.split import SplitSettings, assign, lacking_classes, lacking_sentence, subset
from sslcurr.errors import DataError
from sslcurr.spec.stage import DataSpec
from sslcurr.spec.target import CLASSES


@dataclass(frozen=True)
class Selection:
    """A pack and the rows of it that belong to each split, sorted."""

    pack: Pack
    rows: dict[str, np.ndarray]

    def labels(self, split: str) -> np.ndarray:
        """[N] class numbers of a split's images, or those of their strata; -1 where there is none."""
        return self.pack.labels[self.rows[split]]

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """What is learnt of rows of the pack: [N] class numbers, -1 for none; or [N, T] values, NaN where not known."""
        return self.pack.labels[rows] if self.pack.values is None else self.pack.values[rows]

    @property
    def num_outputs(self) -> int:
        """How many labels or numbers an image has; 0 where labels are classes."""
        return 0 if self.pack.target == CLASSES.name else len(self.pack.classes)

    def class_counts(self) -> tuple[int, ...]:
        """Labelled training images of each class; none where labels are no classes."""
        if self.pack.target != CLASSES.name:
            return ()
        labels = self.labels("train")
        return tuple(int(n) for n in np.bincount(labels[labels >= 0], minlength=len(self.pack.classes)))


def split_settings(data: DataSpec) -> SplitSettings:
    """How the images of a stage are divided."""
    return SplitSettings(val=data.val, test=data.test, seed=data.split_seed, folds=data.folds, fold=data.fold)


def select(data: DataSpec, *, labelled: bool, pack: Pack | None = None) -> Selection:
    """The images of a stage. Test images are never among the training images.

    Args:
        data: the share and the split; its `pack` says where the images lie.
        labelled: leave out the images without a label, and further data sets, as target tasks need.
        pack: the pack, where it is already open.

    Raises:
        DataError: the images cannot be divided, or labelled images are asked for and a class has none to train on.
    """
    pack = load_pack(Path(data.pack)) if pack is None else pack
    split = assign(pack, split_settings(data))
    rows = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    if labelled:
        lacking = lacking_classes(pack, split).get("train")
        if lacking:
            raise DataError(
                f"{pack.name}: {lacking_sentence('train', lacking, pack.target)}",
                "add training images of it or take the class out; pretext tasks go without labels",
            )
        rows = {name: index[pack.labels[index] >= 0] for name, index in rows.items()}
    elif data.unlabelled:
        others = [load_pack(Path(folder)) for folder in data.unlabelled_packs]
        rows["train"] = np.concatenate([rows["train"], added_images(pack, split, others).rows])
        pack = joined(pack, others)
    rows["train"] = subset(rows["train"], pack.labels[rows["train"]], data.fraction, data.split_seed)
    return Selection(pack, rows)


def split_rows(data: DataSpec, split: str, pack: Pack | None = None) -> np.ndarray:
    """Rows of the pack that belong to `train`, `val` or `test`, labelled or not, or all of them (`all`), sorted.

    Raises:
        DataError: there are none.
    """
    selection = select(data, labelled=False, pack=pack)
    rows = np.arange(len(selection.pack.names)) if split == "all" else selection.rows[split]
    if not len(rows):
        raise DataError(f"{selection.pack.name} has no {split} images", "give --split all, or another")
    return rows
