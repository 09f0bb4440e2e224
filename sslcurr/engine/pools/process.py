"""A worker process: gets jobs from the process that started it, and ends with it.

Each message is one of msgspec's, over a socket whose number is the only argument.
"""

from __future__ import annotations

import importlib
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event, carry_out, work_of
from sslcurr.engine.signals import stop_signals
from sslcurr.engine.store import Store
from sslcurr.engine.threads import use_threads
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS_SECONDS = 0.25
# What stages and tests import, beside torch; so it is there before the first job, whose time it would take.
PRELOADED = ("timm", "pandas", "sklearn.metrics")
IDLE_SECONDS = 0.2  # between two looks whether to stop


class Beginning(msgspec.Struct, kw_only=True):
    """The first message to a worker.

    Attributes:
        root: of the store.
        lease: minutes, as of `Pooling`.
        number: of the worker.
        threads: CPU threads.
        memory_share: of its GPU's memory.
        runtime: of trainings.
    """

    root: str
    lease: float
    number: int
    threads: int
    memory_share: float
    runtime: Runtime


class Telling(Reporter):
    """Turns what is reported of a job into events.

    Args:
        tell: takes an event; one of progress may be lost.
        worker: its number.
    """

    def __init__(self, tell: Callable[[Event], None], worker: int) -> None:
        self.tell = tell
        self.worker = worker
        self.job = ""
        self.status: dict[str, int | float] = {}
        self.last = 0.0

    def begin(self, job: Job) -> None:
        """Tell of another job from here on."""
        self.job, self.status, self.last = job.name, {}, 0.0

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Tell how long the stage is."""
        self._begin(spec.training.epochs, total_steps, step)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """Tell how long the trial is."""
        self._begin(0, total_steps, step)

    def _begin(self, epochs: int, total_steps: int, step: int) -> None:
        self.status = {"step": step, "total_steps": total_steps, "epoch": 0, "epochs": epochs}
        self._progress()

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Tell how far it is, a few times a second."""
        self.status |= {"step": step, "images_per_second": round(images_per_second, 1)}
        if time.monotonic() - self.last > PROGRESS_SECONDS:
            self._progress()

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note it; told with the next step."""
        self.status["epoch"] = epoch + 1

    def _progress(self) -> None:
        self.last = time.monotonic()
        self.tell(Event(what="progress", worker=self.worker, job=self.job, status=dict(self.status)))

    def note(self, text: str) -> None:
        """Tell a remark."""
        self.tell(Event(what="note", worker=self.worker, job=self.job, text=text))


class Line:
    """The socket to the process that started this one."""

    def __init__(self, descriptor: int) -> None:
        self.connection = Connection(descriptor)
        self.sending = threading.Lock()

    def _is_read(self) -> bool:
        poll = select.poll()  # select takes no descriptor above 1,024
        poll.register(self.connection, select.POLLOUT)
        return bool(poll.poll(0))

    def tell(self, event: Event) -> None:
        """Send an event; progress is dropped while the other side does not read."""
        if event.what == "progress" and not self._is_read():
            return
        with self.sending:
            self.connection.send_bytes(msgspec.json.encode(event))


def main(descriptor: int) -> None:
    """Carry out jobs until the other side closes the socket, or a signal asks to stop."""
    line = Line(descriptor)
    beginning = msgspec.json.decode(line.connection.recv_bytes(), type=Beginning)
    use_threads(beginning.threads)
    if beginning.memory_share < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(beginning.memory_share)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=receive, args=(line, jobs), daemon=True).start()
    store = Store(Path(beginning.root), waits=False, lease=beginning.lease)
    report = Telling(line.tell, beginning.number)
    for module in PRELOADED:
        importlib.import_module(module)
    for kind in ("stage", "report"):
        work_of(kind)
    with stop_signals(insists=False) as stop:
        line.tell(Event(what="ended", worker=beginning.number))  # of no job: ready for the first
        while not stop.signal:
            try:
                job = jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                continue
            report.begin(job)
            line.tell(carry_out(job, store, beginning.runtime, report, beginning.number))


def receive(line: Line, jobs: queue.SimpleQueue[Job]) -> None:
    """Put jobs into the queue as they come; when the other side is gone, ask to stop, as a signal does."""
    try:
        while True:
            jobs.put(msgspec.json.decode(line.connection.recv_bytes(), type=Job))
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)  # saves what is being trained


if __name__ == "__main__":
    main(int(sys.argv[1]))
