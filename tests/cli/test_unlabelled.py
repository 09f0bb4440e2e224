"""`--unlabelled`: pretext tasks see further images, but none that the target is tested on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sslcurr.data.contents import contents_of, known_among
from sslcurr.data.pack import load_pack
from sslcurr.data.sources import catalog
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from tests.conftest import QUICK


@pytest.fixture
def others(folder, tmp_path):
    """A folder with all images of `folder` under other names and formats, and 20 more."""
    place = tmp_path / "others" / "deep"
    place.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.glob("*/*.png"))):
        Image.open(path).save(place / f"copy-{number}.bmp")
    source = catalog.find_source("fashion")
    for number in range(20):
        Image.fromarray(source.arrays[-1 - number]).resize((40, 40)).save(place / f"more-{number}.png")
    return place.parent


def stages_of(runs):
    return {stage.spec.task: stage for stage in Store(runs).all()}


def test_pretext_tasks_see_them_and_the_target_does_not(folder, others, sslcurr):
    result = sslcurr("chain", "rotation", "--dataset", str(folder), "--unlabelled", str(others), *QUICK)
    assert result.exit_code == 0
    assert "pretext tasks see 20 images without labels beside the training images of clothes" in result.stderr
    stages = stages_of(sslcurr.runs)
    number = stages["classification"].record.num_images
    assert f"{63 - number} images left out of these: validation or test images" in result.stderr
    assert f"{number} images left out of these: there already" in result.stderr
    assert stages["rotation"].record.num_images == number + 20
    spec = stages["rotation"].spec
    trained = np.load(stages["rotation"].folder / "images.npy")
    pack = load_pack(Store(sslcurr.runs).packs / stages["classification"].spec.data.pack.rpartition("/")[2])
    rows = select(stages["classification"].spec.data, labelled=True, pack=pack).rows
    contents = contents_of(pack.folder)
    assert not known_among(contents[np.concatenate([rows["val"], rows["test"]])], trained).any()
    assert known_among(contents[rows["train"]], trained).all()
    assert len(trained) == number + 20
    assert len(spec.data.unlabelled) == 1


def test_the_order_of_the_sets_and_where_they_lie_change_no_key(folder, others, sslcurr, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(others, moved)
    chain = ("pretrain", "rotation", "--dataset", str(folder), *QUICK)
    first = sslcurr.json(*chain, "--unlabelled", str(others), "--unlabelled", "digits")
    again = sslcurr.json(*chain, "--unlabelled", "digits", "--unlabelled", str(moved))
    assert again["stages"][0]["key"] == first["stages"][0]["key"]
    assert again["stages"][0]["reused"]
    alone = sslcurr.json(*chain, "--dry-run")
    assert alone["stages"][0]["key"] != first["stages"][0]["key"]


def test_a_stage_goes_on_with_its_own_images(folder, others, sslcurr, monkeypatch, tmp_path):
    first = sslcurr.json("pretrain", "rotation", "--dataset", str(folder), "--unlabelled", str(others), *QUICK)
    key = first["stages"][0]["key"]
    monkeypatch.chdir(tmp_path)
    following = sslcurr.json("pretrain", "simsiam", "--from", key, "--epochs", "1", "--batch-size", "16")
    spec = Store(sslcurr.runs).find(following["stages"][0]["key"]).spec
    assert spec.data.unlabelled == Store(sslcurr.runs).find(key).spec.data.unlabelled
    tuned = sslcurr.json("finetune", key, "--epochs", "1", "--batch-size", "16")
    assert tuned["overlap"]["images"] == 0


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_several_processes_rank_and_grid(folder, others, sslcurr, jobs):
    data = ("--dataset", str(folder), "--unlabelled", str(others), *QUICK, "--seeds", "1")
    document = sslcurr.json("rank", "rotation", "simsiam", *data, "--jobs", jobs, "--threads", "1")
    assert {row["task"] for row in document["tasks"]} == {"rotation", "simsiam"}
    assert "--unlabelled" in document["command"]
    assert stages_of(sslcurr.runs)["rotation"].record.num_images == 62
    grid = sslcurr.json("grid", "rotation", *data, "--ssl-fractions", "1,0.5", "--label-fractions", "0.5")
    assert len(grid["cells"]) == 2
    kept = sslcurr.json("runs")["runs"]
    assert all(len(run["packs"]) == 2 for run in kept)
    removed = json.loads(sslcurr("runs", "remove", "--dry-run", "--json").stdout)["removed"]
    assert not any("packs" in path for path in removed)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("pretrain", "rotation", "--unlabelled", "FOLDER"), "and none is named", "give --dataset too"),
        (
            ("chain", "rotation", "--dataset", "FOLDER", "--unlabelled", "gone/"),
            "the folder gone/ is not there",
            "looked",
        ),
        (("finetune", "--dataset", "FOLDER", "--unlabelled", "FOLDER"), "No such option", ""),
    ],
)
def test_mistakes(arguments, message, hint, folder, sslcurr):
    result = sslcurr(*(str(folder) if each == "FOLDER" else each for each in arguments), *QUICK)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert hint in result.stderr
