"""The data set of a command: found, packed and split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sslcurr.data import masks
from sslcurr.data.flaws import notes_on
from sslcurr.data.masks import Mask
from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.packing import open_pack
from sslcurr.data.sources import catalog
from sslcurr.data.sources.columns import Columns
from sslcurr.data.split import SplitSettings, lacking_classes, lacking_sentence
from sslcurr.engine.origin import named_images
from sslcurr.engine.store import Store, data_placed, data_portable
from sslcurr.errors import SpecError
from sslcurr.spec import settings
from sslcurr.spec.request import Request
from sslcurr.spec.stage import DataSpec, Json
from sslcurr.wording import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """What `--set data.NAME=VALUE` can change: the split's shares and seed, the side of the packed images, and the
    channels of the network's input (0: 1 where all images are grey, else 3)."""

    val: float = 0.15
    test: float = 0.2
    seed: int = 0
    pack_size: int = 0
    channels: int = 0


@dataclass(frozen=True)
class Data:
    """The data set of a command, packed."""

    pack: Pack
    image_size: int
    split: DataSettings
    notes: tuple[str, ...]
    epochs: dict[str, int]
    masks: dict[str, Mask] = field(default_factory=dict)  # by image, where they are known; no training uses them
    request: Json = field(default_factory=dict)  # how the images were asked for

    def spec(self, fraction: float) -> DataSpec:
        """The images of a stage that uses `fraction` of the training split."""
        return DataSpec(
            fingerprint=self.pack.fingerprint,
            pack_size=self.pack.size,
            val=self.split.val,
            test=self.split.test,
            split_seed=self.split.seed,
            fraction=fraction,
            name=self.pack.name,
            pack=str(self.pack.folder.resolve()),
            request=self.request,
        )


def packed_portable(data: Data, store: Store) -> Json:
    """A packed data set as plain values for other processes; `root` is that of the store, which holds the pack."""
    return {"images": data_portable(data.spec(1.0), store), "image_size": data.image_size}


def packed_placed(plain: Json, store: Store) -> Data:
    """A packed data set from plain values; without notes and masks.

    Raises:
        DataError: the pack is not there any more.
    """
    images = data_placed(plain["images"], store)
    split = DataSettings(val=images.val, test=images.test, seed=images.split_seed)
    return Data(load_pack(Path(images.pack)), plain["image_size"], split, (), {}, request=images.request)


def split_of(parsed: dict[str, dict[str, str]]) -> DataSettings:
    """The settings of the section `data`.

    Raises:
        SpecError: such a split cannot be.
    """
    (split,) = settings.apply(parsed.get("data", {}), DataSettings(), section="data")
    SplitSettings(val=split.val, test=split.test, seed=split.seed)
    return split


def open_data(
    request: Request,
    split: DataSettings,
    store: Store,
    image_size: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """The data set of a request, packed; `image_size` (that of a checkpoint) counts where the request has none.

    Raises:
        SpecError, DataError: a size that cannot be; images that are not there or cannot be read.
    """
    source = catalog.find_source(request.dataset, request.data_root, request.frames, Columns.of(request))
    image_masks = masks.find_masks(source, request.masks)
    requested = request.image_size
    size = requested if requested is not None else image_size or source.image_size or 224
    if not 8 <= size <= 4096:
        raise SpecError(f"image size must be from 8 to 4096 pixels, got {size}", "give --image-size 224")
    # A little over the training size: crops of most of the image then lose no detail to a second resize.
    pack_size = split.pack_size or (size if source.arrays is not None else 8 * -(-size * 8 // 7 // 8))
    pack = open_pack(
        source,
        pack_size,
        store.packs,
        workers=request.workers,
        skip_broken=request.skip_broken,
        progress=progress,
    )
    notes = [*source.notes, *notes_on(pack)]
    if pack.skipped:
        notes.append(f"{counted(pack.skipped, 'image')} left out: see {pack.folder}/broken.txt")
    notes += _unmeasured(pack)
    return Data(pack, size, split, tuple(notes), source.epochs, image_masks, named_images(request))


def _unmeasured(pack: Pack) -> list[str]:
    """Remarks on classes that given validation or test images lack."""
    if pack.splits is None:
        return []
    lacking = lacking_classes(pack, np.asarray(pack.splits))
    return [lacking_sentence(part, lacking[part]) for part in ("val", "test") if part in lacking]
