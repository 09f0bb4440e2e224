"""The command line as a person meets it: results, reuse, mistakes, signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from sslcurr.cli import main
from sslcurr.files import read_json
from tests.conftest import QUICK, Command


@pytest.fixture
def quick(folder):
    return ("--dataset", str(folder), *QUICK)


# ---- the main job


def test_chain_trains_reports_and_is_reused(sslcurr, quick):
    first = sslcurr.json("chain", "mocov2", "rotation", *quick, "--baseline", "scratch")
    assert [stage["task"] for stage in first["stages"]] == ["mocov2", "rotation", "classification"]
    assert [stage["reused"] for stage in first["stages"]] == [False, False, False]
    for stage in first["stages"]:
        assert set(stage) == {"task", "key", "checkpoint", "reused", "metrics", "seconds"}
        assert Path(stage["checkpoint"]).is_file()
    report = first["downstream"]
    keys = {"split", "balanced_accuracy", "accuracy", "per_class_recall", "confusion_matrix", "auroc", "num_images"}
    assert keys <= set(report)
    assert report["split"] == "test"
    assert report["num_images"] == np.sum(report["confusion_matrix"]) == 12
    assert report["interval"][0] <= report["balanced_accuracy"] <= report["interval"][1]
    recalls = [row[i] / sum(row) for i, row in enumerate(report["confusion_matrix"])]
    assert list(report["per_class_recall"].values()) == pytest.approx(recalls)
    assert report["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    table = pd.read_csv(report["predictions"])
    assert len(table) == 12
    assert (table.label == table.prediction).mean() == pytest.approx(report["accuracy"])
    assert first["baseline"]["num_images"] == 12
    gain = first["gain"]
    assert gain["mean"] == pytest.approx(report["balanced_accuracy"] - first["baseline"]["balanced_accuracy"])
    assert gain["interval"][0] <= gain["mean"] <= gain["interval"][1]
    assert (gain["num_seeds"], gain["told_apart"]) == (1, False)
    shown = " ".join(sslcurr("chain", "mocov2", "rotation", *quick, "--baseline", "scratch").stdout.split())
    assert "points, paired by image. One seed tells nothing apart" in shown

    again = sslcurr.json("chain", "mocov2", "rotation", *quick, "--baseline", "scratch")
    assert all(stage["reused"] for stage in again["stages"])
    assert again["downstream"] == report
    # A chain that shares a prefix reuses it and says so.
    other = sslcurr("chain", "mocov2", "swav", "--no-finetune", *quick)
    assert "already there, reused" in other.stderr
    assert "swav" in other.stdout
    assert first["stages"][0]["key"] in other.stdout


def test_finetune_from_key_file_and_scratch_agree_on_the_parent(sslcurr, quick, tmp_path):
    pretrained = sslcurr.json("pretrain", "rotation", *quick)["stages"][0]
    by_key = sslcurr.json("finetune", pretrained["key"][:8], *quick)
    by_path = sslcurr.json("finetune", pretrained["checkpoint"], *quick)
    assert by_path["stages"][0]["key"] == by_key["stages"][0]["key"]
    assert by_path["stages"][0]["reused"]
    copy = tmp_path / "copy.safetensors"
    shutil.copy(pretrained["checkpoint"], copy)
    elsewhere = sslcurr.json("finetune", str(copy), *quick)
    assert elsewhere["stages"][0]["key"] != by_key["stages"][0]["key"]  # known by its bytes, not by its stage
    scratch = sslcurr.json("finetune", *quick)
    assert scratch["stages"][0]["key"] not in (by_key["stages"][0]["key"], elsewhere["stages"][0]["key"])
    assert by_key["downstream"]["balanced_accuracy"] is not None


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_probes_report_the_layer_chosen_on_validation(sslcurr, quick, probe):
    pretrained = sslcurr.json("pretrain", "rotation", *quick)["stages"][0]
    document = sslcurr.json("finetune", pretrained["key"], "--probe", probe, "--baseline", "scratch", *quick)
    report = document["downstream"]
    best = max(report["layers"].values(), key=lambda layer: layer["val_balanced_accuracy"])
    assert report["layers"][report["layer"]]["val_balanced_accuracy"] == best["val_balanced_accuracy"]
    assert set(report["layers"]) == {"act1", "layer1", "layer2", "layer3", "layer4", "pooled"}
    assert document["baseline"]["probe"] == probe
    assert document["stages"] == []


def test_every_probe_is_a_run_of_its_own(sslcurr, quick):
    for seed in ("0", "1", "1"):
        sslcurr.json("finetune", "--probe", "knn", "--seed", seed, *quick)
    assert len(sslcurr.json("runs")["runs"]) == 2
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}


def test_a_checkpoint_continues_in_plain_timm(sslcurr, quick):
    stage = sslcurr.json("pretrain", "rotation", *quick, "--backbone", "resnet18")["stages"][0]
    model = timm.create_model("resnet18", num_classes=0, in_chans=1)
    model.load_state_dict(load_file(stage["checkpoint"]))
    assert torch.isfinite(model.eval()(torch.rand(1, 1, 16, 16))).all()


def test_dry_run_trains_nothing_and_names_the_keys_that_a_run_will_have(sslcurr, quick):
    plots = sslcurr.runs / "plots"
    plan = sslcurr.json("chain", "rotation", "--dry-run", "--plot", str(plots), *quick)
    assert not (sslcurr.runs / "stages").exists()
    assert not plots.exists()
    assert "files" not in plan
    assert [stage["reused"] for stage in plan["stages"]] == [False, False]
    ran = sslcurr.json("chain", "rotation", *quick)
    assert list(ran)[-3:] == ["files", "schema", "invocation"]
    assert [s["key"] for s in ran["stages"]] == [s["key"] for s in plan["stages"]]
    text = sslcurr("chain", "rotation", "--dry-run", *quick)
    assert text.stdout.count("have") == 2


def test_recompute_is_an_option_of_commands_and_no_part_of_the_key(sslcurr, quick, monkeypatch):
    from sslcurr.engine import train

    asked = []
    monkeypatch.setattr(train, "recompute_stages", lambda network: asked.append(network))
    first = sslcurr.json("pretrain", "rotation", "--recompute", *quick)["stages"][0]
    assert len(asked) == 1
    again = sslcurr.json("pretrain", "rotation", *quick)["stages"][0]
    assert (again["key"], again["reused"]) == (first["key"], True)


def test_precision_can_be_asked_for_and_is_recorded(sslcurr, quick, monkeypatch):
    # Also on a CPU without instructions for bf16: these products are small.
    monkeypatch.setattr("sslcurr.engine.device.bf16_slowdown", lambda: 1.0)
    keys = set()
    for asked, used in (("auto", "32"), ("32", "32"), ("bf16", "bf16")):
        stage = sslcurr.json("pretrain", "mocov2", "--device", "cpu", "--precision", asked, *quick)["stages"][0]
        happened = sslcurr.json("runs", "show", stage["key"])["happened"]
        assert happened["precision"] == used
        assert happened["device"]
        assert np.isfinite(stage["metrics"]["loss"])
        keys.add(stage["key"])
    assert len(keys) == 3


def test_settings_reach_the_stage(sslcurr, quick):
    plan = sslcurr.json(
        "chain", "swav", "--dry-run", *quick, "--set", "swav.num_prototypes=9", "--set", "swav.lr=0.5",
        "--set", "classification.epochs=7", "--fraction", "0.5", "--label-fraction", "0.25", "--seed", "4",
    )  # fmt: skip
    swav, classification = (stage["asked"] for stage in plan["stages"])
    assert swav["config"]["num_prototypes"] == 9
    assert swav["training"]["lr"] == 0.5
    assert swav["training"]["epochs"] == 1
    assert classification["training"]["epochs"] == 7
    assert (swav["data"]["fraction"], classification["data"]["fraction"]) == (0.5, 0.25)
    assert swav["seed"] == classification["seed"] == 4


def test_pretraining_never_sees_test_images(sslcurr, quick, folder):
    from sslcurr.engine.selection import select
    from sslcurr.engine.store import Store

    document = sslcurr.json("chain", "rotation", *quick)
    store = Store(sslcurr.runs)
    pretext, classification = (store.find(stage["key"]).spec for stage in document["stages"])
    trained = set(select(pretext.data, labelled=False).rows["train"])
    assert trained.isdisjoint(select(classification.data, labelled=True).rows["test"])
    assert len(trained) == store.find(document["stages"][0]["key"]).record.num_images


def test_the_embedded_default_is_planned_for_small_images(sslcurr):
    plan = sslcurr.json("chain", "mocov2", "swav", "rotation", "--dry-run")
    backbone = plan["stages"][0]["asked"]["backbone"]
    assert (backbone["name"], backbone["stem"], backbone["channels"]) == ("test_resnet", "imagenet", 1)
    assert plan["stages"][0]["asked"]["config"]["image_size"] == 28
    assert plan["hours"] is None  # nothing like it was trained yet
    named = sslcurr.json("chain", "mocov2", "--dataset", "fashion", "--dry-run")["stages"][0]["asked"]["backbone"]
    assert (named["name"], named["stem"]) == ("resnet18", "small")


def test_flat_folder_pretrains_but_cannot_be_classified(sslcurr, folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        shutil.copy(path, flat / f"{i}.png")
    assert sslcurr.json("pretrain", "rotation", "--dataset", str(flat), *QUICK)["stages"]
    result = sslcurr("chain", "rotation", "--dataset", str(flat), *QUICK)
    assert result.exit_code == 1
    assert "has no labels, which classification needs" in result.stderr
    assert "--no-finetune" in result.stderr


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["chain", "rotatoin"], "unknown task 'rotatoin'", "did you mean rotation?"),
        (["chain", "classification"], "classification is no pretext task", "by itself"),
        (["chain", "rotation", "--epochs", "0"], "epochs must be at least 1, got 0", ""),
        (["chain", "rotation", "--batch-size", "1"], "batch_size must be at least 4, got 1", ""),
        (["chain", "rotation", "--lr", "-1"], "lr must be above 0, got -1", ""),
        (["chain", "rotation", "--fraction", "0"], "fraction must be above 0", ""),
        (["chain", "rotation", "--dataset", "no/such/folder"], "no/such/folder", ""),
        (["chain", "rotation", "--dataset", "fasion"], "fasion", "did you mean fashion?"),
        (["chain", "rotation", "--set", "rotation.imagesize=3"], "no setting 'imagesize'", "did you mean image_size?"),
        (["chain", "rotation", "--set", "mocov2.lr=3"], "'mocov2' is no part of this command", "known:"),
        (["chain", "rotation", "--backbone", "resnet19"], "no backbone named 'resnet19'", "did you mean resnet1"),
        (["chain", "rotation", "--stem", "tiny"], "unknown stem 'tiny'", "known:"),
        (["chain", "rotation", "--precision", "fp8"], "unknown precision 'fp8'", "known:"),
        (["chain", "rotation", "--set", "rotation.scale=0.5,2"], "scale", ""),
        (["chain", "rotation", "--set", "data.val=0.9"], "", ""),
        (["chain", "rotation", "--set", "data.channels=2"], "data.channels must be 1 or 3", ""),
        (["chain", "rotation", "--image-size", "3"], "image size must be from 8", ""),
        (["finetune", "nothing.safetensors"], "there is no checkpoint at nothing.safetensors", ""),
        (["finetune", "abcd1234"], "no stage in", "see sslcurr runs"),
        (["runs", "--runs", "no/store"], "there is no store at no/store", ""),
        (["pretrain", "mocov2", "--set", "mocov2.temperature=0"], "temperature must be above 0", "in that range"),
        (["pretrain", "odc", "--set", "odc.dropout=2"], "dropout must be at least 0 and at most 1", "in that range"),
        (["pretrain", "npid", "--set", "npid.num_negatives=0"], "num_negatives must be at least 1", "in that range"),
        (["pretrain", "jigsaw", "--set", "jigsaw.patch_size=100"], "do not fit a view", "a third of grid_size"),
        (["pretrain", "odc", "--set", "odc.num_clusters=9999"], "cannot be 9999 clusters", "a smaller num_clusters"),
        (["pretrain", "odc", "--set", "odc.num_clusters=900"], "too few for 900 clusters", "odc.smallest_cluster="),
        (
            ["pretrain", "swav", "--backbone", "convnext_atto", "--stem", "imagenet"],
            "cannot process images of 12",
            "larger",
        ),
        (
            ["pretrain", "byol", "--fraction", "0.01", "--batch-size", "64", "--set", "byol.accumulate=16"],
            "too few images for 16",
            "accumulate=",
        ),
        (["tasks", "show", "odc", "--dataset", "fashion", "--num-images", "9"], "the data set says", "leave out"),
        (["tasks", "show", "odc", "--set", "odc.dims=3"], "no setting 'dims'", "did you mean dim?"),
        (["tasks", "show", "swaw"], "unknown task 'swaw'", "did you mean swav?"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(sslcurr, arguments, message, hint):
    result = sslcurr(*arguments)
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    assert lines[-2].startswith("error: ")
    assert lines[-1].startswith("hint: ")
    assert message in lines[-2]
    assert hint in lines[-1]
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["chain"], ["chian", "rotation"], ["chain", "rotation", "--epoch", "x"]])
def test_wrong_usage_is_exit_code_2(sslcurr, arguments):
    assert sslcurr(*arguments).exit_code == 2


def test_unknown_device_is_usage(sslcurr):
    result = sslcurr("chain", "rotation", "--device", "gpu")
    assert result.exit_code == 2
    assert "cuda" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_absent_gpu_is_said_before_anything_is_trained(sslcurr, quick):
    result = sslcurr("pretrain", "rotation", "--device", "cuda", *quick)
    assert result.exit_code == 1
    assert "there is no device 'cuda' here" in result.stderr


def test_unreadable_image_and_empty_class(sslcurr, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "bag" / "broken.png").write_bytes(b"not an image")
    result = sslcurr("pretrain", "rotation", "--dataset", str(copy), *QUICK)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert "--skip-broken" in result.stderr
    result = sslcurr("pretrain", "rotation", "--dataset", str(copy), "--skip-broken", *QUICK)
    assert result.exit_code == 0
    assert "1 image left out" in result.stderr
    (copy / "empty").mkdir()
    result = sslcurr("pretrain", "rotation", "--dataset", str(copy), "--skip-broken", *QUICK)
    assert result.exit_code == 1
    assert "empty" in result.stderr


def test_a_loss_that_is_not_finite_stops_with_step_and_advice(sslcurr, quick):
    result = sslcurr("pretrain", "mocov2", *quick, "--lr", "1e30")
    assert result.exit_code == 1
    assert "is not finite at step" in result.stderr
    assert "--set mocov2.lr=" in result.stderr


def test_full_disk_is_one_line_and_nothing_is_lost(sslcurr, quick, monkeypatch):
    import errno

    from sslcurr.engine import loop

    sslcurr.json("pretrain", "rotation", *quick)
    real = loop.write_whole

    def full(path, content):
        if path.name == "resume.pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_whole", full)
        result = sslcurr("chain", "rotation", "swav", "--no-finetune", *quick)
    assert result.exit_code == 1
    assert "no space is left on the disk" in result.stderr
    assert "Traceback" not in result.output
    document = sslcurr.json("chain", "rotation", "swav", "--no-finetune", *quick)
    assert [stage["reused"] for stage in document["stages"]] == [True, False]


# ---- killed and run again, as another process


def start(runs, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "sslcurr", *arguments],
        env={**os.environ, "SSLCURR_RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(pattern, root, process, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = list(Path(root).glob(pattern))
        if found:
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{pattern} did not appear")


# Long enough to be stopped after its first save.
LONG = ("pretrain", "rotation", *QUICK, "--set", "rotation.epochs=40", "--json")


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    run = Command(tmp_path_factory.mktemp("whole"))
    return Path(json.loads(run(*LONG, "--dataset", str(folder)).stdout)["stages"][0]["checkpoint"]).read_bytes()


@pytest.mark.parametrize(
    "number",
    # Ctrl-C is that of a process in test_ranking.py, too.
    [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGINT, signal.SIGTERM))],
)
def test_a_killed_process_goes_on_and_ends_bit_equal(folder, tmp_path, number, uninterrupted):
    quick = (*LONG, "--dataset", str(folder))
    process = start(tmp_path / "a", *quick)
    wait_for("stages/*.part/resume.pt", tmp_path / "a", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert list((tmp_path / "a").glob("stages/*.part/resume.pt"))
    assert not list((tmp_path / "a").glob("stages/*/done.json"))
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert "stopped at step" in errors
        assert "run the same command again" in errors
        assert "Traceback" not in errors
    again = Command(tmp_path / "a")(*quick)
    assert again.exit_code == 0, again.stderr
    assert "going on at step" in again.stderr
    assert Path(json.loads(again.stdout)["stages"][0]["checkpoint"]).read_bytes() == uninterrupted


def test_ctrl_c_while_the_program_loads_is_no_traceback(monkeypatch, capsys):
    class Loading(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sslcurr.cli.app", Loading("sslcurr.cli.app"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    said = capsys.readouterr().err.splitlines()
    assert said == ["stopped: interrupted before anything was begun", "hint: run the same command again"]


def test_two_processes_share_the_work(folder, tmp_path):
    quick = (*LONG, "--dataset", str(folder))
    process = start(tmp_path, *quick)
    wait_for("stages/*.part", tmp_path, process)
    mine = Command(tmp_path)(*quick)
    output, errors = process.communicate(timeout=180)
    assert (process.returncode, mine.exit_code) == (0, 0), (errors, mine.stderr)
    stages = [json.loads(text)["stages"][0] for text in (output, mine.stdout)]
    assert stages[0]["key"] == stages[1]["key"]
    assert [stage["reused"] for stage in stages] == [False, True]
    assert "waiting for it" in mine.stderr


# ---- runs, tasks, help


def test_runs_are_listed_shown_and_removed(sslcurr, quick):
    document = sslcurr.json("chain", "rotation", *quick)
    sslcurr.json("pretrain", "mocov2", *quick)
    runs = sslcurr.json("runs")["runs"]
    assert [run["title"] for run in runs] == ["rotation -> classification", "mocov2"]
    assert runs[0]["balanced_accuracy"] == document["downstream"]["balanced_accuracy"]
    assert len(sslcurr.json("runs", "--stages")["stages"]) == 3
    assert "rotation -> classification" in sslcurr("runs").stdout
    shown = sslcurr.json("runs", "show", document["stages"][0]["key"][:8])
    assert shown["asked"]["task"] == "rotation"
    assert shown["happened"]["weights_sha256"]
    assert sslcurr.json("runs", "show", runs[0]["run"])["stages"]
    kept = sslcurr.runs / "results" / f"{runs[0]['run']}.json"
    assert read_json(kept) == {
        "kind": "train",
        "document": {name: value for name, value in document.items() if name != "files"},
    }
    assert sslcurr("runs", "remove", "nothing").exit_code == 1
    refused = sslcurr("runs", "remove", runs[1]["run"])
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    looked = sslcurr.json("runs", "remove", runs[1]["run"], "--dry-run")
    assert any("stages" in path for path in looked["removed"])
    assert [line.split("MiB  ")[1] for line in refused.stdout.splitlines()] == list(looked["removed"])
    assert len(sslcurr.json("runs")["runs"]) == 2
    sslcurr.json("runs", "remove", runs[1]["run"], "--yes")
    assert len(sslcurr.json("runs", "--stages")["stages"]) == 2
    again = sslcurr.json("chain", "rotation", *quick)  # what the other run needs was kept
    assert all(stage["reused"] for stage in again["stages"])
    sslcurr.json("runs", "remove", runs[0]["run"], "--yes")
    assert not kept.exists()


def test_tasks_are_listed_with_their_settings(sslcurr):
    from sslcurr.tasks import TASKS

    assert [task["task"] for task in sslcurr.json("tasks")["tasks"]] == list(TASKS)
    assert "https://arxiv.org/abs/2006.09882" in sslcurr("tasks").stdout
    shown = sslcurr.json("tasks", "show", "swav", "--num-images", "930")
    assert shown["imagenet"]["num_prototypes"] == 3000
    assert shown["resolved"]["num_prototypes"] == 80
    (row,) = [line for line in sslcurr("tasks", "show", "swav").stdout.splitlines() if line.startswith(" epsilon ")]
    assert re.fullmatch(r" epsilon +0\.01 +0\.05 +above 0 +Softness of the codes\. .*", row)
    (row,) = [line for line in sslcurr("tasks", "show", "swav").stdout.splitlines() if line.startswith(" dim ")]
    assert row.split()[1:4] == ["128", "at", "least"]  # ImageNet's is the same, and not said again
    assert shown["meanings"]["epsilon"].startswith("Softness of the codes.")
    assert {"task", "summary", "paper", "resolved_for", "ranges", "groups"} < shown.keys()
    given = sslcurr.json("tasks", "show", "swav", "--num-images", "930", "--set", "swav.dim=64")["resolved"]
    assert given == {**shown["resolved"], "dim": 64}


def test_a_recipe_is_resolved_for_a_data_set_as_pretrain_does(sslcurr, folder):
    options = ("--dataset", str(folder), "--image-size", "16", "--set", "odc.hidden=64")
    shown = sslcurr.json("tasks", "show", "odc", *options)
    (planned,) = sslcurr.json("pretrain", "odc", *options, "--dry-run")["stages"]
    # Of two settings called `momentum` the task's own, which --set changes.
    asked = planned["asked"]
    assert shown["resolved"] == {**asked["training"], **asked["config"]}
    assert shown["resolved"]["hidden"] == 64
    assert shown["imagenet"]["num_clusters"] == 10_000


def test_views_are_drawn_and_a_wrong_place_for_them_is_said_first(sslcurr, folder, tmp_path):
    options = ("tasks", "show", "jigsaw", "--dataset", str(folder), "--image-size", "24")
    out = tmp_path / "views.png"
    assert str(out) in sslcurr(*options, "--out", str(out)).stdout.replace("\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    for wrong, hint in (("views.jpg", "ends in .png"), ("nowhere/views.png", "no folder")):
        result = sslcurr(*options, "--out", str(tmp_path / wrong))
        assert result.exit_code == 1
        assert hint in result.stderr
        assert not (tmp_path / wrong).exists()


def test_version_and_help(sslcurr):
    import sslcurr as package

    assert sslcurr("--version").stdout.strip() == f"sslcurr {package.__version__}"
    for command in ("pretrain", "chain", "finetune", "tasks", "runs"):
        assert command in sslcurr("--help").stdout
        assert sslcurr(command, "--help").exit_code == 0


def test_colour_network_on_grey_images_and_grey_network_on_colour_images(sslcurr, folder, tmp_path):
    colour = tmp_path / "colour"
    for path in sorted(folder.rglob("*.png")):
        target = colour / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        grey = Image.open(path)
        Image.merge("RGB", (grey, grey.point(lambda v: 255 - v), grey)).save(target)
    plan = sslcurr.json("pretrain", "mocov2", "--dataset", str(colour), *QUICK, "--dry-run")
    assert plan["stages"][0]["asked"]["backbone"]["channels"] == 3
    for data, channels in ((colour, 1), (folder, 3)):
        arguments = ("pretrain", "mocov2", "--dataset", str(data), *QUICK, "--set", f"data.channels={channels}")
        stage = sslcurr.json(*arguments)["stages"][0]
        assert load_file(stage["checkpoint"])["conv1.0.weight"].shape[1] == channels


def test_a_command_line_builds_no_other_command_than_its_own():
    from sslcurr.cli.app import app, program

    every = names_of(app)
    assert len(every) == 24
    for name in every:
        assert names_of(program([name, "--help"])) == (every if name in ("run", "slurm") else [name])
    for words in ([], ["--help"], ["chian"]):
        assert names_of(program(words)) == every


def names_of(program) -> list[str]:
    return [each.name for each in (*program.registered_commands, *program.registered_groups)]
