"""The number of CPU threads: in force, recorded, and no part of a key."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import sslcurr as library
from sslcurr.engine.threads import VARIABLES, use_threads
from tests.conftest import QUICK, Command


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Other tests compute with as many threads as before."""
    for name in VARIABLES:
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    number = torch.get_num_threads()
    with threadpool_limits(1):
        yield
    torch.set_num_threads(number)


@pytest.fixture
def quick(folder):
    return ("--dataset", str(folder), *QUICK)


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_threads_are_recorded_and_no_part_of_the_key_and_equal_ones_give_equal_bits(tmp_path, quick):
    found = {}
    for name, threads in (("a", "1"), ("b", "1"), ("c", "2")):
        command = Command(tmp_path / name)
        key = command.json("pretrain", "rotation", "--device", "cpu", "--threads", threads, *quick)["stages"][0]["key"]
        happened = command.json("runs", "show", key)["happened"]
        assert happened["threads"] == int(threads)
        found[name] = (key, happened["weights_sha256"])
    assert found["a"] == found["b"]
    assert found["a"][0] == found["c"][0]
    again = Command(tmp_path / "a").json("pretrain", "rotation", *quick)["stages"][0]
    assert (again["key"], again["reused"]) == (found["a"][0], True)


def test_a_probe_computes_with_so_many_threads(sslcurr, quick, monkeypatch):
    from sslcurr.analysis.evaluation import scores

    seen = []
    real = scores.probe_linear
    monkeypatch.setattr(scores, "probe_linear", lambda *a, **k: seen.append(blas_threads()) or real(*a, **k))
    data = [*quick[:2], "--image-size", "16"]
    sslcurr.json("probe", "random:test_resnet", "--stem", "imagenet", "--threads", "2", *data)
    assert seen
    assert all(numbers == {2} for numbers in seen)
    assert torch.get_num_threads() == 2
    assert {os.environ[name] for name in VARIABLES} == {"2"}


def test_zero_changes_nothing_and_a_negative_number_is_refused(tmp_path, sslcurr):
    use_threads(2)
    use_threads(0)
    assert torch.get_num_threads() == 2
    for wrong in (-1, 1.5):
        with pytest.raises(library.SpecError, match="no number of threads") as caught:
            library.Lab(tmp_path, threads=wrong).plan_pretrain("rotation")
        assert "--threads 1 or more" in caught.value.hint
    assert sslcurr("pretrain", "rotation", "--threads", "-1").exit_code == 2


def test_the_command_of_a_ranking_has_the_threads(tmp_path):
    from sslcurr.api.orderings import command_of

    session, _ = library.Lab(tmp_path, threads=2)._call(dict, {})
    assert "--threads 2" in command_of(session, ["rotation"], None)
    session, _ = library.Lab(tmp_path)._call(dict, {})
    assert "--threads" not in command_of(session, ["rotation"], None)


def test_a_store_is_read_without_torch_whatever_the_threads(tmp_path):
    code = (
        "import sys, sslcurr\n"
        f"sslcurr.Lab({str(tmp_path)!r}, threads=2).runs()\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
