"""Folders of images: one sub-folder a class, splits of such, images only, or a Hugging Face `imagefolder`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.source import SPLIT_NAMES, Source, classes_of, with_free_parts
from sslcurr.data.sources.tables import TABLE_NAMES, from_columns, read_columns
from sslcurr.errors import DataError
from sslcurr.wording import and_more, counted

__all__ = ["from_folder", "images_below"]

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
DICOM_MARK, DICOM_MARK_AT = b"DICM", 128
DICOM_INDEX = "DICOMDIR"  # lists the files of a medium, and has no image itself


@dataclass
class Walk:
    """What lies below a folder: images as sorted relative paths, and how many other files there are."""

    images: list[str] = field(default_factory=list)
    num_others: int = 0


def from_folder(root: Path) -> Source:
    """The images below a folder; see `sslcurr.data.sources.catalog.find`.

    Raises DataError if there are none, or if a class folder is empty.
    """
    described = _from_metadata(root)
    if described is not None:
        return described
    walk = walk_below(root)
    if not walk.images:
        extensions = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"the folder {root} has no images", f"extensions that are read: {extensions}")
    notes: list[str] = []
    empty: list[str] = []
    split_folders = _split_folders(walk.images)
    if split_folders:
        parts = [name.split("/") for name in walk.images]
        # What lies outside has no label and can serve pretraining only.
        splits: list[str] | None = [split_folders.get(part[0], "train") for part in parts]
        labels = [part[1] if part[0] in split_folders and len(part) > 2 else None for part in parts]
        for folder in sorted(split_folders):
            empty += [f"{folder}/{child}" for child in _empty_folders(root / folder, folder, walk.images)]
    else:
        splits = None
        labels = [name.split("/", 1)[0] if "/" in name else None for name in walk.images]
        if any(label is not None for label in labels):
            empty = _empty_folders(root, "", walk.images)
    if empty:
        raise DataError(
            f"the class folder {root / empty[0]} has no images" + and_more(len(empty)),
            "fill it or remove it; a class without images cannot be learnt",
        )
    num_unlabelled = labels.count(None)
    if num_unlabelled and num_unlabelled < len(labels):
        notes.append(f"{counted(num_unlabelled, 'image')} beside the class folders: used without a label")
    classes = classes_of(labels)
    if len(classes) < 2:
        notes += [
            f"there is a {table}: pass it as --dataset {root / table} to use its labels"
            for table in TABLE_NAMES
            if (root / table).is_file()
        ]
    if walk.num_others:
        notes.append(f"{counted(walk.num_others, 'file')} ignored that are not images")
    return Source(
        name=root.name or "root",
        root=root,
        names=walk.images,
        labels=labels,
        groups=None,
        splits=with_free_parts(splits, notes),
        arrays=None,
        image_size=None,
        classes=classes,
        notes=tuple(notes),
    )


def images_below(root: Path, folder: str = "") -> list[str]:
    """The images at any depth below `root/folder`, as paths relative to `root`, sorted; none if it is not there."""
    below = root / folder
    if not below.is_dir():
        return []
    prefix = f"{folder}/" if folder else ""
    return [prefix + name for name in walk_below(below).images]


def walk_below(root: Path) -> Walk:
    """All files at any depth, without hidden ones.

    Raises DataError if a folder may not be read.
    """
    walk = Walk()

    def visit(folder: str, prefix: str, above: frozenset[str]) -> None:
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda e: e.name)
        except PermissionError as error:
            raise DataError(f"the folder {folder} may not be read", "change its permissions") from error
        for entry in inside:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in above:  # a link to a folder it lies in would never end
                    visit(entry.path, f"{prefix}{entry.name}/", above | {real})
            elif _is_image(entry):
                walk.images.append(prefix + entry.name)
            else:
                walk.num_others += 1

    visit(str(root), "", frozenset({str(root)}))
    walk.images.sort()
    return walk


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether the name says image, or the content says DICOM: archives export it under bare numbers."""
    suffix = os.path.splitext(entry.name)[1]
    if suffix.lower() in EXTENSIONS:
        return True
    if (suffix and not suffix[1:].isdigit()) or entry.name.upper() == DICOM_INDEX or not entry.is_file():
        return False
    try:
        with open(entry.path, "rb") as file:
            file.seek(DICOM_MARK_AT)
            return file.read(len(DICOM_MARK)) == DICOM_MARK
    except OSError:
        return False


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _split_folders(images: Sequence[str]) -> dict[str, str]:
    """Folder name -> split, if there is a training folder and another one with class folders in them; else {}."""
    with_classes = {name.split("/")[0] for name in images if name.count("/") > 1}
    splits = {folder: SPLIT_NAMES.get(folder.lower(), "") for folder in sorted(with_classes)}
    splits = {folder: split for folder, split in splits.items() if split}
    return splits if "train" in splits.values() and len(set(splits.values())) > 1 else {}


def _empty_folders(folder: Path, prefix: str, images: Sequence[str]) -> list[str]:
    """The sub-folders of `folder` in which no image lies at any depth."""
    depth = prefix.count("/") + 1 if prefix else 0
    filled = {name.split("/")[depth] for name in images if name.startswith(f"{prefix}/" if prefix else "")}
    children = sorted(child.name for child in folder.iterdir() if child.is_dir() and not _is_ignored(child.name))
    return [child for child in children if child not in filled]


def _split_of(name: str) -> str:
    """The split whose folder an image lies in, "" if it lies in none."""
    folder, slash, _ = posixpath.normpath(name).partition("/")
    return SPLIT_NAMES.get(folder.lower(), "") if slash else ""


def _from_metadata(root: Path) -> Source | None:
    """A Hugging Face `imagefolder`: tables named metadata in the folder or in its split folders; None if it is none.

    Without a column label the tables say nothing that the folders do not.
    """
    tables = [root / name for name in METADATA_NAMES if (root / name).is_file()][:1]
    if not tables:
        folders = sorted(child for child in root.iterdir() if SPLIT_NAMES.get(child.name.lower()) and child.is_dir())
        tables = [folder / name for folder in folders for name in METADATA_NAMES if (folder / name).is_file()]
    joined: dict[str, list[str]] = {}
    for table in tables:
        columns = read_columns(table)
        if "file_name" not in columns or "label" not in columns:
            return None
        prefix = "" if table.parent == root else f"{table.parent.name}/"
        names = [prefix + name if name else name for name in columns["file_name"]]
        in_folders = [_split_of(name) for name in names]
        rows = {
            "path": names,
            "label": columns["label"],
            "split": columns.get("split", in_folders),
            "group": columns.get("group", [""] * len(names)),
        }
        for column, cells in rows.items():
            joined.setdefault(column, []).extend(cells)
    if not joined:
        return None
    return from_columns(joined, root=root, table=tables[0], name=root.name or "root")
