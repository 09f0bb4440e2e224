"""Experiments as files."""

from __future__ import annotations

import pytest

from tests.conftest import QUICK

FILE = """
# two commands
[defaults]
dataset = "FOLDER"
backbone = "test_resnet"
stem = "imagenet"
image-size = 16
epochs = 1
batch_size = 16

[[run]]
command = "chain"
tasks = ["rotation"]
baseline = "scratch"
name = "first"

[[run]]
command = "rank"
tasks = ["rotation", "simsiam"]
seeds = 1
set = ["rotation.lr=0.01", "simsiam.lr=0.01"]

[[run]]
command = "runs show"
name = "first"
"""


@pytest.fixture
def write(folder, tmp_path):
    def written(text=FILE):
        path = tmp_path / "experiment.toml"
        path.write_text(text.replace("FOLDER", str(folder)))
        return str(path)

    return written


def test_the_commands_of_a_file_run_one_after_the_other(write, sslcurr):
    planned = sslcurr("run", write(), "--dry-run")
    assert planned.exit_code == 0
    lines = planned.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["chain", "rank", "runs"]
    assert lines[2] == "sslcurr runs show first"
    assert "--set rotation.lr=0.01 --set simsiam.lr=0.01" in lines[1]
    assert not sslcurr("runs").stdout.count("rotation")
    result = sslcurr("run", write())
    assert result.exit_code == 0, result.stderr
    runs = sslcurr.json("runs")["runs"]
    assert [run["title"] for run in runs] == ["rotation -> classification", "rank rotation simsiam"]
    assert runs[0]["command"][:3] == ["sslcurr", "chain", "rotation"]
    assert runs[0]["name"] == "first"
    assert "line 11: sslcurr chain rotation" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("seeds = 1", "sedes = 1", "line 20: rank has no option 'sedes'", "did you mean seeds"),
        ("seeds = 1", 'seeds = "two"', "line 20: Invalid value for '--seeds'", "--help"),
        ("epochs = 1", 'epochs = "one"', "line 8: Invalid value for '--epochs'", "--help"),
        ("epochs = 1", "epochs = true", "epochs cannot be true", "give its value"),
        ("seeds = 1", "seed = -1", "line 20: Invalid value for '--seed'", "--help"),
        ('"simsiam"]', '"simsaim"]', "line 19: unknown task 'simsaim'", "did you mean simsiam"),
        ('"rank"', '"rnak"', "line 18: there is no command 'rnak'", "did you mean rank"),
        ('command = "rank"', "", "line 17: a run without a command", "command"),
        ("epochs = 1", "epochz = 1", "line 8: no command of the file has an option 'epochz'", "take it out"),
        ("[defaults]", "[default]", "line 3: there is no part 'default'", "[defaults] and [[run]]"),
        ("seeds = 1", "seeds = {a = 1}", "line 20: seeds cannot be {'a': 1}", "a text, a number"),
        ("seeds = 1", "seeds = ", "is no TOML", "example"),
        ('tasks = ["rotation"]', "", "line 11: Missing argument", "--help"),
        ('"runs show"', '"run"', "line 24: a file cannot hold sslcurr run", "name other commands"),
    ],
)
def test_mistakes_are_found_before_anything_runs_with_their_line(old, new, message, hint, write, sslcurr):
    result = sslcurr("run", write(FILE.replace(old, new, 1)))
    assert result.exit_code == 1
    assert message in result.stderr
    assert hint in result.stderr
    assert not (sslcurr.runs).exists()


def test_a_command_prints_itself_for_a_file(folder, write, sslcurr):
    call = ("chain", "rotation", "--dataset", str(folder), *QUICK, "--no-finetune", "--set", "rotation.lr=0.1")
    printed = sslcurr(*call, "--print-toml")
    assert printed.exit_code == 0
    assert not sslcurr.runs.exists()
    assert "finetune = false" in printed.stdout
    assert sslcurr("run", write(printed.stdout)).exit_code == 0
    spelled = printed.stdout.replace("finetune = false", "no-finetune = true")
    planned = [sslcurr("run", write(text), "--dry-run").stdout for text in (printed.stdout, spelled)]
    assert planned[0].split()[-1] == planned[1].split()[-1] == "--no-finetune" or planned[0] == planned[1]
    assert "  --print-toml" not in sslcurr("run", "--help").stdout
    document = sslcurr.json(*call)
    assert document["stages"][0]["reused"]
    assert sslcurr("data", "show", "covid", "--print-toml").stdout == (
        '[[run]]\ncommand = "data show"\nname = "covid"\n'
    )
    assert "  --print-toml" in sslcurr("rank", "--help").stdout
    assert "  --print-toml" in sslcurr("runs", "show", "--help").stdout


def test_a_command_that_fails_ends_the_file(write, sslcurr):
    result = sslcurr("run", write(FILE.replace('tasks = ["rotation"]', 'tasks = ["rotation"]\nfrom = "nobody"')))
    assert result.exit_code == 1
    assert "'nobody' is no file" in result.stderr
    assert not sslcurr("runs").stdout.count("rank")
