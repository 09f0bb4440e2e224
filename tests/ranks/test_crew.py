"""Ranks that a command starts itself: they live from stage to stage, and no one waits for one that has gone."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from torch.distributed import HashStore

from sslcurr.api.lab import Lab
from sslcurr.engine import crew, pool
from sslcurr.engine.crew import Order, OwnCrew, Pulse, check_ranks, device_of
from sslcurr.engine.launch import Launch, first_host, launch_of
from sslcurr.engine.pools.here import gpus_of
from sslcurr.engine.pools.ray import room
from sslcurr.engine.pools.slurm import Allocation
from sslcurr.engine.store import RESUME
from sslcurr.errors import CheckpointError, Interrupted, SpecError, TrainingError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime
from sslcurr.spec.stage import to_dict
from sslcurr.tasks import TASKS
from sslcurr.tasks.rotation import Rotation
from tests.conftest import SMALL

# 42 training images in 6 steps an epoch.
ASKED = {
    "backbone": "test_resnet",
    "stem": "imagenet",
    "image_size": 16,
    "epochs": 2,
    "batch_size": 8,
    "settings": SMALL["simclr"],
    "threads": 1,
}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12]",
    "SLURM_JOB_ID": "4123",
    "SLURM_STEP_ID": "2",
}


class At(Reporter):
    """Does something after a step, once; keeps the notes."""

    def __init__(self, step=0, act=None):
        self.step, self.act, self.notes = step, act, []

    def step_done(self, step, loss, images_per_second):
        if step == self.step and self.act is not None:
            act, self.act = self.act, None
            act()

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module", autouse=True)
def _ended():
    yield
    for each in crew._crews.values():
        each.end()
    crew._crews.clear()


def trained(runs, folder, report=None, **options):
    lab = Lab(runs, reporter=report or Reporter(), dataset=folder, **{**ASKED, "devices": 2, **options})
    return lab.pretrain("simclr").stages[0]


def rows(stage):
    with open(f"{stage.checkpoint.removesuffix('backbone.safetensors')}metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def record(runs, stage):
    return json.loads((runs / "stages" / stage.key / "done.json").read_text())


def helper():
    (found,) = crew._crews.values()
    return found.helpers[1].process


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The store and the stage of two ranks that nobody disturbed."""
    runs = tmp_path_factory.mktemp("two") / "runs"
    return runs, trained(runs, folder)


def test_two_ranks_train_the_stage_that_one_trains(whole, folder, tmp_path):
    runs, stage = whole
    alone = trained(tmp_path, folder, devices=1)
    assert alone.key == stage.key
    assert record(runs, stage)["world"] == {"size": 2, "nodes": 1, "backend": "gloo"}
    assert "world" not in record(tmp_path, alone)
    # Rounding grows from step to step; that nothing else differs is seen in float64, in test_exact.py.
    ours, theirs = rows(stage), rows(alone)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    assert float(ours[0]["loss"]) == pytest.approx(float(theirs[0]["loss"]), rel=1e-5)


def test_a_rank_that_is_killed_is_started_again_and_no_byte_changes(whole, folder, tmp_path):
    runs, stage = whole
    report = At(5, lambda: os.kill(helper().pid, signal.SIGKILL))
    again = trained(tmp_path, folder, report, save_minutes=0.0)
    assert record(tmp_path, again)["weights_sha256"] == record(runs, stage)["weights_sha256"]
    assert [row["loss"] for row in rows(again)] == [row["loss"] for row in rows(stage)]
    said = [note for note in report.notes if "files ignored" not in note]  # tables of other tests
    assert said == ["rank 1 of 2: its process was killed by signal 9; simclr goes on from its last save"]


def test_a_signal_to_one_rank_stops_all_of_them_and_any_number_goes_on(whole, folder, tmp_path):
    _, stage = whole

    def stop():
        os.kill(helper().pid, signal.SIGTERM)

    with pytest.raises(Interrupted, match="of 12 of simclr") as stopped:
        trained(tmp_path, folder, At(4, stop))
    assert stopped.value.signal == signal.SIGTERM
    assert (tmp_path / "stages" / f"{stage.key}.part" / RESUME).is_file()
    alone = trained(tmp_path, folder, devices=1)  # goes on where two were
    assert record(tmp_path, alone)["steps"] == 12
    begun = next(step for step, row in enumerate(rows(alone)) if row["loss"] != rows(stage)[step]["loss"])
    assert 4 <= begun < 8  # until there, they are the rows of two ranks


