"""What is spent beside training: starting, planning, saving, scanning, clustering, and memory.

    python benchmarks/overheads.py --json benchmarks/results/overheads-cpu.json

- commands: CPU seconds of commands that people wait for, each a process, where all that they ask for is in the store;
  of `sslcurr pretrain mocov2` (32 px, ResNet-18, packed) before its first step, beside what torch takes for that; and
  of a small stage among many in one process, without its steps.
- memory: most MiB of twelve steps of MoCo v2 and SwAV (ResNet-18, 64 px, batch 64), beside lightly's loop with no
  workers; the imports are told apart. On a GPU also what torch allocated there at most.
- checkpoint: seconds of a save of MoCo v2's state, its MB, and its share of the five minutes between two saves.
- scan: images/s of a scan of features, as a share of forward passes alone on ready tensors (ResNet-18, 64 px).
- allocator: forward and backward passes (ResNet-18, 32 and 64 px, batch 64) with the C library told to keep freed
  memory, as our loop tells it, over the same without.
- recompute: speed of passes (ResNet-18, 64 px, batch 256) that compute what lies within stages again, over plain ones,
  and their added memory as a share.
- clusters: the share of ODC's updates in its steps and of DeepCluster's clustering in its epochs, 1,024 images, 32 px.

Every result is a median over rounds with its extremes; whatever is compared takes turns.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import records

HERE = Path(__file__).resolve().parent
RANKED = ("relative-location", "mocov2", "swav", "rotation", "simclr", "byol")
STEPS, BATCH_SIZE, SIZE = 12, 64, 64  # of the memory and the scan
CLUSTERED, EPOCHS = 1024, 4  # images and epochs of the shares of clustering; the first epoch is not timed
SAVE_SECONDS = 300.0  # between two saves within an epoch
NEVER = 10**9  # steps between two saves

Row = dict[str, Any]

# All that torch itself takes up to the end of a first step: its optimizers import torch's compiler.
TORCH = """
import torch
layer = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, fused=True)
layer(torch.ones(2, 4)).sum().backward()
optimizer.step()
"""

# The command line as a user gives it, up to the end of its first step, which is timed.
FIRST_STEP = """
import os, sys, time
from sslcurr.cli import main, progress
def begins(self, *arguments):
    global began
    began = time.process_time()
def stop(self, step, *rest):
    print(time.process_time() - began, flush=True)
    os._exit(0)
progress.Lines.stage_begins, progress.Lines.step_done = begins, stop
main()
"""

# Many small stages in one process: CPU seconds of each, without those of its steps.
STAGES = """
import sys, time
from sslcurr import Lab
from sslcurr.engine import train
spent, real = 0.0, train.one_step
def one_step(*arguments):
    global spent
    began = time.process_time()
    found = real(*arguments)
    spent += time.process_time() - began
    return found
train.one_step = one_step
lab = Lab(sys.argv[1], dataset="fashion", backbone="test_resnet", fraction=0.05, epochs=2, device=sys.argv[2])
tasks, num = ("rotation", "simclr", "mocov2", "npid"), 3
lab.chain(tasks, finetune=False, seed=99)  # imports, and the pack
began, spent = time.process_time(), 0.0
for seed in range(num):
    lab.chain(tasks, finetune=False, seed=seed)
print((time.process_time() - began - spent) / (num * len(tasks)))
"""


# Passes of a network alone: images a second, and the MiB that were added at most.
PASSES = """
import json, sys, time, torch
size, batch, keep, recompute, device = *map(int, sys.argv[1:5]), sys.argv[5]
from overheads import most_resident, synchronized
from sslcurr.backbones.build import build
from sslcurr.backbones.recompute import recompute_stages
from sslcurr.engine.device import keep_freed_memory
from sslcurr.spec.stage import BackboneSpec
if keep:
    keep_freed_memory()
network = build(BackboneSpec(name="resnet18")).to(device)
if recompute:
    recompute_stages(network)
images = torch.randn(batch, 3, size, size, device=device)
before, times = most_resident(), []
for _ in range(11):
    began = synchronized(device)
    network(images).square().mean().backward()
    times.append(synchronized(device) - began)
added = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else most_resident() - before
print(json.dumps({"speed": batch / sorted(times[3:])[4], "added": added}))
"""


def row(name: str, unit: str, values: list[float], **more: Any) -> Row:
    """A result: n, median, least and most of `values`, in `unit` ("" for shares and ratios)."""
    return {"name": name, "unit": unit, **records.ratio(values), **more}


def show(found: Row) -> None:
    """A line of the table."""
    spread = f"({found['min']:.3f} to {found['max']:.3f}, n = {found['n']})"
    goal = f"  goal under {found['goal']:g}" if "goal" in found else ""
    print(f"{found['name']:58} {found['median']:10.3f} {found['unit']:8} {spread}{goal}", flush=True)


def environment() -> dict[str, str]:
    """That of child processes, which find the package and the benchmarks wherever they run."""
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def child(*arguments: str) -> tuple[float, str]:
    """Wall seconds of a process of Python, and the last line that it printed."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, *arguments], env=environment(), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{arguments[:2]} failed:\n{done.stderr}")
    return seconds, (done.stdout.splitlines() or [""])[-1]


def cpu(*arguments: str) -> tuple[float, str]:
    """CPU seconds of a process of Python and of its own, and the last line that it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, line = child(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, line


def passes(*arguments: str) -> dict[str, float]:
    """What `PASSES` says in a process of its own."""
    found: dict[str, float] = json.loads(child("-c", PASSES, *arguments)[1])
    return found


def collected(rounds: int, measure: Callable[[], dict[str, float]]) -> dict[str, list[float]]:
    """The values of each name over the rounds, after one round that warms up."""
    measure()
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in measure().items():
            found.setdefault(name, []).append(value)
    return found


def synchronized(device: str) -> float:
    """Seconds of a clock, read when the device has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def timed(owner: type, method: str, spent: list[tuple[float, float]], device: str) -> Iterator[None]:
    """Note the (start, end) seconds of every call of a method meanwhile."""
    real = getattr(owner, method)

    @functools.wraps(real)
    def call(*arguments: Any, **named: Any) -> Any:
        began = synchronized(device)
        result = real(*arguments, **named)
        spent.append((began, synchronized(device)))
        return result

    setattr(owner, method, call)
    try:
        yield
    finally:
        setattr(owner, method, real)


# ---- processes


def commands(rounds: int, device: str) -> list[Row]:
    """CPU seconds of commands that people wait for, of a store where all that they ask for is there."""
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder, runs = str(Path(root) / "images"), str(Path(root) / "runs")
        images(Path(folder), 512, 40)
        store = ["--runs", runs, "--device", device]
        quick = ["--dataset", folder, "--image-size", "32", "--backbone", "test_resnet", "--epochs", "1", *store]
        chain = ["chain", "rotation", "simclr", "--baseline", "scratch", *quick]
        ranked = ["rank", *RANKED, "--orderings", "all", "--seeds", "1", "--dry-run", *quick]
        asked = {
            "tasks": (["tasks"], 0.3),
            "data list": (["data", "list"], 0.3),
            "runs": (["runs", "--runs", runs], 0.3),
            "--help": (["--help"], 0.3),
            "--version": (["--version"], 0.3),
            "chain --dry-run": ([*chain, "--dry-run"], 1.5),
            "chain, finished": (chain, 1.5),
            "rank --dry-run, 1,957 chains": (ranked, 2.0),
        }
        child("-m", "sslcurr", *chain)
        pretrain = ["pretrain", "mocov2", "--dataset", folder, "--image-size", "32", "--stem", "imagenet", *store]

        def measure() -> dict[str, float]:
            found = {name: cpu("-m", "sslcurr", *words)[0] for name, (words, _) in asked.items()}
            found["torch"] = cpu("-c", TORCH)[0]
            seconds, printed = cpu("-c", FIRST_STEP, *pretrain)
            found["before"] = seconds - float(printed)
            found["beside torch"] = found["before"] - found["torch"]
            found["stage"] = float(child("-c", STAGES, str(Path(root) / "small"), device)[1])
            shutil.rmtree(Path(root) / "small")
            return found

        found = collected(rounds, measure)
    for name, (_, goal) in asked.items():
        rows.append(row(f"sslcurr {name}", "CPU s", found[name], goal=goal))
    rows.append(row("pretrain: all before its first step", "CPU s", found["before"]))
    rows.append(row("  torch's import and its first step alone", "CPU s", found["torch"]))
    rows.append(row("  what is more than that", "CPU s", found["beside torch"], goal=0.5))
    rows.append(row("a small stage, without its steps", "CPU s", found["stage"], goal=0.2))
    return rows


