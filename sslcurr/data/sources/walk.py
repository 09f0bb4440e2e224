"""The files below a folder: images, and what lies beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.clutter import (
    STORE_FOLDERS,
    is_hidden,
    is_of_a_system,
    is_our_picture,
    is_output,
    is_store,
    may_be_ours,
)
from sslcurr.errors import DataError
from sslcurr.wording import and_more, counted, is_unicode, visible

__all__ = ["Walk", "images_below", "walk_below"]

DICOM_MARK, DICOM_MARK_AT = b"DICM", 128
DICOM_INDEX = "DICOMDIR"  # lists the files of a medium, and has no image itself


@dataclass
class Walk:
    """What lies below a folder: images as sorted relative paths, folders without any, and how many other files.

    `of_systems` are images in folders that systems keep for themselves, `stores` are folders of this program, and `own`
    its charts and sheets. `folders` are all that were read, with their times of change before that, in nanoseconds, and
    `others` files that their content told from images.
    """

    images: list[str] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    num_others: int = 0
    of_systems: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Remarks on what is no data."""
        notes = []
        if self.of_systems:
            num_images = counted(len(self.of_systems), "image")
            notes.append(f"{num_images} left out, thumbnails or rubbish of a system, such as {self.of_systems[0]}")
        if self.stores:
            first = "what is a store in this folder" if self.stores[0] == "." else self.stores[0]
            notes.append(f"{first} left out{and_more(len(self.stores))}: a store of sslcurr, and no images")
        if self.own:
            notes.append(f"{counted(len(self.own), 'picture')} left out that sslcurr drew, such as {self.own[0]}")
        return notes


def images_below(root: Path, folder: str = "") -> list[str]:
    """The images at any depth below `root/folder`, as paths relative to `root`, sorted; none if it is not there."""
    below = root / folder
    if not below.is_dir():
        return []
    prefix = f"{folder}/" if folder else ""
    return [prefix + name for name in walk_below(below).images]


def walk_below(root: Path, *, own: bool = False) -> Walk:
    """All files at any depth, without hidden ones, those of systems, and stores of this program; `own` also looks for
    its charts and sheets.

    Raises DataError if a folder may not be read, or an image's path is no text in UTF-8, as results are.
    """
    walk = _walked(str(root), frozenset({str(root)}), own=own)
    walk.images.sort()
    odd = [name for name in walk.images if not is_unicode(name)]
    if odd:
        raise DataError(
            f"{counted(len(odd), 'image')} below {root} with a path that is not UTF-8, such as {visible(odd[0])}",
            f"rename them, such as by convmv -f latin1 -t utf8 -r --notest {root}",
        )
    return walk


def _walked(root: str, around: frozenset[str], *, own: bool) -> Walk:
    """What lies below a folder that lies in those `around`, unsorted."""
    walk = Walk()

    def visit(folder: str, prefix: str, above: frozenset[str]) -> bool:
        """Whether a folder is not empty: an image lies in it, at any depth, or this program made it."""
        folders: list[os.DirEntry[str]] = []
        files: list[os.DirEntry[str]] = []
        walk.folders[folder], inside = _entries(folder)
        for entry in inside:
            (folders if _is_folder(entry) else files).append(entry)
        filled = is_output(folder)
        if is_store(folder, [entry.name for entry in folders]):
            walk.stores.append(prefix.rstrip("/") or ".")
            folders = [entry for entry in folders if entry.name not in STORE_FOLDERS]
            filled = True
        for entry in folders:
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if real in above:  # a link to a folder it lies in would never end
                continue
            if is_of_a_system(entry.name):
                kept = _walked(entry.path, above | {real}, own=False)
                walk.of_systems += [f"{prefix}{entry.name}/{name}" for name in kept.images]
                walk.folders |= kept.folders
                walk.others += kept.others
            else:
                has_images = visit(entry.path, f"{prefix}{entry.name}/", above | {real})
                filled = filled or has_images
                if not has_images:
                    walk.empty_folders.append(f"{prefix}{entry.name}")
        images = []
        for entry in files:
            if _is_image(entry):
                images.append(entry)
            elif _may_be_dicom(entry.name):
                walk.others.append(entry.path)
        walk.num_others += len(files) - len(images)
        names = [entry.name for entry in images]
        ours = {
            name
            for name in (may_be_ours(names, {entry.name for entry in files}) if own else ())
            if is_our_picture(os.path.join(folder, name))
        }
        walk.own += [prefix + name for name in names if name in ours]
        walk.others += [os.path.join(folder, name) for name in ours]
        walk.images += [prefix + name for name in names if name not in ours]
        return filled or bool(images)

    visit(root, "", around)
    return walk


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it says what is wrong with it
        return False


def _entries(folder: str) -> tuple[int, list[os.DirEntry[str]]]:
    """The time of change of a folder, in nanoseconds, before it is read, and what is in it, by name, without what is
    hidden."""
    try:
        changed = os.stat(folder).st_mtime_ns
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not is_hidden(entry.name))
            return changed, sorted(shown, key=lambda entry: entry.name)
    except PermissionError as error:
        raise DataError(f"the folder {folder} may not be read", "change its permissions") from error


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether the name says image, or the content says DICOM: archives export it under bare numbers."""
    if _suffix(entry.name).lower() in EXTENSIONS:
        return True
    if not _may_be_dicom(entry.name):
        return False
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:
            file.seek(DICOM_MARK_AT)
            return file.read(len(DICOM_MARK)) == DICOM_MARK
    except OSError:
        return False


def _suffix(name: str) -> str:
    """The ending of a name that is not hidden, with its dot."""
    stem, dot, end = name.rpartition(".")
    return dot + end if stem else ""


def _may_be_dicom(name: str) -> bool:
    """Whether only the content of a file can say that it is an image."""
    suffix = _suffix(name)
    return (not suffix or suffix[1:].isdigit()) and name.upper() != DICOM_INDEX