def test_a_rank_that_dies_again_and_again_is_given_up(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "MOST_LOSSES", 1)
    with pytest.raises(TrainingError, match="killed by signal 9, 1 time"):
        trained(tmp_path, folder, At(2, lambda: os.kill(helper().pid, signal.SIGKILL)))


@pytest.mark.long
def test_a_learning_rate_that_is_stopped_early_ends_for_all_ranks(folder, tmp_path):
    settings = (*ASKED["settings"], "search.trials=6", "search.epochs=3")
    report = At()
    report.ended = []
    report.trial_ends = lambda number, lr, result: report.ended.append(result)
    stage = trained(tmp_path, folder, report, lr="search", lr_pruner="asha", settings=settings)
    assert "stopped early" in report.ended
    assert record(tmp_path, stage)["world"]["size"] == 2


def test_what_a_rank_cannot_do_is_said_by_the_first(whole, small_stage, tmp_path):
    (crew_of_two,) = crew._crews.values()
    order = Order(
        spec=to_dict(small_stage("rotation")),
        key="0" * 16,
        parent=str(tmp_path / "gone.safetensors"),
        runtime=Runtime(device="cpu", threads=1),
        backend="gloo",
    )
    with pytest.raises(CheckpointError, match=r"rank 1 of 2: .*gone.safetensors"), crew_of_two.stage(order) as world:
        world.sum(torch.ones(1))
    # A mistake of the program is shown with its traceback, and the next stage has another rank.
    order.spec = {}
    failed = pytest.raises(RuntimeError, match=r"(?s)rank 1 of 2 ended with code 1.*Traceback")
    with failed, crew_of_two.stage(order) as world:
        world.sum(torch.ones(1))
    order.spec, order.parent = to_dict(small_stage("rotation")), None
    with pytest.raises(ZeroDivisionError), crew_of_two.stage(order) as world:
        raise ZeroDivisionError  # of the first rank: the other hears of it, and waits for the next stage
    assert helper().poll() is None


def test_a_rank_that_cannot_begin_is_no_hang(monkeypatch):
    begin = crew.Spawned
    monkeypatch.setattr(crew, "Spawned", lambda module, words, **how: begin("this", [], **how))  # of no package
    own = OwnCrew(2, 1)
    for start in range(2):
        with pytest.raises(crew.RankLost), own.stage(Order(spec={})):
            raise AssertionError(start)
    with pytest.raises(TrainingError, match="rank 1 of 2 cannot begin: its process ended"), own.stage(Order(spec={})):
        raise AssertionError
    own.end()


