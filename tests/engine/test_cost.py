"""What trainings cost, by what is known of others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sslcurr.engine.answers import Answers
from sslcurr.engine.cost import WORK, Speeds, expected_stages, image_passes
from sslcurr.engine.store import Store
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import LrSearch
from sslcurr.tasks import BUILTIN_TASKS


def test_the_newest_stage_that_is_alike_counts_and_each_is_looked_at_once(small_stage, tmp_path):
    spec, other = small_stage("rotation"), small_stage("simclr")
    machine = Answers().machine("cpu", "auto")
    looked: list[float] = []

    def stage(spec, speed: float, device: str = machine.description, num_ranks: int = 1):
        return SimpleNamespace(
            spec=spec, record=SimpleNamespace(device=device, num_ranks=num_ranks, images_per_second=speed)
        )

    stages = [
        stage(spec, 1.0, "another CPU"),
        stage(spec, 2.0, num_ranks=2),
        stage(replace(spec, backbone=replace(spec.backbone, name="resnet18")), 3.0),
        stage(spec, 4.0),
        stage(spec, 5.0),
        stage(other, 6.0),
    ]

    def readable(*, newest_first: bool):
        assert newest_first
        for each in stages:
            looked.append(each.record.images_per_second)
            yield each

    store = SimpleNamespace(readable=readable, answers=Answers(), root=tmp_path)
    speeds = Speeds(store, Runtime(device="cpu"))
    assert speeds.known(spec) == 4.0
    assert looked == [1.0, 2.0, 3.0, 4.0]
    assert speeds.known(other) == 6.0
    assert speeds.known(small_stage("npid")) is None
    assert speeds.known(spec) == 4.0
    assert looked == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_every_task_of_ours_has_its_work():
    assert set(BUILTIN_TASKS) == set(WORK)
    assert all(1.0 <= work <= 4.0 for work in WORK.values())


def test_what_is_expected_of_stages(small_stage, tmp_path):
    store, spec = Store(tmp_path), small_stage("rotation")
    searched = replace(spec, search=LrSearch(low=0.1, high=0.2, trials=4, epochs=2, fraction=0.5))
    speeds = Speeds(store, Runtime(device="cpu"))
    plain, tried = expected_stages([spec, searched, spec], store, speeds, lambda spec: image_passes(spec, 40))
    assert (plain.passes, plain.search_passes, plain.trials, plain.work, plain.speed) == (120.0, 0.0, 0, 4.0, None)
    assert (tried.passes, tried.search_passes, tried.trials) == (pytest.approx(120.0), pytest.approx(160.0), 4)
    assert plain.like == tried.like
