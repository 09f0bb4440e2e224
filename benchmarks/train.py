"""Images a second of training: our whole loop, the same steps on ready tensors, and other projects' loops, in one run.

    python benchmarks/train.py --json benchmarks/results/train-cpu.json
    python benchmarks/train.py --tasks mocov2 swav --peers lightly --sizes 32 64
    python benchmarks/train.py --tasks mocov2 --profile

- loop: `sslcurr.engine.train.train`, from the pack to the optimizer, with its log.
- bound: the same, but the step gets one batch of views that is ready on the device.
- plain: the bound of nothing but the passes of the networks, one for each size of views, forward and backward. MoCo v2
  without queue, slow encoder's average and shuffle; SwAV and DINO without heads, codes, centre and teacher's average.
- lightly, solo: the task as those projects' users would train it (`peers/`). Where a step of theirs takes other work
  for an image (solo-learn's MoCo v2+ is symmetric), "times" is at equal work.

Loop, bound and plain take turns, step by step within one training (on a GPU eight steps by eight steps), so that what
else the machine does meets all of them alike; peers take turns with these trainings, round by round. Times are medians
of steps, ratios medians over pairs of neighbours (peers: over rounds), with their quartiles.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch
import torch.nn.functional as F
from peers import lightly_loop, solo_loop
from PIL import Image
from sklearn.datasets import load_sample_image

from sslcurr.engine import train as engine
from sslcurr.engine.batches import Feed
from sslcurr.engine.plan import Planner
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.progress import PHASES, Reporter
from sslcurr.seeds import torch_generator
from sslcurr.spec import runtime as spec_runtime
from sslcurr.spec.request import Request
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.tasks import TASKS, task_class
from sslcurr.tasks.base import Batch, Loss, Task, Tick

WARM_UP = 2  # stretches of each mode that are not timed
NEVER = 10**9  # steps between two saves
STRETCH = 8  # steps of one mode in a row on a GPU; on a CPU it is one
PACK_SIZES = {32: 40, 64: 80, 224: 256}
PEAK = {"NVIDIA H200": 790e12}  # floating-point operations a second of bf16 matrix products, as measured


def make_images(folder: Path, num_images: int, size: int, num_different: int = 2000) -> None:
    """JPEG files of `size` pixels, crops of two photographs, in two classes; over `num_different` they repeat."""
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for i in range(num_images):
        path = folder / "ab"[i % 2] / f"{i:06d}.jpg"
        if i >= num_different:
            os.link(folder / "ab"[i % 2] / f"{i % num_different:06d}.jpg", path)
            continue
        left, top = (i * 7919) % 320, (i * 104729) % 110
        crop = (
            photographs[i % 2].crop((left, top, left + 300, top + 300)).resize((size, size), Image.Resampling.BILINEAR)
        )
        crop.save(path, quality=92)


class Enough(Exception):
    """A training was timed for long enough."""


class Clock(Reporter):
    """Seconds of each stretch of steps, in turns of `modes`; of their parts too if asked for.

    Attributes:
        mode: what the step that comes next is to be.
        seconds: mode -> seconds a step, one entry a stretch.
        phases: phase of a step -> seconds, one entry a step of mode "loop".
    """

    def __init__(self, modes: tuple[str, ...], device: str, *, steps: int = 0, profile: bool = False) -> None:
        self.modes = modes
        self.steps = steps
        self.cuda = device == "cuda"
        self.stretch = STRETCH if self.cuda else 1
        self.profile = profile
        self.seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        self.phases: dict[str, list[float]] = {name: [] for name in PHASES}
        self.began: float | None = None
        self.mode = modes[0]

    def now(self) -> float:
        """Seconds; on a GPU once it has done all that it was given."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Time a phase of a step, if asked for."""
        return self._timed(name) if self.profile else super().phase(name)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = self.now()
        yield
        if self.mode == "loop" and self.began is not None:
            self.phases[name].append(self.now() - began)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Note a stretch when it ends, and say what comes next."""
        if step % self.stretch:
            return
        number, now = step // self.stretch - 1, self.now()
        if self.began is not None and number >= WARM_UP * len(self.modes):
            self.seconds[self.mode].append((now - self.began) / self.stretch)
        self.mode = self.modes[(number + 1) % len(self.modes)]
        self.began = now
        if self.stretch * min(len(found) for found in self.seconds.values()) >= self.steps:
            raise Enough

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """What comes between two epochs is no step: the stretch that it cuts is not counted."""
        self.began = None

    def ratio(self, mode: str, over: str) -> dict[str, Any]:
        """Speed of `mode` as a share of that of `over`: median and quartiles over neighbouring stretches."""
        pairs = zip(self.seconds[mode], self.seconds[over], strict=False)
        return records.quartiles([theirs / own for own, theirs in pairs])

    def shares(self) -> dict[str, float]:
        """Share of a step's time of each phase, by means; what is left is the loop's own."""
        whole = statistics.mean(self.seconds["loop"])
        found = {name: sum(values) / len(self.phases["logging"]) for name, values in self.phases.items() if values}
        shares = {name: round(value / whole, 4) for name, value in found.items()}
        return {**shares, "other": round(max(0.0, 1.0 - sum(shares.values())), 4)}


@contextmanager
def ready_tensors(clock: Clock) -> Iterator[None]:
    """Steps of a mode other than "loop" get one batch that is ready on the device."""
    kept: dict[int, Batch] = {}
    real = Feed.batch

    def batch(self: Feed, places: Any, *rest: Any) -> Batch:
        if clock.mode == "loop" or len(places) not in kept:
            kept[len(places)] = real(self, places, *rest)
        return kept[len(places)]

    Feed.batch = batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Feed.batch = real  # type: ignore[method-assign]


def passes_of_moco(task: Any, views: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The passes of MoCo v2 alone: a query with its gradient, and a key."""
    first, second = views[0].chunk(2)
    query = task.head(task.backbone(first))
    with torch.no_grad():
        key = task.key_encoder(second)
    return -F.cosine_similarity(query.float(), key.float()).mean()


