"""Ranking tasks, measuring orderings, the automatic curriculum and the grid of sizes, as a person runs them."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from sslcurr.analysis.experiments import hypothesis
from sslcurr.analysis.experiments.beam import BeamSearch
from sslcurr.analysis.experiments.chains import Chains, FailedChain, MeasuredChain
from sslcurr.analysis.experiments.forecast import forecast
from sslcurr.analysis.experiments.grid import cells_of, check_fractions
from sslcurr.analysis.experiments.orderings import classify, orderings_of
from sslcurr.analysis.experiments.ranking import Results, document_of
from sslcurr.analysis.experiments.search_settings import SearchSettings
from sslcurr.analysis.experiments.search_settings import forecast as forecast_search
from sslcurr.analysis.measures.intervals import Images
from sslcurr.api.orderings import command_of
from sslcurr.api.session import Session
from sslcurr.engine import cost, train
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Pooling, Runtime
from sslcurr.spec.stage import LrSearch, key_of
from tests.cli.test_cli import start, wait_for
from tests.conftest import Command
from tests.kill import kill_at

TINY = ("--backbone", "test_resnet", "--stem", "imagenet", "--image-size", "16", "--epochs", "1", "--batch-size", "16")
BEAM = ("--strategy", "beam")
TASKS = ("rotation", "relative-location", "simsiam")
FEWER = ("--set", "simsiam.hidden=16", "--set", "simsiam.dim=16")
FEW = ("--set", "relative-location.hidden=16", *FEWER)


@pytest.fixture
def tiny(folder):
    return ("--dataset", str(folder), *TINY)


def stages_in(runs: Path) -> Counter:
    found = [json.loads(path.read_text())["task"] for path in runs.glob("stages/*/stage.json")]
    return Counter(found)


# ---- the ranking


def test_rank_orders_tasks_by_their_mean_and_prints_the_chain(sslcurr, tiny, tmp_path, monkeypatch):
    document = sslcurr.json("rank", *TASKS, "--seeds", "2", *tiny, *FEW)
    assert stages_in(sslcurr.runs) == {"rotation": 2, "relative-location": 2, "simsiam": 2, "classification": 8}
    assert {"tasks", "curriculum", "ties", "command"} <= set(document)
    means = [row["mean"] for row in document["tasks"]]
    assert means == sorted(means)
    assert document["curriculum"] == [row["task"] for row in document["tasks"]]
    assert set(document["curriculum"]) == set(TASKS)
    for row in [*document["tasks"], document["baselines"]["scratch"]]:
        values = []
        for run, seed in zip(row["runs"], (0, 1), strict=True):
            assert run["seed"] == seed
            table = pd.read_csv(run["predictions"])
            values.append((table.label == table.prediction).groupby(table.label).mean().mean())
            assert run["balanced_accuracy"] == pytest.approx(values[-1])
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["std"] == pytest.approx(np.std(values, ddof=1))
        assert row["interval"][0] <= row["mean"] <= row["interval"][1]
    first, scratch = document["tasks"][0], document["baselines"]["scratch"]
    assert first["gain"]["mean"] == pytest.approx(first["mean"] - scratch["mean"])
    assert first["gain"]["interval"][0] <= first["gain"]["mean"] <= first["gain"]["interval"][1]
    assert all(row["gain"].keys() == {"mean", "interval", "num_seeds", "told_apart"} for row in document["tasks"])
    assert first["gain"]["num_seeds"] == 2

    # Every prediction is written, and the page on statistics says how to judge them again.
    monkeypatch.chdir(tmp_path)
    drawn = sslcurr.json("rank", *TASKS, "--seeds", "2", *tiny, *FEW, "--plot", "charts")
    assert str(Path("charts/predictions.parquet")) in [str(Path(path)) for path in drawn["files"]]
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    for row in [*document["tasks"], {"task": "scratch", **document["baselines"]["scratch"]}]:
        assert names["judged"].interval(row["task"]) == pytest.approx(row["interval"])

    # The command is the curriculum's chain, and finds what was trained.
    words = shlex.split(document["command"])
    assert words[:5] == ["sslcurr", "chain", *document["curriculum"]]
    chain = sslcurr.json(*words[1:])
    assert [stage["task"] for stage in chain["stages"]] == [*document["curriculum"], "classification"]
    assert [stage["reused"] for stage in chain["stages"]] == [True, False, False, False]
    assert chain["stages"][0]["key"] in {
        stage["asked"]["parent"] for stage in sslcurr.json(*words[1:], "--dry-run")["stages"]
    }


def test_the_command_leaves_out_what_other_tasks_were_asked_for():
    settings = ["simsiam.lr=search", "search.trials=3", "rotation.epochs=2", "data.val=0.2"]
    shared = Session(
        runs=Path("runs"),
        request=Request(dataset="images", seed=3, lr_pruner="asha", settings=tuple(settings)),
        runtime=Runtime(),
        pooling=Pooling(),
        reporter=Reporter(),
        invocation=(),
    )
    assert command_of(shared, ["rotation"], "abcd").split()[:5] == ["sslcurr", "chain", "rotation", "--from", "abcd"]
    assert command_of(shared, ["rotation"], None).split()[3:] == (
        ["--dataset", "images", "--seed", "3", "--set", "rotation.epochs=2", "--set", "data.val=0.2"]
    )
    both = command_of(shared, ["rotation", "simsiam"], None)
    assert "--lr-pruner asha" in both
    assert "--set simsiam.lr=search --set search.trials=3" in both


def test_all_orderings_train_every_stage_once_and_again_nothing(sslcurr, tiny):
    ask = ("rank", *TASKS, "--seeds", "1", "--length", "3", *tiny, *FEW)
    plan = sslcurr.json(*ask, "--dry-run")
    assert plan["pretraining_stages"] == {"alone": 3 + 2 * 6 + 3 * 6, "shared": 3 + 6 + 6}
    assert plan["chains"] == 1 + 3 + 6 + 6
    assert plan["there"] == 0
    assert set(plan["images_per_second"]) == {*TASKS, "classification"} == set(plan["measured_now"])
    assert plan["hours"] > 0
    assert not (sslcurr.runs / "stages").exists()

    document = sslcurr.json(*ask)
    assert stages_in(sslcurr.runs) == dict.fromkeys(TASKS, 5) | {"classification": 16}
    keys = {path.parent.name for path in sslcurr.runs.glob("stages/*/done.json")}
    assert keys == {stage["key"] for stage in plan["stages"]}
    rows = document["orderings"]
    assert [len(row["ordering"]) for row in rows] == [2] * 6 + [3] * 6
    singles = {row["task"]: row["mean"] for row in document["tasks"]}
    for row in rows:
        kind = classify(row["ordering"], singles)
        assert (row["kind"], row["full"]) == (kind.order, kind.full)
    for length in (2, 3):
        block = [row for row in rows if len(row["ordering"]) == length]
        best = max(row["mean"] for row in block)
        assert [row["mean"] == best for row in block] == [row["best"] for row in block]
    tests = document["hypothesis"]["permutation"]
    assert [test["p_value"] for test in tests] == [None, None]
    assert {test["reason"] for test in tests} == {hypothesis.ONE_SEED}
    assert document["hypothesis"]["kendall"] == []
    assert document["ties"] == [document["curriculum"]]  # one seed tells nothing apart
    everything = [{"ordering": [row["task"]], **row} for row in document["tasks"]] + rows
    assert document["best"]["num_chains"] == 15
    assert document["best"]["on_test"]["mean"] == max(row["mean"] for row in everything)
    assert document["best"]["on_validation"]["validation"] == max(row["validation"] for row in everything)

    stamps = {path: path.stat().st_mtime_ns for path in sslcurr.runs.glob("stages/*/done.json")}
    assert sslcurr.json(*ask) == document
    assert stamps == {path: path.stat().st_mtime_ns for path in sslcurr.runs.glob("stages/*/done.json")}
    plan = sslcurr(*ask, "--dry-run")
    assert "18 one by one" not in plan.stdout
    assert "33 one by one, 15 with shared prefixes" in plan.stdout
    assert "31 stages in all, 31 there already" in plan.stdout
    assert "images/s" not in plan.stdout
    text = sslcurr(*ask).stdout
    for piece in ("kind", "best of 15", "curricula against", "curriculum: ", "sslcurr chain "):
        assert piece in text


def test_curriculum_and_anti_are_trained_once_they_are_known(sslcurr, tiny):
    ask = ("rank", *TASKS, "--seeds", "1", "--orderings", "curriculum,anti", "--orderings", "simsiam,rotation", *tiny,
           *FEW)  # fmt: skip
    plan = sslcurr(*ask, "--dry-run")
    assert "is known when each task was trained alone" in plan.stdout
    document = sslcurr.json(*ask)
    orderings = [row["ordering"] for row in document["orderings"]]
    assert ["simsiam", "rotation"] in orderings
    assert document["curriculum"] in orderings
    assert document["curriculum"][::-1] in orderings
    assert len(orderings) == 3
    kinds = {tuple(row["ordering"]): row["kind"] for row in document["orderings"]}
    assert kinds[tuple(document["curriculum"])] in ("curriculum", "tied")
    assert "is known when" not in sslcurr(*ask, "--dry-run").stdout


@pytest.mark.parametrize("measure", ["knn", "linear"])
def test_cheap_measures_train_no_classification(sslcurr, tiny, measure):
    document = sslcurr.json("rank", "rotation", "simsiam", "--measure", measure, "--layers", "layer*", "--seeds", "2",
                            *tiny, *FEWER)  # fmt: skip
    assert stages_in(sslcurr.runs) == {"rotation": 2, "simsiam": 2}
    assert document["measure"] == measure
    runs = [run for row in document["tasks"] for run in row["runs"]]
    assert len({run["predictions"] for run in runs}) == 4
    for run in runs:
        report = json.loads((Path(run["predictions"]).parent / "done.json").read_text())
        assert all(layer.startswith("layer") for layer in report["layers"])
        assert run["validation"] == report["layers"][report["layer"]]["val_balanced_accuracy"]
    assert document["baselines"]["scratch"]["runs"][0]["key"] is None


def test_weights_to_compare_with_and_to_start_from(sslcurr, tiny, tmp_path):
    other = sslcurr.json("pretrain", "rotation", *tiny, "--seed", "5")["stages"][0]["checkpoint"]
    document = sslcurr.json("rank", "simsiam", "--imagenet", other, "--seeds", "2", *tiny, *FEWER)
    assert list(document["baselines"]) == ["scratch", "ImageNet"]
    (row,) = document["tasks"]
    imagenet = document["baselines"]["ImageNet"]["mean"]
    assert row["gain_over_imagenet"]["mean"] == pytest.approx(row["mean"] - imagenet)
    text = sslcurr("rank", "simsiam", "--imagenet", other, "--seeds", "2", *tiny, *FEWER).stdout
    assert "over ImageNet" in text
    begun = sslcurr("rank", "simsiam", "--from", other, "--seeds", "1", "--dry-run", *tiny, *FEWER).stdout
    assert begun.startswith("start ")
    started = sslcurr.json("rank", "simsiam", "--from", other, "--seeds", "1", *tiny, *FEWER)
    assert f"--from {other}" in started["command"]
    asked = json.loads((sslcurr.runs / "stages" / started["tasks"][0]["runs"][0]["key"] / "stage.json").read_text())
    assert asked["lineage"] == ["rotation", "simsiam"]
    assert list(started["baselines"]) == ["start"]
    found = sslcurr.json("rank", "simsiam", "rotation", "--search", "--budget", "1", "--from", other, "--seeds", "1",
                         *tiny, *FEWER)  # fmt: skip
    assert f"--from {other}" in found["command"]
    wrong = sslcurr("rank", "simsiam", "--imagenet", other, *tiny, "--backbone", "resnet18")
    assert wrong.exit_code == 1
    assert "--imagenet are of another network" in wrong.stderr


def test_a_run_of_rank_keeps_what_it_needs(sslcurr, tiny):
    sslcurr.json("rank", "rotation", "--seeds", "2", *tiny)
    (record,) = sslcurr.json("runs")["runs"]
    assert record["finished"]
    assert len(record["stages"]) == 6
    assert len(record["analyses"]) == 4
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}
    removed = sslcurr.json("runs", "remove", record["run"], "--yes")["removed"]
    assert sum("/stages/" in path and not path.endswith(".lock") for path in removed) == 6


def test_stages_that_lead_to_finished_ones_may_be_removed(sslcurr, tiny):
    ask = ("rank", "rotation", "simsiam", "--seeds", "1", "--orderings", "pairs", *tiny, *FEWER)
    document = sslcurr.json(*ask)
    for path in sslcurr.runs.glob("stages/*/stage.json"):
        if json.loads(path.read_text())["task"] != "classification":
            for file in path.parent.iterdir():
                file.unlink()
            path.parent.rmdir()
    assert sslcurr.json(*ask) == document
    assert stages_in(sslcurr.runs) == {"classification": 5}


# ---- stopped, failed


def test_a_failed_stage_is_marked_and_the_rest_goes_on(sslcurr, tiny):
    ask = ("rank", *TASKS, "--seeds", "2", "--orderings", "pairs", *tiny, *FEW, "--set", "simsiam.lr=1e30")
    result = sslcurr(*ask, "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["curriculum"] == [row["task"] for row in document["tasks"]]
    assert set(document["curriculum"]) == {"rotation", "relative-location"}
    assert sorted(row["ordering"] for row in document["orderings"]) == sorted(
        [document["curriculum"], document["curriculum"][::-1]]
    )
    assert "simsiam" not in document["command"]
    assert {tuple(failure["ordering"]) for failure in document["failed"]} == {("simsiam",)}
    assert {failure["seed"] for failure in document["failed"]} == {0, 1}
    assert all("not finite" in failure["reason"] for failure in document["failed"])
    text = sslcurr(*ask)
    assert text.exit_code == 3
    assert "failed: simsiam, seed 0: the loss of simsiam is not finite" in text.stdout
    assert not sslcurr.json("runs")["runs"][0]["finished"]


def test_a_chain_over_a_failed_stage_fails_with_its_reason(sslcurr, tiny):
    result = sslcurr("rank", "rotation", "simsiam", "--seeds", "1", "--orderings", "rotation,simsiam", *tiny, *FEWER,
                     "--set", "rotation.lr=1e30", "--json")  # fmt: skip
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["curriculum"] == ["simsiam"]
    assert "orderings" not in document
    assert "orderings with rotation are left out: alone it failed at every seed" in result.stderr


def test_nothing_left_to_rank_is_no_crash(sslcurr, tiny):
    result = sslcurr("rank", "rotation", "--seeds", "1", *tiny, "--set", "rotation.lr=1e30", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["tasks"], document["curriculum"], document["command"]) == ([], [], None)
    assert sslcurr("rank", "rotation", "--seeds", "1", *tiny, "--set", "rotation.lr=1e30").exit_code == 3


STOPPED = ("rank", "rotation", "simsiam", "--seeds", "2", "--orderings", "pairs", *TINY, *FEWER)


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    """The store and the document of `STOPPED` where nothing stops it."""
    run = Command(tmp_path_factory.mktemp("whole") / "runs")
    return run.runs, run.json(*STOPPED, "--dataset", str(folder))


@pytest.mark.parametrize("call", [pytest.param(2, marks=pytest.mark.long), 9, pytest.param(20, marks=pytest.mark.long)])
def test_rank_stopped_anywhere_and_run_again_equals_uninterrupted(folder, uninterrupted, tmp_path, monkeypatch, call):
    ask = (*STOPPED, "--dataset", str(folder))
    runs, whole = uninterrupted
    other = Command(tmp_path / "other")
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", call)
        stopped = other(*ask)
    assert stopped.exit_code == 130
    assert ("so far" in stopped.stderr) == (call > 2)  # at the second step nothing is measured
    assert "run the same command again" in stopped.stderr
    (record,) = other.json("runs")["runs"]
    assert not record["finished"]
    assert other.json("runs", "remove", "--dry-run")["removed"] == {}
    again = other.json(*ask)

    def plain(document):
        text = json.dumps({**document, "command": None}).replace(str(other.runs), "R").replace(str(runs), "R")
        return json.loads(text)

    assert plain(again) == plain(whole)


def test_ctrl_c_in_a_process_and_the_same_command_again(folder, tmp_path):
    ask = ("rank", "rotation", "simsiam", "--seeds", "1", "--dataset", str(folder), *TINY, *FEWER, "--set",
           "rotation.epochs=300", "--save-minutes", "0.0001", "--json")  # fmt: skip
    process = start(tmp_path / "a", *ask)
    wait_for("analyses/classification-*/done.json", tmp_path / "a", process)  # something to show
    wait_for("stages/*.part/resume.pt", tmp_path / "a", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "so far" in errors
    assert "stopped at step" in errors
    assert "Traceback" not in errors


def test_watch_shows_the_table_after_every_chain(sslcurr, tiny):
    result = sslcurr("rank", "rotation", "--seeds", "2", "--watch", *tiny)
    assert result.exit_code == 0
    assert result.stderr.count("so far") == 4
    assert "[4/4] rotation, seed 1: " in result.stderr


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rotatoin",), "unknown task 'rotatoin'"),
        (("rotation", "rotation"), "a task is named twice"),
        (("rotation", "swav", "--orderings", "pears"), "'pears' is neither an ordering"),
        (("rotation", "swav", "--orderings", "rotation,mocov2"), "'mocov2' is neither an ordering"),
        (("rotation", "swav", "--orderings", "triples"), "there is no ordering"),
        (("rotation", "swav", "--orderings", "pairs", "--length", "1"), "there is no ordering"),
        (("rotation", "--layers", "pooled"), "--layers is for probes"),
        (("rotation", "swav", "--search", "--orderings", "all"), "finds an ordering itself"),
        (("rotation", "--search"), "one task has one ordering"),
        (("rotation", "swav", "--beam", "3"), "--beam: for the automatic curriculum only"),
        (("rotation", "swav", "--search", *BEAM, "--beam", "0"), "--beam must be at least 1"),
        (("rotation", "swav", "--search", "--budget", "0"), "--budget must be above 0"),
        (("rotation", "--measure", "knn", "--layers", "nothing"), "no layer of test_resnet is named 'nothing'"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(sslcurr, tiny, arguments, message):
    result = sslcurr("rank", *arguments, *tiny)
    assert result.exit_code == 1
    error, hint = result.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


def test_a_backbone_that_cannot_see_a_tasks_views_is_refused_before_any_training(sslcurr, folder):
    result = sslcurr("rank", "rotation", "swav", "--dataset", str(folder), "--backbone", "vgg11", "--image-size", "32",
                     "--epochs", "1")  # fmt: skip
    assert result.exit_code == 1
    assert "vgg11" in result.stderr
    assert not (sslcurr.runs / "stages").exists()


# ---- documents from known results


TWO_CLASSES = Images.of(200, classes=np.arange(200) % 2)


def a_run(ordering, seed, correct, validation=0.5):
    correct = np.array(correct, dtype=float)
    return MeasuredChain(ordering, seed, float(correct.mean()), validation, correct, "key", Path("folder"))


def test_tasks_that_cannot_be_told_apart_are_said_to_be():
    labels = np.arange(400) % 2

    def runs(ordering, number, shift):
        return [a_run(ordering, seed, np.roll(np.arange(400) < number, shift + seed)) for seed in (0, 1)]

    results = Results((0, 1), {"scratch": runs((), 200, 0)})
    for task, number, shift in (("a", 220, 30), ("b", 222, 100), ("c", 360, 50)):
        results.chains[task,] = runs((task,), number, shift)
    document = document_of(results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune")
    assert document.curriculum[-1] == "c"
    assert [sorted(group) for group in document.ties] == [["a", "b"]]
    assert document.tasks[-1].gain.interval[0] > 0.25
    assert "orderings" not in document.to_json()


def orderings_of_three(num_seeds=3, lift=0.0):
    """Three tasks of rising accuracy and their pairs over seeds, of which curricula are `lift` better; 200 images."""
    rng = np.random.default_rng(0)
    results = Results(tuple(range(num_seeds)))
    levels = {"a": 0.5, "b": 0.6, "c": 0.7}
    pairs = [(x, y) for x in "abc" for y in "abc" if x != y]
    for ordering in [("a",), ("b",), ("c",), *pairs]:
        level = np.mean([levels[task] for task in ordering]) + lift * (list(ordering) == sorted(ordering))
        results.chains[ordering] = [a_run(ordering, seed, rng.uniform(size=200) < level) for seed in range(num_seeds)]
    results.baselines["scratch"] = [a_run((), seed, rng.uniform(size=200) < 0.5) for seed in range(num_seeds)]
    return results


def test_the_test_of_the_hypothesis_judges_each_seed_by_the_others():
    labels = np.arange(200) % 2
    results = orderings_of_three(lift=0.15)
    document = document_of(results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune")

    def accuracy(chain):
        return np.mean([chain.values[labels == c].mean() for c in (0, 1)])

    names = [ordering for ordering in results.chains if len(ordering) == 2]
    accuracies = np.array([[accuracy(chain) for chain in results.chains[name]] for name in names])
    singles = {task: [accuracy(chain) for chain in results.chains[task,]] for task in "abc"}
    expected = hypothesis.permutation_test(hypothesis.Judged.of(names, accuracies, singles))
    found = document.hypothesis.permutation[0]
    assert (found.effect, found.p_value) == (pytest.approx(expected.effect), expected.p_value)
    assert found.effect == pytest.approx(0.15, abs=0.08)
    assert found.smallest_p_value == pytest.approx(1 / 6) == found.p_value
    assert found.interval[0] < found.effect < found.interval[1]
    (order, *_) = document.hypothesis.kendall
    assert (order.by, order.num_orderings, order.length) == ("order", 6, 2)
    each = []
    for seed in range(3):
        ranking = {task: np.mean(np.delete(values, seed)) for task, values in singles.items()}
        rises = [np.sign(ranking[second] - ranking[first]) for first, second in names]
        each.append(kendalltau(rises, accuracies[:, seed]).statistic)
    assert order.tau == pytest.approx(np.mean(each))
    assert -1 <= order.interval[0] <= order.tau <= order.interval[1] <= 1
    lines = "\n".join(note for table in document.tables() for note in table.notes)
    assert f"p = {1 / 6:.3f}; the smallest that it could be is 0.167" in lines


def test_one_seed_has_no_test_and_tells_nothing_apart_and_says_so():
    document = document_of(orderings_of_three(1, lift=0.4), TWO_CLASSES, dataset="d", measure="finetune")
    assert [len(group) for group in document.ties] == [3]
    assert [row.gain.told_apart for row in document.tasks] == [False] * 3
    assert all(row.uncertain for row in document.orderings)
    assert [test.p_value for test in document.hypothesis.permutation] == [None, None]
    assert document.hypothesis.kendall == []
    lines = "\n".join(note for table in document.tables() for note in table.notes)
    assert "One seed: intervals are over test images and hold for these models only." in lines
    assert "one seed: ranking and effect have to come from different seeds" in lines


@pytest.mark.parametrize(("split", "words"), [("val", "have chosen epochs"), ("train", "far too good"), ("test", "")])
def test_figures_of_images_that_chose_something_are_said_to_be_too_good(split, words):
    document = document_of(orderings_of_three(2), TWO_CLASSES, dataset="d", measure="finetune", split=split)
    notes = " ".join(document.tables()[0].notes)
    assert words in notes
    assert ("figures are" in notes) == (split != "test")


def test_a_chain_that_failed_leaves_the_test_to_the_other_length():
    labels, results = np.arange(200) % 2, orderings_of_three(2)
    whole = document_of(
        results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune"
    ).hypothesis.permutation
    results.chains["a", "b", "c"] = [a_run(("a", "b", "c"), 0, np.ones(200)), FailedChain(("a", "b", "c"), 1, "boom")]
    document = document_of(results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune")
    assert document.hypothesis.permutation == whole
    # One lucky seed is not the best of chains that have two.
    lucky = next(row for row in document.orderings if row.ordering == ["a", "b", "c"])
    assert (lucky.mean, lucky.best) == (1.0, False)
    assert document.best.on_test.ordering != ["a", "b", "c"]


def test_a_run_that_failed_at_one_seed_is_judged_by_the_others():
    labels = np.arange(10) % 2
    good = a_run(("a",), 0, [1] * 10)
    results = Results((0, 1), {"scratch": [a_run((), 0, [0] * 10), a_run((), 1, [1] * 10)]})
    results.chains["a",] = [good, FailedChain(("a",), 1, "boom")]
    document = document_of(results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune")
    assert document.tasks[0].accuracy.mean == document.tasks[0].mean == 1.0
    assert document.tasks[0].accuracy.std is None
    assert document.tasks[0].gain.mean == 1.0  # over the seed that both have
    assert document.to_json()["failed"] == [{"ordering": ["a"], "seed": 1, "reason": "boom"}]


def test_a_gain_is_over_the_seeds_that_both_have_and_inside_its_interval():
    """A chain that failed at its worst seeds must not gain by it."""
    labels = np.arange(300) % 2
    shares = {"scratch": (200, 150, 100), "a": (210, None, None)}
    results = Results((0, 1, 2))

    def runs(name):
        return [
            FailedChain((name,), seed, "boom") if share is None else a_run((name,), seed, np.arange(300) < share)
            for seed, share in enumerate(shares[name])
        ]

    results.baselines["scratch"] = runs("scratch")
    results.chains["a",] = runs("a")
    gain = document_of(results, Images.of(len(labels), classes=labels), dataset="d", measure="finetune").tasks[0].gain
    assert gain.mean == pytest.approx(10 / 300)
    assert gain.interval[0] <= gain.mean <= gain.interval[1] < 0.1


def test_without_validation_or_test_images_nothing_claims_to_be_chosen_by_them(sslcurr, tiny):
    ask = ("rank", "rotation", "simsiam", "--seeds", "1", "--orderings", "pairs", *tiny, *FEWER)
    none = sslcurr.json(*ask, "--measure", "knn", "--set", "data.val=0")
    assert all(run["validation"] is None for row in none["tasks"] for run in row["runs"])
    assert "on_validation" not in none["best"]
    refused = sslcurr("rank", "rotation", "simsiam", "--search", "--set", "data.val=0", *tiny, *FEWER)
    assert refused.exit_code == 1
    assert "the search chooses on validation images, and there are none" in refused.stderr
    own = sslcurr(*ask, "--set", "data.test=0")
    assert "there are no test images: all accuracies are of the val images" in own.stderr
    assert "chosen on the validation images" not in own.stdout


# ---- the automatic curriculum


def test_a_search_in_which_every_candidate_fails_says_why(sslcurr, tiny):
    result = sslcurr("rank", "rotation", "simsiam", "--seeds", "1", "--search", *BEAM, "--budget", "1", *tiny, *FEWER,
                     "--set", "rotation.lr=1e30", "--set", "simsiam.lr=1e30")  # fmt: skip
    assert result.exit_code == 3
    assert "failed: rotation, seed 0: the loss of rotation is not finite" in result.stdout
    assert "found:" not in result.stdout


def test_a_stopped_search_keeps_its_half_done_stage(sslcurr, tiny, monkeypatch):
    ask = ("rank", "rotation", "simsiam", "--seeds", "1", "--search", *BEAM, "--budget", "1", *tiny, *FEWER)
    for call in (1, 7, 12):
        with monkeypatch.context() as patch:
            kill_at(patch, train, "one_step", call)
            assert sslcurr(*ask).exit_code == 130
        assert list(sslcurr.runs.glob("stages/*.part"))
        assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}
    assert sslcurr(*ask).exit_code == 0


def test_the_whole_budget_is_enough_for_everything(sslcurr, tiny):
    found = sslcurr.json("rank", "rotation", "simsiam", "--seeds", "2", "--search", *BEAM, "--budget", "1",
                         "--measure", "knn", *tiny, *FEWER)  # fmt: skip
    assert not any(rung["not_afforded"] for rung in found["rungs"])


def test_a_dry_run_does_not_stumble_over_a_rate_that_will(sslcurr, tiny):
    plan = sslcurr.json("rank", "rotation", "--seeds", "1", *tiny, "--set", "rotation.lr=1e30", "--dry-run")
    assert plan["images_per_second"]["rotation"] > 0


@pytest.mark.long
def test_the_search_finds_an_ordering_within_its_budget_and_says_what_it_missed(sslcurr, tiny):
    ask = ("rank", *TASKS, "--seeds", "1", "--search", *BEAM, "--length", "3", "--budget", "0.9", *tiny, *FEW)
    plan = sslcurr.json(*ask, "--dry-run")
    assert plan["orderings"] == 15
    first = sslcurr.json(*ask)
    assert 1 <= len(first["ordering"]) <= 3
    assert first["missed"] is None
    assert first["cost"]["share"] <= 0.9
    assert first["cost"]["exhaustive_image_passes"] == plan["exhaustive_image_passes"]
    assert first["cost"]["image_passes"] == pytest.approx(first["cost"]["share"] * plan["exhaustive_image_passes"])
    best = max(first["finalists"], key=lambda row: row["validation"])
    assert (
        first["finalists"][[row["ordering"] for row in first["finalists"]].index(first["ordering"])]["validation"]
        == best["validation"]
    )
    for rung in first["rungs"]:
        scores = [candidate["score"] for candidate in rung["candidates"]]
        assert scores == sorted(scores, reverse=True)
        kept = [candidate["kept"] for candidate in rung["candidates"]]
        assert kept == sorted(kept, reverse=True)  # the best are kept
    assert "is not known" in sslcurr(*ask).stdout
    words = shlex.split(first["command"])
    assert sslcurr.json(*words[1:])["stages"][-1]["reused"]

    table = sslcurr.json("rank", *TASKS, "--seeds", "1", "--length", "3", *tiny, *FEW)
    second = sslcurr.json(*ask)
    missed = second.pop("missed")
    first.pop("missed")
    assert second == first  # the store changes what is trained, not what is found nor what it costs
    rows = [{"ordering": [row["task"]], **row} for row in table["tasks"]] + table["orderings"]
    means = sorted((row["mean"] for row in rows), reverse=True)
    found = next(row for row in rows if row["ordering"] == first["ordering"])
    assert missed["best_mean"] == pytest.approx(means[0])
    assert missed["gap"] == pytest.approx(means[0] - found["mean"])
    assert means[missed["rank"] - 1] == pytest.approx(found["mean"])
    assert missed["num_orderings"] == 15
    assert missed["median"] == pytest.approx(np.median(means))
    assert f"number {missed['rank']} of 15 orderings" in sslcurr(*ask).stdout


def test_a_budget_for_nothing_is_a_mistake(sslcurr, tiny):
    nothing = sslcurr("rank", *TASKS, "--seeds", "2", "--search", *BEAM, "--budget", "0.01", *tiny, *FEW)
    assert nothing.exit_code == 1
    assert "no chain fits into 1% of the exhaustive cost" in nothing.stderr


@pytest.mark.long
def test_a_small_budget_looks_at_less(sslcurr, tiny):
    few = sslcurr.json("rank", *TASKS, "--seeds", "2", "--search", *BEAM, "--budget", "0.3", *tiny, *FEW)
    many = sslcurr.json("rank", *TASKS, "--seeds", "2", "--search", *BEAM, "--budget", "1", *tiny, *FEW)
    assert few["cost"]["share"] <= 0.3 < many["cost"]["share"]
    assert any(rung["not_afforded"] for rung in few["rungs"])
    assert not any(rung["not_afforded"] for rung in many["rungs"])
    assert max(rung["length"] for rung in many["rungs"]) == 3
    assert {rung["seeds"] for rung in many["rungs"]} == {1, 2}


@pytest.fixture
def laboratory(folder, tmp_path):
    """`laboratory(tasks)`: chains on the small folder, of two epochs."""

    def make(*tasks: str, epochs: int = 2, lr: object = None) -> Chains:
        request = Request(
            dataset=str(folder),
            backbone="test_resnet",
            stem="imagenet",
            image_size=16,
            epochs=epochs,
            batch_size=16,
            lr=lr,
        )
        store = Store(tmp_path / "runs")
        planner = Planner(request, store, [*tasks, "classification"])
        return Chains(planner, store, lambda: Runtime(device="cpu"), Reporter(), device="cpu")

    return make


def test_the_search_prunes_first_on_short_stages_and_pays_for_all_it_looked_at(laboratory):
    tasks = ("rotation", "simsiam", "relative-location", "mocov2", "byol")
    chains = laboratory(*tasks)
    search = BeamSearch(chains, tasks, (0,), SearchSettings(length=1, strategy="beam", beam=1, budget=1.0, short=0.5))
    search.run()
    document = search.document()
    short, full = document.rungs
    assert (short.short, full.short) == (True, False)
    assert {candidate.epochs for candidate in short.candidates} == {1}
    assert {candidate.epochs for candidate in full.candidates} == {2}
    assert [len(short.candidates), len(full.candidates)] == [5, 3]
    assert sum(candidate.kept for candidate in short.candidates) == 3
    assert {tuple(c.ordering) for c in full.candidates} == {tuple(c.ordering) for c in short.candidates if c.kept}
    num_train, num_all = 42, 63
    probes = cost.FORWARD * num_all * (5 + 3)
    assert document.cost.image_passes == pytest.approx(num_train * (5 * 1 + 3 * 2 + 2) + probes)
    assert document.cost.exhaustive_image_passes == num_train * (5 * 2 + 5 * 2)


def test_the_cost_of_all_orderings_is_counted_as_if_they_were_listed(laboratory):
    tasks = ("rotation", "simsiam", "relative-location")
    for length in (1, 2, 3):
        chains = laboratory(*tasks)
        planned = forecast_search(chains, tasks, (0, 1), SearchSettings(length=length))
        listed = orderings_of(tasks, range(1, length + 1))
        stages = {key_of(s): s for o in listed for seed in (0, 1) for s in chains.specs(o, seed)}
        assert planned.exhaustive_image_passes == pytest.approx(sum(chains.passes(spec) for spec in stages.values()))
        assert planned.orderings == len(listed)


def test_dissimilar_stages_lose_by_the_penalty(laboratory):
    chains, pairs = laboratory("rotation", "simsiam"), []

    def unlike(before, after) -> float:
        pairs.append((before.spec.task, after.spec.task))
        return 1.0 if after.spec.task == "rotation" else 0.0

    settings = SearchSettings(length=2, strategy="beam", beam=2, budget=1.0, penalty=10.0)
    searches = [BeamSearch(chains, ("rotation", "simsiam"), (0,), settings, dissimilarity=by) for by in (None, unlike)]
    for search in searches:
        search.run()
    assert set(pairs) == {("rotation", "simsiam"), ("simsiam", "rotation")}
    scores = [
        {tuple(c.ordering): c.score for rung in search.document().rungs for c in rung.candidates} for search in searches
    ]
    assert scores[1]["simsiam", "rotation"] == pytest.approx(scores[0]["simsiam", "rotation"] - 10)
    assert scores[1]["rotation", "simsiam"] == scores[0]["rotation", "simsiam"]


# ---- what it costs


def test_image_passes_by_hand(laboratory):
    chains = laboratory("rotation")
    pretext, last = chains.specs(("rotation",), 0)
    assert chains.passes(pretext) == chains.passes(last) == 42 * 2
    searched = laboratory("rotation", lr="search").specs(("rotation",), 0)[0]
    assert isinstance(searched.search, LrSearch)
    share = searched.search.fraction
    assert chains.passes(searched) == pytest.approx(42 * 2 + 10 * searched.search.epochs * share * 42)


def test_a_forecast_takes_recorded_speeds_where_there_are_any(laboratory):
    chains = laboratory("rotation", "simsiam")
    run = chains.run(("rotation",), 0)
    assert isinstance(run, MeasuredChain)
    specs = [chains.specs(name, 1) for name in (("rotation",), ("simsiam",))]
    document = forecast(chains, specs, Runtime(device="cpu"))
    assert document.measured_now == ["simsiam"]
    done = {stage.spec.task: stage.record.images_per_second for stage in chains.store.all()}
    speeds = document.images_per_second
    assert speeds["rotation"] == done["rotation"]
    assert speeds["classification"] == done["classification"]
    seconds = sum(84 / speeds[spec.task] for spec in {key_of(s): s for chain in specs for s in chain}.values())
    assert document.hours == pytest.approx(seconds / 3600)
    weights = chains.store.find(run.key).weights.stat().st_size
    assert document.gigabytes * 1e9 == pytest.approx(4 * weights, rel=0.05)
    # What was measured is known the next time, unless it is damaged or concerns another device.
    again = forecast(chains, specs, Runtime(device="cpu"))
    assert again.measured_now == []
    assert again.images_per_second == document.images_per_second
    (path,) = (chains.store.root / "speeds").glob("simsiam-*.json")
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    assert forecast(chains, specs, Runtime(device="cpu")).measured_now == ["simsiam"]
    assert forecast(chains, specs, Runtime(device="cpu", recompute=True)).measured_now == ["simsiam"]


# ---- the grid of sizes


def test_cells_are_those_of_the_studys_table():
    shares = [1.0, 0.5, 0.25, 0.125]
    from tests.study import TABLE_1

    assert set(cells_of(shares, shares, baseline=False)) == set(TABLE_1)
    assert len(cells_of(shares, shares, baseline=True)) == 14


@pytest.mark.parametrize("shares", [[], [0.0], [1.5], [0.5, 0.5]])
def test_shares_that_cannot_be(shares):
    with pytest.raises(SpecError, match="--ssl-fractions must be different shares"):
        check_fractions("--ssl-fractions", shares)


def test_grid_trains_each_pretraining_once_on_nested_parts(sslcurr, tiny):
    ask = ("grid", "rotation", "simsiam", "--ssl-fractions", "1,0.5", "--label-fractions", "1,0.5", "--seeds", "2",
           "--baseline", "scratch", *tiny, *FEWER)  # fmt: skip
    plan = sslcurr.json(*ask, "--dry-run")
    assert plan["pretraining_stages"] == {"alone": 2 * 3 * 2, "shared": 2 * 2 * 2}
    document = sslcurr.json(*ask)
    assert stages_in(sslcurr.runs) == {"rotation": 4, "simsiam": 4, "classification": 10}
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    assert set(cells) == {(1.0, None), (0.5, None), (1.0, 1.0), (0.5, 1.0), (0.5, 0.5)}
    for (label, ssl), cell in cells.items():
        for run in cell["runs"]:
            asked = json.loads((sslcurr.runs / "stages" / run["key"] / "stage.json").read_text())
            assert asked["data"]["fraction"] == label
            assert (asked["parent"] is None) == (ssl is None)
            if ssl is not None:
                parent = json.loads((sslcurr.runs / "stages" / asked["parent"] / "stage.json").read_text())
                assert parent["data"]["fraction"] == ssl
        assert cell["mean"] == pytest.approx(np.mean([run["balanced_accuracy"] for run in cell["runs"]]))
        if ssl is None:
            assert "gain" not in cell
        else:
            assert cell["gain"]["mean"] == pytest.approx(cell["mean"] - cells[label, None]["mean"])
            assert cell["gain"]["interval"][0] <= cell["gain"]["mean"] <= cell["gain"]["interval"][1]
    # Three cells are exactly on the plane whose slopes are said.
    halving = document["halving"]
    assert halving["labels"]["mean"] == pytest.approx(cells[0.5, 1.0]["mean"] - cells[1.0, 1.0]["mean"])
    assert halving["images"]["mean"] == pytest.approx(cells[0.5, 0.5]["mean"] - cells[0.5, 1.0]["mean"])
    text = sslcurr(*ask)
    assert "half the labels" in text.stdout
    assert "gain over scratch, labels 0.5, images 1: " in " ".join(text.stdout.split())
    assert sslcurr.json(*ask) == document


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ssl-fractions", "1,a"), "--ssl-fractions takes shares"),
        (("--label-fractions", "2"), "--label-fractions must be different shares"),
        (("--fraction", "0.5"), "grid has shares of its own"),
    ],
)
def test_grid_mistakes(sslcurr, tiny, arguments, message):
    result = sslcurr("grid", "rotation", *arguments, *tiny)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_label_share_above_every_ssl_share_is_a_mistake(sslcurr, tiny):
    result = sslcurr("grid", "rotation", "--ssl-fractions", "0.25", "--label-fractions", "1,0.5", *tiny)
    assert result.exit_code == 1
    assert "no share of the images" in result.stderr
