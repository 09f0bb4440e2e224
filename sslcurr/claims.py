"""Claims: one process at a time works on a folder of the store, also where many machines share it.

A claim on the folder F is a lock of the file system on `F.lock`. A process that dies on this machine loses it at once.
A machine that dies may leave it locked, so the holder also keeps `F.owner.json`, which says who it is and is written
again every few seconds: that is its heartbeat. When no heartbeat was heard for the lease, another process may take the
folder over. It goes on in a folder of its own. The former holder, should it come back, finds that it lost its claim:
it neither publishes nor deletes anything.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from sslcurr.errors import SslcurrError, StoreError
from sslcurr.files import is_refused, sync_folder, sync_tree
from sslcurr.wording import duration

LEASE = 10.0
"""Minutes without a heartbeat after which a folder may be taken over."""
BEAT = 5.0  # seconds between two heartbeats, a sixth of the lease at most
OWNER_BYTES = 1024  # the owner's file is written over in place, so it has one length
FIRST = ("resume.pt", "stage.json", "inputs.json")  # copied first when a folder is taken over
AGAIN = "run the same command again: what is there is used"
LOCK_HINT = (
    "mount it so that locks work on all machines (NFS: not nolock or local_lock; Lustre: -o flock), or give --runs on "
    "another disk"
)


class Taken(SslcurrError):
    """Another process is at work on a folder."""


class Lost(SslcurrError):
    """A claim was taken over by another process."""


class Owner(msgspec.Struct, kw_only=True):
    """Who holds a claim, as in `F.owner.json`.

    Attributes:
        host, pid: the process.
        uuid: of the claim.
        begun: when it was made, ISO 8601.
        lease: minutes without a heartbeat after which others may take it over.
        status: what it is at, as far as it says so.
        machine: where `pid` counts: a boot of a machine and a container of it; "" where that is not known.
    """

    host: str
    pid: int
    uuid: str
    begun: str
    lease: float = LEASE
    status: dict[str, Any] = msgspec.field(default_factory=dict)
    machine: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine, and of this container, that has ended."""
        return (self.host, self.machine) == (socket.gethostname(), machine()) and not _is_alive(self.pid)


