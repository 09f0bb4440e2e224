"""Learning-rate search: drawn, tried, chosen, resumed, and part of what a stage is asked for."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

from sslcurr.claims import Claim, Lost, claim, owner_of
from sslcurr.engine import lr_search, train
from sslcurr.engine.cost import image_passes
from sslcurr.engine.jobs import carry_out
from sslcurr.engine.plan import Planner, described_search, rates_around
from sslcurr.engine.run import TrialWork, stage_jobs, train_stage
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError, TrainingError
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import LrSearch, Training, key_of, stage_from_dict, to_dict
from tests.cli.test_cli import start, wait_for
from tests.conftest import QUICK, SMALL, Command
from tests.kill import kill_at

SEARCH = LrSearch(low=0.001, high=0.1, trials=4, fraction=0.5, epochs=2)
TINY = ("--backbone", "test_resnet", "--stem", "imagenet", "--image-size", "16", "--epochs", "2", "--batch-size", "8")


@pytest.fixture
def searched(small_stage):
    """`searched(task)`: a small stage that looks for its rate first."""

    def make(task: str, **changes: object):
        spec = small_stage(task)
        return replace(spec, search=replace(SEARCH, config=spec.config, **changes))

    return make


def table(stage) -> pd.DataFrame:
    return pd.read_csv(stage.folder / "search" / "search.csv")


# ---- what is chosen


def test_a_pretext_task_is_trained_with_the_rate_of_the_lowest_loss(searched, tmp_path):
    stage = train_stage(searched("rotation"), Store(tmp_path), Runtime(device="cpu"), Reporter())
    rows = table(stage)
    assert rows.state.tolist() == ["finished"] * 4
    assert rows.measure.unique().tolist() == ["loss"]
    assert rows.lr.between(0.001, 0.1).all()
    assert rows.lr.nunique() == 4
    best = rows.loc[rows.value.idxmin()]
    found = stage.record.search
    assert found["lr"] == stage.record.lr == pytest.approx(best.lr)
    assert found["value"] == pytest.approx(best.value)
    assert (found["finished"], found["pruned"], found["failed"]) == (4, 0, 0)
    assert sorted(path.name for path in (stage.folder / "search").iterdir()) == [
        "found.json",
        "search.csv",
        "study.log",
    ]
    assert not list(tmp_path.glob("stages/*.search"))


def test_the_stage_is_that_of_the_rate_found(searched, tmp_path):
    spec = searched("rotation")
    stage = train_stage(spec, Store(tmp_path / "a"), Runtime(device="cpu"), Reporter())
    plain = replace(spec, search=None, training=replace(spec.training, lr=stage.record.lr))
    alone = train_stage(plain, Store(tmp_path / "b"), Runtime(device="cpu"), Reporter())
    assert alone.record.weights_sha256 == stage.record.weights_sha256


def test_a_trial_is_the_stage_on_fewer_images_for_fewer_epochs(searched, tmp_path):
    spec = searched("mocov2")
    trial = lr_search.trial_of(replace(spec, training=replace(spec.training, warmup=1.5, patience=4)), 0.01)
    assert trial.data.fraction == 0.5
    assert (trial.training.epochs, trial.training.lr, trial.training.patience) == (2, 0.01, 0)
    assert trial.training.warmup == pytest.approx(1.0)  # two of three epochs
    assert (trial.seed, trial.parent, trial.backbone) == (spec.seed, spec.parent, spec.backbone)
    stage = train_stage(lr_search.trial_of(spec, 0.01), Store(tmp_path), Runtime(device="cpu"), Reporter())
    value = pd.read_csv(stage.folder / "metrics.csv").query("epoch > 1").loss.mean()
    whole = replace(spec, search=replace(spec.search, trials=1, low=0.01, high=0.0100001))
    row = table(train_stage(whole, Store(tmp_path), Runtime(device="cpu"), Reporter())).iloc[0]
    assert row.value == pytest.approx(value, rel=1e-4)


def test_classification_is_judged_on_validation_and_equals_by_their_loss(searched, tmp_path):
    stage = train_stage(searched("classification", trials=6), Store(tmp_path), Runtime(device="cpu"), Reporter())
    rows = table(stage)
    assert rows.measure.unique().tolist() == ["val_balanced_accuracy"]
    equal = rows[rows.value == rows.value.max()]
    assert stage.record.lr == pytest.approx(equal.loc[equal.val_loss.idxmin()].lr)


def test_a_validation_loss_that_is_not_finite_is_the_worst():
    result = lr_search.TrialResult(
        number=0, lr=0.1, state="finished", values=[0.5, 0.7, 0.7], losses=[0.1, None, 3.0], seconds=1.0
    )
    assert result.best == (0.7, 3.0)
    assert structs.replace(result, losses=[None] * 3).best == (0.7, math.inf)
    assert structs.replace(result, losses=[]).best == (0.7, None)


def test_rates_without_a_finite_loss_fail_and_are_not_chosen(searched, tmp_path):
    spec = searched("rotation", low=1e-3, high=1e30, trials=5)
    stage = train_stage(spec, Store(tmp_path), Runtime(device="cpu"), Reporter())
    rows = table(stage)
    assert {"finished", "failed"} == set(rows.state)
    assert rows[rows.state == "failed"].reason.str.contains("not finite").all()
    assert stage.record.lr in rows[rows.state == "finished"].lr.tolist()
    assert stage.record.search["failed"] == (rows.state == "failed").sum()


def test_a_collapsed_rate_is_not_chosen_though_its_loss_is_lowest(searched, tmp_path, monkeypatch):
    spec = searched("simsiam", trials=3)
    healthy = table(train_stage(spec, Store(tmp_path / "a"), Runtime(device="cpu"), Reporter()))
    assert set(healthy.state) == {"finished"}
    monkeypatch.setattr(lr_search, "COLLAPSED", 2.0)  # no embeddings spread so far
    with pytest.raises(TrainingError, match="embeddings collapsed"):
        train_stage(spec, Store(tmp_path / "b"), Runtime(device="cpu"), Reporter())


def test_no_finite_rate_is_a_mistake_with_a_way_out(searched, tmp_path):
    spec = searched("rotation", low=1e25, high=1e30, trials=2)
    with pytest.raises(TrainingError, match="none of the 2 learning rates") as error:
        train_stage(spec, Store(tmp_path), Runtime(device="cpu"), Reporter())
    assert "--lr-range 1e+23,1e+25" in error.value.hint


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_pruners_stop_bad_rates_early(searched, tmp_path, pruner):
    spec = searched("rotation", pruner=pruner, trials=8, epochs=3, low=1e-6, high=0.5)
    rows = table(train_stage(spec, Store(tmp_path), Runtime(device="cpu"), Reporter()))
    pruned = rows[rows.state == "pruned"]
    assert 0 < len(pruned) < 8
    assert (pruned.epochs < 3).all()
    assert (rows[rows.state == "finished"].epochs == 3).all()


# ---- how rates are drawn


@pytest.mark.parametrize("draw", ["log", "uniform"])
def test_rates_are_drawn_as_asked(searched, tmp_path, draw):
    spec = searched("rotation", draw=draw, low=1e-4, high=1.0)
    folder = tmp_path / "study"
    folder.mkdir()
    many = replace(spec, search=replace(spec.search, trials=400))
    with lr_search.opened(many, folder, "loss") as study:
        rates = []
        while (trial := lr_search.next_trial(study, many)) is not None:
            rates.append(trial.params["lr"])
            study.tell(trial, 0.0)
    assert len(rates) == 400
    assert [lr_search.rate_of(many, number) for number in reversed(range(20))] == rates[19::-1]
    shares = np.log10(rates) / 4 + 1 if draw == "log" else (np.array(rates) - 1e-4) / (1 - 1e-4)
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.08)
    assert min(shares) >= 0
    assert max(shares) <= 1


def rates_of(spec, store: Store) -> list[float]:
    return table(train_stage(spec, store, Runtime(device="cpu"), Reporter())).lr.tolist()


def test_rates_are_those_of_the_seed(searched, tmp_path):
    spec = searched("rotation", trials=2, epochs=1)
    first = rates_of(spec, Store(tmp_path / "a"))
    assert rates_of(spec, Store(tmp_path / "b")) == first
    assert not set(rates_of(replace(spec, seed=1), Store(tmp_path / "c"))) & set(first)
    longer = replace(spec, search=replace(spec.search, trials=3))
    assert rates_of(longer, Store(tmp_path / "d"))[:2] == first


@pytest.mark.parametrize(
    ("draw", "rates"),
    [
        ("log", [0.018531353034551508, 0.012341857009248985, 0.0012038352613668061]),
        ("uniform", [0.06376140292182048, 0.05502333526688774, 0.004988069471621408]),
    ],
)
def test_a_number_has_the_rate_that_it_always_had(small_stage, draw, rates):
    spec = replace(small_stage("rotation"), seed=7, search=LrSearch(low=0.001, high=0.1, trials=3, draw=draw))
    assert [lr_search.rate_of(spec, number) for number in range(3)] == pytest.approx(rates, rel=1e-12)


# ---- resuming


# At the first step, within the first rate, within the second, and within the third.
KILLS = [
    (task, call, pruner)
    for pruner in ("asha", "none")
    for call in (1, 5, 12, 20)
    for task in ("mocov2", "classification")
]
QUICK_KILLS = {("mocov2", 5, "asha"), ("mocov2", 20, "asha"), ("classification", 12, "asha"), ("mocov2", 12, "none")}


@pytest.mark.parametrize(
    ("task", "call", "pruner"),
    [pytest.param(*kill, marks=[pytest.mark.long] * (kill not in QUICK_KILLS)) for kill in KILLS],
)
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(searched, tmp_path, monkeypatch, task, call, pruner):
    spec, runtime = searched(task, pruner=pruner, trials=3), Runtime(device="cpu", save_steps=2)
    whole = train_stage(spec, Store(tmp_path / "a"), runtime, Reporter())
    store = Store(tmp_path / "b")
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", call)
        with pytest.raises(KeyboardInterrupt):
            train_stage(spec, store, runtime, Reporter())
    journal = next(tmp_path.glob("b/stages/*.part/search/study.log"))
    with open(journal, "a") as file:  # and the disk kept half of the last line
        file.write('{"op_code": 5, "wor')
    again = train_stage(spec, store, runtime, Reporter())
    assert found(again) == found(whole)


def found(stage) -> tuple[object, ...]:
    """All that a search and its stage have found, but for the time that it took."""
    rows = table(stage).drop(columns="seconds").to_csv()
    outcome = {name: value for name, value in stage.record.search.items() if name != "seconds"}
    return rows, outcome, stage.record.lr, stage.record.weights_sha256


def steps_done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are done from now on, as a list that grows."""
    steps, real = [], train.one_step
    monkeypatch.setattr(train, "one_step", lambda *a: (steps.append(a[-1].step), real(*a))[1])
    return steps


