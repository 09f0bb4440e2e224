"""Processes of this machine that this one starts: their output, and how they end; a worker, and the line to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

import sslcurr
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.pools.process import Beginning
from sslcurr.engine.threads import VARIABLES
from sslcurr.errors import TrainingError

END_SECONDS = 10.0
MOST_STARTS = 3
SHOWN = 4000  # characters of what a worker that failed has printed


def python_path() -> str:
    """PYTHONPATH of processes that import this very package."""
    package = str(Path(sslcurr.__file__).parent.parent)
    return os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)


def never_begins(name: str, reason: str) -> TrainingError:
    """The error of a worker whose process was started `MOST_STARTS` times and ended each time before its first job.

    Args:
        name: of the worker.
        reason: how it ended.
    """
    hint = "is there enough memory? each takes about 0.7 GB before it trains: give fewer --jobs"
    return TrainingError(f"{name} cannot begin: {reason}", hint)


class Spawned:
    """A process that runs a module of this very package, and whose output is shown where it fails.

    Args:
        module: what it runs.
        arguments: of its command line.
        threads: CPU threads of the libraries that it loads.
        environment: variables that it gets besides those of this process.
        pass_fds: descriptors that it gets.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        threads: int,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.output = tempfile.TemporaryFile(prefix="sslcurr-worker-")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env={
                **os.environ,
                "PYTHONPATH": python_path(),
                **dict.fromkeys(VARIABLES, str(threads)),
                **environment,
            },
            start_new_session=True,  # Ctrl-C is for the process that asks its workers to stop
        )

    def ended(self, name: str) -> str:
        """How it ended, in a few words; waits for it.

        Args:
            name: of the process.

        Raises:
            RuntimeError: it failed by a mistake of the program, with its traceback.
        """
        code = self.process.wait()
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - SHOWN))
        said = self.output.read().decode(errors="replace")
        self.output.close()
        if code > 0:
            raise RuntimeError(f"{name} ended with code {code}\n{said}")
        return "its process ended" if code == 0 else f"its process was killed by signal {-code}"

    def end(self) -> None:
        """Wait for its end, which it was asked for; kill it where it does not end by itself."""
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


class Child(Spawned):
    """A process that carries out jobs, one after the other, until the line to it is closed.

    Args:
        beginning: what it works on.
        environment: variables that it gets besides those of this process.

    Attributes:
        job: the name of its job; None where it has none.
        is_ready: whether it has begun to take jobs.
    """

    def __init__(self, beginning: Beginning, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(
            "sslcurr.engine.pools.process",
            [str(theirs.fileno())],
            threads=beginning.threads,
            environment=environment,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send_bytes(msgspec.json.encode(beginning))
        self.job: str | None = None
        self.is_ready = False

    def send(self, job: Job) -> None:
        """Give it a job."""
        self.job = job.name
        with suppress(OSError):  # of one that has died; reading from it says so
            self.connection.send_bytes(msgspec.json.encode(job))

    def receive(self) -> Event | None:
        """Wait for what it says; None where that is of no job.

        Raises:
            EOFError, OSError: it has ended.
        """
        event = msgspec.json.decode(self.connection.recv_bytes(), type=Event)
        if event.what in ("progress", "note"):
            return event
        had_job, self.job, self.is_ready = self.job is not None, None, True
        return event if had_job else None
