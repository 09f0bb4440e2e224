"""Charts: the numbers on them are those of the document, and no document breaks them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sslcurr.analysis.results import kinds, style
from sslcurr.analysis.results.charts import MOST_ROWS
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.probing import figures as probing_figures
from sslcurr.analysis.results.ranking.figures import lines_of
from sslcurr.analysis.results.ranking.tree import tree_of
from sslcurr.analysis.results.training import curves
from sslcurr.engine.store import Stage
from sslcurr.errors import SpecError
from sslcurr.spec.stage import LrSearch, to_dict
from tests import REPOSITORY
from tests.analysis.results.looks import faults

RESULTS = REPOSITORY / "tests" / "documents" / "0.1.0"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name -> matplotlib figure of all that is drawn; nothing is written."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(style, "save", lambda figure, base, formats: figures.update({base.name: figure}))
    return figures


def entry(mean: float | None, seeds: int = 2, **more: Any) -> dict[str, Any]:
    """A measured chain as `rank` describes it."""
    values = [] if mean is None else [mean + 0.01 * (2 * n - seeds + 1) for n in range(seeds)]
    runs = [
        {"seed": n, "balanced_accuracy": value, "validation": None, "key": "k", "predictions": "p.csv"}
        for n, value in enumerate(values)
    ]
    interval = None if mean is None or seeds == 1 else [mean - 0.05, mean + 0.04]
    return {"mean": mean, "std": None, "interval": interval, "validation": mean, "runs": runs, **more}


def ordering(names: str, kind: str, mean: float | None, **more: Any) -> dict[str, Any]:
    row = {"ordering": names.split(), "kind": kind, "full": False, "uncertain": False, "best": False}
    return row | entry(mean) | more


def ranking(**more: Any) -> dict[str, Any]:
    """Three tasks and three orderings; b and c cannot be told apart."""
    document = {
        "dataset": "a_$data$_<set>",
        "split": "test",
        "measure": "finetune",
        "seeds": [0, 1],
        "num_images": 90,
        "tasks": [{"task": name, **entry(mean)} for name, mean in (("a", 0.5), ("b", 0.6), ("c", 0.7))],
        "baselines": {"scratch": entry(0.55), "ImageNet": entry(0.8)},
        "curriculum": ["a", "b", "c"],
        "ties": [["b", "c"]],
        "orderings": [
            ordering("a b", "curriculum", 0.62),
            ordering("b a", "anti-curriculum", 0.64, best=True),
            ordering("a b c", "curriculum", None, uncertain=True),
        ],
        "failed": [],
        "command": None,
    }
    return {name: value for name, value in (document | more).items() if value is not None or name == "command"}


def marks(axes: Any, name: str) -> list[tuple[float, float]]:
    """Where points of that gid lie."""
    return [
        (x, y)
        for line in axes.lines
        if line.get_gid() == name
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def written(figure: Any) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


# ---- rank


def test_single_tasks_stand_in_curriculum_order_at_their_accuracies(drawn, tmp_path):
    document = ranking()
    document["tasks"].reverse()  # the order is the curriculum's, not the table's
    kinds.draw("rank", document, tmp_path)
    axes = drawn["singles"].axes[0]
    assert ticks(axes.yaxis) == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    assert sorted(marks(axes, "mean"), key=lambda mark: mark[1]) == [(50, 0), (60, 1), (70, 2)]
    assert sorted(x for x, _ in marks(axes, "interval")) == pytest.approx([45, 54, 55, 64, 65, 74])
    tie = [y for _, y in marks(axes, "tie")]
    assert (round(min(tie)), round(max(tie))) == (1, 2)
    assert {round(x, 6) for x, _ in marks(axes, "baseline")} == {55, 80}
    assert sorted(x for x, _ in marks(axes, "seed")) == pytest.approx([49, 51, 59, 61, 69, 71])


def test_rows_of_the_table_are_sorted_within_blocks(drawn, tmp_path):
    kinds.draw("rank", ranking(), tmp_path)
    axes = drawn["orderings"].axes[0]
    assert ticks(axes.yaxis) == ["ImageNet", "scratch", "c", "b", "a", "b → a", "a → b", "a → b → c ?"]
    places = axes.get_yticks()
    assert list(places) == sorted(places)
    known = {y: x for x, y in marks(axes, "mean") if not np.isnan(x)}
    assert [known[place] for place in places[:-1]] == pytest.approx([80, 55, 70, 60, 50, 64, 62])
    looks = {line.get_ydata()[0]: line.get_marker() for line in axes.lines if line.get_gid() == "mean"}
    assert [looks[place] for place in places[5:7]] == ["v", "o"]
    assert marks(axes, "best") == [(70, places[2]), (64, places[5])]
    assert [text.get_text() for text in axes.texts] == ["failed"]
    assert "may be chance" in written(drawn["orderings"])


def test_attention_has_a_panel_with_the_coverage(drawn, tmp_path):
    facts = {"masks": "m", "method": "gradcam", "target": "predicted", "layer": "layer4", "num_images": 90}
    document = ranking(attention={**facts, "coverage": 0.2})
    for number, row in enumerate([*document["tasks"], *document["orderings"]]):
        row["attention"] = {"mean": 0.3 + number / 100, "std": None, "interval": None}
    kinds.draw("rank", document, tmp_path)
    axes = drawn["orderings"].axes[1]
    known = [x for x, _ in marks(axes, "mean") if not np.isnan(x)]
    assert known == pytest.approx([32, 31, 30, 34, 33, 35])  # c b a, b-a, a-b, a-b-c
    assert [x for x, _ in marks(axes, "coverage")] == [20, 20]


def test_long_blocks_keep_their_curricula():
    names = [f"t{n}" for n in range(80)]
    rows = [ordering(f"{name} z", "mixed", n / 100) for n, name in enumerate(names)]
    rows[0]["kind"] = "curriculum"  # the worst of all
    kept, left_out = lines_of(decode("rank", ranking(orderings=rows)))
    labels = [row.label for row in kept]
    assert left_out == 80 - MOST_ROWS
    assert labels[5] == "t79 → z"
    assert labels[-1] == "t0 → z"
    assert "t1 → z" not in labels


def test_the_tree_counts_chains_through_each_stage(drawn, tmp_path):
    root = tree_of(decode("rank", ranking()))
    counts = {" ".join(node.prefix): node.chains for node in root.walk()}
    assert counts == {"": 0, "a": 3, "a b": 2, "a b c": 1, "b": 2, "b a": 1, "c": 1}
    kinds.draw("rank", ranking(), tmp_path)
    axes = drawn["tree"].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert sorted(texts) == [
        "a 50.0 (x 3)",
        "a 64.0",
        "b 60.0 (x 2)",
        "b 62.0 (x 2)",
        "c 70.0",
        "c failed",
        "scratch 55.0",
    ]
    assert len(marks(axes, "shared")) == 3
    assert len(marks(axes, "once")) == 3
    assert len(marks(axes, "root")) == 1


def test_the_tree_of_all_orderings_of_four_tasks(drawn, tmp_path):
    document = json.loads((RESULTS / "cxr-orderings.json").read_text())
    root = tree_of(decode("rank", document))
    by_length = {n: [node for node in root.walk() if len(node.prefix) == n] for n in (1, 2, 3)}
    assert [len(nodes) for nodes in by_length.values()] == [4, 12, 24]
    assert {n: {node.chains for node in nodes} for n, nodes in by_length.items()} == {1: {10}, 2: {3}, 3: {1}}
    leaves = sorted(node.place for node in by_length[3])
    assert leaves == list(range(24))
    kinds.draw("rank", document, tmp_path)
    assert len(drawn["tree"].axes[0].texts) == 41
    assert drawn["tree"].get_size_inches()[0] <= style.WIDEST


def test_a_stage_that_was_only_a_step_has_no_accuracy(drawn, tmp_path):
    kinds.draw("rank", ranking(orderings=[ordering("c a b", "mixed", 0.5)]), tmp_path)
    texts = [text.get_text() for text in drawn["tree"].axes[0].texts]
    assert "a" in texts
    assert "b 50.0" in texts


# ---- search, grid, train


def test_the_search_shows_every_look(drawn, tmp_path):
    document = json.loads((RESULTS / "cxr-search.json").read_text())
    kinds.draw("search", document, tmp_path)
    above, below = drawn["search"].axes
    looks = [candidate for rung in document["rungs"] for candidate in rung["candidates"]]
    for gid, kept in (("kept", True), ("dropped", False)):
        expected = sorted(100 * look["score"] for look in looks if look["kept"] is kept)
        assert sorted(x for x, _ in marks(above, gid)) == pytest.approx(expected)
        faces = {line.get_markerfacecolor() == style.PAPER for line in above.lines if line.get_gid() == gid}
        assert faces == {not kept}  # filled: kept
    chosen = [" (found)" if row["ordering"] == document["ordering"] else "" for row in document["finalists"]]
    assert chosen.count(" (found)") == 1
    names = [" → ".join(row["ordering"]) for row in document["finalists"]]
    assert ticks(below.yaxis) == [name + mark for name, mark in zip(names, chosen, strict=True)]
    whiskers = [path.vertices[:, 0] for lines in below.collections for path in lines.get_paths()]
    expected = [[100 * (row["mean"] - row["std"]), 100 * (row["mean"] + row["std"])] for row in document["finalists"]]
    assert np.sort(whiskers, axis=1) == pytest.approx(np.array(expected))
    shown = {text.get_text() for text in drawn["search"].legends[0].get_texts()}
    assert {"short look, 1 seed", "all epochs, 2 seeds"} <= shown
    kinds.draw("search", document | {"split": "val"}, tmp_path)
    assert "val images" in drawn["search"].axes[1].get_xlabel()
    assert [x for x, _ in marks(below, "finalist")] == [100 * row["mean"] for row in document["finalists"]]
    assert ticks(above.yaxis)[:4] == ["swav", "mocov2", "relative-location", "rotation"]


def test_the_search_by_a_model_shows_beliefs_and_what_was_missed(drawn, tmp_path):
    document = json.loads((REPOSITORY / "tests" / "documents" / "search-gradient.json").read_text())
    kinds.draw("search", document, tmp_path)
    above, below = drawn["search"].axes
    leading = document["posterior"]["leading"]
    assert [x for x, _ in marks(above, "mean")] == pytest.approx([100 * row["more"] for row in leading])
    assert [text.get_text() for text in above.texts] == [f"{100 * row['within']:.0f} %" for row in leading]
    found = [name for name in ticks(above.yaxis) if name.endswith(" (found)")]
    assert found == [" → ".join(document["ordering"]) + " (found)"]
    (line,) = [line for line in below.lines if line.get_gid() == "regret"]
    assert line.get_xdata() == pytest.approx([100 * step["share"] for step in document["steps"]])
    assert line.get_ydata() == pytest.approx([100 * step["regret"] for step in document["steps"]])
    unknown = {**document, "steps": [{k: v for k, v in step.items() if k != "regret"} for step in document["steps"]]}
    kinds.draw("search", unknown, tmp_path)
    assert len(drawn["search"].axes) == 1


def cell(labels: float, images: float | None, mean: float | None, std: float | None = None) -> dict[str, Any]:
    shares = {"label_fraction": labels, "ssl_fraction": images}
    return {**shares, "mean": mean, "std": std, "interval": None, "validation": None, "runs": []}


def test_the_grid_leaves_blank_what_was_not_measured(drawn, tmp_path):
    document = {
        "dataset": "d",
        "split": "test",
        "tasks": ["a", "b"],
        "seeds": [0, 1],
        "ssl_fractions": [1.0, 0.5],
        "label_fractions": [1.0, 0.5],
        "baseline": "scratch",
        "cells": [
            cell(1, None, 0.5),
            cell(1, 1, 0.61, 0.012),
            cell(0.5, None, None),
            cell(0.5, 1, 0.4),
            cell(0.5, 0.5, 0.3),
        ],
        "halving": {"labels": None, "images": None},
        "failed": [],
    }
    kinds.draw("grid", document, tmp_path)
    axes = drawn["grid"].axes[0]
    assert (ticks(axes.xaxis), ticks(axes.yaxis)) == (["scratch", "100", "50"], ["100", "50"])
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "50.0", (1, 0): "61.0 ± 1.2", (2, 0): "", (0, 1): "failed", (1, 1): "40.0", (2, 1): "30.0"}
    shown = axes.images[0].get_array()
    assert np.ma.filled(shown, -1) == pytest.approx(np.array([[50, 61, -1], [-1, 40, 30]]))


def report(counts: list[list[int]], **more: Any) -> dict[str, Any]:
    names = [f"class_{n} $x$ <with a long name>" for n in range(len(counts))]
    about = {"split": "test", "balanced_accuracy": 0.5, "interval": [0.4, 0.6], "accuracy": 0.5, "auroc": None}
    about |= {"per_class_recall": dict.fromkeys(names, 0.5), "num_images": sum(map(sum, counts))}
    return {**about, "confusion_matrix": counts, "classes": names, **more}


def test_confusions_are_counts_on_shares_of_their_row(drawn, tmp_path):
    kinds.draw("train", {"stages": [], "downstream": report([[8, 2], [0, 0]]), "baseline": report([[3]])}, tmp_path)
    axes = drawn["confusion"].axes[0]
    assert np.ma.filled(axes.images[0].get_array(), -1) == pytest.approx(np.array([[0.8, 0.2], [-1, -1]]))
    assert [text.get_text() for text in axes.texts] == ["8", "2", "0", "0"]
    # The report's dark mode turns black ink round, which on a cell it must not.
    assert [text.get_color() for text in axes.texts[:2]] == [style.LIGHT, style.DARK]
    assert [text.get_text() for text in drawn["confusion-baseline"].axes[0].texts] == ["3"]


# ---- cka, fid, probe, attend


def similarity(models: int) -> dict[str, Any]:
    titles = [f"model_$a$_<{n}>" for n in range(models)]
    pairs = [
        {
            "a": a,
            "b": b,
            "layers": [
                {"layer": "x", "cka": 0.9, "interval": [0.8, 0.95]},
                {"layer": "y", "cka": None, "interval": None},
            ],
            "matrix": [[0.9, 0.2], [0.1, None]],
        }
        for a, b in itertools.combinations(titles, 2)
    ]
    about = {"dataset": "d", "split": "test", "num_images": 9, "num_batches": 1, "estimator": "unbiased"}
    about |= {"kernel": "linear", "pool": "none"}
    models = [{"title": title, "backbone": "b", "weights": "w", "layers": ["x", "y"]} for title in titles]
    return {**about, "models": models, "pairs": pairs}


def test_similarities_of_layers(drawn, tmp_path):
    kinds.draw("cka", similarity(2), tmp_path)
    assert sorted(drawn) == ["layers", "matrix"]
    assert drawn["layers"].axes[0].lines[0].get_ydata() == pytest.approx([0.9, np.nan], nan_ok=True)
    shown = drawn["matrix"].axes[0]
    assert np.ma.filled(shown.images[0].get_array(), -1) == pytest.approx(np.array([[0.9, 0.2], [0.1, -1]]))
    assert shown.get_ylabel() == "model_$a$_<0>"
    assert shown.get_xlabel() == "model_$a$_<1>"
    drawn.clear()
    kinds.draw("cka", similarity(3), tmp_path)
    assert sorted(drawn) == ["layers", "matrix-1-2", "matrix-1-3", "matrix-2-3"]


def distances(value: float | None = 2.0) -> dict[str, Any]:
    def figure(mean: float | None) -> Any:
        return None if mean is None else {"mean": mean, "sd": 0.1, "values": [mean - 1, mean + 1]}

    raw = {"fid": figure(1.0), "kid": figure(0.5)}

    def model(name: str, factor: float) -> dict[str, Any]:
        found = [
            {**raw, "dataset": "s", "normalised": figure(value and factor * value)},
            {**raw, "dataset": "t", "normalised": None},
        ]
        about = {"model": name, "layer": "pooled", "image_size": 16, "num_features": 4}
        return {**about, "halves": raw, "datasets": found}

    models = [model("m", 1), model("n", 3)]
    about = {"reference": "r", "split": "all", "num_images": 1000, "draws": 2, "correlations": []}
    return {**about, "models": models, "accuracies": {"": {"m": 0.9, "n": 0.1}}}


def test_distances_are_sorted_by_accuracy(drawn, tmp_path):
    kinds.draw("fid", distances(), tmp_path)
    axes = drawn["by-model"].axes[0]
    assert ticks(axes.xaxis) == ["n", "m"]
    assert "rising accuracy" in axes.get_xlabel()
    assert [bar.get_height() for bar in axes.patches] == [6, 2]
    assert [bar.get_height() for bar in drawn["by-dataset"].axes[0].patches] == [6, 2]


def probing(labels: bool = True) -> dict[str, Any]:
    def layer(value: float | None) -> dict[str, Any]:
        knn = {"validation": 0.5, "balanced_accuracy": value, "interval": [0.3, 0.7], "neighbours": 5}
        found = knn if labels and value is not None else None
        return {"num_features": 4, "knn": found, "linear": None, "rankme": 7.5, "logme": None, "h_score": None}

    layers = [{"x": layer(0.4), "y": layer(0.6)}, {"y": layer(None), "z": layer(0.5)}]
    about = {"model": "same_$name$", "backbone": "b", "weights": "w", "split": "test"}
    return {"dataset": "d", "label_fraction": 1.0, "models": [{**about, "layers": found} for found in layers]}


def test_probes_over_layers(drawn, tmp_path):
    kinds.draw("probe", probing(), tmp_path)
    assert sorted(drawn) == ["probe-knn"]
    axes = drawn["probe-knn"].axes[0]
    assert ticks(axes.xaxis) == ["x", "y", "z"]
    first, second = (line.get_ydata() for line in axes.lines)
    assert first == pytest.approx([40, 60, np.nan], nan_ok=True)
    assert second == pytest.approx([np.nan, np.nan, 50], nan_ok=True)
    drawn.clear()
    kinds.draw("probe", probing(labels=False), tmp_path)
    assert sorted(drawn) == ["rankme"]
    assert drawn["rankme"].axes[0].lines[0].get_ydata() == pytest.approx([7.5, 7.5, np.nan], nan_ok=True)


def attending(mean: float | None = 0.6) -> dict[str, Any]:
    classes = {
        "k": {"num_images": 4, "attention": 0.5, "interval": [0.4, 0.7], "coverage": 0.1, "pointing": 1.0},
        "none": {"num_images": 0, "attention": None, "interval": None, "coverage": None, "pointing": None},
    }
    chain = {
        "chain": "a -> $b$",
        "tasks": ["a", "$b$"],
        "stages": ["k"],
        "seeds": [0],
        "attention": {"mean": mean, "std": None, "interval": None},
        "coverage": 0.2,
        "pointing": {"mean": mean, "std": None, "interval": None},
        "num_images": 4,
        "num_undefined": 0,
        "classes": classes,
        "layer": "layer4",
        "map_size": [4, 4],
        "sheet": "sheet.png",
        "images": ["images.csv"],
    }
    about = {"dataset": "d", "split": "test", "method": "gradcam", "target": "predicted", "layer": "layer4"}
    return {**about, "masks": "m", "num_images": 4, "chains": [chain]}


def test_attention_by_class_with_its_coverage(drawn, tmp_path):
    kinds.draw("attend", attending(), tmp_path)
    axes = drawn["attention"].axes[0]
    assert ticks(axes.yaxis) == ["all images", "k (4)", "none"]
    assert marks(axes, "attention") == [(60, 0), (50, 1)]
    assert sorted({x for x, _ in marks(axes, "coverage")}) == [10, 20]


# ---- embeddings and stages


def test_an_embedding_names_the_largest_classes(drawn, tmp_path):
    labels = np.concatenate([np.repeat(np.arange(25), 2), [24, 24, -1]])
    points = np.arange(2.0 * len(labels)).reshape(-1, 2)
    classes = [f"c{n}" for n in range(25)]
    probing_figures.embedding_chart("e", points, labels, classes, title="t", method="t-SNE").save(tmp_path)
    axes = drawn["e"].axes[0]
    names = {group.get_label(): group for group in axes.collections}
    assert len(names) == probing_figures.MOST_CLASSES + 1  # with those without a label
    assert "c24 (4)" in names
    assert "6 other classes (12)" in names
    assert "no label (1)" in names
    assert names["c0 (2)"].get_offsets().tolist() == points[:2].tolist()
    assert list(axes.get_xticks()) == []
    pca = {"method": "PCA", "explained": [0.5, 0.25]}
    probing_figures.embedding_chart("p", points, labels, classes, title="t", **pca).save(tmp_path)
    assert drawn["p"].axes[0].get_ylabel() == "PCA 2 (25.0 % of the variance)"


def test_long_logs_are_means_of_their_parts():
    values = np.arange(1000.0)[:, None]
    thin = curves.thinned(values, 400)
    assert len(thin) == 400
    assert [thin[0, 0], thin[-1, 0]] == pytest.approx([np.mean([0, 1]), np.mean([997, 998, 999])])
    assert np.all(np.diff(thin[:, 0]) > 0)
    assert curves.thinned(values[:400], 400).tolist() == values[:400].tolist()


@pytest.fixture
def stage(small_stage, tmp_path) -> Stage:
    """A finished stage with its log, its validation and its search."""
    spec = small_stage("classification", search=LrSearch(low=0.001, high=1.0))
    spec = replace(spec, training=replace(spec.training, lr=0.05))
    folder = tmp_path / "0123456789abcdef"
    (folder / "search").mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(to_dict(spec)))
    (folder / "metrics.csv").write_text("step,epoch,lr,loss,seconds\n0,0.5,0.1,2.0,1\n1,1.0,0.05,1.5,2\n")
    (folder / "epochs.csv").write_text("epoch,step,val_loss,val_balanced_accuracy\n0,1,1.8,0.4\n")
    rows = "0,0.01,finished,0.5,val_balanced_accuracy\n1,0.1,pruned,,m\n2,0.9,failed,,m\n3,0.2,pruned,0.3,m\n"
    (folder / "search" / "search.csv").write_text(f"trial,lr,state,value,measure\n{rows}")
    (folder / "search" / "found.json").write_text('{"lr": 0.01}')
    return Stage("0123456789abcdef", folder)


def test_curves_of_a_stage(drawn, stage, tmp_path):
    found = [chart.save(tmp_path) for chart in curves.stage_charts("1. a_$task$", stage)]
    assert [figure.base.name for figure in found] == list(drawn) == [f"curves-{stage.key}", f"search-{stage.key}"]
    loss, accuracy, rate = drawn[f"curves-{stage.key}"].axes
    assert marks(loss, "loss") == [(0.5, 2.0), (1.0, 1.5)]
    assert list(loss.lines[1].get_xydata()[0]) == [1.0, 1.8]  # the first epoch ends at 1
    assert marks(accuracy, "val_balanced_accuracy") == [(1.0, 40.0)]
    assert marks(rate, "rate") == [(0.5, 0.1), (1.0, 0.05)]
    axes = drawn[f"search-{stage.key}"].axes[0]
    assert marks(axes, "finished") == marks(axes, "ring") == [(0.01, 50.0)]
    assert {x for x, _ in marks(axes, "chosen")} == {0.01}
    assert {x for x, _ in marks(axes, "recipe")} == {0.05}
    assert axes.get_xscale() == "log"


def test_trials_without_a_result_are_apart(drawn, stage, tmp_path):
    """What a trial has when it is stopped early may be better than what others have at their end."""
    chart = curves.stage_charts("a -> classification, seed 0", stage)[1]
    assert chart.title == "Learning rates: a → classification, seed 0; 4 tried, 2 stopped early, 1 failed"
    chart.save(tmp_path)
    above, below = drawn[f"search-{stage.key}"].axes
    assert marks(above, "pruned") == marks(above, "failed") == []
    assert ticks(below.yaxis) == ["stopped early", "failed"]
    assert marks(below, "pruned") == [(0.1, 0), (0.2, 0)]
    assert marks(below, "failed") == [(0.9, 1)]
    looks = {line.get_gid(): (line.get_marker(), line.get_color()) for line in (*above.lines, *below.lines)}
    assert len({looks[state] for state in ("finished", "pruned", "failed")}) == 3
    shown = [text.get_text() for text in drawn[f"search-{stage.key}"].legends[0].get_texts()]
    assert shown[:3] == ["finished (1)", "stopped early (2), no result", "failed (1), no result"]
    assert "chosen: 0.01" in shown
    below.set_xlim(0.001, 1.1)
    low, high = below.get_xlim()
    shown = [below.xaxis.get_major_formatter()(x) for x in below.get_xticks() if low <= x <= high]
    assert shown == ["0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1"]
    (stage.folder / "search" / "search.csv").write_text("trial,lr,state,value,measure\n0,0.01,finished,0.5,loss\n")
    chart = curves.stage_charts("a, seed 0", stage)[1]
    assert (chart.title, chart.panels) == ("Learning rates: a, seed 0; 1 tried", False)


def test_a_stage_without_a_log_is_not_drawn(drawn, stage, tmp_path):
    for path in (stage.folder / "metrics.csv", stage.folder / "search" / "search.csv"):
        path.unlink()
    assert curves.stage_charts("t", stage) == []
    assert drawn == {}


# ---- every kind

SEARCHED = {
    "dataset": "d",
    "split": "test",
    "measure": "knn",
    "seeds": [0],
    "rungs": [
        {
            "length": 1,
            "short": True,
            "seeds": 1,
            "candidates": [{"ordering": ["a"], "epochs": 1, "score": 0.4, "kept": False}],
            "not_afforded": [["$b$"]],
        }
    ],
    "finalists": [{"ordering": ["a"], "score": 0.4, "validation": None, "mean": None, "std": None, "runs": []}],
    "ordering": [],
    "cost": {"image_passes": 1.0, "exhaustive_image_passes": 2.0, "share": 0.5, "budget": 0.5},
    "missed": None,
    "failed": [],
    "command": None,
}
GRID = {
    "dataset": "$d$",
    "split": "test",
    "tasks": ["a"],
    "seeds": [0],
    "ssl_fractions": [n / 10 for n in range(1, 11)],
    "label_fractions": [1.0],
    "baseline": None,
    "cells": [cell(1.0, n / 10, 0.5, 0.1) for n in range(1, 11)],
    "halving": {"labels": None, "images": None},
    "failed": [],
}
MANY = report((np.arange(900).reshape(30, 30) % 7).tolist())
NAMES = ["a_$long$_<task>_name_that_goes_on_" * 2, "b", "c"]
LONG = ranking(
    tasks=[{"task": name, **entry(0.5, seeds=1)} for name in NAMES],
    curriculum=NAMES,
    orderings=[
        {**ordering("b c", "tied", 0.5), "ordering": [NAMES[n] for n in order]}
        for order in itertools.permutations(range(3))
    ],
)
# Names of plug-ins, and of classes in letters that the font of charts has, or has not.
PLUG_INS = [f"my_lab_package/contrastive-patches-with-memory-{n}" for n in range(4)]
CLASSES = [
    "肺炎 社区获得性 肺部感染 很长很长的名字",
    "Größe",
    "Ελληνικά",
    "a class with a name of forty letters here",
]
CALIBRATED = {
    "error": 0.17,
    "temperature": 0.58,
    "calibrated_error": 0.1,
    "bins": [{"num": n, "confidence": n / 10, "right": n / 12} for n in range(1, 10)],
    "calibrated_bins": [{"num": n, "confidence": n / 10, "right": n / 11} for n in range(1, 10)],
}
LABELS = {
    name: {
        "auroc": None if number == 1 else 0.6 + number / 10,
        "auroc_interval": None if number == 1 else [0.5, 0.95],
        "average_precision": 0.4,
        "average_precision_interval": [0.3, 0.5],
        "num_holding": 1200 * number,
        "num_known": 9000,
    }
    for number, name in enumerate(CLASSES)
}
MULTILABEL = {"split": "test", "target": "multilabel", "auroc": 0.71, "interval": [0.6, 0.8], "num_images": 1}
MULTILABEL |= {"average_precision": 0.5, "average_precision_interval": [0.4, 0.6], "labels": LABELS, "classes": CLASSES}
REGRESSION = {"split": "test", "target": "regression", "r2": 0.4, "interval": [0.3, 0.5], "num_images": 500}
REGRESSION |= {"mae": 3.0, "mae_interval": [2, 4], "spearman": 0.6, "spearman_interval": [0.5, 0.7]}
REGRESSION |= {"classes": ["age at the time of the first examination in years"]}
REGRESSION |= {"agreement": [{"num": 5, "foretold": n, "true": n + 1, "low": n - 9, "high": n + 9} for n in range(10)]}


def renamed(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same with other names of tasks."""
    text = json.dumps(document)
    for old, new in names.items():
        text = text.replace(f'"{old}"', json.dumps(new))
    changed: dict[str, Any] = json.loads(text)
    return changed


