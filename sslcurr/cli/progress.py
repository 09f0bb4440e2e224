"""Progress on stderr: lines as stages begin and end, and between them, in a terminal, how far the one at hand is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.progress import Course, ExpectedStage, PoolState, Reporter
from sslcurr.wording import counted, duration, shortened, speed, visible

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.results.table import Table
    from sslcurr.spec.stage import StageSpec


def error_console() -> Console:
    """The console of progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class Lines(Reporter):
    """Prints the stages of a run as lines, and draws how far one is while it is trained."""

    def __init__(self) -> None:
        self.console = error_console()
        self.described: dict[str, str] = {}  # task -> its settings as they were printed last
        self.files: list[Path] = []
        self.course = Course()
        self.at_hand: Training | None = None
        self.began: dict[str, float] = {}  # key -> when its stage was begun here
        self.searched: StageSpec | None = None  # for which learning rates are tried
        self.key = ""
        self.loss: float | None = None  # that was heard of last
        self.live: Any = None

    def expects(self, stages: Sequence[ExpectedStage]) -> None:
        """Count the stages that are to come."""
        self.course.expect(stages)

    def leaves(self, keys: Collection[str]) -> None:
        """Count them no more."""
        self.close()
        self.course.leave(keys)

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Print the stage and its resolved settings, and begin to draw it."""
        going_on = f", going on at step {step:,} of {total_steps:,}" if step else ""
        epochs = counted(spec.training.epochs, "epoch")
        self.console.print(f"{self._named(spec, key)}training {epochs}{going_on}", markup=False)
        line = ", ".join(f"{name} {value}" for name, value in settings.items())
        if self.described.get(spec.task) != line:  # of many chains, once for each task
            self.console.print(f"  {line}", style="dim", markup=False)
            self.described[spec.task] = line
        self._begin(spec, key)
        self.searched = None
        self.course.begin(spec, key, total_steps, step)
        self._draw(Training(spec.task, self.course.place(key), "", step, total_steps, spec.training.epochs))

    def _named(self, spec: StageSpec, key: str) -> str:
        place = self.course.place(key)
        return f"{spec.task} ({key}): {place}{', ' if place else ''}"

    def _begin(self, spec: StageSpec, key: str) -> None:
        self.began.setdefault(key, time.monotonic())
        self.key, self.loss = key, None

    def _draw(self, training: Training) -> None:
        self.close()
        self.at_hand = training
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(_Drawn(self), console=self.console, transient=True, refresh_per_second=4)
            self.live.start()

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """Print how the learning rate is searched for."""
        self._begin(spec, key)
        self.searched = spec
        self.console.print(f"{self._named(spec, key)}learning-rate {search}", markup=False)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """Begin to draw one trial of a search."""
        spec = self.searched
        key, epochs = (self.key, spec.search.epochs) if spec is not None and spec.search is not None else ("", 0)
        self.course.begin(spec, key, total_steps, step, number)
        trial = f"learning rate {number + 1} of {num_trials} ({lr:.3g})"
        self._draw(Training(task, self.course.place(key), trial, step, total_steps, epochs))

    def trial_ends(self, number: int, lr: float, result: str) -> None:
        """Print the result of a trial."""
        self.close()
        self.console.print(f"  learning rate {number + 1}: {lr:.3g}: {result}", style="dim", markup=False)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Note how far the training is."""
        self.course.move(step, images_per_second)
        if loss is not None:
            self.loss = loss
        if self.at_hand is not None:
            self.at_hand.step, self.at_hand.images_per_second = step, images_per_second
            self.at_hand.loss = self.loss

    def stage_ends(self, spec: StageSpec, key: str, *, reused: bool) -> None:
        """Print how long the stage took, where it was trained here, and what is left."""
        self.close()
        self.course.end(key)
        if reused:
            self.console.print(f"{spec.task} ({key}): already there, reused", markup=False)
        elif key in self.began:
            loss = f", loss {self.loss:.4f}" if self.loss is not None else ""
            seconds = self.course.seconds()
            left = f"; about {duration(seconds)} left" if seconds else ""
            took = duration(time.monotonic() - self.began[key])
            self.console.print(f"{spec.task} ({key}): done in {took}{loss}{left}", markup=False)

    def note(self, text: str) -> None:
        """Print a remark."""
        self.console.print(f"note: {visible(text)}", style="yellow", markup=False)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        sys.stderr.flush()

    def close(self) -> None:
        """Wipe what is drawn, also after an error."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.at_hand = None

    def pool(self, state: PoolState) -> None:
        """Draw how far all jobs are, and a line for each worker, where there is a terminal."""
        if not self.console.is_terminal:
            return
        if self.at_hand is not None:  # of a job that this process did; it has ended
            self.close()
        if self.live is None:
            from rich.live import Live

            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        self.live.update(drawn_pool(state, self.console.width), refresh=True)

    def pool_ends(self) -> None:
        """Wipe what was drawn of several jobs."""
        self.close()

    def wrote(self, path: Path) -> None:
        """Remember a requested file; the command names it below its tables."""
        self.files.append(path)

    def results_so_far(self, table: Table) -> None:
        """Print a table of what is measured so far on stderr."""
        from sslcurr.cli.terminal import print_table

        if table.rows:
            print_table(table, stderr=True)

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar for a function that reports the numbers done and in all; it opens at the first report."""
        if not self.console.is_terminal:
            yield None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=self.console, transient=True)
        tasks: list[Any] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                bar.start()
                tasks.append(bar.add_task(title, total=total))
            bar.update(tasks[0], completed=done)

        try:
            yield show
        finally:
            if tasks:
                bar.stop()


