"""`--profile`: where the time of a training goes, and a trace of it."""

from __future__ import annotations

import json

from sslcurr.api.lab import Lab
from sslcurr.progress import Reporter
from tests.conftest import SMALL


class Notes(Reporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_profile_says_where_the_time_goes_and_changes_nothing(folder, tmp_path):
    options = {"backbone": "test_resnet", "stem": "imagenet", "image_size": 16, "epochs": 3, "batch_size": 8}
    report = Notes()
    lab = Lab(tmp_path / "runs", reporter=report, dataset=folder, settings=SMALL["mocov2"], threads=1, **options)
    plain = lab.pretrain("mocov2").stages[0]
    other = Lab(tmp_path / "other", reporter=report, dataset=folder, settings=SMALL["mocov2"], threads=1, **options)
    stage = other.pretrain("mocov2", profile=tmp_path / "traces").stages[0]
    assert stage.key == plain.key
    assert stage.metrics == plain.metrics
    (said,) = [note for note in report.notes if "files ignored" not in note]  # tables of other tests
    assert said.startswith("mocov2: ")
    assert "over 17: views " in said  # of 18 steps
    shares = [int(part.partition("%")[0].split()[-1]) for part in said.split(": ")[2].partition(";")[0].split(", ")]
    assert 95 <= sum(shares) <= 105
    trace = json.loads((tmp_path / "traces" / f"{stage.key}.trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"views", "forward", "backward", "optimizer", "after_step"} <= names
