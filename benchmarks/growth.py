"""How speed, start and planning grow: with the image size, the batch size, the number of images, the number of tasks.

    python benchmarks/growth.py --json benchmarks/results/growth-cpu.json --plot /tmp/growth

- size, batch: images/s of MoCo v2 on ResNet-18 (ImageNet stem), our whole loop after a warm-up.
- images: the same at 32 px on sets of 1,000 to 100,000 files in ten class folders, seconds until the first step is
  done once the set is packed (of the planner and the training, and of the training alone), and seconds of packing.
- stages: what `rank --orderings all` plans for 1 to 7 tasks, and the seconds of planning it.

The points of a curve take turns, so that what else the machine does meets all of them; each is a median over rounds.
A slope is that of the least-squares line through logarithms: 0 does not grow, 1 grows in proportion, 2 with the square.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch
from PIL import Image
from stages import Clock, now, planned, trained
from train import make_images

from sslcurr.analysis.experiments.orderings import num_alone, orderings_of, prefixes
from sslcurr.analysis.results import style
from sslcurr.data import split
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.spec.request import Request
from sslcurr.spec.stage import key_of
from sslcurr.wording import counted

WARM_UP = 3  # steps of each run that are not timed
NUM_CLASSES = 10
TASKS = ("relative-location", "mocov2", "swav", "rotation", "simclr", "byol", "odc")
SIZES = {"cpu": [32, 48, 64, 96, 128], "cuda": [64, 96, 128, 160, 224]}
BATCHES = [16, 32, 64, 128, 256]
NUM_IMAGES = [1_000, 3_162, 10_000, 31_623, 100_000]
FLAT = 0.1  # a slope closer to 0 than this is called none


def images_for(batch_size: int, steps: int) -> int:
    """Images of which enough are for training for the steps of a run: two thirds or so."""
    return 2 * batch_size * (WARM_UP + steps)


def speed(clock: Clock, batch_size: int) -> float:
    """Images/s of the steps after the warm-up."""
    return (len(clock.steps) - WARM_UP) * batch_size / (clock.steps[-1] - clock.steps[WARM_UP - 1])


def in_turns(points: Sequence[int], rounds: int, measure: Callable[[int], dict[str, float]]) -> dict[str, list[Any]]:
    """What `measure` gives by name at every point, as a list of the rounds' values for each; points take turns."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for place, point in enumerate(points):
            for name, value in measure(point).items():
                found.setdefault(name, [[] for _ in points])[place].append(value)
    return found


def curve(points: Sequence[int], values: Sequence[Sequence[float]], unit: str, across: str) -> dict[str, Any]:
    """A curve as it is written down: its points, medians and extremes in `unit`, and its slope with its meaning."""
    medians = [statistics.median(each) for each in values]
    slope = slope_of(points, medians)
    return {
        "x": list(points),
        "median": [rounded(value) for value in medians],
        "min": [rounded(min(each)) for each in values],
        "max": [rounded(max(each)) for each in values],
        "n": [len(each) for each in values],
        "unit": unit,
        "slope": None if slope is None else round(slope, 3),
        "meaning": meaning(slope, unit, across, medians, points),
    }


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def slope_of(points: Sequence[float], values: Sequence[float]) -> float | None:
    """The slope of the least-squares line through the logarithms of both; None with fewer than two points."""
    if len(points) < 2:
        return None
    return float(np.polyfit(np.log(points), np.log(values), 1)[0])


def meaning(slope: float | None, unit: str, across: str, values: Sequence[float], points: Sequence[int]) -> str:
    """A slope in words."""
    if slope is None:
        return "one point has no slope"
    ends = f"{values[0]:.3g} {unit} at {points[0]:,}, {values[-1]:.3g} at {points[-1]:,}"
    if abs(slope) < FLAT:
        return f"does not depend on the {across}: {ends}"
    return f"twice the {across} gives {2**slope:.2f} times the {unit}: {ends}"


# ---- what is measured


