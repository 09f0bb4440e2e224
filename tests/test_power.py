"""A power cut at any moment leaves a store from which the same command ends with the same bytes."""

from __future__ import annotations

import pytest

from sslcurr import integrity
from sslcurr.engine.store import Store
from sslcurr.files import sha256_of
from tests.conftest import QUICK, Command
from tests.disk import watched, write

SAVED = ("--save-minutes", "0.00001")
COMMANDS = {
    "chain": ("chain", "rotation", "--epochs", "2", *SAVED),
    "search": (
        *("pretrain", "simsiam", "--lr", "search", "--set", "search.trials=2", "--set", "search.epochs=2"),
        *("--lr-pruner", "asha", *SAVED),
    ),
}


def found(command: Command) -> dict[str, str]:
    """The hashes of all weights and predictions of a store."""
    root = command.runs
    paths = [*root.glob("stages/*/*.safetensors"), *root.glob("analyses/*/predictions.csv")]
    return {str(path.relative_to(root)): sha256_of(path) for path in sorted(paths)}


def states_of(ask, tmp_path, monkeypatch):
    """What the command found, and the states in which a power cut may leave its store."""
    command = Command(tmp_path / "whole")
    command.runs.mkdir()
    with watched(command.runs, monkeypatch) as disk:
        assert command(*ask).exit_code == 0
    states = [
        (what, name, tree) for what, *both in disk.states for name, tree in zip(("early", "late"), both, strict=True)
    ]
    return found(command), states


def goes_on(ask, state, expected, tmp_path) -> None:
    what, name, tree = state
    command = Command(tmp_path / "cut")
    write(tree, command.runs)
    integrity._sound.clear()
    result = command(*ask)
    assert result.exit_code == 0, (what, name, result.stderr)
    assert found(command) == expected, (what, name)
    assert not [stage for stage in Store(command.runs).all() if list(integrity.faults_in(stage.folder))], (what, name)


def test_a_power_cut_loses_nothing(folder, tmp_path, monkeypatch):
    ask = (*COMMANDS["chain"][:2], "--dataset", str(folder), *QUICK, *COMMANDS["chain"][2:])
    expected, states = states_of(ask, tmp_path, monkeypatch)
    assert len(states) > 100
    for state in states[7 :: len(states) // 8]:
        goes_on(ask, state, expected, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_power_cut_at_any_moment_loses_nothing(name, folder, tmp_path, monkeypatch):
    ask = (*COMMANDS[name][:2], "--dataset", str(folder), *QUICK, *COMMANDS[name][2:])
    expected, states = states_of(ask, tmp_path, monkeypatch)
    for state in states:
        goes_on(ask, state, expected, tmp_path)


def test_the_disk_of_these_tests_loses_what_is_not_synced(tmp_path, monkeypatch):
    import os

    root = tmp_path / "root"
    root.mkdir()
    with watched(root, monkeypatch) as disk:
        (root / "a").mkdir()
        with open(root / "a" / "x", "wb") as file:
            file.write(b"one")
            file.flush()
            os.fsync(file.fileno())
            file.write(b"two")
        os.replace(root / "a" / "x", root / "a" / "y")
        before = disk.states[-1][1:]
        for place in (root / "a", root):
            descriptor = os.open(place, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    assert before == ({"a": {"y": b"one"}}, {})
    assert disk.states[-1][1:] == ({"a": {"y": b"one"}}, {"a": {"y": b"one"}})
