"""Whether a pretext task learns anything, on real images, in half a minute."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sslcurr.analysis.evaluation.classifier import features_of
from sslcurr.analysis.measures.probes import probe_knn
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.testing.checks import expect
from sslcurr.testing.subject import EPOCHS


def check_learns(task: str, *, settings: Sequence[str] = (), device: str = "auto", epochs: int = EPOCHS) -> None:
    """A short training of a pretext task on real images beats two trainings without learning.

    These two have a learning rate of almost 0. It must beat the better one by more than the two differ.

    Judged by kNN on the pooled features of 600 images; slower than the checks of `check_task`. One seed, to be quick.

    Args:
        task: its name.
        settings: settings of it, such as `["hidden=32"]`.
        device: as `--device`.
        epochs: how long each of the three is trained.

    Raises:
        AssertionError: it does not.
    """
    with tempfile.TemporaryDirectory(prefix="sslcurr-learns-") as folder:
        assignments = [f"{task}.{setting}" for setting in settings]
        trained = _pooled_accuracy(task, 0, Path(folder), assignments, device, epochs)
    idle = _idle_accuracies(device, epochs)
    expect(
        trained - max(idle) > max(idle) - min(idle),
        f"{task} gives {trained:.3f} balanced accuracy; trainings at a learning rate of almost 0 give {idle[0]:.3f} "
        f"and {idle[1]:.3f}",
    )


@functools.cache
def _idle_accuracies(device: str, epochs: int) -> tuple[float, ...]:
    """What two backbones give after a training at a learning rate of (almost) 0.

    Their batch norms know the images, which is worth ten points: an untrained backbone would be too easy to beat.
    """
    nothing = ("simclr.lr=1e-12", "simclr.weight_decay=0")
    with tempfile.TemporaryDirectory(prefix="sslcurr-idle-") as folder:
        return tuple(_pooled_accuracy("simclr", seed, Path(folder), nothing, device, epochs) for seed in range(2))


def _pooled_accuracy(task: str, seed: int, folder: Path, settings: Sequence[str], device: str, epochs: int) -> float:
    """kNN balanced accuracy on the validation images, of the pooled features that a short training ends with."""
    request = Request(
        dataset="fashion",
        backbone="resnet18",
        stem="imagenet",
        image_size=20,
        seed=seed,
        fraction=0.2,
        epochs=epochs,
        settings=tuple(settings),
    )
    store = Store(folder)
    spec = Planner(request, store, [task]).chain([task])[0]
    stage = train_stage(spec, store, Runtime(device=device), Reporter())
    selection = select(spec.data, labelled=True)
    layers = features_of(stage.weights, spec.backbone, spec.config["image_size"], selection, "cpu", spec.seed)
    return float(probe_knn(layers["pooled"], len(selection.pack.classes), "val").validation)
