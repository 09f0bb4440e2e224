"""Rankings of a few seeds each, joined: as if they had been measured together."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sslcurr.analysis.evaluation.predictions import write_predictions
from sslcurr.analysis.results.estimate import Estimate
from sslcurr.analysis.results.ranking.document import AttentionFacts, RankDocument
from sslcurr.api.lab import Lab
from sslcurr.errors import DataError, SpecError
from sslcurr.files import write_json
from sslcurr.progress import Reporter
from tests.analysis.experiments.tables import TASKS, ranking_of
from tests.conftest import QUICK

SEEDS = (0, 1, 2)
FACTS = AttentionFacts(masks="fins", method="gradcam", target="predicted", layer="layer4", coverage=0.3, num_images=90)


class Heard(Reporter):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def written(document: RankDocument, path: Path) -> str:
    """A document and the table of its predictions in a folder of its own, as --plot writes both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document.to_json())
    write_predictions(document.predicted(), path.parent)
    return str(path)


def numbers(document: RankDocument) -> dict:
    """All but paths and command lines."""
    plain = document.to_json()
    rows = [*plain["tasks"], *plain["baselines"].values(), *plain["orderings"]]
    for run in (run for row in rows for run in row["runs"]):
        del run["predictions"]
    return {name: value for name, value in plain.items() if name not in ("command", "invocation")}


@pytest.mark.parametrize("groups", [True, False])
def test_three_rankings_of_a_seed_equal_one_of_three_seeds(tmp_path, groups):
    """The store that measured them is gone, and each document has its predictions beside it."""
    store = tmp_path / "store"
    kwargs = {
        "worth": lambda ordering: 0.3 + 0.1 * len(ordering),
        "groups": groups,
        "lengths": (2, 3) if groups else (2,),
        "failing": [(("swav", "rotation"), 1)],
    }
    whole = ranking_of(store, SEEDS, **kwargs)
    parts = [ranking_of(store, [seed], **kwargs) for seed in (2, 0, 1)]
    paths = [written(part, tmp_path / f"part-{number}" / "rank.json") for number, part in enumerate(parts)]
    store.rename(tmp_path / "gone")
    joined = Lab(tmp_path / "runs").join(paths)
    assert numbers(joined) == numbers(whole)
    assert whole.hypothesis.kendall[0].interval is not None
    words = joined.command.split()
    assert words[:2] + sorted(words[2:5]) == ["sslcurr", "chain", *sorted(TASKS)]
    assert words[2:5] == joined.curriculum
    assert words[5:] == ["--epochs", "2", "--seed", "0"]


def test_it_is_kept_with_all_predictions(tmp_path):
    store = tmp_path / "store"
    paths = [written(ranking_of(store, [seed], lengths=()), tmp_path / str(seed) / "rank.json") for seed in SEEDS]
    store.rename(tmp_path / "gone")
    lab = Lab(tmp_path / "runs", plot=tmp_path / "charts")
    joined = lab.join(paths)
    assert json.loads((tmp_path / "charts" / "rank.json").read_text()) == joined.to_json()
    (run,) = lab.runs().runs
    assert sorted(run.title.split()) == sorted(["join", *TASKS])
    assert lab.result(run.run).to_json() == joined.to_json()
    assert lab.remove(dry_run=True).removed == {}
    again = Lab(tmp_path / "runs").join([run.run, paths[0], tmp_path / "charts" / "rank.json"])
    assert again.to_json()["tasks"][0]["interval"] == joined.to_json()["tasks"][0]["interval"]


def test_documents_in_one_folder_have_predictions_of_their_name(tmp_path):
    paths = []
    for seed in SEEDS[:2]:
        path = tmp_path / f"rank-{seed}.json"
        part = ranking_of(tmp_path / "store", [seed])
        write_json(path, {"kind": "rank", "document": part.to_json()})  # as a store keeps it
        name = f"rank-{seed}.parquet" if seed else "rank-0-predictions.parquet"
        write_predictions(part.predicted(), tmp_path).rename(tmp_path / name)
        paths.append(path)
    (tmp_path / "store").rename(tmp_path / "gone")
    joined = Lab(tmp_path / "runs").join(paths)
    assert joined.seeds == [0, 1]
    table = pd.read_parquet(joined.tasks[0].runs[0].predictions)
    assert list(table["label"].cat.categories) == ["tuna", "bass", "eel"]
    assert len(table) == 2 * (1 + 3 + 6 + 6) * 90


def test_a_chain_that_one_document_lacks_keeps_its_seeds(tmp_path):
    first = ranking_of(tmp_path / "store", [0], lengths=(2, 3))
    second = ranking_of(tmp_path / "store", [1, 2], lengths=(2,))
    heard = Heard()
    paths = [written(part, tmp_path / name / "rank.json") for name, part in (("a", first), ("b", second))]
    joined = Lab(tmp_path / "runs", reporter=heard).join(paths)
    seeds = {len(row.ordering): [run.seed for run in row.runs] for row in joined.orderings}
    assert seeds == {2: [0, 1, 2], 3: [0]}
    assert joined.failed == []
    assert any("in no document at seed 1, 2" in note for note in heard.notes)
    assert "seeds of 3" in [column.title for column in joined.tables()[1].columns]