def test_a_search_that_an_earlier_version_began_goes_on(searched, tmp_path, monkeypatch):
    spec, runtime = searched("rotation", trials=3), Runtime(device="cpu", save_steps=2)
    steps = steps_done(monkeypatch)
    whole = train_stage(spec, Store(tmp_path / "a"), runtime, Reporter())
    num_steps, store = len(steps), Store(tmp_path / "b")
    with monkeypatch.context() as patch:
        patch.setattr(lr_search, "are_independent", lambda *a: False)  # as it was before
        kill_at(patch, train, "one_step", 11)
        with pytest.raises(KeyboardInterrupt):
            train_stage(spec, store, runtime, Reporter())
    part = store.stages / f"{key_of(spec)}.part"
    assert (part / "search" / "trial-01" / "resume.pt").exists()
    assert [job.name for job in stage_jobs([spec], store, passes)] == [key_of(spec)]  # it is that stage's alone
    steps.clear()
    again = train_stage(spec, store, runtime, Reporter())
    assert len(steps) == num_steps - 10  # nothing is done twice
    assert found(again) == found(whole)


def test_a_search_that_is_over_is_not_repeated(searched, tmp_path, monkeypatch):
    spec, store, calls = searched("rotation", trials=2), Store(tmp_path), []
    real = lr_search.trained
    monkeypatch.setattr(lr_search, "trained", lambda *a: (calls.append(a), real(*a))[1])
    with monkeypatch.context() as patch:
        kill_at(patch, train, "finish", 3)  # the two trials end, the stage does not
        with pytest.raises(KeyboardInterrupt):
            train_stage(spec, store, Runtime(device="cpu"), Reporter())
    train_stage(spec, store, Runtime(device="cpu"), Reporter())
    assert len(calls) == 2


