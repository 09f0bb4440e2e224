"""The automatic curriculum as a person runs it: runs, cost, what it says, and what a kill or a full store changes."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.engine import train
from tests.conftest import QUICK
from tests.kill import kill_at

PAIR = ("rotation", "simsiam")
SMALL = ("--set", "simsiam.hidden=16", "--set", "simsiam.dim=16")


@pytest.fixture
def ask(folder):
    def of(*more: str, tasks: tuple[str, ...] = PAIR) -> tuple[str, ...]:
        return ("rank", *tasks, "--search", "--dataset", str(folder), *QUICK, *SMALL, *more)

    return of


def told(document) -> list[tuple]:
    return [(tuple(step["ordering"]), step["seed"], step["validation"], step["share"]) for step in document["steps"]]


def test_a_search_runs_what_it_can_afford_and_says_what_it_believes(sslcurr, ask, tmp_path):
    plan = sslcurr.json(*ask("--dry-run", "--seeds", "2"))
    found = sslcurr.json(*ask("--seeds", "2", "--budget", "0.7", "--confidence", "1", "--plot", str(tmp_path / "p")))
    assert [step["ordering"] for step in found["steps"][:2]] == [["rotation"], ["simsiam"]]
    assert {step["seed"] for step in found["steps"]} <= {0, 1}
    shares = [step["share"] for step in found["steps"]]
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 0.7
    assert shares[-1] == found["cost"]["share"]
    assert found["cost"]["exhaustive_image_passes"] == plan["exhaustive_image_passes"]
    assert (found["strategy"], found["batch"], found["ended"]) == ("knowledge-gradient", 1, "budget")
    assert all("regret" not in step for step in found["steps"])
    assert found["steps"][-1]["best"] == found["ordering"]
    rows = {tuple(row["ordering"]): row for row in found["finalists"]}
    for step in found["steps"]:
        runs = {run["seed"]: run for run in rows[tuple(step["ordering"])]["runs"]}
        assert runs[step["seed"]]["validation"] == step["validation"]
    posterior = found["posterior"]
    leading = {tuple(row["ordering"]): row for row in posterior["leading"]}
    assert leading[tuple(found["ordering"])]["within"] == pytest.approx(posterior["probability"], abs=0.02)
    assert leading[tuple(found["ordering"])]["more"] == 0
    assert set(posterior["scales"]) == {"task", "pair", "length", "own", "seed", "stages", "run"}
    assert 0 <= posterior["most_missed"] <= posterior["most_apart"]
    # The chosen one has the highest posterior mean of those that were measured.
    assert found["finalists"][0]["ordering"] == found["ordering"]
    assert (tmp_path / "p" / "search.png").exists()
    words = shlex.split(found["command"])
    assert sslcurr.json(*words[1:])["stages"][-1]["reused"] in (True, False)


def test_what_it_prints(sslcurr, ask):
    text = sslcurr(*ask("--seeds", "1", "--budget", "1")).stdout
    assert "4 runs, one at a time; it ended since" in text
    assert "with probability" in text
    assert "none is better than another by more than" in text
    assert "Another tenth of the cost of all orderings is expected to raise the best mean by" in text
    assert "sslcurr chain" in text


def test_a_killed_search_ends_with_the_same_document(sslcurr, ask, tmp_path, monkeypatch):
    whole = ("--seeds", "2", "--budget", "0.8")
    for call in (2, 5, 9):
        with monkeypatch.context() as patch:
            kill_at(patch, train, "one_step", call)
            assert sslcurr(*ask(*whole)).exit_code == 130
        assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}
    found = sslcurr.json(*ask(*whole))
    other = type(sslcurr)(tmp_path / "other")
    straight = other.json(*ask(*whole))
    assert told(found) == told(straight)
    assert found["ordering"] == straight["ordering"]
    assert found["posterior"] == straight["posterior"]
    # Now the store holds all of it, and a search that is run again still counts as when it began.
    assert told(sslcurr.json(*ask(*whole))) == told(found)


def test_what_the_store_holds_costs_nothing_unless_that_is_asked(sslcurr, ask, folder):
    table = sslcurr.json("rank", *PAIR, "--length", "2", "--seeds", "1", "--dataset", str(folder), *QUICK, *SMALL)
    free = sslcurr.json(*ask("--seeds", "1", "--budget", "0.5"))
    assert free["cost"]["image_passes"] == 0
    assert free["cost"]["held_stages"] == 4
    assert len(free["steps"]) == 4
    assert free["ended"] in ("all", "confidence")
    paid = sslcurr.json(*ask("--seeds", "1", "--budget", "0.5", "--confidence", "1", "--as-if-empty"))
    assert 0 < paid["cost"]["share"] <= 0.5
    assert "held_stages" not in paid["cost"]
    assert len(paid["steps"]) == 2
    # The whole table is known: what was missed is said, run by run.
    means = {(row["task"],): row["mean"] for row in table["tasks"]}
    means |= {tuple(row["ordering"]): row["mean"] for row in table["orderings"]}
    for step in paid["steps"]:
        assert step["regret"] == pytest.approx(max(means.values()) - means[tuple(step["best"])])
    assert paid["missed"]["gap"] == pytest.approx(paid["steps"][-1]["regret"])
    assert paid["missed"]["num_orderings"] == 4
    assert paid["missed"]["median"] == pytest.approx(np.median(list(means.values())))


def test_side_figures_are_tried_and_paid_for(sslcurr, ask):
    sides = ("--side", "cka", "--side", "probe")
    found = sslcurr.json(*ask("--seeds", "1", "--budget", "1", "--confidence", "1", *sides))
    assert set(found["posterior"]["side"]) == {"cka", "probe"}
    plain = sslcurr.json(*ask("--seeds", "1", "--budget", "1", "--confidence", "1", "--as-if-empty"))
    assert plain["posterior"]["side"] == {}
    # A forward pass of the validation images (cka) and of all images (probe) by the models of two tasks.
    extra = found["steps"][2]["share"] - found["steps"][1]["share"]
    extra -= plain["steps"][2]["share"] - plain["steps"][1]["share"]
    passes = (9 + 63) * 2 / 3
    assert extra * plain["cost"]["exhaustive_image_passes"] == pytest.approx(passes, rel=0.2)
    small = sslcurr(*ask("--seeds", "1", "--budget", "0.52", "--confidence", "1", "--as-if-empty", *sides))
    assert "probe is left out: it does not fit into the budget" in small.stderr
    text = sslcurr(*ask("--seeds", "1", "--budget", "1", "--confidence", "1", *sides)).stdout
    assert "cka: helps to foretell accuracies with probability" in text


@pytest.mark.parametrize("strategy", ["random", "halving", "curriculum", "beam"])
def test_other_strategies_are_there_to_compare_with(sslcurr, ask, strategy):
    score = ("--score", "target") if strategy == "beam" else ()
    found = sslcurr.json(*ask("--seeds", "1", "--budget", "0.75", "--strategy", strategy, *score, "--measure", "knn"))
    assert found["strategy"] == strategy
    assert "posterior" not in found
    assert found["ordering"]
    assert 0 < found["cost"]["share"] <= 0.75
    document = decode("search", found)
    assert isinstance(document, SearchDocument)
    assert "good (%)" not in [column.title for column in document.tables()[0].columns]


def test_a_chain_that_fails_is_left_out_and_said(sslcurr, ask):
    result = sslcurr(*ask("--seeds", "1", "--budget", "1", "--set", "rotation.lr=1e30", "--json"))
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found["ordering"] == ["simsiam"]
    assert [failure["ordering"] for failure in found["failed"]] == [["rotation"], ["simsiam", "rotation"]]
    assert found["steps"][0]["validation"] is None
    nothing = sslcurr(*ask("--seeds", "1", "--set", "rotation.lr=1e30", "--set", "simsiam.lr=1e30", "--budget", "1"))
    assert nothing.exit_code == 3
    assert "the loss of simsiam is not finite" in nothing.stdout
    assert "found:" not in nothing.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "0.01"), "no chain fits into 1% of the exhaustive cost"),
        (("--budget", "1.5"), "--budget must be above 0 and at most 1, got 1.5"),
        (("--tolerance", "0"), "--tolerance must be above 0 points, got 0"),
        (("--confidence", "1.2"), "--confidence must be above 0 and at most 1, got 1.2"),
        (("--batch", "0"), "--batch must be at least 1, got 0"),
        (("--beam", "3"), "--beam, --score and --penalty are not for knowledge-gradient"),
        (("--strategy", "random", "--tolerance", "2"), "--tolerance and --confidence are not for random"),
        (("--strategy", "beam", "--score", "target", "--penalty", "0.1"), "--penalty is for probes"),
        (("--strategy", "bream"), "'bream' is not one of"),
        (("--strategy", "random", "--side", "cka"), "--side is not for random"),
    ],
)
def test_mistakes(sslcurr, ask, arguments, message):
    result = sslcurr(*ask("--seeds", "1", *arguments))
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert not list(sslcurr.runs.glob("stages/*"))
    assert not list(sslcurr.runs.glob("runs/*.json"))
