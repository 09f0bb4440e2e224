"""What ranks send each other in a step of each task, and what a model of networks makes of it.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json --plot benchmarks/results/scaling.png
    python benchmarks/scaling.py --alone --json benchmarks/results/alone-cpu.json

Counted: a step of every task with the recipe for large data (ResNet-50, 224 px, 64 outputs of target tasks) is computed
as the first of two ranks with two images each; whatever it hands to torch.distributed is counted and not sent. Bytes
are of float32, as on a CPU; they do not depend on the values. MoCo's groups are of two images there.

- gradients: bytes that are summed, beside the bound: all trained parameters once.
- norms: collectives of batch norms, and their bytes for a rank. The bound is two for each norm and pass: what comes
  back needs what went forth.
- rows: bytes of each image of the batch that is sent to every rank (embeddings, scores, what a step keeps), and of the
  images that MoCo's shuffled groups move to the one rank that normalises them.

Modelled, with assumptions that are printed: seconds of a step are those of computing, of the collectives that wait for
nothing else (norms, rows), and of the part of the gradients' sum that the backward pass does not hide.

- strong scaling: batches of 256 to 4,096 on 1 to 64 ranks, images a second over those of one rank times the ranks.
- weak scaling: 64 images for each rank.

`--alone` measures what `World` costs where one process trains: the time of as many calls of it as a step makes, over
that of the step, in turns.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import records
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from sslcurr.analysis.results import style
from sslcurr.backbones.build import build, num_features
from sslcurr.engine.device import placement
from sslcurr.engine.ranks import Ranks
from sslcurr.engine.step import add_gradients
from sslcurr.progress import Reporter
from sslcurr.spec.stage import BackboneSpec
from sslcurr.tasks import BUILTIN_TASKS, task_class
from sslcurr.tasks.base import Batch, Facts, Tick

IMAGES, OUTPUTS, WHOLE = 1024, 64, 4
BATCHES, RANKS, EACH = (256, 1024, 4096), (1, 2, 4, 8, 16, 32, 64), 64
# A GPU: images of 224 px a second through ResNet-50, forward and backward in bf16 (an H100 reaches some 2,500 in
# PyTorch), and the images whose time each step takes beside those that it has.
SPEED, IDLE_IMAGES = 2500.0, 8
PASS_FLOPS = 3 * 2 * 4.09e9  # of such an image
BACKWARD = 2 / 3  # of the time of a step, in which sums of gradients are hidden


@dataclass(frozen=True)
class Network:
    """A network between ranks.

    Attributes:
        inside, outside: bytes a second of each rank, within a machine of `per_node` and between machines.
        near, far: seconds of a message there.
    """

    name: str
    per_node: int
    inside: float
    outside: float
    near: float
    far: float

    def rate(self, ranks: int) -> float:
        """Bytes a second of the slowest link."""
        return self.inside if ranks <= self.per_node else self.outside

    def latency(self, ranks: int) -> float:
        """Seconds of a message up and down a tree of ranks."""
        nodes = math.ceil(ranks / self.per_node)
        return math.ceil(math.log2(min(ranks, self.per_node))) * self.near + math.ceil(math.log2(nodes)) * self.far


NETWORKS = (
    Network("NVLink, InfiniBand 400 Gb/s", 8, 300e9, 45e9, 4e-6, 6e-6),
    Network("10 GbE, a GPU in each machine", 1, 1.1e9, 1.1e9, 30e-6, 30e-6),
)


@dataclass
class Traffic:
    """What a step of a task sends.

    Attributes:
        gradients: bytes that are summed.
        norms: collectives of norms; `norm_forwards` bytes of a rank go to all others, `norm_backwards` are summed.
        gathers: collectives of rows; `row_bytes` is of each image of the batch, to every rank.
        moved: bytes of each image that is sent to one rank.
        small: other collectives, of a few bytes.
        flops: of computing, for each image.
    """

    gradients: int = 0
    norms: int = 0
    norm_forwards: int = 0
    norm_backwards: int = 0
    gathers: int = 0
    row_bytes: float = 0.0
    moved: float = 0.0
    small: int = 0
    flops: float = 0.0

    def seconds(self, batch: int, ranks: int, network: Network) -> float:
        """Of a step, by the model."""
        own = batch / ranks
        computing = (own * self.flops / PASS_FLOPS + IDLE_IMAGES) / SPEED
        if ranks == 1:
            return computing
        rate, latency, others = network.rate(ranks), network.latency(ranks), (ranks - 1) / ranks
        norms = self.norms * latency + self.norm_forwards * (ranks - 1) / rate
        norms += 2 * others * self.norm_backwards / rate
        rows = (self.gathers + self.small) * latency + batch * others * self.row_bytes / rate
        rows += own * others * self.moved / rate
        gradients = 2 * latency + 2 * others * self.gradients / rate
        return computing + norms + rows + max(0.0, gradients - BACKWARD * computing)


class Counter:
    """Stands for torch.distributed: a rank of two, whose messages are counted."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.total_gradients = 0

    def all_reduce(self, x: torch.Tensor, async_op: bool = False, **how: Any) -> Any:
        """Of gradients (asynchronous), of norms (two rows of channels), or of scalars."""
        size = x.numel() * x.element_size()
        if async_op:
            self.traffic.gradients += size
            return mock.Mock()
        if x.ndim == 2 and len(x) == 2:
            self.traffic.norms += 1
            self.traffic.norm_backwards += size
        elif x.numel() > OUTPUTS:
            self.traffic.gathers += 1  # the way back of gathered rows
            self.traffic.row_bytes += size / WHOLE
        else:
            self.traffic.small += 1
        return None

    def all_gather(self, found: list[torch.Tensor], x: torch.Tensor, **how: Any) -> None:
        """Of norms (two rows of channels), or of rows of images."""
        for each in found:
            each.copy_(x)
        size = x.numel() * x.element_size()
        if self.in_norm:
            self.traffic.norms += 1
            self.traffic.norm_forwards += size
        else:
            self.traffic.gathers += 1
            self.traffic.row_bytes += size / (WHOLE / 2)

    def all_to_all_single(self, received: torch.Tensor, sent: torch.Tensor, *splits: Any) -> None:
        """Of images that move."""
        received.copy_(sent[: len(received)] if len(sent) >= len(received) else sent[[0] * len(received)])
        self.traffic.small += 1
        self.traffic.moved += sent.numel() * sent.element_size() / len(sent)

    in_norm = False


