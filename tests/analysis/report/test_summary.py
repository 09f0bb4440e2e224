"""What the summary says, of documents made by hand: it may not say more than their intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sslcurr.analysis.report.answers import AS_LONG, BASELINE, CHAIN, NETWORK, ORDERS, SEEDS, Answers, answers_of
from sslcurr.analysis.report.asked import command_with, option_of, options_of, settings_in
from sslcurr.analysis.report.questions import missing, questions
from sslcurr.analysis.report.summary import cost, summaries
from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.estimate import Difference, Failure, Summary, with_error
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.ranking.document import (
    Best,
    Choice,
    Hypothesis,
    OrderingRow,
    PermutationTest,
    RankDocument,
    TaskRow,
)
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun, Totals
from tests import REPOSITORY

DOCUMENTS = REPOSITORY / "tests" / "documents"


def difference(mean: float, half: float, seeds: int = 3) -> Difference:
    interval = (mean - half, mean + half)
    apart = seeds > 1 and (interval[0] > 0 or interval[1] < 0)
    return Difference(mean=mean, interval=interval, num_seeds=seeds, told_apart=apart)


def chain(mean: float | None) -> dict:
    interval = None if mean is None else (mean - 0.05, mean + 0.05)
    return {"mean": mean, "std": 0.01, "interval": interval, "validation": mean, "runs": []}


def ranking(
    gains: dict[str, Difference], *, seeds: int = 3, longer: dict[str, Difference | None] | None = None, **more
):
    """A ranking against a scratch of 50 %: task -> its gain, and orderings of tasks -> theirs."""
    tasks = [TaskRow(task=name, gain=gain, **chain(0.5 + (gain.mean or 0.0))) for name, gain in gains.items()]
    document = RankDocument(
        dataset="lungs",
        split="test",
        measure="finetune",
        seeds=list(range(seeds)),
        num_images=100,
        tasks=sorted(tasks, key=lambda row: row.mean),
        baselines={"scratch": Summary(**chain(0.5))},
        curriculum=[row.task for row in sorted(tasks, key=lambda row: row.mean)],
        ties=[],
        failed=[],
        command=None,
    )
    if longer is not None:
        rows = [
            OrderingRow(
                ordering=name.split(),
                kind="mixed",
                full=True,
                uncertain=False,
                best=False,
                gain=UNSET if gain is None else gain,
                **chain(0.7 if gain is None else 0.5 + gain.mean),
            )
            for name, gain in longer.items()
        ]
        best = max(rows, key=lambda row: row.mean)
        choice = Choice(ordering=best.ordering, mean=best.mean, std=0.01, interval=best.interval, validation=0.6)
        document = replace(
            document, orderings=rows, best=Best(on_test=choice, num_chains=len(rows) + len(tasks), on_validation=choice)
        )
    return replace(document, **more)


def said(document: Document, *command: str) -> Answers:
    return answers_of(document, command)


# ---- rankings


def test_tasks_that_beat_scratch():
    text = said(ranking({"a": difference(0.1, 0.05), "b": difference(0.2, 0.05)})).pretraining
    assert text.startswith("Yes: each of the 2 tasks alone beats scratch (50.0 %).")
    assert "The best task, b, has 70.0 %: +20.0 points (+15.0 to +25.0), paired over 3 seeds." in text
    one = said(ranking({"a": difference(0.1, 0.05)})).pretraining
    assert one.startswith("Yes: a beats scratch (50.0 %). a has 60.0 %")


def test_some_beat_it_and_one_is_worse():
    gains = {"a": difference(0.1, 0.05), "b": difference(0.01, 0.05), "c": difference(-0.2, 0.05)}
    text = said(ranking(gains)).pretraining
    assert text.startswith(
        "In part: of 3 tasks alone a beats scratch (50.0 %). c is worse. One task cannot be told apart"
    )


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"a": difference(-0.1, 0.05)}, "No: a is worse than scratch"),
        ({"a": difference(-0.1, 0.05), "b": difference(-0.2, 0.05)}, "No: every task alone is worse than scratch"),
        (
            {"a": difference(-0.1, 0.05), "b": difference(0.0, 0.05)},
            "No: no task alone beats scratch (50.0 %). a is worse.",
        ),
        ({"a": difference(0.1, 0.2)}, "Not shown: a cannot be told apart from scratch"),
        (
            {"a": difference(0.1, 0.2), "b": difference(0.0, 0.1)},
            "Not shown: no task alone can be told apart from scratch",
        ),
    ],
)
def test_what_does_not_beat_scratch_is_never_said_to(gains, verdict):
    document = ranking(gains)
    answers = said(document)
    assert answers.pretraining.startswith(verdict)
    assert "Yes" not in answers.pretraining
    assert document.tables()[0].best == frozenset()
    assert any(note.startswith("No task is marked") for note in document.tables()[0].notes) or len(gains) == 1


def test_one_seed_tells_nothing_apart_however_large():
    answers = said(ranking({"a": difference(0.3, 0.01, seeds=1)}, seeds=1), "sslcurr", "rank", "a", "--epochs", "5")
    assert answers.pretraining.startswith("Not shown, since one seed tells nothing apart from scratch")
    assert "intervals are over images only" in answers.sure
    (gap,) = [gap for gap in answers.gaps if gap.name == SEEDS]
    assert gap.command == "sslcurr rank a --dataset lungs --epochs 5 --seeds 3"


def test_without_scratch_nothing_is_said_of_it():
    answers = said(ranking({"a": difference(0.1, 0.05)}, baselines={}))
    assert answers.pretraining == ""
    assert BASELINE in [gap.name for gap in answers.gaps]


def test_failed_chains_are_counted_and_not_compared():
    gains = {"a": difference(0.1, 0.05), "b": Difference(mean=None, interval=None, num_seeds=0, told_apart=False)}
    document = ranking(gains, failed=[Failure(ordering=["b"], seed=0, reason="nan")])
    document = replace(document, tasks=[document.tasks[1], replace(document.tasks[0], mean=None, interval=None)])
    answers = said(document)
    assert "Yes: a beats scratch" in answers.pretraining
    assert "1 chain failed and is left out." in answers.sure
    assert said(replace(document, tasks=[])).pretraining == ""


def test_a_chain_may_beat_scratch_where_no_task_does():
    gains, longer = {"a": difference(0.1, 0.2), "b": difference(0.0, 0.2)}, {"a b": difference(0.2, 0.1)}
    text = said(ranking(gains, longer=longer)).pretraining
    assert text.startswith("By a chain: no task alone beats scratch (50.0 %), a chain does.")
    assert (
        "that the validation images choose, a -> b, has 70.0 % (65.0 to 75.0): +20.0 points (+10.0 to +30.0)." in text
    )
    text = said(ranking(gains, longer={"a b": difference(0.2, 0.3)})).pretraining
    assert text.startswith("Not shown")
    assert text.endswith("(-10.0 to +50.0), not told apart from scratch.")


def test_orderings_of_an_older_version_have_no_interval_and_are_marked_by_their_own():
    gains = {"a": difference(0.1, 0.05), "b": difference(0.1, 0.05)}
    document = ranking(gains, longer={"a b": None, "b a": None})
    document = replace(document, orderings=[replace(document.orderings[0], best=True), document.orderings[1]])
    answers = said(document)
    assert CHAIN in [gap.name for gap in answers.gaps]
    assert "has 70.0 % (65.0 to 75.0)." in answers.pretraining
    assert document.tables()[1].best == {0}  # 65 to 75 % lies above 45 to 55 %
    low = replace(document.orderings[0], **{**chain(0.55)})
    assert replace(document, orderings=[low]).tables()[1].best == frozenset()


def hypothesis_of(effect: float, half: float, p: float | None, reason: str | None = None) -> Hypothesis:
    interval = (effect - half, effect + half)
    test = PermutationTest(
        strata="set",
        num_strata=1,
        effect=effect,
        p_value=p,
        num_arrangements=24,
        exact=True,
        interval=interval,
        reason=reason,
    )
    return Hypothesis(permutation=[test], kendall=[])


@pytest.mark.parametrize(
    ("hypothesis", "verdict"),
    [
        (
            hypothesis_of(0.05, 0.02, 0.01),
            "Curricula (tasks by rising accuracy) beat other orders of the same tasks: +5.0 points",
        ),
        (
            hypothesis_of(0.05, 0.02, 0.2),
            "beat other orders of the same tasks is not shown: +5.0 points (+3.0 to +7.0), p = 0.2",
        ),
        (hypothesis_of(0.05, 0.07, 0.01), "is not shown: +5.0 points"),
        (hypothesis_of(-0.05, 0.02, 0.9), "are worse than other orders of the same tasks: -5.0 points (-7.0 to -3.0)"),
        (hypothesis_of(0.05, 0.02, None, "one seed"), "Curricula against other orders of the same tasks: +5.0 points"),
    ],
)
def test_what_is_said_of_curricula(hypothesis, verdict):
    gains = {"a": difference(0.1, 0.05), "b": difference(0.1, 0.05)}
    document = ranking(gains, longer={"a b": difference(0.2, 0.1)}, hypothesis=hypothesis)
    assert verdict in said(document).order


def test_single_tasks_leave_the_order_open():
    answers = said(ranking({"a": difference(0.1, 0.05), "b": difference(0.1, 0.05)}))
    assert answers.order.startswith("Not tested.")
    (gap,) = [gap for gap in answers.gaps if gap.name == ORDERS]
    assert gap.command == "sslcurr rank a b --dataset lungs --length 2 --seeds 3"


def test_ties_validation_images_and_old_intervals_are_said():
    document = ranking({"a": difference(0.1, 0.05), "b": difference(0.1, 0.05)}, ties=[["a", "b"]], split="val")
    answers = said(document)
    assert "cannot be told apart: a -> b." in answers.sure
    assert "There are no test images." in answers.sure
    assert "too narrow" in answers.sure
    assert "too narrow" not in said(document.made_by(["sslcurr"])).sure


# ---- chains and other results


def train(**changes) -> Document:
    plain = json.loads((DOCUMENTS / "train.json").read_text())
    return replace(decode("train", plain), **changes)


def test_a_chain_of_one_seed_shows_nothing():
    low, high = difference(0.1, 0.05, seeds=1), difference(-0.1, 0.05, seeds=1)
    near = difference(0.01, 0.05, seeds=1)
    assert "More than the luck of images explains" in said(train(gain=low)).pretraining
    assert "Less than the luck of images explains" in said(train(gain=high)).pretraining
    assert said(train(gain=near)).pretraining.startswith("Not shown: the two cannot be told apart.")
    assert said(train(gain=UNSET)).pretraining.endswith("their difference has no interval.")
    assert all(said(train(gain=gain)).pretraining.startswith("Not shown") for gain in (low, high, near, UNSET))
    assert said(train(gain=low)).gaps[0].name == SEEDS


def test_a_chain_without_scratch_and_pretraining_alone():
    answers = said(train(baseline=UNSET, gain=UNSET))
    assert answers.pretraining == ""
    assert answers.gaps[0].name == BASELINE
    assert answers.gaps[0].command.endswith("--baseline scratch")
    answers = said(decode("train", json.loads((DOCUMENTS / "train-pretrained.json").read_text())))
    assert "nothing was fine-tuned" in answers.gaps[0].text
    assert "sslcurr rank" in answers.gaps[0].command


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_kind_of_document_has_answers(path: Path):
    kind = path.stem
    kind = "" if kind == "search-forecast" else kind
    while kind and kind not in (
        "rank",
        "train",
        "variants",
        "search",
        "grid",
        "explain",
        "attend",
        "probe",
        "cka",
        "fid",
    ):
        kind = kind.rpartition("-")[0]
    if kind:
        answers = said(decode(kind, json.loads(path.read_text())))
        assert answers.heading
        assert answers.dataset or kind == "train"


def test_grids_and_settings_count_what_beats_scratch():
    grid = decode("grid", json.loads((DOCUMENTS / "grid.json").read_text()))
    cells = [cell for cell in grid.cells if cell.ssl_fraction is not None]
    beaten = [replace(cell, gain=difference(0.1, 0.05)) for cell in cells]
    assert " beats scratch for every share of images and labels. " in said(replace(grid, cells=beaten)).pretraining
    mixed = [*beaten[1:], replace(cells[0], gain=difference(0.1, 0.2))]
    assert f" beats scratch in {len(cells) - 1} of " in said(replace(grid, cells=mixed)).pretraining


# ---- of a data set


def stored(name: str, kind: str | None = "rank", **more) -> StoredRun:
    run = StoredRun(
        run=name,
        kind=kind,
        title=f"title of {name}",
        dataset="lungs",
        seed=0,
        created="2026-01-01T00:00:00",
        finished=True,
        balanced_accuracy=None,
        command=["sslcurr", "rank", "a", "--dataset", "lungs", "--epochs", "5"],
        stages=[],
        missing=[],
        hours=0,
        devices=[],
        failed=[],
        settings=[],
        document=None,
    )
    return replace(run, **more)


def store_of(*runs: StoredRun) -> ReportDocument:
    totals = Totals(runs=len(runs), finished=len(runs), stages=0, hours=0, devices=[], versions=[])
    return ReportDocument(
        store="runs", created="now", sslcurr="0", totals=totals, datasets=[], runs=list(runs), stages=[]
    )


def test_the_result_that_says_most_speaks_and_others_fill_its_gaps():
    both = {"a": difference(0.1, 0.05), "b": difference(0.1, 0.05)}
    longer = {"a b": difference(0.2, 0.1)}
    command = ("sslcurr", "rank", "a", "b", "--epochs", "5")
    answers = {
        "old": said(ranking(both), *command),
        "main": said(ranking(both, longer=longer), *command),
        "long": said(ranking(both), "sslcurr", "rank", "a", "b", "--epochs", "10"),
    }
    document = store_of(*(stored(name) for name in answers))
    (summary,) = summaries(document, answers)
    assert (summary.dataset, summary.main, summary.others) == ("lungs", "main", 2)
    names = [gap.name for gap in summary.gaps]
    assert AS_LONG not in names
    assert ORDERS not in names
    assert NETWORK in names
    texts = {question: f"{answer} {more}" for question, answer, more in summary.sentences}
    assert "Trained for 10 epochs, a alone has 60.0 %" in texts["Does pretraining help?"]
    assert texts["What did it cost?"].startswith("Not kept")
    short = {**answers, "long": answers["old"]}
    (summary,) = summaries(document, short)
    assert AS_LONG in [gap.name for gap in summary.gaps]


def test_each_data_set_has_a_summary_the_main_one_first():
    one = said(ranking({"a": difference(0.1, 0.05)}))
    answers = {"x": replace(one, dataset="skin", weight=(1, 1, 1), pretraining=""), "y": one}
    found = summaries(store_of(stored("x"), stored("y")), answers)
    assert [summary.dataset for summary in found] == ["lungs", "skin"]
    assert found[1].sentences[0][1].startswith("Not known: no result here compares a chain")


def test_without_results_it_says_so():
    answers = {"x": Answers()}
    (summary,) = summaries(store_of(stored("x", None)), answers)
    assert summary.sentences[0][1] == "Not known: there is 1 run and 0 stages, but no kept result."
    assert summary.main == ""
    assert cost(store_of(), "lungs", []).startswith("Not kept")


def test_an_unfinished_result_is_said_to_be():
    answers = {"x": said(ranking({"a": difference(0.1, 0.05)}))}
    (summary,) = summaries(store_of(stored("x", finished=False)), answers)
    assert any("has not come to its end" in more for _, _, more in summary.sentences)


def test_questions_without_an_answer_are_named_with_the_command_that_gives_one():
    answers = {"x": said(ranking({"a": difference(0.1, 0.05)}))}
    found = questions(store_of(stored("x")), answers)
    ids = [question.id for question in found if question.is_answered]
    assert ids == ["baseline", "tasks", "order", "robustness", "cost", "repeat"]
    lacking = {question.id: question.command for question in missing(found)}
    assert lacking["attention"] == "sslcurr attend KEY --masks FOLDER --dataset lungs"
    assert "features" in lacking
    assert "others" not in lacking


# ---- words


def test_options_of_a_command_line():
    command = ["sslcurr", "rank", "a", "--as-if-empty", "--set", "a.lr=0.1", "--set=b.lr=1", "--json", "--epochs", "3"]
    assert dict(options_of(command)) == {"as-if-empty": "", "set": "b.lr=1", "json": "", "epochs": "3"}
    assert settings_in(command) == ["--set a.lr=0.1", "--set b.lr=1", "--epochs 3"]
    assert option_of(command, "epochs") == "3"
    assert option_of(command, "seeds") is None
    line = command_with("rank", ["a b"], [*command, "--dataset", "x y", "--seeds", "1"], "z", "--epochs 9 --seeds 3")
    assert line == "sslcurr rank 'a b' --set a.lr=0.1 --set b.lr=1 --dataset 'x y' --epochs 9 --seeds 3"


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (69030.05, 2624.74, "69,000 ± 2,600"),
        (12.345, 0.5678, "12.35 ± 0.57"),
        (0.01234, 0.00056, "0.01234 ± 0.00056"),
        (3.0, 0.0, "3"),
        (123456.7, None, "123,457"),
        (1.23456, None, "1.235"),
        (None, None, "-"),
    ],
)
def test_a_number_has_the_digits_that_its_deviation_allows(mean, deviation, text):
    assert with_error()(mean, deviation) == text


def test_what_a_command_does_not_say_is_not_made_up():
    assert command_with("rank", ["a"], ["sslcurr", "join", "x.json"], "lungs", "--seeds 3") == ""
    joined = stored("x", command=["sslcurr", "join", "x.json"])
    answers = {"x": said(ranking({"a": difference(0.1, 0.05)}))}
    found = {question.id: question for question in questions(store_of(joined), answers)}
    ((row,), (robust,)) = (found[name].tables[0].table.rows for name in ("tasks", "robustness"))
    assert row["settings"] == "those of the results that it joins"
    assert (robust["folds"], robust["over"]) == ("not known", "not known")
    scripted = stored("x", command=["train.py"])
    found = {question.id: question for question in questions(store_of(scripted), answers)}
    assert found["tasks"].tables[0].table.rows[0]["settings"] == "not said by its command, train.py"
