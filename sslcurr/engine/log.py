"""The run log of a stage, and the progress that it and a resume go by."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.engine.trackers import StageTracker
from sslcurr.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from sslcurr.tasks.base import Loss

LOGS = ("metrics.csv", "epochs.csv")


class TrainingProgress:
    """Where a training is: all that a resume needs beside the weights."""

    def __init__(self) -> None:
        self.step = 0
        self.epochs_done = 0
        self.seconds = 0.0
        self.images_seen = 0
        self.best_epoch = -1
        self.best_value = -math.inf
        self.best: dict[str, Tensor] | None = None
        self.stopped_early = False
        self.logs: dict[str, tuple[int, str]] = {}  # as `log_state` gives it

    def state(self) -> dict[str, object]:
        """As plain values for the resume file."""
        return dict(vars(self))

    def load(self, state: Mapping[str, object]) -> None:
        """The inverse of `state`."""
        for name, value in state.items():
            setattr(self, name, value)


class Log:
    """`metrics.csv`, a row each few steps, `epochs.csv` for validation measures, and trackers.

    Values stay on the device until a row is due, so that a step does not wait for the one before.
    """

    def __init__(
        self,
        part: Path,
        progress: TrainingProgress,
        every: int,
        total_steps: int,
        trackers: Callable[[], Sequence[StageTracker]] = tuple,
    ) -> None:
        self.steps_path = part / "metrics.csv"
        self.epochs_path = part / "epochs.csv"
        self.progress = progress
        self.every = every
        self.total_steps = total_steps
        self.pending: list[tuple[int, Tensor]] = []
        self.bad_step: int | None = None
        self.begin_trackers = trackers
        self.trackers: Sequence[StageTracker] = ()

    def __enter__(self) -> Log:
        # Rows written after the last save belong to steps that are done again.
        keep_rows(self.steps_path, "step", self.progress.step)
        keep_rows(self.epochs_path, "epoch", self.progress.epochs_done)
        self.steps_file = open(self.steps_path, "a", newline="")
        self.epochs_file = open(self.epochs_path, "a", newline="")
        self.trackers = self.begin_trackers()
        return self

    def __exit__(self, *exc: object) -> None:
        self.steps_file.close()
        self.epochs_file.close()
        if self.epochs_path.stat().st_size == 0:
            self.epochs_path.unlink()
        for tracker in self.trackers:
            tracker.close(finished=exc[:1] == (None,))

    def add(self, step: int, lr: float, epoch: float, out: Loss, seconds: float) -> float | None:
        """Note a step's loss; every few steps write a row and give the loss back."""
        self.pending.append((step, out.value.detach().float()))
        if step % self.every and step + 1 < self.total_steps:
            return None
        import torch

        names = list(out.metrics)
        values = torch.stack([out.metrics[name].float() for name in names]).tolist() if names else []
        loss = self._read_pending()
        row = {"step": step, "epoch": round(epoch, 4), "lr": lr, "loss": loss, **dict(zip(names, values, strict=True))}
        append_row(self.steps_file, {**row, "seconds": round(seconds, 3)})
        for tracker in self.trackers:
            tracker.scalars({name: row[name] for name in ("loss", "lr", *names)}, step)
        return loss

    def add_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write a row of validation measures; its `step` is the last one of the epoch."""
        step = self.progress.step - 1
        append_row(self.epochs_file, {"epoch": epoch, "step": step, **metrics})
        self.epochs_file.flush()
        for tracker in self.trackers:
            tracker.scalars(metrics, step)

    def _read_pending(self) -> float:
        import torch

        steps = [step for step, _ in self.pending]
        values = torch.stack([value for _, value in self.pending]).tolist()
        self.pending.clear()
        for step, value in zip(steps, values, strict=True):
            if not math.isfinite(value) and self.bad_step is None:
                self.bad_step = step
        return float(values[-1])

    def first_not_finite(self) -> int | None:
        """The first step whose loss was not finite, if any."""
        if self.pending:
            self._read_pending()
        return self.bad_step

    def flush(self) -> None:
        """Hand all rows to the operating system."""
        self.steps_file.flush()
        self.epochs_file.flush()


def append_row(file: Any, row: Mapping[str, object]) -> None:
    """Append a row to an open CSV file, with a header if it is the first."""
    writer = csv.DictWriter(file, fieldnames=list(row))
    if file.tell() == 0:
        writer.writeheader()
    writer.writerow(row)


def log_state(part: Path) -> dict[str, tuple[int, str]]:
    """The logs of a training as they are: name -> bytes and their sha256."""
    found = {}
    for name in LOGS:
        path = part / name
        content = path.read_bytes() if path.is_file() else b""
        found[name] = (len(content), hashlib.sha256(content).hexdigest())
    return found


def check_logs(part: Path, state: Mapping[str, tuple[int, str]]) -> None:
    """Raises ValueError unless the logs of a training begin as they were; they go on growing after a save."""
    for name, (size, digest) in state.items():
        path = part / name
        content = path.read_bytes()[:size] if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{name} is not what was written")


def keep_rows(path: Path, column: str, before: int) -> None:
    """Drop the rows of a CSV file whose `column` is not below `before`, and a torn last line."""
    if not before:  # whatever it is
        path.unlink(missing_ok=True)
        return
    if not path.exists():
        return
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    whole = [row for row in rows if None not in row.values() and row[column].isdigit() and int(row[column]) < before]
    if not whole:
        path.unlink()
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(whole[0]))
    writer.writeheader()
    writer.writerows(whole)
    write_whole(path, text.getvalue().encode())