# ---- trials as work of their own


def passes(spec) -> float:
    return image_passes(spec, 40)


@pytest.mark.parametrize(("task", "changes"), [("rotation", {"high": 1e30}), ("classification", {})])
def test_trials_of_any_process_in_any_order_give_the_same_search(searched, tmp_path, task, changes):
    spec, runtime = searched(task, trials=3, **changes), Runtime(device="cpu")
    whole = train_stage(spec, Store(tmp_path / "a"), runtime, Reporter())
    jobs = list(stage_jobs([spec], Store(tmp_path / "b"), passes))
    assert [job.kind for job in jobs] == ["trial"] * 3 + ["stage"]
    assert jobs[-1].needs == tuple(job.name for job in jobs[:-1])
    assert sum(job.cost for job in jobs) == pytest.approx(passes(spec))
    for number in (2, 0, 1, 3):
        store = Store(tmp_path / "b", waits=False)  # as each process has its own
        event = carry_out(jobs[number], store, runtime, Reporter())
        assert (event.what, event.done_here) == ("ended", True), event
        assert not list(store.stages.rglob("trial-*/*.pt"))
    stage = Store(tmp_path / "b").find(key_of(spec))
    assert found(stage) == found(whole)
    assert [path.name for path in stage.folder.parent.iterdir() if path.suffix == ".search"] == []
    again = carry_out(jobs[0], Store(tmp_path / "b", waits=False), runtime, Reporter())
    assert (again.what, again.done_here) == ("ended", False)


