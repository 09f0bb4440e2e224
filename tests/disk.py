"""A disk that loses what was not synced, in this process: every state in which a power cut may leave a folder."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, Any]  # name -> bytes of a file, or the tree of a folder


@dataclass
class Disk:
    """What happened below a folder, as the operating system was asked for it.

    Contents of files count from their last fsync, and names in folders from the last fsync of the folder; where the
    disk was quicker, names count at once (`early`), though contents do not.
    """

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)  # inode -> as last synced
    names: dict[int, dict[str, int]] = field(default_factory=dict)  # inode of a folder -> as last synced
    states: list[tuple[str, Tree, Tree]] = field(default_factory=list)

    def synced(self, descriptor: int) -> None:
        """A file or a folder was synced."""
        about = os.fstat(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not Path(path).is_relative_to(self.root) and Path(path) != self.root:
            return
        if stat.S_ISDIR(about.st_mode):
            self.names[about.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.contents[about.st_ino] = Path(path).read_bytes()
        self.note(f"fsync {Path(path).name}")

    def gone(self, path: Any, folder: int | None) -> None:
        """A name is about to vanish; its inode may become another file's."""
        try:
            about = os.stat(path, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return
        if about.st_nlink == 1:
            self.contents.pop(about.st_ino, None)

    def note(self, what: str) -> None:
        """Keep the two states in which a power cut may leave the folder now."""
        early, late = self._early(self.root), self._late(self.root)
        if not self.states or (early, late) != self.states[-1][1:]:
            self.states.append((what, early, late))

    def _early(self, folder: Path) -> Tree:
        tree: Tree = {}
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                tree[entry.name] = self._early(Path(entry.path))
            else:
                tree[entry.name] = self.contents.get(entry.inode(), b"")
        return tree

    def _late(self, root: Path) -> Tree:
        kinds: dict[int, bool] = {}
        for where, folders, files in os.walk(root):
            kinds |= {os.stat(Path(where, name)).st_ino: True for name in folders}
            kinds |= {os.stat(Path(where, name)).st_ino: False for name in files}

        def tree(inode: int) -> Tree:
            found: Tree = {}
            for name, each in self.names.get(inode, {}).items():
                if kinds.get(each) or each in self.names:
                    found[name] = tree(each)
                elif each in kinds or each in self.contents:
                    found[name] = self.contents.get(each, b"")
            return found

        return tree(root.stat().st_ino)


@contextmanager
def watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Watch what is asked of the operating system below a folder, which exists."""
    disk = Disk(root)
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir")}

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        disk.synced(descriptor)

    def moved(name: str) -> Any:
        def move(source: Any, target: Any, **how: Any) -> None:
            disk.gone(target, how.get("dst_dir_fd"))
            real[name](source, target, **how)
            disk.note(f"{name} {Path(target).name}")

        return move

    def removed(name: str) -> Any:
        def remove(path: Any, **how: Any) -> None:
            disk.gone(path, how.get("dir_fd"))
            real[name](path, **how)
            disk.note(f"{name} {path}")

        return remove

    def made(path: Any, *mode: Any, **how: Any) -> None:
        real["mkdir"](path, *mode, **how)
        disk.note(f"mkdir {path}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "mkdir", made)
        for name in ("replace", "rename"):
            patch.setattr(os, name, moved(name))
        for name in ("unlink", "remove", "rmdir"):
            patch.setattr(os, name, removed(name))
        yield disk


def write(tree: Tree, folder: Path) -> None:
    """Make a folder as a state has it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write(content, folder / name)