def passes_of_swav(task: Any, views: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The passes of SwAV alone, one for each size of crops."""
    return torch.stack([task.backbone(crops).float().mean() for crops in views]).sum()


def passes_of_dino(task: Any, views: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The passes of DINO alone: those of the student, and the teacher's of the large crops."""
    large = torch.cat(views[:2])
    with torch.no_grad():
        task.teacher_backbone(large)
    return passes_of_swav(task, (large, *views[2:]))


PASSES = {"mocov2": passes_of_moco, "swav": passes_of_swav, "dino": passes_of_dino}


@contextmanager
def without_extras(task: str, clock: Clock) -> Iterator[None]:
    """Steps of the mode "plain" are nothing but passes."""
    if task not in PASSES:
        yield
        return
    kind: Any = task_class(task)
    loss, after = kind.loss, kind.after_step
    names: list[str] = []  # what is logged of a step

    def plain_loss(self: Any, batch: Batch, tick: Tick) -> Loss:
        if clock.mode != "plain":
            found: Loss = loss(self, batch, tick)
            names[:] = found.metrics
            return found
        value = PASSES[task](self, batch.views)
        return Loss(value, dict.fromkeys(names, value.detach()))

    def plain_after(self: Any, *rest: Any) -> None:
        if clock.mode != "plain":
            after(self, *rest)

    kind.loss, kind.after_step = plain_loss, plain_after
    try:
        yield
    finally:
        kind.loss, kind.after_step = loss, after


def timed(
    spec: StageSpec,
    device: str,
    modes: tuple[str, ...],
    *,
    steps: int,
    profile: bool = False,
    recompute: bool = False,
    gpu: tuple[str, ...] = ("auto",),
) -> Clock:
    """One training of `spec`, `steps` steps of each of `modes` in turns; `gpu` as `--gpu`."""
    clock = Clock(modes, device, steps=steps, profile=profile)
    with (
        tempfile.TemporaryDirectory() as part,
        ready_tensors(clock),
        without_extras(spec.task, clock),
        suppress(Enough),
    ):
        runtime = spec_runtime.Runtime(device=device, save_steps=NEVER, recompute=recompute, gpu=gpu)
        engine.train(spec, key_of(spec), Path(part), None, runtime, clock)
    return clock


def operations(spec: StageSpec, device: str) -> float:
    """Floating-point operations of forward and backward passes for an image of a step, counted by torch.

    A batch norm, an addition or an average is not counted, as it is not when the use of an accelerator is stated.
    """
    from torch.utils.flop_counter import FlopCounterMode

    selection = select(spec.data, labelled=task_class(spec.task).labelled)
    task: Task = engine.build_task(spec, selection, None).to(device)
    feed = Feed(selection, spec.backbone, torch.device(device))
    places = np.arange(min(16, len(selection.rows["train"])))
    batch = feed.batch(places, task.views(task.config), torch_generator(0))
    with FlopCounterMode(display=False) as counter:
        task.loss(batch, Tick(0, 1000, 100)).value.backward()
    return counter.get_total_flops() / len(places)


def plan(task: str, folder: Path, size: int, arguments: argparse.Namespace, store: Store) -> StageSpec:
    """A stage on the images, the plan's choices left as they are but for the stem."""
    request = Request(
        dataset=str(folder),
        backbone=arguments.backbone,
        stem="imagenet",
        image_size=size,
        epochs=1,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        settings=(
            f"data.pack_size={PACK_SIZES.get(size, size)}",
            "data.val=0",
            "data.test=0",
            *(given for given in arguments.set if given.startswith(f"{task}.")),
        ),
    )
    spec = Planner(request, store, [task]).chain([task])[0]
    if task == "swav":
        # The paper's crops, as lightly makes them, and prototypes that learn from the first step: equal work.
        crops = {"num_small": 6, "scale": (0.14, 1.0), "small_scale": (0.05, 0.14), "frozen_epochs": 0.0}
        spec = dataclasses.replace(spec, config={**spec.config, **crops})
    # Enough epochs for any number of steps; nothing that is timed depends on their number.
    return dataclasses.replace(spec, training=dataclasses.replace(spec.training, epochs=1000))


def peer_output(name: str, task: str, folder: Path, spec: StageSpec, steps: int, workers: int, device: str) -> str:
    """What another project's loop prints, in a process of its own: nothing that we set applies to it."""
    script = Path(__file__).parent / "peers" / f"{name}_loop.py"
    asked = {
        "--size": spec.config["image_size"],
        "--batch-size": spec.training.batch_size,
        "--backbone": spec.backbone.name,
        "--num-prototypes": spec.config.get("num_prototypes", 300),
        "--queue-length": spec.config.get("queue_length", 4096),
        "--steps": steps,
        "--workers": workers,
        "--device": device,
    }
    options = [str(part) for option in asked.items() for part in option]
    command = [sys.executable, str(script), task, str(folder), *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def peer(name: str, task: str, folder: Path, spec: StageSpec, arguments: argparse.Namespace, workers: int) -> float:
    """Images a second of another project's loop."""
    printed = peer_output(name, task, folder, spec, arguments.steps, workers, arguments.device)
    return float(re.search(r"([\d.]+) images/s", printed)[1])  # type: ignore[index]


def measure(task: str, size: int, folder: Path, arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """One row of the table: a task at an image size."""
    spec = plan(task, folder, size, arguments, store)
    modes = ("loop", "bound", "plain") if task in PASSES else ("loop", "bound")
    clocks, peers = [], {}
    for name in arguments.peers:
        if task in (lightly_loop if name == "lightly" else solo_loop).TASKS:
            peers |= {(name, workers): [] for workers in arguments.peer_workers}
    for _ in range(arguments.rounds):
        clocks.append(timed(spec, arguments.device, modes, steps=arguments.steps))
        for (name, workers), found in peers.items():
            found.append(peer(name, task, folder, spec, arguments, workers))
    batch = spec.training.batch_size
    joined = Clock(modes, arguments.device)
    joined.seconds = {mode: [s for clock in clocks for s in clock.seconds[mode]] for mode in modes}
    own = [batch / statistics.median(clock.seconds["loop"]) for clock in clocks]
    row: dict[str, Any] = {
        "task": task,
        "size": size,
        "batch_size": batch,
        "precision": spec.training.precision,
        "images_per_second": {mode: round(batch / statistics.median(s), 1) for mode, s in joined.seconds.items()},
        "of_bound": joined.ratio("loop", "bound"),
    }
    if "plain" in modes:
        row["of_plain"] = joined.ratio("bound", "plain")
    for (name, workers), found in peers.items():
        key = f"{name}, {workers} workers"
        row["images_per_second"][key] = round(statistics.median(found), 1)
        work = solo_loop.WORK[task] if name == "solo" else 1.0
        row[f"times {key}"] = records.ratio([a / (b * work) for a, b in zip(own, found, strict=True)])
    row["gigaflop_per_image"] = round(operations(spec, arguments.device) / 1e9, 3)
    row["teraflop_per_second"] = round(row["gigaflop_per_image"] * row["images_per_second"]["loop"] / 1000, 4)
    if arguments.device == "cuda" and torch.cuda.get_device_name() in PEAK:
        peak = PEAK[torch.cuda.get_device_name()] / 1e12
        row["model_flops_used"] = round(row["teraflop_per_second"] / peak, 4)
    if arguments.profile:
        row["profile"] = timed(spec, arguments.device, ("loop",), steps=arguments.steps, profile=True).shares()
    return row


def shown(row: dict[str, Any]) -> str:
    """A row as a person reads it."""
    parts = [f"{row['task']:18} {row['size']:4} px"]
    parts += [f"{name} {value:.1f}/s" for name, value in row["images_per_second"].items()]
    parts += [f"of bound {records.shown(row['of_bound'])}"]
    parts += [
        f"{name} {records.shown(value)}" for name, value in row.items() if name.startswith(("times ", "of_plain"))
    ]
    parts += [f"{row['teraflop_per_second']:.3f} TFLOP/s"]
    if "model_flops_used" in row:
        parts += [f"{row['model_flops_used']:.1%} of the device's"]
    lines = ["  ".join(parts)]
    if "profile" in row:
        lines.append("    " + ", ".join(f"{name} {share:.1%}" for name, share in row["profile"].items()))
    return "\n".join(lines)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments of a measurement of trainings, which other benchmarks share."""
    cuda = torch.cuda.is_available()
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[224] if cuda else [32, 64])
    parser.add_argument("--backbone", default="resnet50" if cuda else "resnet18")
    parser.add_argument("--batch-size", type=int, default=256 if cuda else 64)
    parser.add_argument("--steps", type=int, default=48 if cuda else 12, help="timed steps of each mode and round")
    parser.add_argument("--num-images", type=int, default=0, help="images of the data set; 0: one for each of a round")
    parser.add_argument("--rounds", type=int, default=1 if cuda else 3)
    parser.add_argument("--peers", nargs="*", default=[], choices=["lightly", "solo"])
    parser.add_argument("--peer-workers", nargs="+", type=int, default=[os.cpu_count() or 1])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="TASK.NAME=VALUE")
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, in a training of its own")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--json", type=Path, help="also write the results here")
    return parser.parse_args()


@contextmanager
def images_for(arguments: argparse.Namespace, size: int) -> Iterator[tuple[Path, Store]]:
    """A folder of images for the steps asked for, and a store for their pack."""
    warm_up = WARM_UP * (STRETCH if arguments.device == "cuda" else 1)
    num_images = arguments.num_images or arguments.batch_size * (3 * (arguments.steps + warm_up) + 1)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images"
        make_images(folder, num_images, PACK_SIZES.get(size, size))
        yield folder, Store(Path(root))


def main() -> None:
    """Parse, measure, print."""
    arguments = parsed(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    rows = []
    for size in arguments.sizes:
        with images_for(arguments, size) as (folder, store):
            for task in arguments.tasks:
                rows.append(measure(task, size, folder, arguments, store))
                print(shown(rows[-1]), flush=True)
    write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Keep the rows with their circumstances."""
    records.write(
        arguments.json,
        f"images/s of training, {arguments.backbone}, ImageNet stem",
        rows,
        packages=("torch", "torchvision", "lightly", "timm"),
        device=arguments.device,
        threads=torch.get_num_threads(),
        steps=arguments.steps,
        rounds=arguments.rounds,
        precision=arguments.precision,
    )


if __name__ == "__main__":
    main()
