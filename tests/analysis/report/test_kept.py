"""A second report is put together from what the first one kept, and never shows what is not so any more."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from sslcurr import integrity
from sslcurr.analysis.report import gather, kept, page, pictures
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.style import Chart
from sslcurr.api.lab import Lab
from sslcurr.engine.store import Store, run_name
from sslcurr.spec.record import RunRecord
from tests import REPOSITORY
from tests.analysis.report.test_report import attend_document

DOCUMENTS = REPOSITORY / "tests" / "documents"
KEPT = ("*.json", "*.figures.json", "stages.json")


def noted(store: Store, kind: str, document: dict[str, Any]) -> str:
    """The name of a run that nobody carried out, with what it found."""
    record = RunRecord(
        asked={"test": kind}, title=f"of {kind}", dataset="clothes", created="2026-01-01T10:00:00+00:00", command=["x"]
    )
    store.keep_result(record, kind, document)
    return store.note_run(record)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with stages, charts, a sheet of attention maps and points of a probe, of which a report was made."""
    root = tmp_path_factory.mktemp("kept") / "runs"
    with zipfile.ZipFile(REPOSITORY / "tests" / "store-0.1.0.zip") as archive:
        archive.extractall(root)
    store = Store(root)
    sheet = root / "analyses" / "attention-1" / "sheet.png"
    sheet.parent.mkdir(parents=True)
    Image.new("RGB", (32, 8), (200, 10, 10)).save(sheet)
    noted(store, "attend", attend_document("/elsewhere/attention-1/sheet.png"))
    for kind in ("cka", "search"):
        noted(store, kind, json.loads((DOCUMENTS / f"{kind}.json").read_text()))
    Lab(root).report(out=root.parent / "page.html")
    return root


