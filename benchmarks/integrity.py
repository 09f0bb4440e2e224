"""What hashes, checksums and fsync cost a chain of ResNet-50 at 224 px, beside its training.

    python benchmarks/integrity.py --json benchmarks/results/integrity-cpu.json

A chain of two pretext tasks and classification is trained on a few images of noise, and then found again by a second
process' worth of reading: all time within the hashing of weights and logs, the checksums of packed images and the
waiting for the disk (fsync) is counted, the outermost call once. What it costs does not grow with the epochs, so the
share in a real chain follows: with `images` training images and `epochs` epochs of each of its three stages it is

    (seconds a stage * 3 + seconds an image * images) / (training seconds an image * images * epochs * 3)

which is printed for this device's speed, and for others that are given by --speeds (images/s of ResNet-50).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from records import write
from typer.testing import CliRunner

STAGES = 3
GOAL = 0.01
REAL = ((200, 10), (1_000, 10), (1_000, 100), (10_000, 100))  # images and epochs of a stage


class Clock:
    """Seconds within some functions, by a name; what one of them calls is its own."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._depth = 0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            begin = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds[name] += time.perf_counter() - begin
                    self.calls[name] += 1

        return counted


def watch(clock: Clock) -> None:
    """Count the time of all that looks after the store's bytes."""
    from sslcurr import files, integrity
    from sslcurr.data import blocks, packing
    from sslcurr.engine import store, train

    hashed = clock.timed("sha256", files.sha256_of)
    for module in (files, integrity, train):
        module.sha256_of = hashed  # type: ignore[attr-defined]
    written = clock.timed("sha256", integrity.write_hashes)
    for module in (store, packing):
        module.write_hashes = written  # type: ignore[attr-defined]
    blocks.CheckedImages._check = clock.timed("crc32", blocks.CheckedImages._check)  # type: ignore[method-assign]
    packing.checksums = clock.timed("crc32", packing.checksums)  # type: ignore[attr-defined]
    os.fsync = clock.timed("fsync", os.fsync)


def make_images(folder: Path, count: int) -> None:
    """Noise of two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(place / f"{number}.png")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--speeds", type=float, nargs="*", default=[2500.0], help="images/s of other devices")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    clock = Clock()
    watch(clock)
    from sslcurr import integrity
    from sslcurr.cli.app import app

    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        make_images(home / "data", asked.images)
        chain = ["chain", "rotation", "simsiam", "--dataset", str(home / "data"), "--backbone", "resnet50"]
        chain += ["--image-size", "224", "--epochs", "1", "--batch-size", "16", "--set", "classification.epochs=1"]
        chain += ["--device", asked.device, "--runs", str(home / "runs"), "--json"]
        for again in (False, True):
            integrity._sound.clear()  # as another process, which has read nothing yet
            result = CliRunner().invoke(app, chain)
            if result.exit_code:
                raise SystemExit(result.stderr)
            if not again:
                first = dict(clock.seconds)
        stages = json.loads(result.stdout)["stages"]
        records = [json.loads((home / "runs/stages" / each["key"] / "done.json").read_text()) for each in stages]
        weights = sum((home / "runs/stages" / each["key"] / "backbone.safetensors").stat().st_size for each in stages)
        pixels = sum(path.stat().st_size for path in home.glob("runs/packs/*/*.bin"))
    trained = sum(record["seconds"] for record in records)
    a_stage = (clock.seconds["sha256"] + clock.seconds["fsync"]) / STAGES
    an_image = clock.seconds["crc32"] / asked.images
    # Each stage sees the training images of the split once.
    seen = sum(record["images_per_second"] * record["seconds"] for record in records) if records else 0.0
    speed = seen / trained
    rows = [
        {
            "images_per_second": round(per_second, 1),
            "images": images,
            "epochs": epochs,
            "share": (a_stage * STAGES + an_image * images) / (images * epochs * STAGES / per_second),
        }
        for per_second in (speed, *asked.speeds)
        for images, epochs in REAL
    ]
    result_rows = {
        "seconds": dict(clock.seconds),
        "of_the_first_run": first,
        "calls": dict(clock.calls),
        "trained_seconds": trained,
        "share_here": sum(first.values()) / trained,
        "megabytes_of_weights": weights / 1e6,
        "megabytes_of_pixels": pixels / 1e6,
        "seconds_a_stage": a_stage,
        "seconds_an_image": an_image,
        "goal": GOAL,
        "shares": rows,
    }
    print(json.dumps(result_rows, indent=1))
    write(asked.json, "what integrity costs a chain", result_rows, packages=["torch", "timm"], device=asked.device)


if __name__ == "__main__":
    main()
