"""Ranks that torchrun or srun starts, those of workers, and what becomes of all when one process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sslcurr.engine.store import RESUME
from tests import REPOSITORY
from tests.conftest import QUICK, SMALL
from tests.engine.test_fill import digests, is_alive, wait_for
from tests.ranks.test_exact import free_port

ASKED = ("simclr", *QUICK, "--epochs", "4", "--batch-size", "8", "--set", SMALL["simclr"][0], "--threads", "1")
LONG = (*ASKED, "--set", "simclr.epochs=400", "--save-minutes", "0.005")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "GLOO_SOCKET_IFNAME": "lo"}

pytestmark = pytest.mark.timeout(300)


def start(runs, *words, environment=ENVIRONMENT, launcher=()):
    command = [sys.executable, *launcher, "-m", "sslcurr", *words, "--runs", str(runs)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=runs.parent)


def nodes(runs, *words):
    """Two machines of one process each."""
    port = str(free_port())
    return [
        start(
            runs,
            *words,
            launcher=(
                *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node)),
                *("--master-addr", "127.0.0.1", "--master-port", port),
            ),
        )
        for node in range(2)
    ]


def ended(processes):
    said = [process.communicate(timeout=200) for process in processes]
    return [process.returncode for process in processes], said


def record(runs):
    (path,) = runs.glob("stages/*/done.json")
    return json.loads(path.read_text())


def children(pid):
    """Processes that a process has started, and those that these have."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [each for child in map(int, found) for each in (child, *children(child))]


def helpers():
    """Ranks that a command has started."""
    listed = subprocess.run(["pgrep", "-f", "sslcurr.engine.crew"], capture_output=True, text=True, check=False).stdout
    return set(map(int, listed.split()))


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """The store of two ranks of one machine that nobody disturbed."""
    runs = tmp_path_factory.mktemp("alone") / "runs"
    codes, said = ended([start(runs, "chain", *ASKED, "--dataset", str(folder), "--devices", "2")])
    assert codes == [0], said
    return runs


@pytest.mark.long
def test_two_machines_train_a_chain_as_one_does(folder, alone, tmp_path):
    runs = tmp_path / "runs"
    codes, said = ended(nodes(runs, "chain", *ASKED, "--dataset", str(folder), "--json"))
    assert codes == [0, 0], said
    documents = [out for out, _ in said if out]
    assert len(documents) == 1  # one rank speaks
    assert [each["task"] for each in json.loads(documents[0])["stages"]] == ["simclr", "classification"]
    assert digests(runs) == digests(alone)
    worlds = [json.loads(path.read_text())["world"] for path in runs.glob("stages/*/done.json")]
    assert worlds == [{"size": 2, "nodes": 1, "backend": "gloo"}] * 2  # of one name
    # All is there: the ranks are sent home without a stage.
    codes, said = ended(nodes(runs, "chain", *ASKED, "--dataset", str(folder)))
    assert codes == [0, 0], said
    # A mistake is said once, and ends them all.
    codes, said = ended(nodes(runs, "chain", "nothing", "--dataset", str(folder)))
    assert codes == [1, 0]
    assert sum(error.count("unknown task") for _, error in said) == 1


@pytest.mark.long
def test_tasks_of_srun_train_together(folder, alone, tmp_path):
    runs = tmp_path / "runs"
    port = str(free_port())
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": "17",
        "MASTER_PORT": port,
    }
    tasks = [
        start(
            runs,
            *("chain", *ASKED, "--dataset", str(folder), "--devices", "srun"),
            environment={**ENVIRONMENT, **slurm, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in (1, 0)
    ]
    codes, said = ended(tasks)
    assert codes == [0, 0], said
    assert said[0] == ("", "")
    assert digests(runs) == digests(alone)


@pytest.mark.long
def test_a_machine_that_dies_is_no_hang_and_the_same_command_goes_on(folder, tmp_path):
    runs = tmp_path / "runs"
    both = nodes(runs, "pretrain", *LONG, "--dataset", str(folder))
    wait_for(lambda: list(runs.glob(f"stages/*/{RESUME}")), both[0])
    (rank,) = children(both[1].pid)
    os.kill(rank, signal.SIGKILL)
    began = time.monotonic()
    codes, said = ended(both)
    assert time.monotonic() - began < 60
    assert all(codes)
    assert "rank 1 of 2 is gone" in said[0][1]
    assert "run the same command again" in said[0][1]
    short = [word.replace("epochs=400", "epochs=4") for word in LONG]
    again = tmp_path / "again"
    codes, said = ended(nodes(again, "pretrain", *short, "--dataset", str(folder)))
    assert codes == [0, 0], said


@pytest.mark.long
def test_a_signal_to_one_machine_saves_and_ends_both(folder, tmp_path):
    runs = tmp_path / "runs"
    both = nodes(runs, "pretrain", *LONG, "--dataset", str(folder))
    wait_for(lambda: list(runs.glob(f"stages/*/{RESUME}")), both[0])
    (rank,) = children(both[1].pid)
    os.kill(rank, signal.SIGTERM)
    codes, said = ended(both)
    assert any(codes)
    assert "stopped: stopped at step" in said[0][1]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_ends_leaves_no_rank_and_goes_on_to_the_same_bytes(folder, tmp_path, number):
    words = ("pretrain", *ASKED, "--set", "simclr.epochs=20", "--save-minutes", "0.005")
    words = (*words, "--dataset", str(folder), "--devices", "2")
    before, runs = helpers(), tmp_path / "runs"
    process = start(runs, *words)
    wait_for(lambda: list(runs.glob(f"stages/*/{RESUME}")), process)
    others = helpers() - before
    assert len(others) == 1
    process.send_signal(number)
    codes, said = ended([process])
    assert codes == [-signal.SIGKILL if number == signal.SIGKILL else 130], said
    deadline = time.monotonic() + 20
    while any(map(is_alive, others)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, others))
    codes, said = ended([start(runs, *words)])
    assert codes == [0], said
    whole = tmp_path / "whole"
    codes, said = ended([start(whole, *words)])
    assert codes == [0], said
    assert digests(runs) == digests(whole)


@pytest.mark.long
def test_workers_have_ranks_of_their_own(folder, tmp_path):
    words = ("rank", "rotation", "simclr", "--seeds", "1", *QUICK, "--set", SMALL["simclr"][0], "--threads", "1")
    words = (*words, "--dataset", str(folder), "--devices", "2")
    one, two = tmp_path / "one", tmp_path / "two"
    first, second = start(one, *words), start(two, *words, "--jobs", "2")
    codes, said = ended([first, second])
    assert codes == [0, 0], said
    assert digests(two) == digests(one)
    records = [json.loads(path.read_text()) for path in two.glob("stages/*/done.json")]
    assert {each["world"]["size"] for each in records} == {2}
    assert {each["threads"] for each in records} == {1}
