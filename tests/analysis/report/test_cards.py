"""The report of a store that 0.1.0 wrote, and what stands on it of results that cannot be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from sslcurr.analysis.report import pictures
from sslcurr.analysis.results.document import Document
from sslcurr.api.lab import Lab
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from tests import REPOSITORY
from tests.analysis.report.test_report import Reader
from tests.conftest import Command


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, whose pages have no charts, which take most of the time."""
    monkeypatch.setattr(Document, "figures", lambda self: {})
    monkeypatch.setattr(pictures, "stage_charts", lambda title, stage: [])
    with zipfile.ZipFile(REPOSITORY / "tests" / "store-0.1.0.zip") as archive:
        archive.extractall(tmp_path / "runs")
    return Store(tmp_path / "runs")


def names_of(store: Store, title: str) -> list[str]:
    return [name for name, record in store.all_runs().items() if record.title.startswith(title)]


def test_every_run_of_an_old_store_has_its_card(store, tmp_path):
    """`data prepare` of 0.1.0 wrote records without a command, which was a KeyError."""
    out = tmp_path / "page.html"
    document = Command(store.root).json("report", "--out", str(out))
    (prepared,) = names_of(store, "data prepare")
    assert not {run["run"]: run for run in document["runs"]}[prepared].get("command")
    assert document["page"] == str(out)
    page = Reader(out.read_text())
    assert {f"run-{name}" for name in store.all_runs()} <= set(page.ids)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= set(page.ids)
    assert "cannot be shown" not in page.text
    result = Command(store.root)("report", "--table", "train", "--run", prepared)
    assert result.exit_code == 1
    assert f"error: the run {prepared} has no kept result" in result.stderr
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("kind", "plain", "said"),
    [
        ("weather", {"degrees": 3.5}, "knows no tables for results of the kind weather"),
        ("train", {"stages": 3}, "a result of kind train is damaged"),
    ],
)
def test_one_result_that_cannot_be_read_stops_no_page(store, tmp_path, kind, plain, said):
    name = names_of(store, "rotation")[0]
    record = replace(store.all_runs()[name], asked={"test": kind}, title=f"of {kind}", command=["sslcurr", "a b"])
    other = store.note_run(record)
    store.keep_result(record, kind, plain)
    out = tmp_path / "page.html"
    document = Command(store.root).json("report", "--out", str(out))
    assert {run["run"]: run["document"] for run in document["runs"]}[other] == plain  # as it is kept
    page = Reader(out.read_text())
    assert said in page.text
    assert "sslcurr 'a b'" in page.text
    assert f"table-{name}-1" in page.tables
    result = Command(store.root)("report", "--table", "train", "--run", other)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_result_file_that_is_no_json_is_said_on_its_card(store, tmp_path):
    name = names_of(store, "rotation")[0]
    (store.results / f"{name}.json").write_text('{"kind": ')
    out = tmp_path / "page.html"
    assert Command(store.root)("report", "--out", str(out)).exit_code == 0
    assert "cannot be shown: cannot read" in Reader(out.read_text()).text
    with pytest.raises(StoreError, match="cannot read"):
        Lab(store.root).result(name)


def test_the_document_has_the_tables_of_the_page_and_names_it(store, tmp_path):
    out = tmp_path / "page.html"
    document = Lab(store.root).report(out=out)
    tables = {table.name: table for table in document.tables()}
    assert {"runs", "stages", "datasets", "devices"} <= tables.keys()
    assert len(tables["stages"].to_pandas()) == document.totals.stages == len(store.all())
    assert len(tables["runs"].to_pandas()) == document.totals.runs == len(store.all_runs())
    assert any(str(out) in line for line in document.closing_lines())
    assert Lab(store.root).report().closing_lines() == []
    assert json.loads(json.dumps(document.to_json()))["page"] == str(out)
