"""Documents and stores of the version before are read by this one: the same bytes, the same keys."""

from __future__ import annotations

import json
import zipfile

import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sslcurr.analysis.results import kinds
from sslcurr.analysis.results.document import OLD_INTERVALS
from sslcurr.analysis.results.kinds import KINDS, decode, document_class, json_schema, load_result
from sslcurr.api.lab import Lab
from sslcurr.data.sources.catalog import find_source
from sslcurr.errors import SpecError, StoreError
from tests import REPOSITORY

DOCUMENTS = REPOSITORY / "tests" / "documents"
STUDY = DOCUMENTS / "0.1.0"
RESULTS = REPOSITORY / "docs" / "results"
KIND_OF = {"grid": "grid", "orderings": "rank", "search": "search", "attention": "attend"}


def old_documents():
    """(kind, file): a document of every kind as commands printed them before documents were typed, and the study's."""
    for path in sorted(DOCUMENTS.glob("*.json")):
        yield path.stem if path.stem in KINDS else path.stem.partition("-")[0], path
    for path in sorted(STUDY.glob("*.json")):
        yield KIND_OF[path.stem.rpartition("-")[2]], path


OLD = list(old_documents())
every_old_document = pytest.mark.parametrize(("kind", "path"), OLD, ids=[path.stem for _, path in OLD])


@every_old_document
def test_old_documents_decode_and_encode_to_the_same_bytes(kind, path):
    plain = json.loads(path.read_text())
    if kind != "dataset":
        plain.pop("files", None)  # where charts were drawn, which commands print behind a document
    document = decode(kind, plain)
    assert json.dumps(document.to_json(), indent=1) == json.dumps(plain, indent=1)
    assert isinstance(document, document_class(kind))


@every_old_document
def test_a_document_of_every_kind_has_its_tables_lines_and_charts(kind, path):
    document = decode(kind, json.loads(path.read_text()))
    for table in document.tables("a title"):
        assert [len(row) for row in table.cells()] == [len(table.columns)] * len(table.rows)
        assert len(table.to_pandas()) == len(table.raw())
    assert all(isinstance(line, str) for line in document.closing_lines())
    assert all(chart.name == name for name, chart in document.figures().items())


def test_intervals_of_an_older_version_are_said_to_be_too_narrow():
    old = next(path for kind, path in OLD if kind == "rank")
    document = decode("rank", json.loads(old.read_text()))
    assert OLD_INTERVALS in document.tables()[0].notes
    assert OLD_INTERVALS not in document.made_by(["sslcurr"]).tables()[0].notes
    assert not decode("run", json.loads((DOCUMENTS / "run.json").read_text())).has_old_intervals


def test_results_have_every_prediction_beside_them():
    """So that a later rule can judge them again."""
    kinds_of = {"seed": "rank", "long": "rank", "grid": "grid"}
    found = [path for path in sorted(RESULTS.glob("*/*.json")) if path.stem.partition("-")[0] in kinds_of]
    assert found
    for path in found:
        document = decode(kinds_of[path.stem.partition("-")[0]], json.loads(path.read_text()))
        table = pd.read_parquet(path.with_suffix(".parquet"))
        assert set(table["chain"]) == set(document.predicted())


def test_there_is_an_old_document_of_every_kind_that_there_was():
    new = {"import"}  # a kind that is covered by its own tests
    assert {kind for kind, _ in OLD} >= KINDS.keys() - new


@pytest.mark.parametrize("kind", KINDS)
def test_new_documents_end_with_their_schema_and_invocation(kind):
    names = document_class(kind).printed_names()
    assert names[-2:] == ["schema", "invocation"]
    schema = json_schema(kind)
    title = schema["$ref"].rpartition("/")[2]
    assert list(schema["$defs"][title]["properties"]) == names


@every_old_document
def test_the_schema_allows_what_was_printed(kind, path):
    plain = json.loads(path.read_text())
    jsonschema.validate(decode(kind, plain).to_json(), json_schema(kind))


def test_a_new_document_of_every_kind_is_stamped(tmp_path):
    document = decode("grid", json.loads((DOCUMENTS / "grid.json").read_text())).made_by(["sslcurr", "grid"])
    plain = document.to_json()
    assert list(plain)[-2:] == ["schema", "invocation"]
    assert (plain["schema"], plain["invocation"]) == (2, ["sslcurr", "grid"])
    assert decode("grid", plain).to_json() == plain


