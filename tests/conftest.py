"""Small real data (from the embedded set), and stages small enough to be trained in seconds."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sslcurr.spec.stage import StageSpec

# pytest-xdist reads this file in a process that runs no test, before it starts those that do: torch is imported below.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests of several threads share the cores with other tests: who waits for the others does not spin.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["COLUMNS"] = "200"
# Thousands of files are synced; in memory that takes no time.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 8e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
os.environ.pop("SSLCURR_RUNS", None)

# What makes each task small; a new task adds a line.
SMALL: dict[str, tuple[str, ...]] = {
    "relative-location": ("relative-location.hidden=32",),
    "jigsaw": ("jigsaw.hidden=32", "jigsaw.patch_features=16", "jigsaw.num_permutations=12", "jigsaw.shuffles=2"),
    "rotation": (),
    "npid": ("npid.dim=16", "npid.num_negatives=30"),
    "deepcluster": ("deepcluster.num_clusters=5",),
    "odc": ("odc.num_clusters=5", "odc.smallest_cluster=4", "odc.hidden=32", "odc.dim=16", "odc.update_every=3"),
    "simclr": ("simclr.hidden=32",),
    "mocov2": ("mocov2.queue_length=20", "mocov2.bn_group=8"),
    "densecl": ("densecl.queue_length=20", "densecl.bn_group=4"),
    "swav": ("swav.num_prototypes=12", "swav.hidden=32", "swav.queue_length=14", "swav.queue_start=1"),
    "byol": ("byol.hidden=32", "byol.dim=16"),
    "simsiam": ("simsiam.hidden=32", "simsiam.dim=32", "simsiam.predictor=16"),
    "dino": ("dino.hidden=32", "dino.bottleneck=16", "dino.outputs=24"),
    "barlow-twins": ("barlow-twins.hidden=32", "barlow-twins.dim=32"),
    "vicreg": ("vicreg.hidden=32", "vicreg.dim=32"),
    "masked-image": (),
    "classification": (),
    "multilabel": (),
    "regression": (),
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The numbers of a run then do not depend on how many cores the machine has."""
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 63 real images of three classes, 28 x 28, grey."""
    from sslcurr.testing.subject import write_images

    return write_images(tmp_path_factory.mktemp("data") / "clothes")


@pytest.fixture
def small_stage(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """`small_stage(task)`: a stage of 3 epochs of 5 or 6 steps on `folder`, at 16 px, of timm's network for tests."""
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.store import Store
    from sslcurr.spec.request import Request
    from sslcurr.testing.subject import dataset_for

    store = Store(tmp_path_factory.mktemp("packs"))

    def make(task: str, image_size: int = 16, **changes: object) -> StageSpec:
        request = Request(
            **dataset_for(task, folder),
            backbone="test_resnet",
            stem="imagenet",
            image_size=image_size,
            epochs=3,
            batch_size=8,
            settings=SMALL[task],
        )
        spec = Planner(request, store, [task]).chain([task])[0]
        return replace(spec, **changes) if changes else spec

    return make


class Command:
    """Runs the command line in this process."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def __call__(self, *arguments: str):
        from typer.testing import CliRunner

        from sslcurr.cli.app import app

        return CliRunner().invoke(app, list(arguments), env={"SSLCURR_RUNS": str(self.runs)}, catch_exceptions=False)

    def json(self, *arguments: str):
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def sslcurr(tmp_path: Path) -> Command:
    """The command line with a store of its own."""
    return Command(tmp_path / "runs")


# Options that make a run of a fraction of a second on `folder`.
QUICK = ("--backbone", "test_resnet", "--stem", "imagenet", "--image-size", "16", "--epochs", "1", "--batch-size", "16")
