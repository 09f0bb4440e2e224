"""Large folders of images that were packed before: opened without a look at each file, which a thread takes meanwhile.

The store remembers what a folder came to, with the times of all folders below it. Where none has another time, nothing
was added, removed or renamed, and the pack is opened at once. Whether a file was changed in its place is found out by a
thread while other things are done: see `confirm`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.sources.source import Source
from sslcurr.errors import Changed, DataError, StoreError
from sslcurr.files import read_as, write_record
from sslcurr.integrity import sound
from sslcurr.wording import counted, is_unicode

# Fewer images are looked at in no time.
MANY = 5_000
# A folder whose time is younger may get another file within the same tick of its file system's clock.
RACY_NANOSECONDS = 2_000_000_000

Stat = tuple[int, int]


class Kept(msgspec.Struct):
    """A folder that was packed.

    Attributes:
        folders: the time of change, in nanoseconds, of each folder below it and of itself.
        others: size and time of files that were looked into and are no images of the data set.
        pack: the name of the pack's folder.
        notes: remarks on the folder.
    """

    folders: dict[str, int]
    others: dict[str, Stat]
    pack: str
    notes: list[str]


class Known:
    """The folders that were packed in a store.

    Args:
        folder: for what is kept of them.
        packs: the folder of the packs.
    """

    def __init__(self, folder: Path, packs: Path) -> None:
        self._folder = folder
        self._packs = packs

    def find(self, root: Path, size: int, use: Callable[[Path], None]) -> tuple[Pack, list[str]] | None:
        """The pack of a folder at `size` pixels and the remarks on it, if nothing was added to it or taken out of it.

        Its files are looked at meanwhile: `confirm` must be called before what is made of it is published or told.

        Args:
            root: the folder, absolute.
            size: side of the packed images.
            use: is told of the pack's folder before anything is looked for there.
        """
        entry = self._entry(root, size)
        with suppress(StoreError, DataError, OSError):
            kept = read_as(entry, Kept)
            if all(os.stat(path).st_mtime_ns == changed for path, changed in kept.folders.items()):
                folder = self._packs / kept.pack
                use(folder)
                pack = load_pack(folder)
                with np.load(sound(folder / "rows.npz"), allow_pickle=False) as rows:
                    stats = rows["stats"]
                _pending().append(_Look(entry, root, pack.names, stats, kept.others))
                return pack, kept.notes
        return None

    def keep(self, source: Source, size: int, pack: Pack) -> None:
        """Remember a folder that was packed, where it is large, whole, and was left alone for a moment."""
        looks = source.looks
        if looks is None or source.root is None or pack.skipped or pack.num_images < MANY:
            return
        if not all(map(is_unicode, (*looks.folders, *looks.others))):  # no record can hold them
            return
        if max(looks.folders.values()) > time.time_ns() - RACY_NANOSECONDS:
            return
        with suppress(OSError):  # a store that cannot be written is heard of elsewhere
            others = {path: _stat(path) for path in looks.others}
            kept = Kept(looks.folders, others, pack.folder.name, list(source.notes))
            self._folder.mkdir(exist_ok=True)
            write_record(self._entry(source.root, size), msgspec.to_builtins(kept), compact=True)

    def _entry(self, root: Path, size: int) -> Path:
        name = hashlib.sha256(b"%d %s" % (size, os.fsencode(root))).hexdigest()[:16]
        return self._folder / f"{name}.json"


class _Look(threading.Thread):
    """A look at each file of a folder, beside other things."""

    def __init__(self, entry: Path, root: Path, names: list[str], stats: np.ndarray, others: dict[str, Stat]) -> None:
        super().__init__(name=f"look at {root}", daemon=True)
        self.entry = entry
        self.root = root
        self.names = names
        self.stats = stats
        self.others = others
        self.changed: list[str] = []
        self.start()

    def run(self) -> None:
        """Find the files that are not as they were packed."""
        root = str(self.root)
        for name, (size, changed) in zip(self.names, self.stats.tolist(), strict=True):
            if _stat(os.path.join(root, name)) != (size, changed):
                self.changed.append(name)
        self.changed += [path for path, stat in self.others.items() if _stat(path) != stat]


def _stat(path: str) -> Stat:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


_of_thread = threading.local()


def _pending() -> list[_Look]:
    """The looks of the call that this thread is at."""
    found: list[_Look] = _of_thread.__dict__.setdefault("looks", [])
    return found


def forget() -> None:
    """Begin another call: what one before it opened, which then failed, is no concern of it."""
    _pending().clear()


def confirm(*, wait: bool = True) -> None:
    """Hear of the looks at the files of all folders that were opened.

    Args:
        wait: until all have ended; else only those that have are heard of.

    Raises:
        Changed: a file is not as it was packed; the same call then packs it anew.
    """
    pending = _pending()
    for look in list(pending):
        if wait:
            look.join()
        elif look.is_alive():
            continue
        pending.remove(look)
        if look.changed:
            look.entry.unlink(missing_ok=True)
            raise Changed(
                f"{counted(len(look.changed), 'file')} of {look.root} changed since they were packed, such as "
                f"{look.changed[0]}",
                "run the same command again",
            )