def against_size(sizes: Sequence[int], batch_size: int, steps: int, rounds: int, device: str) -> dict[str, Any]:
    """Images/s against the side of the views in pixels."""
    with tempfile.TemporaryDirectory() as root:
        store, specs = Store(Path(root)), {}
        for size in sizes:
            folder = Path(root) / f"images-{size}"
            make_images(folder, images_for(batch_size, steps), size * 8 // 7)
            specs[size] = planned("mocov2", folder, store, size=size, batch_size=batch_size)

        def measure(size: int) -> dict[str, float]:
            clock = Clock(WARM_UP + steps)
            trained(specs[size], device, clock)
            return {"speed": speed(clock, batch_size)}

        found = in_turns(sizes, rounds, measure)
    return {"speed": curve(sizes, found["speed"], "images/s", "side"), "batch_size": batch_size}


def against_batch(batches: Sequence[int], steps: int, rounds: int, device: str) -> dict[str, Any]:
    """Images/s at 32 px against the images of a step."""
    with tempfile.TemporaryDirectory() as root:
        store, folder = Store(Path(root)), Path(root) / "images"
        make_images(folder, images_for(max(batches), steps), 40)

        def measure(batch_size: int) -> dict[str, float]:
            clock = Clock(WARM_UP + steps)
            trained(planned("mocov2", folder, store, size=32, batch_size=batch_size), device, clock)
            return {"speed": speed(clock, batch_size)}

        found = in_turns(batches, rounds, measure)
    return {"speed": curve(batches, found["speed"], "images/s", "batch size"), "size": 32}


def make_set(folder: Path, num_images: int) -> None:
    """PNG files of 40 px noise in ten class folders: nearly all the work that is left of packing is per file."""
    generator = np.random.default_rng(0)
    for label in range(NUM_CLASSES):
        (folder / str(label)).mkdir(parents=True)
    for i in range(num_images):
        pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / str(i % NUM_CLASSES) / f"{i:06d}.png", compress_level=0)


def against_images(counts: Sequence[int], batch_size: int, steps: int, rounds: int, device: str) -> dict[str, Any]:
    """Images/s at 32 px, seconds to the first step once the set is packed, and seconds of packing, against the images
    of the set, of which 65 % train."""
    with tempfile.TemporaryDirectory() as root:
        store, packing = Store(Path(root)), []
        for count in counts:
            make_set(Path(root) / f"set-{count}", count)
            began = now()
            planned("mocov2", Path(root) / f"set-{count}", store, size=32, batch_size=batch_size)
            packing.append([now() - began])

        def measure(count: int) -> dict[str, float]:
            split.remembered.clear()  # as in a process of its own
            clock, began = Clock(WARM_UP + steps), now()
            spec = planned("mocov2", Path(root) / f"set-{count}", store, size=32, batch_size=batch_size)
            called = now()
            trained(spec, device, clock)
            first = clock.steps[0]
            return {"speed": speed(clock, batch_size), "first_step": first - began, "train_alone": first - called}

        found = in_turns(counts, rounds, measure)
    return {
        "speed": curve(counts, found["speed"], "images/s", "number of images"),
        "first_step": curve(counts, found["first_step"], "s", "number of images"),
        "train_alone": curve(counts, found["train_alone"], "s", "number of images"),
        "packing": curve(counts, packing, "s", "number of images"),
        "batch_size": batch_size,
        "size": 32,
    }


def against_tasks(numbers: Sequence[int], rounds: int) -> dict[str, Any]:
    """Stages that all orderings of so many tasks need, and seconds of planning them, every stage with its key."""
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        Planner(Request(), store, list(TASKS)).chain(TASKS)  # what is imported, packed or read once
        stages: dict[int, int] = {}

        def measure(number: int) -> dict[str, float]:
            planner = Planner(Request(), store, list(TASKS))  # a planner remembers what it has planned
            began = now()
            chains = [planner.chain(ordering) for ordering in orderings_of(TASKS[:number], range(1, number + 1))]
            stages[number] = len({key_of(spec) for chain in chains for spec in chain})
            return {"planning": now() - began}

        found = in_turns(numbers, rounds, measure)
    chains = {number: orderings_of(TASKS[:number], range(1, number + 1)) for number in numbers}
    alone = [num_alone(chains[number]) for number in numbers]
    formula = [sum(math.perm(number, length) for length in range(1, number + 1)) for number in numbers]
    return {
        "tasks": list(numbers),
        "chains": [len(chains[number]) for number in numbers],
        "stages_shared": [stages[number] for number in numbers],
        "stages_alone": alone,
        "prefixes": [len(prefixes(chains[number])) for number in numbers],
        "formula": formula,
        "agrees": [stages[number] for number in numbers] == formula,
        "saved": [round(1 - stages[number] / apart, 3) for number, apart in zip(numbers, alone, strict=True)],
        "planning": curve(alone, found["planning"], "s", "number of stages in all chains"),
    }


