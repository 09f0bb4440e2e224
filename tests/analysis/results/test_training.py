"""Documents of trained chains: the same JSON again, their tables and charts, what the terminal says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from sslcurr.analysis.results.kinds import decode, json_schema
from sslcurr.analysis.results.training.document import TrainDocument, TrainedStage
from sslcurr.errors import StoreError
from tests import REPOSITORY

KEPT = REPOSITORY / "tests" / "documents"
# A chain with masks and a baseline, a probe of an untrained network, a pretext task alone.
FILES = ["train", "train-probe", "train-pretrained"]
REQUIRED = {"attention": ("mean", "interval", "coverage", "pointing", "num_images")}
REQUIRED["report"] = (
    "split",
    "balanced_accuracy",
    "interval",
    "accuracy",
    "per_class_recall",
    "confusion_matrix",
    "auroc",
    "num_images",
    "classes",
)
REQUIRED["stage"] = ("task", "key", "checkpoint", "reused", "metrics", "seconds")


def plain(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text())
    return document


def read(document: dict[str, Any]) -> TrainDocument:
    chain = decode("train", document)
    assert isinstance(chain, TrainDocument)
    return chain


every_file = pytest.mark.parametrize("name", FILES)


@every_file
def test_earlier_documents_are_read_and_written_to_the_byte(name):
    assert json.dumps(read(plain(name)).to_json()) == json.dumps(plain(name))


@every_file
def test_documents_say_by_which_command_they_were_made_and_of_what(name):
    document = replace(read(plain(name)), dataset="clothes", seeds=[0], title="a -> b").made_by(["sslcurr", "chain"])
    assert list(document.to_json()) == [*plain(name), "dataset", "seeds", "schema", "invocation"]
    assert replace(decode("train", document.to_json()), title="a -> b") == document


def without(document: dict[str, Any], *path: Any) -> dict[str, Any]:
    """A copy without what lies at a path."""
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return copy


@pytest.mark.parametrize(
    "path",
    [
        ("stages",),
        *(("stages", 1, name) for name in REQUIRED["stage"]),
        *(("downstream", name) for name in REQUIRED["report"]),
        *(("downstream", "attention", name) for name in REQUIRED["attention"]),
    ],
    ids=lambda path: "-".join(map(str, path)),
)
def test_a_document_without_a_key_is_damaged(path):
    with pytest.raises(StoreError, match="a result of kind train is damaged") as error:
        decode("train", without(plain("train"), *path))
    assert error.value.hint == "run its command again: what was trained is kept"


@pytest.mark.parametrize("value", ["high", None, [0.5]])
def test_a_number_that_is_none_is_damage(value):
    document = plain("train")
    document["downstream"]["balanced_accuracy"] = value
    with pytest.raises(StoreError, match=r"is damaged \(.*downstream\.balanced_accuracy"):
        decode("train", document)


def test_a_chain_as_a_caller_reads_it():
    chain = read(plain("train"))
    assert [stage.task for stage in chain.stages] == ["rotation", "classification"]
    assert chain.downstream.interval[0] <= chain.downstream.balanced_accuracy <= chain.downstream.interval[1]
    assert chain.downstream.attention.coverage == chain.baseline.attention.coverage
    assert list(chain.reports()) == ["this chain", "scratch"]
    probe = read(plain("train-probe"))
    assert probe.downstream.layers[probe.downstream.layer].neighbours == probe.downstream.neighbours
    assert not probe.baseline


def cells(table) -> list[dict[str, str]]:
    return [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.cells()]


def test_tables_of_a_chain_hold_all_that_is_printed():
    document = plain("train")
    summary, recalls, *confusions, stages = read(document).tables("rotation -> classification")
    assert (summary.name, recalls.name, stages.name) == ("train", "classes", "trained")
    assert cells(summary)[0] == {
        "model": "rotation -> classification",
        "balanced accuracy (%)": "55.6",
        "95 % interval": "33.3 to 75.0",
        "accuracy (%)": "55.6",
        "AUROC": "0.741",
        "attention in masks (%)": "39.3",
        "95 % interval of attention": "22.9 to 56.9",
        "without preference (%)": "41.5",
    }
    assert summary.title == "rotation -> classification on 9 test images"
    assert recalls.cells() == [["bag", "66.7", "0.0"], ["sandal", "100.0", "0.0"], ["trouser", "0.0", "100.0"]]
    assert [table.detail for table in confusions] == [True, True]  # on the page and for papers, not in a terminal
    assert confusions[0].cells()[0] == ["bag", "2", "1", "0"]
    assert cells(stages)[1] | {"loss": ""} == {
        "task": "classification",
        "stage": "c4f4fa069f1b2b36",
        "": "trained",
        "seconds": "0.2",
        "loss": "",
        "accuracy": "0.25",
        "val balanced accuracy": "0.5",
        "best epoch": "0",
    }
    assert read(document).closing_lines() == [
        f"predictions of {name}: {document[part]['predictions']}"
        for name, part in (("this chain", "downstream"), ("scratch", "baseline"))
    ]


def test_a_terminal_also_shows_speeds_and_the_stages_of_the_baseline():
    """Neither is in the JSON, whose keys are fixed."""
    chain = read(plain("train"))
    scratch = TrainedStage(task="classification", key="e9", checkpoint="e9", reused=True, metrics={}, seconds=1.0)
    stages = [replace(stage, images_per_second=1234.5) for stage in chain.stages]
    shown = replace(chain, stages=stages, baseline_stages=[replace(scratch, images_per_second=20.0)])
    table = shown.tables()[-1]
    assert [row["images/s"] for row in cells(table)] == ["1,234", "1,234", "20"]
    assert cells(table)[-1]["stage"] == "e9"
    assert table.breaks == {2}
    assert shown.to_json() == plain("train")


def test_a_pretext_task_alone_shows_its_stages_and_its_checkpoint():
    document = plain("train-pretrained")
    chain = read(document)
    (table,) = chain.tables()
    assert (table.name, cells(table)[0]["task"]) == ("train", "simsiam")
    assert chain.closing_lines() == [f"checkpoint: {document['stages'][0]['checkpoint']}"]
    assert chain.figures() == {}
    assert read({"stages": []}).closing_lines() == []


def test_a_probe_shows_its_layer():
    table, *_ = read(plain("train-probe")).tables("knn")
    assert cells(table)[0]["layer"] == "layer1"
    assert "attention in masks (%)" not in cells(table)[0]


OPTIONAL = [
    ("downstream",),
    ("baseline",),
    ("downstream", "attention"),
    ("baseline", "attention"),
    ("downstream", "predictions"),
]


@pytest.mark.parametrize("path", OPTIONAL, ids="-".join)
def test_a_chain_without_an_optional_part_has_its_tables_and_charts(path, tmp_path):
    document = without(plain("train"), *path)
    chain = read(document)
    assert json.dumps(chain.to_json()) == json.dumps(document)
    reports = [part for part in ("downstream", "baseline") if part in document]
    assert len(cells(chain.tables()[0])) == len(reports)
    assert list(chain.figures()) == [{"downstream": "confusion", "baseline": "confusion-baseline"}[p] for p in reports]
    for chart in chain.figures().values():
        assert chart.save(tmp_path, ("svg",)).base.with_suffix(".svg").is_file()


def test_confusion_matrices_are_drawn_on_axes_of_the_caller():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    chart = read(plain("train")).figures()["confusion"]
    assert chart.draw(axes) is axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert "balanced accuracy 55.6" in chart.title


def test_the_schema_names_the_keys_of_the_json_and_no_others():
    schema = json_schema("train")["$defs"]
    assert list(schema["TrainDocument"]["properties"]) == [
        *("stages", "downstream", "baseline", "gain", "dataset", "seeds", "overlap", "schema", "invocation")
    ]
    assert list(schema["TrainedStage"]["properties"]) == list(REQUIRED["stage"])
    # What else a report has depends on its kind of target, which reading looks after.
    assert list(schema["TargetReport"]["required"]) == ["split", "interval", "num_images"]


def test_documents_are_read_without_numpy():
    code = "import sys, sslcurr.analysis.results.training.document; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
