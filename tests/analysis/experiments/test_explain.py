"""What lies behind the differences between the chains of a ranking, as a person asks for it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET

from sslcurr.analysis.evaluation.predictions import write_predictions
from sslcurr.analysis.experiments.components import components_of
from sslcurr.analysis.measures.intervals import Images, interval_of, sample
from sslcurr.analysis.results.distances.document import (
    DatasetDistances,
    Distance,
    Distances,
    DistancesDocument,
    ModelDistances,
)
from sslcurr.analysis.results.explanation.tables import MOST_TRIPLES
from sslcurr.analysis.results.similarity.document import (
    ComparedModel,
    LayerSimilarity,
    ModelPair,
    SimilarityDocument,
)
from sslcurr.api.lab import Lab
from sslcurr.errors import SpecError
from sslcurr.files import write_json
from tests.analysis.experiments.tables import ranking_of

TASKS = ("odc", "mocov2", "relative-location", "swav")
WORTH = dict(zip(TASKS, (0.5, 0.55, 0.6, 0.7), strict=True))
ALIKE = {
    frozenset(pair): value
    for pair, value in zip(itertools.combinations(TASKS, 2), (0.9, 0.3, 0.8, 0.2, 0.7, 0.4), strict=True)
}
AWAY = dict(zip(TASKS, (4.0, 3.0, 2.0, 1.0), strict=True))
COST = 0.2  # of a middle task that is wholly unlike both of its neighbours


def worth(ordering: tuple[str, ...]) -> float:
    """What the last task is worth, less what an unlike task in the middle costs."""
    if len(ordering) < 3:
        return WORTH[ordering[-1]] if ordering else 0.45
    unlike = 1 - max(ALIKE[frozenset(pair)] for pair in itertools.pairwise(ordering))
    return WORTH[ordering[-1]] - COST * unlike


def similarity(seeds: tuple[int, ...] = (0, 1), tasks: tuple[str, ...] = TASKS) -> SimilarityDocument:
    """Models of single tasks, compared: the second layer of the second seed is more alike than the first."""
    models = [(task, seed) for task in tasks for seed in seeds]
    titles = {model: f"{model[0]} (seed {model[1]})" for model in models}

    def layers(a: tuple[str, int], b: tuple[str, int]) -> list[LayerSimilarity]:
        value = ALIKE.get(frozenset((a[0], b[0])), 1.0)
        shift = 0.05 if a[1] == b[1] == 0 else -0.05 if a[1] == b[1] else 0.0
        values = {"layer1": value + shift, "layer2": value + shift, "pooled": None}
        return [LayerSimilarity(layer=name, cka=cka, interval=None) for name, cka in values.items()]

    return SimilarityDocument(
        dataset="fish",
        split="test",
        num_images=90,
        num_batches=1,
        estimator="unbiased",
        kernel="linear",
        pool="none",
        models=[
            ComparedModel(title=titles[model], backbone="r", weights="w", layers=["layer1", "layer2", "pooled"])
            for model in models
        ],
        pairs=[
            ModelPair(a=titles[a], b=titles[b], layers=layers(a, b), matrix=[[None] * 3] * 3)
            for a, b in itertools.combinations(models, 2)
        ],
    )


def distances(tasks: tuple[str, ...] = TASKS) -> DistancesDocument:
    """Distances to two data sets in the features of models of single tasks."""

    def of(value: float) -> Distance:
        return Distance(mean=value, sd=None, values=[value])

    def model(task: str) -> ModelDistances:
        sets = [
            DatasetDistances(dataset=name, fid=of(1.0), kid=of(1.0), normalised=of(AWAY[task] + shift))
            for name, shift in (("birds", 0.5), ("moths", -0.5))
        ]
        halves = Distances(fid=of(1.0), kid=of(1.0))
        return ModelDistances(model=task, layer="pooled", image_size=16, num_features=4, halves=halves, datasets=sets)

    return DistancesDocument(
        reference="fish",
        split="all",
        num_images=45,
        draws=1,
        models=[model(task) for task in tasks],
        accuracies={},
        correlations=[],
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with a ranking of four tasks, its predictions, similarities and distances."""
    place = tmp_path_factory.mktemp("asked")
    ranking = ranking_of(place / "store", (0, 1, 2), tasks=TASKS, worth=worth, num_images=180)
    for name, document in (("rank", ranking), ("cka", similarity()), ("fid", distances())):
        write_json(place / f"{name}.json", document.to_json())
    write_predictions(ranking.predicted(), place)
    (place / "store").rename(place / "gone")
    return place


