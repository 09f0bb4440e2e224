"""What the engine tells while it works. The command line draws it; a library caller may stay silent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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


# The network with the size of its images, and the task: stages with the same are as quick.
Group = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class ExpectedStage:
    """A stage of a command before it is trained, for how long the command takes.

    Attributes:
        key: of the stage.
        task: what is trained.
        like: what stages have in common whose speeds go as `work`: the network and the size of its images.
        work: of an image, as a multiple of one view that passes forward and backward.
        passes: images that its training takes through the network; 0 where the store has the stage.
        search_passes: the same of the learning rates that are tried for it, all together.
        trials: how many are tried.
        speed: images a second that were measured before; None where nobody knows.
    """

    key: str
    task: str
    like: str
    work: float
    passes: float
    search_passes: float = 0.0
    trials: int = 0
    speed: float | None = None

    @property
    def group(self) -> Group:
        """Stages of the same are as quick."""
        return self.like, self.task

    @property
    def all_passes(self) -> float:
        """Those of its training and of its search."""
        return self.passes + self.search_passes


# Steps of a training after which its speed counts: the first ones are slower than the rest.
WARM_STEPS = 3
# What is less than an image is a rounding error of sums.
LEAST_PASSES = 0.5


class Course:
    """How far the stages of a command are, and how long they still take by the speeds that were measured."""

    def __init__(self) -> None:
        self.stages: dict[str, ExpectedStage] = {}
        self._ended: set[str] = set()
        self._to_come: set[str] = set()  # keys of those that are to be trained and were not begun
        self._passes: dict[Group, float] = {}  # of these
        self._works: dict[Group, float] = {}
        self._before: dict[Group, float] = {}  # speeds that were measured before this command
        self._here: dict[Group, float] = {}  # and in it
        self._key = ""
        self._group: Group = ("", "")
        self._batch_size = 0
        self._trial: int | None = None
        self._total_steps = 0
        self._step = 0
        self._steps_here = 0

    def expect(self, stages: Iterable[ExpectedStage]) -> None:
        """Stages are to come, or are there already; one that was told before is left as it is."""
        for stage in stages:
            if stage.key in self.stages:
                continue
            self.stages[stage.key] = stage
            self._works[stage.group] = stage.work
            if stage.speed is not None:
                self._before[stage.group] = stage.speed
            if stage.passes:
                self._to_come.add(stage.key)
                self._passes[stage.group] = self._passes.get(stage.group, 0.0) + stage.all_passes

    def _come(self, key: str) -> None:
        """A stage is no longer to come."""
        if key in self._to_come:
            self._to_come.remove(key)
            stage = self.stages[key]
            self._passes[stage.group] -= stage.all_passes

    def leave(self, keys: Iterable[str]) -> None:
        """Stages that do not come, as one before them has failed."""
        for key in keys:
            self._come(key)
            self.stages.pop(key, None)
            if key == self._key:
                self._key = ""

    def begin(self, spec: StageSpec | None, key: str, total_steps: int, step: int, trial: int | None = None) -> None:
        """A stage is trained from a step on, or the learning rate of number `trial` is tried for it; None is a stage of
        which nothing is known."""
        self._come(key)
        expected = self.stages.get(key)
        self._key = key
        self._group = expected.group if expected else (key, spec.task if spec else "")
        self._batch_size, self._trial = spec.training.batch_size if spec else 0, trial
        self._total_steps, self._step, self._steps_here = total_steps, step, 0

    def move(self, step: int, images_per_second: float) -> None:
        """A step was done."""
        self._step = step
        self._steps_here += 1
        if self._steps_here >= WARM_STEPS and images_per_second > 0:
            self._here[self._group] = images_per_second

    def end(self, key: str) -> None:
        """A stage is in the store."""
        self._come(key)
        if key in self.stages:
            self._ended.add(key)
        if key == self._key:
            self._key = ""

    def place(self, key: str) -> str:
        """Which stage of how many it is, such as `stage 2 of 4`; empty for a lone one, and where nobody knows."""
        if key not in self.stages or len(self.stages) == 1:
            return ""
        return f"stage {len(self._ended) + 1:,} of {len(self.stages):,}"

    def stage_seconds(self) -> float | None:
        """Until the stage at hand is trained, with the learning rates that are still tried; None: nobody knows."""
        expected, speed = self.stages.get(self._key), self._speed(self._group)
        if speed is None or not self._batch_size:
            return None
        left = float((self._total_steps - self._step) * self._batch_size)
        if self._trial is not None and expected is not None and expected.trials:
            left += expected.search_passes * (expected.trials - self._trial - 1) / expected.trials + expected.passes
        return left / speed

    def seconds(self) -> float | None:
        """Until all stages are trained; None where the speed of one is not known."""
        times = [self.stage_seconds()] if self._key else []
        for group, passes in list(self._passes.items()):
            if passes > LEAST_PASSES:
                speed = self._speed(group)
                times.append(None if speed is None else passes / speed)
        known = [each for each in times if each is not None]
        return sum(known) if len(known) == len(times) else None

    def unknown(self) -> list[ExpectedStage]:
        """The stages to come of whose speed nothing is known."""
        return [self.stages[key] for key in self._to_come if self._speed(self.stages[key].group) is None]

    def _speed(self, group: Group) -> float | None:
        """Images a second: as measured in this command, or before, or by those of another task on the same network."""
        if group in self._here or group in self._before:
            return self._here.get(group, self._before.get(group))
        for speeds in (self._here, self._before):
            for other, speed in list(speeds.items()):
                if other[0] == group[0] and group in self._works:
                    return speed * self._works[other] / self._works[group]
        return None


class Reporter:
    """Hears what happens; this one says nothing."""

    def expects(self, stages: Sequence[ExpectedStage]) -> None:
        """Stages of the command that is running, those of before included: how many there are, how long they take."""

    def leaves(self, keys: Collection[str]) -> None:
        """Stages that were expected do not come: one before them has failed."""

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
