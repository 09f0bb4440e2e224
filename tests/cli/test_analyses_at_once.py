"""cka, fid, probe and attend in several processes: what they find and keep is that of one process, to the bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslcurr.analysis.evaluation import distances, embedding, features, maps, scores, similarity
from sslcurr.engine.dataset import packed_placed, packed_portable
from sslcurr.engine.models import model_placed, model_portable, models_from
from sslcurr.engine.pool import POOLS
from sslcurr.engine.pools.here import HerePool
from sslcurr.engine.store import Store, data_portable
from sslcurr.spec.stage import hash_of
from sslcurr.testing.subject import write_images
from tests.conftest import QUICK, Command

AT_ONCE = ("--jobs", "2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 images: enough for the intervals of CKA."""
    return write_images(tmp_path_factory.mktemp("images") / "more", 28)


@pytest.fixture(scope="module")
def masks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask for each image: its left half."""
    root = tmp_path_factory.mktemp("masks")
    half = np.zeros((28, 28), dtype=np.uint8)
    half[:, :14] = 255
    for path in images.rglob("*.png"):
        target = root / path.relative_to(images)
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(half).save(target)
    return root


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with rotation, fine-tuned."""
    command = Command(tmp_path_factory.mktemp("trained") / "runs")
    command.json("chain", "rotation", "--dataset", str(images), *QUICK)
    return command.runs


@pytest.fixture(scope="module")
def commands(trained: Path, images: Path, masks: Path, folder: Path) -> dict[str, tuple[str, ...]]:
    """What is asked for, by what it shows."""
    keys = {stage.spec.task: stage.key for stage in Store(trained).all()}
    a, b = keys["rotation"], keys["classification"]
    sets = (str(images), str(folder), str(images))
    return {
        "cka by batches": ("cka", a, b, "--split", "all", "--batch-size", "4"),
        "cka of which the first batch comes first": ("cka", a, "random", "--split", "all", "--kernel", "rbf"),
        "fid": ("fid", *sets, "--models", a, "random", "--image-size", "16", "--halves", "2"),
        "probe": ("probe", a, "random", "--layers", "pooled", "--projection", "pca"),
        "attend": ("attend", b, "--masks", str(masks)),
    }


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All commands get the same processes, whose imports take seconds."""
    pools: list[HerePool] = []

    def pool(*asked) -> HerePool:
        pools.extend([] if pools else [HerePool(*asked)])
        return pools[0]

    close = HerePool.close
    monkeypatch.setattr(POOLS, "find", lambda name: pool)
    monkeypatch.setattr(HerePool, "close", lambda self: None)
    yield
    for each in pools:
        close(each)


def refuse(*_, **__) -> None:
    raise AssertionError("computed in the process of the command")


def kept(store: Path) -> dict[str, str]:
    """The digest of each file of the analyses, by its name."""
    files = [path for path in (store / "analyses").rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def found(command: Command, arguments: tuple[str, ...]) -> dict:
    """The document, without what names the command line and the store."""
    document = command.json(*arguments, "--threads", "1")
    document = json.loads(json.dumps(document).replace(str(command.runs), "RUNS"))
    del document["invocation"]
    return document


@pytest.mark.long
def test_results_of_several_processes_are_those_of_one(trained, commands, workers, tmp_path, monkeypatch):
    alone, several = Command(tmp_path / "alone"), Command(tmp_path / "several")
    for command in (alone, several):
        shutil.copytree(trained, command.runs)
    expected = {name: found(alone, arguments) for name, arguments in commands.items()}
    # What computes them is gone from this process, and is there in those that work for it.
    for module, name in (
        (similarity, "_Batches"),
        (features, "_write"),
        (distances, "_measure"),
        (scores, "features_of"),
        (embedding, "embed"),
        (maps, "measure_maps"),
    ):
        monkeypatch.setattr(module, name, refuse)
    assert {name: found(several, (*arguments, *AT_ONCE)) for name, arguments in commands.items()} == expected
    assert kept(several.runs) == kept(alone.runs)
    assert not list((several.runs / "analyses").glob("cka-part*"))
    # A mistake that only a worker meets is that of one process.
    cka = (*commands["cka by batches"], "--layers", "layer9")
    result = several(*cka, *AT_ONCE)
    monkeypatch.undo()
    assert (result.exit_code, result.stderr) == (1, alone(*cka).stderr)
    assert "no layer is named 'layer9'" in result.stderr


def test_models_and_images_are_found_in_a_store_that_lies_elsewhere(trained, tmp_path):
    moved = shutil.copytree(trained, tmp_path / "moved")
    store = Store(trained)
    stage = store.all()[0]
    own = Path(shutil.copy(stage.weights, tmp_path / "own.safetensors"))
    in_store, outside, untrained = models = models_from([stage.key, str(own), "random"], store, seed=3)
    plain = [json.loads(json.dumps(model_portable(model, store))) for model in models]
    assert [model_placed(each, store) for each in plain] == models
    shutil.move(trained / "stages", tmp_path / "stages")  # what it names is there only
    try:
        placed = [model_placed(each, Store(moved)) for each in plain]
    finally:
        shutil.move(tmp_path / "stages", trained / "stages")
    assert [model.weights for model in placed] == [moved / "stages" / stage.key / "backbone.safetensors", own, None]
    assert [model.identity for model in placed] == [model.identity for model in (in_store, outside, untrained)]
    assert placed[0].stage == Store(moved).find(stage.key)
    asked = {"images": data_portable(stage.spec.data, store), "image_size": 16}
    data = packed_placed(json.loads(json.dumps(packed_portable(packed_placed(asked, store), store))), Store(moved))
    assert hash_of(data.spec(1.0)) == hash_of(stage.spec.data)
    assert (data.image_size, data.pack.folder.parent) == (16, moved / "packs")