def test_attention_is_joined_without_intervals(tmp_path):
    def attended(document: RankDocument, value: float) -> RankDocument:
        def row(chain):
            runs = [replace(run, attention=value) for run in chain.runs]
            return replace(chain, runs=runs, attention=Estimate(mean=value, std=None, interval=(0.0, 1.0)))

        return replace(
            document,
            attention=FACTS,
            tasks=[row(chain) for chain in document.tasks],
            baselines={name: row(chain) for name, chain in document.baselines.items()},
            orderings=[row(chain) for chain in document.orderings],
        )

    parts = [ranking_of(tmp_path / "store", [seed], lengths=(2,)) for seed in (0, 1)]
    seen = [attended(part, value) for part, value in zip(parts, (0.2, 0.4), strict=True)]
    paths = [written(part, tmp_path / str(number) / "rank.json") for number, part in enumerate(seen)]
    joined = Lab(tmp_path / "runs").join(paths)
    assert joined.tasks[0].attention == Estimate(mean=0.3, std=pytest.approx(0.2 / 2**0.5), interval=None)
    assert any("attention has no intervals" in note for note in joined.tables()[0].notes)
    heard = Heard()
    without = written(parts[1], tmp_path / "without" / "rank.json")
    joined = Lab(tmp_path / "runs", reporter=heard).join([paths[0], without])
    assert joined.attention is UNSET
    assert joined.tasks[0].attention is UNSET
    assert any(note.startswith("attention is left out") for note in heard.notes)


def mistake(tmp_path: Path, *documents: object, kind: type[Exception] = SpecError) -> str:
    with pytest.raises(kind) as caught:
        Lab(tmp_path / "runs").join([str(each) for each in documents])
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mistakes_of_joining(tmp_path):
    store = tmp_path / "store"
    first = ranking_of(store, [0], lengths=())
    path = written(first, tmp_path / "a" / "rank.json")
    assert "nothing to join it with" in mistake(tmp_path, path)
    assert "there is no file" in mistake(tmp_path, path, "nowhere.json")
    other = tmp_path / "cka.json"
    other.write_text((Path(__file__).parents[2] / "documents" / "cka.json").read_text())
    assert "cka.json is no document of sslcurr rank" in mistake(tmp_path, path, other)
    other.write_text("{")
    assert "is no document of sslcurr rank" in mistake(tmp_path, path, other)

    second = ranking_of(store, [1], lengths=())
    for changed, words in (
        (replace(second, dataset="birds"), "is of another data set: birds, not fish"),
        (replace(second, measure="knn"), "is of another measure: knn"),
        (replace(second, start="0ab3f9"), "is of another start: scratch 0ab3f9, not scratch"),
        (replace(second, split="val"), "is of another split: val"),
        (
            replace(second, command=second.command.replace("2", "3")),
            "is of another training: --epochs 3, not --epochs 2",
        ),
        (ranking_of(store, [1], tasks=TASKS[:2], lengths=()), "is of another choice of tasks"),
        (ranking_of(store / "more", [1], lengths=(), num_images=60), "is of another number of images: 60"),
        (ranking_of(store / "plain", [1], lengths=(), groups=False), "the groups that"),
    ):
        assert words in mistake(tmp_path, path, written(changed, tmp_path / "b" / "rank.json"))

    # The same seed with other values, and the same values twice.
    rival = ranking_of(store / "rival", [0], lengths=(), worth=lambda ordering: 0.9)
    rival = written(rival, tmp_path / "rival" / "rank.json")
    assert "both have scratch at seed 0, with other results" in mistake(tmp_path, path, rival)
    assert Lab(tmp_path / "runs").join([path, path]).seeds == [0]


def test_mistakes_of_predictions(tmp_path):
    store = tmp_path / "store"
    paths = [written(ranking_of(store, [seed], lengths=()), tmp_path / str(seed) / "rank.json") for seed in (0, 1)]
    store.rename(tmp_path / "gone")
    table = tmp_path / "1" / "predictions.parquet"
    whole = pd.read_parquet(table)
    table.write_bytes(b"none")
    assert "cannot read the predictions in" in mistake(tmp_path, *paths, kind=DataError)
    whole[whole["chain"] != "swav"].to_parquet(table)
    assert "there are no predictions of swav, seed 1" in mistake(tmp_path, *paths, kind=DataError)
    whole.assign(prediction="eel").to_parquet(table)
    assert "are not those of the document: balanced accuracy 0.3333" in mistake(tmp_path, *paths, kind=DataError)
    kept = whole.copy()
    kept["path"] = kept["path"].astype(str)
    kept.loc[kept["chain"] == "swav", "path"] += "x"
    kept.to_parquet(table)
    assert "swav, seed 1, was not tested on the images" in mistake(tmp_path, *paths, kind=DataError)
    table.unlink()
    assert "there are no predictions of scratch, seed 1" in mistake(tmp_path, *paths, kind=DataError)
    kept["path"] = kept["path"].where(kept["path"].str.endswith("x"), kept["path"] + "x")
    kept.to_parquet(table)
    assert "the images that" in mistake(tmp_path, *paths)


def test_a_person_ranks_a_seed_at_a_time_and_joins(sslcurr, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = ("rank", "rotation", "--measure", "knn", "--dataset", str(folder), *QUICK)
    drawn = sslcurr.json(*ask, "--seeds", "1", "--plot", "charts")
    assert {Path(path).name for path in drawn["files"]} >= {"rank.json", "predictions.parquet", "singles.png"}
    Path("second.json").write_text(sslcurr(*ask, "--seeds", "1", "--seed", "1", "--json").stdout)
    whole = sslcurr.json(*ask, "--seeds", "2")
    joined = sslcurr.json("join", "charts/rank.json", "second.json")
    assert joined["tasks"][0]["interval"] == whole["tasks"][0]["interval"]
    assert joined["baselines"]["scratch"]["interval"] == whole["baselines"]["scratch"]["interval"]
    assert joined["command"] == whole["command"]
    assert "2 seeds" in sslcurr("report", "--table", "rank").stdout
