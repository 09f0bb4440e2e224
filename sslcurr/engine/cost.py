"""What trainings cost, in image passes, time and disk space, estimated before they run."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as, write_record
from sslcurr.progress import Course, ExpectedStage, Reporter
from sslcurr.spec.stage import BackboneSpec, StageSpec, key_of, to_dict
from sslcurr.version import __version__

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime

# A forward pass alone, as a share of the forward and backward pass that a training takes for an image.
FORWARD = 1 / 3
MEASURED_STEPS, MEASURED_SECONDS = 8, 3.0
# Arithmetic of an image in each task, as a multiple of one view that passes forward and backward: GFLOP of the table in
# benchmarks/README.md. Tasks of packages count as two views.
WORK = {
    **{"relative-location": 2.3, "jigsaw": 2.3, "rotation": 4.0, "npid": 1.0, "deepcluster": 1.0, "odc": 1.0},
    **{"simclr": 2.0, "mocov2": 1.3, "densecl": 1.4, "swav": 3.4, "byol": 2.7, "simsiam": 2.0, "dino": 3.4},
    **{"barlow-twins": 2.0, "vicreg": 2.0, "masked-image": 1.0},
    **{"classification": 1.0, "multilabel": 1.0, "regression": 1.0},
}
UNKNOWN_WORK = 2.0
# Images of a pass that is timed, on a CPU and elsewhere, and such passes.
PROBED_IMAGES, PROBED_IMAGES_ELSEWHERE, PROBED_PASSES = 2, 32, 2
# Pixels of all views from which on a command is measured before it begins, on a CPU and elsewhere: 10,000 images of 224
# pixels, which took a ResNet-50 40 minutes on two cores. What is less than this does not take an hour.
LARGE, LARGE_ELSEWHERE = 5e8, 5e11


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


def expected_stages(
    specs: Sequence[StageSpec], store: Store, speeds: Speeds, passes: Callable[[StageSpec], float]
) -> list[ExpectedStage]:
    """What is known of stages before they are trained; of those that the store has, that nothing is to be done.

    Args:
        specs: the stages.
        store: where they are, or will be.
        speeds: of the store.
        passes: image passes that a stage takes, its search included.
    """
    stages, known = [], dict[tuple[str, str], float | None]()
    for key, spec in {key_of(spec): spec for spec in specs}.items():
        is_there = store.find(key) is not None
        whole = 0.0 if is_there else passes(spec)
        alone = whole
        if spec.search is not None and not is_there:
            epochs, search = spec.training.epochs, spec.search
            alone = whole * epochs / (epochs + search.trials * search.epochs * search.fraction)
        like = f"{spec.backbone} {spec.config['image_size']} {spec.training.precision}"
        if not is_there and (like, spec.task) not in known:
            known[like, spec.task] = speeds.known(spec)
        stages.append(
            ExpectedStage(
                key=key,
                task=spec.task,
                like=like,
                work=WORK.get(spec.task, UNKNOWN_WORK),
                passes=alone,
                search_passes=whole - alone,
                trials=0 if spec.search is None else spec.search.trials,
                speed=known.get((like, spec.task)),
            )
        )
    return stages


def timed_where_large(
    stages: Sequence[ExpectedStage], specs: Sequence[StageSpec], device: str, *, on_cpu: bool
) -> list[ExpectedStage]:
    """The same, where nothing is known of stages whose work is evidently large with speeds by a few passes of their
    networks, which take a second or two: views and optimizer are a few hundredths beside them."""
    course = Course()
    course.expect(stages)
    by_key = {key_of(spec): spec for spec in specs}
    unknown = [(stage, by_key[stage.key]) for stage in course.unknown()]
    pixels = sum(stage.all_passes * stage.work * spec.config["image_size"] ** 2 for stage, spec in unknown)
    if pixels < (LARGE if on_cpu else LARGE_ELSEWHERE):
        return list(stages)
    seconds = {
        stage.like: seconds_of_pass(spec.backbone, spec.config["image_size"], device, spec.training.precision)
        for stage, spec in {stage.like: (stage, spec) for stage, spec in unknown}.values()
    }
    named = {stage.key for stage, _ in unknown}
    return [
        replace(stage, speed=1 / (seconds[stage.like] * stage.work)) if stage.key in named else stage
        for stage in stages
    ]


def seconds_of_pass(backbone: BackboneSpec, size: int, device: str, precision: str) -> float:
    """Seconds in which a view of `size` pixels passes a network forward and backward, by the quickest of a few; what
    training draws at random stays as it would be."""
    import torch

    from sslcurr.backbones.build import build
    from sslcurr.engine.device import placement

    where = placement(device, precision)
    count = PROBED_IMAGES if where.device.type == "cpu" else PROBED_IMAGES_ELSEWHERE
    seconds = []
    with torch.random.fork_rng(devices=[]):
        network = build(backbone).to(where.device).train()
        images = torch.zeros(count, backbone.channels, size, size, device=where.device)
        for _ in range(PROBED_PASSES):
            began = time.perf_counter()
            with where.autocast():
                value = network(images).float().mean()
            value.backward()
            value.item()  # waits for the device
            seconds.append(time.perf_counter() - began)
    return min(seconds) / count


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
