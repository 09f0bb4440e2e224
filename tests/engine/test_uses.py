"""Nothing is removed that a process uses or that was noted since it was listed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sslcurr.cli import runs as cli_runs
from sslcurr.engine import uses
from sslcurr.engine.store import Store
from tests.conftest import QUICK, Command

REPOSITORY = Path(__file__).parents[2]
USING = """
import sys
from pathlib import Path
from sslcurr.engine.store import Store
store = Store(Path(sys.argv[1]))
{use}
print("used", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def trained(folder, sslcurr):
    """A store with a stage, an analysis and a pack whose run is forgotten, and their names."""
    document = sslcurr.json("chain", "rotation", "--dataset", str(folder), *QUICK)
    for path in (sslcurr.runs / "runs").glob("*.json"):
        path.unlink()
    return sslcurr, document["stages"][0]["key"]


def other(store: Path, use: str) -> subprocess.Popen:
    """Another process that uses something of a store until its input ends."""
    code = USING.format(use=use)
    command = [sys.executable, "-c", code, str(store)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout.readline() == "used\n"
    return process


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_what_another_process_uses_stays_until_it_has_ended(trained, how):
    command, key = trained
    process = other(command.runs, f"store.find('{key}')")
    removed = command.json("runs", "remove", "--yes")["removed"]
    assert removed
    assert not any(key in path for path in removed)
    assert Store(command.runs).find(key) is not None
    if how == "killed":
        process.kill()
    process.communicate()
    removed = command.json("runs", "remove", "--yes")["removed"]
    assert any(key in path for path in removed)
    assert Store(command.runs).find(key) is None
    own = uses._notes[command.runs.resolve()].path.name
    assert {path.name for path in (command.runs / "using").iterdir()} <= {own, f"{own}.lock"}


@pytest.mark.parametrize(
    "use",
    [
        "store.analysis('knn', {'a': 1}, lambda part: {'x': 1})",
        "store.use(next(path for path in store.packs.iterdir() if path.is_dir()))",
    ],
)
def test_analyses_and_packs_are_used_too(trained, use):
    command, _ = trained
    process = other(command.runs, use)
    kind = "analyses/knn" if "knn" in use else "packs"
    assert not any(
        f"/{kind}" in path and path.count(".") == 0 for path in command.json("runs", "remove", "--yes")["removed"]
    )
    process.communicate()
    assert any(f"/{kind}" in path for path in command.json("runs", "remove", "--yes")["removed"])


def test_a_run_that_is_noted_while_a_person_thinks_keeps_its_stages(trained, monkeypatch, folder):
    command, key = trained

    def thinks(*_, **__):
        record = {"asked": {}, "title": "x", "dataset": "d", "stages": [key], "created": "2026-11-29T12:00:00"}
        (command.runs / "runs" / "0123abcd.json").write_text(json.dumps(record))

    monkeypatch.setattr(cli_runs, "_confirm", thinks)
    assert command("runs", "remove").exit_code == 0
    assert Store(command.runs).find(key) is not None
    assert not any(path.is_dir() for path in (command.runs / "packs").iterdir())  # the others are gone


def test_nobody_begins_to_use_what_is_being_removed(tmp_path):
    begun, ended = threading.Event(), threading.Event()

    def use():
        begun.set()
        uses.use(tmp_path, "stages/a")
        ended.set()

    with uses.removing(tmp_path, lambda: None):
        thread = threading.Thread(target=use)
        thread.start()
        begun.wait()
        assert not ended.wait(0.2)
        assert uses.used_by_others(tmp_path) == set()  # its own are no others'
    thread.join()
    assert ended.is_set()
    (tmp_path / "removing").touch()  # of one that was killed
    uses.use(tmp_path, "stages/b")


def test_two_removals_wait_for_each_other(tmp_path):
    said = []
    with uses.removing(tmp_path, lambda: None):
        thread = threading.Thread(target=lambda: uses.removing(tmp_path, lambda: said.append(1)).__enter__())
        thread.start()
        while not said:
            pass
    thread.join()
    assert said == [1]


def test_a_store_that_only_reads_is_used_without_a_note(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(uses._Note, "__init__", refused)
    uses.use(tmp_path, "stages/a")
    assert list(tmp_path.iterdir()) == []


def test_a_running_run_is_not_forgotten(trained, folder):
    command, _ = trained
    document = command.json("chain", "rotation", "--dataset", str(folder), *QUICK, "--name", "mine")
    key = document["stages"][1]["key"]
    hold = f"from sslcurr.claims import claim; held = claim(store.stages / '{key}')"
    process = other(command.runs, hold)
    result = Command(command.runs)("runs", "remove", "mine", "--yes")
    assert (result.exit_code, "is running" in result.stderr) == (1, True)
    process.communicate()
    assert Command(command.runs)("runs", "remove", "mine", "--yes").exit_code == 0


def test_a_process_that_goes_from_store_to_store_holds_few_files(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3 * uses.MOST_STORES):
        (tmp_path / str(number)).mkdir()
        uses.use((tmp_path / str(number)).resolve(), "stages/a")
    assert len(uses._notes) <= uses.MOST_STORES
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2 * uses.MOST_STORES
    assert [path.name for path in (tmp_path / "0" / "using").iterdir()] == []
