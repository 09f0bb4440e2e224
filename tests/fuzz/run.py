"""Cases in processes of their own, which are watched."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0
MEMORY = 2**30
REPOSITORY = Path(__file__).parents[2]


@dataclass
class Outcome:
    """What came of many cases.

    Attributes:
        counts: by kind and outcome.
        failures: kind, number and what happened.
        seconds: of all.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        """A line for each kind."""
        kinds = sorted({kind for kind, _ in self.counts})
        lines = [f"{'kind':12} {'right':>8} {'refused':>8} {'failed':>8}"]
        for kind in kinds:
            numbers = [self.counts[kind, each] for each in ("right", "refused", "failed")]
            lines.append(f"{kind:12} {numbers[0]:8} {numbers[1]:8} {numbers[2]:8}")
        return "\n".join([*lines, f"{sum(self.counts.values())} cases in {self.seconds:.0f} s"])


def child(seed: int, first: int, step: int, end: int, only: str | None) -> None:
    """Carry out cases, a line before and after each, with a gigabyte of memory above what the process begins with."""
    from sslcurr.cli.app import app
    from tests.fuzz.kinds import carry_out, case, checkpoints, commands, documents, handed, pictures, scans

    for prepare in (pictures, scans, checkpoints, documents, commands, handed):
        prepare()
    assert app is not None
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what cases print is no line of ours
    print("ready", file=out, flush=True)
    with tempfile.TemporaryDirectory() as name:
        for number in range(first, end, step):
            kind = case(seed, number, only)[0]
            print(json.dumps(["begin", kind, number]), file=out, flush=True)
            try:
                found, what = carry_out(seed, number, Path(name) / "case", only), ""
            except BaseException:  # noqa: BLE001 -- whatever it is, it is what is looked for
                found, what = "failed", traceback.format_exc(limit=-4)
            print(json.dumps([found, kind, number, what]), file=out, flush=True)


class _Child:
    def __init__(self, seed: int, first: int, step: int, end: int, only: str | None) -> None:
        self.how = (seed, step, end, only)
        self.next = first
        self.begun: tuple[str, int] | None = None
        self.start()

    def start(self) -> None:
        seed, step, end, only = self.how
        arguments = [str(each) for each in (seed, self.next, step, end)]
        command = [sys.executable, "-m", "tests.fuzz", "--child", *arguments, *([only] if only else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY, env=environment
        )
        self.heard, self.is_ready, self.rest = time.monotonic(), False, b""

    @property
    def patience(self) -> float:
        return SECONDS if self.is_ready else 120.0

    def ended(self, outcome: Outcome, what: str) -> bool:
        """Note why a process ended, and go on with the next case; False where there is none."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.begun is None:
            if not self.is_ready:
                raise RuntimeError(f"the process of the cases did not begin: {what}")
            return False
        kind, number = self.begun
        outcome.counts[kind, "failed"] += 1
        outcome.failures.append((kind, number, what))
        self.next, self.begun = number + self.how[1], None
        if self.next >= self.how[2]:
            return False
        self.start()
        return True

    def hear(self, outcome: Outcome) -> bool:
        """Take what the process says; False where it said its last."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 65536)
        self.heard = time.monotonic()
        if not data:
            return self.ended(outcome, f"the process ended with {self.process.wait()}")
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line == b"ready":
                self.is_ready = True
                continue
            said, kind, number, *rest = json.loads(line)
            if said == "begin":
                self.begun = (kind, number)
                continue
            self.begun = None
            outcome.counts[kind, said] += 1
            if said == "failed":
                outcome.failures.append((kind, number, rest[0]))
        return True


def run_cases(cases: int, seed: int = 0, *, processes: int = 2, first: int = 0, only: str | None = None) -> Outcome:
    """Carry out many cases.

    Args:
        cases: how many.
        seed: of all of them.
        processes: that share them.
        first: the number of the first.
        only: one kind.
    """
    outcome, began = Outcome(), time.monotonic()
    children = [_Child(seed, first + place, processes, first + cases, only) for place in range(min(processes, cases))]
    while children:
        pipes = {each.process.stdout: each for each in children}
        ready, _, _ = select.select(list(pipes), [], [], 0.5)
        for pipe in ready:
            if not pipes[pipe].hear(outcome):
                children.remove(pipes[pipe])
        for each in list(children):
            late = time.monotonic() - each.heard > each.patience
            if late and not each.ended(outcome, f"it took longer than {SECONDS:g} s"):
                children.remove(each)
    outcome.seconds = time.monotonic() - began
    return outcome
