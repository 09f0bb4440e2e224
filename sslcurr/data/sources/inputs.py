"""What a person gives to a finished model: folders, tables, data sets with a name, single files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.catalog import CATALOG, find_source, with_frames
from sslcurr.data.sources.columns import NONE, Columns
from sslcurr.data.sources.source import Source
from sslcurr.data.sources.tables import TABLE_SUFFIXES
from sslcurr.data.sources.walk import images_below
from sslcurr.errors import DataError
from sslcurr.spec.target import CLASSES
from sslcurr.wording import counted

__all__ = ["Input", "inputs_of", "lenient_source", "unlabelled_source"]


@dataclass(frozen=True, eq=False)
class Input:
    """Images that a model is given.

    Attributes:
        source: the images, with their labels where these are known.
        titles: what tables call them: as the data set does where there is one, else their paths.
    """

    source: Source
    titles: list[str]


def inputs_of(texts: list[str], data_root: Path | None, frames: str, columns: Columns) -> list[Input]:
    """The images that texts name, in their order; single files that follow each other are together.

    Args:
        texts: data sets with a name, folders, tables or files of images.
        data_root: as of `find_source`, like the rest.
        frames: what becomes of files with several frames.
        columns: of tables.

    Raises:
        DataError: there is no such file, or it is none of these.
    """
    found: list[Input] = []
    files: list[Path] = []

    def take_files() -> None:
        if files:
            source = with_frames(_plain(Path(), [str(path) for path in files]), frames)
            found.append(Input(source, source.names))
            files.clear()

    for text in texts:
        path = Path(text).expanduser()
        if text not in CATALOG and path.is_file() and path.suffix.lower() not in TABLE_SUFFIXES:
            if path.suffix.lower() not in EXTENSIONS and path.suffix:
                raise DataError(f"{text} is no image and no table", f"images: {', '.join(sorted(EXTENSIONS))}")
            files.append(path)
            continue
        take_files()
        source = with_missing(lenient_source(text, data_root, frames, columns))
        alone = len(texts) == 1 or source.root is None
        folder = os.path.dirname(text) if path.is_file() else text
        titles = source.names if alone else [os.path.join(folder, name) for name in source.names]
        found.append(Input(source, titles))
    take_files()
    return found


def lenient_source(text: str, data_root: Path | None, frames: str, columns: Columns) -> Source:
    """A data set, as of `find_source`; a folder whose sub-folders are no clear classes is one of images alone.

    Raises:
        DataError: it is not there, or has no images.
    """
    path = Path(text).expanduser()
    try:
        return find_source(text, data_root, frames, columns)
    except DataError:
        if text in CATALOG or not path.is_dir():
            raise
        names = images_below(path.resolve())
        if not names:
            raise
    note = f"{text} has no clear classes: {counted(len(names), 'image')} are taken without labels"
    return with_frames(_plain(path.resolve(), names, (note,)), frames)


def with_missing(source: Source) -> Source:
    """A source whose table lists files that are not there, with these at their places, so that rows are those of the
    table: reading them says that they are not there."""
    missing = sorted((fault.row, fault.name) for fault in source.faults if fault.row is not None)
    if not missing:
        return source
    names, labels = list(source.names), list(source.labels)
    groups, splits = (None if each is None else list(each) for each in (source.groups, source.splits))
    for row, name in missing:
        names.insert(row, name)
        labels.insert(row, None)
        for values in (groups, splits):
            if values is not None:
                values.insert(row, "")
    faults = tuple(fault for fault in source.faults if fault.row is None)
    return replace(source, names=names, labels=labels, groups=groups, splits=splits, faults=faults)


def unlabelled_source(text: str, data_root: Path | None, frames: str) -> Source:
    """The images of a data set, whatever labels and splits it has.

    Raises:
        DataError: it is not there, or has no images.
    """
    source = lenient_source(text, data_root, frames, Columns(label=NONE, group=NONE, split=NONE))
    nothing: list[str | None] = [None] * len(source.names)
    return replace(source, labels=nothing, classes=(), groups=None, splits=None, target=CLASSES.name)


def _plain(root: Path, names: list[str], notes: tuple[str, ...] = ()) -> Source:
    """Images of which nothing else is known."""
    return Source(
        name=root.name or "files",
        root=root,
        names=names,
        labels=[None] * len(names),
        groups=None,
        splits=None,
        arrays=None,
        image_size=None,
        classes=(),
        notes=notes,
    )
