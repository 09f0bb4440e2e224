"""Filling a store: jobs are handed to a pool as they get ready, until all are done that can be."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType

from sslcurr.engine.graph import Failed, Graph, Job
from sslcurr.engine.jobs import Event, work_of
from sslcurr.engine.plans import Plan
from sslcurr.engine.pool import Pool
from sslcurr.engine.signals import StopSignals, stop_signals
from sslcurr.engine.store import Store
from sslcurr.errors import Interrupted, SslcurrError
from sslcurr.progress import PoolState, Reporter, WorkerState
from sslcurr.wording import counted, duration

TURN_SECONDS = 0.2  # of waiting for something to happen
RETRY_SECONDS = 1.0  # until a job is tried again that another process is at
MOST_LOSSES = 3  # workers that may die of one job
MOST_MACHINES_LOST = 10  # that may be lost with one job: most are switched off by somebody, and do not die of it


class Filling:
    """Hands jobs to a pool, the longest rest first, and keeps what came of them.

    Args:
        make_pool: makes what carries them out, when the first job is to be done.
        store: holds the results; other processes may fill it too.
        report: hears of the progress.
        plan: by which other processes help.
        is_worker: whether the jobs are those of other commands. What failed in other processes is then not tried again,
            and a mistake ends its job only; `mistakes` has them.
    """

    def __init__(
        self,
        make_pool: Callable[[], Pool],
        store: Store,
        report: Reporter,
        *,
        plan: Plan | None = None,
        is_worker: bool = False,
    ) -> None:
        self.make_pool = make_pool
        self.pool: Pool | None = None
        self.store = store
        self.report = report
        self.plan = plan
        self.is_worker = is_worker
        self.mistakes: list[SslcurrError] = []
        self.graph = Graph()
        self.done_here: set[str] = set()
        self.state = PoolState()
        self.log = EventLog(store.root / "log")
        self._elsewhere: dict[str, float] = {}  # job -> when it is tried again
        self._losses: dict[tuple[str, bool], int] = {}
        self._told = 0.0
        self._seconds_at_work = 0.0  # without those in which no worker had a job
        self._cost_done = 0.0

    def __enter__(self) -> Filling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.report.pool_ends()
        self.log.close()
        if self.pool is None:
            return
        try:
            if isinstance(error, Exception) and not isinstance(error, Interrupted):
                self.pool.cancel()  # what is being trained is saved, whatever went wrong
        finally:
            self.pool.close()

    def add(self, jobs: Iterable[Job]) -> None:
        """More jobs, each after those that it needs.

        A worker is told of some again: those whose results were removed meanwhile, and those that had failed and that
        a command wants tried again, are to be done.
        """
        jobs = list(jobs)
        added = [job for job in jobs if job.name not in self.graph.jobs]
        if self.is_worker:
            self.graph.renew(job.name for job in jobs if self._is_outdated(job))
        elif self.plan is not None:
            self.plan.add(added)
        else:
            self.store.clear_failures(job.name for job in added)
        self.graph.add(added)

    def _is_outdated(self, job: Job) -> bool:
        """Whether a job has ended for this process and not by the store."""
        if job.name in self.graph.done:
            try:
                return not work_of(job.kind).is_done(job, self.store)
            except SslcurrError:  # what it needs was removed
                return True
        failed = self.graph.failures.get(job.name)
        return failed is not None and self.store.failure(failed.origin) is None

    def note_mistake(self, error: SslcurrError) -> None:
        """Keep a mistake that ends nothing but its job or its plan, and say it."""
        self.mistakes.append(error)
        self.report.note(str(error))

    def knows(self, name: str) -> bool:
        """Whether a job was added."""
        return name in self.graph.jobs

    def wait(self, names: Collection[str]) -> None:
        """Carry out jobs until all of these have ended.

        Raises:
            Interrupted: a signal asked to stop; all that was being trained is saved.
            SslcurrError: a job met a mistake that ends the command.
        """
        left = list(names)

        def is_over() -> bool:
            while left and self.graph.has_ended(left[-1]):
                left.pop()
            return not left

        self.run(is_over)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Carry out jobs until `is_over`; errors as of `wait`."""
        with stop_signals() as stop:
            while not is_over():
                self.turn(stop)

    def failure(self, name: str) -> Failed | None:
        """Why a job could not be done, if so."""
        return self.graph.failures.get(name)

    # ---- a turn

    def turn(self, stop: StopSignals) -> None:
        """Hand out what is ready, and hear what happened."""
        if stop.signal:
            self._stop(stop.signal)
        self._look_elsewhere()
        while (self.pool is None or self.pool.free()) and (job := self._next()) is not None:
            if self.pool is None:
                self.graph.put_back(job.name)
                self.pool = self.make_pool()
                self._meet_workers()
                continue
            worker = self.pool.submit(job)
            name = self.pool.names[worker]
            self.state.workers[worker] = WorkerState(name, job.title)
            self.log.write("begun", name, job.name, self.graph.num_ready)
        if self.pool is None:
            time.sleep(TURN_SECONDS)
            return
        began, at_work = time.monotonic(), bool(self.graph.running)
        events = self.pool.events(TURN_SECONDS)
        self._seconds_at_work += time.monotonic() - began if at_work else 0.0
        self._meet_workers()
        for event in events:
            self._hear(event)
        self._tell(at_once=any(event.what != "progress" for event in events))

    def _meet_workers(self) -> None:
        """Know all workers of the pool, and what they are called now."""
        names = [] if self.pool is None else self.pool.names
        self.state.workers += [WorkerState(name) for name in names[len(self.state.workers) :]]
        for state, name in zip(self.state.workers, names, strict=True):
            state.name = name

    def _next(self) -> Job | None:
        """The next job that is not done yet, and that no other process is known to be at."""
        now = time.monotonic()
        resting = {name for name, again in self._elsewhere.items() if again > now}
        while (job := self.graph.begin(resting)) is not None:
            self._settle(job)
            if not self.graph.has_ended(job.name):
                return job
        return None

    def _settle(self, job: Job) -> None:
        """Note it where a job is done or has failed, by the store."""
        if self._is_done(job):
            self._end(job.name)
        elif (failed := self.store.failure(job.name)) is not None:
            self.graph.fail(job.name, *failed)

    def _is_done(self, job: Job) -> bool:
        """Whether the store holds the result of a job; for a worker, a store that is damaged there fails the job."""
        try:
            return work_of(job.kind).is_done(job, self.store)
        except SslcurrError as error:
            if not self.is_worker:
                raise
            self._fail_here(job.name, error)
            return False

    def _fail_here(self, name: str, error: SslcurrError) -> None:
        """A job of other commands cannot be done by this process: others may not meet what it met."""
        self.mistakes.append(error)
        self.graph.fail(name, str(error), error.hint)
        self.report.note(f"{self.graph.jobs[name].title}: {error}")

    def _look_elsewhere(self) -> None:
        """Note what other processes have done."""
        for name in list(self._elsewhere):
            if not self.graph.has_ended(name):
                self._settle(self.graph.jobs[name])
            if self.graph.has_ended(name):
                self._elsewhere.pop(name, None)

    def _end(self, name: str) -> None:
        self._cost_done += self.graph.jobs[name].cost if name in self.done_here else 0.0
        self.graph.end(name)
        self._elsewhere.pop(name, None)

    def _hear(self, event: Event) -> None:
        name, state = event.job, self.state.workers[event.worker]
        if event.what == "progress":
            for field, value in event.status.items():
                setattr(state, field, value)
            return
        if event.what == "note":
            self.report.note(event.text)
            return
        self.state.workers[event.worker] = WorkerState(state.name)
        found = event.what == "ended" and not event.done_here  # another process was quicker
        self.log.write("found" if found else event.what, state.name, name, self.graph.num_ready)
        if event.what == "ended":
            if event.done_here:
                self.done_here.add(name)
            self._end(name)
            if event.done_here and self.graph.jobs[name].kind == "stage":
                so_far = f"{len(self.graph.done)} of {counted(len(self.graph.jobs), 'job')} done"
                seconds = self._seconds_left()
                left = f", about {duration(seconds)} left" if seconds else ""
                self.report.say(f"{self.graph.jobs[name].title}: trained ({so_far}{left})")
        elif event.what == "failed":
            self.store.note_failure(name, event.text, event.hint)
            self.graph.fail(name, event.text, event.hint)
            self.report.say(f"{self.graph.jobs[name].title}: failed: {event.text}")
        elif event.what == "taken":
            self._elsewhere[name] = time.monotonic() + RETRY_SECONDS
            self.graph.put_back(name)
        elif event.what == "error" and self.is_worker:
            self._fail_here(name, event.error())
        elif event.what == "error":
            raise event.error()
        elif event.what == "stopped":
            raise Interrupted(event.text, event.hint, event.signal)
        else:
            self._lose(name, event.text, by_machine=event.by_machine)

    def _lose(self, name: str, reason: str, *, by_machine: bool) -> None:
        """A worker died, alone or with its machine: the job is tried again, but not for ever."""
        title, most = self.graph.jobs[name].title, MOST_MACHINES_LOST if by_machine else MOST_LOSSES
        losses = self._losses[name, by_machine] = self._losses.get((name, by_machine), 0) + 1
        if losses < most:
            self.report.note(f"{title}: {reason}; it is tried again")
            self.graph.put_back(name)
            return
        text = f"{reason}, {counted(most, 'time')}"
        self.report.note(f"{title}: {text}; it is given up")
        self.graph.fail(name, text, "was there enough memory? give fewer --jobs, or a smaller batch size")

    def _stop(self, signal: int) -> None:
        self.report.pool_ends()
        at_work = sum(bool(state.title) for state in self.state.workers)
        if at_work:
            self.report.note(
                f"stopping: {counted(at_work, 'job')} at work; the same signal again does not wait for them"
            )
        events = self.pool.cancel() if self.pool is not None else []
        saved = sum(event.what == "stopped" for event in events)
        raise Interrupted(
            f"{counted(len(self.done_here), 'job')} done, {counted(saved, 'stage')} saved half-way",
            "run the same command again to go on from there",
            signal,
        )

    # ---- progress

    def _tell(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if now - self._told < TURN_SECONDS and not at_once:
            return
        self._told = now
        state, graph = self.state, self.graph
        state.done, state.total, state.failed = len(graph.done), len(graph.jobs), len(graph.failures)
        state.elsewhere = len(self._elsewhere)
        state.seconds_left = self._seconds_left()
        self.report.pool(state)

    def _seconds_left(self) -> float | None:
        """By the image passes that were done here a second, running jobs counted as far as they are."""
        done, left = self._cost_done, self.graph.cost_left()
        by_title = {job.title: job.cost for job in (self.graph.jobs[name] for name in self.graph.running)}
        for state in self.state.workers:
            if state.total_steps:
                part = by_title.get(state.title, 0.0) * state.step / state.total_steps
                done, left = done + part, left - part
        elapsed = self._seconds_at_work
        return left * elapsed / done if done and elapsed > 1 else None


class EventLog:
    """What workers did and when, a line of JSON an event: `begun`, and how it ended.

    Args:
        folder: of the store; each process writes a file of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}.jsonl"
        self._file: int | None = None

    def write(self, what: str, worker: str, job: str, num_ready: int) -> None:
        """A line; `num_ready` jobs wait for a worker."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        line = {"time": time.time(), "event": what, "worker": worker, "job": job, "ready": num_ready}
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            os.close(self._file)
