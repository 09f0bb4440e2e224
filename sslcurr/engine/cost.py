"""What trainings cost, in image passes, time and disk space, estimated before they run."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as, write_record
from sslcurr.progress import Reporter
from sslcurr.spec.stage import StageSpec, to_dict
from sslcurr.version import __version__

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime

# A forward pass alone, as a share of the forward and backward pass that a training takes for an image.
FORWARD = 1 / 3
MEASURED_STEPS, MEASURED_SECONDS = 8, 3.0


def image_passes(spec: StageSpec, num_images: int) -> float:
    """Images that pass forward and backward through the network in a stage of `num_images`, the search included."""
    passes = float(num_images * spec.training.epochs)
    if spec.search is not None:
        passes += spec.search.trials * spec.search.epochs * spec.search.fraction * num_images
    return passes


class Speed(msgspec.Struct):
    """A speed that was measured, as in a file under `speeds`."""

    images_per_second: float


class Speeds:
    """Images a second of stages in one store, by one runtime; each stage of the store is looked at once."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self.store = store
        self.runtime = runtime
        self._stages = store.readable(newest_first=True)
        self._recorded: dict[tuple[object, ...], float] = {}

    def known(self, spec: StageSpec) -> float | None:
        """That of the latest stage of the same task, network, image size, precision, device and number of ranks; or
        what was measured before for the same task, network, settings and device, with the same threads and ranks. A
        damaged file of that is as none."""
        from sslcurr.engine.pool import num_ranks

        machine = self.store.answers.machine(self.runtime.device, spec.training.precision)
        wanted = _alike(spec, machine.description, num_ranks(self.runtime))
        while wanted not in self._recorded and (stage := next(self._stages, None)) is not None:
            record = stage.record
            alike = _alike(stage.spec, record.device, record.num_ranks)
            self._recorded.setdefault(alike, float(record.images_per_second))
        if wanted in self._recorded:
            return self._recorded[wanted]
        with suppress(StoreError):
            return read_as(_measured(spec, self.store, self.runtime), Speed).images_per_second
        return None

    def of(self, spec: StageSpec) -> tuple[float, bool]:
        """As `known`, measured and kept where it is not known; and whether that was so."""
        known = self.known(spec)
        if known is not None:
            return known, False
        speed = measured_speed(spec, self.runtime)
        path = _measured(spec, self.store, self.runtime)
        path.parent.mkdir(exist_ok=True)
        write_record(path, msgspec.to_builtins(Speed(speed)))
        return speed, True


def _alike(spec: StageSpec, device: str, ranks: int) -> tuple[object, ...]:
    """What stages that are as quick have in common."""
    return spec.task, spec.backbone, spec.config["image_size"], spec.training.precision, device, ranks


def _measured(spec: StageSpec, store: Store, runtime: Runtime) -> Path:
    """The file of the measured speed of all stages that are as quick here."""
    from sslcurr.engine.pool import num_ranks

    training = spec.training
    machine = store.answers.machine(runtime.device, training.precision)
    what = {
        "task": spec.task,
        "backbone": to_dict(spec.backbone),
        "config": to_dict(spec.config),
        "step": [training.batch_size, training.accumulate, training.precision, training.freeze, runtime.recompute],
        "device": machine.description,
        "threads": machine.threads,
        "ranks": num_ranks(runtime),
        "versions": [__version__, machine.torch],
    }
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return store.root / "speeds" / f"{spec.task.replace('/', '-')}-{digest}.json"


class _Enough(Exception):
    """A measurement has enough steps."""


class _Stopwatch(Reporter):
    def __init__(self) -> None:
        self.speed = 0.0
        self.began = time.monotonic()

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        self.speed = images_per_second
        if step >= MEASURED_STEPS or (step > 1 and time.monotonic() - self.began > MEASURED_SECONDS):
            raise _Enough


def measured_speed(spec: StageSpec, runtime: Runtime) -> float:
    """Images a second of the first steps of a stage, of a few seconds, from scratch; nothing of them is kept."""
    from sslcurr.engine.crew import train

    watch = _Stopwatch()
    # A learning rate of almost 0: the speed does not depend on it.
    training = replace(spec.training, lr=1e-9, epochs=MEASURED_STEPS)
    alone = replace(spec, parent=None, source="", search=None, training=training)
    with tempfile.TemporaryDirectory() as folder, suppress(_Enough):
        train(alone, "measured", Path(folder), None, runtime, watch)
    return watch.speed


def weights_bytes(specs: Sequence[StageSpec], store: Store) -> int:
    """Bytes of the weights that finished stages keep."""
    return sum(store.answers.weights_bytes(spec.backbone) for spec in specs)