def test_mistakes_of_documents_are_one_line(tmp_path):
    with pytest.raises(SpecError, match="no documents of kind 'rnak'") as caught:
        decode("rnak", {})
    assert caught.value.hint == "did you mean rank?"
    with pytest.raises(StoreError, match="kind grid is damaged"):
        decode("grid", {"dataset": 3})
    path = tmp_path / "printed.json"
    path.write_text((DOCUMENTS / "grid.json").read_text())
    assert load_result(path, "grid").to_json() == decode("grid", json.loads(path.read_text())).to_json()
    with pytest.raises(SpecError, match="does not say of which kind"):
        load_result(path)
    with pytest.raises(StoreError, match="cannot read"):
        load_result(tmp_path / "none.json")


@pytest.mark.parametrize("kind", ["cka", "task", "compare"])
def test_parts_of_a_document_that_do_not_fit_together_are_one_line(kind, tmp_path):
    plain = json.loads((DOCUMENTS / f"{kind}.json").read_text())
    match kind:
        case "cka":
            plain["pairs"][0]["a"] = "another"
        case "task":
            plain["imagenet"].popitem()
        case "compare":
            plain["runs"] *= 2
    path = tmp_path / "printed.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(StoreError, match="is damaged: its parts do not fit together") as caught:
        load_result(path, kind)
    assert "run the command again" in caught.value.hint


def test_a_new_kind_is_one_folder_and_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "document.py").write_text(
        "from typing import ClassVar\n"
        "from sslcurr.analysis.results.document import Document\n"
        "class WeatherDocument(Document, frozen=True, kw_only=True):\n"
        "    kind: ClassVar[str] = 'weather'\n"
        "    degrees: float\n"
    )
    (folder / "tables.py").write_text(
        "from sslcurr.analysis.results.table import Column, Table\n"
        "def tables(document, title):\n"
        "    yield Table('weather', title, (Column('degrees', ('degrees',)),), [{'degrees': document.degrees}])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(kinds.KINDS, "weather", "weather.document:WeatherDocument")
    document = decode("weather", {"degrees": 3.5}).made_by(["sslcurr", "weather"])
    assert document.to_json() == {"degrees": 3.5, "schema": 1, "invocation": ["sslcurr", "weather"]}
    assert document.tables("today")[0].cells() == [["3.5"]]
    assert (document.figures(), document.closing_lines(), document.csv_tables()) == ({}, [], [])
    assert json_schema("weather")["$defs"]["WeatherDocument"]["required"] == ["degrees"]


# ---- a store of 0.1.0


@pytest.fixture
def old_store(tmp_path):
    """A store that 0.1.0 wrote, and the images that it was made of."""
    with zipfile.ZipFile(REPOSITORY / "tests" / "store-0.1.0.zip") as archive:
        archive.extractall(tmp_path / "store")
    source = find_source("fashion")
    labels = np.array(source.labels)
    for name in ("trouser", "sandal", "bag"):
        folder = tmp_path / "clothes" / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == name)[:16]:
            Image.fromarray(source.arrays[i]).save(folder / f"{i:04d}.png")
    return tmp_path


def test_a_store_of_the_version_before_is_read(old_store):
    lab = Lab(old_store / "store")
    runs, stages = lab.runs(), lab.stages()
    assert len(runs.runs) == 11
    assert sorted(stage.task for stage in stages.stages) == ["classification", "rotation"]
    kept = [lab.result(run.run) for run in runs.runs if not run.title.startswith("data prepare")]
    assert sorted(document.kind for document in kept) == [
        *("attend", "cka", "fid", "grid", "probe", "rank", "search", "train", "train", "train"),
    ]
    for stage in stages.stages:
        shown = lab.show(stage.key)
        assert shown.happened["key"] == stage.key


def test_a_stage_of_the_version_before_is_found_by_the_same_key(old_store):
    lab = Lab(
        old_store / "store",
        dataset=old_store / "clothes",
        backbone="test_resnet",
        stem="imagenet",
        image_size=16,
        epochs=1,
        batch_size=8,
    )
    plan = lab.plan_chain(["rotation"])
    assert [(stage.task, stage.key, stage.reused) for stage in plan.stages] == [
        ("rotation", "953860c6d63f5e70", True),
        ("classification", "c4f4fa069f1b2b36", True),
    ]
    report = lab.chain(["rotation"])
    assert [stage.reused for stage in report.stages] == [True, True]
    before = json.loads((DOCUMENTS / "train.json").read_text())["downstream"]
    assert report.downstream.confusion_matrix == before["confusion_matrix"]
