"""Documents of the report: as they were printed, and stores with old, damaged and unknown parts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sslcurr.analysis.report import page
from sslcurr.analysis.report.gather import gather
from sslcurr.analysis.report.pictures import drawn_stages, last_stages
from sslcurr.analysis.report.questions import KINDS
from sslcurr.analysis.report.tables import found_by, printed_table
from sslcurr.analysis.results.kinds import TABLE_NAMES, decode
from sslcurr.analysis.results.report import tables
from sslcurr.analysis.results.report.document import ReportDocument
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.spec.record import RunRecord
from tests import REPOSITORY

DOCUMENTS = REPOSITORY / "tests" / "documents"


def plain(name: str = "report") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text())
    document.pop("files", None)
    return document


def report() -> ReportDocument:
    document = decode("report", plain())
    assert isinstance(document, ReportDocument)
    return document


def test_printed_documents_come_out_as_they_went_in():
    assert json.dumps(report().to_json()) == json.dumps(plain())


def test_a_document_that_lacks_a_part_is_damaged():
    for name in set(plain()) - {"page"}:
        document = plain()
        del document[name]
        with pytest.raises(StoreError, match="kind report is damaged"):
            decode("report", document)


def test_the_last_key_says_where_the_page_is_and_the_last_line_what_is_on_it():
    document = report()
    assert list(document.to_json())[-1] == "page"
    written = replace(document, page="a/b.html", page_size=1_804_000, num_figures=45)
    assert written.closing_lines() == ["a/b.html: 1.80 MB, 3 runs, 45 figures"]
    assert written.to_json() == {**document.to_json(), "page": "a/b.html"}
    none = replace(document, page=None)
    assert none.closing_lines() == []
    assert none.to_json()["page"] is None
    assert list(none.made_by(["sslcurr"]).to_json())[-3:] == ["page", "schema", "invocation"]
    # A terminal is shown that line alone.
    assert [(table.name, table.detail) for table in document.tables()] == [
        (name, True) for name in ("runs", "stages", "datasets", "devices")
    ]


def test_the_stages_that_are_drawn_are_those_of_the_chains():
    document = report()
    by_kind = {run.title: run for run in document.runs}
    trained = by_kind["rotation -> classification"]
    ends = {run.run: last_stages(run, found_by(run)) for run in document.runs}
    assert ends[trained.run] == trained.stages[:2]  # of the document, without the baseline
    assert ends[by_kind["knn"].run] == []
    assert set(drawn_stages(document, ends).values()) == set(trained.stages[:2])


# ---- stores that are not as this version writes them


def store_in(root: Path) -> Store:
    """Runs that nobody carried out, with a document of each kind."""
    store = Store(root)
    for number, kind in enumerate(
        ("train", "rank", "variants", "search", "grid", "cka", "fid", "probe", "attend", "explain")
    ):
        store.keep_result(noted(store, kind, number), kind, plain(kind))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path / "runs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> page.Page:
    """The page of `store` where everything can be read."""
    store = store_in(tmp_path_factory.mktemp("whole") / "runs")
    return page.page(gather(store), store)


def noted(store: Store, title: str, number: int = 0, **more: Any) -> RunRecord:
    record = RunRecord(
        asked={"test": title},
        title=title,
        dataset="clothes",
        created=f"2026-01-01T10:00:0{number}+00:00",
        command=["sslcurr", title, "it's"],
        **more,
    )
    store.note_run(record)
    return record


def name_of(store: Store, title: str) -> str:
    (name,) = [name for name, record in store.all_runs().items() if record.title == title]
    return name


def test_every_kind_has_its_tables_and_charts_on_the_page(store, whole):
    document, made = gather(store), whole
    assert made.num_figures >= 8
    assert made.left_out == ()
    assert "cannot be shown" not in made.html
    for section in set(KINDS.values()):
        assert f'<section id="{section}-section"' in made.html
    for name in TABLE_NAMES.keys() - {"stages", "rates"}:
        table, command = printed_table(document, name)
        assert table.name == name
        assert command[0] == "sslcurr"


def test_a_record_without_a_command_is_read(store):
    """Versions before 0.2 wrote none where they prepared a data set."""
    old = {"asked": {"prepared": "p"}, "title": "data prepare, 24 px", "dataset": "d", "seed": 0, "stages": []}
    old |= {"analyses": [], "packs": ["p"], "balanced_accuracy": None, "finished": True}
    (store.runs / "old.json").write_text(json.dumps({**old, "created": "2026-01-02T10:00:00+0000"}))
    document = gather(store)
    assert document.runs[0].command is UNSET
    assert "command" not in document.runs[0].to_json()
    html = page.page(document, store).html
    assert "data prepare, 24 px" in html
    assert html.count("Its command line is not known") == 1
    assert (
        html.count('class="command"') == 1 + 10 + 2
    )  # the page's, those of the runs, those of chains that were chosen
    with pytest.raises(StoreError, match="the run old has no kept result"):
        printed_table(gather(store, ["old"]), "rank")


def test_a_record_with_the_least_that_it_may_have_is_read(store):
    least = {"asked": {"n": 1}, "title": "least", "dataset": "d", "created": "2026-01-02T10:00:00+00:00"}
    (store.runs / "least.json").write_text(json.dumps(least))
    run = gather(store).runs[0]
    assert (run.run, run.stages, run.finished, run.balanced_accuracy, run.kind) == ("least", [], True, None, None)
    assert tables.state_of(run) == "finished"
    assert "least" in page.page(gather(store), store).html


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"kind": "cka", "document": {"pairs": 3}}', "a result of kind cka is damaged"),
        ('{"kind": "cka", "document": [1, 2]}', "cannot read"),
        ('{"kind": "cka", "docu', "cannot read"),
        ("[]", "cannot read"),
        ("{}", "cannot read"),
        (
            '{"kind": "of another version", "document": {"failed": 3}}',
            "knows no tables for results of the kind of another",
        ),
    ],
)
def test_what_cannot_be_read_stops_no_page(store, whole, content, words):
    name = name_of(store, "cka")
    (store.results / f"{name}.json").write_text(content)
    document = gather(store)
    made = page.page(document, store)
    assert f'id="run-{name}"' in made.html
    assert made.html.count("What this command found cannot be shown: ") == 1
    assert words in made.html
    assert shlex.join(["sslcurr", "cka", "it's"]).replace("'", "&#39;").replace('"', "&#34;") in made.html
    assert whole.num_figures > made.num_figures > 5  # the others are drawn
    assert json.dumps(document.to_json())
    with pytest.raises(StoreError, match="damaged" if words.endswith("damaged") else "no run in .* has a table 'cka'"):
        printed_table(document, "cka")
    assert printed_table(document, "fid")[0].name == "fid"


def test_a_table_comes_from_the_newest_run_that_can_be_read(store):
    store.keep_result(noted(store, "newer", 9), "cka", {"pairs": 3})
    table, command = printed_table(gather(store), "cka")
    assert (table.name, command) == ("cka", ("sslcurr", "cka", "it's"))