# ---- what is drawn


def curve_chart(name: str, curves: Mapping[str, Mapping[str, Any]], *, title: str, across: str, up: str) -> style.Chart:
    """Curves over logarithmic axes, with extremes as whiskers, least-squares lines, and slopes in the legend."""
    places = sorted({place for found in curves.values() for place in found["x"]})

    def paint(axes: Any) -> Sequence[Any]:
        for number, (label, found) in enumerate(curves.items()):
            x, middle = np.array(found["x"], float), np.array(found["median"])
            ends = np.array([middle - found["min"], np.array(found["max"]) - middle]).clip(min=0)
            colour = style.colour_of(number)
            named = label if found["slope"] is None else f"{label}: slope {found['slope']:.2f}"
            axes.errorbar(x, middle, yerr=ends, fmt=style.mark_of(number), color=colour, label=named)
            if found["slope"] is not None:
                fit = np.polyfit(np.log(x), np.log(middle), 1)
                axes.plot(x, np.exp(np.polyval(fit, np.log(x))), color=colour, linewidth=style.THIN, linestyle="--")
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 4 * low:  # differences of a few per cent are not to look like much
            centre = math.sqrt(low * high)
            axes.set_ylim(min(low, centre / 4), max(high, centre * 4))
        style.logarithmic(axes.yaxis)
        axes.set_xscale("log")
        axes.set_xticks(places, [style.plain(place) for place in places])
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.set(xlabel=f"{across} (logarithmic)", ylabel=f"{up} (logarithmic)")
        whisker = style.line_handle(style.GREY, "lowest to highest round, around the median", width=style.THIN)
        fitted = style.line_handle(style.GREY, "least squares", "--", style.THIN)
        slopes = any(found["slope"] is not None for found in curves.values())
        return [*style.labelled(axes), whisker, *([fitted] if slopes else [])]

    return style.Chart(name, title, 5.2, 3.6, paint)


def stages_chart(found: Mapping[str, Any]) -> style.Chart:
    """Stages to train against the number of tasks, with and without shared prefixes."""
    lines = {
        "stages, each chain by itself": found["stages_alone"],
        "stages planned, prefixes shared": found["stages_shared"],
    }

    def paint(axes: Any) -> Sequence[Any]:
        for number, (label, values) in enumerate(lines.items()):
            look: Any = {"color": style.colour_of(number), "marker": style.mark_of(number)}
            axes.plot(found["tasks"], values, label=label, linestyle=style.dash_of(number), **look)
        formula: Any = {"color": style.INK, "linestyle": ":", "linewidth": style.THIN, "label": "sum of n!/(n - k)!"}
        axes.plot(found["tasks"], found["formula"], **formula)
        style.logarithmic(axes.yaxis)
        axes.set_xticks(found["tasks"])
        axes.grid(axis="y")
        axes.set(xlabel="pretext tasks", ylabel="stages to train (logarithmic)")
        return style.labelled(axes)

    saved = f"sharing prefixes saves {100 * found['saved'][-1]:.0f} % at {counted(found['tasks'][-1], 'task')}"
    return style.Chart("growth-stages", f"Stages of all orderings: {saved}", 5.2, 3.6, paint)


