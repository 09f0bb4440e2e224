"""The masks of a data set's images as networks see them, read once and kept in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.classifier import report_split
from sslcurr.data import masks
from sslcurr.data.masks import Mask
from sslcurr.data.pack import Pack
from sslcurr.data.views.draw import make_views
from sslcurr.data.views.view import View
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.errors import DataError
from sslcurr.files import read_json
from sslcurr.spec.stage import hash_of
from sslcurr.wording import counted

# Raised when the same files give other masks.
VERSION = 1


@dataclass(frozen=True, eq=False)
class Regions:
    """Masks of some images of a pack.

    Attributes:
        pack: the images.
        rows: [N] the rows of the pack that have a mask, sorted.
        masks: [N, S, S] uint8, a read-only memory map: the share of each cell that is inside, in the pack's geometry.
        digest: sha256 of rows and masks.
        folder: of the store, where they lie.
    """

    pack: Pack
    rows: NDArray[np.integer]
    masks: NDArray[np.uint8]
    digest: str
    folder: Path

    def seen(self, places: NDArray[np.integer], view: View) -> NDArray[np.float32]:
        """[n, size, size]: the share of each cell of a fixed view that is inside, for masks at `places` of `rows`."""
        rows = self.rows[places]
        images = torch.from_numpy(np.ascontiguousarray(self.masks[places]))[:, None]
        heights, widths = (torch.from_numpy(sides[rows]) for sides in (self.pack.heights, self.pack.widths))
        (found,) = make_views(images, heights, widths, [view], torch.Generator(), mean=(0.0,), std=(1.0,), channels=1)
        return found[:, 0].numpy()


def regions_of_report(planner: Planner, store: Store, note: Callable[[str], None]) -> Regions | None:
    """The masks of the images that chains of a planner are reported on; as `regions_of`."""
    data, selection = planner.data, planner.selection("classification")
    split = report_split(selection)
    asked = planner.request.masks is not None
    return regions_of(data.masks, data.pack, selection.rows[split], store, split, note, asked=asked)


def regions_of(
    known: Mapping[str, Mask],
    pack: Pack,
    rows: NDArray[np.integer],
    store: Store,
    split: str,
    note: Callable[[str], None],
    *,
    asked: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Regions | None:
    """The masks of the `rows` of a pack that have one; None if none has.

    Args:
        known: image name -> mask.
        pack, rows: the images that are looked at.
        store: keeps what was read.
        split: what these images are called in notes.
        note: called with one-line remarks.
        asked: whether a person asked for these masks; a fault in masks that a data set merely brings is then a remark.
        progress: called with the number of masks read and of all.

    Raises:
        DataError: a mask is empty or cannot be read.
    """
    rows = np.array([row for row in rows if pack.names[row] in known], dtype=np.int64)
    if not len(rows):
        if known:
            note(f"none of the {split} images has a mask, so attention cannot be measured")
        return None
    own = [known[pack.names[row]] for row in rows]
    listing = hashlib.sha256()
    for row, mask in zip(rows, own, strict=True):
        listing.update(f"{row} {_state(mask)}\n".encode())
    inputs = {"version": VERSION, "pack": pack.fingerprint, "size": pack.size, "masks": listing.hexdigest()}

    def work(part: Path) -> dict[str, object]:
        found = np.lib.format.open_memmap(
            part / "masks.npy", mode="w+", dtype=np.uint8, shape=(len(rows), pack.size, pack.size)
        )
        squashed = 0
        for place, (row, mask) in enumerate(zip(rows.tolist(), own, strict=True)):
            height, width = int(pack.heights[row]), int(pack.widths[row])
            found[place] = masks.read(mask, height, width, pack.size)
            squashed += masks.is_squashed(mask, height, width)
            if progress is not None:
                progress(place + 1, len(rows))
        found.flush()
        content = hashlib.sha256(rows.tobytes() + found.tobytes()).hexdigest()
        return {"sha256": content, "num_masks": len(rows), "num_squashed": squashed}

    try:
        folder = store.analysis("masks", inputs, work)
    except DataError as error:
        if asked:
            raise
        note(f"attention is not measured: {error}")
        return None
    record = read_json(folder / "done.json")
    if record["num_squashed"]:
        note(f"{counted(record['num_squashed'], 'mask')} of other proportions than the image: taken as squashed to it")
    return Regions(pack, rows, np.load(folder / "masks.npy", mmap_mode="r"), record["sha256"], folder)


def _state(mask: Mask) -> str:
    """What tells whether a mask is still the same."""
    if isinstance(mask, Path):
        found = mask.stat()
        return f"{mask} {found.st_size} {found.st_mtime_ns}"
    return hash_of({"boxes": [list(box) for box in mask.boxes]})
