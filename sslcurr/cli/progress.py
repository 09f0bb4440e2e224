"""Progress on stderr: a bar with loss, images/s and time left where there is a terminal, single lines where not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.progress import PoolState, Reporter
from sslcurr.wording import counted, duration, shortened, visible

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.results.table import Table
    from sslcurr.spec.stage import StageSpec


def error_console() -> Console:
    """The console of progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class Lines(Reporter):
    """Prints the stages of a run as lines, and draws a bar while one is trained."""

    def __init__(self) -> None:
        self.console = error_console()
        self.described: dict[str, str] = {}  # task -> its settings as they were printed last
        self.files: list[Path] = []
        self.bar: Any = None
        self.task: Any = None
        self.live: Any = None

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Print the stage and its resolved settings, and open the bar."""
        going_on = f", going on at step {step} of {total_steps}" if step else ""
        self.console.print(f"{spec.task} ({key}): training{going_on}", markup=False)
        line = ", ".join(f"{name} {value}" for name, value in settings.items())
        if self.described.get(spec.task) != line:  # of many chains, once for each task
            self.console.print(f"  {line}", style="dim", markup=False)
            self.described[spec.task] = line
        self._open_bar(spec.task, total_steps, step)

    def _open_bar(self, title: str, total_steps: int, step: int) -> None:
        self.close()
        if self.console.is_terminal:
            self.bar = _progress_bar(self.console)
            self.task = self.bar.add_task(title, total=total_steps, completed=step, loss="", speed="")
            self.bar.start()

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """Print how the learning rate is searched for."""
        self.console.print(f"{spec.task} ({key}): learning-rate {search}", markup=False)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """Open a bar for one trial of a search."""
        self._open_bar(f"{task}: learning rate {number + 1} of {num_trials}, {lr:.3g}", total_steps, step)

    def trial_ends(self, number: int, lr: float, result: str) -> None:
        """Print the result of a trial."""
        self.close()
        self.console.print(f"  learning rate {number + 1}: {lr:.3g}: {result}", style="dim", markup=False)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Move the bar."""
        if self.bar is not None:
            shown = {"loss": f"loss {loss:.4f}"} if loss is not None else {}
            self.bar.update(self.task, completed=step, speed=f"{images_per_second:,.0f} images/s", **shown)

    def stage_ends(self, spec: StageSpec, key: str, *, reused: bool) -> None:
        """Close the bar, and print a line if the stage was reused."""
        self.close()
        if reused:
            self.console.print(f"{spec.task} ({key}): already there, reused", markup=False)

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
        """Close the bar, also after an error."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        self.pool_ends()

    def pool(self, state: PoolState) -> None:
        """Draw how far all jobs are, and a line for each worker, where there is a terminal."""
        if not self.console.is_terminal:
            return
        if self.bar is not None:  # of a job that this process did; it has ended
            self.close()
        if self.live is None:
            from rich.live import Live

            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        self.live.update(drawn_pool(state, self.console.width), refresh=True)

    def pool_ends(self) -> None:
        """Wipe what was drawn of several jobs."""
        if self.live is not None:
            self.live.stop()
            self.live = None

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
        bar = _progress_bar(self.console)
        tasks: list[Any] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                bar.start()
                tasks.append(bar.add_task(title, total=total, loss="", speed=""))
            bar.update(tasks[0], completed=done)

        try:
            yield show
        finally:
            if tasks:
                bar.stop()


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
        share = worker.step / worker.total_steps if worker.total_steps else 0.0
        epoch = f"epoch {share * worker.epochs:.1f} of {worker.epochs}" if worker.epochs else f"{share:.0%}"
        speed = f"{worker.images_per_second:,.0f} images/s" if worker.images_per_second else ""
        title = shortened(worker.title, MOST_TITLE) or "waits"
        cells = (worker.name, title, epoch if worker.total_steps else "", speed)
        grid.add_row(*(Text(cell) for cell in cells))
    return Group(Text(", ".join(parts)), grid)


def _progress_bar(console: Console) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
    )
