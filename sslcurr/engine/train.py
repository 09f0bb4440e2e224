"""The training loop, the only one: any task, any device, resumed at any step."""

from __future__ import annotations

import pickle
import platform
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from msgspec import structs

from sslcurr.backbones import build as backbones
from sslcurr.backbones import checkpoint
from sslcurr.backbones.recompute import recompute_stages
from sslcurr.data.known import confirm
from sslcurr.engine.batches import Feed, Scanner
from sslcurr.engine.device import Placement, check_speed, enough_memory, keep_freed_memory, placement
from sslcurr.engine.gpu import Beside, compiled_views, record_passes, ways_of
from sslcurr.engine.log import TrainingProgress, check_logs
from sslcurr.engine.loop import Loop
from sslcurr.engine.optim import build_optimizer
from sslcurr.engine.plan import resolved_settings
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.signals import stop_signals
from sslcurr.engine.step import one_step
from sslcurr.engine.store import RESUME
from sslcurr.errors import SpecError
from sslcurr.files import is_refused, sha256_of, write_whole
from sslcurr.integrity import digest_of, read_rows
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_torch
from sslcurr.spec.record import StageRecord
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec
from sslcurr.tasks import task_class
from sslcurr.tasks.base import Facts, Task
from sslcurr.version import __version__
from sslcurr.wording import reason_of
from sslcurr.world import ALONE, World

# What reading a damaged archive raises.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError),
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError),
)


@dataclass(frozen=True)
class Trained:
    """A task at the end of its training."""

    task: Task
    progress: TrainingProgress
    where: Placement
    classes: tuple[str, ...]


def train(
    spec: StageSpec,
    key: str,
    part: Path,
    parent: Path | None,
    runtime: Runtime,
    report: Reporter,
    world: World = ALONE,
) -> StageRecord:
    """Train a stage in its folder `part`, as `fit`, write its weights there, and give its record."""
    trained = fit(spec, key, part, parent, runtime, report, world)
    record = finish(spec, key, part, parent, trained.task, trained.progress, trained.where)
    if trained.task.labelled:
        record = structs.replace(record, classes=list(trained.classes))
    of_ranks = world.record()
    return record if of_ranks is None else structs.replace(record, world=of_ranks)


def fit(
    spec: StageSpec,
    key: str,
    part: Path,
    parent: Path | None,
    runtime: Runtime,
    report: Reporter,
    world: World = ALONE,
) -> Trained:
    """Train a stage in its folder `part`, going on where an earlier process stopped; other ranks than the first have a
    folder of their own, and leave nothing in it that is needed.

    The learning rate is `spec.training.lr`; a search for it has ended. `key` is that of the stage as requested.

    Raises:
        SpecError: bf16 was requested of a CPU that cannot compute it; a step needs more memory than there is; there are
            fewer images than ranks.
        TrainingError: the loss is not finite.
        Interrupted: a signal asked to stop; the state is saved.
        Left: another rank has failed.
    """
    where = placement(runtime.device, spec.training.precision)
    check_speed(where)
    keep_freed_memory()
    if where.device.type == "cuda":
        torch.cuda.set_device(where.device)  # so that what names no GPU uses this one too
    ways = ways_of(runtime, where.device, where.description)
    where = replace(
        where, channels_last=where.channels_last and (where.device.type == "cpu" or "channels-last" in ways)
    )
    selection = select(spec.data, labelled=task_class(spec.task).labelled)
    task = build_task(spec, selection, parent)
    if runtime.recompute:
        recompute_stages(task.backbone)
    if where.channels_last:
        task = task.to(memory_format=torch.channels_last)
    task = task.to(where.device)
    optimizer = build_optimizer(task, spec.training, task.rules())  # on the device: its buffers lie beside the weights
    feed = Feed(selection, spec.backbone, where.device, Beside(where.device if "ahead" in ways else None))
    if "graphs" in ways and world.size == spec.training.accumulate == 1 and not runtime.recompute:
        record_passes(task.backbone, where.autocast)
    scan = Scanner(feed, task.fixed_view(task.config), where.autocast, world)
    progress = TrainingProgress()
    if not load_resume(part / RESUME, task, optimizer, progress, report, world):
        seed_torch(spec.seed, spec.parent, "start")
        task.start(scan)
        world.same(task)
    loop = Loop(spec, key, part, runtime, report, task, optimizer, progress, world)
    if world.size > 1 and world.size * spec.training.accumulate > loop.num_images // loop.steps_per_epoch:
        raise SpecError(
            f"{loop.num_images} images are too few for {world.size} ranks", "train them by one: leave out --devices"
        )
    report.stage_begins(spec, key, loop.total_steps, progress.step, resolved_settings(spec))
    size = f"a step of {spec.training.batch_size} images at {task.config.image_size} pixels"
    compiled = compiled_views("compiled-views" in ways)
    with loop.log, stop_signals() as stop, enough_memory(f"{spec.task}, {size},"), compiled:
        while progress.epochs_done < spec.training.epochs and not progress.stopped_early:
            for places in loop.batches_left(task.sampling_weights()):
                tick = loop.tick()
                out, batch = one_step(loop, where, feed, places, tick)
                with report.phase("after_step"):
                    task.after_step(batch, out, tick)
                with loop.agreed(stop), report.phase("logging"):
                    loop.step_done(out, len(places))
            seed_torch(spec.seed, spec.parent, "end_epoch", progress.epochs_done)
            measures = world.told(task.end_epoch(loop.tick(), scan))
            world.same(task)
            with loop.agreed(stop):
                loop.epoch_done(measures)
    confirm()
    if progress.best is not None:
        task.load_state_dict(progress.best)
    return Trained(task, progress, where, tuple(selection.pack.classes))


