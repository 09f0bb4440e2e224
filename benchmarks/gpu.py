"""The table of bounds on a GPU, in one command of under nine minutes.

    python benchmarks/gpu.py --json benchmarks/results/gpu-h200.json

ResNet-50, 224 px, bf16, 25,000 images packed at 256 px: MoCo v2 at 256 and 1,024 images a step, whole loop against
ready tensors and against plain passes of two views, with where the time goes; against lightly's documented loop with a
worker for each core, in speed and in memory; without groups of batch norms, and with --recompute; how often the host
waits for the device between two rows of the log; then every other task at 256, loop against bound, and the share of the
device's matrix products that its model uses. What does not fit into `--minutes` is named at the end. `train.py` says
what is timed and how.

The ways of `--gpu` are tried one after the other, each beside those that paid before: it is kept where it trains
`LEAST_GAIN` times as fast and moves no loss of the first steps by more than `MOST_CHANGE` of it, which is rounding, or
than twice what two equal trainings differ by. `--keep` writes what was found into the package, where `--gpu auto` reads
it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import records
import torch
import train as trainings

from sslcurr.engine import loop
from sslcurr.engine import train as engine
from sslcurr.engine.gpu import MEASURED
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.spec import runtime
from sslcurr.spec.runtime import GPU_WAYS
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.tasks import TASKS

LEAST_GAIN = 1.02
MOST_CHANGE = 0.005
COMPARED = 12  # steps whose losses are held against each other
GOALS = {"of_bound": 0.95, "of_plain": 0.92, "times lightly": 3.0, "memory": 1.0}


class Waits(Reporter):
    """Counts where the host waited for the device, from the second row of the log to the third."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._caught = warnings.catch_warnings(record=True)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Listen from one row to the next: the rows themselves are read, and waited for."""
        if step == 2 * loop.FEWEST_STEPS + 1:
            self.found = self._caught.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        if step == 3 * loop.FEWEST_STEPS:
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            self.places = [f"{Path(one.filename).name}:{one.lineno}" for one in self.found or ()]
            raise trainings.Enough


def waits(spec: StageSpec) -> list[str]:
    """Where the host waits for the device in the steps between two rows of the log; best nowhere."""
    heard = Waits()
    with tempfile.TemporaryDirectory() as part, suppress(trainings.Enough):
        engine.train(spec, key_of(spec), Path(part), None, runtime.Runtime(device="cuda", save_steps=10**9), heard)
    return heard.places


class Losses(Reporter):
    """The losses of the first steps."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Note a loss."""
        self.values.append(float(loss or 0.0))
        if step == COMPARED:
            raise trainings.Enough


def losses(spec: StageSpec, gpu: tuple[str, ...], device: str = "cuda") -> list[float]:
    """The losses of the first steps of a training with some ways."""
    heard = Losses()
    with tempfile.TemporaryDirectory() as part, suppress(trainings.Enough):
        how = runtime.Runtime(device=device, save_steps=10**9, log_steps=1, gpu=gpu)
        engine.train(spec, key_of(spec), Path(part), None, how, heard)
    return heard.values


