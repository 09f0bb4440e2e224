"""What the engine tells while it works. The command line draws it; a library caller may stay silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslcurr.spec.stage import StageSpec

# Where the time of a training goes; the rest is the loop's own.
PHASES = ("views", "host to device", "forward", "backward", "optimizer", "after_step", "logging")


@dataclass
class WorkerState:
    """What one of several workers is at.

    Attributes:
        name: of the worker.
        title: of its job; empty where it has none.
        step, total_steps: optimizer steps done and of all; 0 where nothing is trained.
        epoch, epochs: epochs done and of all.
        images_per_second: of its training.
    """

    name: str
    title: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    images_per_second: float = 0.0


@dataclass
class PoolState:
    """How far many jobs are.

    Attributes:
        done, total, failed: jobs.
        elsewhere: those that other processes are at.
        seconds_left: until all are done; None where nobody knows yet.
        workers: each of them.
    """

    done: int = 0
    total: int = 0
    failed: int = 0
    elsewhere: int = 0
    seconds_left: float | None = None
    workers: list[WorkerState] = field(default_factory=list)


class Reporter:
    """Hears what happens; this one says nothing."""

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """A stage is about to be trained with these resolved settings, from `step` on (above 0 after a resume)."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A context around each of `PHASES` of a step, for whoever measures them."""
        return nullcontext()

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """An optimizer step was done; `loss` is given where it was read from the device."""

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch ended; `metrics` are those of the task's validation, if it has one."""

    def stage_ends(self, spec: StageSpec, key: str, *, reused: bool) -> None:
        """A stage is in the store."""

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """Learning rates are about to be tried for a stage; `search` says how, in a line."""

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """A search is about to try a learning rate; `number` is from 0, `step` as in `stage_begins`."""

    def trial_ends(self, number: int, lr: float, result: str) -> None:
        """A learning rate was tried, stopped early or failed."""

    def note(self, text: str) -> None:
        """A remark that a person should see, one line."""

    def say(self, text: str) -> None:
        """A line of progress, such as a chain that was measured."""

    def counting(self, title: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A context whose function is told how many of how many are done; None where nobody counts."""
        return nullcontext(None)

    def wrote(self, path: Path) -> None:
        """A file was written that was asked for."""

    def results_so_far(self, table: Any) -> None:
        """A table of what is measured so far: `sslcurr.analysis.results.table.Table`."""

    def pool(self, state: PoolState) -> None:
        """Several jobs run at once, and this is how far they are; told a few times a second."""

    def pool_ends(self) -> None:
        """No more jobs run at once."""


class Relay(Reporter):
    """Passes on to another reporter; a subclass overrides what it hears itself."""

    def __init__(self, report: Reporter) -> None:
        self.report = report

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """As of the other."""
        self.report.stage_begins(spec, key, total_steps, step, settings)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """As of the other."""
        return self.report.phase(name)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """As of the other."""
        self.report.step_done(step, loss, images_per_second)

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """As of the other."""
        self.report.epoch_done(epoch, metrics)

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """As of the other."""
        self.report.search_begins(spec, key, search)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """As of the other."""
        self.report.trial_begins(task, number, num_trials, lr, total_steps, step)

    def trial_ends(self, number: int, lr: float, result: str) -> None:
        """As of the other."""
        self.report.trial_ends(number, lr, result)

    def note(self, text: str) -> None:
        """As of the other."""
        self.report.note(text)
