"""What is printed and drawn while stages are trained."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sslcurr.cli import progress
from sslcurr.cli.progress import Lines, Training, drawn_training, epoch_of
from sslcurr.progress import WARM_STEPS, ExpectedStage
from sslcurr.wording import speed

LONG = "a-package-of-a-hospital/contrast-of-neighbouring-slices"


def drawn(training: Training, left: float | None, in_all: float | None, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(drawn_training(training, left, in_all, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("task", ["swav", LONG])
@pytest.mark.parametrize("trial", ["", "learning rate 10 of 10 (0.00123)"])
@pytest.mark.parametrize("place", ["", "stage 1,234 of 1,957"])
def test_a_training_is_drawn_in_two_lines_that_fit(width, task, trial, place):
    training = Training(task, place, trial, 3, 10_000, 2_000, 12_345.0, 12.3456)
    lines = drawn(training, 7100.0, 172_000.0, width)
    assert len(lines) == 2
    assert all(0 < len(line) <= width - 2 for line in lines)  # and ^C
    assert lines[1].endswith("47.8 h in all") or width == 40
    assert lines[0].endswith("loss 12.3456") or width == 40


def test_what_a_training_says():
    training = Training("swav", "stage 2 of 4", "", 50, 400, 20, 1204.3, 2.23714)
    first, second = drawn(training, 720.0, 12_600.0)
    assert first == "swav: stage 2 of 4, epoch 3 of 20, loss 2.2371"
    assert second.endswith("1,204 images/s  about 12 min left, 3.5 h in all")
    assert drawn(training, 720.0, 720.0)[1].endswith("about 12 min left")  # the last stage
    begins = Training("swav", "", "", 0, 400, 20)
    assert drawn(begins, None, None)[0] == "swav: epoch 1 of 20"
    assert "images/s" not in drawn(begins, None, None)[1]


def test_epochs_and_speeds():
    assert [epoch_of(step, 40, 4) for step in (0, 9, 10, 39, 40)] == [f"epoch {n} of 4" for n in (1, 1, 2, 4, 4)]
    assert epoch_of(3, 0, 4) == epoch_of(3, 10, 0) == ""
    assert [speed(each) for each in (1204.3, 9.6, 3.14, 0.04)] == ["1,204", "10", "3.1", "0.04"]


def test_lines_where_there_is_no_terminal(small_stage, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines, out = Lines(), io.StringIO()
    lines.console = Console(width=200, file=out, highlight=False)
    first, second = small_stage("rotation"), small_stage("simclr")
    make = {"like": "net", "work": 1.0, "passes": 300.0}
    lines.expects([ExpectedStage(key=key, task=task, **make) for key, task in (("a", "rotation"), ("b", "simclr"))])
    lines.stage_begins(first, "a", 20, 0, {"lr": "0.1"})
    for step in range(1, WARM_STEPS + 1):
        lines.step_done(step, 1.5 if step == WARM_STEPS else None, 2.0)
    now[0] = 750.0
    lines.stage_ends(first, "a", reused=False)
    lines.stage_begins(second, "b", 20, 7, {"lr": "0.2"})
    now[0] = 800.0
    lines.stage_ends(second, "b", reused=False)
    lines.stage_ends(first, "c", reused=True)
    assert out.getvalue().splitlines() == [
        "rotation (a): stage 1 of 2, training 3 epochs",
        "  lr 0.1",
        "rotation (a): done in 12 min, loss 1.5000; about 2 min left",
        "simclr (b): stage 2 of 2, training 3 epochs, going on at step 7 of 20",
        "  lr 0.2",
        "simclr (b): done in 50 s",
        "rotation (c): already there, reused",
    ]
