"""A stage that several processes train is the stage that one trains: losses, weights, memories."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import REPOSITORY
from tests.conftest import SMALL

# Relative, of losses; of weights with those that are 0 but for rounding, such as a bias before a batch norm.
CLOSE = 1e-9
# Of key encoders: each rank normalises groups of its own, and nothing reads these.
OWN_STATISTICS = ("key_encoder", "running_")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def run(folder: Path, size: int) -> list[dict[str, Any]]:
    """What each of so many ranks found."""
    port = str(free_port())
    command = [sys.executable, "-m", "tests.ranks.rank"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(size), port, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(size)
    ]
    said = [rank.communicate(timeout=280)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * size, "\n".join(said)
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]


def compare(folder: Path, images: Path, cases: dict[str, Any], sizes: tuple[int, ...]) -> dict[tuple[str, int], float]:
    """The largest relative difference of the losses and of the state of each case, of several ranks and of one."""
    if not (folder / "clothes").exists():
        shutil.copytree(images, folder / "clothes")
    (folder / "cases.json").write_text(json.dumps(cases))
    (alone,) = run(folder, 1)
    differences = {}
    for size in sizes:
        found = run(folder, size)
        assert all(each["gradients"] for each in found)
        for name in cases:
            first = found[0][name]
            for other in found[1:]:
                assert other[name]["losses"] == first["losses"], name
                unlike = {
                    key for key, value in first["state"].items() if not torch.equal(value, other[name]["state"][key])
                }
                assert not {key for key in unlike if not all(part in key for part in OWN_STATISTICS)}, name
            differences[name, size] = difference(alone[name], first)
    return differences


def difference(alone: dict[str, Any], first: dict[str, Any]) -> float:
    assert len(alone["losses"]) == len(first["losses"]) > 0
    worst = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(alone["losses"], first["losses"], strict=True))
    for key, value in alone["state"].items():
        if value.is_floating_point() and not all(part in key for part in OWN_STATISTICS):
            worst = max(worst, float((value - first["state"][key]).norm() / max(1e-3, value.norm())))
    return worst


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_train_what_one_does(folder, tmp_path):
    cases = {name: {"task": name} for name in ("simclr", "mocov2", "classification")}
    cases["mocov2"]["settings"] = ["mocov2.bn_group=3"]
    cases["wrong"] = {"task": "simclr", "spoiled": "slice"}
    differences = compare(tmp_path, folder, cases, (2,))
    assert differences.pop(("wrong", 2)) > 1e-3
    assert max(differences.values()) < CLOSE, differences


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_and_three_processes_train_every_task_as_one_does(folder, tmp_path):
    cases = {name: {"task": name} for name in SMALL}
    for name in ("mocov2", "densecl"):
        cases[f"{name} in groups"] = {"task": name, "settings": [f"{name}.bn_group=3"]}
    for name in ("relative-location", "jigsaw"):
        cases[f"{name} without colours"] = {"task": name, "settings": [f"{name}.color_dropping=0.5"]}
    for name in ("classification", "multilabel", "regression"):
        cases[f"{name} mixed"] = {"task": name, "settings": [f"{name}.mixup=0.4", f"{name}.dropout=0.3"]}
    for name in ("simclr", "swav", "npid", "jigsaw", "odc", "classification", "multilabel"):
        cases[f"{name} in parts"] = {"task": name, "settings": [f"{name}.accumulate=2"], "batch_size": 12}
    differences = compare(tmp_path, folder, cases, (2, 3))
    assert {key: value for key, value in differences.items() if not value < CLOSE} == {}


@pytest.mark.long
def test_what_is_often_done_wrong_is_seen(folder, tmp_path):
    cases = {
        f"{name} {how}": {"task": name, "spoiled": how} for name in ("simclr", "vicreg") for how in ("slice", "norms")
    }
    cases["rotation norms"] = {"task": "rotation", "spoiled": "norms"}
    differences = compare(tmp_path, folder, cases, (2,))
    assert min(differences.values()) > 1e-3, differences


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("saved_by", [1, 2])
def test_a_stage_that_some_ranks_saved_goes_on_on_others(folder, tmp_path, saved_by):
    shutil.copytree(folder, tmp_path / "clothes")
    names = ("mocov2", "odc", "classification")
    whole = {name: {"task": name} for name in names}
    (tmp_path / "cases.json").write_text(json.dumps(whole))
    (alone,) = run(tmp_path, 1)
    begun = {name: {"task": name, "most": 5, "save": f"{name}.resume"} for name in names}
    (tmp_path / "cases.json").write_text(json.dumps(begun))
    run(tmp_path, saved_by)
    (tmp_path / "cases.json").write_text(
        json.dumps({name: {"task": name, "resume": f"{name}.resume"} for name in names})
    )
    for size in {1, 2, 3} - {saved_by}:
        first = run(tmp_path, size)[0]
        for name in names:
            rest = {**alone[name], "losses": alone[name]["losses"][5:]}
            assert difference(rest, first[name]) < CLOSE, (name, size)
