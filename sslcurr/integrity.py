"""What was written is what is read: a published folder of the store lists the hashes of its files.

`hashes.json` is written just before a folder gets its name. Whatever of it is used is first held against it by `sound`,
once a process for each state of a file, so that a disk that lost bits, or an editor, is found out before anything is
trained from them or reported. Folders of versions that listed no hashes are read as they are, but for the weights of a
stage, whose hash is in its record.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from sslcurr.errors import StoreError
from sslcurr.files import read_as, read_json, sha256_of, write_record
from sslcurr.spec.record import RunRecord
from sslcurr.wording import reason_of

HASHES = "hashes.json"
RECORD, WEIGHTS = "done.json", "backbone.safetensors"
# What goes on changing in a published folder, or is no part of the result.
CHANGING = frozenset({HASHES, "resume.pt", "mlflow.json"})
CHANGING_FOLDERS = frozenset({"tensorboard"})
PUBLISHED = frozenset({"stages", "analyses", "packs", "imports"})
CHANGING_ENDS = (".tmp", ".lock", ".owner.json")

_sound: set[tuple[str, int, int, int]] = set()


class Hashes(msgspec.Struct, frozen=True):
    """What a folder lists of its files, as in its `hashes.json`.

    Attributes:
        files: name, from the folder -> size in bytes and sha256.
    """

    files: dict[str, tuple[int, str]]


def write_hashes(folder: Path, leave_out: Collection[str] = (), known: Mapping[str, str] | None = None) -> None:
    """List the files of a folder that is about to be published.

    Args:
        folder: with all its files.
        leave_out: names of those that have checksums of their own.
        known: name -> sha256 of those that were hashed just now.
    """
    known = known or {}
    files = {
        name: (path.stat().st_size, known.get(name) or sha256_of(path))
        for name, path in _files_of(folder)
        if name not in leave_out
    }
    write_record(folder / HASHES, msgspec.to_builtins(Hashes(files)))


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_kept = not CHANGING_FOLDERS.intersection(name.parts) and not name.name.endswith(CHANGING_ENDS)
        if path.is_file() and is_kept and str(name) not in CHANGING:
            yield name.as_posix(), path


def sound(path: Path) -> Path:
    """The path of a file, once it was held against the hashes of its folder.

    One that is listed nowhere, such as a person's own file, is taken as it is. One that is missing is the reader's to
    say.

    Raises:
        StoreError: it is not what was written.
    """
    try:
        state = path.stat()
    except OSError:
        return path
    known = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
    if known in _sound:
        return path
    expected = _expected(path)
    if expected is not None:
        size, digest = expected
        if (size is not None and state.st_size != size) or sha256_of(path) != digest:
            raise damaged(path)
        _sound.add(known)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, which must be what was written where it was published.

    Raises:
        StoreError: it is not.
    """
    with open(sound(path), newline="") as file:
        return list(csv.DictReader(file))


def digest_of(path: Path) -> str:
    """The sha256 of a file: what its folder lists, against which it was held, or else computed.

    Raises:
        StoreError: it is not what was written.
    """
    expected = _expected(sound(path))
    return sha256_of(path) if expected is None else expected[1]


def _expected(path: Path) -> tuple[int | None, str] | None:
    """The size and the hash of a file; None where nobody noted them."""
    for folder in (path.parent, path.parent.parent):
        listing = folder / HASHES
        if listing.is_file():
            return hashes_of(folder).get(path.relative_to(folder).as_posix())
    record = path.parent / RECORD
    if path.name == WEIGHTS and record.is_file():
        noted = read_json(record)
        digest = noted.get("weights_sha256") if isinstance(noted, dict) else None
        return None if digest is None else (None, str(digest))
    return None


def hashes_of(folder: Path) -> dict[str, tuple[int, str]]:
    """What a folder lists of its files: name -> size in bytes and sha256.

    Raises:
        StoreError: the list is damaged.
    """
    listing = folder / HASHES
    state = listing.stat()
    return _read_hashes(listing, state.st_ino, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read_hashes(listing: Path, inode: int, time: int) -> dict[str, tuple[int, str]]:
    return read_as(listing, Hashes, lambda: _hint(listing.parent)).files


def digest_of_program(distributions: Iterable[str], endings: tuple[str, ...] = (".py",)) -> bytes:
    """A sha256 of this package's files, Python's version and those of other distributions: of what depends on them."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in distributions:
        digest.update(f" {name} {importlib.metadata.version(name)}".encode())
    package = Path(__file__).parent
    for path in sorted(path for path in package.rglob("*") if path.suffix in endings):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(package).as_posix()} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def faults_in(folder: Path) -> Iterator[tuple[Path, StoreError]]:
    """Files of a published folder that are not what was written, or are gone, each with what is wrong."""
    if not (folder / HASHES).is_file():
        weights = folder / WEIGHTS
        if weights.is_file():
            yield from _fault_of(weights)
        return
    try:
        listed = hashes_of(folder)
    except StoreError as error:
        yield folder / HASHES, error
        return
    for name in listed:
        if (folder / name).is_file():
            yield from _fault_of(folder / name)
        else:
            yield folder / name, StoreError("it is gone")


def _fault_of(path: Path) -> Iterator[tuple[Path, StoreError]]:
    try:
        sound(path)
    except StoreError as error:
        yield path, error
    except OSError as error:
        yield path, StoreError(f"cannot read {path} ({reason_of(error)})")


def damaged(path: Path, what: str = "it is not what was written") -> StoreError:
    """The error of a file of the store that must not be used, with what makes it again."""
    return StoreError(f"{path} is damaged: {what}", _hint(home_of(path) or path.parent))


def home_of(path: Path) -> Path | None:
    """The published folder of the store that a file is in, or that it is; None where it is in none."""
    for each in (path, path.parent, path.parent.parent, path.parent.parent.parent):
        if each.parent.name in PUBLISHED:
            return each
    return None


def _hint(folder: Path) -> str:
    """What makes a folder of the store again."""
    root = folder.parent.parent
    where = "" if root == Path("runs") else f" --runs {shlex.quote(str(root))}"
    repair = f"sslcurr runs check --repair{where} removes what is damaged"
    command = command_for(folder)
    return f"{repair}; then run {command}" if command else f"{repair}; the command that made it makes it again"


def command_for(folder: Path) -> str:
    """The command line of the latest run that needs a folder; empty where none is known."""
    best, line = "", ""
    for path in folder.parent.parent.glob("runs/*.json"):
        try:
            record = read_as(path, RunRecord)
        except StoreError:
            continue
        if record.created > best and folder.name in (*record.stages, *record.analyses, *record.packs):
            best, line = record.created, record.command_line_on(folder.parent.parent)
    return line


def forget(folder: Path) -> None:
    """Hold the files of a folder against their hashes again when they are used next."""
    inside = f"{folder}{os.sep}"
    _sound.difference_update([known for known in _sound if known[0].startswith(inside)])
