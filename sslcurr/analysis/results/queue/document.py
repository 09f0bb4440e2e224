"""The documents of several workers on one store: what is planned, what a worker did, what all are at."""

from __future__ import annotations

from typing import ClassVar

from sslcurr.analysis.results.document import Document, Part


class QueueDocument(Document, frozen=True, kw_only=True):
    """The plan of a command, which workers carry out.

    Attributes:
        run: the name of the command's run.
        plan: the file.
        jobs: stages, tests and probes that are wanted, but for stages that were there before.
        done: those that are there.
        store: folder of the store.
    """

    kind: ClassVar[str] = "queue"

    run: str
    plan: str
    jobs: int
    done: int
    store: str


class FailedJob(Part, frozen=True, kw_only=True):
    """A job that could not be done, and why."""

    job: str
    reason: str


class WorkDocument(Document, frozen=True, kw_only=True):
    """What a worker did on a shared store.

    Attributes:
        host, pid: the process.
        jobs: of all plans.
        done_here: those that this process did.
        failures: those that cannot be done, here or elsewhere.
        seconds: from its beginning to its end.
    """

    kind: ClassVar[str] = "work"

    host: str
    pid: int
    jobs: int
    done_here: int
    failures: list[FailedJob]
    seconds: float


class PlanProgress(Part, frozen=True, kw_only=True):
    """How far the plan of a run is.

    Attributes:
        run: its name.
        command: its command line.
        jobs, done, failed: stages, tests and probes.
        seconds_left: at the speed of all workers now; None where nothing is trained.
    """

    run: str
    command: list[str]
    jobs: int
    done: int
    failed: int
    seconds_left: float | None


class ActiveJob(Part, frozen=True, kw_only=True):
    """What a process is at.

    Attributes:
        job: key of the stage, or name of the analysis or pack.
        title: the tasks of the chain and the seed, where it is a stage.
        host, pid: the process.
        heard: seconds since its last heartbeat.
        step, total_steps, epochs: of the training; None where nothing is trained.
        images_per_second: of the training.
    """

    job: str
    title: str
    host: str
    pid: int
    heard: float
    step: int | None = None
    total_steps: int | None = None
    epochs: int | None = None
    images_per_second: float | None = None


class LiveDocument(Document, frozen=True, kw_only=True):
    """What all processes on a store are at.

    Attributes:
        plans: of commands that are not finished.
        active: a row for each job that is worked on.
    """

    kind: ClassVar[str] = "live"

    plans: list[PlanProgress]
    active: list[ActiveJob]