def test_a_trial_that_another_process_is_at_is_waited_for_or_left(searched, tmp_path):
    spec, runtime = searched("rotation", trials=2), Runtime(device="cpu")
    store = Store(tmp_path, waits=False)
    jobs = list(stage_jobs([spec], store, passes))
    other = claim(store.trial(key_of(spec), 1))
    assert [carry_out(job, store, runtime, Reporter()).what for job in jobs] == ["ended", "taken", "taken"]
    notes = []

    class Released(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)
            other.release()

    stage = train_stage(spec, Store(tmp_path), runtime, Released())
    assert len(notes) == 1
    assert "another process tries learning rate 2 of rotation" in notes[0]
    assert table(stage).state.tolist() == ["finished"] * 2


def test_a_late_trial_of_a_finished_stage_ends_quietly(searched, tmp_path, monkeypatch):
    spec, runtime = searched("rotation", trials=1), Runtime(device="cpu", save_steps=1)
    done, store = Store(tmp_path / "a"), Store(tmp_path / "b", waits=False)
    (job, _) = stage_jobs([spec], store, passes)
    train_stage(spec, done, runtime, Reporter())
    steps, told = steps_done(monkeypatch), []
    monkeypatch.setattr(Claim, "tell", lambda self, **status: told.append((self.folder, status)))
    real = train.one_step

    def published(*arguments: object) -> object:
        if len(steps) == 2:  # the trial was taken over by another process, which went on to the end
            done.stages.joinpath(key_of(spec)).rename(store.stages / key_of(spec))
            shutil.rmtree(store.trials(key_of(spec)))
        return real(*arguments)

    monkeypatch.setattr(train, "one_step", published)
    assert carry_out(job, store, runtime, Reporter()).what == "ended"
    assert len(steps) == 3  # the save after it found no folder
    assert {folder for folder, _ in told} == {store.trial(key_of(spec), 0)}  # where others see how far it is
    assert told[0][1]["tasks"] == "rotation, learning rate 1 of 1"
    with pytest.raises(Lost):  # found not done just before the stage was published
        TrialWork.run(job, store, runtime, Reporter())
    assert len(steps) == 3
    assert [path.name for path in store.stages.iterdir()] == [key_of(spec)]


def test_trials_that_a_process_is_at_are_not_removed(searched, tmp_path):
    spec, store = searched("rotation"), Store(tmp_path)
    with claim(store.trial(key_of(spec), 0)):
        assert store.unneeded() == []
    assert store.unneeded() == [store.trials(key_of(spec))]


# ---- identity