@dataclass
class Training:
    """What is drawn of a training.

    Attributes:
        task: what is trained.
        place: which stage of how many it is; empty where there is one, or nobody knows.
        trial: which learning rate is tried; empty where none is.
        step, total_steps: optimizer steps done and of all.
        epochs: of all.
        images_per_second: of its steps here.
        loss: that was read last.
    """

    task: str
    place: str
    trial: str
    step: int
    total_steps: int
    epochs: int
    images_per_second: float = 0.0
    loss: float | None = None


class _Drawn:
    """Draws the training at hand each time that the terminal is drawn anew."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines

    def __rich__(self) -> Any:
        course, training = self.lines.course, self.lines.at_hand
        if training is None:
            return ""
        return drawn_training(training, course.stage_seconds(), course.seconds(), self.lines.console.width)


# Characters of a bar, and of a task's name where there is no room.
LEAST_BAR, LEAST_NAME = 10, 12


def drawn_training(training: Training, left: float | None, left_in_all: float | None, width: int) -> Any:
    """How far a training is, in two lines of a terminal of that width: what it is at, and a bar with the time left."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Grid
    from rich.text import Text

    width -= 2  # as of `drawn_pool`
    parts = [training.place, training.trial, epoch_of(training.step, training.total_steps, training.epochs)]
    parts += [f"loss {training.loss:.4f}"] if training.loss is not None else []
    parts = [part for part in parts if part]
    while len(parts) > 1 and len(", ".join(parts)) + LEAST_NAME + 2 > width:
        parts.pop(-2)  # the loss stays
    said = ", ".join(parts)
    first = f"{shortened(training.task, max(LEAST_NAME, width - len(said) - 2))}: {said}"
    times = [f"about {duration(left)} left"] if left is not None else []
    if left is not None and left_in_all is not None and duration(left_in_all) != duration(left):
        times.append(f"{duration(left_in_all)} in all")
    images = f"{speed(training.images_per_second)} images/s" if training.images_per_second > 0 else ""
    numbers = "  ".join(part for part in (images, ", ".join(times)) if part)
    room = width - len(numbers) - 2
    if room < LEAST_BAR:
        return Group(Text(first[:width]), Text(numbers[:width]))
    grid = Grid.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(1, training.total_steps), completed=training.step, width=room)
    grid.add_row(bar, Text(numbers, no_wrap=True))
    return Group(Text(first[:width], no_wrap=True), grid)


def epoch_of(step: int, total_steps: int, epochs: int) -> str:
    """The epoch that a training is at, such as `epoch 3 of 20`; empty where nobody knows."""
    if not total_steps or not epochs:
        return ""
    return f"epoch {min(step * epochs // total_steps + 1, epochs):,} of {epochs:,}"


# Characters of a job's title, so that in 80 columns epoch and speed stand beside it and its end is seen.
MOST_TITLE = 33


def drawn_pool(state: PoolState, width: int) -> Any:
    """How far all jobs are in a line, and below it a line for each worker, in a terminal of that width."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    parts = [f"{state.done} of {counted(state.total, 'job')} done"]
    parts += [f"{state.failed} failed"] if state.failed else []
    parts += [f"{state.elsewhere} at other processes"] if state.elsewhere else []
    parts += [f"about {duration(state.seconds_left)} left"] if state.seconds_left is not None else []
    # A terminal shows ^C at the end of the last line. Without room for it there is one line more than is wiped.
    grid = Grid.grid(padding=(0, 2, 0, 0), expand=True)
    grid.width = width - 2
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, justify="right")
    for worker in state.workers:
        epoch = epoch_of(worker.step, worker.total_steps, worker.epochs)
        images = f"{speed(worker.images_per_second)} images/s" if worker.images_per_second > 0 else ""
        cells = (worker.name, shortened(worker.title, MOST_TITLE) or "waits", epoch, images)
        grid.add_row(*(Text(cell) for cell in cells))
    return Group(Text(", ".join(parts)), grid)
