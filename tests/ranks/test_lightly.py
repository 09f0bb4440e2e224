"""The losses that lightly has too, over two ranks: all of ours are those of one process, and some of lightly's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import REPOSITORY
from tests.ranks.test_exact import free_port

CLOSE = 1e-12


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path, port = tmp_path_factory.mktemp("peers") / "found.json", str(free_port())
    command = [sys.executable, "-m", "tests.ranks.peers"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    both = [
        subprocess.Popen([*command, str(rank), port, str(path)], stderr=subprocess.PIPE, text=True, env=environment)
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[1] for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], said
    return json.loads(path.read_text())


@pytest.mark.long
@pytest.mark.parametrize("name", ["NT-Xent", "Barlow Twins", "VICReg", "negative cosine"])
def test_ours_are_those_of_one_process(found, name):
    for which in (f"sslcurr {name}", f"sslcurr {name} uneven"):
        assert max(found.get(which, {"loss": 0.0}).values()) < CLOSE, which


@pytest.mark.long
@pytest.mark.parametrize("name", ["NT-Xent", "VICReg", "negative cosine"])
def test_these_of_lightly_are_right_for_equal_shares(found, name):
    # NT-Xent since https://github.com/lightly-ai/lightly/issues/1528 was mended.
    assert max(found[f"lightly {name}"].values()) < CLOSE


@pytest.mark.long
def test_barlow_twins_of_lightly_is_another_loss_over_ranks(found):
    # Each rank standardises its own rows before the correlations are summed. The gradient of that sum was wrong before
    # https://github.com/lightly-ai/lightly/issues/1977, and is that of the other loss now.
    assert found["lightly Barlow Twins"]["loss"] > 0.01
    assert found["lightly Barlow Twins"]["gradient"] > 0.1


@pytest.mark.long
def test_the_centre_of_lightly_is_right_for_equal_shares_only(found):
    assert found["lightly center"] < CLOSE
    assert found["lightly center uneven"] > 1e-3  # a mean of means
