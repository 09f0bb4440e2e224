"""How far a command is, and how long it still takes."""

from __future__ import annotations

from dataclasses import replace

from sslcurr.progress import WARM_STEPS, Course, ExpectedStage


def stage(key: str, task: str, **values) -> ExpectedStage:
    return ExpectedStage(**{"key": key, "task": task, "like": "net", "work": 1.0, "passes": 100.0, **values})


def moved(course: Course, steps: int, speed: float) -> None:
    for step in range(1, steps + 1):
        course.move(step, speed)


def test_time_left_by_hand(small_stage):
    rotation, simclr = small_stage("rotation"), small_stage("simclr")
    batch = rotation.training.batch_size
    course = Course()
    course.expect([stage("r", "rotation", work=4.0), stage("s", "simclr", work=2.0), stage("c", "classification")])
    assert course.seconds() is None  # nothing is measured
    assert len(course.unknown()) == 3
    course.begin(rotation, "r", 10, 0)
    moved(course, WARM_STEPS - 1, 20.0)
    assert (course.stage_seconds(), course.seconds()) == (None, None)  # the first steps are no measure
    moved(course, WARM_STEPS, 20.0)
    at_hand = (10 - WARM_STEPS) * batch / 20.0
    assert course.stage_seconds() == at_hand
    # Of one network and size: twice and four times as quick.
    assert course.seconds() == at_hand + 100 / 40.0 + 100 / 80.0
    assert (course.place("r"), course.place("s")) == ("stage 1 of 3", "stage 1 of 3")
    course.end("r")
    assert course.place("s") == "stage 2 of 3"
    assert course.seconds() == 100 / 40.0 + 100 / 80.0
    course.begin(simclr, "s", 10, 5)
    assert course.stage_seconds() == 5 * batch / 40.0
    moved(course, WARM_STEPS, 10.0)  # what is measured counts more than what follows from others
    assert course.stage_seconds() == (10 - WARM_STEPS) * batch / 10.0
    course.leave(["c"])
    assert course.seconds() == course.stage_seconds()
    course.end("s")
    assert course.seconds() == 0.0


def test_learning_rates_that_are_still_to_be_tried_count(small_stage):
    spec = small_stage("rotation")
    batch = spec.training.batch_size
    course = Course()
    course.expect([stage("r", "rotation", search_passes=40.0, trials=4, speed=10.0)])
    assert course.seconds() == 140 / 10.0
    course.begin(spec, "r", 5, 0, trial=1)
    assert course.stage_seconds() == (5 * batch + 40 * 2 / 4 + 100) / 10.0
    assert course.place("r") == ""  # the only one
    course.begin(None, "", 5, 0, trial=2)  # of a stage of which nothing is known
    assert course.stage_seconds() is None


def test_other_networks_and_stages_that_are_there_say_nothing():
    course = Course()
    there = stage("a", "rotation", passes=0.0)
    course.expect([there, stage("b", "simclr", like="other net", speed=5.0), stage("c", "swav")])
    assert course.seconds() is None
    assert [each.key for each in course.unknown()] == ["c"]
    course.expect([replace(there, passes=9.0), stage("b", "simclr")])  # told again: as before
    assert len(course.stages) == 3
    course.leave(["c"])
    assert course.seconds() == 100 / 5.0