# ---- memory


def memory(rounds: int, device: str) -> list[Row]:
    """Most MiB of twelve steps, ours and lightly's, with and without what the imports take; each in a process."""
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images"
        images(folder, STEPS * BATCH_SIZE, SIZE * 8 // 7 // 8 * 8 + 8)
        child("-c", f"import overheads; overheads.our_stage('mocov2', {str(folder)!r}, {root!r})")  # packs
        for task in ("mocov2", "swav"):
            ways = {
                "ours": f"import overheads; overheads.our_memory({task!r}, {str(folder)!r}, {root!r}, {device!r})",
                "lightly": f"import overheads; overheads.lightly_memory({task!r}, {str(folder)!r}, {device!r})",
            }
            found: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
            for _ in range(rounds):
                for way, code in ways.items():
                    for name, value in json.loads(child("-c", code)[1]).items():
                        found[way].setdefault(name, []).append(value)
            for name in next(iter(found.values())):
                rows += [row(f"{task}, {way}: {name}", "MiB", each[name]) for way, each in found.items()]
                shares = [a / b for a, b in zip(found["ours"][name], found["lightly"][name], strict=True)]
                rows.append(row(f"{task}, ours as a share of lightly's: {name}", "", shares))
    return rows


def our_stage(task: str, folder: str, root: str) -> Any:
    """One epoch of `task` on the images in `folder`, with lightly's crops for SwAV; packed if need be."""
    import dataclasses

    from stages import planned

    from sslcurr.engine.store import Store

    spec = planned(task, Path(folder), Store(Path(root)), size=SIZE, batch_size=BATCH_SIZE)
    if task == "swav":
        crops = {"num_small": 6, "scale": (0.14, 1.0), "small_scale": (0.05, 0.14), "frozen_epochs": 0.0}
        spec = dataclasses.replace(spec, config={**spec.config, **crops})
    return spec


def our_memory(task: str, folder: str, root: str, device: str) -> None:
    """Print what this process takes for the steps of our loop: the work of a child process."""
    from stages import Clock, trained

    before = most_resident(("torch", "timm", "sslcurr.engine.train", "sslcurr.engine.plan"))
    trained(our_stage(task, folder, root), device, Clock())
    print_memory(before, device)


def lightly_memory(task: str, folder: str, device: str) -> None:
    """Print what this process takes for the steps of lightly's loop: the work of a child process."""
    before = most_resident(("torch", "torchvision", "lightly.data", "lightly.loss", "lightly.transforms"))
    from peers import lightly_loop

    steps = lightly_loop.loop(
        task, Path(folder), size=SIZE, batch_size=BATCH_SIZE, device=device, backbone="resnet18", workers=0
    )
    for _, _ in zip(range(STEPS), steps, strict=False):
        pass
    print_memory(before, device)


def most_resident(modules: tuple[str, ...] = ()) -> float:
    """Most MiB that this process has had resident, once `modules` are imported.

    From /proc: `ru_maxrss` of a child begins with what its parent had when it was made.
    """
    for module in modules:
        importlib.import_module(module)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def print_memory(before: float, device: str) -> None:
    """Print the MiB of this process as JSON: at most, of the imports, and of what was added to these."""
    most = most_resident()
    found = {"peak": most, "imports": before, "added": most - before}
    if device == "cuda":
        import torch

        found["on the GPU"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(found))


# ---- saves, scans, clusters


def checkpoint(rounds: int, device: str) -> list[Row]:
    """Seconds of `Loop.save` and of `torch.save` alone, MB of the file, and the share of the time between saves."""
    from stages import Clock, planned, trained

    from sslcurr.engine.loop import Loop
    from sslcurr.engine.store import Store
    from sslcurr.engine.train import RESUME

    rows = []
    for backbone in ("resnet18", "resnet50"):
        saves: list[float] = []
        plain: list[float] = []
        megabytes: list[float] = []
        real = Loop.save

        def save(loop: Loop) -> None:
            """Save as the loop does, then the same state plainly."""
            import torch

            began = synchronized(device)
            real(loop)  # noqa: B023 - called within the turn of the loop
            saves.append(synchronized(device) - began)  # noqa: B023
            megabytes.append((loop.part / RESUME).stat().st_size / 1e6)  # noqa: B023
            began = synchronized(device)
            state = {
                "task": loop.task.state_dict(),
                "optimizer": loop.optimizer.state_dict(),
                "progress": loop.progress.state(),
            }
            torch.save(state, loop.part / "plain.pt")
            plain.append(synchronized(device) - began)  # noqa: B023

        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "images"
            images(folder, 8 * (rounds + 1), 40)
            spec = planned("mocov2", folder, Store(Path(root)), size=32, batch_size=8, backbone=backbone)
            Loop.save = save  # type: ignore[method-assign,assignment]
            try:
                trained(spec, device, Clock(), save_steps=1)
            finally:
                Loop.save = real  # type: ignore[method-assign]
        del saves[0], plain[0]  # the first one warms up
        rows += [
            row(f"mocov2, {backbone}: save", "s", saves, megabytes=round(statistics.median(megabytes), 1)),
            row(f"mocov2, {backbone}: torch.save of the same state", "s", plain),
            row(
                f"mocov2, {backbone}: save as a share of torch.save",
                "",
                [a / b for a, b in zip(saves, plain, strict=True)],
            ),
            row(f"mocov2, {backbone}: resume.pt", "MB", megabytes[1:]),
            row(f"mocov2, {backbone}: of five minutes of training", "%", [100 * s / SAVE_SECONDS for s in saves]),
        ]
    return rows


def scan(rounds: int, device: str) -> list[Row]:
    """Images/s of a scan of 1,024 images, of forward passes alone on the same views, and the share of the bound."""
    import torch
    from stages import planned

    from sslcurr.engine.batches import Feed, Scanner
    from sslcurr.engine.device import placement
    from sslcurr.engine.selection import select
    from sslcurr.engine.store import Store
    from sslcurr.engine.train import build_task

    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images"
        images(folder, CLUSTERED, 80)
        spec = planned("mocov2", folder, Store(Path(root)), size=SIZE, batch_size=BATCH_SIZE)
        selection, where = select(spec.data, labelled=False), placement(device, spec.training.precision)
        task = build_task(spec, selection, None).to(where.device)
        if where.channels_last:
            task = task.to(memory_format=torch.channels_last)
        feed = Feed(selection, spec.backbone, where.device)
        view = task.fixed_view(task.config)
        scanner, ready = Scanner(feed, view, where.autocast), list(feed.fixed("train", view))

        def forward() -> None:
            task.backbone.eval()
            with torch.no_grad():
                for each in ready:
                    with where.autocast():
                        task.backbone(each)
            task.backbone.train()

        def measure() -> dict[str, float]:
            began = synchronized(device)
            scanner(task.backbone)
            scanned = synchronized(device)
            forward()
            ended = synchronized(device)
            return {"scan": CLUSTERED / (scanned - began), "forward": CLUSTERED / (ended - scanned)}

        found = collected(rounds, measure)
    shares = [a / b for a, b in zip(found["scan"], found["forward"], strict=True)]
    return [
        row("scan, resnet18, 64 px", "images/s", found["scan"]),
        row("forward passes alone on ready tensors", "images/s", found["forward"]),
        row("scan as a share of forward passes", "", shares),
    ]


def clusters(rounds: int, device: str) -> list[Row]:
    """The share of ODC's `after_step` in its steps and of DeepCluster's `end_epoch` in its epochs, in per cent."""
    from stages import Clock, planned, trained

    from sslcurr.engine.batches import Scanner
    from sslcurr.engine.store import Store
    from sslcurr.tasks.deepcluster import DeepCluster
    from sslcurr.tasks.odc import ODC

    def within(calls: list[tuple[float, float]], began: float, ended: float) -> float:
        return sum(end - start for start, end in calls if start >= began and end <= ended)

    with tempfile.TemporaryDirectory() as root:
        store, folder = Store(Path(root)), Path(root) / "images"
        images(folder, CLUSTERED, 40)

        def specs(task: str) -> Any:
            return planned(task, folder, store, size=32, batch_size=None, epochs=EPOCHS)

        def measure() -> dict[str, float]:
            updates: list[tuple[float, float]] = []
            clock = Clock()
            with timed(ODC, "after_step", updates, device):
                trained(specs("odc"), device, clock, save_steps=NEVER)
            warm = len(clock.steps) // EPOCHS
            began, ended = clock.steps[warm - 1], clock.steps[-1]
            durations = sorted(end - start for start, end in updates[warm:])
            found = {
                "odc": 100 * within(updates, began, ended) / (ended - began),
                "update": 1000 * statistics.median(durations),
                "longest": 1000 * durations[-1],
            }
            clusterings: list[tuple[float, float]] = []
            scans: list[tuple[float, float]] = []
            clock = Clock()
            with (
                timed(DeepCluster, "end_epoch", clusterings, device),
                timed(Scanner, "__call__", scans, device),
            ):
                trained(specs("deepcluster"), device, clock, save_steps=NEVER)
            # After the last epoch nothing is clustered.
            began, ended = clock.epochs[0], clock.epochs[-2]
            found["deepcluster"] = 100 * within(clusterings, began, ended) / (ended - began)
            found["scan"] = 100 * within(scans, began, ended) / (ended - began)
            return found

        found = collected(rounds, measure)
        every, size = specs("odc").config["update_every"], specs("odc").training.batch_size
    return [
        row(f"odc: updates in its steps (batch {size}, centroids every {every})", "%", found["odc"]),
        row("odc: an update", "ms", found["update"]),
        row("odc: the longest update of a run", "ms", found["longest"]),
        row("deepcluster: clustering in its epochs", "%", found["deepcluster"]),
        row("  of it: the scan of features", "%", found["scan"]),
    ]


def images(folder: Path, num_images: int, size: int) -> None:
    """JPEG files of `size` pixels."""
    from train import make_images

    make_images(folder, num_images, size)


# ---- what the engine does to save


def allocator(rounds: int, device: str) -> list[Row]:
    """Speed of passes with the C library told what to keep, over that with its own settings."""
    found: dict[int, list[float]] = {32: [], 64: []}
    for _ in range(2 * rounds):
        for size, ratios in found.items():
            kept, given_back = (passes(str(size), "64", keep, "0", device)["speed"] for keep in "10")
            ratios.append(kept / given_back)
    return [row(f"passes at {size} px with small freed memory kept, over without", "", found[size]) for size in found]


def recompute(rounds: int, device: str) -> list[Row]:
    """Speed and added memory of passes that compute what lies within stages again, over plain ones."""
    speeds, memories = [], []
    for _ in range(rounds):
        again, plain = (passes("64", "256", "1", recomputed, device) for recomputed in "10")
        speeds.append(again["speed"] / plain["speed"])
        memories.append(again["added"] / plain["added"])
    return [
        row("--recompute: speed of passes over plain ones", "", speeds),
        row("--recompute: added memory over that of plain passes", "", memories),
    ]


RESULTS: dict[str, Callable[[int, str], list[Row]]] = {
    "commands": commands,
    "memory": memory,
    "checkpoint": checkpoint,
    "scan": scan,
    "allocator": allocator,
    "recompute": recompute,
    "clusters": clusters,
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(RESULTS), default=list(RESULTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    found: dict[str, list[Row]] = {}
    for name in arguments.only:
        print(f"-- {name}", flush=True)
        found[name] = RESULTS[name](arguments.rounds, arguments.device)
        for each in found[name]:
            show(each)
    import torch

    records.write(
        arguments.json,
        "what is spent beside training",
        found,
        packages=("torch", "torchvision", "lightly", "timm"),
        device=arguments.device,
        threads=torch.get_num_threads(),
        rounds=arguments.rounds,
    )


if __name__ == "__main__":
    main()
