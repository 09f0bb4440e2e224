"""Runs by name, one beside the other, and handed over as a file."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from sslcurr.engine.store import Store
from tests.conftest import QUICK, Command


@pytest.fixture
def data(folder):
    return ("--dataset", str(folder), *QUICK)


@pytest.fixture
def first(data, sslcurr):
    return sslcurr.json(
        "chain", "rotation", *data, "--name", "first", "--note", "to begin with", "--baseline", "scratch"
    )


# ---- names


def test_a_name_stands_where_a_run_or_its_last_stage_does(data, first, sslcurr, tmp_path):
    key = first["stages"][-1]["key"]
    run = sslcurr.json("runs")["runs"][0]
    assert (run["name"], run["note"]) == ("first", "to begin with")
    assert sslcurr.json("runs", "show", "first")["run"] == run["run"]
    shown = sslcurr("runs").stdout
    assert "name" in shown
    assert "first" in shown
    for text in ("first", "last", "last~0", run["run"]):
        predicted = sslcurr.json("predict", text)
        assert predicted["models"] == [f"rotation -> classification, seed 0 ({key[:8]})"]
    following = sslcurr.json("pretrain", "simsiam", "--from", "first", "--epochs", "1", "--batch-size", "16")
    assert Store(sslcurr.runs).find(following["stages"][0]["key"]).spec.parent == key
    assert sslcurr.json("runs", "show", "last")["title"].endswith("simsiam")
    assert sslcurr.json("runs", "show", "last~1")["run"] == run["run"]
    ranking = sslcurr.json("rank", "rotation", "simsiam", *data, "--seeds", "1", "--name", "ranking")
    assert sslcurr.json("explain", "ranking")["dataset"] == ranking["dataset"]
    assert sslcurr("report", "--run", "ranking", "--table", "rank").exit_code == 0
    again = sslcurr.json("chain", "rotation", *data, "--baseline", "scratch")  # asked for without a name: it keeps it
    assert again["stages"][0]["reused"]
    assert sslcurr.json("runs", "show", "first")["note"] == "to begin with"
    forgotten = json.loads(sslcurr("runs", "remove", "first", "--yes", "--json").stdout)["forgotten"]
    assert forgotten == [run["run"]]
    assert sslcurr("runs", "show", "first").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chain", "simsiam", "--name", "first"), "the name first is that of the run"),
        (("chain", "simsiam", "--name", "last"), "'last' is no name for a run"),
        (("chain", "simsiam", "--name", "abcd12"), "'abcd12' is no name for a run"),
        (("chain", "simsiam", "--name", "a b"), "'a b' is no name for a run"),
        (("chain", "simsiam", "--from", "nobody"), "'nobody' is no file, no run or stage"),
    ],
)
def test_names_that_cannot_be(arguments, message, data, first, sslcurr):
    before = len(Store(sslcurr.runs).all())
    result = sslcurr(*arguments, *data)
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    assert len(Store(sslcurr.runs).all()) == before


def test_runs_that_are_not_there(data, first, sslcurr):
    assert "there is no run last~4" in sslcurr("runs", "show", "last~4").stderr
    assert "there is no run 'frist'" in sslcurr("runs", "compare", "first", "frist").stderr
    sslcurr.json("rank", "rotation", "simsiam", *data, "--seeds", "1", "--name", "many")
    hint = "hint: give last~1 (rotation -> classification), or the key of a stage: sslcurr runs --stages"
    for words in (("continue", "many"), ("cka", "last", "random"), ("predict", "last", "x"), ("export", "many")):
        lines = sslcurr(*words).stderr.splitlines()
        assert lines[0].startswith("error: the run ")
        assert "is no chain, and has no model of its own" in lines[0]
        assert lines[1] == hint


# ---- compare


def test_two_runs_beside_each_other(data, first, sslcurr):
    second = sslcurr.json(
        *("chain", "rotation", *data, "--name", "second", "--set", "classification.mixup=0.4", "--seed", "1"),
        *("--fraction", "0.5"),
    )
    document = sslcurr.json("runs", "compare", "first", "second")
    settings = {each["setting"]: each["values"] for each in document["settings"]}
    assert settings["classification.mixup"] == [None, "0.4"]
    assert settings["seed"] == ["0", "1"]
    assert settings["data.fraction"][1] == "0.5, 1.0"
    assert not any("lr" in name for name in settings)
    (chain,) = document["chains"]
    tables = [pd.read_csv(each["downstream"]["predictions"]) for each in (first, second)]
    right = [(table["label"] == table["prediction"]).groupby(table["label"]).mean().mean() for table in tables]
    assert chain["measured"] == pytest.approx(right)
    assert chain["difference"]["mean"] == pytest.approx(right[1] - right[0])
    assert chain["difference"]["told_apart"] is False
    shown = sslcurr("runs", "compare", "first", "second").stdout
    assert "classification.mixup" in shown
    assert "which tells nothing apart" in shown
    same = sslcurr.json("runs", "compare", "first", "first")
    assert same["settings"] == []
    assert same["chains"][0]["difference"]["mean"] == 0


def test_rankings_are_compared_chain_by_chain(data, first, sslcurr):
    rankings = {}
    for name, rate in (("a", "0.01"), ("b", "0.1")):
        rankings[name] = sslcurr.json(
            "rank", "rotation", "simsiam", *data, "--seeds", "2", "--name", name, "--set", f"rotation.lr={rate}"
        )
    document = sslcurr.json("runs", "compare", "a", "b")
    assert {each["chain"] for each in document["chains"]} == {"scratch", "rotation", "simsiam"}
    by_name = {each["chain"]: each["difference"] for each in document["chains"]}
    assert by_name["simsiam"]["mean"] == by_name["scratch"]["mean"] == 0
    assert by_name["rotation"]["num_seeds"] == 2
    mixed = sslcurr.json("runs", "compare", "first", "a")
    (rotation,) = (each for each in mixed["chains"] if each["chain"] == "rotation")
    ranked = next(task for task in rankings["a"]["tasks"] if task["task"] == "rotation")
    assert rotation["seeds"] == [[0]]  # what both have, though the ranking has two
    assert rotation["measured"][1] == pytest.approx(ranked["runs"][0]["balanced_accuracy"])
    assert rotation["difference"]["mean"] == pytest.approx(rotation["measured"][1] - rotation["measured"][0])
    sslcurr.json("chain", "rotation", *data, "--name", "other", "--set", "data.seed=3")
    assert "not tested on the same images" in sslcurr.json("runs", "compare", "first", "other")["reason"]
    sslcurr.json("pretrain", "simsiam", *data, "--name", "alone")
    assert "tested no chain" in sslcurr("runs", "compare", "first", "alone").stdout


def test_chains_starts_and_rates_that_were_found_are_settings(data, first, sslcurr):
    for name, tasks in (("ab", ("rotation", "simsiam")), ("ba", ("simsiam", "rotation"))):
        sslcurr.json("chain", *tasks, *data, "--name", name)
    sslcurr.json("continue", "first", "--name", "on")
    searched = (*data, "--lr", "search", "--set", "search.trials=2")
    found = sslcurr.json("chain", "rotation", *searched, "--name", "searched")

    def settings(*names):
        document = sslcurr.json("runs", "compare", *names)
        return {each["setting"]: each["values"] for each in document["settings"]}

    assert settings("ab", "ba")["chain"] == [
        "rotation -> simsiam -> classification",
        "simsiam -> rotation -> classification",
    ]
    assert settings("first", "on")["chain"][1] == "rotation -> classification -> classification"
    values = settings("first", "searched")
    rate = Store(sslcurr.runs).find(found["stages"][0]["key"]).record.lr
    assert values["rotation.lr"][1] == str(rate)
    assert values["rotation.search.trials"] == [None, "2"]
    assert not any("config" in name or name == "rotation.low" for name in values)


# ---- a file


def test_a_run_goes_on_elsewhere_with_the_same_bytes(data, first, sslcurr, tmp_path):
    file = tmp_path / "run.zip"
    written = sslcurr.json("runs", "export", "first", "--out", str(file), "--packs")
    assert (written["num_stages"], written["packs"]) == (3, True)
    there = Command(tmp_path / "there")
    taken = there.json("runs", "import", str(file))
    assert (taken["run"], taken["num_there"]) == (written["run"], 0)
    moved = tmp_path / "moved"  # nothing of the first store is needed
    Path(sslcurr.runs).rename(moved)
    for path in sorted(moved.rglob("*")):
        other = tmp_path / "there" / path.relative_to(moved)
        if path.is_file() and path.suffix not in (".lock",) and not {"results", "using"}.intersection(path.parts):
            assert other.read_bytes() == path.read_bytes(), path
    again = there.json("chain", "rotation", *data, "--baseline", "scratch")
    assert all(stage["reused"] for stage in again["stages"])
    assert there.json("predict", "first")["num_images"] == again["downstream"]["num_images"]
    assert there.json("runs", "compare", "first", "last")["chains"][0]["difference"]["mean"] == 0
    following = ("pretrain", "simsiam", "--from", "first", "--epochs", "1", "--batch-size", "16", "--threads", "1")
    ours = there.json(*following)
    moved.rename(sslcurr.runs)
    theirs = sslcurr.json(
        "pretrain", "simsiam", "--from", "first", "--epochs", "1", "--batch-size", "16", "--threads", "1"
    )
    assert ours["stages"][0]["key"] == theirs["stages"][0]["key"]
    weights = [Path(each["stages"][0]["checkpoint"]).read_bytes() for each in (ours, theirs)]
    assert weights[0] == weights[1]


def test_without_packs_the_images_are_packed_again(data, first, sslcurr, tmp_path):
    file = tmp_path / "run.zip"
    small = sslcurr.json("runs", "export", "last", "--out", str(file))
    assert not small["packs"]
    there = Command(tmp_path / "there")
    there.json("runs", "import", str(file))
    again = there.json("chain", "rotation", *data, "--baseline", "scratch")
    assert all(stage["reused"] for stage in again["stages"])
    assert again["downstream"]["balanced_accuracy"] == first["downstream"]["balanced_accuracy"]


def changed(file, out, name, content):
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for each in old.namelist():
            new.writestr(each, content if each.endswith(name) else old.read(each))
    return out


def test_files_that_are_not_whole_are_refused_and_leave_nothing(first, sslcurr, tmp_path, monkeypatch):
    file = tmp_path / "run.zip"
    sslcurr.json("runs", "export", "first", "--out", str(file))
    there = Command(tmp_path / "there")
    with zipfile.ZipFile(file) as archive:
        about = json.loads(archive.read("sslcurr.json"))
    evil = {**about, "files": {**about["files"], "stages/../../evil.txt": "0" * 64}}
    cases = {
        "cut.zip": "cannot read",
        "weights.zip": "is not what was written",
        "evil.zip": "which no run has",
        "other.zip": "was not written by sslcurr runs export",
        "newer.zip": "which is newer",
    }
    (tmp_path / "cut.zip").write_bytes(file.read_bytes()[:5000])
    changed(file, tmp_path / "weights.zip", "head.safetensors", b"x")
    changed(file, tmp_path / "evil.zip", "sslcurr.json", json.dumps(evil))
    changed(file, tmp_path / "other.zip", "sslcurr.json", "{}")
    changed(file, tmp_path / "newer.zip", "sslcurr.json", json.dumps({**about, "format": 9}))
    for name, message in cases.items():
        result = there("runs", "import", str(tmp_path / name))
        assert (result.exit_code, message in result.stderr) == (1, True), (name, result.stderr)
        assert "hint: " in result.stderr
        left = [path for path in (tmp_path / "there").rglob("*") if path.is_file() and path.name != ".sslcurr"]
        assert left == []
    for error in (EOFError(), MemoryError()):  # of a damaged directory of the archive
        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, "open", mock.Mock(side_effect=error))
            result = there("runs", "import", str(file))
        assert result.exit_code == 1
        assert "cannot read" in result.stderr
    there.json("runs", "import", str(file))
    result = there("runs", "import", str(file))
    assert "has the run" in result.stderr
    shutil.rmtree(tmp_path / "there" / "runs")
    weights = next((tmp_path / "there" / "stages").glob("*/backbone.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"?")
    assert "with other content" in there("runs", "import", str(file)).stderr


def test_a_half_done_stage_goes_with_its_last_save(data, sslcurr, tmp_path, monkeypatch):
    from sslcurr.engine import train
    from sslcurr.testing.checks import killed_at

    call = ("pretrain", "rotation", *data, "--epochs", "3", "--save-minutes", "0", "--threads", "1")
    with monkeypatch.context() as patch:
        patch.setattr(train, "one_step", killed_at(train.one_step, 7))
        sslcurr(*call)
    file = tmp_path / "half.zip"
    written = sslcurr.json("runs", "export", "last", "--out", str(file))
    assert written["num_stages"] == 0
    there = Command(tmp_path / "there")
    there.json("runs", "import", str(file))
    assert list((tmp_path / "there" / "stages").glob("*.part/resume.pt"))
    ours, theirs = there.json(*call)["stages"][0], sslcurr.json(*call)["stages"][0]
    assert Path(ours["checkpoint"]).read_bytes() == Path(theirs["checkpoint"]).read_bytes()
    log = (Path(ours["checkpoint"]).parent / "metrics.csv").read_text()
    assert np.isfinite(pd.read_csv(Path(ours["checkpoint"]).parent / "metrics.csv")["loss"]).all()
    assert log.count("\n") == 10


def test_a_name_that_means_nothing_elsewhere_is_said(data, first, sslcurr, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sslcurr", "pretrain", "simsiam", "--from", "first"])
    sslcurr.json("pretrain", "simsiam", *data, "--from", "first", "--name", "next")
    result = sslcurr("runs", "export", "next", "--out", str(tmp_path / "a.zip"))
    assert "its command names the run first, which is not in the file" in " ".join(result.stderr.split())
    assert first["stages"][-1]["key"] in "".join(result.stderr.split())


def test_a_refused_file_leaves_no_store(tmp_path):
    (tmp_path / "a.zip").write_text("no zip")
    command = Command(tmp_path / "new")
    assert command("runs", "import", str(tmp_path / "a.zip")).exit_code == 1
    assert not command.runs.exists()
