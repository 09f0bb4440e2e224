"""The masks of a data set's images as networks see them, read once and kept in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.classifier import report_split
from sslcurr.analysis.results.document import Part
from sslcurr.data import masks as mask_files
from sslcurr.data.masks import Mask
from sslcurr.data.pack import Pack
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.errors import DataError
from sslcurr.files import read_as
from sslcurr.integrity import sound
from sslcurr.spec.stage import hash_of
from sslcurr.spec.target import TARGET
from sslcurr.wording import counted

if TYPE_CHECKING:
    from sslcurr.data.views.view import View

# Raised when the same files give other masks.
VERSION = 1


class KeptMasks(Part, frozen=True, kw_only=True):
    """What the store keeps of masks beside them.

    Attributes:
        sha256: of rows and masks.
        num_masks: that were read.
        num_squashed: of other proportions than their image.
    """

    sha256: str
    num_masks: int
    num_squashed: int


@dataclass(frozen=True, eq=False)
class ImageMasks:
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

    def in_view(self, places: NDArray[np.integer], view: View) -> NDArray[np.float32]:
        """[n, size, size]: the share of each cell of a fixed view that is inside, for masks at `places` of `rows`."""
        import torch

        from sslcurr.data.views.draw import make_views

        rows = self.rows[places]
        images = torch.from_numpy(np.ascontiguousarray(self.masks[places]))[:, None]
        heights, widths = (torch.from_numpy(sides[rows]) for sides in (self.pack.heights, self.pack.widths))
        (views,) = make_views(images, heights, widths, [view], torch.Generator(), mean=(0.0,), std=(1.0,), channels=1)
        return views[:, 0].numpy()

    @property
    def labels(self) -> NDArray[np.integer]:
        """[N] class numbers of the images, -1 for none."""
        return self.pack.labels[self.rows]

    @property
    def groups(self) -> NDArray[np.integer] | None:
        """[N] group numbers of the images; None where nothing is known."""
        return None if self.pack.groups is None else self.pack.groups[self.rows]


def masks_of_report(planner: Planner, store: Store, note: Callable[[str], None]) -> ImageMasks | None:
    """The masks of the images that chains of a planner are reported on; as `masks_of`."""
    data, selection = planner.data, planner.selection(TARGET)
    split = report_split(selection)
    requested = planner.request.masks is not None
    return masks_of(data.masks, data.pack, selection.rows[split], store, split, note, requested=requested)


def kept_masks(folder: Path, pack: Pack) -> ImageMasks:
    """The masks that an analysis keeps, of images of a pack; `folder` has `rows.npy`."""
    kept = read_as(folder / "done.json", KeptMasks)
    rows = np.load(sound(folder / "rows.npy"))
    return ImageMasks(pack, rows, np.load(sound(folder / "masks.npy"), mmap_mode="r"), kept.sha256, folder)


def masks_of(
    by_name: Mapping[str, Mask],
    pack: Pack,
    rows: NDArray[np.integer],
    store: Store,
    split: str,
    note: Callable[[str], None],
    *,
    requested: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ImageMasks | None:
    """The masks of the `rows` of a pack that have one; None if none has.

    Args:
        by_name: image name -> mask.
        pack, rows: the images that are shown.
        store: keeps what was read.
        split: what these images are called in notes.
        note: called with one-line remarks.
        requested: whether a person asked for them; a fault in those that a data set brings is a remark.
        progress: called with the number of masks read and of all.

    Raises:
        DataError: a mask is empty or cannot be read.
    """
    rows = np.array([row for row in rows if pack.names[row] in by_name], dtype=np.int64)
    if not len(rows):
        if by_name:
            note(f"none of the {split} images has a mask, so attention cannot be measured")
        return None
    masks = [by_name[pack.names[row]] for row in rows]
    listing = hashlib.sha256()
    for row, mask in zip(rows, masks, strict=True):
        listing.update(f"{row} {_state(mask)}\n".encode())
    inputs = {"version": VERSION, "pack": pack.fingerprint, "size": pack.size, "masks": listing.hexdigest()}
    try:
        folder = store.analysis("masks", inputs, lambda part: _read(pack, rows, masks, part, progress).to_json())
    except DataError as error:
        if requested:
            raise
        note(f"attention is not measured: {error}")
        return None
    kept = read_as(folder / "done.json", KeptMasks)
    if kept.num_squashed:
        note(f"{counted(kept.num_squashed, 'mask')} of other proportions than the image: taken as squashed to it")
    return ImageMasks(pack, rows, np.load(sound(folder / "masks.npy"), mmap_mode="r"), kept.sha256, folder)


def _read(
    pack: Pack,
    rows: NDArray[np.integer],
    masks: Sequence[Mask],
    part: Path,
    progress: Callable[[int, int], None] | None,
) -> KeptMasks:
    shape = (len(rows), pack.size, pack.size)
    cells = np.lib.format.open_memmap(part / "masks.npy", mode="w+", dtype=np.uint8, shape=shape)
    num_squashed = 0
    for place, (row, mask) in enumerate(zip(rows.tolist(), masks, strict=True)):
        height, width = int(pack.heights[row]), int(pack.widths[row])
        cells[place] = mask_files.read_mask(mask, height, width, pack.size)
        num_squashed += mask_files.is_squashed(mask, height, width)
        if progress is not None:
            progress(place + 1, len(rows))
    cells.flush()
    np.save(part / "rows.npy", rows)
    content = hashlib.sha256(rows.tobytes() + cells.tobytes()).hexdigest()
    return KeptMasks(sha256=content, num_masks=len(rows), num_squashed=num_squashed)


def _state(mask: Mask) -> str:
    """What tells whether a mask is still the same."""
    if isinstance(mask, Path):
        state = mask.stat()
        return f"{mask} {state.st_size} {state.st_mtime_ns}"
    return hash_of({"boxes": [list(box) for box in mask.boxes]})
