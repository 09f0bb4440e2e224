"""Files written whole or not at all: JSON, bytes, a disk that is full, files that may not be read or written.

Records of the store end in a seal, which is a hash of all that stands before it: what a bad disk or a careless editor
changed is found out when it is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec

from sslcurr.errors import SpecError, StoreError
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    import numpy as np

Content = TypeVar("Content")
OUTPUT_MARK = ".sslcurr"
"""A file in the folders that this program makes for what it writes: among images, they are no classes."""
Hint = str | Callable[[], str]
FOLDER_HINT = "remove its folder and run the command again"
SEAL, SEAL_VERSION = "seal", b"1"
SEALED = re.compile(rb',?\n "seal": "(\d+) ([0-9a-f]{64})"\n}\n?\Z')
BROKEN_SEAL = re.compile(rb'"seal": |"1 [0-9a-f]{8}')
# Errors of a path: its name, what it leads to, or the disk below it.
UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EIO, errno.ESTALE)
NOT_REGULAR = "it is no regular file"
NEWER_HINT = "use the version of sslcurr that wrote it, or pip install --upgrade sslcurr"
REFUSED_HINT = "ask its owner to run chmod -R g+rwX on the folder, or give another folder (for the store: --runs)"


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the whole new one."""
    write_whole(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_record(path: Path, value: Mapping[str, Any], *, compact: bool = False) -> None:
    """Write a record of the store, with its seal; see `read_json`. A `compact` one has no line for each value."""
    write_whole(path, sealed(value, compact=compact))


def sealed(value: Mapping[str, Any], *, compact: bool = False) -> bytes:
    """A record as JSON whose last member is its seal: the sha256 of all that stands before it."""
    text = json.dumps(value, indent=None if compact else 1, allow_nan=False).encode()
    body = text.removesuffix(b"}").removesuffix(b"\n")
    digest = hashlib.sha256(body).hexdigest().encode()
    return b'%s%s\n "%s": "%s %s"\n}\n' % (body, b"," if value else b"", SEAL.encode(), SEAL_VERSION, digest)


def write_whole(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write a file under another name, sync it, and rename it; what was half-written is removed on failure.

    The file has the mode that the umask gives a new file, also where a library would make it readable for its owner
    alone.

    Raises:
        OSError: it cannot be written; a full disk and a folder that may not be written always are one, also where a
            library calls them something else.
    """
    temporary = temporary_path(path)
    try:
        with open(temporary, "xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if not callable(content):
                file.write(content)
        if callable(content):
            content(temporary)
            if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors puts a file of its own in its place
                temporary.chmod(mode)
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except RuntimeError:
        ask_for_space(temporary_path(path))  # torch.save says "iostream error"
        raise
    except OSError as error:
        if str(error.filename) in ("None", str(temporary)):
            error.filename, error.filename2 = str(path), None  # a temporary name tells a person nothing
        raise
    finally:
        with suppress(PermissionError):
            temporary.unlink(missing_ok=True)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as a NumPy file, whole or not at all."""
    import numpy as np

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # np.save would add an ending to the name
            np.save(file, array)

    write_whole(path, write)


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk: what was renamed there outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems of other systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have all that a folder holds on the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(root, name))
        sync_folder(Path(root))


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_path(path: Path) -> Path:
    """A name beside `path` for what becomes it, or is removed again; it ends in `.tmp`.

    No other process has it, on this host or on another with the same process ids, such as a second container.
    """
    return path.with_name(f"{path.name[:40]}.{platform.node()[:40]}.{os.urandom(6).hex()}.tmp")


def ask_for_space(path: Path, num_bytes: int = 1 << 20) -> None:
    """Raise the OSError of a full disk, if it is full: reserve some bytes in a file that is removed again."""
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
    finally:
        path.unlink(missing_ok=True)


def read_json(path: Path, hint: Hint = FOLDER_HINT) -> Any:
    """The content of a JSON file, without its seal; one without a seal was written by an earlier version.

    Args:
        path: the file.
        hint: what to do where it is damaged; a function is only called then.

    Raises:
        StoreError: it is missing or damaged, or of a newer version.
    """
    return _read_record(path, hint)[0]


def _read_record(path: Path, hint: Hint) -> tuple[Any, bool]:
    """The content of a JSON file, and whether its seal holds."""
    try:
        content = read_regular(path)
        seal = SEALED.search(content)
        if seal is not None and seal[1] != SEAL_VERSION:
            raise StoreError(f"{path} was written by a newer version of sslcurr", NEWER_HINT)
        if seal is None and BROKEN_SEAL.search(content[-100:]):
            raise ValueError("its seal is broken")
        if seal is not None and hashlib.sha256(content[: seal.start()]).hexdigest().encode() != seal[2]:
            raise ValueError("it is damaged: it is not what was written")
        value = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path} ({reason_of(error)})", hint_for(error, hint)) from error
    if seal is not None:
        del value[SEAL]
    return value, seal is not None