def load_resume(
    path: Path,
    task: Task,
    optimizer: torch.optim.Optimizer,
    progress: TrainingProgress,
    report: Reporter,
    world: World = ALONE,
) -> bool:
    """Put back the state that an earlier process saved; False when there is none, or a damaged one, which is said.

    The first rank reads it for all, however many had saved it.
    """
    state = None
    if not world.rank and path.exists():
        try:
            state = _read_resume(path, next(task.parameters()).device if world.size == 1 else torch.device("cpu"))
        except DAMAGE as error:
            if is_refused(error):
                raise
            report.note(f"{path} is damaged ({reason_of(error)}): the stage is trained from its beginning")
            path.unlink()
    state = world.told(state)
    if state is None:
        return False
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(state["optimizer"])
    progress.load(state["progress"])
    return True


def _read_resume(path: Path, device: torch.device) -> dict[str, Any]:
    """The saved state, once all of it was held against the checksums of the file, which torch does not do."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"{bad} in it is not what was written")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    check_logs(path.parent, state["progress"].get("logs", {}))
    return state


def build_task(spec: StageSpec, selection: Selection, parent: Path | None) -> Task:
    """The task of a stage on its backbone, with the parent's weights or fresh ones, on the CPU."""
    kind = task_class(spec.task)
    seed_torch(spec.seed, "init", "backbone")
    backbone = backbones.build(spec.backbone)
    if parent is not None:
        checkpoint.load_into(backbone, parent)
    config = kind.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.config.items()})
    facts = Facts(
        num_images=len(selection.rows["train"]),
        class_counts=selection.class_counts(),
        outputs=selection.num_outputs,
        image_size=config.image_size,
        channels=spec.backbone.channels,
        pretrained=parent is not None,
    )
    seed_torch(spec.seed, spec.parent, "init", spec.task)
    task = kind(backbone, backbones.num_features(backbone), facts, config)
    if spec.keeps_head and parent is not None:
        task.get_submodule("head").load_state_dict(checkpoint.read_weights(parent.with_name("head.safetensors")))
    task.freeze(spec.training.freeze)
    return task.train()


def finish(
    spec: StageSpec, key: str, part: Path, parent: Path | None, task: Task, progress: TrainingProgress, where: Placement
) -> StageRecord:
    """Write the weights and give the stage's record."""
    header = checkpoint.Header(backbone=spec.backbone, image_size=task.config.image_size, tasks=spec.tasks)
    path = part / "backbone.safetensors"
    write_whole(path, lambda temporary: checkpoint.save_backbone(task.handed_on(), header, temporary))
    if task.labelled:
        head = task.get_submodule("head")
        # What fine-tuning learnt beside the backbone is needed to predict; the heads of pretext tasks end here.
        write_whole(part / "head.safetensors", lambda temporary: checkpoint.save_part(head, temporary))
    rows = read_rows(part / "metrics.csv")
    final = {name: float(value) for name, value in rows[-1].items() if name not in ("step", "epoch", "seconds", "lr")}
    if task.monitor is not None and progress.best is not None:
        final |= {task.monitor: progress.best_value, "best_epoch": progress.best_epoch}
    return StageRecord(
        key=key,
        weights_sha256=sha256_of(path),
        parent=spec.parent,
        parent_weights_sha256=digest_of(parent) if parent is not None else None,
        metrics=final,
        steps=progress.step,
        stopped_early=progress.stopped_early,
        num_images=task.num_images,
        images_per_second=round(progress.images_seen / max(progress.seconds, 1e-9), 2),
        seconds=round(progress.seconds, 3),
        lr=spec.training.lr,
        device=where.description,
        precision=where.precision,
        channels_last=where.channels_last,
        threads=torch.get_num_threads(),
        versions={"sslcurr": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    )
