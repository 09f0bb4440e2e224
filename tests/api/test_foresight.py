"""What is said before anything is trained: how long it takes, and what would be quicker."""

from __future__ import annotations

import pytest
import torch

from sslcurr.api import foresight
from sslcurr.engine import cost
from sslcurr.engine.store import Store
from sslcurr.files import sha256_of
from tests.conftest import QUICK


@pytest.fixture
def slow(monkeypatch):
    """Every command is large, and a view takes as many seconds as it has millions of pixels."""
    timed = []

    def seconds(backbone, size: int, device: str, precision: str) -> float:
        timed.append((backbone.name, size))
        return size**2 / 1e6

    monkeypatch.setattr(cost, "LARGE", 0.0)
    monkeypatch.setattr(cost, "seconds_of_pass", seconds)
    monkeypatch.setattr(foresight, "LONG", 1.0)
    return timed


def notes(result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [line for line in result.stderr.splitlines() if "this takes about" in line]


def test_what_takes_long_is_said_first_with_what_would_be_quicker(sslcurr, folder, slow):
    ask = ("chain", "rotation", "--dataset", str(folder), "--dry-run", "--device", "cpu")
    plan = sslcurr.json(*ask)
    # 42 images train: rotation sees four views of each, classification one.
    epochs = {stage["task"]: stage["asked"]["training"]["epochs"] for stage in plan["stages"]}
    images = {"rotation": 4, "classification": 1}
    assert plan["hours"] * 3600 == pytest.approx(
        sum(42 * number * images[task] for task, number in epochs.items()) * 224**2 / 1e6, rel=0.05
    )
    (note,) = notes(sslcurr(*ask))
    assert note.startswith("note: this takes about ")
    assert f"2 stages of up to {max(epochs.values())} epochs, resnet50 at 224 pixels on a CPU. Quicker: " in note
    assert "--image-size 64 --backbone resnet18 (about " in note
    assert ", --epochs 50 --set classification.epochs=100 (about " in note
    assert note.endswith(", or a GPU")
    assert ("resnet18", 64) in slow


@pytest.mark.parametrize(
    ("chosen", "said", "unsaid"),
    [
        (("--epochs", "99"), ["--image-size 64 --backbone resnet18"], ["--epochs", "both"]),
        (("--set", "rotation.epochs=99"), ["--image-size 64"], ["--epochs", "both"]),
        (("--image-size", "128"), ["--epochs 50"], ["--image-size", "both"]),
        (("--backbone", "test_resnet"), ["--image-size 64 (about"], ["--backbone"]),
        (("--image-size", "32", "--epochs", "40"), ["Quicker: a GPU"], ["--image-size", "--epochs"]),
    ],
)
def test_only_what_was_left_to_the_defaults_is_suggested(sslcurr, folder, slow, chosen, said, unsaid):
    (note,) = notes(sslcurr("chain", "rotation", "--dataset", str(folder), "--dry-run", "--device", "cpu", *chosen))
    assert all(each in note for each in said)
    assert not [each for each in unsaid if each in note]


def test_what_is_short_or_unknown_is_not_timed(sslcurr, folder, monkeypatch):
    monkeypatch.setattr(cost, "seconds_of_pass", None)
    result = sslcurr("chain", "rotation", "--dataset", str(folder), "--dry-run", *QUICK)
    assert not notes(result)
    assert result.stdout.splitlines()[-1] == (
        "to be trained: 2 stages, how long is unknown until stages like them have run on this device: "
        "rotation, classification"
    )


def test_timing_a_network_before_a_training_changes_no_bit_of_it(sslcurr, folder, monkeypatch):
    ask = ("pretrain", "rotation", "--dataset", str(folder), *QUICK)
    plain = sslcurr.json(*ask, "--runs", str(sslcurr.runs / "plain"))["stages"][0]
    monkeypatch.setattr(cost, "LARGE", 0.0)
    monkeypatch.setattr(foresight, "LONG", 0.0)
    timed = sslcurr(*ask, "--runs", str(sslcurr.runs / "timed"))
    assert notes(timed)
    stage = Store(sslcurr.runs / "timed").stage(plain["key"])
    assert sha256_of(stage.weights) == Store(sslcurr.runs / "plain").stage(plain["key"]).record.weights_sha256


def test_timing_a_network_draws_nothing(small_stage):
    before = torch.random.get_rng_state()
    assert cost.seconds_of_pass(small_stage("rotation").backbone, 16, "cpu", "auto") > 0
    assert torch.equal(torch.random.get_rng_state(), before)
