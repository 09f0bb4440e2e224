"""Jobs that need each other: which are ready, which comes first, what a failure takes with it. Nothing runs here."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from sslcurr.spec.stage import Json


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work whose result the store keeps: a stage, or an analysis of one.

    Attributes:
        name: of this work only: the key of a stage, or what else tells it from others.
        kind: a name in `engine.jobs.KINDS`.
        title: what a person calls it.
        arguments: plain values, the same on every machine: paths are named from the store.
        needs: names of the jobs before it; those that a graph does not have are done.
        cost: in image passes.
    """

    name: str
    kind: str
    title: str
    arguments: Json = msgspec.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    cost: float = 0.0


@dataclass(frozen=True)
class Failed:
    """Why a job cannot be done.

    Attributes:
        origin: the name of the job that failed: it, or one before it.
        reason, hint: as the error said.
    """

    origin: str
    reason: str
    hint: str = ""


class Graph:
    """Jobs and how far they are. A job is ready once all that it needs is done; of those that are, the one with the
    longest rest comes first: the largest sum of costs on a way from it to an end. Equals keep their order."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.jobs: dict[str, Job] = {}
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.failures: dict[str, Failed] = {}
        self.rest: dict[str, float] = {}
        self._ready: set[str] = set()
        self._heap: list[tuple[float, int, str]] = []
        self._missing: dict[str, int] = {}  # needs that are not done
        self._over: dict[str, list[str]] = {}
        self._order: dict[str, int] = {}
        self.add(jobs)

    def add(self, jobs: Iterable[Job]) -> None:
        """More jobs; one of a name that is known is left as it is. What a job needs comes before it."""
        for job in jobs:
            if job.name in self.jobs:
                continue
            self.jobs[job.name] = job
            self._order[job.name] = len(self._order)
            self._raise_rest(job.name, job.cost)
            needs = [name for name in job.needs if name in self.jobs]
            for name in needs:
                self._over.setdefault(name, []).append(job.name)
                self._raise_rest(name, self.jobs[name].cost + job.cost)
            self._missing[job.name] = sum(name not in self.done for name in needs)
            failed = next((self.failures[name] for name in needs if name in self.failures), None)
            if failed is not None:
                self.failures[job.name] = failed
            elif not self._missing[job.name]:
                self._put(job.name)

    def _raise_rest(self, name: str, rest: float) -> None:
        """Note a longer rest of a job, and of all before it."""
        below = [(name, rest)]
        while below:
            name, rest = below.pop()
            if rest <= self.rest.get(name, -1.0):
                continue
            self.rest[name] = rest
            if name in self._ready:
                self._put(name)
            below += [(need, self.jobs[need].cost + rest) for need in self.jobs[name].needs if need in self.jobs]

    def _put(self, name: str) -> None:
        self._ready.add(name)
        heapq.heappush(self._heap, (-self.rest[name], self._order[name], name))

    @property
    def num_ready(self) -> int:
        """How many jobs could begin."""
        return len(self._ready)

    @property
    def is_over(self) -> bool:
        """Whether every job is done or failed."""
        return len(self.done) + len(self.failures) == len(self.jobs)

    def has_ended(self, name: str) -> bool:
        """Whether a job is done, failed or unknown."""
        return name not in self.jobs or name in self.done or name in self.failures

    def cost_left(self) -> float:
        """Image passes of all jobs that have not ended."""
        return sum(job.cost for name, job in self.jobs.items() if not self.has_ended(name))

    def begin(self, without: Collection[str] = ()) -> Job | None:
        """The next job, which is running now; None where none is ready but those in `without`."""
        passed = []
        chosen = None
        while self._heap and chosen is None:
            item = heapq.heappop(self._heap)
            if item[2] not in self._ready or -item[0] < self.rest[item[2]]:
                continue  # it began, or stands in the heap again with its longer rest
            if item[2] in without:
                passed.append(item)
            else:
                chosen = item[2]
        for item in passed:
            heapq.heappush(self._heap, item)
        if chosen is None:
            return None
        self._ready.discard(chosen)
        self.running.add(chosen)
        return self.jobs[chosen]

    def end(self, name: str) -> None:
        """A job is done, here or elsewhere."""
        if self.has_ended(name):
            return
        self.running.discard(name)
        self._ready.discard(name)
        self.done.add(name)
        for over in self._over.get(name, ()):
            self._missing[over] -= 1
            if not self._missing[over] and not self.has_ended(over):
                self._put(over)

    def renew(self, names: Iterable[str]) -> None:
        """Jobs that have ended are to be done again; what a job needs comes before it."""
        names = [name for name in names if name in self.done or name in self.failures]
        for name in names:
            self.failures.pop(name, None)
            if name in self.done:
                self.done.discard(name)
                for over in self._over.get(name, ()):
                    self._missing[over] += 1
                    self._ready.discard(over)
        for name in names:
            failed = next((self.failures[need] for need in self.jobs[name].needs if need in self.failures), None)
            if failed is not None:
                self.failures[name] = failed
            elif not self._missing[name]:
                self._put(name)

    def put_back(self, name: str) -> None:
        """A job that had begun is ready again."""
        self.running.discard(name)
        self._put(name)

    def fail(self, name: str, reason: str, hint: str = "") -> list[str]:
        """A job cannot be done, and nothing over it; gives the names of all that have failed by it."""
        failed = Failed(name, reason, hint)
        below, names = [name], []
        while below:
            each = below.pop()
            if self.has_ended(each):
                continue
            self.running.discard(each)
            self._ready.discard(each)
            self.failures[each] = failed
            names.append(each)
            below += self._over.get(each, ())
        return names
