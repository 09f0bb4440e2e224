"""What a report and a list of runs cost in a store of hundreds of runs.

    python benchmarks/report.py --json benchmarks/results/report-2026-11-29.json

A store is filled with tiny runs of nine kinds (chains with and without a baseline, trainings, fine-tunings, rankings,
similarities, probes, distances, grids, attention) on 63 images of 16 px, which takes three minutes for 300. Then
commands run in processes of their own, and their CPU seconds (user and system, with the start of Python) are counted:

- first: `sslcurr report` of a store of which there was none.
- again: the same with nothing new; the page must be equal but for its time.
- one new run: the same after one more chain was trained.
- runs: `sslcurr runs`.

`--against` names a checkout of other code, which takes turns with this one on a copy of the store.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import records
from PIL import Image

import sslcurr
from sslcurr.testing.subject import write_images

HERE = Path(__file__).resolve().parent
GOALS = {"again": 5.0, "one new run": 6.0}  # CPU seconds, of 300 runs
TINY = {"backbone": "test_resnet", "stem": "imagenet", "image_size": 16, "epochs": 1, "batch_size": 16, "threads": 1}
SMALL = ["relative-location.hidden=32"]


def lab_of(root: Path) -> sslcurr.Lab:
    """The library on the store and the images of a folder."""
    return sslcurr.Lab(root / "runs", dataset=str(root / "clothes"), device="cpu", **TINY)


def fill(root: Path, num_runs: int) -> None:
    """A store of so many runs, and their images and masks."""
    write_images(root / "clothes")
    for path in (root / "clothes").rglob("*.png"):
        mask = np.zeros((28, 28), np.uint8)
        mask[7:21, 7:21] = 255
        target = root / "masks" / path.relative_to(root / "clothes")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    lab, seed = lab_of(root), 0
    while len(list((root / "runs" / "runs").glob("*.json"))) < num_runs:
        of_seed(lab, root, seed)
        seed += 1


def of_seed(lab: sslcurr.Lab, root: Path, seed: int) -> None:
    """Six to eight runs."""
    images, even = str(root / "clothes"), seed % 2 == 0
    chain = lab.chain(["rotation"], seed=seed, baseline=True, epochs=2)
    first, last = chain.stages[0].key, chain.stages[-1].key
    lab.chain(["relative-location", "rotation"], seed=seed, settings=SMALL)
    lab.pretrain("simclr", seed=seed, settings=["simclr.hidden=32"])
    lab.cka([last, first], split="all", seed=seed)
    if even:
        lab.finetune(first, seed=seed)
        orderings = "all" if seed % 4 else "pairs"
        lab.rank(["rotation", "relative-location"], seed=seed, seeds=2, orderings=orderings, settings=SMALL)
        lab.probe([first], seed=seed)
    else:
        lab.finetune(None, seed=seed, epochs=3)
        lab.chain(["simclr"], seed=seed, settings=["simclr.hidden=32"])
    if seed % 4 == 0:
        lab.fid(images, [images], models=[first], seed=seed)
        lab.attend([last], masks=str(root / "masks"))
    if seed % 4 == 1:
        lab.grid(["rotation"], seed=seed, ssl_fractions=[1, 0.5], label_fractions=[1, 0.5], seeds=1, baseline=True)


def cpu_seconds(package: Path, *words: str) -> float:
    """CPU seconds of a command in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sslcurr", *words]
    subprocess.run(
        command, cwd=package, env=environment, check=True, capture_output=True
    )  # where it is, it is imported
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def page_of(path: Path) -> str:
    """A page without the time at which it was made."""
    return re.sub(r'<time datetime="[^"]*">[^<]*</time>', "", path.read_text())


def measure(root: Path, packages: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """What was measured -> name of the code -> CPU seconds of each round.

    Raises:
        AssertionError: a page with nothing new is not equal to the one before.
    """
    spent: dict[str, dict[str, list[float]]] = {}
    stores, pages = {"this": root / "runs"}, {}
    for name in packages.keys() - stores.keys():
        stores[name] = Path(shutil.copytree(root / "runs", root / name))

    def timed(what: str, number: int = 0) -> None:
        for name in [*packages][:: 1 if number % 2 == 0 else -1]:
            out = root / f"{name}.html"
            words = ["runs"] if what == "runs" else ["report", "--out", str(out)]
            seconds = cpu_seconds(packages[name], *words, "--runs", str(stores[name]))
            spent.setdefault(what, {}).setdefault(name, []).append(round(seconds, 3))
            print(f"{what:<12} {name:<6} {seconds:7.2f} s", flush=True)
            if what == "again":
                assert page_of(out) == pages[name]
            elif what != "runs":
                pages[name] = page_of(out)

    timed("first")
    for number in range(rounds):
        timed("again", number)
        timed("runs", number)
    for number in range(rounds):
        for store in stores.values():
            sslcurr.Lab(store, **lab_of(root).options).chain(["rotation"], seed=1000 + number)
        timed("one new run", number)
    return spent


def main() -> None:
    """Fill a store, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="a checkout of other code")
    parser.add_argument("--json", type=Path, help="write the results there")
    asked = parser.parse_args()
    packages = {"this": HERE.parent, **({"other": asked.against.resolve()} if asked.against else {})}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root, asked.num_runs)
        counts = {
            name: len(list((root / "runs" / name).glob(end)))
            for name, end in (("runs", "*.json"), ("stages", "*/done.json"))
        }
        print(counts, flush=True)
        spent = measure(root, packages, asked.rounds)
    results: dict[str, Any] = {}
    for what, by_name in spent.items():
        results[what] = {
            name: {"median": statistics.median(values), "seconds": values} for name, values in by_name.items()
        }
        results[what] |= {"goal": GOALS[what]} if what in GOALS and asked.num_runs == 300 else {}
        print(f"{what:<12} {results[what]}")
    records.write(asked.json, __doc__.splitlines()[0], results, packages=["torch", "matplotlib", "jinja2"], **counts)


if __name__ == "__main__":
    main()
