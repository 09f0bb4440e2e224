"""What trainings cost, by what is known of others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from sslcurr.engine.answers import Answers
from sslcurr.engine.cost import Speeds
from sslcurr.spec.runtime import Runtime


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
