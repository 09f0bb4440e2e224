"""The training loop, the only one: any task, any device, resumed at any step."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslcurr import __version__
from sslcurr.backbones import build as backbones
from sslcurr.backbones import checkpoint
from sslcurr.backbones.recompute import recompute_stages
from sslcurr.data.order import batches, num_steps
from sslcurr.engine.device import Placement, keep_freed_memory, placement
from sslcurr.engine.fabric import Fabric
from sslcurr.engine.feed import Feed, Scanner
from sslcurr.engine.log import Log, Progress, read_rows
from sslcurr.engine.optim import build_optimizer, lr_at, set_lr
from sslcurr.engine.report import Reporter
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.signals import StopSignals, stop_signals
from sslcurr.engine.spec import StageSpec
from sslcurr.engine.store import RESUME, write_whole
from sslcurr.errors import Interrupted, TrainingError
from sslcurr.seeds import numpy_generator, seed_for, torch_generator
from sslcurr.tasks import task_class
from sslcurr.tasks.base import Batch, Facts, Loss, Task, Tick

# A save at the end of an epoch may cost this share of the time since the last one; rarer epochs are always saved.
SAVE_SHARE = 0.05
# Steps between two rows of the log on a GPU, which the host waits for to read them.
FEWEST_STEPS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how a stage runs: nothing here changes what is asked for.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        save_minutes: longest time between two saves within an epoch.
        save_steps: save after each so many steps, whatever it costs; 0 leaves it to the clock.
        log_steps: steps between two rows of `metrics.csv`; 0 chooses about 50 an epoch, on a GPU not oftener than every
            eighth step: the host waits for the device to read them.
        tensorboard: also write TensorBoard events into the stage's folder.
        recompute: compute what lies within the backbone's stages again for the backward pass instead of keeping it:
            less memory, more time.
    """

    device: str = "auto"
    save_minutes: float = 5.0
    save_steps: int = 0
    log_steps: int = 0
    tensorboard: bool = False
    recompute: bool = False


def train(
    spec: StageSpec, key: str, part: Path, parent: Path | None, runtime: Runtime, report: Reporter
) -> dict[str, Any]:
    """Train a stage in its folder `part`, going on where an earlier process stopped; returns the stage's record.

    The rate is `spec.training.lr`; a search for it is over by now. `key` is that of the stage as it was asked for.

    Raises:
        TrainingError: the loss is not finite.
        Interrupted: a signal asked to stop; the state is saved.
    """
    where = placement(runtime.device, spec.training.precision)
    keep_freed_memory()
    fabric = Fabric(accelerator=where.accelerator, devices=where.devices, precision=where.fabric_precision)
    selection = select(spec.data, labelled=task_class(spec.task).labelled)
    task = build_task(spec, selection, parent)
    if runtime.recompute:
        recompute_stages(task.backbone)
    if where.channels_last:
        task = task.to(memory_format=torch.channels_last)
    model = fabric.setup_module(task)
    optimizer = build_optimizer(task, spec.training, task.rules())  # on the device: its buffers lie beside the weights
    stepper = fabric.setup_optimizers(optimizer)
    feed = Feed(selection, spec.backbone, fabric.device)
    scan = Scanner(feed, task.fixed_view(task.config), where.autocast)
    progress = Progress()
    if not load_resume(part / RESUME, task, optimizer, progress):
        torch.manual_seed(seed_for(spec.seed, spec.parent, "start"))
        task.start(scan)
    loop = Loop(spec, key, part, runtime, report, task, optimizer, progress)
    report.stage_begins(spec, key, loop.total_steps, progress.step)
    with loop.log, stop_signals() as stop:
        while progress.epochs_done < spec.training.epochs and not progress.stopped_early:
            for places in loop.batches_left(task.sampling_weights()):
                tick = loop.tick()
                out, batch = one_step(loop, fabric, model, stepper, feed, places, tick)
                with report.phase("after_step"):
                    task.after_step(batch, out, tick)
                with report.phase("logging"):
                    loop.step_done(out, len(places))
                loop.stop_if_asked(stop)
            torch.manual_seed(seed_for(spec.seed, spec.parent, "end_epoch", progress.epochs_done))
            loop.epoch_done(task.end_epoch(loop.tick(), scan))
            loop.stop_if_asked(stop)
    if progress.best is not None:
        task.load_state_dict(progress.best)
    return finish(spec, part, parent, task, progress, where)