def charts(results: Mapping[str, Any], device: str, threads: int) -> Iterator[style.Chart]:
    """Every chart that there are results for."""
    where = "one GPU" if device == "cuda" else counted(threads, "CPU thread")
    network = f"MoCo v2, ResNet-18, {where}".replace(" ", "\u00a0").replace(",\u00a0", ", ")
    if "size" in results:
        yield curve_chart(
            "growth-size",
            {"median": results["size"]["speed"]},
            title=f"Speed against image size: {network}, batch\u00a0{results['size']['batch_size']}",
            across="side of the views, px",
            up="images/s",
        )
    if "batch" in results:
        yield curve_chart(
            "growth-batch",
            {"median": results["batch"]["speed"]},
            title=f"Speed against batch size: {network}, {results['batch']['size']} px",
            across="images of a step",
            up="images/s",
        )
    if "images" in results:
        found = results["images"]
        yield curve_chart(
            "growth-images-speed",
            {"median": found["speed"]},
            title=f"Speed against the size of the set: {network}, {found['size']} px, batch\u00a0{found['batch_size']}",
            across="images of the set",
            up="images/s",
        )
        yield curve_chart(
            "growth-images-start",
            {
                "packing, once": found["packing"],
                "plan and first step": found["first_step"],
                "first step alone": found["train_alone"],
            },
            title=f"Time until the first step is done: {network}, {found['size']} px, batch\u00a0{found['batch_size']}",
            across="images of the set",
            up="seconds",
        )
    if "stages" in results:
        yield stages_chart(results["stages"])
        tasks = results["stages"]["tasks"]
        yield curve_chart(
            "growth-planning",
            {"median": results["stages"]["planning"]},
            title=f"Planning all orderings of {tasks[0]} to {tasks[-1]} tasks",
            across="stages of all chains, each by itself",
            up="seconds",
        )


def draw(folder: Path, drawn: Iterable[style.Chart]) -> None:
    """Write charts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for chart in drawn:
        chart.save(folder)


# ---- the command


def show(results: Mapping[str, Any]) -> None:
    """Print each curve: its points as median (least to most), and what its slope means."""
    for kind, found in results.items():
        for name, each in found.items():
            if not isinstance(each, dict):
                continue
            print(f"{kind}, {name}: {each['meaning']}")
            for x, median, low, high, count in zip(
                each["x"], each["median"], each["min"], each["max"], each["n"], strict=True
            ):
                print(f"  {x:>9,}  {median:10.4g} {each['unit']} ({low:.4g} to {high:.4g}, n = {count})")
    if "stages" in results:
        found = results["stages"]
        print("tasks, chains, stages alone, stages planned, formula")
        rows = zip(
            *(found[name] for name in ("tasks", "chains", "stages_alone", "stages_shared", "formula")), strict=True
        )
        for row in rows:
            print("  " + "  ".join(f"{value:>7,}" for value in row))


def main() -> None:
    """Parse, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["size", "batch", "images", "stages"], help="curves")
    parser.add_argument("--sizes", nargs="+", type=int, help="sides of views, px")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="images of a step, at 32 px")
    parser.add_argument("--images", nargs="+", type=int, default=NUM_IMAGES, help="images of a set, at 32 px")
    parser.add_argument("--tasks", nargs="+", type=int, default=[1, 2, 3, 4, 5, 6, 7], help="numbers of tasks")
    parser.add_argument("--batch-size", type=int, default=64, help="where it is not what changes")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--plot", type=Path, help="also draw the curves into this folder, PNG and SVG")
    parser.add_argument("--drawn-from", type=Path, metavar="JSON", help="draw what was measured before, and end")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    if arguments.drawn_from:
        record = json.loads(arguments.drawn_from.read_text())
        draw(arguments.plot, charts(record["results"], record["device"], record["threads"]))
        return
    sizes = arguments.sizes or SIZES[arguments.device]
    batch_size, steps, rounds, device = arguments.batch_size, arguments.steps, arguments.rounds, arguments.device
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "size": lambda: against_size(sizes, batch_size, steps, rounds, device),
        "batch": lambda: against_batch(arguments.batches, steps, rounds, device),
        "images": lambda: against_images(arguments.images, batch_size, steps, rounds, device),
        "stages": lambda: against_tasks(arguments.tasks, rounds),
    }
    if set(arguments.only) - set(kinds):
        parser.error(f"--only knows {', '.join(kinds)}")
    against_batch([16], 1, 1, device)  # what is imported or set up once
    results = {}
    for name in arguments.only:
        results[name] = kinds[name]()
        show({name: results[name]})
    if arguments.plot:
        draw(arguments.plot, charts(results, device, torch.get_num_threads()))
    records.write(
        arguments.json,
        "growth of speed, start and planning: MoCo v2, ResNet-18, ImageNet stem",
        results,
        packages=("torch", "torchvision", "timm"),
        device=device,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        steps=steps,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