def largest_difference(one: list[float], other: list[float]) -> float:
    """Between the losses of two trainings."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def ways(spec: StageSpec, steps: int, rounds: int = 2, device: str = "cuda") -> dict[str, Any]:
    """Which ways of `--gpu` pay, each beside those before it, and what each changes."""
    kept: list[str] = []
    tried: dict[str, Any] = {}
    for way in GPU_WAYS:
        before, after = tuple(kept) or ("none",), (*kept, way)
        ratios = []
        for _ in range(rounds):
            seconds = [
                statistics.median(trainings.timed(spec, device, ("loop",), steps=steps, gpu=each).seconds["loop"])
                for each in (before, after)
            ]
            ratios.append(seconds[0] / seconds[1])
        first, second, other = (losses(spec, each, device) for each in (before, before, after))
        noise, change = largest_difference(first, second), largest_difference(first, other)
        is_same = change <= max(2 * noise, MOST_CHANGE * min(map(abs, first)))
        pays = statistics.median(ratios) >= LEAST_GAIN and is_same
        tried[way] = {
            "times": [round(ratio, 3) for ratio in ratios],
            "largest_change_of_loss": change,
            "between_equal_trainings": noise,
            "kept": pays,
        }
        if pays:
            kept.append(way)
    return {"name": "ways of --gpu", "ways": kept, "tried": tried}


def keep(found: dict[str, Any], measured: Path, device: str) -> None:
    """Write the ways that pay where `--gpu auto` reads them, beside those of other devices."""
    known = json.loads(measured.read_text(encoding="utf-8"))
    known[device] = {"ways": found["ways"], "tried": found["tried"], "torch": str(torch.__version__)}
    measured.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def memory_of(measure: Callable[[], Any]) -> float:
    """Most MiB that torch held on the device meanwhile."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    measure()
    return torch.cuda.max_memory_allocated() / 2**20


def row_of(
    name: str, spec: StageSpec, modes: tuple[str, ...], steps: int, *, profile: bool = False, recompute: bool = False
) -> dict[str, Any]:
    """Speed, ratios, memory and use of the device of one training."""
    clocks: list[trainings.Clock] = []
    memory = memory_of(
        lambda: clocks.append(trainings.timed(spec, "cuda", modes, steps=steps, recompute=recompute)),
    )
    clock, batch = clocks[0], spec.training.batch_size
    speed = {mode: batch / statistics.median(found) for mode, found in clock.seconds.items()}
    row: dict[str, Any] = {"name": name, "images_per_second": {mode: round(v, 1) for mode, v in speed.items()}}
    row["memory_mib"] = round(memory)
    if "bound" in modes:
        row["of_bound"] = clock.ratio("loop", "bound")
    if "plain" in modes:
        row["of_plain"] = clock.ratio("bound", "plain")
    gigaflop = trainings.operations(spec, "cuda") / 1e9
    row |= {"gigaflop_per_image": round(gigaflop, 2), "teraflop_per_second": round(gigaflop * speed["loop"] / 1e3, 1)}
    peak = trainings.PEAK.get(torch.cuda.get_device_name())
    if peak:
        row["model_flops_used"] = round(gigaflop * 1e9 * speed["loop"] / peak, 4)
    if profile:
        row["profile"] = trainings.timed(spec, "cuda", ("loop",), steps=steps, profile=True).shares()
    return row


def against_lightly(row: dict[str, Any], folder: Path, spec: StageSpec, steps: int, workers: int) -> None:
    """Speed and memory beside lightly's documented loop, into `row`; the pack in device memory is not counted."""
    printed = trainings.peer_output("lightly", "mocov2", folder, spec, steps, workers, "cuda")
    speed, memory = (float(re.search(rf"([\d.]+) {unit}", printed)[1]) for unit in ("images/s", "MiB"))  # type: ignore[index]
    row["images_per_second"][f"lightly, {workers} workers"] = speed
    row["times lightly"] = round(row["images_per_second"]["loop"] / speed, 2)
    pack = 25_000 * 3 * 256 * 256 / 2**20
    row["memory"] = round((row["memory_mib"] - pack) / memory, 3)
    row["lightly_memory_mib"] = memory


