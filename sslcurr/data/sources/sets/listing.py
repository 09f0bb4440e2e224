"""From the rows of a data set's own tables to its images: rows met twice, files not there, images that are copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sslcurr.data.sources.boxes import Mask
from sslcurr.data.sources.source import ImageFault, Source, with_free_parts
from sslcurr.data.sources.tables import check_groups, csv_rows, read_columns
from sslcurr.data.sources.walk import images_below
from sslcurr.errors import DataError
from sslcurr.spec.target import CLASSES
from sslcurr.wording import and_more, counted

__all__ = ["ListedImage", "images_by_stem", "marked", "table_rows", "source_of"]

DUPLICATES = "duplicates.csv"
"""Images of which only the first of each row is used: the form of ISIC 2020's list, and what `sslcurr data check
--duplicates` writes."""

AS_PUBLISHED = "take the file as it was published"
YES, NO = {"1", "1.0", "true"}, {"0", "0.0", "false", ""}


@dataclass(frozen=True)
class ListedImage:
    """What a table says of an image: its identifier there, its label (None: none), its group and its split."""

    key: str
    label: str | None = None
    group: str = ""
    split: str = ""


def table_rows(table: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file, by column.

    Raises DataError if one of `columns` is missing or a row has nothing in the first.
    """
    cells_of = read_columns(table)
    for column in columns:
        if column not in cells_of:
            raise DataError(f"{table} has no column {column}", AS_PUBLISHED)
    names = [name for name in cells_of if name]
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*(cells_of[name] for name in names), strict=True)]
    for number, row in enumerate(rows, start=1):
        if not row[columns[0]]:
            raise DataError(f"{table} has nothing under {columns[0]} in row {number}", AS_PUBLISHED)
    return rows


def marked(row: Mapping[str, str], columns: Iterable[str]) -> str | None:
    """The one column that a one-hot row marks with 1, None if it marks none.

    Raises ValueError, with what is wrong, if it marks several or has other numbers.
    """
    chosen = []
    for column in columns:
        cell = row[column].lower()
        if cell not in YES | NO:
            raise ValueError(f"has {row[column]!r} under {column}, neither 0 nor 1")
        if cell in YES:
            chosen.append(column)
    if len(chosen) > 1:
        raise ValueError(f"is marked as {' and '.join(chosen)}")
    return chosen[0] if chosen else None


def images_by_stem(home: Path, *folders: str) -> dict[str, str]:
    """Name without extension -> path relative to `home`, of the images at any depth below the first folder that has
    any. Of one image in several formats the first by name is taken.
    """
    for folder in folders:
        images = images_below(home, folder)
        if images:
            path_of: dict[str, str] = {}
            for name in images:
                path_of.setdefault(PurePosixPath(name).stem, name)
            return path_of
    return {}


def source_of(
    name: str,
    home: Path,
    rows: Iterable[ListedImage],
    files: Mapping[str, str],
    *,
    table: Path,
    classes: Sequence[str],
    image_size: int,
    faults: Sequence[ImageFault] = (),
    notes: Sequence[str] = (),
    masks: Mapping[str, Mask] | None = None,
    target: str = CLASSES.name,
) -> Source:
    """The images that `rows` list, in their order, `files` saying where each identifier lies.

    Equal rows count once; rows that contradict each other, and files that are not there, become faults; copies that a
    list of duplicates names, and files that no row names, are left out. All are counted in the notes. `masks` are by
    identifier, too. `target` is the kind of what labels say.
    """
    notes = list(notes)
    listed, faults, num_repeated = _without_contradictions(rows, faults, table)
    contradicted = {fault.name for fault in faults}
    if num_repeated:
        notes.append(f"{counted(num_repeated, 'row')} of {table.name} repeated: counted once")
    images = [image for key, image in listed.items() if key not in contradicted]
    missing = [image.key for image in images if image.key not in files]
    images = [image for image in images if image.key in files]
    # Of the images that are there: a copy must not be left out in favour of a missing file.
    copies = _copies(home, {image.key: i + len(images) * (image.label is None) for i, image in enumerate(images)})
    if copies:
        notes.append(f"{counted(len(copies), 'image')} left out: listed as duplicates")
    images = [image for image in images if image.key not in copies]
    faults += [ImageFault(key, "is not there") for key in missing]
    if not images:
        why = f": {faults[0].name} {faults[0].reason}{and_more(len(faults))}" if faults else ""
        raise DataError(f"{table} lists no image that can be used{why}", f"see sslcurr data show {name}")
    num_others = sum(key not in listed and key not in contradicted for key in files)
    if num_others:
        notes.append(f"{counted(num_others, 'image')} left out: {table.name} does not list them")
    num_unlabelled = sum(image.label is None for image in images)
    if num_unlabelled and num_unlabelled < len(images):
        notes.append(f"{counted(num_unlabelled, 'image')} without a label: used for pretraining only")
    names = [files[image.key] for image in images]
    groups, splits = [image.group for image in images], [image.split for image in images]
    check_groups(groups, splits, names, table)
    return Source(
        name=name,
        root=home,
        names=names,
        labels=[image.label for image in images],
        groups=groups if any(groups) else None,
        splits=with_free_parts(splits, notes),
        arrays=None,
        image_size=image_size,
        classes=tuple(classes),
        faults=tuple(faults),
        notes=tuple(notes),
        masks={files[image.key]: masks[image.key] for image in images if image.key in masks} if masks else {},
        target=target,
    )


def _without_contradictions(
    rows: Iterable[ListedImage], faults: Sequence[ImageFault], table: Path
) -> tuple[dict[str, ListedImage], list[ImageFault], int]:
    """The first row of each image, the faults with one for each contradiction, and the number of repeated rows."""
    faults = list(dict.fromkeys(faults))
    listed: dict[str, ListedImage] = {}
    contradicted = {fault.name for fault in faults}
    num_repeated = 0
    for row in rows:
        first = listed.setdefault(row.key, row)
        if first is row:
            continue
        num_repeated += first == row
        if first != row and row.key not in contradicted:
            contradicted.add(row.key)
            faults.append(ImageFault(row.key, f"is listed twice in {table.name}, and differently"))
    return listed, faults, num_repeated


def _copies(home: Path, place_of: Mapping[str, int]) -> set[str]:
    """The images that lists of duplicates make copies of another one; the first row, one with a label if any, stays."""
    tables = [path for path in sorted(home.glob("*.csv")) if path.name.lower().endswith(DUPLICATES)]
    root: dict[str, str] = {}

    def first_of(key: str) -> str:
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    for table in tables:
        for cells in csv_rows(table)[1:]:
            names = [cell.strip() for cell in cells]
            keys = [name if name in place_of else PurePosixPath(name).stem for name in names]
            keys = [key for key in keys if key in place_of]
            for key in keys[1:]:
                first, second = sorted((first_of(keys[0]), first_of(key)), key=place_of.__getitem__)
                root[second] = first
    return {key for key in root if first_of(key) != key}