class Claim:
    """A folder that this process alone works on.

    Attributes:
        folder: what will be published.
        part: where to work until then; what an earlier process left is in it.
    """

    def __init__(self, folder: Path, lock: Any, lease: float) -> None:
        self.folder = folder
        self.owner = Owner(
            host=socket.gethostname(),
            pid=os.getpid(),
            uuid=uuid.uuid4().hex,
            begun=datetime.now().astimezone().isoformat(timespec="seconds"),
            lease=lease,
            machine=machine(),
        )
        self._lock = lock
        self._path = _beside(folder, "owner.json")
        self._writing = threading.Lock()
        self._ended = threading.Event()
        temporary = _beside(folder, f"{self.owner.uuid}.tmp")
        self._file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self.beat()
        os.replace(temporary, self._path)  # a file of our own: the former owner may have its own open still
        self.part = _current_part(folder)
        interval = min(BEAT, lease * 60 / 6)
        self._thread = threading.Thread(target=self._beat_on, args=(interval,), daemon=True, name="heartbeat")
        self._thread.start()

    def tell(self, **status: Any) -> None:
        """Note what the process is at; others read it with the next heartbeat, the first time at once."""
        is_first = not self.owner.status
        self.owner.status.update(status)
        if is_first:
            self.beat()

    def beat(self) -> None:
        """Write the owner's file anew."""
        with self._writing:
            if self._ended.is_set():
                return
            content = json.dumps(msgspec.to_builtins(self.owner)).encode()
            if len(content) > OWNER_BYTES:  # what it is at is too long to be told
                content = json.dumps(msgspec.to_builtins(msgspec.structs.replace(self.owner, status={}))).encode()
            # In place and not by its name: after a takeover the name is another's.
            os.pwrite(self._file, content.ljust(OWNER_BYTES), 0)
            os.utime(self._file)

    def _beat_on(self, interval: float) -> None:
        while not self._ended.wait(interval):
            with suppress(OSError):  # a disk that is away for a while: what matters is heard of when work is written
                self.beat()

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the folder over."""
        own = os.fstat(self._file)
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (now.st_dev, now.st_ino) != (own.st_dev, own.st_ino)

    def publish(self) -> None:
        """Give the part its final name, once all of it is on the disk.

        Raises:
            Lost: another process has taken the folder over.
        """
        if self.is_lost:
            raise Lost(f"{self.folder.name} was taken over by another process", AGAIN)
        sync_tree(self.part)
        try:
            os.replace(self.part, self.folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise Lost(f"{self.folder.name} was published by another process", AGAIN) from error
        sync_folder(self.folder.parent)
        for other in self.folder.parent.glob(f"{self.folder.name}.*"):
            if other.suffix == ".part":
                shutil.rmtree(other, ignore_errors=True)
            elif ".lost-" in other.name:
                other.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the claim back; an empty part is removed."""
        self._ended.set()
        self._thread.join()
        with self._writing:
            try:
                if not self.is_lost:
                    with suppress(OSError):
                        self.part.rmdir()  # only where it is empty
                    self._path.unlink(missing_ok=True)
            finally:
                os.close(self._file)
                self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def claim(folder: Path, *, lease: float = LEASE) -> Claim | None:
    """A claim on a folder, or None where another process holds it.

    Args:
        folder: what will be published; its parent is made.
        lease: minutes without a heartbeat of its holder after which it is taken over.

    Raises:
        StoreError: the file system cannot lock files, or two processes hold the same lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder)
    if lock is None and _take_over(folder, lease):
        lock = _locked(folder)
    if lock is None:
        return None
    try:
        _check_alone(folder)
        return Claim(folder, lock, lease)
    except BaseException:
        lock.release()
        raise


@contextmanager
def waited_claim(folder: Path, waiting: Any = None, *, lease: float = LEASE) -> Iterator[Claim]:
    """A claim on a folder, waited for where another process holds it; `waiting` is called once, if so."""
    pause = 0.05
    while (made := claim(folder, lease=lease)) is None:
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    with made:
        yield made


def is_claimed(folder: Path) -> bool:
    """Whether a process works on a folder, here or elsewhere."""
    if not _beside(folder, "lock").exists():
        return False
    try:
        lock = _locked(folder)
    except OSError as error:
        if not is_refused(error):
            raise
        return _is_locked(_beside(folder, "lock"))
    if lock is not None:
        lock.release()
    return lock is None


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file that this one may only read."""
    import fcntl

    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def locked_now(path: Path) -> Any:
    """A lock of the file system on a file, held until its `release` or the end of the process; None where another
    process holds it.

    Raises:
        StoreError: the file system cannot lock files.
    """
    from filelock import FileLock

    return _acquired(FileLock(path))


def owner_of(folder: Path) -> Owner | None:
    """Who holds the claim on a folder, or held it last; None where nobody says so."""
    try:
        return msgspec.convert(json.loads(_beside(folder, "owner.json").read_bytes()), Owner)
    except (OSError, ValueError, msgspec.ValidationError):
        return None


def described_owner(folder: Path) -> str:
    """Who works on a folder and when it was last heard of, such as "node3, process 812, heard of 2 s ago"."""
    owner = owner_of(folder)
    if owner is None:
        return "another process"
    silent = silence(folder)
    age = "" if silent is None else f", heard of {duration(silent)} ago"
    return f"process {owner.pid} on {owner.host}{age}"


def silence(folder: Path) -> float | None:
    """Seconds since the last heartbeat, by the clock of the disk; None where there is no owner."""
    beat = _beat_of(folder)
    if beat is None:
        return None
    clock = _beside(folder, f"clock-{uuid.uuid4().hex[:12]}")
    try:
        clock.touch()
        return max(0.0, clock.stat().st_mtime - beat)
    except OSError:  # a store that only reads
        return max(0.0, time.time() - beat)
    finally:
        with suppress(OSError):
            clock.unlink(missing_ok=True)