@pytest.fixture(scope="module")
def explained(asked):
    lab = Lab(asked / "runs")
    return lab.explain(asked / "rank.json", similarity=[asked / "cka.json"], distances=[asked / "fid.json"])


def correct_of(asked: Path, chain: str) -> np.ndarray:
    """[S, N] from the predictions, read in another way."""
    import pandas as pd

    table = pd.read_parquet(asked / "predictions.parquet").query("chain == @chain").sort_values(["seed", "path"])
    right = (table["label"].astype(str) == table["prediction"].astype(str)).to_numpy(dtype=float)
    return right.reshape(3, -1)


def test_blocks_are_components_of_the_predictions(asked, explained):
    sizes = {block.length: (block.num_chains, block.num_stages) for block in explained.blocks}
    assert sizes == {None: (40, 4), 1: (4, 4), 2: (12, 4), 3: (24, 4)}
    images = Images.of(180, classes=np.arange(180) * 3 // 180, groups=np.arange(180)[::-1] // 2)
    expected = components_of([sample(correct_of(asked, task), images) for task in TASKS], TASKS)
    block = next(block for block in explained.blocks if block.length == 1)
    assert block.variances.chain == pytest.approx(expected.chain)
    assert block.variances.images == pytest.approx(expected.images)
    assert block.variances.stage is None
    assert block.shares.interval == pytest.approx(expected.interval)
    whole = explained.blocks[0]
    assert whole.variances.stage is not None
    assert whole.shares.real + whole.shares.luck + whole.shares.images == pytest.approx(1.0)
    assert whole.shares.interval[0] > 0.5
    assert whole.p_value < 0.001


def test_what_foretells_is_found(explained):
    found = explained.foretelling
    assert (found.num_chains, found.num_sets, found.num_arrangements, found.exact) == (36, 10, 24, True)
    taus = {(entry.length, entry.group, entry.predictor): entry for entry in found.correlations}
    assert len(taus) == 2 * 8
    last = taus[2, "accuracy", "last"]
    assert last.tau > 0.6
    assert last.interval[0] <= last.tau <= last.interval[1]
    assert taus[2, "distance", "last"].tau < -0.6
    fits = {" ".join(fit.groups): fit for fit in found.fits}
    assert list(fits) == ["", "accuracy", "similarity", "distance", "accuracy similarity distance"]
    assert fits[""].p_value is None
    assert fits["accuracy"].r_squared > 0.5
    assert fits["accuracy"].p_value >= fits["accuracy"].smallest_p_value == 1 / 24
    assert fits["accuracy"].r_squared < found.most < 1
    assert explained.distances.values == pytest.approx(AWAY)  # means over data sets
    assert explained.similarity.values["mocov2 <-> odc"] == pytest.approx(0.9)  # means over seeds and layers


def test_inserting_an_unlike_task_costs_what_it_costs(asked, explained):
    insertion = explained.insertion
    assert len(insertion.rows) == 24
    unlike = [row.unlike for row in insertion.rows]
    assert unlike == sorted(unlike, reverse=True)
    assert insertion.slope.interval[0] <= -COST <= insertion.slope.interval[1] < 0
    assert insertion.p_value == insertion.smallest_p_value == 1 / 24
    gains = [row.gain.mean for row in insertion.rows]
    assert insertion.gain.mean == pytest.approx(np.mean(gains))
    assert insertion.slope.mean == pytest.approx(np.polyfit(unlike, gains, 1)[0])
    first = insertion.rows[0]
    three, two = (correct_of(asked, " -> ".join(each)) for each in (first.ordering, first.ordering[::2]))
    classes = np.arange(180) * 3 // 180
    images = Images.of(180, classes=classes, groups=np.arange(180)[::-1] // 2)
    alone = interval_of(sample(three - two, images))
    assert first.gain.mean == pytest.approx(sample(three - two, images).mean)
    assert first.gain.interval[0] < alone[1]


def test_the_document_is_kept_printed_and_drawn(asked, explained, sslcurr, monkeypatch, tmp_path):
    monkeypatch.chdir(asked)
    sslcurr.runs = tmp_path / "runs"
    known = ("--similarity", "cka.json", "--distances", "fid.json")
    result = sslcurr("explain", "rank.json", *known, "--plot", str(tmp_path / "charts"))
    assert result.exit_code == 0, result.stderr
    for piece in ("What the differences between chains consist of", "p < 0.001 (F test)", "inserting a task: "):
        assert piece in result.stdout
    assert len(explained.insertion.rows) > MOST_TRIPLES
    # A long table is left to --json, --plot and report.
    assert "What inserting a task between two others gives" not in result.stdout
    names = {path.name for path in (tmp_path / "charts").iterdir()}
    assert names >= {"explain.json", "components.csv", "explanation.svg", "insertion.png"}
    (run,) = sslcurr.json("runs")["runs"]
    assert sorted(run["title"].split()) == sorted(["explain", *TASKS])
    plain, expected = Lab(sslcurr.runs).result(run["run"]).to_json(), explained.to_json()
    for name in ("blocks", "foretelling", "insertion"):
        assert plain[name] == expected[name]
    assert sslcurr("report", "--table", "insertions", "--format", "csv").stdout.count("\n") == 1 + 24


def test_three_tasks_can_show_nothing_and_are_said_to(tmp_path):
    ranking = ranking_of(tmp_path / "store", (0, 1), tasks=TASKS[:3], worth=worth)
    write_json(tmp_path / "rank.json", ranking.to_json())
    found = Lab(tmp_path / "runs").explain(tmp_path / "rank.json")
    assert found.foretelling.num_sets == 3  # the one set of three tasks cannot be left out
    assert found.foretelling.fits[1].smallest_p_value == 1 / 6
    models = next(table for table in found.tables() if table.name == "models")
    assert any("p cannot be below 0.167" in note for note in models.notes)
    assert found.insertion is UNSET
    assert found.similarity is UNSET


@pytest.mark.parametrize(
    ("seeds", "lengths", "words"),
    [
        ((0,), (2,), "ranking and effect have to come from different seeds"),
        ((0, 1), (), "no orderings of two tasks or more"),
        ((0, 1), (3,), "one set of tasks of each length"),
    ],
)
def test_what_cannot_be_said_is_said(tmp_path, seeds, lengths, words):
    ranking = ranking_of(tmp_path / "store", seeds, tasks=TASKS[:3], lengths=lengths, worth=worth)
    write_json(tmp_path / "rank.json", ranking.to_json())
    found = Lab(tmp_path / "runs").explain(tmp_path / "rank.json")
    assert words in found.foretelling.reason
    assert any(words in line for line in found.closing_lines())
    assert found.tables()
    if len(seeds) == 1:
        assert {block.reason for block in found.blocks} == {
            "one seed: what is luck and what is real cannot be told apart"
        }
        assert not found.figures()


def test_chains_that_lack_a_seed_are_left_out_and_named(tmp_path):
    failing = [(("odc", "mocov2"), 1)]
    ranking = ranking_of(tmp_path / "store", (0, 1), tasks=TASKS[:3], worth=worth, failing=failing)
    write_json(tmp_path / "rank.json", ranking.to_json())
    found = Lab(tmp_path / "runs").explain(tmp_path / "rank.json")
    assert found.left_out == [["odc", "mocov2"]]
    assert any("left out, as not measured at every seed: odc -> mocov2" in note for note in found.tables()[0].notes)
    # One of the pairs is missing, so that only the orderings of three are all there: one set.
    assert found.foretelling.fits == []


def test_mistakes_of_explaining(tmp_path):
    lab = Lab(tmp_path / "runs")

    def mistake(*ranking: object, **known: object) -> SpecError:
        with pytest.raises(SpecError) as caught:
            lab.explain(*ranking, **known)
        assert caught.value.hint
        return caught.value

    small = ranking_of(tmp_path / "store", (0, 1), tasks=TASKS, lengths=(), num_images=45)
    ranking = tmp_path / "rank.json"
    write_json(ranking, small.to_json())
    assert "no result of a run nothing" in str(mistake("nothing"))
    assert "is no document of sslcurr cka" in str(mistake(ranking, similarity=[ranking]))
    write_json(tmp_path / "cka.json", similarity(tasks=TASKS[:3]).to_json())
    found = mistake(ranking, similarity=[tmp_path / "cka.json"])
    assert "no similarity of the models of" in str(found)
    assert "swav alone" in str(found)
    assert "sslcurr cka KEY KEY" in found.hint
    write_json(tmp_path / "fid.json", distances(tasks=TASKS[1:]).to_json())
    assert "features of odc alone" in str(mistake(ranking, distances=[tmp_path / "fid.json"]))
    lab.explain(ranking)
    (run,) = lab.runs().runs
    assert "is a document of sslcurr explain, not of sslcurr rank" in str(mistake(run.run))
