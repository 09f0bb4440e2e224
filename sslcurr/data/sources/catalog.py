"""Where images come from: a data set by name, a folder of images, or a table that lists them.

`find_source` reads names and tables only. It opens no image, except to count the frames of DICOM files on request.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from sslcurr.data.sources.boxes import Mask
from sslcurr.data.sources.columns import NO_COLUMNS, Columns
from sslcurr.data.sources.folders import from_folder
from sslcurr.data.sources.labels import check_kind
from sslcurr.data.sources.sets.entry import Entry, locate
from sslcurr.data.sources.source import Source
from sslcurr.data.sources.tables import TABLE_SUFFIXES, from_table
from sslcurr.errors import DataError, did_you_mean
from sslcurr.plugins import Registry
from sslcurr.wording import counted

__all__ = ["CATALOG", "FRAMES", "Entry", "Source", "entry_of", "find_source"]

DEFAULT = "fashion"

BUILTIN_DATASETS = {
    "fashion": "sslcurr.data.sources.sets.packaged:FASHION",
    "digits": "sslcurr.data.sources.sets.packaged:DIGITS",
    "elpv": "sslcurr.data.sources.sets.packaged:ELPV",
    "isic2019": "sslcurr.data.sources.sets.isic:ISIC2019",
    "isic2020": "sslcurr.data.sources.sets.isic:ISIC2020",
    "covid": "sslcurr.data.sources.sets.xray:COVID",
    "covid-4": "sslcurr.data.sources.sets.xray:COVID_4",
    "chestxray14": "sslcurr.data.sources.sets.xray:CHESTXRAY14",
    "chestxray14-findings": "sslcurr.data.sources.sets.xray:CHESTXRAY14_FINDINGS",
    "cifar10": "sslcurr.data.sources.sets.photographs:CIFAR10_ENTRY",
    "imagenet": "sslcurr.data.sources.sets.photographs:IMAGENET_ENTRY",
    "voc2007": "sslcurr.data.sources.sets.photographs:VOC2007_ENTRY",
    "coco": "sslcurr.data.sources.sets.photographs:COCO_ENTRY",
    "places365": "sslcurr.data.sources.sets.photographs:PLACES365_ENTRY",
    "plantvillage": "sslcurr.data.sources.sets.photographs:PLANTVILLAGE_ENTRY",
}


def _checked_entry(name: str, value: object) -> Entry:
    if not isinstance(value, Entry):
        raise DataError(
            f"{name} is no data set: {value!r} is no Entry of {Entry.__module__}",
            "docs/plugins.md says what a data set is",
        )
    return value


CATALOG: Registry[Entry] = Registry("data set", "sslcurr.datasets", BUILTIN_DATASETS, _checked_entry, DataError)

FRAMES = ("refuse", "first", "all")
"""What becomes of a file with several frames or pages; those of an animation are left out where they are refused."""


def find_source(
    dataset: str | None,
    data_root: Path | None = None,
    frames: str = "refuse",
    columns: Columns = NO_COLUMNS,
) -> Source:
    """The source that a `--dataset` names: a data set of the catalog, a folder of images, or a table of them.

    None means the embedded Fashion-MNIST. A named data set is looked for in `data_root` (None: the working directory),
    see `locate`. A relative path is looked for in the working directory, then in `data_root`. A catalog name wins over
    a folder of the same name; `./name` is the folder. `frames` is one of `FRAMES`. `columns` says what the columns of a
    table are.

    Raises DataError if there is no such data set or its files are missing, if it is not clear what a folder or a table
    means (see `sslcurr.data.sources.layout` and `sslcurr.data.sources.columns`), if a folder has no images or an empty
    class, and if a table names a file twice, contradicts itself about splits, or has labels that are no classes.
    """
    source = _find_source(DEFAULT if dataset is None else dataset, data_root, columns)
    return with_frames(source, frames)


def entry_of(name: str) -> Entry:
    """A data set of the catalog. Raises DataError if there is none of that name, or its package is broken."""
    return CATALOG.find(name)


def _find_source(dataset: str, data_root: Path | None, columns: Columns) -> Source:
    if dataset in CATALOG:
        entry = CATALOG[dataset]
        source = entry.loader(locate(dataset, entry, data_root))
        check_kind(source.target, columns.target, dataset)
        return replace(source, notes=(*source.notes, *columns.unused_notes(dataset)))
    path = _existing_path(dataset, data_root)
    if path.is_dir():
        try:
            return from_folder(path, columns)
        except DataError as error:
            tables = [name for name in _names_in(path) if Path(name).suffix.lower() in TABLE_SUFFIXES]
            if not tables:
                raise
            hint = f"give a table that lies in it ({', '.join(tables[:3])}) as --dataset; or {error.hint}"
            raise DataError(str(error), hint) from error
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{dataset} is a file, but not a table", f"give a folder or a {', '.join(TABLE_SUFFIXES)} file")
    return from_table(path, columns)


def _names_in(folder: Path) -> list[str]:
    """What lies in a folder; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def folder_of(dataset: str | None, data_root: Path | None) -> Path | None:
    """The folder that a `--dataset` names, absolute; None where it names something else, or nothing."""
    if dataset is None or dataset in CATALOG:
        return None
    path = _existing_path(dataset, data_root)
    return path if path.is_dir() else None


