"""Workers as jobs of submitit: how they end, how they are told to end, and what SLURM is asked for."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import submitit

from sslcurr.engine.pools import slurm
from sslcurr.engine.pools.slurm import Allocation, Worker
from sslcurr.errors import SpecError, TrainingError

# A stand-in for `sslcurr work`: notes each SIGTERM, as a stage that is saved, and ends with 143.
SAVES = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def save(number, frame):
    with open(folder / "saved", "a") as file:
        file.write("saved\\n")
    {at_signal}
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
{begin}
(folder / "ready").touch()
time.sleep(60)
"""
TO_PARENT = "os.kill(os.getppid(), signal.{})".format


def worker(folder, begin="", at_signal="pass"):
    return Worker([sys.executable, "-S", "-c", SAVES.format(begin=begin, at_signal=at_signal), str(folder)])


@pytest.fixture(autouse=True)
def _handlers():
    """A job's process has handlers of its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def times_saved(folder):
    return (folder / "saved").read_text().count("saved")


def test_the_end_of_a_worker_is_that_of_its_job():
    assert Worker([sys.executable, "-S", "-c", ""])() is None
    with pytest.raises(TrainingError, match="the worker ended with exit code 3"):
        Worker([sys.executable, "-S", "-c", "raise SystemExit(3)"])()


def test_at_the_warning_a_worker_saves_and_is_queued_again(tmp_path):
    """The warning itself, which SLURM may send to all processes of a step, does not end the worker."""
    job = worker(tmp_path, begin="os.kill(os.getpid(), signal.SIGUSR2)\n" + TO_PARENT("SIGUSR2"))
    queued = []

    def warned(number, frame):
        queued.append(job.checkpoint())
        assert times_saved(tmp_path) == 1
        raise SystemExit(255)  # as submitit does

    signal.signal(signal.SIGUSR2, warned)
    with pytest.raises(SystemExit):
        job()
    (again,) = queued
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is not job
    assert pickle.loads(pickle.dumps(again.function)).command == job.command
    assert times_saved(tmp_path) == 1


@pytest.mark.parametrize("warning", [False, True])
def test_sigterm_is_handed_on_once_and_the_job_waits_for_slurm(tmp_path, monkeypatch, warning):
    """A second SIGTERM would stop a stage without a save; the warning may follow while it is saved."""
    told = []
    monkeypatch.setattr(slurm, "ENDING_SECONDS", 0)
    signal.signal(signal.SIGUSR2, lambda *_: told.append(job.checkpoint()))
    job = worker(
        tmp_path,
        begin=TO_PARENT("SIGTERM"),
        at_signal=TO_PARENT("SIGUSR2") + "; time.sleep(0.2)" if warning else "pass",
    )
    with pytest.raises(SystemExit) as end:
        job()
    assert end.value.code == 143
    assert times_saved(tmp_path) == 1
    assert len(told) == warning


def test_a_worker_that_is_told_to_end_before_it_can_save_is_no_failure(monkeypatch):
    monkeypatch.setattr(slurm, "ENDING_SECONDS", 0)
    with pytest.raises(SystemExit) as end:
        Worker([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 15)"])()
    assert end.value.code == 143


def test_a_warning_before_the_worker_has_begun_only_queues_it_again():
    assert Worker(["sslcurr"]).checkpoint().function.command == ("sslcurr",)


def test_workers_end_are_queued_again_and_cancelled_as_jobs(tmp_path):
    """By submitit's executor for one machine: two that end, one that is warned, one that is cancelled."""
    folders = [tmp_path / name for name in ("first", "second", "warned", "cancelled")]
    for folder in folders:
        folder.mkdir()
    ends = "(folder / 'done').touch(); sys.exit(0)"
    once = f"if (folder / 'saved').exists(): {ends}\n" + TO_PARENT("SIGUSR2")
    begins = [ends, ends, once, ""]
    executor = submitit.LocalExecutor(tmp_path / "logs")
    executor._throttling = 0
    jobs = executor.submit_array([worker(folder, begin=begin) for folder, begin in zip(folders, begins, strict=True)])
    *others, cancelled = jobs
    deadline = time.monotonic() + 60
    while not (folders[3] / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    cancelled.cancel()
    for job in jobs:
        job._process.wait(60)
    assert [job.exception() for job in others] == [None] * 3
    assert [(folder / "done").exists() for folder in folders] == [True, True, True, False]
    assert [times_saved(folder) for folder in folders[2:]] == [1, 1]


# ---- what SLURM is asked for


def test_the_script_has_the_directives(tmp_path):
    everything = Allocation(
        partition="gpu",
        num_workers=8,
        cpus_per_worker=6,
        memory=1.5,
        time=90,
        account="lab one",
        qos="low",
        constraint="a100",
        setup=("module load cuda", "export A=1"),
    )
    text = slurm.script(everything, tmp_path)
    directives = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert directives == {
        *("partition=gpu", "array=0-7%8", "nodes=1", "ntasks-per-node=1", "gpus-per-node=1", "cpus-per-task=6"),
        *("mem=1536M", "time=90", "account='lab one'", "qos=low", "constraint=a100", "job-name=sslcurr"),
        *("signal=USR2@120", "requeue", "open-mode=append", f"output={tmp_path}/%A_%a_0_log.out"),
    }
    assert text.index("module load cuda\nexport A=1\n") < text.index("\nsrun ")
    assert " --cpus-per-task 6 " in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    alone = slurm.script(Allocation(partition="cpu", num_workers=1, gpus_per_worker=0), tmp_path)
    assert not any(word in alone for word in ("--array", "--gpus", "--mem", "--account", "--qos", "--constraint"))


def test_the_worker_of_an_allocation(tmp_path):
    gpu = Allocation(partition="gpu", num_workers=8, cpus_per_worker=6)
    words = ["-m", "sslcurr", "work", "--runs", str(tmp_path), "--until-idle", "--threads", "6"]
    assert gpu.worker(tmp_path) == [sys.executable, *words]
    several = dataclasses.replace(gpu, gpus_per_worker=2)
    assert several.worker(tmp_path) == [sys.executable, *words[:-1], "3", "--jobs", "auto"]
    cpu = Allocation(partition="cpu", num_workers=8, gpus_per_worker=0, cpus_per_worker=6)
    assert cpu.worker(tmp_path) == [sys.executable, *words, "--device", "cpu"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_workers": 0}, "--workers must be at least 1, got 0"),
        ({"gpus_per_worker": -1}, "--gpus-per-worker must be at least 0, got -1"),
        ({"cpus_per_worker": 0}, "--cpus-per-worker must be at least 1, got 0"),
        ({"time": 5}, "--time must be at least 10, got 5"),
        ({"memory": 0.0}, "--memory must be above 0, got 0"),
        ({"memory": float("nan")}, "--memory must be a finite number, got nan"),
        ({"setup": "module load cuda"}, "lines of the set-up are several"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(values, message):
    with pytest.raises(SpecError, match=message):
        Allocation(**{"partition": "gpu", "num_workers": 8, **values})


def test_without_slurm_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda program: None if program == "srun" else f"/bin/{program}")
    with pytest.raises(SpecError, match="no SLURM on this machine: srun is not found"):
        slurm.submit(["true"], Allocation(partition="gpu", num_workers=2), tmp_path)
    assert os.listdir(tmp_path) == []
