"""Work on many images: threads for most, processes for decoders that hold the interpreter's lock or may crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from sslcurr.data.decode.dicom import is_compressed_dicom
from sslcurr.data.decode.read import may_be_dicom

__all__ = ["Crashed", "Processes", "in_threads", "keep_freed_memory"]

Output = TypeVar("Output")


FEW_FILES = 32

# Reading a DICOM header takes a millisecond of the interpreter's lock, which is enough for this many threads. Beyond,
# processes that do it are worth their start (half a second) for so many files.
MANY_WORKERS, MANY_FILES = 4, 1000


LARGEST_BLOCK = 2**25 - 2**13  # with what the C library adds, below 32 MiB


class Crashed(Exception):
    """The work ended the process that did it."""

    def __init__(self) -> None:
        super().__init__("its decoder crashed")


class Processes:
    """Processes that call functions for threads of this one; started with the first call, ended by `close`.

    What is called, and what it gives, must pickle. A call that ends its process raises Crashed, and only that one:
    others that it took down with it are made again. With a count of 0 the calling thread does the work itself.
    `takes_headers` says that reading headers is for them, too; see `read`.
    """

    def __init__(self, count: int, *, takes_headers: bool = False) -> None:
        self.count = count
        self.takes_headers = takes_headers
        self.lock = threading.Lock()
        self.pool: ProcessPoolExecutor | None = None

    @classmethod
    def for_dicom(cls, num_files: int, workers: int) -> Processes:
        """As many as there are workers; none for so few files that starting them would take longer."""
        many = workers > MANY_WORKERS and num_files >= MANY_FILES
        return cls(workers if num_files >= FEW_FILES else 0, takes_headers=many)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, path: Path, function: Callable[[], Output]) -> Output:
        """What `function` gives for a file: in one of the processes for DICOM whose pixels are compressed; here for all
        whose decoders neither hold the interpreter's lock for long nor crash."""
        is_theirs = self.count > 0 and may_be_dicom(path) and (self.takes_headers or is_compressed_dicom(path))
        return self.call(function) if is_theirs else function()

    def call(self, function: Callable[[], Output]) -> Output:
        """What `function` gives in one of the processes."""
        if self.count == 0:
            return function()
        with self.lock:
            if self.pool is None:
                self.pool = _pool(self.count)
            pool = self.pool
        try:
            return pool.submit(function).result()
        except BrokenProcessPool:
            with self.lock:
                if self.pool is pool:  # the first of those that it took down
                    self.pool = None
                    pool.shutdown(wait=True)
        with _pool(1) as alone:
            try:
                alone.submit(os.getpid).result()
            except BrokenProcessPool:
                # None can be started at all, as from a script without `if __name__ == "__main__"`.
                self.count = 0
                return function()
            try:
                return alone.submit(function).result()
            except BrokenProcessPool as error:
                raise Crashed() from error

    def close(self) -> None:
        """End the processes; what they are at is finished first."""
        with self.lock:
            if self.pool is not None:
                self.pool.shutdown(wait=True, cancel_futures=True)
                self.pool = None


def _pool(count: int) -> ProcessPoolExecutor:
    # Not forked: this process has threads.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin_process)


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is left to the parent
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have the C library keep the memory of one image for the next, instead of having the system clear it each time.

    glibc gives blocks back at once that are larger than any that was freed before, up to 32 MiB; so it is shown one of
    that size, of which nothing is touched. Other libraries take no notice.
    """
    np.empty(LARGEST_BLOCK, np.uint8)


def in_threads(
    work: Callable[[int], Output], items: Iterable[int], workers: int
) -> Generator[tuple[int, Output], None, None]:
    """The items with their results as they come, with few items in flight, so that memory does not grow with the data.

    On any exception, Ctrl-C included, what has not begun is dropped and what has is waited for.
    """
    keep_freed_memory()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
    try:
        waiting = iter(items)
        pending: dict[Future[Output], int] = {pool.submit(work, i): i for i in islice(waiting, 4 * workers)}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
            pending.update({pool.submit(work, i): i for i in islice(waiting, 4 * workers - len(pending))})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
