"""Cross-validation: `--folds`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from sslcurr.data.contents import contents_of, known_among
from sslcurr.data.pack import load_pack
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.testing.subject import dataset_for
from tests.conftest import QUICK

FOLDS = ("--folds", "3")


@pytest.fixture
def data(folder):
    return ("--dataset", str(folder), *QUICK)


def stages_of(runs, task):
    return [stage for stage in Store(runs).all() if stage.spec.task == task]


def test_every_image_is_tested_by_a_chain_that_did_not_see_it(data, sslcurr, tmp_path):
    call = ("chain", "rotation", *data, *FOLDS, "--baseline", "scratch")
    document = sslcurr.json(*call, "--plot", str(tmp_path / "charts"))
    assert [stage["task"] for stage in document["stages"]] == ["rotation", "classification"] * 3
    report = document["downstream"]
    table = pd.read_csv(report["predictions"])
    assert (report["split"], report["num_images"], len(table)) == ("out-of-fold", 63, 63)
    assert table["path"].is_unique
    assert report["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(table["label"], table["prediction"]))
    for fold in report["folds"]:
        own = table[table["fold"] == fold["fold"]]
        assert fold["num_images"] == len(own) == 21
        assert fold["score"] == pytest.approx(balanced_accuracy_score(own["label"], own["prediction"]))
    tested = []
    for stage in stages_of(sslcurr.runs, "classification"):
        pack = load_pack(Store(sslcurr.runs).packs / stage.spec.data.pack.rpartition("/")[2])
        rows = select(stage.spec.data, labelled=True, pack=pack).rows
        contents = contents_of(pack.folder)
        for seen in Store(sslcurr.runs).all():
            if seen.spec.data.fold == stage.spec.data.fold:
                assert not known_among(contents[rows["test"]], np.load(seen.folder / "images.npy")).any()
        tested.append(set(rows["test"].tolist()))
        names = {pack.names[row] for row in rows["test"]}
        assert names == set(table["path"][table["fold"] == stage.spec.data.fold])
    assert len(set.union(*tested)) == 63
    gain = document["gain"]
    assert gain["mean"] == pytest.approx(report["balanced_accuracy"] - document["baseline"]["balanced_accuracy"])
    assert gain["interval"][0] < gain["mean"] < gain["interval"][1]
    shown = sslcurr(*call).stdout
    assert "63 out-of-fold images" in shown
    assert "folds of rotation -> classification" in shown
    assert "3 folds" in sslcurr("runs").stdout
    assert list((tmp_path / "charts").glob("*.png"))


@pytest.mark.parametrize(("kind", "metric"), [("multilabel", "auroc"), ("regression", "r2")])
def test_of_other_targets_folds_are_measured_by_themselves(kind, metric, folder, sslcurr):
    data = ("--dataset", dataset_for(kind, folder)["dataset"], "--target", kind, *QUICK)
    report = sslcurr.json("finetune", *data, *FOLDS)["downstream"]
    table = pd.read_csv(report["predictions"], keep_default_na=False)
    scores = [fold["score"] for fold in report["folds"]]
    sizes = [fold["num_images"] for fold in report["folds"]]
    assert report[metric] == pytest.approx(table["value"].mean())
    for number, score in enumerate(scores):
        own = table[table["fold"] == number]
        if kind == "multilabel":
            labels = [name.removeprefix("probability_") for name in own.columns if name.startswith("probability_")]
            held = np.array([[name in label.split("|") for name in labels] for label in own["label"]])
            measured = [
                roc_auc_score(held[:, place], own[f"probability_{name}"])
                for place, name in enumerate(labels)
                if 0 < held[:, place].sum() < len(own)
            ]
            assert score == pytest.approx(np.mean(measured), abs=1e-3)
        else:
            true, foretold = own["label"].astype(float), own["prediction"].astype(float)
            expected = 1 - ((true - foretold) ** 2).mean() / true.var(ddof=0)
            assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)
    if kind == "regression":
        assert report[metric] == pytest.approx(np.average(scores, weights=sizes), abs=1e-4)


def test_frozen_features_and_rankings_have_folds(data, sslcurr):
    probe = sslcurr.json("finetune", *data, *FOLDS, "--probe", "knn")["downstream"]
    assert probe["num_images"] == 63
    rank = ("rank", "rotation", "simsiam", *data, *FOLDS, "--seeds", "1", "--length", "2")
    planned = sslcurr.json(*rank, "--dry-run")
    assert len(planned["stages"]) == 3 * (4 + 5)
    assert "scratch  (classification 0 of 3)" in sslcurr(*rank, "--dry-run").stdout
    document = sslcurr.json(*rank)
    assert (document["split"], document["num_images"], len(document["orderings"])) == ("out-of-fold", 63, 2)
    assert document["best"]["on_out_of_fold"]["mean"] is not None
    assert "on_validation" not in document["best"]
    assert "--folds 3" in document["command"]
    assert "data.folds" not in document["command"]
    assert len(stages_of(sslcurr.runs, "simsiam")) == 6
    one = document["tasks"][0]
    chain = sslcurr.json("chain", one["task"], *data, *FOLDS)
    assert all(stage["reused"] for stage in chain["stages"])
    assert chain["downstream"]["balanced_accuracy"] == pytest.approx(one["mean"])
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}


@pytest.mark.long
def test_rankings_in_folds_are_joined(data, sslcurr, tmp_path):
    rank = ("rank", "rotation", "simsiam", *data, *FOLDS, "--seeds", "1", "--length", "2")
    for seed in ("0", "1"):
        sslcurr.json(*rank, "--seed", seed, "--plot", str(tmp_path / seed))
    whole = sslcurr.json(*rank[:-4], "--seeds", "2", "--length", "2")
    joined = sslcurr.json("join", *(str(tmp_path / seed / "rank.json") for seed in ("0", "1")))
    for name in ("mean", "interval", "gain"):
        assert [row[name] for row in joined["tasks"]] == [row[name] for row in whole["tasks"]]
    assert sslcurr("explain", str(tmp_path / "0" / "rank.json")).exit_code == 0


@pytest.mark.long
def test_in_several_processes_and_by_workers_the_same_comes_out(data, sslcurr, tmp_path):
    call = ("chain", "rotation", *data, *FOLDS, "--threads", "1")
    alone = sslcurr.json(*call, "--runs", str(tmp_path / "alone"))
    several = sslcurr.json(*call, "--runs", str(tmp_path / "several"), "--jobs", "2")
    queued = sslcurr.json(*call, "--runs", str(tmp_path / "queued"), "--plan-only")
    assert queued["jobs"] == 9  # three pretext stages, three classifications, three reports
    assert sslcurr("work", "--until-idle", "--runs", str(tmp_path / "queued"), "--threads", "1").exit_code == 0
    worked = sslcurr.json(*call, "--runs", str(tmp_path / "queued"))
    for other in (several, worked):
        for name in ("balanced_accuracy", "interval", "folds", "auroc"):
            assert other["downstream"][name] == alone["downstream"][name]
    assert all(stage["reused"] for stage in worked["stages"])


def test_a_stage_of_a_fold_is_predicted_on_its_own_test_images(data, sslcurr):
    sslcurr.json("finetune", *data, *FOLDS)
    stage = next(each for each in stages_of(sslcurr.runs, "classification") if each.spec.data.fold == 2)
    document = sslcurr.json("predict", stage.key)
    assert document["num_images"] == 21
    found = sslcurr.json("finetune", *data, *FOLDS)["downstream"]["folds"][2]["score"]
    assert document["report"]["balanced_accuracy"] == found


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("chain", "rotation", "--folds", "1"), "folds are 3 to 20, got 1", "--folds 5"),
        (("chain", "rotation", "--folds", "3", "--no-finetune"), "--no-finetune tests nothing", "leave out one"),
        (("chain", "rotation", "--folds", "3", "--set", "data.fold=1"), "--set names one", "leave out --folds"),
        (("chain", "rotation", "--set", "data.fold=1"), "there is no fold 1 of 0", "numbered from 0"),
        (("rank", "rotation", "simsiam", "--folds", "3", "--search"), "a search has none", "leave it out"),
        (("rank", "rotation", "--folds", "3", "--over", "epochs=1,2"), "--over has none", "leave it out"),
        (("grid", "rotation", "--folds", "3"), "No such option", ""),
    ],
)
def test_mistakes(arguments, message, hint, data, sslcurr):
    result = sslcurr(*arguments, *data)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert hint in result.stderr
    assert not Store(sslcurr.runs).all()


def test_given_splits_have_no_folds(folder, sslcurr, tmp_path):
    rows = [
        f"{path},{path.parent.name},{'test' if number % 5 == 0 else 'train'}"
        for number, path in enumerate(sorted(folder.glob("*/*.png")))
    ]
    table = tmp_path / "given.csv"
    table.write_text("\n".join(["path,label,split", *rows]))
    result = sslcurr("finetune", "--dataset", str(table), *QUICK, *FOLDS)
    assert "folds divide all images" in result.stderr
    assert "--split-column none" in result.stderr
    assert sslcurr("finetune", "--dataset", str(table), "--split-column", "none", *QUICK, *FOLDS).exit_code == 0


def test_the_auroc_of_classes_is_that_within_folds(data, sslcurr):
    report = sslcurr.json("finetune", *data, *FOLDS)["downstream"]
    table = pd.read_csv(report["predictions"])
    each = []
    for name in report["classes"]:
        for _, own in table.groupby("fold"):
            area = roc_auc_score(own["label"] == name, own[f"probability_{name}"])
            each.append((area, len(own)))
    areas, sizes = zip(*each, strict=True)
    assert report["auroc"] == pytest.approx(np.average(areas, weights=sizes), abs=1e-4)


def test_a_stage_of_one_split_cannot_be_cross_validated(data, sslcurr):
    stage = sslcurr.json("pretrain", "rotation", *data)["stages"][0]
    result = sslcurr("finetune", stage["key"], *data, *FOLDS)
    assert result.exit_code == 1
    assert "cannot be cross-validated" in result.stderr