def test_a_rank_that_hears_nothing_ends_whatever_it_waits_for(monkeypatch):
    said = []

    def end(self, reason):
        said.append(f"{self.name}: {reason}")
        threading.Event().wait()  # the thread does nothing any more

    monkeypatch.setattr(crew.Pulse, "_end", end)
    monkeypatch.setattr(crew, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(crew, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(crew, "PATIENCE", timedelta(seconds=0.4))
    store = HashStore()
    first = Pulse(store, 0, 2, [1])
    other = Pulse(store, 1, 2, [0])
    first.enter(0)
    other.enter(0)
    time.sleep(1.0)
    assert said == []  # they hear each other
    store.set("over 0", "")
    time.sleep(0.5)
    assert said == ["rank 1 of 2: it does not come out of a stage that others have left"]
    said.clear()
    store = HashStore()
    Pulse(store, 0, 2, [])  # knows the other process, which does not know it
    time.sleep(0.2)
    assert store.check(["pulse 0"])
    store = HashStore()
    alone = Pulse(store, 0, 2, [1])
    time.sleep(1.0)
    assert said == []  # it needs nobody
    alone.enter(1)
    time.sleep(1.0)
    assert said == ["rank 0 of 2: another rank is silent"]


def test_a_rank_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(crew, "PATIENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(crew, "ANSWER_SECONDS", 0.2)
    began = time.monotonic()
    with (
        pytest.raises(crew.SslcurrError, match="rank 1, 2 of 3 is gone"),
        crew.Crew(HashStore(), 3).stage(Order(spec={})),
    ):
        raise AssertionError
    assert time.monotonic() - began < 30


def test_too_small_a_batch_and_tasks_that_know_no_ranks_are_refused(small_stage):
    spec, two = small_stage("rotation"), Runtime(device="cpu", devices=2)
    check_ranks([spec], two)
    with pytest.raises(SpecError, match="rotation has 8 images in a step, too few for 3 ranks"):
        check_ranks([spec], Runtime(device="cpu", devices=3))

    class Mine(Rotation):
        name = "mine"

    TASKS["mine"] = Mine
    try:
        with pytest.raises(SpecError, match="mine does not say that several ranks may train it"):
            check_ranks([replace(spec, task="mine")], two)  # whatever the task says that it is made of
        Mine.over_ranks = True
        with pytest.raises(SpecError, match="mine is known to this process only"):
            check_ranks([replace(spec, task="mine")], two)
    finally:
        del TASKS["mine"]


@pytest.mark.parametrize("devices", [0, -1, "two", 1.5, "2"])
def test_numbers_of_devices_that_cannot_be(devices):
    with pytest.raises(SpecError, match="--devices must be"):
        Runtime(devices=devices)


def test_one_device_is_not_several():
    with pytest.raises(SpecError, match="--devices 2 is not for --device cuda:1"):
        Runtime(device="cuda:1", devices=2)


def test_the_place_of_a_process_of_torchrun(monkeypatch):
    assert launch_of(1, {}) is None
    assert launch_of(1, {**TORCHRUN, "WORLD_SIZE": "1"}) is None
    expected = Launch(devices=1, rank=1, size=4, local_rank=1, host="a", port=29500)
    assert launch_of(1, TORCHRUN) == expected
    with pytest.raises(SpecError, match="torchrun has started 4 ranks"):
        launch_of(2, TORCHRUN)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match="this process is rank 1 of 4"):
        crew.crew_of(Runtime())


def test_the_place_of_a_task_of_srun():
    found = launch_of("srun", SRUN)
    assert (found.rank, found.size, found.local_rank, found.host) == (5, 8, 1, "gpu07")
    assert found.port == launch_of("srun", {**SRUN, "SLURM_PROCID": "0"}).port
    assert found.port != launch_of("srun", {**SRUN, "SLURM_STEP_ID": "3"}).port
    assert launch_of("srun", {**SRUN, "MASTER_ADDR": "b", "MASTER_PORT": "7"}).host == "b"
    assert launch_of(1, SRUN) is None  # `srun sslcurr work` starts workers that have nothing to do with one another
    assert launch_of("srun", {**SRUN, "SLURM_STEP_NUM_TASKS": "1"}) is None
    with pytest.raises(SpecError, match="srun starts, and it has not"):
        launch_of("srun", {})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("login", "login"),
        ("a1,a2", "a1"),
        ("gpu[07-09,12],login", "gpu07"),
        ("n[3,5]", "n3"),
        ("rack[1-2]n,x", "rack1n"),
        ("c-1-[10-20]", "c-1-10"),
        ("node-3.cluster.org", "node-3.cluster.org"),
    ],
)
def test_the_first_machine_of_a_list(nodes, first):
    assert first_host(nodes) == first


def test_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(pool, "num_gpus", lambda device: 8)
    four = Runtime(devices=2)
    assert pool.num_workers(Pooling(jobs=4), four) == 4
    assert pool.num_workers(Pooling(jobs="auto"), four) == 4
    assert pool.num_workers(Pooling(jobs="auto"), Runtime(devices="all")) == 1
    assert pool.num_ranks(Runtime(devices="all")) == 8
    for pooling, runtime, message in (
        (Pooling(jobs=5), four, "5 jobs on 2 GPUs each want 10, and there are 8"),
        (Pooling(per_gpu=2), four, "--per-gpu is for stages that one GPU trains"),
        (Pooling(), Runtime(devices=9), "--devices 9 finds 8 GPUs"),
    ):
        with pytest.raises(SpecError, match=message):
            pool.num_workers(pooling, runtime)
    names = [str(number) for number in range(8)]
    assert [gpus_of(worker, 2, names) for worker in range(4)] == ["0,1", "2,3", "4,5", "6,7"]
    assert gpus_of(1, 2, []) == ""
    assert room([{"CPU": 16, "GPU": 8}, {"CPU": 3, "GPU": 8}], 1, 1, 4, gpus=True) == 2
    assert room([{"CPU": 16}], 2, 1, 4, gpus=False) == 2
    worker = Allocation(partition="gpu", num_workers=2, gpus_per_worker=8, devices=4).worker("runs")
    assert worker[-4:] == ["--devices", "4", "--jobs", "auto"]
    with pytest.raises(SpecError, match="--devices 4 needs as many GPUs in a job"):
        Allocation(partition="gpu", num_workers=2, devices=4)


def test_a_rank_has_the_gpu_of_its_number_or_the_only_one_it_sees(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device_of("nccl", 3) == "cuda:3"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of("nccl", 3) == "cuda:0"
    assert device_of("gloo", 3) == "cpu"
