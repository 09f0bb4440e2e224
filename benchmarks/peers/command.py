"""The command of a peer's loop: how `train.py` runs it, in a process of its own."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

WARM_UP = 3  # steps that are not timed


def run(loop: Callable[..., Iterator[int]], tasks: Sequence[str], description: str | None, workers: int) -> None:
    """Parse, train, print images/s."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=tasks)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--backbone", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--num-prototypes", type=int, default=300)
    parser.add_argument("--queue-length", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--workers", type=int, default=workers)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = vars(parser.parse_args())
    task, folder, steps = asked.pop("task"), asked.pop("folder"), asked.pop("steps")
    on_gpu = asked["device"].startswith("cuda")
    done, began, ended = 0, 0.0, 0.0
    # As many epochs as the steps need.
    running = loop(task, folder, epochs=1000, **asked)
    for step, num_images in enumerate(itertools.islice(running, WARM_UP + steps), start=1):
        if on_gpu and step in (WARM_UP, WARM_UP + steps):
            torch.cuda.synchronize()
        ended = time.perf_counter()
        if step == WARM_UP:
            began = ended
        done += num_images if step > WARM_UP else 0
    if not done:
        raise SystemExit("error: the folder has fewer images than a batch")
    memory = f"  {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB at most" if on_gpu else ""
    print(f"{task} {asked['size']} px  {done / (ended - began):.1f} images/s{memory}")
