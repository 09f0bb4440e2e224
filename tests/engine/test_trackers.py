"""Trackers: curves and results arrive, a kill leaves one run, a server that is gone stops nothing."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sslcurr import Lab
from sslcurr.engine import trackers, train
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.spec.runtime import Runtime
from tests.conftest import QUICK, Command
from tests.kill import kill_at

# MLflow uses what its database library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No server, no account, and no failure that a test before remembers."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in trackers.PATIENCE:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(trackers, "_failed", {})


@pytest.fixture
def data(folder):
    return ("--dataset", str(folder), *QUICK)


def of_mlflow(store: Path) -> tuple[MlflowClient, list]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store.resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sslcurr")
    return client, client.search_runs([experiment.experiment_id])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def history(client, run, name) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


# ---- MLflow


def test_mlflow_has_the_curves_and_the_result_of_a_chain_that_was_killed(data, sslcurr, tmp_path, monkeypatch):
    ask = ("chain", "rotation", *data, "--epochs", "2", "--save-minutes", "0.00001")
    tracked = (*ask, "--tracker", "mlflow", "--name", "mine")
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", 5)
        assert sslcurr(*tracked).exit_code == 130
    (begun,) = of_mlflow(sslcurr.runs)[1]
    assert begun.info.status == "KILLED"
    said = sslcurr.json(*tracked)
    client, runs = of_mlflow(sslcurr.runs)
    assert begun.info.run_id in {run.info.run_id for run in runs}
    by_kind = {kind: [run for run in runs if run.data.tags["kind"] == kind] for kind in ("stage", "train")}
    assert {run.info.run_name for run in by_kind["stage"]} == {"rotation, seed 0", "rotation -> classification, seed 0"}
    for run in by_kind["stage"]:
        stage = Store(sslcurr.runs).find(run.data.tags["key"])
        measured = rows(stage.folder / "metrics.csv")
        assert history(client, run, "loss") == [(int(row["step"]), float(row["loss"])) for row in measured]
        assert history(client, run, "lr") == [(int(row["step"]), float(row["lr"])) for row in measured]
        assert run.info.status == "FINISHED"
        assert run.data.params["seed"] == "0"
        assert run.data.params["epochs"] == "2"
        assert run.data.params["backbone"] == "test_resnet"
    (classified,) = (run for run in by_kind["stage"] if run.data.tags["task"] == "classification")
    epochs = rows(Store(sslcurr.runs).find(classified.data.tags["key"]).folder / "epochs.csv")
    name = next(name for name in epochs[0] if name.startswith("val_"))
    assert [value for _, value in history(client, classified, name)] == [float(row[name]) for row in epochs]
    (found,) = by_kind["train"]
    assert found.info.run_name == "mine"
    kept = client.download_artifacts(found.info.run_id, "train.json")
    assert json.loads(Path(kept).read_text())["stages"][1]["key"] == said["stages"][1]["key"]
    assert found.data.metrics["score"] == pytest.approx(said["downstream"]["balanced_accuracy"])

    plain = Command(tmp_path / "plain")
    without, with_it = (Store(place) for place in (plain.runs, sslcurr.runs))
    for stage in plain.json(*ask)["stages"]:
        first, second = (store.find(stage["key"]).folder / "backbone.safetensors" for store in (without, with_it))
        assert first.read_bytes() == second.read_bytes()
    assert sslcurr("runs", "remove", "mine", "--yes").exit_code == 0  # beside what the tracker keeps
    assert len(of_mlflow(sslcurr.runs)[1]) == 3


def test_a_database_that_was_half_made_is_made_again(data, sslcurr, monkeypatch):
    sslcurr.runs.mkdir()
    with sqlite3.connect(sslcurr.runs / "mlflow.db.new") as half:  # as a kill leaves it
        half.execute("CREATE TABLE review_queues (x INTEGER)")
    half.close()
    result = sslcurr("pretrain", "rotation", *data, "--tracker", "mlflow")
    assert (result.exit_code, "takes nothing" in result.stderr) == (0, False)
    assert len(of_mlflow(sslcurr.runs)[1]) == 2
    assert not (sslcurr.runs / "mlflow.db.new").exists()


@pytest.mark.long
def test_two_workers_write_into_one_database(data, sslcurr):
    ask = ("rank", "rotation", "simsiam", *data, "--seeds", "1", "--measure", "knn")
    sslcurr.json(*ask, "--jobs", "2", "--tracker", "mlflow", "--tracker", "tensorboard")
    _, runs = of_mlflow(sslcurr.runs)
    keys = [run.data.tags["key"] for run in runs if run.data.tags["kind"] == "stage"]
    trained = [stage for stage in Store(sslcurr.runs).all() if stage.spec.task in ("rotation", "simsiam")]
    assert sorted(keys) == sorted(stage.key for stage in trained if (stage.folder / "mlflow.json").is_file())
    assert {"rotation", "simsiam"} <= {run.data.tags["task"] for run in runs if run.data.tags["kind"] == "stage"}
    assert all(list((stage.folder / "tensorboard").iterdir()) for stage in trained)
    (ranked,) = (run for run in runs if run.data.tags["kind"] == "rank")
    assert ranked.data.tags["run"] == sslcurr.json("runs")["runs"][0]["run"]


# ---- the other two


def test_tensorboard_has_the_curves_and_the_result(data, sslcurr):
    document = sslcurr.json("chain", "rotation", *data, "--tracker", "tensorboard")
    stage = Store(sslcurr.runs).find(document["stages"][0]["key"])
    events = EventAccumulator(str(stage.folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [
        int(row["step"]) for row in rows(stage.folder / "metrics.csv")
    ]
    number = sslcurr.json("runs")["runs"][0]["run"]
    result = EventAccumulator(str(sslcurr.runs / "tensorboard" / number)).Reload()
    assert result.Scalars("score")[0].value == pytest.approx(document["downstream"]["balanced_accuracy"])
    assert "train/text_summary" in result.Tags()["tensors"]


def test_wandb_writes_its_files_offline(folder, tmp_path):
    lab = Lab(tmp_path / "runs")
    how = {"backbone": "test_resnet", "stem": "imagenet", "image_size": 16, "epochs": 1, "batch_size": 16}
    result = lab.pretrain("rotation", dataset=str(folder), tracker=["wandb"], **how)
    (stage,) = result.stages
    found = {path.name.split("-", 3)[3]: path for path in (tmp_path / "runs" / "wandb").glob("offline-run-*")}
    assert set(found) == {stage.key, f"run-{lab.runs().runs[0].run}"}
    (written,) = found[stage.key].glob("run-*.wandb")
    assert b"loss" in written.read_bytes()
    again = Lab(tmp_path / "plain").pretrain("rotation", dataset=str(folder), **how)
    paths = [Store(tmp_path / name).find(again.stages[0].key).folder for name in ("runs", "plain")]
    first, second = (load_file(path / "backbone.safetensors") for path in paths)
    assert all(first[name].equal(second[name]) for name in second)


# ---- mistakes and failures


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_fails_is_said_once_and_stops_nothing(name, data, sslcurr, monkeypatch):
    if name == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    else:

        def refused(**how):
            raise ConnectionError("no wire")

        monkeypatch.setattr("wandb.init", refused)
    result = sslcurr("chain", "rotation", *data, "--tracker", name)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count(f"{name} takes nothing") == 1
    assert "the training goes on without it" in " ".join(result.stderr.split())
    assert len(Store(sslcurr.runs).all()) == 2


def test_one_that_fails_in_the_middle_of_a_stage(data, sslcurr, monkeypatch):
    calls = []

    def fails(self, values, step):
        calls.append(step)
        raise OSError("disk full")

    monkeypatch.setattr(trackers.TensorBoardStage, "scalars", fails)
    result = sslcurr("pretrain", "rotation", *data, "--tracker", "tensorboard")
    assert (result.exit_code, len(calls)) == (0, 1)
    assert result.stderr.count("disk full") == 1


def test_mistakes(data, sslcurr, monkeypatch):
    result = sslcurr("pretrain", "rotation", *data, "--tracker", "comet")
    assert result.exit_code == 2
    assert "'comet' is not tensorboard, mlflow, wandb" in " ".join(result.stderr.split())
    with pytest.raises(SpecError, match="unknown tracker 'mlfow'"):
        Runtime(tracker=("mlfow",))
    with pytest.raises(SpecError, match="trackers are several"):
        Lab(sslcurr.runs).pretrain("rotation", tracker="mlflow")

    monkeypatch.setitem(trackers.PACKAGES, "mlflow", "no_such_package_here")
    result = sslcurr("pretrain", "rotation", *data, "--tracker", "mlflow")
    assert result.exit_code == 1
    assert "--tracker mlflow needs the package mlflow" in result.stderr
    assert "pip install 'sslcurr[mlflow]'" in result.stderr
    assert not Store(sslcurr.runs).all()