def stored(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((REPOSITORY / "tests" / "documents" / name).read_text())
    return document


GRADIENT = renamed(stored("search-gradient.json"), dict(zip(("rotation", "simsiam"), PLUG_INS, strict=False)))
VARIANTS = renamed(
    stored("variants.json"), dict(zip(("rotation", "simsiam", "relative-location"), PLUG_INS, strict=False))
)
DOCUMENTS = {
    "rank": [ranking(), LONG, ranking(orderings=None, ties=[])],
    "search": [SEARCHED, GRADIENT],
    "variants": [VARIANTS, stored("variants-rates.json")],
    "explain": [stored("explain.json")],
    "grid": [GRID],
    "train": [
        {"stages": [], "downstream": MANY},
        {"stages": [], "baseline": report([[0]])},
        {"stages": [], "downstream": {**MULTILABEL, "calibration": CALIBRATED}, "baseline": REGRESSION},
    ],
    "cka": [similarity(2), similarity(5)],
    "fid": [distances(), distances(200)],
    "probe": [probing(), probing(labels=False)],
    "attend": [attending(), {**attending(), "chains": 9 * attending()["chains"]}],
}
EMPTY: dict[str, list[dict[str, Any]]] = {
    "rank": [
        ranking(tasks=[], curriculum=[], ties=[], baselines={}, orderings=[]),
        ranking(tasks=[], curriculum=[], ties=[], baselines={}, orderings=[ordering("a b", "mixed", None)]),
    ],
    "search": [{**SEARCHED, "rungs": [], "finalists": []}],
    "grid": [{**GRID, "cells": []}, {**GRID, "cells": [cell(1.0, 0.5, None)]}],
    "train": [{"stages": []}],
    "cka": [{**similarity(2), "models": [], "pairs": []}],
    "fid": [distances(None)],
    "probe": [{"dataset": "d", "label_fraction": 1.0, "models": []}],
    "attend": [{**attending(), "chains": []}, attending(None)],
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name -> matplotlib figure of all that is written, as PNG last."""
    figures: dict[str, Any] = {}
    write = style.save

    def save(figure: Any, base: Any, formats: Any) -> None:
        write(figure, base, sorted(formats, reverse=True))
        figures[base.name] = figure

    monkeypatch.setattr(style, "save", save)
    return figures


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_every_kind_writes_what_it_says_and_the_same_twice(kind, tmp_path, seen):
    """And no text lies outside or on another, all looks are those of the style, titles have no slips."""
    for number, document in enumerate(DOCUMENTS[kind]):
        folders = [tmp_path / f"{number}-{again}" for again in range(2)]
        for folder in folders:
            folder.mkdir()
            found = kinds.draw(kind, document, folder)
            expected = {f"{figure.base.name}.{suffix}" for figure in found for suffix in style.FIGURE_FORMATS}
            assert found
            assert {path.name for path in folder.iterdir()} == expected
        for figure in found:
            assert faults(seen[figure.base.name], figure.title, ("a_$data$_<set>", *PLUG_INS)) == []
        for path in folders[0].iterdir():
            assert path.read_bytes() == (folders[1] / path.name).read_bytes()


def test_a_legend_at_the_right_leaves_the_title_room(seen, tmp_path):
    names = [f"class with a rather long name number {n}" for n in range(24)]
    title = "Features of rotation → classification, pooled: fashion, 480 test images"
    points, labels = np.arange(96.0).reshape(-1, 2), np.arange(48) % 24
    probing_figures.embedding_chart("e", points, labels, names, title=title, method="t-SNE").save(tmp_path, ("png",))
    assert faults(seen["e"], title) == []


def test_what_is_wrong_with_a_chart_is_noticed(seen, tmp_path):
    def paint(axes: Any) -> list[Any]:
        axes.plot([0, 1], color="red")
        axes.text(0.5, 0.5, "one")
        axes.text(0.5, 0.5, "two", fontsize=7, family="serif")
        axes.text(1.2, 1.2, "far away", clip_on=False).set_in_layout(False)
        return []

    style.Chart("bad", "one rank over my_setting of 1 seeds", 3, 2, paint).save(tmp_path)
    told = "\n".join(faults(seen["bad"], "one rank over my_setting of 1 seeds"))
    for fault in (
        "has '_'",
        "'1 seeds'",
        "capital",
        "#ff0000",
        "7.0 points",
        "serif",
        "'far away' lies out",
        "lies on",
    ):
        assert fault in told


def test_the_width_of_text_is_what_is_drawn():
    from matplotlib.textpath import TextPath

    for text in ("relative-location → mocov2 ?", "WWWWW iiiii", "Größe, 95 % (n = 3)"):
        drawn_width = TextPath((0, 0), text, size=9).get_extents().width / 72
        assert drawn_width <= style.width_of(text, 9) <= 1.1 * drawn_width
    lines = style.wrapped("a title of some length with 95 % in it, and more", 1.0, 9)
    assert " ".join(lines) == "a title of some length with 95 % in it, and more"
    assert all(style.width_of(line, 9) <= 1.0 for line in lines)
    assert not any(line.startswith("%") for line in lines)
    assert style.width_of(style.cut("a_word_that_is_longer_than_its_line", 1.0, 9), 9) <= 1.0


def test_letters_that_the_font_lacks_are_of_another_that_is_installed(monkeypatch):
    from matplotlib.font_manager import FontProperties, findfont, get_font

    lacked = [chr(n) for n in get_font(findfont(FontProperties(family=["STIXGeneral"]))).get_charmap()]
    letter = next(each for each in lacked if style._is_missing(each))
    monkeypatch.setattr(style, "OTHER_FONTS", ("No Such Font", "STIXGeneral"))
    axes = style.Chart("c", f"A title with {letter}", 3, 2, lambda axes: []).draw()
    title = axes.figure.get_suptitle()
    assert letter in title
    texts = axes.figure.findobj(style._is_text)
    families = [(text.get_text() == title, text.get_fontfamily()) for text in texts]
    assert (True, [style.FONT, "STIXGeneral"]) in families
    assert all(family == [style.FONT] for is_title, family in families if not is_title)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.003, "0.003"), (1e-4, "0.0001"), (3e-6, "3e-6"), (2e4, "20,000"), (1e7, "1e7")]
)
def test_numbers_on_axes_are_as_a_person_writes_them(value, text):
    assert style.plain(value) == text


@pytest.mark.parametrize("kind", sorted(EMPTY))
def test_nothing_measured_is_not_drawn(kind, tmp_path):
    for document in EMPTY[kind]:
        assert kinds.draw(kind, document, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_only_the_formats_asked_for(tmp_path):
    found = kinds.draw("rank", ranking(), tmp_path, formats=("svg",))
    assert {path.name for path in tmp_path.iterdir()} == {f"{figure.base.name}.svg" for figure in found}
    text = (tmp_path / "singles.svg").read_text()
    assert "a_$data$_&lt;set&gt;" in text  # text stays text, and dollars are no mathematics


def test_an_unknown_kind_is_a_mistake(tmp_path):
    with pytest.raises(SpecError, match="'gird'"):
        kinds.draw("gird", {}, tmp_path)