@contextmanager
def counted() -> Iterator[Counter]:
    """A context in which this process is the first of two ranks, whose messages go nowhere."""
    from sslcurr.engine import ranks

    counter, norm = Counter(), ranks.batch_norm

    def batch_norm(*arguments: Any, **how: Any) -> Any:
        counter.in_norm = True
        try:
            return norm(*arguments, **how)
        finally:
            counter.in_norm = False

    names = ("all_reduce", "all_gather", "all_to_all_single")
    patches = [mock.patch.object(dist, name, getattr(counter, name)) for name in names]
    patches += [
        mock.patch.object(dist, "get_rank", return_value=0),
        mock.patch.object(dist, "get_world_size", return_value=2),
        mock.patch.object(dist, "broadcast"),
        mock.patch.object(ranks, "batch_norm", batch_norm),
    ]
    for patch in patches:
        patch.start()
    try:
        yield counter
    finally:
        for patch in patches:
            patch.stop()


def traffic_of(name: str) -> dict[str, Any]:
    """What a step of a task sends, and the bounds."""
    kind = task_class(name)
    spec = BackboneSpec(name="resnet50", stem="imagenet", channels=3)
    facts = Facts(num_images=IMAGES * 100, class_counts=(1,) * OUTPUTS, outputs=OUTPUTS, image_size=224, batch_size=256)
    config = kind.recipe(facts).config
    if hasattr(config, "bn_group"):
        config = replace(config, bn_group=WHOLE // 2)
    torch.manual_seed(0)
    backbone = build(spec)
    task = kind(backbone, num_features(backbone), facts, config).train()
    own = WHOLE // 2
    with counted() as counter:
        world = Ranks(WHOLE)
        views = tuple(torch.randn(view.count * own, 3, view.size, view.size) for view in kind.views(config))
        labels = torch.zeros(own, dtype=torch.long)
        if name in ("multilabel", "regression"):
            labels = torch.rand(own, OUTPUTS).round()
        batch = Batch(views, torch.arange(own), labels, world)
        tick = Tick(10_000, 20_000, 10)
        task.before_step(tick)
        sums = world.gradient_sum(task.parameters())
        flops = FlopCounterMode(display=False)
        with flops:
            add_gradients(task, [batch], WHOLE, tick, placement("cpu"), Reporter(), sums)
    traffic = counter.traffic
    traffic.flops = flops.get_total_flops() / own
    trained = [each for each in task.parameters() if each.grad is not None]
    return {"traffic": traffic, "trained_bytes": sum(each.numel() * 4 for each in trained)}


def scaling(found: dict[str, Traffic]) -> list[dict[str, Any]]:
    """Efficiency of each task by the model."""
    rows = []
    for network in NETWORKS:
        for name, traffic in found.items():
            for ranks in RANKS:
                for kind, batch in [*(("strong", batch) for batch in BATCHES), ("weak", EACH * ranks)]:
                    one = traffic.seconds(batch if kind == "strong" else EACH, 1, network)
                    work = ranks if kind == "strong" else 1
                    efficiency = one / (work * traffic.seconds(batch, ranks, network))
                    rows.append(
                        {
                            "network": network.name,
                            "task": name,
                            "kind": kind,
                            "batch": batch,
                            "ranks": ranks,
                            "images_per_second": batch / traffic.seconds(batch, ranks, network),
                            "efficiency": round(efficiency, 3),
                        }
                    )
    return rows


def show(found: dict[str, dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Print both tables."""
    print("| task | gradients, MB (bound) | norms: collectives, kB | rows: collectives, kB an image | moved, kB |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        t = each["traffic"]
        summed = f"{t.gradients / 1e6:.1f} ({each['trained_bytes'] / 1e6:.1f})"
        norms = f"{t.norms}, {(t.norm_forwards + t.norm_backwards) / 1e3:.0f}"
        print(f"| {name} | {summed} | {norms} | {t.gathers}, {t.row_bytes / 1e3:.1f} | {t.moved / 1e3:.0f} |")
    print(
        f"\nassumed: {SPEED:.0f} images/s of ResNet-50 on a GPU and the time of {IDLE_IMAGES} more each step; sums of "
        f"gradients are hidden by {BACKWARD:.0%} of computing"
    )
    for network in NETWORKS:
        rates = f"{network.inside / 1e9:.0f} and {network.outside / 1e9:.1f} GB/s"
        times = f"{network.near * 1e6:.0f} and {network.far * 1e6:.0f} us a message"
        print(f"{network.name}: {rates}, {times}, {network.per_node} in a machine")
        shown = [(f"{batch} on {ranks}", batch, ranks) for batch in BATCHES for ranks in (8, 64)]
        print("| task | " + " | ".join(title for title, *_ in shown) + " | 64 each on 64 |")
        print("|---|" + "---|" * (len(shown) + 1))
        for name in found:
            mine = [row for row in rows if row["network"] == network.name and row["task"] == name]
            cells = [
                next(r["efficiency"] for r in mine if (r["kind"], r["batch"], r["ranks"]) == ("strong", batch, ranks))
                for _, batch, ranks in shown
            ]
            cells.append(next(r["efficiency"] for r in mine if (r["kind"], r["ranks"]) == ("weak", 64)))
            print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Images a second of four tasks at a batch of 1,024, and what one rank times their number would give."""
    shown = [row for row in rows if (row["kind"], row["batch"]) == ("strong", 1024)]

    def paint(sheet: Any) -> Sequence[Any]:
        panels = sheet.subplots(1, len(NETWORKS), sharey=True)
        for axes, network in zip(panels, NETWORKS, strict=True):
            for number, task in enumerate(("rotation", "mocov2", "swav", "barlow-twins")):
                mine = [row for row in shown if (row["network"], row["task"]) == (network.name, task)]
                speeds = [row["images_per_second"] / mine[0]["images_per_second"] for row in mine]
                look: Any = {"marker": style.mark_of(number), "linestyle": style.dash_of(number)}
                axes.plot([row["ranks"] for row in mine], speeds, color=style.colour_of(number), label=task, **look)
            axes.plot(RANKS, RANKS, color=style.GREY, linestyle=":", label="one rank times their number")
            axes.set(xscale="log", yscale="log", xlabel=f"ranks ({network.name})")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(RANKS, [str(each) for each in RANKS])
            axes.minorticks_off()
            axes.grid()
        panels[0].set_ylabel("speed over one rank (modelled)")
        return style.labelled(panels[0])

    chart = style.Chart(path.stem, "Speed over ranks, batch 1,024", style.WIDEST, 3.4, paint, panels=True)
    chart.save(path.parent, ("png",))


# ---- alone


def alone(rounds: int, steps: int) -> dict[str, Any]:
    """Seconds of steps with the world alone over those of the same steps without a world, in turns."""
    from sslcurr.engine import step
    from sslcurr.world import ALONE, World

    spec = BackboneSpec(name="test_resnet", stem="imagenet", channels=3)
    results: dict[str, Any] = {}
    for name in ("rotation", "simclr", "mocov2", "swav"):
        kind = task_class(name)
        facts = Facts(num_images=IMAGES, image_size=32, batch_size=32)
        config = kind.recipe(facts).config
        backbone = build(spec)
        task = kind(backbone, num_features(backbone), facts, config).train()
        views = tuple(torch.randn(view.count * 32, 3, view.size, view.size) for view in kind.views(config))
        batch = Batch(views, torch.arange(32), torch.zeros(32, dtype=torch.long), ALONE)
        where, calls = placement("cpu"), {"world": 0}

        def train(task: Any = task, batch: Any = batch, where: Any = where) -> float:
            began = time.perf_counter()
            for number in range(steps):
                step.add_gradients(task, [batch], 32, Tick(number, steps, steps), where, Reporter())
            return time.perf_counter() - began

        def counting(function: Any, calls: Any = calls) -> Any:
            def called(*arguments: Any, **how: Any) -> Any:
                calls["world"] += 1
                return function(*arguments, **how)

            return called

        names = [each for each in vars(World) if not each.startswith("_") and callable(getattr(World, each))]
        with mock.patch.multiple(World, **{each: counting(getattr(World, each)) for each in names}):
            train()
        total, world = [], []
        each_call = calls["world"] / steps
        for _ in range(rounds):
            total.append(train())
            began = time.perf_counter()
            for _ in range(int(each_call * steps)):
                ALONE.gather(batch.index)
            world.append(time.perf_counter() - began)
        shares = [a / b for a, b in zip(world, total, strict=True)]
        results[name] = {
            "calls_a_step": round(each_call, 1),
            "share": {"median": statistics.median(shares), "max": max(shares), "n": rounds},
        }
        print(f"{name}: {each_call:.0f} calls a step, {statistics.median(shares):.5%} of its time")
    return results


def main() -> None:
    """Count and model, or measure what the world alone costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=sorted(BUILTIN_TASKS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--drawn-from", type=Path, metavar="JSON", help="draw what was counted before, and end")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    packages = ("torch", "timm")
    if asked.drawn_from:
        draw(json.loads(asked.drawn_from.read_text())["results"]["scaling"], asked.plot)
        return
    if asked.alone:
        torch.set_num_threads(1)
        records.write(asked.json, "what World costs in one process", alone(asked.rounds, 20), packages=packages)
        return
    found = {name: traffic_of(name) for name in asked.tasks}
    rows = scaling({name: each["traffic"] for name, each in found.items()})
    show(found, rows)
    if asked.plot:
        draw(rows, asked.plot)
    results = {
        "traffic": {
            name: {**vars(each["traffic"]), "trained_bytes": each["trained_bytes"]} for name, each in found.items()
        },
        "scaling": rows,
    }
    assumptions = {
        "speed": SPEED,
        "idle_images": IDLE_IMAGES,
        "hidden": BACKWARD,
        "networks": [vars(network) for network in NETWORKS],
    }
    records.write(
        asked.json, "what ranks send, and a model of scaling", results, packages=packages, assumed=assumptions
    )


if __name__ == "__main__":
    main()
