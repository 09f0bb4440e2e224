"""Processes of this machine, which stay alive from job to job: each imports torch once and keeps its GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait

import msgspec

from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.pool import num_gpus, num_ranks, num_workers
from sslcurr.engine.pools.child import MOST_STARTS, Child, never_begins
from sslcurr.engine.pools.process import Beginning
from sslcurr.engine.store import Store
from sslcurr.engine.threads import threads_of_each
from sslcurr.errors import SpecError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime


class HerePool:
    """See `sslcurr.engine.pool.Pool`. Workers that die are started again."""

    def __init__(self, pooling: Pooling, store: Store, runtime: Runtime, report: Reporter) -> None:
        count, ranks = num_workers(pooling, runtime), num_ranks(runtime)
        gpus = visible_gpus(runtime.device)
        shared_by = max(pooling.per_gpu, -(-count * ranks // len(gpus))) if gpus else 1
        self.gpus = [gpus_of(number, ranks, gpus) for number in range(count)]
        self.names = [f"worker {n + 1}{f' (GPU {gpu})' if gpu else ''}" for n, gpu in enumerate(self.gpus)]
        runtime = replace(runtime, threads=threads_of_each(runtime.threads, count * ranks), devices=ranks)
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
        self.workers: list[Child] = []
        try:
            for number in range(count):
                self.workers.append(self._started(number))
        except BaseException:
            self.close()
            raise

    def _started(self, number: int) -> Child:
        gpu = self.gpus[number]
        return Child(self.beginnings[number], {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})

    def free(self) -> bool:
        """Whether a worker waits for a job."""
        return any(worker.is_ready and worker.job is None for worker in self.workers)

    def submit(self, job: Job) -> int:
        """Send a job to the first worker that waits for one."""
        number = next(n for n, worker in enumerate(self.workers) if worker.is_ready and worker.job is None)
        self.workers[number].send(job)
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
                    event = worker.receive()
                    if event is not None:
                        if event.what == "stopped" and not self.is_cancelled:  # by somebody who is not the command
                            event = msgspec.structs.replace(event, what="lost", text="its process was stopped")
                        events.append(event)
            except (EOFError, OSError):
                ready.close()
        return events

    def _dead(self, number: int) -> list[Event]:
        """Start a worker again that has died."""
        worker = self.workers[number]
        reason = worker.ended(self.names[number])
        self._starts[number] = 1 if worker.is_ready else self._starts[number] + 1
        if self._starts[number] > MOST_STARTS:
            raise never_begins(self.names[number], reason)
        self.workers[number] = self._started(number)
        if worker.job is None:
            return []
        return [Event(what="lost", worker=number, job=worker.job, text=reason)]

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
            worker.end()


def gpus_of(worker: int, ranks: int, gpus: Sequence[str]) -> str:
    """The GPUs of a worker, as CUDA_VISIBLE_DEVICES names them: one for each of its ranks, of those that are there;
    empty on CPUs."""
    first = worker * ranks
    return ",".join(gpus[number % len(gpus)] for number in range(first, first + ranks)) if gpus else ""


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
