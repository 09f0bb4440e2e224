"""The files that a table means: paths as other systems write them, and names without their extension."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.walk import images_below
from sslcurr.errors import DataError
from sslcurr.wording import and_more

__all__ = ["Files"]

DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Files:
    """The files below a folder, `root`, and elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names_in: dict[str, dict[str, list[str]]] = {}
        self._is_there: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        """Whether there is a file of that path."""
        if name not in self._is_there:
            # Not Path.is_file: it raises for names that are too long.
            self._is_there[name] = os.path.isfile(os.path.join(self.root, name))
        return self._is_there[name]

    def on_disk(self, name: str) -> str:
        """A path as the disk has it: with slashes for backslashes, and letters in the disk's Unicode form.

        It is given back as it is where it is there, and where nothing else is.
        """
        if self.has(name):
            return name
        for other in (name, posixpath.normpath(name.replace("\\", "/"))):
            found = other if self.has(other) else self._in_other_form(other)
            if found is not None:
                return found
        return name

    def _in_other_form(self, name: str) -> str | None:
        """The one file whose path is composed of the same letters."""
        if name.isascii():
            return None
        places = ["/"] if name.startswith("/") else [""]
        for part in name.strip("/").split("/"):
            form = unicodedata.normalize("NFC", part)
            places = [
                f"{place}{'/' if place not in ('', '/') else ''}{each}"
                for place in places
                for each in self._names(place).get(form, [part] if part == ".." else [])
            ]
        return places[0] if len(places) == 1 and self.has(places[0]) else None

    def _names(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder by their composed form."""
        if folder not in self._names_in:
            names = self._names_in.setdefault(folder, {})
            try:
                for name in sorted(os.listdir(self.root / folder)):
                    names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            except OSError:
                pass
        return self._names_in[folder]

    def by_stem(self, names: Sequence[str], table: Path) -> list[str]:
        """The images of these names, with or without an extension, at any depth below the root; the names as they are
        where one of them is a file or has a folder, or where not one is found so.

        Raises DataError if a name could be two images.
        """
        if any("/" in name or self.has(name) for name in names):
            return list(names)
        images: dict[str, list[str]] = {}
        for image in images_below(self.root):
            stem, extension = posixpath.splitext(image)
            if extension.lower() in EXTENSIONS:
                images.setdefault(posixpath.basename(stem), []).append(image)
                images.setdefault(posixpath.basename(image), []).append(image)
        for name in names:
            candidates = images.get(name, [])
            if len(candidates) > 1:
                raise DataError(
                    f"{name} in {table} could be {candidates[0]} or {candidates[1]}{and_more(len(candidates) - 1)}",
                    "write paths with folder and extension",
                )
        return [images.get(name, [name])[0] for name in names]

    def hint(self, name: str) -> str:
        """What to do where a path is not there."""
        if DRIVE.match(name):
            return f"it is a path of a Windows machine: write paths relative to the table's folder, {self.root}"
        folder, base = posixpath.split(name)
        for other in sorted(each for names in self._names(folder).values() for each in names):
            if other.casefold() == base.casefold():
                return f"{posixpath.join(folder, other)} is: upper and lower case differ"
        if "\\" in name:
            return f"paths are relative to the table's folder, {self.root}, with / between folders"
        return f"paths are relative to the table's folder, {self.root}"
