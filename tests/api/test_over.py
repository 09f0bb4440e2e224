"""`rank --over` and `--lr search --against`, as a person runs them: small networks, one store."""

from __future__ import annotations

import json

import pytest

from sslcurr.analysis.report.answers import answers_of
from sslcurr.analysis.report.gather import gather
from sslcurr.analysis.report.page import card
from sslcurr.analysis.report.questions import questions
from sslcurr.analysis.report.tables import command_of, found_by
from sslcurr.api.lab import Lab
from sslcurr.engine import train
from sslcurr.engine.store import Store
from sslcurr.files import read_json
from tests.conftest import Command
from tests.kill import kill_at

FEWER = ("--set", "simsiam.hidden=16", "--set", "simsiam.dim=16")
NETWORK = ("--backbone", "test_resnet", "--stem", "imagenet", "--epochs", "1", "--batch-size", "16", *FEWER)
RANK = ("rank", "rotation", "simsiam", "--seeds", "1", "--orderings", "rotation,simsiam", *NETWORK)
OVER = ("--over", "image-size=16,24")


@pytest.fixture(scope="module")
def ranked(folder, tmp_path_factory):
    """A store with a ranking over two image sizes, and its document."""
    run = Command(tmp_path_factory.mktemp("over") / "runs")
    return run, run.json(*RANK, *OVER, "--dataset", str(folder))


def test_each_setting_is_what_its_own_ranking_finds_and_nothing_is_trained_twice(ranked, folder):
    run, document = ranked
    assert [each["values"] for each in document["variants"]] == [{"image-size": "16"}, {"image-size": "24"}]
    assert [each["image_size"] for each in document["variants"]] == [16, 24]
    before = sorted(run.runs.glob("stages/*/done.json"))
    assert len(before) == 2 * 7
    for variant in document["variants"]:
        own = run.json(*RANK, "--image-size", variant["values"]["image-size"], "--dataset", str(folder))
        rows = {tuple(row["ordering"]): row for row in variant["chains"]}
        assert variant["curriculum"] == own["curriculum"]
        assert variant["command"] == own["command"]
        assert [row["kind"] for row in variant["chains"]][:3] == ["baseline", "single", "single"]
        for row in own["tasks"]:
            assert all(rows[row["task"],][name] == row[name] for name in ("mean", "interval", "runs", "gain"))
        (ordering,) = own["orderings"]
        assert rows["rotation", "simsiam"]["kind"] == ordering["kind"]
        assert rows["rotation", "simsiam"]["runs"] == ordering["runs"]
    again = run.json(*RANK, *OVER, "--dataset", str(folder))
    assert again == document
    assert sorted(run.runs.glob("stages/*/done.json")) == before


def test_what_it_needs_is_kept_forecast_reported_and_planned(ranked, folder, tmp_path):
    run, _ = ranked
    ask = (*RANK, *OVER, "--dataset", str(folder))
    (record,) = [each for each in run.json("runs")["runs"] if "image-size=16,24" in each["title"]]
    assert record["finished"]
    assert record["title"] == "rank rotation simsiam --over image-size=16,24"
    assert len(set(record["stages"])) == 14
    assert len(record["packs"]) == 2
    assert run.json("runs", "remove", "--dry-run")["removed"] == {}
    plan = run.json(*ask, "--dry-run")
    assert (plan["chains"], plan["there"], plan["images_per_second"]) == (8, 14, {})
    assert plan["pretraining_stages"] == {"alone": 8, "shared": 6}
    text = run(*ask, "--dry-run").stdout
    assert "image-size 24\nscratch  (classification 1 of 1)" in text
    queued = run.json(*ask, "--plan-only")
    assert queued["jobs"] == queued["done"]
    table = run("report", "--table", "variants", "--format", "csv").stdout.splitlines()
    assert table[0].startswith("settings,image-size,chain,kind")
    assert len(table) == 1 + 2 * 4
    document = gather(Store(run.runs))
    answers = {each.run: answers_of(found_by(each), command_of(each)) for each in document.runs}
    (section,) = [each for each in questions(document, answers) if each.id == "robustness"]
    (shown,) = [card(each, found_by(each)) for each in document.runs if each.run in section.runs]
    assert [table.name for table in shown.tables] == ["variants", "agreement"]
    other = Command(tmp_path / "other")
    for size in ("16", "24"):
        other.json("data", "prepare", str(folder), "--image-size", size)
    assert "rank --over epochs=5,10" in other("report", "--table", "agreement").stderr


