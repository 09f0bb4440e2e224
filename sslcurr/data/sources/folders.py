"""Folders of images: one sub-folder a class, splits of such, images only, or a Hugging Face `imagefolder`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.clutter import without_companions
from sslcurr.data.sources.columns import NO_COLUMNS, Columns
from sslcurr.data.sources.labels import read_labels, with_one_form
from sslcurr.data.sources.layout import read_layout
from sslcurr.data.sources.source import Looks, Source, with_free_parts
from sslcurr.data.sources.tables import TABLE_SUFFIXES, Cells, from_columns, read_table, role_columns
from sslcurr.data.sources.walk import images_below, walk_below
from sslcurr.data.sources.words import same_name, split_of_folder, tokens, word_set
from sslcurr.errors import DataError
from sslcurr.spec.target import CLASSES
from sslcurr.wording import counted

__all__ = ["from_folder"]

MOST_TABLES = 3  # that a note names
PERSONS = word_set("patient pat subject subj sub person participant donor volunteer proband case specimen lesion")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def from_folder(root: Path, columns: Columns = NO_COLUMNS) -> Source:
    """The images below a folder; see `sslcurr.data.sources.catalog.find_source`.

    Raises DataError if there are none, or if it is not clear what its folders mean.
    """
    described = _from_metadata(root, columns)
    if described is not None:
        return described
    walk = walk_below(root, own=True)
    if "." in walk.stores and not walk.images:
        raise DataError(f"the folder {root} is a store of sslcurr, and no data set", "give a folder of images")
    images, companions = without_companions(walk.images)
    if not images:
        extensions = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"the folder {root} has no images", f"extensions that are read: {extensions}")
    layout = read_layout(images, walk.empty_folders)
    notes = list(layout.notes)
    kept = _without_idle_parts(layout.labels, layout.splits, notes)
    asked = columns.target or CLASSES.name  # a folder a class, unless a person says more
    read = read_labels(with_one_form([layout.labels[i] for i in kept]), asked, f"the folder {root}", name="number")
    labels, classes = read.labels, read.names
    splits = None if layout.splits is None else [layout.splits[i] for i in kept]
    splits = with_free_parts(splits, notes)
    groups = _groups_by_folder([images[i] for i in kept], labels, splits, notes)
    notes += [*walk.notes, *companions.notes, *columns.unused_notes(root)]
    if read.kind == CLASSES.name and len(classes) < 2:
        tables = sorted(
            each.name for each in root.iterdir() if each.suffix.lower() in TABLE_SUFFIXES and each.is_file()
        )
        notes += [
            f"there is a {table}: pass it as --dataset {root / table} to use its labels"
            for table in tables[:MOST_TABLES]
        ]
    if walk.num_others:
        notes.append(f"{counted(walk.num_others, 'file')} ignored that are not images")
    return Source(
        name=root.name or "root",
        root=root,
        names=[images[i] for i in kept],
        labels=labels,
        groups=groups,
        splits=splits,
        arrays=None,
        image_size=None,
        classes=classes,
        notes=tuple(notes),
        target=read.kind,
        looks=Looks(walk.folders, tuple(walk.others)),
    )


def _groups_by_folder(
    images: Sequence[str], labels: Sequence[str | None], splits: Sequence[str] | None, notes: list[str]
) -> list[str] | None:
    """The patient, subject or case of each image by the folder that it lies in (`benign/patient_07/2.png`).

    "" is for images in none; None where no folder is named so, or nothing is left to divide. Says what it did.
    """
    if splits is not None and "" not in splits:
        return None
    groups = [
        next((each for each in name.split("/")[:-1] if each != label and _is_a_person(each)), "")
        for name, label in zip(images, labels, strict=True)
    ]
    known = [group for group in groups if group]
    if not 1 < len(set(known)) < len(known):
        return None
    notes.append(
        f"{counted(len(set(known)), 'folder')} named like those of patients or cases: the images of each stay together"
    )
    # Numbers may begin again in every given split.
    given = splits or [""] * len(images)
    return [f"{split}/{group}" if group and split else group for group, split in zip(groups, given, strict=True)]


def _is_a_person(folder: str) -> bool:
    return any(map(str.isdigit, folder)) and bool(PERSONS & set(tokens(folder)))


def _without_idle_parts(labels: Sequence[str | None], splits: Sequence[str] | None, notes: list[str]) -> list[int]:
    """The numbers of the images without those that were given to test or validate and cannot, as not one of them has a
    label, while others have; says so."""
    kept = list(range(len(labels)))
    if splits is None or not any(label is not None for label in labels):
        return kept
    for part, cannot in (("val", "validate"), ("test", "test")):
        members = {i for i in kept if splits[i] == part}
        if members and all(labels[i] is None for i in members):
            notes.append(
                f"{counted(len(members), 'image')} given as {part} left out: no class folders, so they cannot {cannot}"
            )
            kept = [i for i in kept if i not in members]
    return kept


def _split_of(name: str) -> str:
    """The split whose folder an image lies in, "" if it lies in none."""
    folder, slash, _ = posixpath.normpath(name).partition("/")
    return _named_split(folder) if slash else ""


def _named_split(folder: str) -> str:
    split = split_of_folder(folder)
    return "test" if split == "eval" else split


def _from_metadata(root: Path, columns: Columns) -> Source | None:
    """A Hugging Face `imagefolder`: tables named metadata in the folder or in its split folders; None if it is none.

    Without a column label the tables say nothing that the folders do not.
    """
    tables = [root / name for name in METADATA_NAMES if (root / name).is_file()][:1]
    if not tables:
        folders = sorted(child for child in root.iterdir() if _named_split(child.name) and child.is_dir())
        tables = [folder / name for folder in folders for name in METADATA_NAMES if (folder / name).is_file()]
    joined: dict[str, list[str]] = {}
    notes: list[str] = []
    label, has_labels = "label", False
    labels: tuple[str, ...] = ()
    for table in tables:
        if columns.path is None and "file_name" not in map(same_column, read_table(table).names):
            return None
        read = role_columns(table, columns)
        cells, label, labels = read.columns, read.name, read.labels
        has_labels = has_labels or "label" in cells
        prefix = "" if table.parent == root else f"{table.parent.name}/"
        names = [prefix + name if name else name for name in cells["path"]]
        nothing = [""] * len(names)
        rows = {
            "path": names,
            "label": cells.get("label", nothing),
            "split": cells.get("split", [_split_of(name) for name in names]),
            "group": cells.get("group", nothing),
        }
        for column, each in rows.items():
            joined.setdefault(column, []).extend(each)
        notes += [note for note in read.notes if note not in notes]
    if not has_labels:
        return None
    listed = set(map(posixpath.normpath, joined["path"]))
    beside = [name for name in without_companions(images_below(root))[0] if name not in listed]
    if beside:
        notes.append(
            f"{counted(len(beside), 'image')} left out that {tables[0].name} does not list, such as {beside[0]}"
        )
    cells_of_all = Cells(joined, notes, label, labels)
    return from_columns(
        cells_of_all, root=root, table=tables[0], name=root.name or "root", target=columns.target, notes=notes
    )


def same_column(name: str) -> str:
    """A column's name as the form of Hugging Face writes it."""
    return same_name(name).replace(" ", "_")
