"""What the Tab key offers: asked as bash asks, in a real bash and in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from sslcurr.api import names
from sslcurr.cli.app import program
from sslcurr.cli.completion import completed_words
from sslcurr.data.sources.catalog import BUILTIN_DATASETS
from sslcurr.engine.dataset import DataSettings
from sslcurr.engine.plan import LrSearchSettings
from sslcurr.engine.store import Store
from sslcurr.spec.record import RunRecord
from sslcurr.spec.stage import Training
from sslcurr.tasks import BUILTIN_TASKS, PRETEXT, TASKS

KEYS = ("3f6494f9d377f814", "3f64aaaa00000000", "8c69098f00000000")
NAMES = list(BUILTIN_DATASETS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with a store of three runs and three stages, and a few files."""
    here = tmp_path_factory.mktemp("here")
    store = Store(here / "runs")
    for day, name in ((1, "pilot"), (3, None), (2, None)):
        named = {} if name is None else {"name": name}
        store.note_run(
            RunRecord(asked={"day": day}, title=f"day {day}", dataset="fashion", created=f"2026-11-0{day}", **named)
        )
    for key in KEYS:
        (store.stages / key).mkdir(parents=True)
    (store.stages / "ffff000000000000.part").mkdir()
    (store.runs / "damaged.json").write_text("{")
    (here / "fans").mkdir()
    (here / "fast.csv").write_text("path\n")
    (here / "fast.txt").write_text("")
    return here


@pytest.fixture
def tab(place, monkeypatch):
    """`tab("sslcurr", "chain", "mo")`: what is offered for the last word, as bash has divided the line."""

    def offered(*words: str) -> list[str]:
        for name, value in asked(words).items():
            monkeypatch.setenv(name, value)
        before = completed_words(os.environ)
        assert before is not None
        result = CliRunner().invoke(program(before), [], prog_name="sslcurr")
        assert result.exit_code == 0
        return result.stdout.split()

    monkeypatch.chdir(place)
    return offered


def asked(words) -> dict[str, str]:
    return {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_SSLCURR_COMPLETE": "complete_bash",
    }