def _existing_path(dataset: str, data_root: Path | None) -> Path:
    """The existing folder or file, absolute."""
    path = Path(dataset).expanduser()
    candidates = [path] if path.is_absolute() or data_root is None else [path, data_root.expanduser() / path]
    for candidate in candidates:
        if dataset and candidate.exists():
            return candidate.resolve()
    is_table = path.suffix.lower() in TABLE_SUFFIXES
    package, slash, _ = dataset.partition("/")
    if slash and any(name.startswith(f"{package}/") for name in CATALOG):
        raise CATALOG.unknown(dataset)
    if is_table or "/" in dataset or os.sep in dataset or dataset.startswith((".", "~")):
        kind = "table" if is_table else "folder"
        places = " or ".join(str(candidate.absolute()) for candidate in candidates)
        asked = candidates[0]
        there = _names_in(asked.parent)
        near = difflib.get_close_matches(asked.name, there, n=1, cutoff=0.8)
        hint = f"did you mean {near[0]}? " if near else ""
        raise DataError(f"the {kind} {dataset} is not there", f"{hint}looked for {places}")
    raise DataError(
        f"unknown data set {dataset!r}",
        f"{did_you_mean(dataset, CATALOG)}; or give a folder of images, or a .csv or .parquet table",
    )


def with_frames(source: Source, frames_of_files: str) -> Source:
    """Files of several frames or pages as their first, or as an image each, which stay together in a group; as they are
    where such files are refused."""
    from sslcurr.data.decode.image import BrokenImage
    from sslcurr.data.decode.read import num_frames

    if source.root is None or frames_of_files == "refuse":
        return source
    every = frames_of_files == "all"
    rows: list[int] = []
    names: list[str] = []
    alone: list[str] = []  # groups of the images that have none: the frames of one file are of one patient
    frames: dict[str, tuple[str, int]] = {}
    masks: dict[str, Mask] = {}
    for i, name in enumerate(source.names):
        try:
            count = num_frames(source.root / name)
        except (BrokenImage, OSError):
            count = 1  # decoding it says what is wrong with it, and --skip-broken leaves it out
        frame_names = [f"{name}#{frame + 1}" for frame in range(count if every else 1)] if count > 1 else [name]
        frames |= {each: (name, frame) for frame, each in enumerate(frame_names)} if count > 1 else {}
        rows += [i] * len(frame_names)
        names += frame_names
        masks |= dict.fromkeys(frame_names, source.masks[name]) if name in source.masks else {}
        alone += [name if len(frame_names) > 1 else ""] * len(frame_names)
    if not frames:
        return source
    left = sum(1 for _, frame in frames.values() if frame == 0)
    note = (
        f"{counted(left, 'file')} with several frames or pages: each is an image"
        if every
        else (f"{counted(left, 'file')} with several frames or pages: the first is used")
    )
    groups = (
        alone
        if source.groups is None
        else [source.groups[i] or file_group for i, file_group in zip(rows, alone, strict=True)]
    )
    return replace(
        source,
        names=names,
        labels=[source.labels[i] for i in rows],
        groups=groups if any(groups) else None,
        splits=None if source.splits is None else [source.splits[i] for i in rows],
        frames=frames,
        masks=masks,
        notes=(*source.notes, note),
    )
