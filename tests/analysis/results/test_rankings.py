"""Documents of rankings, searches, grids and forecasts: the same JSON again, their tables, what the terminal says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET

from sslcurr.analysis.experiments import progress
from sslcurr.analysis.experiments.chains import FailedChain, MeasuredChain
from sslcurr.analysis.experiments.forecast import tree_lines
from sslcurr.analysis.experiments.ranking import Results
from sslcurr.analysis.results.columns import alone
from sslcurr.analysis.results.estimate import Difference, Estimate
from sslcurr.analysis.results.forecast.document import ForecastDocument
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.ranking.document import Kendall, RankDocument
from sslcurr.analysis.results.ranking.tables import _kendall_line
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.errors import StoreError
from sslcurr.progress import Reporter
from sslcurr.spec.stage import StageSpec, key_of
from tests import REPOSITORY

KEPT = REPOSITORY / "tests" / "documents"
MEASURED = REPOSITORY / "tests" / "documents" / "0.1.0"
FILES = {
    "rank": [KEPT / "rank.json", MEASURED / "cxr-orderings.json", MEASURED / "ham-orderings.json"],
    "search": [KEPT / "search.json", MEASURED / "cxr-search.json", MEASURED / "ham-search.json"],
    "grid": [KEPT / "grid.json", MEASURED / "cxr-grid.json"],
    "forecast": [KEPT / "forecast.json"],
    "search-forecast": [KEPT / "search-forecast.json"],
}
# Fields that a document may lack, and what the tables then lack.
OPTIONAL = {"rank": ["orderings", "best", "hypothesis", "attention"], "forecast": ["guessed"]}


def plain(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


every_file = pytest.mark.parametrize(
    ("kind", "path"),
    [pytest.param(kind, path, id=f"{kind}-{path.stem}") for kind, paths in FILES.items() for path in paths],
)


@every_file
def test_earlier_documents_are_read_and_written_to_the_byte(kind, path):
    document = plain(path)
    assert json.dumps(decode(kind, document).to_json()) == json.dumps(document)


@every_file
def test_a_document_without_a_key_is_damaged(kind, path):
    document = plain(path)
    for name in document:
        if name not in OPTIONAL.get(kind, ()):
            with pytest.raises(StoreError, match=f"a result of kind {kind} is damaged"):
                decode(kind, {key: value for key, value in document.items() if key != name})


@pytest.mark.parametrize("kind", sorted(FILES))
def test_documents_say_by_which_command_they_were_made(kind):
    document = decode(kind, plain(FILES[kind][0])).made_by(["sslcurr", "rank"])
    assert list(document.to_json())[-2:] == ["schema", "invocation"]
    assert decode(kind, document.to_json()) == document


# ---- rank


@pytest.fixture
def ranking() -> RankDocument:
    document = decode("rank", plain(KEPT / "rank.json"))
    assert isinstance(document, RankDocument)
    return document


def test_a_ranking_as_a_caller_reads_it(ranking):
    first = ranking.tasks[0]
    assert ranking.curriculum == [row.task for row in ranking.tasks]
    assert first.accuracy == Estimate(mean=first.mean, std=first.std, interval=first.interval)
    assert first.accuracy.interval[0] <= first.accuracy.mean <= first.accuracy.interval[1]
    assert isinstance(first.gain_over("scratch"), Difference)
    assert not first.gain_over("ImageNet")
    assert ranking.best.on_reported is ranking.best.on_test
    assert ranking.orderings[0].accuracy.mean == ranking.orderings[0].mean


def test_tables_of_a_ranking_hold_all_that_is_printed(ranking):
    singles, orderings = ranking.tables()
    notes = "\n".join([*singles.notes, *orderings.notes])
    for piece in (
        "curriculum: simsiam -> rotation",
        "neighbours that cannot be told apart: simsiam -> rotation",
        "gradcam maps (layer1, predicted class) inside the masks (AIL), 9 images",
        "best on the test images",
        "curricula against other orderings of the same tasks",
    ):
        assert piece in notes
    assert ranking.closing_lines() == [ranking.command]
    assert list(ranking.figures()) == ["singles", "orderings", "tree"]
    frame = singles.to_pandas()
    assert frame["mean"].tolist()[1:] == [row.mean for row in ranking.tasks]


@pytest.mark.parametrize("name", [*OPTIONAL["rank"], "all"])
def test_a_ranking_without_an_optional_part_has_its_tables_and_charts(name):
    document = plain(KEPT / "rank.json")
    for each in OPTIONAL["rank"] if name == "all" else [name]:
        del document[each]
    document["command"] = None
    ranking = decode("rank", document)
    has_orderings = "orderings" in document
    assert [table.name for table in ranking.tables()] == ["rank", *(["orderings"] if has_orderings else [])]
    assert all(table.cells() for table in ranking.tables())
    assert list(ranking.figures()) == ["singles", *(["orderings", "tree"] if has_orderings else [])]
    assert all(chart.draw() for chart in ranking.figures().values())
    assert ranking.closing_lines() == []


def test_a_ranking_of_which_nothing_was_measured_has_no_charts():
    document = plain(KEPT / "rank.json") | {"tasks": [], "curriculum": [], "ties": [], "command": None, "best": None}
    document["orderings"] = []
    document["baselines"]["scratch"] |= {"mean": None, "std": None, "interval": None, "runs": []}
    ranking = decode("rank", document)
    assert ranking.figures() == {}
    (table,) = ranking.tables()
    assert table.cells()[0][1] == "failed"


def test_the_best_by_images_that_are_not_of_the_test():
    document = plain(KEPT / "rank.json") | {"split": "val"}
    document["best"] = {"on_val": document["best"]["on_test"], "num_chains": 4}
    lines = decode("rank", document).tables()[1].notes
    assert any(line.startswith("best on the val images: ") for line in lines)
    assert not any("chosen on the validation images" in line for line in lines)


# ---- search


def test_a_search_ends_with_the_command_of_what_it_chose():
    search = decode("search", plain(KEPT / "search-masks.json"))
    assert isinstance(search, SearchDocument)
    assert search.closing_lines() == [search.command]
    assert f"found: {' -> '.join(search.ordering)}" in search.tables()[0].notes
    assert search.finalists[0].attention.mean is not None
    nothing = decode("search", search.to_json() | {"finalists": [], "ordering": [], "command": None})
    assert nothing.closing_lines() == []
    assert not nothing.figures()["search"].panels


def gradient() -> SearchDocument:
    document = decode("search", plain(KEPT / "search-gradient.json"))
    assert isinstance(document, SearchDocument)
    return document


def test_a_search_run_by_run_says_what_it_believes():
    document = gradient()
    (table,) = document.tables()
    assert [column.title for column in table.columns][2:4] == ["believed (points)", "good (%)"]
    (best,) = table.best
    assert table.rows[best]["ordering"] == " -> ".join(document.ordering)
    assert table.rows[best]["more"] is None
    beliefs = {" -> ".join(row.ordering): row for row in document.posterior.leading}
    for row in table.rows:
        belief = beliefs.get(row["ordering"])
        assert row["within"] == (belief.within if belief else None)
    text = "\n".join(table.notes)
    assert "3 runs, one at a time; it ended since the budget is spent." in text
    assert "is within 1 point of the best with probability" in text
    assert "probe: helps to foretell accuracies with probability" in text
    many = decode("search", document.to_json() | {"batch": 4, "ended": "confidence"})
    assert "3 runs, 4 at a time; it ended since the ordering is good enough." in many.tables()[0].notes


def test_a_search_without_a_model_has_no_beliefs():
    plain_document = gradient().to_json()
    plain_document.pop("posterior")
    document = decode("search", plain_document | {"strategy": "random"})
    titles = [column.title for column in document.tables()[0].columns]
    assert "good (%)" not in titles
    assert "validation (%)" in titles
    assert document.figures()["search"].panels


# ---- forecasts


@pytest.fixture
def forecast() -> ForecastDocument:
    document = decode("forecast", plain(KEPT / "forecast.json"))
    assert isinstance(document, ForecastDocument)
    return document


def test_a_forecast_says_what_is_to_be_trained(forecast):
    (table,) = forecast.tables()
    assert table.detail
    assert len(table.cells()) == len(forecast.stages)
    assert {row[-1] for row in table.cells()} == {"to be trained"}
    first, speeds, last = forecast.closing_lines()
    assert first == (
        f"{forecast.chains} chains; pretraining stages: 12 one by one, 8 with shared prefixes; "
        f"{len(forecast.stages)} stages in all, 0 there already"
    )
    assert speeds.startswith("images/s: ")
    assert speeds.count("(measured now)") == 3
    assert last.startswith("to be trained: about 9 s, ")
    assert forecast.figures() == {}


def test_a_forecast_of_hours_of_a_guessed_curriculum(forecast):
    document = forecast.to_json() | {"guessed": True, "hours": 30.5, "measured_now": []}
    lines = decode("forecast", document).closing_lines()
    assert lines[0].startswith("the curriculum is known when each task was trained alone")
    assert "(measured now)" not in lines[2]
    assert lines[3].startswith("to be trained: about 30.5 h, ")
    done = decode("forecast", document | {"guessed": False, "images_per_second": {}})
    assert len(done.closing_lines()) == 1


def test_a_forecast_of_a_search_in_a_sentence():
    earlier = decode("search-forecast", plain(KEPT / "search-forecast.json"))
    assert earlier.closing_lines() == ["4 orderings take 256 image passes; the search spends at most 256 (100%)"]
    now = {"tasks": ["a", "b"], "length": 2, "dataset": "d", "seeds": [0, 1], "budget_image_passes": 64.0}
    assert decode("search-forecast", earlier.to_json() | now).closing_lines() == [
        "4 orderings of up to 2 of 2 tasks at 2 seeds take 256 image passes; the search spends at most 64 (25%)"
    ]
    assert earlier.tables() == []
    assert earlier.figures() == {}


def test_the_tree_of_stages_by_hand(small_stage):
    orderings = [(), ("a",), ("b",), ("a", "b"), ("a", "c"), ("b", "c")]
    places = {ordering: place for place, ordering in enumerate(orderings)}
    base = small_stage("rotation")

    def stage(ordering: tuple[str, ...], seed: int, *, ends: bool = False) -> StageSpec:
        return replace(base, seed=100 * places[ordering] + 10 * ends + seed)

    planned = {
        (ordering, seed): [
            *[stage(ordering[:end], seed) for end in range(1, len(ordering) + 1)],
            stage(ordering, seed, ends=True),
        ]
        for seed in (0, 1)
        for ordering in orderings
    }
    there = [stage(("a",), 0), stage(("a",), 1), stage(("a", "b"), 1), stage(("a",), 0, ends=True)]
    stages = [{"task": "t", "tasks": ["t"], "seed": 0, "key": key_of(spec), "reused": True} for spec in there]
    stages.append({**stages[0], "key": key_of(stage(("b",), 0)), "reused": False})
    document = decode("forecast", plain(KEPT / "forecast.json") | {"stages": stages})
    assert tree_lines(document, planned, "scratch") == [
        "scratch  (classification 0 of 2)",
        "├── a  (2 of 2 there, classification 1 of 2)",
        "│   ├── b  (1 of 2 there, classification 0 of 2)",
        "│   └── c  (0 of 2 there, classification 0 of 2)",
        "└── b  (0 of 2 there, classification 0 of 2)",
        "    └── c  (0 of 2 there, classification 0 of 2)",
    ]
    probes = {name: specs[:-1] for name, specs in planned.items()}
    assert tree_lines(document, probes, "start")[:2] == ["start", "├── a  (2 of 2 there)"]


# ---- progress


def test_progress_counts_chains_and_leaves_out_what_failed(monkeypatch):
    lines: list[str] = []
    left: list[str] = []
    shown: list[Results] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "say", lines.append)
    monkeypatch.setattr(reporter, "leaves", left.extend)
    monkeypatch.setattr(progress, "key_of", str)
    store = SimpleNamespace(find=lambda key: None if key == "b" else key)
    chains = SimpleNamespace(specs=lambda ordering, seed: ordering, store=store)
    results = Results((0,))
    counted = progress.ChainsProgress(reporter, chains, shown.append)
    counted.expect([(), ("a",), ("a", "b")], (0,))
    measured = MeasuredChain((), 0, 0.5, None, np.ones(2), "key", Path("folder"))
    counted.chain_done(measured, results)
    counted.chain_done(FailedChain(("a", "b"), 0, "boom"), results)
    assert lines == ["[1/3] no pretext task, seed 0: 50.0 %", "[2/3] a -> b, seed 0: failed: boom"]
    assert left == ["b"]
    assert shown == [results, results]


def test_a_tau_that_is_not_defined_is_said():
    """Where all single tasks of the other seeds are equal, nothing is predicted."""
    entry = Kendall(length=2, by="last", tau=None, interval=None, num_orderings=6)
    about = "Kendall's tau of accuracy and the accuracy of its last task, 6 orderings of 2"
    assert _kendall_line(entry) == f"{about}: not defined, since at some seed all orderings are equal in one of the two"
    known = Kendall(length=2, by="last", tau=-0.004, interval=(-0.5, 0.25), num_orderings=6)
    assert _kendall_line(known) == f"{about}: +0.00 (-0.50 to +0.25)"


def test_a_gain_that_failures_left_one_seed_is_said():
    both, one = (Difference(mean=0.1, interval=(0.0, 0.2), num_seeds=num, told_apart=False) for num in (2, 1))
    assert alone([both, UNSET], "test") == []
    said = "A gain at one seed of several is hardly known: its interval may be over test images only."
    assert alone([both, one], "test") == [said]
