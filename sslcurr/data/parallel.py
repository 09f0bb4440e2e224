"""Work on many images in threads, with few of them in flight."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Result = TypeVar("Result")


def in_threads(
    work: Callable[[int], Result], items: Iterable[int], workers: int
) -> Generator[tuple[int, Result], None, None]:
    """The items with their results as they come, with few items in flight, so that memory does not grow with the data.

    On any exception, Ctrl-C included, what has not begun is dropped and what has is waited for.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
    try:
        waiting = iter(items)
        pending: dict[Future[Result], int] = {pool.submit(work, i): i for i in islice(waiting, 4 * workers)}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
            pending.update({pool.submit(work, i): i for i in islice(waiting, 4 * workers - len(pending))})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
