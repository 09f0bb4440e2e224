"""Stages as the benchmarks train them: planned in a store of their own, timed step by step, thrown away."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sslcurr.engine import train as engine
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.spec import runtime as spec_runtime
from sslcurr.spec.request import Request
from sslcurr.spec.stage import StageSpec, key_of


class Enough(Exception):
    """A training has done as many steps as were to be timed."""


class Clock(Reporter):
    """Notes when steps and epochs ended, in seconds of `now`, and ends the training after `most` steps."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Note the time; on a GPU, when the step really ended."""
        self.steps.append(now())
        if len(self.steps) == self.most:
            raise Enough

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note the time."""
        self.epochs.append(now())


def now() -> float:
    """Seconds of a clock, read when the GPU, where one is used, has done all that it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def planned(
    task: str, folder: Path, store: Store, *, size: int, batch_size: int | None, epochs: int = 1, **request: Any
) -> StageSpec:
    """The stage of `task` on the images in `folder` at `size` pixels; `request` are others than ResNet-18's."""
    asked: dict[str, Any] = {"backbone": "resnet18", "stem": "imagenet", **request}
    made = Request(dataset=str(folder), image_size=size, batch_size=batch_size, epochs=epochs, **asked)
    return Planner(made, store, [task]).chain([task])[0]


def trained(spec: StageSpec, device: str, clock: Clock, **runtime: Any) -> None:
    """Train a stage from scratch in a folder that is thrown away, until it is done or the clock has enough."""
    with tempfile.TemporaryDirectory() as part, suppress(Enough):
        engine.train(spec, key_of(spec), Path(part), None, spec_runtime.Runtime(device=device, **runtime), clock)
