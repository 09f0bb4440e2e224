"""The report: what stands on the page and in tables for papers is what the commands found."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace
from PIL import Image

from sslcurr.analysis.report import gather, kept, pictures, svg
from sslcurr.analysis.report import page as reports
from sslcurr.analysis.report.tables import printed_table
from sslcurr.analysis.results.charts import matrix_chart
from sslcurr.analysis.results.formats import TABLE_FORMATS, render
from sslcurr.analysis.results.kinds import TABLE_NAMES as KINDS
from sslcurr.analysis.results.kinds import tables
from sslcurr.analysis.results.report import tables as report_tables
from sslcurr.analysis.results.table import Column, Table
from sslcurr.cli.report import TableFormat, TableName
from sslcurr.engine.store import Store
from sslcurr.spec.record import RunRecord
from tests import REPOSITORY
from tests.conftest import QUICK, Command
from tests.earlier import write_unsealed

RESULTS = REPOSITORY / "tests" / "documents" / "0.1.0"
DOCUMENTS = REPOSITORY / "tests" / "documents"
HOSTILE = "<script>alert(1)</script>"
TINY = ("--backbone", "test_resnet", *QUICK[2:])
LATEX_HOSTILE = r"a_b%&$#{}~^\ <|>"


class Reader(HTMLParser):
    """The tables of a page by id, as rows of (sorted by, shown); all ids, and all that points somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, str]]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.tags.append(tag)
        self.ids += [known["id"]] if "id" in known else []
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "poster")]
        if tag == "table":
            self.rows = self.tables[known["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell, self.value = [], known.get("data-value", "")

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append((self.value, "".join(self.cell).strip()))
            self.cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self.cell is not None:
            self.cell.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def column(self, table: str, title: str) -> list[tuple[str, str]]:
        heads = [text for _, text in self.tables[table][0]]
        return [row[heads.index(title)] for row in self.tables[table][1:]]


def attend_document(sheet: str) -> dict:
    def chain(name: str, seeds: list[int], mean: float, place: str) -> dict:
        classes = {
            HOSTILE: {"num_images": 4, "attention": mean, "interval": [0.1, 0.7], "coverage": 0.25, "pointing": 0.5},
            "bag": {"num_images": 3, "attention": 0.21, "interval": None, "coverage": 0.3, "pointing": 1 / 3},
        }
        return {
            "chain": name,
            "tasks": name.split(" -> "),
            "stages": [],
            "seeds": seeds,
            "attention": {"mean": mean, "std": 0.0123 if len(seeds) > 1 else None, "interval": [0.2, 0.6]},
            "coverage": 0.27,
            "pointing": {"mean": 0.4, "std": None, "interval": [0.25, 0.625]},
            "num_images": 7,
            "num_undefined": 1,
            "classes": classes,
            "layer": "layer4",
            "map_size": [2, 2],
            "sheet": place,
            "images": ["images.csv"],
        }

    chains = [
        chain("rotation -> classification", [0, 1], 0.4321, sheet),
        chain("classification", [0], 0.3, "/gone.png"),
    ]
    about = {"dataset": "clothes", "split": "test", "method": "gradcam", "target": "predicted", "layer": "layer4"}
    return {**about, "masks": "masks", "num_images": 7, "chains": chains}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, dict[str, dict]]:
    """A store in which every kind of result is kept, and the documents by kind."""
    root = tmp_path_factory.mktemp("report")
    run = Command(root / "runs")
    data = ("--dataset", str(folder))
    small = (*data, *TINY, "--set", "relative-location.hidden=16")
    documents = {"train": run.json("chain", "rotation", *data, *TINY, "--baseline", "scratch")}
    documents["rank"] = run.json("rank", "rotation", "relative-location", "--seeds", "2", "--length", "2", *small)
    shares = ("--ssl-fractions", "1,0.5", "--label-fractions", "1,0.5", "--seeds", "1")
    documents["grid"] = run.json("grid", "rotation", *data, *TINY, *shares, "--baseline", "scratch")
    key = documents["train"]["stages"][0]["key"]
    documents["cka"] = run.json("cka", key, key, *data, "--split", "all", "--batch-size", "16")
    documents["probe"] = run.json("probe", key, *data)
    documents["fid"] = run.json("fid", str(folder), str(folder), "--models", key)
    Image.fromarray(np.arange(48 * 2000 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 2000, 3)).save(
        root / "sheet.png"
    )
    documents["search"] = json.loads((RESULTS / "cxr-search.json").read_text())
    documents["attend"] = attend_document(str(root / "sheet.png"))
    documents["explain"] = json.loads((REPOSITORY / "tests" / "documents" / "explain.json").read_text())
    store = Store(root / "runs")
    documents["variants"] = json.loads((DOCUMENTS / "variants-rates.json").read_text())
    for kind in ("search", "attend", "variants", "explain"):
        record = replace(
            next(iter(store.all_runs().values())),
            asked={"test": kind},
            title=f"{kind} {HOSTILE}",
            dataset=HOSTILE,
            command=["sslcurr", kind, HOSTILE, "a 'b' $c"],
        )
        store.note_run(record)
        store.keep_result(record, kind, documents[kind])
    return root / "runs", documents


@pytest.fixture
def sslcurr(made) -> Command:
    return Command(made[0])


@pytest.fixture(scope="module")
def html(made, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    result = Command(made[0])("report", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: ")
    return out.read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Reader:
    return Reader(html)


@pytest.fixture(scope="module")
def names(made) -> dict[str, str]:
    """Kind -> name of its run."""
    store = Store(made[0])
    return {found[0]: name for name in store.all_runs() if (found := store.result(name)) is not None}


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, which take most of the time."""
    monkeypatch.setattr(kept, "drawn_by", lambda: b"nothing")  # no other page is put together from these
    for name in ("charts_of", "stage_charts"):
        monkeypatch.setattr(pictures, name, lambda *arguments: [])


@pytest.fixture
def copied(made, tmp_path: Path, unpictured: None) -> Path:
    """A store of one's own to damage."""
    heavy = shutil.ignore_patterns("*.safetensors", "*.bin", "*.npy")
    return Path(shutil.copytree(made[0], tmp_path / "runs", ignore=heavy))


# ---- the page


def test_the_page_shows_the_numbers_of_the_ranking(page, names, made):
    document = made[1]["rank"]
    rows = [*document["baselines"].values(), *document["tasks"]]
    cells = page.column(f"table-{names['rank']}-1", "balanced accuracy (%)")
    assert [float(value) for value, _ in cells] == [row["mean"] for row in rows]
    assert [text for _, text in cells] == [f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" for row in rows]
    cells = page.column(f"table-{names['rank']}-1", "95 % interval")
    assert [text for _, text in cells] == ["{:.1f} to {:.1f}".format(*(100 * v for v in r["interval"])) for r in rows]
    cells = page.column(f"table-{names['rank']}-2", "validation (%)")
    assert [float(value) for value, _ in cells] == [row["validation"] for row in document["orderings"]]
    (effect,) = [t for t in document["hypothesis"]["permutation"] if t["strata"] == "set"]
    smallest = effect["smallest_p_value"]
    assert f"p = {effect['p_value']:.3f}; the smallest that it could be is {smallest:.3f} (one-sided" in page.text
    best = document["best"]
    assert f"the best of {best['num_chains']}, chosen by the images it is quoted on, so it is too good" in page.text
    assert "chosen on the validation images: " in page.text
    assert "neighbours that cannot be told apart" in page.text or not document["ties"]


def test_the_page_shows_the_numbers_of_the_others(page, names, made):
    documents = made[1]
    train, scratch = documents["train"]["downstream"], documents["train"]["baseline"]
    cells = page.column(f"table-{names['train']}-1", "balanced accuracy (%)")
    assert [float(value) for value, _ in cells] == [train["balanced_accuracy"], scratch["balanced_accuracy"]]
    rows = [row for model in documents["probe"]["models"] for row in model["layers"].values()]
    assert [float(v) for v, _ in page.column(f"table-{names['probe']}-1", "RankMe")] == [r["rankme"] for r in rows]
    found = [float(value) for value, _ in page.column(f"table-{names['attend']}-1", "attention in masks (%)")]
    assert found == [0.4321, 0.3]
    missed = documents["search"]["missed"]
    assert f"number {missed['rank']} of {missed['num_orderings']} orderings" in page.text
    halving = documents["grid"]["halving"]["labels"]
    assert f"half the labels: {100 * halving['mean']:+.1f}".replace("-", "\N{MINUS SIGN}") in page.text


def test_every_run_has_its_command_and_every_stage_its_row(page, made, sslcurr):
    for record in Store(made[0]).all_runs().values():
        assert " ".join(shlex.join(record.command).split()) in page.text
    stages = sslcurr.json("runs", "--stages")["stages"]
    assert [value for value, _ in page.column("table-stages", "stage")] == [s["key"] for s in reversed(stages)]
    assert {text for _, text in page.column("table-stages", "made by")} <= set(Store(made[0]).all_runs())
    document = sslcurr.json("report")
    assert sum(entry["hours"] for entry in document["totals"]["devices"]) == pytest.approx(document["totals"]["hours"])
    assert document["totals"]["stages"] == len(stages)
    assert document["page"] is None


def test_what_names_say_is_never_markup(html, page):
    assert HOSTILE not in html
    assert HOSTILE in page.text
    assert page.tags.count("script") == 1


def test_the_page_needs_nothing_else(html, page):
    assert len(html.encode()) < 5e6
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert not re.search(r"""url\(\s*["']?(?!#)|@import|xmlns""", html)
    assert "default-src 'none'" in html


def test_ids_are_unique_and_what_is_pointed_at_is_there(html, page):
    assert len(page.ids) == len(set(page.ids))
    targets = [link[1:] for link in page.links if link.startswith("#")] + re.findall(r"url\(#([^)]+)\)", html)
    assert len(targets) > 20
    assert set(targets) <= set(page.ids)


def test_sheets_are_shrunk_into_the_page_and_a_missing_one_is_said(html, page):
    (source,) = re.findall(r'<img src="data:image/(?:webp|jpeg);base64,[^"]+" alt="([^"]*)" width="1600"', html)
    assert source == "Attention of rotation -&gt; classification on images of each class"
    assert "the sheet of classification is gone (/gone.png)" in page.text


def test_a_store_too_rich_for_a_page_leaves_figures_out_and_says_so(made, html):
    store = Store(made[0])
    document = gather.gather(store)
    bare = len(reports.page(document, store, most_bytes=0).html.encode())
    limit = bare + (len(html.encode()) - bare) // 3
    found = reports.page(document, store, most_bytes=limit)
    assert len(found.html.encode()) <= limit
    assert found.num_figures == found.html.count("<figure>") > 0
    assert found.num_figures + len(found.left_out) == html.count("<figure>")
    assert "left out, so that this page stays small" in found.html
    assert "sslcurr runs show KEY --plot FOLDER" in found.html
    assert "left out, so that" not in html


def test_black_becomes_the_colour_of_the_text_but_not_on_a_picture(tmp_path):
    chart = matrix_chart(
        "m",
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        ["a", "b"],
        ["c", "d"],
        title="<b>&",
        across="x",
        down="y",
        what="CKA",
    )
    chart.save(tmp_path)
    text = (tmp_path / "m.svg").read_text()
    made = svg.inline_svg(text, "f7-", 'a "title"')
    assert "#000000" in text
    assert "#000000" not in made
    assert made.startswith("<svg")
    assert 'aria-label="a &quot;title&quot;"' in made
    assert 'role="img"' in made
    for gone in ("<?xml", "metadata", "xmlns", "<style", "xlink"):
        assert gone not in made
    assert "currentColor" in made
    assert all(name.startswith("f7-") for name in re.findall(r'id="([^"]+)"', made))
    # Numbers on light cells stay black where the page is dark, numbers on dark cells white; names follow the page.
    ink = {text: style for style, text in re.findall(r'<text style="([^"]*)"[^>]*>([^<]*)</text>', made)}
    assert "fill: #111111" in ink["0.00"]
    assert "fill: #ffffff" in ink["1.00"]
    assert "fill" not in ink["a"]
    assert "&lt;b&gt;&amp;" in made


def test_what_has_no_place_in_a_page_is_cut_from_a_figure() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 72 36">'
        '<script>alert(1)</script><g id="patch_1"><path d="M0 0" style="fill: #ffffff"/></g>'
        '<path id="a" onclick="alert(1)" style="stroke: #000000" clip-path="url(#c)"/><use xlink:href="#a"/>'
        '<image xlink:href="https://example.org/x.png"/></svg>'
    )
    made = svg.inline_svg(text.replace("alert(1)</s", "a\x01</s"), "p-", "t")
    assert "alert" not in made
    assert "example.org" not in made
    assert 'style="fill: none"' in made
    assert 'style="stroke: currentColor" clip-path="url(#p-c)"' in made
    assert 'href="#p-a"' in made
    assert 'width="96"' in made


# ---- stores that are not as they should be


def test_a_store_from_before_results_were_kept(copied, tmp_path):
    shutil.rmtree(copied / "results")
    out = tmp_path / "old.html"
    assert Command(copied)("report", "--out", str(out)).exit_code == 0
    text = Reader(out.read_text()).text
    assert text.count("What this command found is not kept: run its command again to see its results.") == 10
    result = Command(copied)("report", "--table", "rank")
    assert result.exit_code == 1
    assert "has a table 'rank'" in result.stderr
    assert "hint: run sslcurr rank; a run from before results were kept has one when" in result.stderr


def test_unfinished_runs_and_removed_stages(copied, tmp_path, names):
    store = Store(copied)
    records = store.all_runs()
    store.note_run(replace(records[names["rank"]], finished=False))
    gone = records[names["train"]].stages[0]
    shutil.rmtree(copied / "stages" / gone)
    for pack in (copied / "packs").iterdir():
        shutil.rmtree(pack) if pack.is_dir() else pack.unlink()
    out = tmp_path / "page.html"
    assert Command(copied)("report", "--out", str(out)).exit_code == 0
    read = Reader(out.read_text())
    assert "This run has not come to its end" in read.text
    assert "1 stage of this run is not in the store any more" in read.text
    assert gone not in [value for value, _ in read.column("table-stages", "stage")]
    states = dict(
        zip(
            (text for _, text in read.column("table-runs", "run")),
            (text for _, text in read.column("table-runs", "state")),
            strict=True,
        )
    )
    assert states[names["train"]] == "finished, 1 stage removed"
    assert states[names["rank"]].startswith("unfinished, ")


def test_stages_without_runs_still_have_a_page(copied, tmp_path):
    for name in ("runs", "results"):
        shutil.rmtree(copied / name)
    out = tmp_path / "page.html"
    result = Command(copied)("report", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    read = Reader(out.read_text())
    assert "table-runs" not in read.tables
    assert len(read.tables["table-stages"]) > 5
    assert {text for _, text in read.column("table-stages", "made by")} == {"-"}
    assert "sslcurr runs show KEY --plot FOLDER" in read.text


def test_failed_chains_are_named(copied, names, tmp_path):
    path = copied / "results" / f"{names['rank']}.json"
    found = json.loads(path.read_text())
    found["document"]["failed"] = [{"ordering": ["rotation"], "seed": 1, "reason": "the loss is <nan>"}]
    row = found["document"]["tasks"][0]
    row |= {"mean": None, "std": None, "interval": None, "validation": None, "runs": []}
    row["gain"] = {"mean": None, "interval": None}
    write_unsealed(path, found)
    result = Command(copied)("report", "--table", "rank", "--run", names["rank"])
    assert result.exit_code == 0, result.stderr
    assert r"failed: rotation, seed 1: the loss is \<nan\>" in result.stdout
    assert "| failed | - |" in result.stdout
    assert "| seeds of 2 |" in result.stdout


def test_one_run_alone(sslcurr, names, tmp_path, unpictured):
    document = sslcurr.json("report", "--run", names["train"], "--out", str(tmp_path / "one.html"))
    assert [run["run"] for run in document["runs"]] == [names["train"]]
    assert {stage["key"] for stage in document["stages"]} == set(document["runs"][0]["stages"])
    assert (tmp_path / "one.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--out", "nowhere/report.html"), "error: there is no folder nowhere", "hint: make it first"),
        (("--run", "nothing"), "error: there is no run 'nothing'", "hint: "),
        (("--format", "csv"), "error: --format is for --table", "hint: say which table"),
        (("--table", "rank", "--json"), "error: --table prints a table on stdout", "hint: leave out --json"),
        (("--table", "rank", "--run", "a", "--run", "b"), "error: --table rank is of one run", "hint: give one --run"),
        (("--runs", "no-store"), "error: there is no store at no-store", "hint: give --runs"),
    ],
)
def test_mistakes_are_one_line(sslcurr, arguments, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sslcurr("report", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert hint in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_and_the_wrong_table(sslcurr, names, tmp_path):
    (tmp_path / "empty").mkdir()
    result = sslcurr("report", "--runs", str(tmp_path / "empty"))
    assert result.exit_code == 1
    assert f"error: the store {tmp_path / 'empty'} is empty" in result.stderr
    result = sslcurr("report", "--table", "rank", "--run", names["grid"])
    assert f"error: the run {names['grid']} has no table 'rank', its result is of the kind grid" in result.stderr


def test_help_imports_nothing_heavy():
    code = "import sys, sslcurr.cli.app; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'jinja2', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_curves_have_few_points_and_leave_out_what_is_no_number(tmp_path):
    path = tmp_path / "metrics.csv"
    lines = ["step,epoch,lr,loss,seconds", *(f"{i},0,0.1,{i % 2 + i},1" for i in range(1000)), "1000,0,0.1,nan,1", "10"]
    path.write_text("\n".join(lines))
    found = gather.curve(path)
    assert len(found) == gather.MOST_POINTS
    steps, losses = zip(*found, strict=True)
    assert list(steps) == sorted(steps)
    assert np.mean(losses) == pytest.approx(np.mean([i % 2 + i for i in range(1000)]), rel=0.01)
    assert gather.curve(tmp_path / "none.csv") == []
    assert svg.sparkline(found[:1]) == ""
    assert "NaN" not in svg.sparkline([[3, 1.0], [4, 1.0]])


# ---- tables for papers


def csv_of(sslcurr: Command, name: str) -> pd.DataFrame:
    result = sslcurr("report", "--table", name, "--format", "csv")
    assert result.exit_code == 0, result.stderr
    return pd.read_csv(io.StringIO(result.stdout), dtype=str, keep_default_na=False)


def values(frame: pd.DataFrame, name: str) -> list:
    """The values of a column as they were written: numbers to their last digit."""
    known = {"": None, "True": True, "False": False}
    return [known[text] if text in known else number(text) for text in frame[name]]


def number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def ends(rows, place: int, key: str = "interval") -> list:
    return [None if row[key] is None else row[key][place] for row in rows]


def test_csv_of_rankings_is_the_document(sslcurr, made):
    document = made[1]["rank"]
    frame = csv_of(sslcurr, "rank")
    rows = [*document["baselines"].values(), *document["tasks"]]
    assert frame["task"].tolist() == [*document["baselines"], *document["curriculum"]]
    for name in ("mean", "std", "validation"):
        assert values(frame, name) == [row[name] for row in rows]
    assert (values(frame, "low"), values(frame, "high")) == (ends(rows, 0), ends(rows, 1))
    assert values(frame, "gain_over_scratch")[1:] == [row["gain"]["mean"] for row in document["tasks"]]
    for i, seed in enumerate(document["seeds"]):
        assert values(frame, f"seed_{seed}") == [row["runs"][i]["balanced_accuracy"] for row in rows]
    frame, rows = csv_of(sslcurr, "orderings"), document["orderings"]
    assert frame["ordering"].tolist() == [" -> ".join(row["ordering"]) for row in rows]
    for name in ("mean", "std", "validation", "kind", "full", "uncertain", "best"):
        assert values(frame, name) == [row[name] for row in rows]


def test_csv_of_the_others_is_the_document(sslcurr, made):
    documents = made[1]
    frame = csv_of(sslcurr, "search")
    candidates = [candidate for rung in documents["search"]["rungs"] for candidate in rung["candidates"]]
    finalists = documents["search"]["finalists"]
    scored = [score for score in values(frame, "score") if score is not None]
    assert scored == [row["score"] for row in [*candidates, *finalists]]
    assert values(frame, "mean")[-len(finalists) :] == [row["mean"] for row in finalists]

    frame, cells = csv_of(sslcurr, "grid"), documents["grid"]["cells"]
    for name in ("label_fraction", "ssl_fraction", "mean", "std", "validation"):
        assert values(frame, name) == [cell[name] for cell in cells]
    assert (values(frame, "low"), values(frame, "high")) == (ends(cells, 0), ends(cells, 1))

    frame, (pair,) = csv_of(sslcurr, "cka"), documents["cka"]["pairs"]
    assert values(frame, "cka") == [row["cka"] for row in pair["layers"]]
    assert values(frame, "low") == ends(pair["layers"], 0)

    frame, (model,) = csv_of(sslcurr, "fid"), documents["fid"]["models"]
    entries = [model["halves"], *model["datasets"]]
    for name in ("fid", "kid"):
        assert values(frame, name) == [entry[name]["mean"] for entry in entries]
        assert values(frame, f"{name}_sd") == [entry[name]["sd"] for entry in entries]

    frame, (model,) = csv_of(sslcurr, "probe"), documents["probe"]["models"]
    rows = list(model["layers"].values())
    assert frame["layer"].tolist() == list(model["layers"])
    for name in ("knn", "linear"):
        assert values(frame, name) == [row[name]["balanced_accuracy"] for row in rows]
        assert values(frame, f"{name}_high") == [row[name]["interval"][1] for row in rows]
    assert values(frame, "linear_C") == [row["linear"]["C"] for row in rows]
    for name in ("rankme", "logme", "h_score"):
        assert values(frame, name) == [row[name] for row in rows]

    frame, chains = csv_of(sslcurr, "attend"), documents["attend"]["chains"]
    assert values(frame, "attention") == [chain["attention"]["mean"] for chain in chains]
    assert values(frame, "attention_std") == [0.0123, None]
    assert values(frame, "pointing_high") == [0.625, 0.625]

    frame = csv_of(sslcurr, "train")
    pair = [documents["train"]["downstream"], documents["train"]["baseline"]]
    for name in ("balanced_accuracy", "accuracy", "auroc", "num_images"):
        assert values(frame, name) == [row[name] for row in pair]

    frame = csv_of(sslcurr, "stages")
    stages = list(reversed(sslcurr.json("runs", "--stages")["stages"]))
    assert frame["key"].tolist() == [stage["key"] for stage in stages]
    assert values(frame, "hours") == [stage["seconds"] / 3600 for stage in stages]
    assert values(frame, "loss") == [stage["metrics"]["loss"] for stage in stages]


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).strip().removeprefix("**").removesuffix("**")


def from_latex(text: str) -> str:
    text = re.sub(r"\\textbf\{(.*)\}$", r"\1", text.strip())
    names = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
    for name, character in {**names, "textbar": "|"}.items():
        text = text.replace(f"\\{name}{{}}", {"\\": "\0"}.get(character, character))
    text = text.replace(r"$\pm$", "±").replace(r"$\rightarrow$", "→").replace("$-$", "-")
    return re.sub(r"\\([&%$#_{}])", r"\1", text).replace("\0", "\\")


@pytest.mark.parametrize("name", sorted(KINDS))
def test_markdown_and_latex_have_the_cells_of_the_table(sslcurr, made, name):
    document = gather.gather(Store(made[0]))
    table, command = printed_table(document, name)
    cells = [[" ".join(cell.split()).replace(" -> ", " → ") for cell in row] for row in table.cells()]
    text = sslcurr("report", "--table", name).stdout
    lines = [line for line in text.splitlines() if line.startswith("|")]
    parsed = [[unescaped(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert parsed[0] == [column.title for column in table.columns]
    assert parsed[2:] == cells
    assert " ".join(shlex.join(command).split()) in text
    text = sslcurr("report", "--table", name, "--format", "latex").stdout
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line.strip().removesuffix(r"\\") for line in body.splitlines() if line.strip().endswith(r"\\")]
    parsed = [[from_latex(cell) for cell in re.split(r"(?<!\\)&", line)] for line in lines]
    assert parsed == cells
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    plain = re.sub(r"\\.", "", "\n".join(line for line in text.splitlines() if not line.startswith("%")))
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"[%#]", plain)


def test_names_that_mean_something_to_a_format_are_escaped():
    rows = [{"name": LATEX_HOSTILE, "value": -0.5}, {"name": f"[{HOSTILE}\n*", "value": None}]
    shown = Column("x_1 (%)", ("value",), lambda value: "-" if value is None else f"{value:.1f}")
    table = Table("test", "A & B", (Column("name", ("name",)), shown), rows)
    text = render(table, "latex", ["sslcurr", "a\nb"])
    assert (
        r"a\_b\%\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textbar{}\textgreater{}"
        in text
    )
    assert r"& $-$0.5 \\" in text
    assert r"{[\textless{}script\textgreater{}alert(1)" in text  # [ after \\ would be a length
    assert r"x\_1 (\%)" in text
    assert "% made by: sslcurr 'a b'" in text
    text = render(table, "md")
    assert r"\[\<script\>alert(1)\</script\> \*" in text
    assert r"\<\|\>" in text
    frame = pd.read_csv(io.StringIO(render(table, "csv")))
    assert frame["name"].tolist() == [row["name"] for row in rows]


def test_attention_stands_beside_accuracy_where_masks_are_known(made):
    looked = {"mean": 0.31, "std": 0.02, "interval": [0.25, 0.375]}
    document = json.loads(json.dumps(made[1]["rank"]))
    document["attention"] = {"masks": "m", "method": "gradcam", "target": "label", "layer": "x", "coverage": 0.2}
    document["attention"]["num_images"] = 12
    for row in (*document["tasks"], *document["orderings"]):
        row["attention"] = looked
    rank, orderings = tables("rank", document)
    assert [cell[-2:] for cell in rank.cells()][1:] == [["31.0 ± 2.0", "25.0 to 37.5"]] * 2
    assert rank.cells()[0][-2:] == ["-", "-"]  # the baseline was not looked at
    assert orderings.cells()[0][-2:] == ["31.0 ± 2.0", "25.0 to 37.5"]
    assert any("12 images; a map without preference has 20.0 %" in note for note in rank.notes)
    train = json.loads(json.dumps(made[1]["train"]))
    train["downstream"]["attention"] = {**looked, "coverage": 0.2, "pointing": 0.5, "num_images": 12}
    del train["downstream"]["attention"]["std"]
    table = tables("train", train)[0]
    assert table.cells()[0][-3:] == ["31.0", "25.0 to 37.5", "20.0"]
    assert table.rows[0]["attention"] == 0.31


def test_words_of_the_command_line_are_those_of_the_tables():
    assert [name.value for name in TableName] == list(KINDS)
    assert tuple(form.value for form in TableFormat) == TABLE_FORMATS


def test_many_models_and_layers_and_pretraining_alone(made):
    pair = made[1]["cka"]["pairs"][0]
    many = {**made[1]["cka"], "pairs": [{**pair, "layers": pair["layers"] * 3}]}
    for number, layer in enumerate(many["pairs"][0]["layers"]):
        many["pairs"][0]["layers"][number] = {**layer, "layer": f"l{number}"}
    first = tables("cka", many)[0]
    assert [column.title for column in first.columns] == ["layer", f"{pair['a']} | {pair['b']}"]
    assert next(row[1] for row in first.cells()).startswith(f"{pair['layers'][0]['cka']:.3f}")
    long = tables("cka", {**many, "pairs": many["pairs"] * 5})[0]
    assert [column.title for column in long.columns] == ["a", "b", "layer", "CKA"]
    stages = {"stages": made[1]["train"]["stages"]}
    (only,) = tables("train", stages, "rotation")
    assert (only.name, only.rows[0]["loss"]) == ("train", stages["stages"][0]["metrics"]["loss"])
    assert tables("of another version", {}) == []


# ---- numbers of tables, by hand


def shown(table: Table, title: str) -> list[str]:
    place = [column.title for column in table.columns].index(title)
    return [row[place] for row in table.cells()]


def measured_chain(mean: float, seeds: tuple[int, ...] = (3, 5), **more) -> dict:
    runs = [
        {"seed": s, "balanced_accuracy": mean + s / 1000, "validation": None, "key": None, "predictions": "p.csv"}
        for s in seeds
    ]
    spread = 0.02 if len(seeds) > 1 else None
    return {"mean": mean, "std": spread, "interval": [mean - 0.1, mean + 0.2], "validation": 0.41, "runs": runs, **more}


def test_tables_of_attention_have_each_number_in_its_own_column():
    document = attend_document("/gone.png")
    document["chains"][0]["num_undefined"] = 3
    chains, first, _ = tables("attend", document)
    assert shown(chains, "seeds") == ["2", "1"]
    assert shown(chains, "attention in masks (%)") == ["43.2 ± 1.2", "30.0"]
    assert shown(chains, "95 % interval of attention") == ["20.0 to 60.0"] * 2
    assert shown(chains, "without preference (%)") == ["27.0"] * 2
    assert shown(chains, "pointing (%)") == ["40.0"] * 2
    assert shown(chains, "95 % interval of pointing") == ["25.0 to 62.5"] * 2
    assert shown(chains, "undefined") == ["3", "1"]
    assert chains.best == {0}
    alone = {**document, "chains": document["chains"][:1]}
    assert tables("attend", alone)[0].best == frozenset()  # of one, none is the best
    assert shown(first, "images") == ["4", "3"]
    assert shown(first, "attention in masks (%)") == ["43.2", "21.0"]
    assert shown(first, "95 % interval") == ["10.0 to 70.0", "-"]
    assert shown(first, "without preference (%)") == ["25.0", "30.0"]
    assert shown(first, "pointing (%)") == ["50.0", "33.3"]


def test_a_ranking_by_hand():
    def gain(mean: float | None) -> dict:
        return {"mean": mean, "interval": None if mean is None else [mean - 0.02, mean + 0.03]}

    tasks = [
        {"task": "a", **measured_chain(0.5, (5,)), "gain": gain(-0.04), "gain_over_imagenet": gain(-0.4)},
        {"task": "b", **measured_chain(0.7), "gain": gain(0.16), "gain_over_imagenet": gain(None)},
        {"task": "c", **measured_chain(0.7), "gain": gain(0.16), "gain_over_imagenet": gain(-0.2)},
    ]
    kinds = {"kind": "mixed", "full": False, "uncertain": False}
    lengths = [(["a", "b"], 0.6, True), (["b", "a"], 0.9, False), (["a", "b", "c"], 0.8, True)]
    document = {
        "dataset": "d",
        "split": "test",
        "num_images": 1234,
        "seeds": [3, 5],
        "measure": "finetune",
        "tasks": tasks,
        "baselines": {"scratch": measured_chain(0.95), "ImageNet": measured_chain(0.9)},
        "curriculum": [],
        "ties": [],
        "failed": [],
        "command": None,
        "orderings": [{"ordering": o, **measured_chain(m), **kinds, "best": best} for o, m, best in lengths],
        "best": {
            "num_chains": 6,
            "on_test": {"ordering": ["b", "a"], **measured_chain(0.9)},
            "on_validation": {"ordering": ["a", "b"], **measured_chain(0.6), "validation": 0.99},
        },
        "hypothesis": {
            "permutation": [
                {"strata": "set", "num_strata": 2, "effect": -0.013, "interval": [-0.031, 0.022]}
                | {"p_value": 0.0456, "num_arrangements": 5040, "exact": True}
            ],
            "kendall": [{"tau": 0.0, "interval": [-0.5, 0.25], "by": "mean", "length": 2, "num_orderings": 6}],
        },
    }
    rank, orderings = tables("rank", document)
    assert rank.title == "Single tasks: d, 1,234 test images, 2 seeds, finetune"
    # Baselines are never the best of the tasks; of equal ones each is.
    assert (rank.best, rank.breaks) == ({3, 4}, {2})
    assert shown(rank, "gain over scratch (points)")[2:] == ["-4.0 (-6.0 to -1.0)", *["+16.0 (+14.0 to +19.0)"] * 2]
    assert shown(rank, "gain over ImageNet (points)")[2:] == ["-40.0 (-42.0 to -37.0)", "-", "-20.0 (-22.0 to -17.0)"]
    assert shown(rank, "balanced accuracy (%)")[2:] == ["50.0", "70.0 ± 2.0", "70.0 ± 2.0"]
    assert shown(rank, "seeds of 2") == ["2", "2", "1", "2", "2"]
    assert [row["seed_3"] for row in rank.raw()][2:] == pytest.approx([None, 0.703, 0.703])
    assert [row["seed_5"] for row in rank.raw()][2:] == pytest.approx([0.505, 0.705, 0.705])
    assert "seeds of 2" not in [column.title for column in orderings.columns]
    # The document says which are best of their length; none is marked, since scratch has 95 %.
    assert (orderings.best, orderings.breaks) == (frozenset(), {2})
    document["baselines"]["scratch"] = measured_chain(0.4)
    assert tables("rank", document)[1].best == {2}  # 70 to 100 % lie above 30 to 60 %, 50 to 80 % do not
    for row, gain_of in zip(document["orderings"], (gain(0.1), gain(0.2), gain(-0.1)), strict=True):
        row["gain"] = gain_of
    again = tables("rank", document)[1]
    assert again.best == {0}
    assert shown(again, "gain over scratch (points)")[0] == "+10.0 (+8.0 to +13.0)"
    text = "\n".join(orderings.notes)
    assert "best on the test images: b -> a, 90.0 ± 2.0 % (95 % interval: 80.0 to 110.0): the best of 6" in text
    assert "chosen on the validation images: a -> b, 60.0 ± 2.0 % (95 % interval: 50.0 to 80.0) on the test" in text
    assert (
        "same tasks: -1.3 (-3.1 to +2.2) points, p = 0.046 (one-sided permutation test, 5,040 arrangements, "
        "exact; each seed is judged by the ranking of the others)" in text
    )
    assert "the mean single-task accuracy, 6 orderings of 2: +0.00 (-0.50 to +0.25)" in text


def test_a_chain_by_hand():
    def report(recalls: list[float], matrix: list[list[int]], accuracy: float) -> dict:
        about = {"split": "test", "num_images": 9, "interval": [0.1, 0.9], "accuracy": accuracy / 2, "auroc": 0.875}
        names = ["x", "y"]
        recall = dict(zip(names, recalls, strict=True))
        return about | {
            "balanced_accuracy": accuracy,
            "classes": names,
            "per_class_recall": recall,
            "confusion_matrix": matrix,
        }

    document = {
        "stages": [],
        "downstream": report([0.8, 0.25], [[4, 1], [3, 1]], 0.4),
        "baseline": report([0.6, 0.5], [[3, 2], [2, 2]], 0.5),
    }
    train, recalls, first, second = tables("train", document, "a")
    assert (shown(train, "balanced accuracy (%)"), train.best) == (["40.0", "50.0"], frozenset())
    assert (shown(train, "accuracy (%)"), shown(train, "AUROC")) == (["20.0", "25.0"], ["0.875"] * 2)
    assert shown(recalls, "recall of a (%)") == ["80.0", "25.0"]
    assert shown(recalls, "recall of scratch (%)") == ["60.0", "50.0"]
    assert first.cells() == [["x", "4", "1"], ["y", "3", "1"]]
    assert second.cells() == [["x", "3", "2"], ["y", "2", "2"]]


def test_a_grid_a_similarity_and_distances_by_hand():
    def cell(labels: float, images: float | None, found: dict) -> dict:
        return {"label_fraction": labels, "ssl_fraction": images, **found}

    failed = {"mean": None, "std": None, "interval": None, "validation": None, "runs": []}
    halving = {"labels": {"mean": -0.031, "interval": [-0.05, 0.01]}, "images": None}
    document = {"dataset": "d", "split": "test", "tasks": ["a"], "seeds": [3, 5], "baseline": "scratch"}
    document |= {"ssl_fractions": [1.0, 0.5], "label_fractions": [1.0, 0.5], "halving": halving, "failed": []}
    document["schema"] = 2
    document["cells"] = [
        cell(1.0, None, measured_chain(0.4)),
        cell(1.0, 0.5, failed),
        cell(0.5, 1.0, measured_chain(0.3, (5,))),
        cell(0.5, 0.5, measured_chain(0.2)),
    ]
    (grid,) = tables("grid", document)
    assert grid.cells() == [
        ["1", "40.0 ± 2.0 (30.0 to 60.0)", "", "failed"],
        ["0.5", "", "30.0 (20.0 to 50.0)", "20.0 ± 2.0 (10.0 to 40.0)"],
    ]
    assert [row["num_seeds"] for row in grid.raw()] == [2, 0, 1, 2]
    assert grid.notes == ("half the labels: -3.1 (-5.0 to +1.0) points",)

    pair = {"a": "m", "b": "n", "layers": [], "matrix": [[0.1, 0.2, 0.3], [0.4, None, 0.6]]}
    about = {"dataset": "d", "split": "all", "num_images": 9, "num_batches": 1, "estimator": "e", "kernel": "k"}
    about["pool"] = "none"
    models = [{"title": "m", "layers": ["p", "q"]}, {"title": "n", "layers": ["u", "v", "w"]}]
    models = [{**model, "backbone": "b", "weights": "w"} for model in models]
    (matrix,) = tables("cka", {**about, "models": models, "pairs": [pair]})
    assert matrix.cells() == [["p", "0.100", "0.200", "0.300"], ["q", "0.400", "-", "0.600"]]
    assert [(row["layer_a"], row["layer_b"], row["cka"]) for row in matrix.raw()][2:4] == [
        ("p", "w", 0.3),
        ("q", "u", 0.4),
    ]

    def distance(fid: float) -> dict:
        distances = {"fid": {"mean": fid, "sd": fid / 10}, "kid": {"mean": fid / 1000, "sd": fid / 5000}}
        return {**{name: {**each, "values": []} for name, each in distances.items()}, "normalised": None}

    about = {"layer": "l", "image_size": 16, "num_features": 8}
    models = [
        {"model": name, **about, "halves": distance(fid), "datasets": [{"dataset": "s", **distance(2 * fid)}]}
        for name, fid in (("m", 1.0), ("n", 3.0))
    ]
    about = {"reference": "r", "split": "test", "num_images": 9, "draws": 2, "correlations": []}
    (fid,) = tables("fid", {**about, "models": models, "accuracies": {"": {"n": 0.625}}})
    assert shown(fid, "data set") == ["halves of r", "s"] * 2
    assert shown(fid, "FID") == ["1.00 ± 0.10", "2.00 ± 0.20", "3.00 ± 0.30", "6.00 ± 0.60"]
    assert shown(fid, "1000 KID") == ["1.00 ± 0.20", "2.00 ± 0.40", "3.00 ± 0.60", "6.0 ± 1.2"]
    assert shown(fid, "accuracy (%)") == ["-", "-", "62.5", "62.5"]


def test_probes_and_searches_by_hand():
    def layer(knn: float, linear: float, rank: float) -> dict:
        found = {
            name: {"validation": v / 2, "balanced_accuracy": v, "interval": [v - 0.1, v + 0.1]}
            for name, v in (("knn", knn), ("linear", linear))
        }
        found["knn"]["neighbours"], found["linear"]["C"] = 5, 0.1
        return found | {"num_features": 8, "rankme": rank, "logme": None, "h_score": None}

    layers = {"x": layer(0.4, 0.6, 3.0), "y": layer(0.5, 0.3, 3.0)}
    models = [{"model": "m", "backbone": "b", "weights": "w", "split": "test", "layers": layers}]
    (probe,) = tables("probe", {"dataset": "d", "models": models, "label_fraction": 0.125})
    assert (shown(probe, "kNN val (%)"), shown(probe, "kNN test (%)")) == (["20.0", "25.0"], ["40.0", "50.0"])
    titles = [column.title for column in probe.columns]
    marked = {(titles[column], row) for row, column in probe.best_cells}
    expected = {("kNN val (%)", 1), ("kNN test (%)", 1), ("linear val (%)", 0), ("linear test (%)", 0)}
    assert marked == expected | {("RankMe", 0), ("RankMe", 1)}
    assert "12.5 % of the training images" in probe.title

    rung = {"length": 1, "seeds": 1, "short": True, "not_afforded": [["c"]]}
    rung["candidates"] = [
        {"ordering": ["a"], "epochs": 2, "score": 0.4, "kept": False},
        {"ordering": ["b"], "epochs": 2, "score": 0.5, "kept": True},
    ]
    finalists = [{"ordering": [name], "score": 0.5, **measured_chain(mean)} for name, mean in (("a", 0.7), ("b", 0.6))]
    missed = {"rank": 3, "num_orderings": 40, "best": ["c", "a"], "best_mean": 0.75, "gap": 0.15, "median": 0.55}
    missed |= {"best_std": None, "mean": 0.6}
    document = {"dataset": "d", "split": "test", "seeds": [3, 5], "measure": "finetune", "rungs": [rung]}
    document |= {"finalists": finalists, "ordering": ["b"], "missed": {**missed, "gap_interval": [0.1, 0.2]}}
    document["cost"] = {"image_passes": 1500.0, "share": 0.1234, "exhaustive_image_passes": 12155.0, "budget": 0.25}
    document |= {"failed": [], "command": None}
    (search,) = tables("search", document)
    assert [row["state"] for row in search.rows] == ["", "kept", "left out: budget", "fine-tuned", "found"]
    assert search.best == {4}
    assert shown(search, "score (%)") == ["40.0", "50.0", "-", "50.0", "50.0"]
    assert shown(search, "balanced accuracy (%)")[3:] == ["70.0 ± 2.0", "60.0 ± 2.0"]
    text = "\n".join(search.notes)
    assert "1,500 image passes, 12.3% of the 12,155 of all orderings" in text
    assert "number 3 of 40 orderings; the best, c -> a, has 75.0 %: +15.0 (+10.0 to +20.0) points; the median" in text
    assert "the median ordering 55.0 % (the best was chosen by the images it is quoted on, so it is too good)" in text
    assert "One seed" not in text
    (single,) = tables("search", {**document, "seeds": [3]})
    assert "One seed: intervals are over test images and hold for these models only." in single.notes


# ---- totals of a store, by hand


@pytest.fixture
def sums(tmp_path: Path) -> Store:
    """Three stages that nobody trained, on two devices, and a run that needs two of them and one that is gone."""
    store = Store(tmp_path / "store")
    for number, (device, seconds, found) in enumerate([("cpu", 1800, None), ("gpu", 7200, 0.25), ("cpu", 5400, None)]):
        folder = store.stages / f"stage{number}"
        folder.mkdir(parents=True)
        training = {"epochs": 7, "batch_size": 16, "optimizer": "sgd", "lr": 0.5}
        spec = {"task": "rotation", "version": 1, "lineage": [], "parent": None, "seed": number, "training": training}
        spec |= {"backbone": {"name": "resnet18", "stem": "small", "channels": 1}, "config": {"image_size": 16}}
        spec["data"] = {"name": "d", "fingerprint": "f", "fraction": 0.5 if number == 1 else 1.0}
        record = {"key": folder.name, "weights_sha256": "w", "parent": None, "parent_weights_sha256": None}
        record |= {"num_images": 9, "steps": 3, "seconds": seconds, "images_per_second": 2.0, "device": device}
        record |= {"precision": "32", "versions": {"torch": str(number // 2)}, "metrics": {"loss": 1.5}}
        record |= {} if found is None else {"search": {"lr": found}}
        (folder / "stage.json").write_text(json.dumps(spec))
        (folder / "done.json").write_text(json.dumps(record))
        os.utime(folder / "done.json", (number, number))
    record = RunRecord(
        asked={"n": 1},
        title="t",
        dataset="d",
        created="2026-01-01T10:00:00",
        balanced_accuracy=0.625,
        command=["sslcurr"],
        finished=False,
        stages=["stage0", "stage1", "gone", "stage0"],
    )
    store.note_run(record)
    return store


def test_hours_are_those_of_the_stages_by_device_and_each_once(sums):
    document = gather.gather(sums)
    totals = document.totals
    assert [use.to_json() for use in totals.devices] == [
        {"device": device, "stages": n, "hours": 2.0} for device, n in (("cpu", 2), ("gpu", 1))
    ]
    assert (totals.hours, totals.stages, totals.runs, totals.finished) == (4.0, 3, 1, 0)
    assert [(entry.versions, entry.stages) for entry in totals.versions] == [
        ({"torch": "0"}, 2),
        ({"torch": "1"}, 1),
    ]
    (run,) = document.runs
    assert (run.hours, run.missing, run.devices) == (2.5, ["gone"], ["cpu", "gpu"])
    assert report_tables.state_of(run) == "unfinished, 2 of 3 stages there"
    ways = report_tables.settings_table(run.settings)
    assert shown(ways, "stages") == ["1", "1"]
    assert shown(ways, "share of images (%)") == ["100.0", "50.0"]
    assert shown(ways, "learning rate") == ["0.5", "0.25 (found)"]
    assert shown(ways, "backbone") == ["resnet18, stem small, grey"] * 2
    runs = report_tables.run_table(document.runs)
    assert (shown(runs, "balanced accuracy (%)"), shown(runs, "hours of its stages")) == (["62.5"], ["2.5"])
    one = gather.gather(sums, [run.run])
    assert sorted(stage.key for stage in one.stages) == ["stage0", "stage1"]
    assert (one.totals.hours, one.totals.stages) == (2.5, 2)


def test_times_are_told_in_the_unit_that_suits_them():
    told = [(1234.56, "1,234.6 hours"), (1.0, "1.0 hours"), (0.5, "30 minutes"), (2 / 60, "2 minutes")]
    for value, text in [*told, (119 / 3600, "119 seconds"), (0.0, "0 seconds")]:
        assert reports.duration(value) == text
    found = [report_tables.hours(value) for value in (None, 1234.56, 10.0, 9.87, 0.0123)]
    assert found == ["-", "1,234.6", "10.0", "9.9", "0.012"]


def test_small_curves_fall_where_the_loss_falls():
    from sslcurr.analysis.report.svg import sparkline

    drawn = sparkline([[10, 4.0], [20, 2.0], [40, 3.0]])
    points = re.search(r'points="([^"]*)"', drawn)[1]  # of 24 down: the highest loss at the top
    assert points == "1.0,1.0 40.3,23.0 119.0,12.0"
    assert "from 4 to 3, lowest 2" in drawn
    assert sparkline([[1, 2.0]]) == ""


def test_the_newest_run_comes_first_and_gives_the_table(copied):
    store = Store(copied)
    (name, record), *_ = [(n, r) for n, r in store.all_runs().items() if store.result(n)[0] == "rank"]
    other = replace(record, asked={"test": "later"}, title="the later one", created="2100-01-01T00:00:00+00:00")
    document = store.result(name)[1]
    store.note_run(other)
    store.keep_result(other, "rank", {**document, "dataset": "the later data"})
    runs = Command(copied).json("report")["runs"]
    assert runs[0]["title"] == "the later one"
    assert "the later data" in Command(copied)("report", "--table", "rank").stdout
    store.note_run(replace(other, created="1999-01-01T00:00:00+00:00"))
    assert "the later data" not in Command(copied)("report", "--table", "rank").stdout
    assert Command(copied).json("report")["runs"][-1]["title"] == "the later one"