def test_the_search_is_part_of_the_key_and_its_outcome_is_not(small_stage):
    plain = small_stage("rotation")
    asked = replace(plain, search=SEARCH)
    assert "search" not in to_dict(plain, for_key=True)
    keys = {key_of(plain), key_of(asked)}
    for change in ({"low": 0.002}, {"high": 0.2}, {"trials": 5}, {"draw": "uniform"}, {"fraction": 0.6}, {"epochs": 3},
                   {"pruner": "asha"}, {"config": {"image_size": 8}}):  # fmt: skip
        keys.add(key_of(replace(plain, search=replace(SEARCH, **change))))
    assert len(keys) == 10
    assert stage_from_dict(json.loads(json.dumps(to_dict(asked)))).search == SEARCH
    record = to_dict(plain)
    del record["search"]  # as stages of 0.1.0 are written
    assert stage_from_dict(record) == stage_from_dict(to_dict(plain))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0.0}, "lowest learning rate must be above 0"),
        ({"high": 0.001}, "the range of learning rates must rise, got 0.001 to 0.001"),
        ({"trials": 0}, "search.trials must be at least 1"),
        ({"fraction": 0.0}, "search.fraction must be above 0"),
        ({"epochs": 0}, "search.epochs must be at least 1"),
        ({"draw": "lgo"}, "unknown search.draw 'lgo'"),
        ({"pruner": "ahsa"}, "unknown pruner 'ahsa'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        replace(SEARCH, **change)


# ---- the plan


def test_the_range_is_the_studys_fitted_to_batch_and_optimizer():
    sgd = Training(optimizer="sgd", lr=0.03, batch_size=256)
    assert rates_around(sgd, pretrained=False) == (0.01, 0.6)
    assert rates_around(sgd, pretrained=True) == (0.0001, 0.6)
    assert rates_around(replace(sgd, batch_size=64, lr=0.0075), pretrained=False) == (0.0025, 0.15)
    low, high = rates_around(Training(optimizer="adamw", lr=0.001, batch_size=64), pretrained=False)
    assert (low, high) == pytest.approx((0.00005, 0.003))
    assert rates_around(Training(optimizer="lars", lr=4.8, batch_size=256), pretrained=False) == (
        0.01,
        pytest.approx(14.4),
    )
    assert rates_around(replace(sgd, lr=0.006), pretrained=False) == (0.002, 0.6)


@pytest.fixture
def plan(folder, tmp_path):
    def make(*tasks: str, **request: object) -> Planner:
        given = {"backbone": "test_resnet", "stem": "imagenet", "image_size": 16, "batch_size": 8, "epochs": 3}
        return Planner(Request(dataset=str(folder), **(given | request)), Store(tmp_path), tasks)

    return make


def test_a_plan_with_search_has_every_value_resolved(plan):
    first, second = plan("rotation", "mocov2", lr="search", settings=SMALL["mocov2"]).chain(["rotation", "mocov2"])
    num_train = 42
    assert first.search.fraction == pytest.approx(4 * 8 / num_train)  # four batches: 8 % would be three images
    assert first.search.epochs == 3  # forty steps would be ten, but the stage has three
    assert (first.search.trials, first.search.draw, first.search.pruner) == (10, "log", "none")
    assert first.search.low == pytest.approx(min(0.01 * 8 / 256, first.training.lr / 3))
    assert second.search.low == pytest.approx(1e-4 * 8 / 256)
    assert "10 from" in described_search(first.search)
    assert second.search.config["queue_length"] == 20  # as it was set


def test_a_trial_has_the_settings_of_its_few_images(plan):
    (spec,) = plan("deepcluster", lr="search", settings=("search.fraction=0.5",)).chain(["deepcluster"])
    assert spec.search.config["num_clusters"] < spec.config["num_clusters"]
    (spec,) = plan("deepcluster", lr="search", settings=("search.fraction=0.5", "deepcluster.num_clusters=4")).chain(
        ["deepcluster"]
    )
    assert spec.search.config["num_clusters"] == spec.config["num_clusters"] == 4


def test_a_rate_said_for_a_task_counts_before_the_search_and_the_other_way_round(plan):
    tasks = ["rotation", "mocov2"]
    fixed, looked = plan(*tasks, lr="search", settings=("rotation.lr=0.02",)).chain(tasks)
    assert fixed.search is None
    assert fixed.training.lr == 0.02
    assert looked.search is not None
    looked, fixed = plan(*tasks, lr=0.05, settings=("rotation.lr=search",)).chain(tasks)
    assert looked.search is not None
    assert (fixed.search, fixed.training.lr) == (None, 0.05)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"lr_range": (0.1, 0.2)}, "--lr-range is for a learning-rate search"),
        ({"lr_pruner": "asha"}, "--lr-pruner is for a learning-rate search"),
        ({"settings": ("search.trials=3",)}, "--set search is for a learning-rate search"),
        ({"lr": "search", "lr_range": (0.2, 0.1)}, "must rise, got 0.2 to 0.1"),
        ({"lr": "search", "settings": ("search.trials=0",)}, "search.trials must be at least 1"),
        ({"lr": "search", "settings": ("search.fraction=1.5",)}, "search.fraction must be"),
        ({"lr": "search", "settings": ("search.trails=3",)}, "search has no setting 'trails'"),
    ],
)
def test_mistakes_are_said_before_anything_is_read(plan, asked, message):
    with pytest.raises(SpecError, match=message):
        plan("rotation", **asked)


