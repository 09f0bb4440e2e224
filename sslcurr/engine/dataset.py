"""The data set of a command: found, packed and split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sslcurr.data import masks
from sslcurr.data.flaws import notes_on
from sslcurr.data.joined import added_images
from sslcurr.data.known import Known
from sslcurr.data.masks import Mask
from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.packing import open_pack
from sslcurr.data.sources import catalog
from sslcurr.data.sources.columns import NO_COLUMNS, Columns
from sslcurr.data.sources.inputs import unlabelled_source
from sslcurr.data.sources.source import Source
from sslcurr.data.split import SplitSettings, assign, lacking_classes, lacking_sentence
from sslcurr.engine.origin import named_images
from sslcurr.engine.store import Store, data_placed, data_portable
from sslcurr.errors import SpecError
from sslcurr.spec import settings
from sslcurr.spec.ranges import LARGEST_SIDE
from sslcurr.spec.request import Request
from sslcurr.spec.stage import DataSpec, Json
from sslcurr.wording import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """What `--set data.NAME=VALUE` can change: the split's shares and seed, the side of the packed images, the channels
    of the network's input (0: 1 where all images are grey, else 3), and which of how many folds tests (0: no folds)."""

    val: float = 0.15
    test: float = 0.2
    seed: int = 0
    pack_size: int = 0
    channels: int = 0
    folds: int = 0
    fold: int = 0


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
    unlabelled: tuple[Pack, ...] = ()  # further images of pretext tasks, by their fingerprints

    @property
    def channels(self) -> int:
        """1 if every image is grey, those without labels included, else 3."""
        return max(pack.channels for pack in (self.pack, *self.unlabelled))

    @property
    def packs(self) -> list[str]:
        """The names of the packs."""
        return [pack.folder.name for pack in (self.pack, *self.unlabelled)]

    def pretext_spec(self, fraction: float) -> DataSpec:
        """The images of a stage without labels that uses `fraction` of the training images."""
        return replace(
            self.spec(fraction),
            unlabelled=tuple(pack.fingerprint for pack in self.unlabelled),
            unlabelled_packs=tuple(str(pack.folder.resolve()) for pack in self.unlabelled),
        )

    def spec(self, fraction: float) -> DataSpec:
        """The images of a stage with labels that uses `fraction` of the training split."""
        return DataSpec(
            fingerprint=self.pack.fingerprint,
            pack_size=self.pack.size,
            val=self.split.val,
            test=self.split.test,
            split_seed=self.split.seed,
            fraction=fraction,
            folds=self.split.folds,
            fold=self.split.fold,
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
    split = DataSettings(val=images.val, test=images.test, seed=images.split_seed, folds=images.folds, fold=images.fold)
    return Data(load_pack(Path(images.pack)), plain["image_size"], split, (), {}, request=images.request)


def split_settings_of(data: DataSettings) -> SplitSettings:
    """How images are divided.

    Raises:
        SpecError: such a split cannot be.
    """
    return SplitSettings(val=data.val, test=data.test, seed=data.seed, folds=data.folds, fold=data.fold)


def split_of(parsed: dict[str, dict[str, str]]) -> DataSettings:
    """The settings of the section `data`.

    Raises:
        SpecError: such a split cannot be.
    """
    (split,) = settings.apply(parsed.get("data", {}), DataSettings(), section="data")
    split_settings_of(split)
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
    known, found = Known(store.root / "listings", store.packs), None
    place = folder_of_images(request)
    if place is not None:
        size = checked_size(request.image_size if request.image_size is not None else image_size or 224)
        found = known.find(place, split.pack_size or packed_side(size), store.use)
    if found is not None:
        pack, remarks = found
        notes = (*remarks, *_notes_on(pack), *_unmeasured(pack))
        return Data(pack, size, split, notes, {}, {}, named_images(request))
    source = catalog.find_source(request.dataset, request.data_root, request.frames, Columns.of(request))
    image_masks = masks.find_masks(source, request.masks)
    requested = request.image_size
    size = checked_size(requested if requested is not None else image_size or source.image_size or 224)
    pack_size = split.pack_size or (size if source.arrays is not None else packed_side(size))
    pack = _packed(source, pack_size, request, store, progress)
    if place is not None:
        known.keep(source, pack_size, pack)
    notes = (*source.notes, *_notes_on(pack), *_unmeasured(pack))
    return Data(pack, size, split, notes, source.epochs, image_masks, named_images(request))


def checked_size(size: int) -> int:
    """The side of views in pixels. Raises SpecError for one that cannot be."""
    if not 8 <= size <= LARGEST_SIDE:
        raise SpecError(f"image size must be from 8 to {LARGEST_SIDE} pixels, got {size}", "give --image-size 224")
    return size


def folder_of_images(request: Request) -> Path | None:
    """The folder that is asked for, where nothing but it says what its images are."""
    plain = request.masks is None and request.frames == "refuse" and Columns.of(request) == NO_COLUMNS
    return catalog.folder_of(request.dataset, request.data_root) if plain else None


def with_unlabelled(
    data: Data, request: Request, store: Store, progress: Callable[[int, int], None] | None = None
) -> Data:
    """The same, with the further images that pretext tasks are asked to see; each data set is packed once.

    Raises:
        DataError: they are not there, or cannot be read.
    """
    packs: dict[str, Pack] = {}
    notes = list(data.notes)
    for name in request.unlabelled:
        source = unlabelled_source(name, request.data_root, request.frames)
        pack = _packed(source, data.pack.size, request, store, progress)
        packs[pack.fingerprint] = pack
        notes += [*source.notes, *_notes_on(pack)]
    unlabelled = tuple(packs[fingerprint] for fingerprint in sorted(packs))
    splits = assign(data.pack, split_settings_of(data.split))
    added = added_images(data.pack, splits, unlabelled)
    number = counted(len(added.rows), "image")
    notes.append(f"pretext tasks see {number} without labels beside the training images of {data.pack.name}")
    if added.held_out:
        notes.append(f"{counted(added.held_out, 'image')} left out of these: validation or test images")
    if added.repeated:
        notes.append(f"{counted(added.repeated, 'image')} left out of these: there already")
    return replace(data, unlabelled=unlabelled, notes=tuple(notes))


def _packed(
    source: Source, size: int, request: Request, store: Store, progress: Callable[[int, int], None] | None
) -> Pack:
    return open_pack(
        source,
        size,
        store.packs,
        workers=request.workers,
        skip_broken=request.skip_broken,
        progress=progress,
        use=store.use,
        note=store.note,
    )


def _notes_on(pack: Pack) -> list[str]:
    """What a person should know of the images of a data set."""
    notes = list(notes_on(pack))
    if pack.skipped:
        notes.append(f"{counted(pack.skipped, 'image')} left out: see {pack.folder}/broken.txt")
    return notes


def packed_side(size: int) -> int:
    """The side of packed images for views of `size` pixels.

    A little over it: crops of most of the image then lose no detail to a second resize.
    """
    return 8 * -(-size * 8 // 7 // 8)


def _unmeasured(pack: Pack) -> list[str]:
    """Remarks on classes that given validation or test images lack."""
    if pack.splits is None:
        return []
    lacking = lacking_classes(pack, np.asarray(pack.splits))
    return [lacking_sentence(part, lacking[part], pack.target) for part in ("val", "test") if part in lacking]
