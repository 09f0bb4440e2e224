"""The conformance suite over every task of the table: a line there subjects a new task to it, without exceptions."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import pytest

from sslcurr.tasks import BUILTIN_TASKS, PRETEXT, task_class
from sslcurr.testing import CHECKS, Subject, check_learns
from tests import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden"


@pytest.mark.parametrize("task", sorted(BUILTIN_TASKS))
@pytest.mark.parametrize("check", CHECKS)
def test_every_task_passes_every_check(check, task, small_stage, tmp_path):
    golden = GOLDEN / f"{task}-v{task_class(task).version}.json"
    CHECKS[check](Subject(task, partial(small_stage, task), tmp_path, golden))


def test_it_learns_in_an_epoch():
    check_learns("mocov2", epochs=1)


@pytest.mark.long
@pytest.mark.parametrize("task", PRETEXT)
def test_it_learns(task):
    check_learns(task)


def test_no_check_leaves_something_out_here():
    assert find_spec("tensorboard") is not None