# ---- the command line


def test_the_command_searches_says_so_and_is_reused(sslcurr, folder):
    ask = ("chain", "rotation", "--dataset", str(folder), *TINY, "--lr", "search", "--set", "search.trials=2",
           "--lr-range", "0.001,0.01")  # fmt: skip
    plan = sslcurr(*ask, "--dry-run")
    assert "search (2 from 0.001 to 0.01, log" in plan.stdout
    result = sslcurr(*ask)
    assert result.exit_code == 0
    assert "learning-rate search (2 from 0.001 to 0.01" in result.stderr
    assert result.stderr.count("rate 1: ") == result.stderr.count("rate 2: ") == 2  # of both stages
    again = sslcurr.json(*ask)
    assert [stage["reused"] for stage in again["stages"]] == [True, True]
    folders = [Path(stage["checkpoint"]).parent for stage in again["stages"]]
    for place in folders:
        assert 0.001 <= json.loads((place / "done.json").read_text())["search"]["lr"] <= 0.01


SEARCHED = ("chain", "rotation", *QUICK, "--threads", "1", "--lr", "search", "--set", "search.trials=3")


def found_by(run: Command, document: dict[str, object]) -> list[object]:
    """All that the searches of a command have found, once it is seen that each job was done once."""
    events = [json.loads(line) for path in run.runs.glob("log/*.jsonl") for line in path.read_text().splitlines()]
    ended = [event["job"] for event in events if event["event"] == "ended"]
    assert len(ended) == len(set(ended))
    assert not {path.suffix for path in run.runs.glob("stages/*.*")} - {".lock"}
    stages = [Store(run.runs).resolve(stage["key"]) for stage in document["stages"]]
    if events:
        searched = [stage.key for stage in stages if stage.record.search]
        assert {job for job in ended if " trial " in job} == {f"{key} trial 0{n}" for key in searched for n in range(3)}
    return [found(stage) if stage.record.search else stage.record.weights_sha256 for stage in stages]


def test_a_worker_finds_what_the_command_finds(folder, tmp_path):
    ask = (*SEARCHED, "--dataset", str(folder), "--set", "classification.lr=0.01")
    runs = [Command(tmp_path / name) for name in ("a", "b")]
    plan = runs[1].json(*ask, "--plan-only")
    assert plan["jobs"] == 3 + 2 + 1  # trials, stages, a report
    worked = runs[1].json("work", "--until-idle", "--threads", "1")
    assert (worked["done_here"], worked["failures"]) == (6, [])
    assert found_by(runs[1], runs[1].json(*ask)) == found_by(runs[0], runs[0].json(*ask))


@pytest.mark.long
def test_two_jobs_of_which_one_is_killed_within_a_trial_find_the_same(folder, tmp_path):
    ask = (*SEARCHED, "--dataset", str(folder), "--set", "search.epochs=10", "--epochs", "10")
    runs = [Command(tmp_path / name) for name in ("a", "b")]
    process = start(runs[1].runs, *ask, "--save-minutes", "0.0001", "--jobs", "2", "--json")
    state = wait_for("stages/*.search/trial-*.part/resume.pt", runs[1].runs, process)
    owner = owner_of(state.parent.with_suffix(""))
    assert owner.pid != process.pid
    os.kill(owner.pid, signal.SIGKILL)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "it is tried again" in errors
    assert found_by(runs[1], json.loads(output)) == found_by(runs[0], runs[0].json(*ask))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--lr", "fast"), "'fast' is not a number"),
        (("--lr-range", "0.1"), "is not LOW,HIGH"),
        (("--lr-range", "0.1,x"), "'x' is not a number"),
        (("--lr-pruner", "median"), "is not none, asha or hyperband"),
    ],
)
def test_wrong_options_are_wrong_usage(sslcurr, option, message):
    result = sslcurr("pretrain", "rotation", *option)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_rate_is_a_number_as_before(sslcurr, folder):
    plan = sslcurr.json("pretrain", "rotation", "--dataset", str(folder), *TINY, "--lr", "0.5", "--dry-run")
    assert math.isclose(plan["stages"][0]["asked"]["training"]["lr"], 0.5)
    assert plan["stages"][0]["asked"]["search"] is None
