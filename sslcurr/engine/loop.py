"""The bookkeeping around a training step: order, clock, log, saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslcurr.data.known import confirm
from sslcurr.data.order import batches, num_steps
from sslcurr.engine.log import Log, TrainingProgress, log_state
from sslcurr.engine.plan import resolved_settings
from sslcurr.engine.signals import StopSignals
from sslcurr.engine.store import RESUME
from sslcurr.engine.trackers import stage_trackers
from sslcurr.errors import Interrupted, TrainingError
from sslcurr.files import write_whole
from sslcurr.progress import Reporter
from sslcurr.seeds import numpy_generator
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec
from sslcurr.tasks.base import Loss, Task, Tick
from sslcurr.world import ALONE, FAILED, Left, World

# A save at the end of an epoch may cost this share of the time since the last one; rarer epochs are always saved.
SAVE_SHARE = 0.05


# Steps between two rows of the log on a GPU, which the host waits for to read them.
FEWEST_STEPS = 8


class Loop:
    """The bookkeeping around a step: order, clock, log, saves."""

    def __init__(
        self,
        spec: StageSpec,
        key: str,
        part: Path,
        runtime: Runtime,
        report: Reporter,
        task: Task,
        optimizer: torch.optim.Optimizer,
        progress: TrainingProgress,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.sums = world.gradient_sum(task.parameters())
        self.spec = spec
        self.key = key
        self.part = part
        self.runtime = runtime
        self.report = report
        self.task = task
        self.optimizer = optimizer
        self.progress = progress
        self.views = task.views(task.config)
        self.num_images = task.num_images
        self.steps_per_epoch = num_steps(self.num_images, spec.training.batch_size)
        self.total_steps = self.steps_per_epoch * spec.training.epochs
        least = 1 if next(task.parameters()).device.type == "cpu" else FEWEST_STEPS
        log_steps = runtime.log_steps or max(least, self.steps_per_epoch // 50)
        named = (runtime.trackers, part, spec, key, resolved_settings(spec), progress.step, report.note)
        self.log = Log(part, progress, log_steps, self.total_steps, lambda: stage_trackers(*named))
        self.started = time.monotonic() - progress.seconds
        self.began = (time.monotonic(), progress.images_seen)
        self.saved_at = time.monotonic()
        self.saved_step = progress.step
        self.save_seconds = 0.0

    def tick(self) -> Tick:
        """The time of the step that comes next."""
        return Tick(self.progress.step, self.total_steps, self.steps_per_epoch)

    def batches_left(self, weights: Tensor | None) -> Iterator[Any]:
        """The batches of this epoch that are not done yet, as places in the stage's data."""
        import numpy as np

        epoch = self.progress.epochs_done
        done = self.progress.step - epoch * self.steps_per_epoch
        purpose = (self.spec.seed, self.spec.parent, "order", epoch)
        places = np.arange(self.num_images)
        if weights is not None:
            shares = weights.double().cpu().numpy()
            places = numpy_generator(*purpose, "sample").choice(places, size=len(places), p=shares / shares.sum())
        yield from batches(places, self.spec.training.batch_size, *purpose)[done:]

    def step_done(self, out: Loss, num_images: int) -> None:
        """Count, log, and save when it is time."""
        progress = self.progress
        progress.step += 1
        progress.images_seen += num_images
        progress.seconds = time.monotonic() - self.started
        lr = self.optimizer.param_groups[0]["lr"]
        loss = self.log.add(progress.step - 1, lr, progress.step / self.steps_per_epoch, out, progress.seconds)
        if loss is not None:
            self._check_finite()
            confirm(wait=False)
        elapsed = max(1e-9, time.monotonic() - self.began[0])
        self.report.step_done(progress.step, loss, (progress.images_seen - self.began[1]) / elapsed)
        every = self.runtime.save_steps
        if (every and progress.step % every == 0) or (
            time.monotonic() - self.saved_at > 60 * self.runtime.save_minutes
        ):
            self.save()

    @contextmanager
    def agreed(self, stop: StopSignals) -> Iterator[None]:
        """A context for what ranks do each for themselves. After it, all stop where one was requested to, which is
        saved, and none goes on where one has failed.

        Raises:
            Interrupted: a signal asked to stop.
            Left: another rank has failed.
        """
        number = FAILED
        try:
            yield
            number = stop.signal
        finally:
            number = self.world.agree(number)
        if number == FAILED:
            raise Left
        if number:
            self.save()
            raise Interrupted(
                f"stopped at step {self.progress.step} of {self.total_steps} of {self.spec.task} ({self.key})",
                "run the same command again to go on from there",
                number,
            )

    def epoch_done(self, metrics: dict[str, float]) -> None:
        """Keep the best weights by the task's own measure, stop early, and save."""
        progress, monitor = self.progress, self.task.monitor
        epoch = progress.epochs_done
        progress.epochs_done += 1
        if metrics:
            self.log.add_epoch(epoch, metrics)
        self.log.flush()  # the reporter may read the rows of the epoch
        self.report.epoch_done(epoch, metrics)
        if monitor is not None and monitor in metrics:
            if metrics[monitor] > progress.best_value:
                progress.best_value, progress.best_epoch = metrics[monitor], epoch
                progress.best = {name: value.detach().cpu().clone() for name, value in self.task.state_dict().items()}
            patience = self.spec.training.patience
            progress.stopped_early = 0 < patience <= epoch - progress.best_epoch
        since = time.monotonic() - self.saved_at
        if self.runtime.save_steps == 0 and self.save_seconds <= SAVE_SHARE * since:
            self.save()

    def save(self) -> None:
        """Write `resume.pt`: weights, memories, optimizer and progress, whole or not at all. The first rank does so for
        all: nothing in it depends on how many there are."""
        self._check_finite()
        if self.world.rank:
            return
        began = time.monotonic()
        self.progress.seconds = began - self.started
        self.log.flush()  # first: a row of a step that is saved must not be lost
        self.progress.logs = log_state(self.part)
        state = {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress.state(),
        }
        write_whole(self.part / RESUME, lambda path: torch.save(state, path))
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step
        self.save_seconds = self.saved_at - began

    def _check_finite(self) -> None:
        step = self.log.first_not_finite()
        if step is None:
            return
        saved = f"the last saved step is {self.saved_step}" if self.saved_step else "nothing was saved before it"
        lr = self.spec.training.lr
        raise TrainingError(
            f"the loss of {self.spec.task} is not finite at step {step} of {self.total_steps} ({self.key})",
            f"{saved}; try a lower learning rate (--set {self.spec.task}.lr={lr / 5:.3g}), --precision 32, "
            f"or --set {self.spec.task}.clip=1",
        )
