"""The help as a newcomer reads it: groups, examples that run as they stand, and pages for 80 columns."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
import typer.main
from typer.core import TyperGroup

from sslcurr.cli.app import COMMANDS, app
from sslcurr.cli.help import ADVANCED, DATA, MACHINE, MODEL, SEVERAL, TRAINING, examples_of, metavar, page, summary
from sslcurr.data.sources.catalog import CATALOG
from sslcurr.tasks import TASKS

ROOT = typer.main.get_command(app)


def every_command() -> dict[str, object]:
    """All commands by their words, with those below others."""
    found = {"": ROOT}
    for name, command in ROOT.commands.items():
        found[name] = command
        if isinstance(command, TyperGroup):
            found |= {f"{name} {below}": each for below, each in command.commands.items()}
    return found


EVERY = every_command()
each_command = pytest.mark.parametrize("name", EVERY, ids=lambda name: name or "sslcurr")


def context_of(name: str):
    context = ROOT.make_context("sslcurr", [], resilient_parsing=True)
    for word in name.split():
        command = context.command.get_command(context, word)
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    return context


def parsed(words: list[str]):
    """The context of the command that a command line names; a usage error where it does not parse."""
    context = ROOT.make_context("sslcurr", list(words))
    while isinstance(context.command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


@each_command
def test_examples_run_as_they_stand(name):
    examples = examples_of(EVERY[name])
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        assert words[0] == "sslcurr"
        params = parsed(words[1:]).params  # raises a usage error
        tasks = params.get("tasks") or [params["task"]] if "task" in params else params.get("tasks") or []
        assert all(task in TASKS for task in tasks)
        for kind in ("dataset", "reference"):
            is_path = str(params.get(kind) or "~/").startswith("~/")
            assert is_path or params[kind] in CATALOG
        named = [*(params.get("folders") or ()), *(params.get("inputs") or ())]
        assert all(each.startswith("~/") or each in CATALOG for each in named)
        # A reader has runs, but not ours.
        models = [
            params.get(each) for each in ("checkpoints", "checkpoint", "model", "names", "key", "models", "start")
        ]
        for model in (one for each in models if each for one in ([each] if isinstance(each, str) else each)):
            assert model in ("last", "last~1", "random")
    assert any(example.removeprefix("sslcurr ").startswith(name) for example in examples)


@each_command
def test_a_page_fits_80_columns_and_says_what_each_option_takes(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "")
    command = EVERY[name]
    text = page(command, context_of(name))
    assert max(map(len, text.splitlines())) <= 80
    assert "<" not in text
    assert text.index("Examples") < text.index("\n  -h, --help")
    assert not name or len(summary(command)) <= 80 - len("  pretrain  ")  # a line in the list of commands
    for param in command.params:
        if param.param_type_name == "option":
            assert param.is_flag or metavar(param), param.name
            assert param.name == "help" or param.help.endswith("."), param.name
            assert text.count(f"  {max(param.opts, key=len)} ") == 1 or len(param.opts) > 1
        else:
            assert param.metavar
            assert param.help


@each_command
def test_options_come_in_the_order_of_need(name):
    params = [each for each in EVERY[name].params if each.param_type_name == "option"]
    headings = list(dict.fromkeys(each.rich_help_panel for each in params))
    common = [each for each in (TRAINING, MODEL, SEVERAL, MACHINE, ADVANCED) if each in headings]
    assert [each for each in headings if each in common] == common
    assert not common or headings[-1] == common[-1]
    data = [each.name for each in params if each.rich_help_panel == DATA]
    assert DATA not in headings or headings[0] == DATA
    assert "dataset" not in data or data[0] == "dataset"
    trains = {"chain", "pretrain", "finetune", "continue", "rank", "grid"}
    assert (TRAINING in headings) == (name in trains)


def test_commands_are_found_under_headings(sslcurr):
    lines = sslcurr("--help").stdout.splitlines()
    assert sorted(name for names in COMMANDS.values() for name in names) == sorted(ROOT.commands)
    for heading, names in COMMANDS.items():
        place = lines.index(heading)
        listed = [line.split()[0] for line in lines[place + 1 : place + 1 + len(names)]]
        assert listed == list(names)
    assert sslcurr().stdout == sslcurr("--help").stdout


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["chian"], "No such command 'chian'.", "did you mean chain? sslcurr --help says what there is"),
        (["data", "shw"], "No such command 'shw'.", "did you mean show? sslcurr data --help says what there is"),
        (["--versoin"], "No such option: --versoin", "did you mean --version? sslcurr --help says what there is"),
        (["chain"], "Missing argument 'TASK'.", "for example: sslcurr chain mocov2 swav rotation"),
        (
            ["chain", "--datset", "x"],
            "No such option: --datset",
            "did you mean --dataset? sslcurr chain --help says what there is",
        ),
        (["chain", "swav", "--epochs"], "Option '--epochs' requires an argument.", "give a value after --epochs"),
        (
            ["rank", "--measure", "best"],
            "Invalid value for '--measure': 'best' is not one of 'finetune', 'linear', 'knn'.",
            "sslcurr rank --help says what there is",
        ),
        (["fid", "--models"], "--models needs a value, or several", "sslcurr fid --help says what there is"),
    ],
)
def test_wrong_usage_is_two_lines(sslcurr, words, error, hint):
    result = sslcurr(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [f"error: {error}", f"hint: {hint}"]


@pytest.mark.parametrize(("words", "code"), [(("rank", "-h"), 0), (("--help",), 0), (("tasks",), 141)], ids=str)
def test_a_reader_that_goes_early_ends_a_command_quietly(words, code):
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        done = subprocess.run(
            [sys.executable, "-m", "sslcurr", *words], stdout=reader.stdin, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (code, b"")
