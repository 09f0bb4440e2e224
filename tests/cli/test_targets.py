"""Labels that may hold together and numbers through the commands: chain, rank, grid, search, probes, join, explain."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from sslcurr.testing.subject import dataset_for
from tests.conftest import QUICK

KINDS = {"multilabel": ("macro AUROC", "auroc"), "regression": ("R²", "r2")}
TINY = (*QUICK, "--set", "data.test=0.3")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def data(kind, folder):
    return ("--dataset", dataset_for(kind, folder)["dataset"], "--target", kind)


def test_a_chain_of_each_kind_is_trained_reported_and_drawn(kind, data, sslcurr, tmp_path):
    document = sslcurr.json("chain", "rotation", *data, *TINY, "--baseline", "scratch", "--plot", str(tmp_path / "c"))
    assert [stage["task"] for stage in document["stages"]] == ["rotation", kind]
    report, metric = document["downstream"], KINDS[kind][1]
    assert report["target"] == kind
    assert math.isfinite(report[metric])
    assert report["interval"][0] <= report[metric] <= report["interval"][1]
    assert "balanced_accuracy" not in report
    table = pd.read_csv(report["predictions"], keep_default_na=False)
    assert table["value"].mean() == pytest.approx(report[metric])
    difference = report[metric] - document["baseline"][metric]
    assert document["gain"]["mean"] == pytest.approx(difference)
    if kind == "multilabel":
        held = np.array([["worn" in label.split("|")] for label in table["label"]])
        expected = roc_auc_score(held[:, 0], table["probability_worn"])
        assert report["labels"]["worn"]["auroc"] == pytest.approx(expected, abs=1e-4)
        assert report["calibration"]["temperature"] > 0
    else:
        errors = table["prediction"].astype(float) - table["label"].astype(float)
        assert report["mae"] == pytest.approx(errors.abs().mean(), rel=1e-4)
        assert "calibration" not in report
    again = sslcurr("chain", "rotation", *data, *TINY, "--baseline", "scratch")
    assert KINDS[kind][0] in again.stdout
    assert KINDS[kind][0] in sslcurr("runs").stdout


def test_rankings_grids_and_searches_have_the_measure_of_their_kind(kind, data, sslcurr, tmp_path):
    rank = ("rank", "rotation", "simsiam", *data, *TINY, "--length", "2")
    joined = [
        sslcurr.json(*rank, "--seeds", "1", "--seed", str(seed), "--plot", str(tmp_path / f"{seed}")) for seed in (0, 1)
    ]
    whole = sslcurr.json(*rank, "--seeds", "2", "--plot", str(tmp_path / "whole"))
    assert whole["target"] == kind
    run = whole["tasks"][0]["runs"][0]
    assert "balanced_accuracy" not in run
    assert whole["tasks"][0]["mean"] == pytest.approx(np.mean([each["score"] for each in whole["tasks"][0]["runs"]]))
    assert joined[0]["target"] == kind
    document = sslcurr.json("join", *(str(tmp_path / f"{seed}" / "rank.json") for seed in (0, 1)))
    assert document["tasks"] == [
        {**row, "runs": [{**each, "predictions": each["predictions"]} for each in new["runs"]]}
        for row, new in zip(whole["tasks"], document["tasks"], strict=True)
    ]
    shares = ("--ssl-fractions", "1", "--label-fractions", "1,0.5")
    grid = sslcurr.json("grid", "rotation", *data, *TINY, "--seeds", "1", *shares)
    assert (grid["target"], len(grid["cells"])) == (kind, 2)
    looking = (*rank, "--seeds", "2", "--search", "--budget", "1")
    search = sslcurr.json(*looking)
    assert search["target"] == kind
    assert search["ordering"]
    for text in (sslcurr(*rank, "--seeds", "2").stdout, sslcurr(*looking).stdout):
        assert KINDS[kind][0] in text


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_probes_of_each_kind(probe, kind, data, sslcurr):
    document = sslcurr.json("finetune", "--probe", probe, *data, *TINY)
    report = document["downstream"]
    assert math.isfinite(report[KINDS[kind][1]])
    best = report["layers"][report["layer"]]
    assert best["val_score"] == max(layer["val_score"] for layer in report["layers"].values())
    table = sslcurr.json("probe", "random:test_resnet", "--dataset", data[1], "--image-size", "16")
    layer = table["models"][0]["layers"]["pooled"]
    assert table["target"] == kind
    assert math.isfinite(layer[probe]["score"])
    assert layer["logme"] is None


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--set", "classification.epochs=2"), "classification.epochs: the labels of", "give --set"),
        (
            ("--target", "classes", "--label-column", "label,path"),
            "--target classes has one column",
            "leave out --target",
        ),
        (("--target", "several"), "'several' is not classes, multilabel, regression", ""),
    ],
)
def test_mistakes(arguments, message, hint, folder, sslcurr):
    table = dataset_for("multilabel", folder)["dataset"]
    result = sslcurr("chain", "rotation", "--dataset", table, *TINY, *arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert hint in result.stderr


def test_a_table_is_read_as_what_it_is_and_checked(kind, folder, sslcurr):
    table = dataset_for(kind, folder)["dataset"]
    found = sslcurr.json("data", "check", table)
    assert found["target"] == kind
    if kind == "multilabel":
        assert found["classes"] == {"bag": 21, "sandal": 21, "trouser": 21, "worn": 42}
        assert found["images"] == 63
    result = sslcurr("data", "check", table)
    assert result.exit_code == 0
    assert ("label" if kind == "multilabel" else "number") in result.stdout
    assert json.loads(sslcurr("schema", "check").stdout)