def numbers(place) -> list[str]:
    return list(reversed(Store(place / "runs").all_runs()))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ch",), ["chain"]),
        (("data", ""), ["list", "show", "check", "prepare", "sample", "example"]),
        (("chain", "mo"), ["mocov2"]),
        (("chain", "mocov2", "swav", "rot"), ["rotation"]),
        (("rank", ""), list(PRETEXT)),
        (("tasks", "show", "class"), ["classification"]),
        (("slurm", "ra"), ["rank"]),
        (("schema", "ck"), ["cka"]),
        # Data sets, with folders and tables here where one begins so; else the shell completes paths.
        (("chain", "swav", "--dataset", "fa"), ["fashion", "fans", "fast.csv"]),
        (("chain", "swav", "--dataset", "=", "fash"), ["fashion"]),
        (("chain", "swav", "--dataset", "~/x"), []),
        (("chain", "swav", "--dataset", ""), [*NAMES, "fans", "fast.csv", "runs"]),
        (("data", "show", "covid"), ["covid", "covid-4"]),
        (("predict", "last", "fash"), ["fashion"]),
        # Runs and stages.
        (("runs", "show", ""), ["last", "last~1", "last~2", "pilot"]),
        (("runs", "compare", "last", "last~"), ["last~1", "last~2"]),
        (("chain", "swav", "--from", "pi"), ["pilot"]),
        (("cka", "3f"), ["3f6494f9", "3f64aaaa"]),
        (("probe", "last", "8"), ["8c69098f"]),
        (("report", "--run", "pi"), ["pilot"]),
        (("export", "ran"), ["random"]),
        (("fid", "fashion", "--models", "last", "pi"), ["pilot"]),
        (("fid", "--models", "pilot", "--datasets", "fash"), ["fashion"]),
        (("predict", "last", "--ensemble", "s"), ["seeds"]),
        # Values.
        (("chain", "swav", "--gpu", "gr"), ["graphs"]),
        (("chain", "swav", "--tracker", "m"), ["mlflow"]),
        (("finetune", "--target", "multi"), ["multilabel"]),
        (("rank", "--measure", ""), ["finetune", "linear", "knn"]),
        (("rank", "swav", "rotation", "--orderings", "swav,"), ["swav,rotation"]),
        (("chain", "--plot", ""), []),
        # Settings: those of the tasks of the line.
        (("chain", "mocov2", "--set", "m"), ["mocov2.", "multilabel."]),
        (("chain", "mocov2", "--set", "s"), [f"search.{each}=" for each in ("trials", "draw", "fraction", "epochs")]),
        (("chain", "mocov2", "--set", "mocov2.queue"), ["mocov2.queue_length=", "mocov2.queue_length=VALUE"]),
        (("chain", "swav", "--set", "swav.warmup"), ["swav.warmup=", "swav.warmup_start="]),
        (("chain", "swav", "--set", "swav.lr", "=", "0.1"), []),
        (("cka", "last", "--set", "data.t"), ["data.test=", "data.test=VALUE"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_offered(tab, words, offered):
    assert tab("sslcurr", *words) == offered


def test_options_are_offered(tab):
    assert tab("sslcurr", "chain", "swav", "--lr-") == ["--lr-range", "--lr-pruner"]
    assert "--dataset" in tab("sslcurr", "rank", "--")


def test_numbers_of_runs_are_offered_once_one_is_begun(tab, place):
    for number in numbers(place):
        assert tab("sslcurr", "runs", "show", number[:4]) == [number]
    assert not set(numbers(place)) & set(tab("sslcurr", "runs", "show", ""))
    assert [text for text, _ in names.runs(place / "runs")][4:] == numbers(place)
    assert dict(names.runs(place / "runs"))["last"] == "day 3"


@pytest.mark.parametrize(
    ("name", "what"), [("last", "is not finished"), ("pilot", "is not finished"), ("last~7", "it has 3")]
)
def test_a_run_that_has_no_model_is_said_to_be_one(sslcurr, place, name, what):
    result = sslcurr("export", name, "--runs", str(place / "runs"))
    assert result.exit_code == 1
    assert f"run {name} " in result.stderr
    assert what in result.stderr


@pytest.mark.parametrize("root", ["nowhere", "fast.txt", "fans"])
def test_a_store_that_cannot_be_read_offers_nothing(tab, root):
    assert tab("sslcurr", "runs", "show", "--runs", root, "l") == []
    assert tab("sslcurr", "cka", "--runs", root, "3") == []


def test_the_store_of_the_line_or_of_the_environment_is_looked_at(tab, place, monkeypatch):
    monkeypatch.chdir(place.parent)
    assert tab("sslcurr", "cka", "8") == []
    assert tab("sslcurr", "cka", "--runs", str(place / "runs"), "8") == ["8c69098f"]
    monkeypatch.setenv("SSLCURR_RUNS", str(place / "runs"))
    assert tab("sslcurr", "cka", "8") == ["8c69098f"]


@pytest.mark.parametrize("section", [*BUILTIN_TASKS, "data", "search"])
def test_settings_are_those_of_the_classes(section):
    own = {"data": DataSettings, "search": LrSearchSettings}
    kinds = [own[section]] if section in own else [TASKS[section].Config, Training]
    assert set(names.settings(section)) == {item.name for kind in kinds for item in fields(kind)}


def test_a_real_bash_completes(place, tmp_path):
    shim = tmp_path / "sslcurr"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m sslcurr "$@"\n')
    shim.chmod(0o755)
    script = """
        source <(_SSLCURR_COMPLETE=source_bash sslcurr)
        complete -p sslcurr
        tab() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sslcurr_completion sslcurr; echo "${COMPREPLY[*]}"; }
        tab sslcurr chain mocov2 --dataset = fash
        tab sslcurr runs show last~
        """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=place, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o default -F _sslcurr_completion sslcurr", "fashion", "last~1 last~2"
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_what_is_said_of_a_run_too(place, shell):
    code = (
        "import sys, sslcurr.cli\n"
        "try:\n    sslcurr.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    line = {"_SSLCURR_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "sslcurr cka last~1 pi"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        env={**os.environ, **line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == {"zsh": '_arguments \'*: :(("pilot":"day 1"))\'', "fish": "pilot\tday 1"}[shell]
