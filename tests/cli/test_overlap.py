"""No figure on images that were trained on before, and commands without --dataset use the images of their stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sslcurr.engine.store import Store
from tests import trees
from tests.conftest import QUICK, Command
from tests.earlier import without_hashes, write_unsealed

ALLOW = "hint: test on other images, or pretrain without these. --allow-overlap goes on, and the report says so"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, dict[str, str]]:
    """A store with stages on `folder`, divided by another seed, and their keys; each is trained once."""
    command = Command(tmp_path_factory.mktemp("overlap") / "runs")
    options = ("--dataset", str(folder), *QUICK, "--set", "data.seed=1")
    chain = command.json("chain", "rotation", *options)
    other = command.json("pretrain", "rotation", *options, "--seed", "7")
    keys = [stage["key"] for stage in (*chain["stages"], *other["stages"])]
    return command.runs, dict(zip(("rotation", "classification", "other"), keys, strict=True))


@pytest.fixture
def command(made, tmp_path) -> Command:
    """The command line with a copy of that store."""
    shutil.copytree(made[0], tmp_path / "runs")
    return Command(tmp_path / "runs")


@pytest.fixture
def keys(made) -> dict[str, str]:
    return made[1]


@pytest.fixture
def target(folder, tmp_path) -> str:
    """A table of copies of images of `folder` as BMP: 12 tested, of which the stages were trained on some."""
    home = tmp_path / "target"
    home.mkdir()
    lines = ["path,label,split"]
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.open(path).save(home / f"{i}.bmp")
        part = ("test", "val", "train", "train", "train")[i % 5]
        lines.append(f"{i}.bmp,{path.parent.name},{part}")
    (home / "target.csv").write_text("\n".join(lines))
    return str(home / "target.csv")


def number_trained_on(folder: Path, store: Store, key: str) -> int:
    """How many test images of `target` the stage was trained on, by the names of the files."""
    from sslcurr.engine.selection import select

    selection = select(store.find(key).spec.data, labelled=False)
    names = {selection.pack.names[row] for row in selection.rows["train"]}
    every = sorted(folder.rglob("*.png"))
    return sum(str(path.relative_to(folder)) in names for path in every[::5])


def mistake(result) -> list[str]:
    assert result.exit_code == 1, result.output
    return [line for line in result.stderr.splitlines() if line.startswith(("error: ", "hint: "))]


# ---- overlap


def test_test_images_that_were_pretrained_on_are_refused_before_any_training(command, keys, folder, target):
    key, store = keys["rotation"], Store(command.runs)
    number = number_trained_on(folder, store, key)
    assert 0 < number < 13
    expected = [
        f"error: {number} of 13 test images of target were trained on before, by rotation ({key[:8]}, on clothes)",
        ALLOW,
    ]
    before = {stage.key for stage in store.all()}
    data = ("--dataset", target, *QUICK)
    for arguments in (
        ("finetune", key, *data),
        ("finetune", key, "--probe", "knn", *data),
        ("finetune", key, "--dry-run", *data),
        ("chain", "simsiam", "--from", key, *data),
        ("rank", "simsiam", "--seeds", "1", "--from", key, *data),
        ("rank", "simsiam", "--seeds", "1", "--imagenet", key, "--dry-run", *data),
        ("rank", "simsiam", "mocov2", "--search", "--seeds", "1", "--from", key, *data),
        ("probe", key, "random", "--dataset", target),
    ):
        assert mistake(command(*arguments)) == expected, arguments
    assert {stage.key for stage in store.all()} == before
    # What gives no figure of test images is not stopped.
    assert command("pretrain", "simsiam", "--from", key, "--dry-run", *data).exit_code == 0
    assert command("chain", "simsiam", "--no-finetune", "--from", key, "--dry-run", *data).exit_code == 0


def test_overlap_that_is_allowed_is_in_the_document_the_table_and_the_report(
    command, keys, folder, target, tmp_path, monkeypatch
):
    key = keys["rotation"]
    number = number_trained_on(folder, Store(command.runs), key)
    arguments = ("finetune", key, "--dataset", target, *QUICK, "--allow-overlap")
    document = command.json(*arguments)
    assert document["overlap"] == {
        "split": "test",
        "images": number,
        "of": 13,
        "copies": 0,
        "stages": [{"key": key, "tasks": ["rotation"], "dataset": "clothes", "images": number}],
        "unknown": [],
    }
    line = (
        f"{number} of 13 test images of target were trained on before, by rotation ({key[:8]}, on clothes): "
        "the figures are too good"
    )
    shown = command(*arguments)
    assert line in shown.stdout
    assert f"note: {line}" in shown.stderr
    page = tmp_path / "page.html"
    monkeypatch.setattr("sslcurr.analysis.report.page.pictures_of", lambda document, store: ([], []))  # takes seconds
    assert command("report", "--out", str(page)).exit_code == 0
    assert f'<li class="caution">{line}</li>' in page.read_text()
    probed = command.json("probe", key, "--layers", "pooled", "--dataset", target, "--allow-overlap")
    assert probed["overlap"] == document["overlap"]
    ranked = command.json("rank", "simsiam", "--seeds", "1", "--measure", "knn", "--from", key, "--dataset", target,
                          *QUICK, "--allow-overlap")  # fmt: skip
    assert ranked["overlap"] == document["overlap"]
    assert ranked["start"] == key
    assert "--allow-overlap" in ranked["command"]


def test_another_seed_of_the_split_is_an_overlap_and_the_right_one_is_named(command, keys, folder):
    lines = mistake(command("finetune", keys["rotation"], "--dataset", str(folder), *QUICK))
    assert lines[0].endswith(f"of 12 test images of clothes were trained on before, by rotation "
                             f"({keys['rotation'][:8]}, on clothes)")  # fmt: skip
    assert lines[1] == (
        "hint: it is the same data set, divided in another way: give --set data.seed=1. --allow-overlap goes on, and "
        "the report says so"
    )
    same = command.json("finetune", keys["rotation"], "--dataset", str(folder), *QUICK, "--set", "data.seed=1")
    assert (same["overlap"]["images"], same["overlap"]["unknown"]) == (0, [])
    assert same["stages"][0]["key"] == keys["classification"]


def test_what_is_not_known_is_said_in_the_output_and_in_the_document(command, keys, folder, target, tmp_path):
    file = tmp_path / "foreign.pth"
    state = load_file(command.runs / "stages" / keys["rotation"] / "backbone.safetensors")
    torch.save({name: value + 1 for name, value in state.items() if "num_batches" not in name}, file)
    arguments = ("finetune", str(file), "--probe", "knn", "--dataset", str(folder), *QUICK)
    document = command.json(*arguments)
    sentence = f"whether {file} saw the test images"
    assert (document["overlap"]["images"], document["overlap"]["unknown"]) == (0, [sentence])
    shown = command(*arguments)
    assert f"not known: {sentence}" in shown.stdout
    assert f"note: not known: {sentence}" in shown.stderr
    ranked = command.json("rank", "simsiam", "--seeds", "1", "--measure", "knn", "--imagenet", str(file), "--dataset",
                          str(folder), *QUICK)  # fmt: skip
    assert ranked["overlap"]["unknown"] == [sentence]
    # A stage of a version that kept no contents of images, whose pack is gone.
    stage = Store(command.runs).find(keys["rotation"])
    kept = np.load(stage.folder / "images.npy")
    without_hashes(stage.folder)
    for damaged in (kept[:0], kept[:, 0], kept.astype(float)):
        np.save(stage.folder / "images.npy", damaged)
        refused = command("finetune", keys["rotation"], "--probe", "knn", "--dataset", target, *QUICK)
        assert refused.exit_code == 1
        assert "images.npy (it holds no contents of images)" in refused.stderr
    (stage.folder / "images.npy").unlink()
    asked = json.loads((stage.folder / "stage.json").read_text())
    shutil.rmtree(command.runs / "packs" / Path(asked["data"]["pack"]).name)
    asked["data"]["pack"] = str(tmp_path / "gone")
    write_unsealed(stage.folder / "stage.json", asked)
    older = command.json("finetune", keys["rotation"], "--probe", "knn", "--dataset", target, *QUICK)
    title = f"rotation ({keys['rotation'][:8]})"
    assert older["overlap"]["unknown"] == [
        f"whether {title}, of an older version and without its pack, saw the test images"
    ]


def test_a_grid_and_a_chain_from_scratch_have_no_overlap_but_copies(sslcurr, folder, tmp_path):
    home = tmp_path / "twice"
    shutil.copytree(folder, home)
    rows = ["path,label,split"]
    for i, path in enumerate(sorted(home.rglob("*.png"))):
        rows.append(f"{path.relative_to(home)},{path.parent.name},{('test', 'val', 'train', 'train')[i % 4]}")
        if i in (0, 4):
            shutil.copy(path, path.with_name(f"again-{path.name}"))
            rows.append(f"{path.parent.name}/again-{path.name},{path.parent.name},train")
    (home / "twice.csv").write_text("\n".join(rows))
    data = ("--dataset", str(home / "twice.csv"), *QUICK)
    result = sslcurr("chain", "rotation", *data)
    assert result.exit_code == 0
    line = "2 of 16 test images have a copy among the training images: the figures are too good"
    assert f"{line} (sslcurr data check lists copies)" in result.stdout
    grid = sslcurr.json("grid", "rotation", "--ssl-fractions", "1", "--label-fractions", "1", "--seeds", "1", *data)
    assert grid["overlap"] == {"split": "test", "images": 0, "of": 16, "copies": 2, "stages": [], "unknown": []}
    checked = sslcurr("data", "check", str(home / "twice.csv"), "--json")
    assert len(json.loads(checked.stdout)["across_splits"]) == 2


# ---- the images of commands that name none


def test_without_dataset_the_images_of_the_stages_are_used_with_their_split(command, keys, folder):
    rotation, other, fine = keys["rotation"], keys["other"], keys["classification"]
    note = f"note: images: those that rotation ({rotation[:8]}) was trained on, clothes"
    plan = command.json("finetune", rotation, *QUICK[4:], "--dry-run")
    assert [stage["key"] for stage in plan["stages"]] == [fine]  # the same images, size and split
    assert note in command("finetune", rotation, *QUICK[4:], "--dry-run").stderr
    compared = command.json("cka", rotation, other, "random")
    assert (compared["dataset"], compared["num_images"]) == ("clothes", 12)
    said = ("--dataset", str(folder), "--set", "data.seed=1")
    assert compared["pairs"] == command.json("cka", rotation, other, "random", *said)["pairs"]
    probed = command.json("probe", rotation, "--layers", "pooled")
    assert probed["dataset"] == "clothes"
    assert probed["overlap"] == {"split": "test", "images": 0, "of": 12, "copies": 0, "stages": [], "unknown": []}
    assert probed["models"] == command.json("probe", rotation, "--layers", "pooled", *said)["models"]
    chain = command.json("chain", "simsiam", "--from", rotation, *QUICK[6:], "--dry-run")
    assert {stage["asked"]["data"]["name"] for stage in chain["stages"]} == {"clothes"}
    # What is given counts before what the stage had.
    mine = command.json("finetune", rotation, *QUICK[4:], "--dry-run", "--set", "data.val=0.1", "--allow-overlap")
    assert [mine["stages"][0]["asked"]["data"][name] for name in ("val", "test", "split_seed")] == [0.1, 0.2, 1]


def test_attend_uses_the_images_of_its_stage(command, keys, folder, tmp_path):
    masks = tmp_path / "masks"
    for path in folder.rglob("*.png"):
        (masks / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((28, 28), 255, dtype=np.uint8)).save(masks / path.parent.name / path.name)
    arguments = ("attend", keys["classification"], "--masks", str(masks))
    document = command.json(*arguments)
    assert (document["dataset"], document["num_images"]) == ("clothes", 12)
    assert document["overlap"] == {"split": "test", "images": 0, "of": 12, "copies": 0, "stages": [], "unknown": []}
    copies = tmp_path / "copies"
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        (copies / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copies / path.parent.name / f"{99 - i}.png")
        shutil.copy(masks / path.parent.name / path.name, masks / path.parent.name / f"{99 - i}.png")
    lines = mistake(command(*arguments, "--dataset", str(copies)))
    assert "of 12 test images of copies were trained on before, by rotation -> classification" in lines[0]
    assert lines[0].endswith("on clothes), and 1 more")  # the pretraining and the fine-tuning saw them
    allowed = command.json(*arguments, "--dataset", str(copies), "--allow-overlap")
    assert [stage["tasks"] for stage in allowed["overlap"]["stages"]] == [["rotation", "classification"], ["rotation"]]


def test_a_copied_checkpoint_is_known_by_its_bytes(command, keys, tmp_path):
    """`sslcurr cka ckpt_a ckpt_b`."""
    for name, key in (("ckpt_a", "rotation"), ("ckpt_b", "other")):
        shutil.copy(command.runs / "stages" / keys[key] / "backbone.safetensors", tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("ckpt_a", "ckpt_b")]
    compared = command.json("cka", *files)
    assert (compared["dataset"], compared["num_images"]) == ("clothes", 12)
    assert compared["pairs"][0]["matrix"] == command.json("cka", keys["rotation"], keys["other"])["pairs"][0]["matrix"]


def test_where_images_differ_are_unknown_or_gone_it_is_asked(command, keys, folder, tmp_path):
    rotation, question = keys["rotation"], "hint: say with --dataset which images to use"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    foreign = command.json("pretrain", "rotation", "--dataset", str(elsewhere), *QUICK, "--seed", "3")["stages"][0][
        "key"
    ]
    same_bytes = command("cka", rotation, foreign)  # the same images at another place, divided by another seed
    assert mistake(same_bytes)[0].endswith("were trained on clothes, divided in different ways")
    next(elsewhere.rglob("*.png")).unlink()
    other = command.json("pretrain", "rotation", "--dataset", str(elsewhere), *QUICK, "--seed", "4")["stages"][0]["key"]
    for command_name in ("cka", "probe"):
        lines = mistake(command(command_name, rotation, other))
        assert lines == [
            f"error: the stages were trained on different images: rotation ({rotation[:8]}) on clothes, "
            f"rotation ({other[:8]}) on elsewhere",
            question,
        ]
    # The data set of a stage has changed since, or is gone.
    lines = mistake(command("finetune", foreign, *QUICK))
    assert lines[0] == (
        f"error: rotation ({foreign[:8]}) was trained on elsewhere, whose images, labels or splits have changed since"
    )
    assert lines[1] == f"hint: give --dataset {elsewhere} to use them as they are now"
    shutil.rmtree(elsewhere)
    lines = mistake(command("finetune", foreign, *QUICK))
    assert lines == [
        f"error: rotation ({foreign[:8]}) was trained on {elsewhere}, which is not there any more",
        question,
    ]
    # A stage of a version that did not write down how its images were named.
    path = command.runs / "stages" / rotation / "stage.json"
    asked = json.loads(path.read_text())
    del asked["data"]["request"]
    write_unsealed(path, asked)
    lines = mistake(command("finetune", rotation, *QUICK))
    assert lines[0].endswith("was trained on clothes, and where these images are is not known")
    assert mistake(command("probe", "random:test_resnet")) == [
        "error: an untrained network has no images of its own",
        question,
    ]
    file = tmp_path / "foreign.safetensors"
    shutil.copy(command.runs / "stages" / other / "backbone.safetensors", file)
    shutil.rmtree(command.runs / "stages" / other)
    for arguments in (("finetune", str(file)), ("cka", rotation, str(file)), ("chain", "simsiam", "--from", str(file))):
        assert mistake(command(*arguments)) == [
            f"error: on which images {file} was trained is not known",
            question,
        ]


def test_a_named_data_set_is_found_again_from_another_folder(sslcurr, tmp_path, monkeypatch):
    trees.covid(tmp_path / "data" / "covid", suffix=".png")
    monkeypatch.chdir(tmp_path)
    options = ("--skip-broken", *QUICK)
    trained = sslcurr.json("pretrain", "rotation", "--dataset", "covid", "--data-root", "data", *options)
    key = trained["stages"][0]["key"]
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    plan = sslcurr.json("finetune", key, *QUICK, "--dry-run")  # and without the images that were broken
    assert plan["stages"][0]["asked"]["data"]["request"] == {
        "dataset": "covid",
        "data_root": str(tmp_path / "data"),
        "skip_broken": True,
    }
    (tmp_path / "data").rename(tmp_path / "moved")
    lines = mistake(sslcurr("finetune", key, *QUICK, "--dry-run"))
    assert "was trained on covid: the files of covid are not in" in lines[0]
    moved = sslcurr.json("finetune", key, *QUICK, "--dry-run", "--data-root", str(tmp_path / "moved"))
    assert moved["stages"][0]["key"] == plan["stages"][0]["key"]


# ---- examples of the documentation, which name no stage


def test_rank_of_covid(sslcurr, tmp_path):
    """`sslcurr rank --dataset covid`."""
    trees.covid(tmp_path / "covid", suffix=".png")
    document = sslcurr.json("rank", "--dataset", "covid", "--data-root", str(tmp_path), "--skip-broken", "--seeds", "1",
                            "--measure", "knn", *QUICK)  # fmt: skip
    assert document["dataset"] == "covid"
    assert sorted(document["curriculum"]) == ["mocov2", "relative-location", "rotation", "swav"]
    assert (document["overlap"]["images"], document["overlap"]["unknown"]) == (0, [])


def test_the_main_job_is_of_the_embedded_images(sslcurr):
    """`sslcurr chain mocov2 swav rotation`."""
    plan = sslcurr.json("chain", "mocov2", "swav", "rotation", "--dry-run")
    assert [stage["task"] for stage in plan["stages"]] == ["mocov2", "swav", "rotation", "classification"]
    assert {stage["asked"]["data"]["request"]["dataset"] for stage in plan["stages"]} == {"fashion"}