def main() -> None:
    """Measure in the order of what matters, print each row, stop in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing is begun after so long")
    parser.add_argument("--num-images", type=int, default=25_000)
    parser.add_argument("--steps", type=int, default=32, help="timed steps of each mode")
    parser.add_argument("--workers", type=int, default=16, help="of lightly's loop")
    parser.add_argument("--keep", action="store_true", help="write the ways that pay into the package")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: there is no GPU here\nhint: python benchmarks/train.py measures a CPU")
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        folder, store = Path(root) / "images", Store(Path(root))
        trainings.make_images(folder, arguments.num_images, 256)

        def spec(task: str, batch_size: int = 256, *settings: str) -> StageSpec:
            asked = argparse.Namespace(backbone="resnet50", batch_size=batch_size, precision="auto", set=settings)
            return trainings.plan(task, folder, 224, asked, store)

        whole, both = ("loop", "bound", "plain"), ("loop", "bound")
        steps = arguments.steps

        def first() -> dict[str, Any]:
            row = row_of("mocov2, 256 a step", spec("mocov2"), whole, steps, profile=True)
            against_lightly(row, folder, spec("mocov2"), steps, arguments.workers)
            return row

        work: dict[str, Callable[[], dict[str, Any]]] = {
            "mocov2, 256 a step": first,
            "mocov2, 1,024 a step": lambda: row_of("mocov2, 1,024 a step", spec("mocov2", 1024), both, steps),
            "ways": lambda: ways(spec("mocov2"), steps // 2),
            "waits": lambda: {"name": "waits of the host between two rows", "places": waits(spec("mocov2"))},
            "mocov2, one group": lambda: row_of(
                "mocov2, norms of keys over 256", spec("mocov2", 256, "mocov2.bn_group=256"), both, steps
            ),
            "mocov2, recompute": lambda: row_of(
                "mocov2, --recompute", spec("mocov2"), ("loop",), steps, recompute=True
            ),
        }
        for task in TASKS:
            if task != "mocov2":
                work[task] = lambda task=task: row_of(task, spec(task), both, steps)  # type: ignore[misc]
        left_out = []
        for name, measure in work.items():
            if time.monotonic() - began > 60 * arguments.minutes:
                left_out.append(name)
                continue
            try:
                rows.append(measure())
            except torch.OutOfMemoryError as error:
                rows.append({"name": name, "failed": str(error).splitlines()[0]})
            print(shown(rows[-1]), flush=True)
            if name == "ways" and arguments.keep and "ways" in rows[-1]:
                keep(rows[-1], MEASURED, torch.cuda.get_device_name())
    if left_out:
        print(f"not measured, {arguments.minutes:g} minutes were over: {', '.join(left_out)}")
    records.write(
        arguments.json,
        "bounds on a GPU: ResNet-50, 224 px, bf16",
        rows,
        packages=("torch", "torchvision", "lightly", "timm"),
        device="cuda",
        left_out=left_out,
        num_images=arguments.num_images,
        steps=steps,
    )


def shown(row: dict[str, Any]) -> str:
    """A row as a person reads it, with what misses its goal."""
    if "places" in row:
        return f"{row['name']}: {', '.join(row['places']) or 'none'}"
    if "ways" in row:
        tried = [f"{name} {statistics.median(each['times']):.2f}" for name, each in row["tried"].items()]
        return f"{row['name']}: {', '.join(row['ways']) or 'none'} (times as fast: {', '.join(tried)})"
    if "failed" in row:
        return f"{row['name']}: {row['failed']}"
    parts = [f"{row['name']:32}"] + [f"{name} {value:.0f}/s" for name, value in row["images_per_second"].items()]
    for name, goal in GOALS.items():
        if name in row:
            value = row[name]["median"] if isinstance(row[name], dict) else row[name]
            missed = value > goal if name == "memory" else value < goal
            parts.append(f"{name.replace('_', ' ')} {value:.2f}" + (f" (goal {goal:g})" if missed else ""))
    parts += [f"{row['memory_mib']:,} MiB", f"{row['teraflop_per_second']:.0f} TFLOP/s"]
    parts += [f"{row['model_flops_used']:.1%} of the device's"] if "model_flops_used" in row else []
    profile = ", ".join(f"{name} {share:.1%}" for name, share in row.get("profile", {}).items())
    return "  ".join(parts) + (f"\n    {profile}" if profile else "")


if __name__ == "__main__":
    main()
