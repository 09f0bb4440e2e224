"""Plans: the jobs that a command wants done, in a file of the store, so that workers anywhere can take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from sslcurr.engine.graph import Job
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as, write_record


class PlanFile(msgspec.Struct, kw_only=True):
    """What a command wants, as in a file under `plans`.

    Attributes:
        run: the name of its run.
        command: its command line, word by word.
        jobs: each after those that it needs.
    """

    run: str
    command: list[str]
    jobs: list[Job]


class Plan:
    """The plan of a run, written anew with all that is added.

    Args:
        run: its name.
        command: its command line.
        store: where it is written.
    """

    def __init__(self, run: str, command: Sequence[str], store: Store) -> None:
        self.run = run
        self.command = list(command)
        self.store = store
        self.jobs: dict[str, Job] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        """More jobs, each after those that it needs; those that failed once are to be tried again."""
        added = {job.name: job for job in jobs if job.name not in self.jobs}
        self.jobs |= added
        if added:
            self.store.clear_failures(added)  # first: a worker that reads the plan heeds what is noted
            self.store.plans.mkdir(parents=True, exist_ok=True)
            content = PlanFile(run=self.run, command=self.command, jobs=list(self.jobs.values()))
            write_record(self.store.plan(self.run), msgspec.to_builtins(content), compact=True)

    def knows(self, name: str) -> bool:
        """Whether a job was added."""
        return name in self.jobs


class Plans:
    """The plans of a store, read again when they change."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, tuple[float, int]] = {}  # name of the file -> its time and size

    def changed(self, damaged: Callable[[StoreError], None] | None = None) -> list[PlanFile]:
        """The plans that are new or written again since the last call.

        Args:
            damaged: is told of each that is damaged, which is then left out.

        Raises:
            StoreError: one is damaged, and nobody is told.
        """
        plans = []
        for path in sorted(self.store.plans.glob("*.json")) if self.store.plans.is_dir() else []:
            try:
                state = path.stat()
            except FileNotFoundError:  # its command has ended
                continue
            stamp = (state.st_mtime, state.st_size)
            if self._read.get(path.name) != stamp:
                self._read[path.name] = stamp
                try:
                    plans.append(read_as(path, PlanFile, "remove this file: the command of that run writes it again"))
                except StoreError as error:
                    if not path.is_file():  # its command has ended just now
                        continue
                    if damaged is None:
                        raise
                    damaged(error)
        return plans
