"""What processes are at, so that nobody removes it under them.

A process that reads a folder of the store first notes its name in a file of its own under `using`, on which it holds a
lock until it ends. Whoever removes folders holds a lock of the store meanwhile, leaves out what is noted there, and
renames the rest before deleting it. A process that notes a name waits while somebody renames, and only then looks
whether the folder is there.
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sslcurr.claims import locked_now
from sslcurr.errors import StoreError

USING, REMOVED = "using", "removed"
REMOVING = "removing"
# A process that goes from store to store holds notes in so many of them at once, two open files each.
MOST_STORES = 16


class _Note:
    """The file in which this process notes what it uses of a store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{platform.node()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.lock = locked_now(_lock_of(self.path))
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.names: set[str] = set()
        self.process = os.getpid()

    def add(self, name: str) -> None:
        os.write(self.file, f"{name}\n".encode(errors="surrogateescape"))
        self.names.add(name)

    def close(self) -> None:
        if self.process != os.getpid():  # a fork: the file is that of its parent
            return
        with suppress(OSError):
            os.close(self.file)
            self.path.unlink(missing_ok=True)
            if self.lock is not None:
                self.lock.release()
            _lock_of(self.path).unlink(missing_ok=True)


_notes: dict[Path, _Note | None] = {}


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@atexit.register
def _close() -> None:
    for note in _notes.values():
        if note is not None:
            note.close()
    _notes.clear()


def use(root: Path, name: str) -> None:
    """Note that this process uses a folder of a store, until it ends, where the store can be written and locked.

    Args:
        root: of the store, a whole path.
        name: of the folder, such as `stages/KEY`.
    """
    note = _notes.get(root)
    if note is not None and note.process != os.getpid():
        _notes.pop(root)
        note = None
    if note is None and root not in _notes:
        while len(_notes) >= MOST_STORES:
            oldest = _notes.pop(next(iter(_notes)))
            if oldest is not None:
                oldest.close()
        try:
            note = _Note(root / USING)
        except (OSError, StoreError):
            if not root.is_dir():  # not yet
                return
            note = None
        _notes[root] = note
    if note is None or name in note.names:
        return
    if not note.path.exists():  # the store was removed and made again
        _notes.pop(root)
        note.close()
        use(root, name)
        return
    note.add(name)
    _wait_for_removal(root)


def _wait_for_removal(root: Path) -> None:
    """Wait while another process renames what it removes, which takes a moment."""
    while (root / REMOVING).exists():
        lock = locked_now(_lock_of(root / REMOVING))
        if lock is not None:  # it was killed meanwhile
            lock.release()
            return
        time.sleep(0.01)


def used_by_others(root: Path) -> set[str]:
    """The folders that other processes use now; the notes of those that have ended are deleted."""
    found: set[str] = set()
    folder = root / USING
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        own = _notes.get(root)
        if path.suffix == ".lock" or (own is not None and path == own.path):
            continue
        lock = locked_now(_lock_of(path))
        if lock is None:
            found.update(path.read_bytes().decode(errors="surrogateescape").splitlines())
            continue
        path.unlink(missing_ok=True)
        lock.release()
        _lock_of(path).unlink(missing_ok=True)
    return found


@contextmanager
def removing(root: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Nobody else removes anything of a store meanwhile, and nobody begins to use anything.

    Args:
        root: of the store.
        waiting: is called once where another process removes.

    Raises:
        StoreError: another process goes on removing for a minute.
    """
    lock: Any = None
    for attempt in range(600):
        if (lock := locked_now(_lock_of(root / REMOVING))) is not None:
            break
        if attempt == 1:
            waiting()
        time.sleep(0.1)
    if lock is None:
        raise StoreError(f"another process removes things from {root}", "run the same command again later")
    try:
        (root / REMOVING).touch()
        yield
    finally:
        (root / REMOVING).unlink(missing_ok=True)
        lock.release()


def rename_away(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Take folders and files out of a store by renaming them; they are deleted by `delete_removed`."""
    place = root / REMOVED / uuid.uuid4().hex[:12]
    moved = []
    for number, path in enumerate(paths):
        place.mkdir(parents=True, exist_ok=True)
        target = place / f"{number}-{path.name[:100]}"
        try:
            os.replace(path, target)
        except FileNotFoundError:
            continue
        moved.append(target)
    return moved


def delete_removed(root: Path) -> None:
    """Delete what was renamed away, here or by a process that was killed."""
    shutil.rmtree(root / REMOVED, ignore_errors=True)