def read_regular(path: Path) -> bytes:
    """The bytes of a file, opened by `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> BinaryIO:
    """A file to be read; a named pipe or a device, which might never end, is an OSError."""
    try:  # a pipe without a writer would be waited for
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path)) from error
        raise
    file = open(handle, "rb")  # noqa: SIM115 -- the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return file


def read_as(path: Path, kind: type[Content], hint: Hint = FOLDER_HINT) -> Content:
    """The content of a JSON file of the store as a value of a type, with a hint as of `read_json`.

    Raises:
        StoreError: it is missing, damaged, or of something else.
    """
    value, is_whole = _read_record(path, hint)
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        # It is what was written, so another version wrote it.
        raise StoreError(f"cannot read {path} ({error})", NEWER_HINT if is_whole else hint_for(error, hint)) from error


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)


def is_full_disk(error: OSError) -> bool:
    """Whether an error says that no space is left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_refused(error: BaseException) -> bool:
    """Whether an error says that a file may not be read or written: it is another user's, or on a read-only disk."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def mistake_of(error: OSError, folder: Path | None = None) -> StoreError | None:
    """What a person can do something about: a full disk, a file that may not be read or written, a path that cannot be,
    and, where `folder` is given, a file below it that somebody has removed. None for others."""
    if is_full_disk(error):
        return StoreError(
            f"no space is left on the disk ({error})",
            "free some space, or give --runs on another disk, and run the same command again: "
            "finished stages and the last saved step are kept",
        )
    if is_refused(error):
        what = error if error.filename is None else f"{error.filename} ({error.strerror})"
        return StoreError(f"cannot read or write {what}", REFUSED_HINT)
    if error.errno in UNUSABLE and error.filename is not None:
        return StoreError(f"cannot use {error.filename} ({error.strerror})", "give another path, or mend that one")
    is_gone = isinstance(error, FileNotFoundError) and error.filename is not None
    if is_gone and folder is not None and Path(error.filename).absolute().is_relative_to(folder):
        return StoreError(f"{error.filename} is gone", "was it removed meanwhile? run the same command again")
    return None


def hint_for(error: BaseException, hint: Hint) -> str:
    """What to do about a file that cannot be read: `hint`, but for one that may not be read."""
    return REFUSED_HINT if is_refused(error) else hint if isinstance(hint, str) else hint()


def check_picture(path: Path) -> None:
    """Raises SpecError unless a PNG file can be written there."""
    if path.suffix.lower() != ".png":
        raise SpecError(f"--out writes PNG, not {path.name!r}", "give a name that ends in .png")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises SpecError unless a file can be written there."""
    if not path.absolute().parent.is_dir():
        raise SpecError(f"there is no folder {path.parent}", "make it first, or give another file")
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise SpecError(f"cannot write {path}", "give another file")


def writable_folder(path: Path, option: str) -> Path:
    """The folder that an option names, made if it is not there; a new one is marked as this program's output.

    Raises:
        SpecError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = f"give another folder as {option}"
        raise SpecError(f"cannot make the folder {path} ({error.strerror})", hint) from error
    if not os.access(path, os.W_OK):
        raise SpecError(f"cannot write to {path}", f"give another folder as {option}")
    with suppress(OSError):  # what is wrong with the disk is heard of when there is something to write
        if not any(path.iterdir()):
            (path / OUTPUT_MARK).touch()
    return path