def one_step(
    loop: Loop, fabric: Fabric, model: nn.Module, optimizer: Any, feed: Feed, places: Any, tick: Tick
) -> tuple[Loss, Batch]:
    """Forward, backward and optimizer step, in `accumulate` parts; gives the loss and batch of the whole step."""
    spec, task, phase = loop.spec, loop.task, loop.report.phase
    torch.manual_seed(seed_for(spec.seed, spec.parent, "step", tick.step))
    lr = lr_at(spec.training, tick.step, tick.total_steps, tick.steps_per_epoch)
    set_lr(optimizer, spec.training, lr)
    task.before_step(tick)
    generator = torch_generator(spec.seed, spec.parent, "views", tick.step)
    parts, losses = [], []
    for chunk in split_evenly(places, spec.training.accumulate):
        batch = feed.batch(chunk, loop.views, generator, loop.report)
        with phase("forward"):
            out: Loss = model(batch, tick)
        share = len(chunk) / len(places)
        with phase("backward"):
            fabric.backward(out.value * share if share < 1 else out.value)
        parts.append(batch)
        losses.append((share, out))
    with phase("optimizer"):
        if spec.training.clip:
            torch.nn.utils.clip_grad_norm_(task.parameters(), spec.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return join(losses), join_batches(parts)


def split_evenly(places: Any, num_parts: int) -> list[Any]:
    """Parts whose sizes differ by one at most."""
    import numpy as np

    return [places] if num_parts == 1 else list(np.array_split(places, num_parts))


def join(losses: list[tuple[float, Loss]]) -> Loss:
    """The loss of a step from those of its parts, weighted by their shares of the images."""
    if len(losses) == 1:
        out = losses[0][1]
        return Loss(out.value.detach(), out.metrics, out.keep)
    value = sum(
        (share * out.value.detach() for share, out in losses), torch.zeros((), device=losses[0][1].value.device)
    )
    first = losses[0][1]
    metrics = {
        name: sum((share * out.metrics[name] for share, out in losses), torch.zeros_like(content))
        for name, content in first.metrics.items()
    }
    return Loss(value, metrics, {name: torch.cat([out.keep[name] for _, out in losses]) for name in first.keep})


def join_batches(parts: list[Batch]) -> Batch:
    """The batch of a whole step; its views are dropped when it had several parts."""
    if len(parts) == 1:
        return parts[0]
    return Batch(
        views=(), index=torch.cat([part.index for part in parts]), labels=torch.cat([part.labels for part in parts])
    )


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
        progress: Progress,
    ) -> None:
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
        self.log = Log(part, progress, log_steps, self.total_steps, runtime.tensorboard)
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
        elapsed = max(1e-9, time.monotonic() - self.began[0])
        self.report.step_done(progress.step, loss, (progress.images_seen - self.began[1]) / elapsed)
        every = self.runtime.save_steps
        if (every and progress.step % every == 0) or (
            time.monotonic() - self.saved_at > 60 * self.runtime.save_minutes
        ):
            self.save()

    def stop_if_asked(self, stop: StopSignals) -> None:
        """Save and stop when a signal asked for it."""
        if stop.signal:
            self.save()
            raise Interrupted(
                f"stopped at step {self.progress.step} of {self.total_steps} of {self.spec.task} ({self.key})",
                "run the same command again to go on from there",
                stop.signal,
            )

    def epoch_done(self, metrics: dict[str, float]) -> None:
        """Keep the best weights by the task's own measure, stop early, and save."""
        progress, monitor = self.progress, self.task.monitor
        epoch = progress.epochs_done
        progress.epochs_done += 1
        if metrics:
            self.log.add_epoch(epoch, metrics)
        self.log.flush()  # whoever hears of the epoch may read its rows
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
        """Write `resume.pt`: weights, memories, optimizer and progress, whole or not at all."""
        self._check_finite()
        began = time.monotonic()
        self.progress.seconds = began - self.started
        state = {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress.state(),
        }
        self.log.flush()  # first: a row of a step that is saved must not be lost
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
            f"{saved}; try a lower rate (--set {self.spec.task}.lr={lr / 5:.3g}), --precision 32, "
            f"or --set {self.spec.task}.clip=1",
        )


def load_resume(path: Path, task: Task, optimizer: torch.optim.Optimizer, progress: Progress) -> bool:
    """Put back the state that an earlier process saved; False when there is none."""
    if not path.exists():
        return False
    device = next(task.parameters()).device
    state = torch.load(path, map_location=device, weights_only=True)
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(state["optimizer"])
    progress.load(state["progress"])
    return True


def build_task(spec: StageSpec, selection: Selection, parent: Path | None) -> Task:
    """The task of a stage on its backbone, with the parent's weights or fresh ones, on the CPU."""
    kind = task_class(spec.task)
    torch.manual_seed(seed_for(spec.seed, "init", "backbone"))
    backbone = backbones.build(spec.backbone)
    if parent is not None:
        checkpoint.load_into(backbone, parent)
    config = kind.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.config.items()})
    facts = Facts(
        num_images=len(selection.rows["train"]),
        class_counts=selection.class_counts(),
        image_size=config.image_size,
        channels=spec.backbone.channels,
        pretrained=parent is not None,
    )
    torch.manual_seed(seed_for(spec.seed, spec.parent, "init", spec.task))
    task = kind(backbone, backbones.num_features(backbone), facts, config)
    return task.train()


def finish(
    spec: StageSpec, part: Path, parent: Path | None, task: Task, progress: Progress, where: Placement
) -> dict[str, Any]:
    """Write the weights and give the stage's record."""
    header = checkpoint.Header(backbone=spec.backbone, image_size=task.config.image_size, tasks=spec.tasks)
    path = part / "backbone.safetensors"
    write_whole(path, lambda temporary: checkpoint.save(task.backbone, header, temporary))
    if task.labelled:
        head = task.get_submodule("head")
        # What fine-tuning learnt beside the backbone is needed to predict; the heads of pretext tasks end here.
        write_whole(part / "head.safetensors", lambda temporary: checkpoint.save_part(head, temporary))
    rows = read_rows(part / "metrics.csv")
    final = {name: float(value) for name, value in rows[-1].items() if name not in ("step", "epoch", "seconds", "lr")}
    if task.monitor is not None and progress.best is not None:
        final |= {task.monitor: progress.best_value, "best_epoch": progress.best_epoch}
    return {
        "weights_sha256": checkpoint.sha256_of(path),
        "parent": spec.parent,
        "parent_weights_sha256": checkpoint.sha256_of(parent) if parent is not None else None,
        "metrics": final,
        "steps": progress.step,
        "stopped_early": progress.stopped_early,
        "num_images": task.num_images,
        "images_per_second": round(progress.images_seen / max(progress.seconds, 1e-9), 2),
        "seconds": round(progress.seconds, 3),
        "lr": spec.training.lr,
        "device": where.description,
        "precision": where.precision,
        "channels_last": where.channels_last,
        "threads": torch.get_num_threads(),
        "versions": {"sslcurr": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
