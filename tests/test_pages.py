"""README, the tutorial and its notebook: every block is a command line that there is, and all of them run in order."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import is_typeddict

import pytest

import sslcurr
from sslcurr.api import options
from tests import REPOSITORY

PAGES = ("README.md", "docs/tutorial.md")
NOTEBOOK = REPOSITORY / "docs" / "tutorial.ipynb"
# What makes a training of a second of one of minutes; it is put behind the words of a command that trains.
SHORT = "--epochs 1 --set classification.epochs=1 --set classification.batch_size=32 --seeds 2"
QUICKER = {"EPOCHS = 20": "EPOCHS = 1", "SEEDS = 3": "SEEDS = 2", "epochs=40": "epochs=1"}
TRAINS = {"chain": SHORT.partition(" --seeds")[0], "rank": SHORT}


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (REPOSITORY / page).read_text(), re.S | re.M)


def command_lines(page: str) -> list[list[str]]:
    """The words of each `sslcurr ...` of a page, in order."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sslcurr ")]


def quickly(words: list[str]) -> list[str]:
    """The same command with as little training as there can be."""
    return [*words, *TRAINS.get(words[0], "").split()] if "--dry-run" not in words else words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_is_one(page, capsys):
    from sslcurr.cli.app import program

    lines = command_lines(page)
    assert len(lines) >= 8
    for words in lines:
        if words == ["--version"]:
            continue
        with pytest.raises(SystemExit) as ended:
            program(words)([*words, "--print-toml"], prog_name="sslcurr")
        said = capsys.readouterr()
        assert ended.value.code in (0, None), (words, said.err)
        assert said.out.startswith("[[run]]\n"), words


def test_the_notebook_calls_what_the_library_has():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    calls = [
        (node.func.attr, [each.arg for each in node.keywords])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "lab"
    ]
    assert {"example", "chain", "rank", "predict", "report"} <= {name for name, _ in calls}
    known = {each for kind in vars(options).values() if is_typeddict(kind) for each in kind.__annotations__}
    for name, keywords in calls:
        method = inspect.getattr_static(sslcurr.Lab, name)
        assert inspect.isfunction(method), name
        assert set(keywords) <= known | set(inspect.signature(method).parameters), (name, keywords)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", PAGES)
def test_all_commands_of_the_page_run_in_a_fresh_folder(page, tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop("SSLCURR_RUNS", None)
    lines = [words for words in command_lines(page) if words != ["--version"]]
    for words in lines:
        words = [each.replace("~", str(tmp_path)) for each in quickly(words)]
        call = [sys.executable, "-m", "sslcurr", *words]
        ended = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (words, ended.stdout[-2000:], ended.stderr[-2000:])
    assert (tmp_path / "predictions.csv").read_text().count("\n") == 101
    assert "first" in (tmp_path / "report.html").read_text()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    shown: list[object] = []
    names: dict[str, object] = {"display": shown.append}
    for cell in cells:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for long, short in QUICKER.items():
                source = source.replace(long, short)
            exec(compile(source, str(NOTEBOOK), "exec"), names)
    assert names["EPOCHS"] == 1
    assert len(shown) > 5
    assert sorted(names["ranking"].curriculum) == ["mocov2", "rotation", "swav"]
    assert names["predictions"].num_images == 100
    assert Path("report.html").stat().st_size > 100_000
