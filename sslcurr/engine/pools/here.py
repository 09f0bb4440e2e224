"""Processes of this machine, which stay alive from job to job: each imports torch once and keeps its GPU."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec

import sslcurr
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.pool import num_gpus, num_workers
from sslcurr.engine.pools.process import Beginning
from sslcurr.engine.store import Store
from sslcurr.engine.threads import VARIABLES, threads_of_each
from sslcurr.errors import SpecError, TrainingError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime

END_SECONDS = 10.0
MOST_STARTS = 3
SHOWN = 4000  # characters of what a worker that failed has printed


@dataclass
class _Worker:
    """A process and what it is at.

    Attributes:
        job: the name of its job; None where it has none.
        is_ready: whether it has begun to take jobs.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    output: int
    job: str | None = None
    is_ready: bool = False


class HerePool:
    """See `sslcurr.engine.pool.Pool`. Workers that die are started again."""

    def __init__(self, pooling: Pooling, store: Store, runtime: Runtime, report: Reporter) -> None:
        count = num_workers(pooling, runtime.device)
        gpus = visible_gpus(runtime.device)
        shared_by = max(pooling.per_gpu, -(-count // len(gpus))) if gpus else 1
        self.gpus = [gpus[number % len(gpus)] if gpus else "" for number in range(count)]
        self.names = [f"worker {n + 1}{f' (GPU {gpu})' if gpu else ''}" for n, gpu in enumerate(self.gpus)]
        runtime = replace(runtime, threads=threads_of_each(runtime.threads, count))
        if gpus:
            runtime = replace(runtime, device="cuda")  # the only one that its process sees
        self.beginnings = [
            Beginning(
                root=str(store.root.resolve()),
                lease=pooling.lease,
                number=number,
                threads=runtime.threads,
                memory_share=1 / shared_by,
                runtime=runtime,
            )
            for number in range(count)
        ]
        self.is_cancelled = False
        self._starts = [1] * count  # of the process at each place, without a job in between
        self.workers: list[_Worker] = []
        try:
            for number in range(count):
                self.workers.append(self._started(number))
        except BaseException:
            self.close()
            raise

    def _started(self, number: int) -> _Worker:
        beginning = self.beginnings[number]
        ours, theirs = socket.socketpair()
        package = str(Path(sslcurr.__file__).parent.parent)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part),
            **dict.fromkeys(VARIABLES, str(beginning.threads)),
            **({"CUDA_VISIBLE_DEVICES": self.gpus[number]} if self.gpus[number] else {}),
        }
        output, path = tempfile.mkstemp(prefix="sslcurr-worker-")
        os.unlink(path)
        process = subprocess.Popen(
            [sys.executable, "-m", "sslcurr.engine.pools.process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the process that asks its workers to stop
        )
        theirs.close()
        connection = Connection(ours.detach())
        connection.send_bytes(msgspec.json.encode(beginning))
        return _Worker(process, connection, output)

    def free(self) -> bool:
        """Whether a worker waits for a job."""
        return any(worker.is_ready and worker.job is None for worker in self.workers)

    def submit(self, job: Job) -> int:
        """Send a job to the first worker that waits for one."""
        number = next(n for n, worker in enumerate(self.workers) if worker.is_ready and worker.job is None)
        worker = self.workers[number]
        worker.job = job.name
        with suppress(OSError):  # of one that has died; `events` says so
            worker.connection.send_bytes(msgspec.json.encode(job))
        return number

    def events(self, timeout: float) -> list[Event]:
        """What workers said; those that died are started again.

        Raises:
            RuntimeError: a worker failed by a mistake of the program, with its traceback.
        """
        events = self._read(timeout)
        for number, worker in enumerate(self.workers):
            if worker.connection.closed:
                events += self._dead(number)
        return events

    def _read(self, timeout: float) -> list[Event]:
        """All that can be read; the connection of a dead worker is closed."""
        by_connection = {worker.connection: worker for worker in self.workers if not worker.connection.closed}
        events = []
        for ready in wait(list(by_connection), timeout):
            assert isinstance(ready, Connection)
            worker = by_connection[ready]
            try:
                while ready.poll():
                    event = msgspec.json.decode(ready.recv_bytes(), type=Event)
                    if event.what in ("progress", "note"):
                        events.append(event)
                        continue
                    worker.is_ready = True
                    if worker.job is not None:
                        worker.job = None
                        if event.what == "stopped" and not self.is_cancelled:  # by somebody who is not the command
                            event = msgspec.structs.replace(event, what="lost", text="its worker process was stopped")
                        events.append(event)
            except (EOFError, OSError):
                ready.close()
        return events

    def _dead(self, number: int) -> list[Event]:
        """Start a worker again that has died."""
        worker = self.workers[number]
        code = worker.process.wait()
        if code > 0:
            raise RuntimeError(f"{self.names[number]} ended with code {code}\n{self._said(worker)}")
        self._starts[number] = 1 if worker.is_ready else self._starts[number] + 1
        if self._starts[number] > MOST_STARTS:
            raise TrainingError(
                f"{self.names[number]} is killed by signal {-code} before it can begin",
                "is there enough memory? each takes about 0.7 GB before it trains: give fewer --jobs",
            )
        os.close(worker.output)
        self.workers[number] = self._started(number)
        if worker.job is None:
            return []
        reason = "its worker process ended" if code == 0 else f"its worker process was killed by signal {-code}"
        return [Event(what="lost", worker=number, job=worker.job, text=reason)]

    def _said(self, worker: _Worker) -> str:
        """The end of what a worker has printed."""
        size = os.fstat(worker.output).st_size
        text = os.pread(worker.output, SHOWN, max(0, size - SHOWN)).decode(errors="replace")
        return text

    def cancel(self) -> list[Event]:
        """Ask all to save and stop, and wait until they have ended."""
        self.is_cancelled = True
        for worker in self.workers:
            if worker.job is not None and not worker.connection.closed:
                worker.process.terminate()
            elif not worker.connection.closed:
                worker.connection.close()
        events = []
        while any(not worker.connection.closed for worker in self.workers):
            events += self._read(1.0)
        for worker in self.workers:
            worker.process.wait()
        return events

    def close(self) -> None:
        """End all processes; those that do not end by themselves are killed."""
        for worker in self.workers:
            if not worker.connection.closed:
                worker.connection.close()
        for worker in self.workers:
            try:
                worker.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            os.close(worker.output)


def visible_gpus(device: str) -> list[str]:
    """The GPUs that trainings may use, as CUDA_VISIBLE_DEVICES names them; none for CPUs.

    Raises:
        SpecError: there is no such GPU.
    """
    if not num_gpus(device):
        return []
    import torch

    known = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = known or [str(number) for number in range(torch.cuda.device_count())]
    if ":" not in device:
        return names
    number = int(device.partition(":")[2])
    if number >= len(names):
        raise SpecError(f"there is no {device}: {len(names)} GPUs are there", "give --device auto")
    return [names[number]]
