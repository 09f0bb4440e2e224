"""Progress on stderr: a bar with loss, images/s and time left where there is a terminal, single lines where not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.progress import Reporter

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.results.table import Table
    from sslcurr.spec.stage import StageSpec


def error_console() -> Console:
    """The console of progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class Lines(Reporter):
    """Tells the stages of a run in lines, and draws a bar while one is trained."""

    def __init__(self) -> None:
        self.console = error_console()
        self.described: dict[str, str] = {}  # task -> its settings as they were told last
        self.files: list[Path] = []
        self.bar: Any = None
        self.task: Any = None

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Say what is trained, with all that was resolved, and open the bar."""
        going_on = f", going on at step {step} of {total_steps}" if step else ""
        self.console.print(f"{spec.task} ({key}): training{going_on}", markup=False)
        line = ", ".join(f"{name} {value}" for name, value in settings.items())
        if self.described.get(spec.task) != line:  # of many chains, once for each task
            self.console.print(f"  {line}", style="dim", markup=False)
            self.described[spec.task] = line
        self._open_bar(spec.task, total_steps, step)

    def _open_bar(self, title: str, total_steps: int, step: int) -> None:
        if self.console.is_terminal:
            self.bar = _progress_bar(self.console)
            self.task = self.bar.add_task(title, total=total_steps, completed=step, loss="", speed="")
            self.bar.start()

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """Say how the rate is looked for."""
        self.console.print(f"{spec.task} ({key}): learning-rate {search}", markup=False)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """Open a bar for one rate of a search."""
        self._open_bar(f"{task}: rate {number + 1} of {num_trials}, {lr:.3g}", total_steps, step)

    def trial_ends(self, number: int, lr: float, result: str) -> None:
        """Say what a rate gave."""
        self.close()
        self.console.print(f"  rate {number + 1}: {lr:.3g}: {result}", style="dim", markup=False)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Move the bar."""
        if self.bar is not None:
            shown = {"loss": f"loss {loss:.4f}"} if loss is not None else {}
            self.bar.update(self.task, completed=step, speed=f"{images_per_second:,.0f} images/s", **shown)

    def stage_ends(self, spec: StageSpec, key: str, *, reused: bool) -> None:
        """Close the bar; say so when nothing had to be trained."""
        self.close()
        if reused:
            self.console.print(f"{spec.task} ({key}): already there, reused", markup=False)

    def note(self, text: str) -> None:
        """Print a remark."""
        self.console.print(f"note: {text}", style="yellow", markup=False)

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

    def wrote(self, path: Path) -> None:
        """Remember a file that was asked for; the command names it below its tables."""
        self.files.append(path)

    def results_so_far(self, table: Table) -> None:
        """Print a table of what is measured so far on stderr."""
        from sslcurr.cli.terminal import print_table

        print_table(table, stderr=True)

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar that is told how many of how many are done; it opens when it is first told."""
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