@pytest.fixture
def store(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of it in which nothing has changed for a report, at a time that stands still."""
    root = tmp_path / "runs"
    shutil.copytree(first, root)
    monkeypatch.setattr(gather, "time", SimpleNamespace(strftime=lambda form: "2026-02-03T04:05:06+0000"))
    made(Store(root))  # times of files are others in a copy
    return Store(root)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each part of a report is made."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Chart, "svg"), (pictures, "sheet"), (page, "card"), (page, "found_by"), (gather, "_stage")):
        count(owner, name)
    return counted


def made(store: Store, *names: str) -> str:
    """The page of a store.

    The names of its clipping paths are made equal: they are hashes of what matplotlib's layout gives, which differs in
    the last bit from drawing to drawing.
    """
    out = store.root.parent / "page.html"
    Lab(store.root).report(names, out=out)
    return equal_names(out.read_text())


def equal_names(html: str) -> str:
    """A page whose clipping paths have numbers for names."""
    numbers: dict[str, int] = {}
    return re.sub(r"\bf\d+-p[0-9a-f]{10}\b", lambda found: f"p{numbers.setdefault(found[0], len(numbers))}", html)


def made_anew(store: Store, *names: str) -> str:
    """The page of a store that keeps nothing."""
    shutil.rmtree(store.rendered)
    return made(store, *names)


def test_a_second_report_makes_nothing_and_its_page_is_the_same(store, work):
    anew = made_anew(store)
    num_runs, num_stages = len(store.all_runs()), len(store.all())
    assert work["card"] == work["found_by"] == num_runs
    assert work["_stage"] == num_stages
    found = [found for name in store.all_runs() if (found := store.result(name)) is not None]
    assert work["sheet"] == sum(len(document["chains"]) for kind, document in found if kind == "attend") > 1
    assert work["svg"] == anew.count("<figure>") - anew.count("<img") > 8
    work.clear()
    assert made(store) == anew
    assert not work


def test_a_new_run_is_all_that_is_made(store, work):
    document = json.loads((DOCUMENTS / "fid.json").read_text())
    name = noted(store, "fid", document)
    text = made(store)
    num_charts = work.pop("svg")
    assert work == {"card": 1, "found_by": 1}
    assert f'id="run-{name}"' in text
    assert made_anew(store) == text
    assert 0 < num_charts < work["svg"]


@pytest.mark.parametrize("pattern", KEPT)
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: content[::-1]])
def test_what_is_damaged_is_made_anew(store, work, pattern, damage):
    whole = made(store)
    damaged = sorted(store.rendered.glob(pattern))
    for path in damaged:
        path.write_bytes(damage(path.read_bytes()))
    assert damaged
    assert made(store) == whole
    assert sum(work.values()) > 0
    work.clear()
    assert made(store) == whole
    assert not work


def changed_document(store: Store) -> None:
    """A number of one of the documents is another."""
    record = next(record for record in store.all_runs().values() if record.title == "of attend")
    _, document = store.result(run_name(record.asked))
    document["chains"][0]["attention"]["mean"] = 0.99
    store.keep_result(record, "attend", document)


def changed_sheet(store: Store) -> None:
    Image.new("RGB", (32, 8), (10, 10, 200)).save(store.analyses / "attention-1" / "sheet.png")


def changed_log(store: Store) -> None:
    """The log of a stage whose curves are drawn, of a version that listed no hashes."""
    keys = {path.name.partition(".")[0] for path in store.rendered.glob("*.figures.json")}
    stage = next(stage for stage in store.all() if stage.key in keys)
    log = stage.folder / "metrics.csv"
    (stage.folder / "hashes.json").unlink(missing_ok=True)
    log.write_text(log.read_text().replace("0.", "9."))


def changed_record(store: Store) -> None:
    record = next(iter(store.all_runs().values()))
    store.note_run(replace(record, title="now it is called so"))


CHANGES: dict[str, Callable[[Store], None]] = {
    "document": changed_document,
    "title": changed_record,
    "sheet": changed_sheet,
    "sheet removed": lambda store: (store.analyses / "attention-1" / "sheet.png").unlink(),
    "log": changed_log,
    "stage removed": lambda store: shutil.rmtree(store.all()[0].folder),
    "result removed": lambda store: next(store.results.iterdir()).unlink(),
    "run forgotten": lambda store: store.forget({next(iter(store.all_runs()))}),
}


@pytest.mark.parametrize("name", ["document", "sheet removed", "stage removed"])
def test_what_has_changed_is_shown_as_it_is(store, name):
    is_shown_as_it_is(store, name)


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_whatever_has_changed_is_shown_as_it_is(store, name):
    is_shown_as_it_is(store, name)


def is_shown_as_it_is(store, name):
    before = made(store)
    CHANGES[name](store)
    after = made(store)
    assert after != before
    assert made_anew(store) == after


def test_a_sheet_that_comes_back_is_shown(store):
    sheet = store.analyses / "attention-1" / "sheet.png"
    before, content = made(store), sheet.read_bytes()
    sheet.unlink()
    assert "is gone (/elsewhere/attention-1/sheet.png)" in made(store)
    sheet.write_bytes(content)
    assert made(store) == before


def test_another_program_or_template_makes_all_anew(store, work, monkeypatch):
    made(store)
    assert not work
    monkeypatch.setattr(kept, "drawn_by", lambda: b"another")
    made(store)
    assert work["card"] == len(store.all_runs())
    assert work["_stage"] == len(store.all())


def test_the_digest_is_of_every_source_version_and_style(tmp_path, monkeypatch):
    digest = kept.drawn_by.__wrapped__
    read: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or b"")
    monkeypatch.chdir(tmp_path)
    before = digest()
    folder = Path(page.__file__).parent
    assert {folder / "page.py", folder / "report.html.j2", folder / "parts.html.j2"} <= set(read)
    assert {REPOSITORY / "sslcurr" / "analysis" / "results" / name for name in ("style.py", "table.py")} <= set(read)
    (tmp_path / "matplotlibrc").touch()
    assert digest() != before
    (tmp_path / "matplotlibrc").unlink()
    assert digest() == before
    monkeypatch.setattr(integrity.importlib.metadata, "version", lambda name: "0")
    assert digest() != before


def test_forgotten_runs_and_removed_stages_leave_nothing_behind(store):
    name = next(name for name, record in store.all_runs().items() if record.stages)
    stages = set(store.all_runs()[name].stages)
    assert (store.rendered / f"{name}.json").is_file()
    removed = store.remove([name])
    left = {path.name.partition(".")[0] for path in store.rendered.iterdir()}
    assert name not in left
    assert not left & {Path(path).name for path in removed}
    other = next(iter(store.all_runs()))
    (store.runs / f"{other}.json").unlink()  # by hand
    (store.rendered / "0123.host.tmp").touch()  # of a process that was killed
    made(store)
    left = {path.name.partition(".")[0] for path in store.rendered.iterdir()}
    assert left <= {*store.all_runs(), *(stage.key for stage in store.all()), "stages", "packs"}
    assert stages


def test_the_page_of_one_run_keeps_the_parts_of_the_others(store, work):
    names = [*store.all_runs()]
    one = made(store, names[-1])
    assert not {name for name in ("card", "found_by", "_stage") if work[name]}
    made(store)
    work.clear()
    made(store)
    assert not work
    assert made_anew(store, names[-1]) == one


@pytest.mark.long
@pytest.mark.parametrize(("owner", "name", "number"), [(page, "card", 5), (Chart, "svg", 12)], ids=["card", "chart"])
def test_a_killed_report_keeps_what_it_made_and_no_half_of_it(store, work, monkeypatch, owner, name, number):
    whole = made_anew(store)
    total = work[name]
    shutil.rmtree(store.rendered)
    out = store.root.parent / "page.html"
    out.unlink()
    real = getattr(owner, name)

    def killed(*arguments: Any) -> Any:
        if work[name] == number:
            raise KeyboardInterrupt
        return real(*arguments)

    work.clear()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            made(store)
    assert not out.exists()
    work.clear()
    assert made(store) == whole
    assert 0 < work[name] < total


@pytest.mark.long
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_store_that_cannot_be_written_has_its_page(store, work, monkeypatch, number):
    whole = made(store)

    def refused(*arguments: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    shutil.rmtree(store.rendered)
    monkeypatch.setattr(kept, "write_record", refused)
    assert made(store) == whole
    assert made(store) == whole
    assert work["card"] == 2 * len(store.all_runs())


def test_figures_come_back_when_there_is_room_again(store, work):
    document = gather.gather(store)
    whole = page.page(document, store)
    small = page.page(document, store, most_bytes=len(whole.html.encode()) * 2 // 3)
    assert 0 < small.num_figures < whole.num_figures
    assert page.page(document, store) == whole  # to the bit: nothing is drawn again
    assert not work


@pytest.mark.long
def test_no_chart_is_drawn_for_which_there_is_no_room(store, work):
    """The page is that of a report which knows the sizes of all."""
    whole = made_anew(store)
    document, drawn = gather.gather(store), work["svg"]
    frame = len(page.page(document, store, most_bytes=0).html)
    limits = [frame + part * (len(whole) - frame) // 4 for part in range(4)]
    known = [page.page(document, store, most_bytes=limit) for limit in limits]
    assert len({found.num_figures for found in known}) > 2
    counts = []
    for limit, found in zip(limits, known, strict=True):
        shutil.rmtree(store.rendered)
        work.clear()
        again = page.page(document, store, most_bytes=limit)
        assert (equal_names(again.html), again.left_out) == (equal_names(found.html), found.left_out)
        counts.append(work["svg"])
    assert counts[0] == 0
    assert max(counts) <= drawn


def paint_nothing(axes: Any) -> tuple[()]:
    return ()


def test_no_chart_is_smaller_than_is_taken_for_granted():
    charts = [Chart("empty", "", 3.0, 2.0, paint_nothing)]
    for kind in ("rank", "variants", "search", "grid", "fid", "probe"):
        charts += decode(kind, json.loads((DOCUMENTS / f"{kind}.json").read_text())).figures().values()
    sizes = [len("".join(pictures.Picture(chart.title, (1, 0), chart).pieces()).encode()) for chart in charts]
    assert len(sizes) > 8
    assert min(sizes) >= pictures.LEAST_CHART


def test_a_chart_as_text_is_what_it_writes(tmp_path):
    def paint(axes: Any) -> tuple[()]:
        axes.plot([0, 1], [2, 3])
        return ()

    chart = Chart("line", "a title", 3.0, 2.0, paint)
    chart.save(tmp_path, formats=("svg",))
    assert chart.svg() == (tmp_path / "line.svg").read_text()


def test_a_second_report_loads_nothing_that_computes_or_draws(store):
    code = (
        "import sys, sslcurr.cli\n"
        "try:\n    sslcurr.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "report", "--runs", str(store.root), "--out", str(store.root / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "jinja2" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "matplotlib", "PIL", "scipy"}


def test_a_pack_is_read_once_and_again_where_it_has_changed(tmp_path):
    store, read = Store(tmp_path), []

    def facts(folder: Path) -> kept.PackFacts:
        read.append(folder.name)
        return kept.PackFacts(fingerprint="f", channels=1, size=8, counts={"a": len(read)})

    path = store.packs / "p" / "pack.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    first = kept.pack_rows(store, ["p", "gone"], facts, whole=True)
    assert first.keys() == {"p"}
    assert kept.pack_rows(store, ["p"], facts, whole=True) == first
    assert read == ["p"]
    path.write_text("{ }")
    assert kept.pack_rows(store, ["p"], facts, whole=True)["p"].counts == {"a": 2}