def test_all_settings_are_one_list_of_jobs(ranked, folder, tmp_path):
    """Workers get the jobs of all settings together, so that none waits for one of them to end."""
    _, document = ranked
    lab = Lab(
        tmp_path / "runs",
        settings=["simsiam.hidden=16", "simsiam.dim=16"],
        backbone="test_resnet",
        stem="imagenet",
        epochs=1,
        batch_size=16,
        dataset=folder,
    )
    over = {"image_size": [16, 24]}
    queue = lab.queue_rank_over(["rotation", "simsiam"], seeds=1, orderings="rotation,simsiam", over=over)
    jobs = [job["name"] for job in read_json(lab.runs_folder / "plans" / f"{queue.run}.json")["jobs"]]
    keys = {run["key"] for variant in document["variants"] for row in variant["chains"] for run in row["runs"]}
    assert keys <= set(jobs)
    assert queue.jobs == len(jobs) == 14 + 8
    assert queue.done == 0


def test_a_run_that_was_stopped_goes_on(ranked, folder, tmp_path, monkeypatch):
    run, document = ranked
    other = Command(tmp_path / "other")
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", 25)
        stopped = other(*RANK, *OVER, "--dataset", str(folder))
    assert stopped.exit_code == 130
    assert "so far: image-size 24" in stopped.stderr
    assert other.json("runs", "remove", "--dry-run")["removed"] == {}
    again = json.dumps(other.json(*RANK, *OVER, "--dataset", str(folder)))
    assert json.loads(again.replace(str(other.runs), str(run.runs))) == document


def test_a_task_that_fails_under_one_setting_is_told_and_the_rest_goes_on(ranked, folder):
    run, _ = ranked
    ask = (*RANK, "--image-size", "16", "--over", "simsiam.lr=default,1e30", "--dataset", str(folder))
    failed = run(*ask, "--json")
    assert failed.exit_code == 3
    document = json.loads(failed.stdout)
    assert {(each["variant"], *each["ordering"]) for each in document["failed"]} == {("simsiam.lr 1e30", "simsiam")}
    first, second = document["variants"]
    assert len(first["chains"]) == 4
    assert [row["ordering"] for row in second["chains"]] == [[], ["rotation"]]
    # What the setting does not touch is the same stage.
    assert second["chains"][1]["runs"] == next(
        row["runs"] for row in first["chains"] if row["ordering"] == ["rotation"]
    )
    assert second["chains"][1]["change"]["mean"] == 0
    assert "simsiam.lr 1e30: orderings with simsiam are left out" in failed.stderr


def test_searched_rates_against_those_of_the_recipes(ranked, folder):
    run, _ = ranked
    ask = ("rank", "rotation", "--seeds", "1", "--measure", "knn", "--image-size", "16", *NETWORK[:-4],
           "--set", "search.trials=2", "--dataset", str(folder))  # fmt: skip
    document = run.json(*ask, "--lr", "search", "--against", "default")
    assert document["axes"] == [{"name": "lr", "values": ["default", "search"]}]
    default, search = document["variants"]
    assert "rates" not in default
    (rate,) = search["rates"]
    stage = run.json("runs", "show", search["chains"][1]["runs"][0]["key"])
    assert rate["tasks"] == ["rotation"]
    assert rate["median"] == rate["lowest"] == stage["happened"]["lr"]
    assert rate["recipe"] == stage["asked"]["training"]["lr"]
    change = search["chains"][1]["change"]
    assert change["mean"] == pytest.approx(search["chains"][1]["mean"] - default["chains"][1]["mean"])
    assert search["mean_change"]["mean"] == change["mean"]
    same = run.json(*ask, "--over", "lr=default,search")
    assert {**same, "invocation": None} == {**document, "invocation": None}
    assert run("report", "--table", "rates").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--over", "epoch=1,2"), "there is no setting 'epoch'"),
        (("--over", "epochs=1,2"), "--epochs is given, and --over epochs too"),
        (("--against", "default"), "--against compares with --lr"),
        (("--over", "image-size=16,24", "--search"), "compare rankings, and --search makes none"),
        (("--over", "image-size=16,24", "--watch"), "--watch shows one ranking"),
        (("--over", "image-size=16,24", "--imagenet", "resnet18"), "--imagenet is of one network"),
        (("--over", "rotation.momentum=default,0.9"), "rotation.momentum 0.9 is the same as rotation.momentum default"),
        (("--over", "simsiam.predictor=16,0"), "predictor"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(ranked, folder, arguments, message):
    run, _ = ranked
    result = run(*RANK, *arguments, "--dataset", str(folder))
    assert result.exit_code == 1
    error, hint = result.stderr.strip().splitlines()[-2:]
    assert message in error
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")


def test_networks_that_cannot_be_are_refused_before_any_training(ranked, sslcurr, folder):
    run, _ = ranked
    small = sslcurr("rank", "rotation", "swav", "--over", "backbone=test_resnet,vgg11", "--image-size", "32",
                    "--dataset", str(folder))  # fmt: skip
    assert small.exit_code == 1
    assert "vgg11" in small.stderr
    assert not (sslcurr.runs / "stages").exists()
    key = next(path.parent.name for path in run.runs.glob("stages/*/done.json"))
    fixed = run("rank", "rotation", "--from", key, "--over", "backbone=test_resnet,resnet18", "--dataset", str(folder))
    assert "the weights of --from are of one network" in fixed.stderr