def check_locks(folder: Path) -> None:
    """Raise StoreError unless the file system of a folder has locks that lock.

    Two open files of this process stand for two processes; that locks hold between machines shows when a claim is
    made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f"probe-{uuid.uuid4().hex[:12]}"
    try:
        first, second = _locked(probe), _locked(probe)
        for lock in (second, first):
            if lock is not None:
                lock.release()
        if second is not None:
            raise StoreError(f"the file system of {folder} does not keep locks: two processes can hold one", LOCK_HINT)
    finally:
        _beside(probe, "lock").unlink(missing_ok=True)


# ---- what they are made of


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _locked(folder: Path) -> Any:
    """The lock of a folder, held; None where another process holds it."""
    return locked_now(_beside(folder, "lock"))


def _acquired(lock: Any) -> Any:
    """A lock that is held now; None where another process holds it.

    Raises:
        StoreError: the file system cannot lock files.
    """
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        if error.filename is not None:  # the file cannot be opened: a lock that is refused names none
            raise
        place = Path(lock.lock_file).parent
        raise StoreError(f"the file system of {place} cannot lock files ({error.strerror})", LOCK_HINT) from error
    return lock


def _check_alone(folder: Path) -> None:
    """Raise StoreError where somebody else's heartbeat goes on though this process holds the lock."""
    owner = owner_of(folder)
    if owner is None or owner.is_gone:
        return
    beat = min(BEAT, owner.lease * 60 / 6)
    began = time.monotonic()
    first = _beat_of(folder)
    # Only a former holder that was heard of just now may be alive; most often it was killed.
    while (silent := silence(folder)) is not None and silent < 2 * beat and time.monotonic() - began < 2 * beat:
        if _beat_of(folder) != first:
            raise StoreError(
                f"two processes hold the lock of {folder}: this one and {described_owner(folder)}", LOCK_HINT
            )
        time.sleep(min(0.5, beat / 4))


def _take_over(folder: Path, lease: float) -> bool:
    """Free a folder whose holder has died without a word; False where it has not, or another process was quicker."""
    owner, first = owner_of(folder), _beat_of(folder)
    if owner is None:
        return False
    if not owner.is_gone:
        # Not worth asking the disk for its clock, unless that of this machine is behind.
        if first is None or 0 <= time.time() - first < lease * 30:
            return False
        silent = silence(folder)
        if silent is None or silent < lease * 60:
            return False
        # Long silent by the clock of the disk: a machine that slept beats again as soon as it wakes.
        time.sleep(min(BEAT, lease * 60 / 6))
        if _beat_of(folder) != first:
            return False
    elif _acquired_soon(folder):
        return True
    try:
        # Only one process can rename it, so the folder is taken over once.
        _beside(folder, "owner.json").rename(_beside(folder, f"lost-{owner.uuid}"))
    except FileNotFoundError:
        return False
    _beside(folder, "lock").unlink(missing_ok=True)
    return True


def _acquired_soon(folder: Path) -> bool:
    """Whether the lock of an ended process gets free by itself, as that of a process of this machine does."""
    for _ in range(5):
        if not is_claimed(folder):
            return True
        time.sleep(0.02)
    return False


def _beat_of(folder: Path) -> float | None:
    """The time of the last heartbeat, by the clock of the disk; None where there is no owner."""
    try:
        return _beside(folder, "owner.json").stat().st_mtime
    except FileNotFoundError:
        return None


def _current_part(folder: Path) -> Path:
    """The part to work in: a new one after each takeover, with what the former holder had saved."""
    num_lost = len(list(folder.parent.glob(f"{folder.name}.lost-*")))
    part = _beside(folder, f"{num_lost}.part" if num_lost else "part")
    if num_lost and not part.exists():
        former = _beside(folder, f"{num_lost - 1}.part" if num_lost > 1 else "part")
        if former.is_dir():
            _copy(former, part)
    part.mkdir(exist_ok=True)
    for path in part.rglob("*.tmp"):  # what a killed process was writing
        path.unlink(missing_ok=True)
    return part


def _copy(former: Path, part: Path) -> None:
    """Copy what another process may still write to: the saved state first, since logs only grow after it."""
    copying = part.with_name(f"{part.name}.{uuid.uuid4().hex[:12]}.tmp")
    shutil.rmtree(copying, ignore_errors=True)
    copying.mkdir()
    try:
        for name in sorted(os.listdir(former), key=lambda name: (name not in FIRST, name)):
            path = former / name
            if name.endswith((".tmp", ".lock", ".owner.json")):
                continue
            if path.is_dir():
                shutil.copytree(path, copying / name, ignore=shutil.ignore_patterns("*.tmp", "*.lock", "*.owner.json"))
            else:
                shutil.copy2(path, copying / name)
        os.replace(copying, part)
    except (OSError, shutil.Error):  # nothing whole to go on from: from the beginning
        shutil.rmtree(copying, ignore_errors=True)


@functools.cache
def machine() -> str:
    """What tells apart process ids of machines and containers of one host name; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to hear of it; Linux says so."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False
