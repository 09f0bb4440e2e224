"""Documents of cka, fid and probe: their tables, CSV files and charts, also where parts are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET, structs

from sslcurr.analysis.results.charts import Bar, Line, bar_chart, line_chart, line_of
from sslcurr.analysis.results.distances import tables as distances_tables
from sslcurr.analysis.results.distances.document import DistancesDocument
from sslcurr.analysis.results.formats import write_csv
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.probing.document import ProbeDocument
from sslcurr.analysis.results.similarity import tables as similarity_tables
from sslcurr.analysis.results.similarity.document import SimilarityDocument
from sslcurr.errors import StoreError
from tests import REPOSITORY

KEPT = REPOSITORY / "tests" / "documents"
# Made by sslcurr 0.1.0: with intervals and with too few batches for them, with all figures and with some, with labels
# and without.
NAMES = {
    "cka": ["cka-intervals", "cka"],
    "fid": ["fid-extrapolated", "fid"],
    "probe": ["probe-two", "probe", "probe-unlabelled"],
}
OPTIONAL = {"probe": ["embeddings"]}

every_document = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names]
)


def plain(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text())
    return document


def similarity(name: str = "cka-intervals", **changes: Any) -> SimilarityDocument:
    document = decode("cka", plain(name) | changes)
    assert isinstance(document, SimilarityDocument)
    return document


def distances(name: str = "fid-extrapolated", **changes: Any) -> DistancesDocument:
    document = decode("fid", plain(name) | changes)
    assert isinstance(document, DistancesDocument)
    return document


def probing(name: str = "probe-two", **changes: Any) -> ProbeDocument:
    document = decode("probe", plain(name) | changes)
    assert isinstance(document, ProbeDocument)
    return document


@every_document
def test_a_document_without_a_key_is_damaged(kind, name):
    document = plain(name)
    for key in set(document) - set(OPTIONAL.get(kind, ())):
        with pytest.raises(StoreError, match=f"a result of kind {kind} is damaged"):
            decode(kind, {other: value for other, value in document.items() if other != key})
    with pytest.raises(StoreError, match=r"damaged .*models\[0\]"):
        decode(kind, {**document, "models": [{**document["models"][0], "layers": 3, "num_features": "many"}]})


@every_document
def test_new_documents_say_all_at_their_end(kind, name):
    new = {"seeds": [3]} if kind != "fid" else {"dataset": "clothes", "seeds": [3]}
    document = structs.replace(decode(kind, plain(name)), **new).made_by(["sslcurr", kind])
    assert list(document.to_json())[len(plain(name)) :] == [*new, "schema", "invocation"]
    assert decode(kind, document.to_json()) == document


@every_document
def test_charts_are_drawn_on_the_axes_of_others(kind, name, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)  # no points of an embedding are there
    charts = decode(kind, plain(name)).figures()
    assert charts
    for title, chart in charts.items():
        axes = Figure().add_subplot()
        assert chart.draw(axes) is axes
        assert axes.get_title(loc="left").replace("\n", " ") == chart.title
        assert chart.save(tmp_path, ("svg",)).base == tmp_path / title
        assert (tmp_path / f"{title}.svg").is_file()


# ---- cka


def with_intervals() -> SimilarityDocument:
    """The document with an interval for each value: 0.1 below and above; the first is not known."""
    document = similarity()
    (pair,) = document.pairs
    intervals = [[(value - 0.1, value + 0.1) for value in row] for row in pair.matrix]
    intervals[0][0] = None
    return structs.replace(document, pairs=[structs.replace(pair, matrix_interval=intervals)])


def test_csv_of_all_layers_is_the_document(tmp_path):
    document = with_intervals()
    (pair,) = document.pairs
    (table,) = similarity_tables.csv_tables(document)
    assert write_csv(table, tmp_path) == tmp_path / "cka.csv"
    frame = pd.read_csv(tmp_path / "cka.csv")
    assert list(frame) == ["a", "b", "layer_a", "layer_b", "cka", "low", "high"]
    layers_a, layers_b = (model.layers for model in document.models)
    assert frame["layer_a"].tolist() == [name for name in layers_a for _ in layers_b]
    assert frame["layer_b"].tolist() == layers_b * len(layers_a)
    assert set(frame["a"]) | set(frame["b"]) == {model.title for model in document.models}
    values = np.ravel(pair.matrix)
    np.testing.assert_allclose(frame["cka"], values, rtol=1e-7)
    np.testing.assert_allclose(frame["low"][1:], values[1:] - 0.1, rtol=1e-7)
    np.testing.assert_allclose(frame["high"][1:], values[1:] + 0.1, rtol=1e-7)
    assert frame["low"].isna().tolist() == [True] + [False] * (len(frame) - 1)
    assert table.cells()[1][4] == f"{values[1]:.3f} ({values[1] - 0.1:.3f} to {values[1] + 0.1:.3f})"
    assert decode("cka", json.loads(json.dumps(document.to_json()))) == document


@pytest.mark.parametrize("name", NAMES["cka"])
def test_csv_without_intervals_has_no_columns_for_them(name):
    (table,) = similarity_tables.csv_tables(similarity(name))
    assert list(table.to_pandas()) == ["a", "b", "layer_a", "layer_b", "cka"]
    document = similarity(name)
    few = [structs.replace(pair, matrix_interval=None) for pair in document.pairs]
    (table,) = similarity_tables.csv_tables(structs.replace(document, pairs=few))
    assert list(table.to_pandas()) == ["a", "b", "layer_a", "layer_b", "cka"]


def test_of_many_layers_the_most_alike_are_named():
    columns = [f"l{number}" for number in range(similarity_tables.MOST_CELLS + 1)]
    models = [
        {"title": title, "backbone": "b", "weights": "w", "layers": layers}
        for title, layers in (("m", ["p", "q", "r"]), ("n", columns))
    ]
    matrix = [[0.1] * 14 + [0.9], [None] * 15, [0.2, 0.3] + [None] * 13]
    document = similarity(models=models, pairs=[{"a": "m", "b": "n", "layers": [], "matrix": matrix}])
    (table,) = document.tables()
    assert table.cells() == [["p", "l14", "0.900"], ["q", "-", "-"], ["r", "l1", "0.300"]]
    assert [column.title for column in table.columns] == ["layer of m", "most alike of n", "CKA"]
    assert [column.numeric for column in table.columns] == [False, False, True]


def test_matrices_of_many_models_are_details_where_layers_are_the_same():
    document = similarity()
    (pair,), (first, second) = document.pairs, document.models
    assert [(table.name, table.detail) for table in document.tables()] == [("cka", False), ("matrix", False)]
    three = [first, second, structs.replace(second, title="c")]
    pairs = [pair, structs.replace(pair, b="c"), structs.replace(pair, a=second.title, b="c", layers=[])]
    many = structs.replace(document, models=three, pairs=pairs)
    tables = [(table.name, table.detail) for table in many.tables()]
    assert tables == [("cka", False), ("matrix", True), ("matrix", True), ("matrix", False)]
    assert list(many.figures()) == ["layers", "matrix-1-2", "matrix-1-3", "matrix-2-3"]


# ---- fid


def test_csv_of_distances_is_the_document(tmp_path):
    document = distances()
    (table,) = distances_tables.csv_tables(document)
    frame = pd.read_csv(write_csv(table, tmp_path))
    names = ["fid", "fid_sd", "kid", "kid_sd", "extrapolated", "extrapolated_sd", "accuracy"]
    assert list(frame) == ["model", "layer", "dataset", *names, "normalised", "normalised_sd"]
    each = [part for model in document.models for part in (model.halves, *model.datasets)]
    for name in ("fid", "kid", "extrapolated"):
        figures = [getattr(part, name) for part in each]
        np.testing.assert_allclose(frame[name], [figure.mean for figure in figures], rtol=1e-7)
        np.testing.assert_allclose(frame[f"{name}_sd"], [figure.sd for figure in figures], rtol=1e-7)
    assert frame["normalised"].isna().tolist() == [part in [m.halves for m in document.models] for part in each]
    assert frame["accuracy"].tolist() == [0.5] * 3 + [0.4] * 3 + [0.3] * 3


def test_distances_without_what_was_not_asked_for():
    (table,) = distances("fid").tables()
    assert [column.title for column in table.columns] == [
        "model", "data set", "FID", "FID / halves", "1000 KID", "accuracy on clothes (%)",
    ]  # fmt: skip
    equal = distances()
    models = [
        structs.replace(model, datasets=[structs.replace(entry, normalised=None) for entry in model.datasets])
        for model in equal.models
    ]
    document = structs.replace(equal, models=models, accuracies={}, correlations=[])
    (table,) = document.tables()
    assert document.figures() == {}
    assert len(table.notes) == 1
    assert "normalised" not in table.to_pandas()
    assert {row[3] for row in table.cells()} == {"-"}


def test_correlations_are_sentences():
    correlation = {"dataset": "s", "accuracy_on": None, "num_models": 3, "spearman": -1.0, "spearman_p": 0.0}
    document = distances(correlations=[correlation | {"kendall": -0.5, "kendall_p": 0.25}])
    (table,) = document.tables()
    expected = "s: distance against accuracy, 3 models: Spearman -1.00 (p = 0.00), Kendall -0.50 (p = 0.25)"
    assert table.notes[1] == expected


# ---- probe


def test_probes_without_labels_have_rankme_alone():
    document = probing("probe-unlabelled")
    (table,) = document.tables()
    assert [column.title for column in table.columns] == ["model", "layer", "features", "RankMe"]
    assert list(document.figures()) == ["rankme"]
    assert all(value is None for row in table.raw() for name, value in row.items() if name.startswith("knn"))


def test_points_that_are_gone_are_not_drawn(tmp_path):
    document = probing()
    assert document.embeddings is not UNSET
    assert list(document.figures()) == ["probe-knn", "probe-linear"]
    points = tmp_path / "points.csv"
    points.write_text("path,label,x,y\na.png,cat,0,1\nb.png,,1,0\nc.png,dog,2,2\nd.png,dog,3,2\n")
    first, second = document.embeddings
    there = structs.replace(document, embeddings=[first, structs.replace(second, points=str(points))])
    charts = there.figures()
    assert list(charts) == ["probe-knn", "probe-linear", "embedding-2"]
    axes = charts["embedding-2"].draw()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["no label (1)", "cat (1)", "dog (2)"]
    assert {handle.get_alpha() for handle in axes.figure.legends[0].legend_handles} == {1}


# ---- charts


def test_lines_with_values_that_are_missing():
    line = line_of([0.5, None, 0.7], [(0.4, 0.6), None, None], 100)
    np.testing.assert_array_equal(line.values, [50, np.nan, 70])
    assert line.low is not None
    np.testing.assert_array_equal(line.low, [40, np.nan, np.nan])
    assert line_of([0.5], [None]) == Line([0.5], None, None)
    axes = line_chart("n", {"a": line, "b": Line([1, 2, 3])}, ["x", "y", "z"], title="t", across="c", up="u").draw()
    assert len(axes.lines) == 2
    assert len(axes.collections) == 1  # the band of the first


def test_bars_far_apart_are_points():
    near = {"g": {"a": Bar(1, 0.5, 2), "b": None}, "h": {"a": Bar(2, 1, 3), "b": Bar(3, 3, 3)}}
    axes = bar_chart("n", near, title="t", across="c", up="u", whisker="extremes").draw()
    assert [bar.get_height() for bar in axes.patches] == [1, 2, 3]
    far = {"g": {"a": Bar(1, 1, 1), "b": Bar(50, 1, 90)}}
    axes = bar_chart("n", far, title="t", across="c", up="u", whisker="extremes").draw()
    assert axes.get_yscale() == "log"
    assert list(axes.patches) == []


def test_files_of_a_chart_are_the_same_twice(tmp_path: Path):
    chart = similarity().figures()["matrix"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        chart.save(tmp_path / name)
    for suffix in ("png", "svg"):
        assert (tmp_path / "a" / f"matrix.{suffix}").read_bytes() == (tmp_path / "b" / f"matrix.{suffix}").read_bytes()


def test_few_images_have_no_intervals_and_it_is_said():
    said = "Fewer than 80 images say nothing of the error: there are no intervals."
    assert said in similarity("cka", num_images=79).tables()[0].notes
    assert said not in similarity("cka", num_images=80).tables()[0].notes
    assert said not in similarity("cka-intervals", num_images=79).tables()[0].notes


def test_probes_on_validation_images_are_too_good():
    document = probing()

    def said(split: str) -> bool:
        models = [structs.replace(model, split=split) for model in document.models]
        notes = structs.replace(document, models=models).tables()[0].notes
        return any(note.startswith("There are no test images.") for note in notes)

    assert said("val")
    assert not said("test")
