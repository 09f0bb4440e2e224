"""All checks on one task."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import SkipTest

import torch

from sslcurr.tasks import TASKS
from sslcurr.tasks.base import Task
from sslcurr.testing.checks import CHECKS
from sslcurr.testing.subject import subject_of


def check_task(
    task: str | type[Task],
    *,
    settings: Sequence[str] = (),
    golden: Path | None = None,
    checks: Iterable[str] | None = None,
    device: str = "cpu",
) -> None:
    """Run all checks, or those that are named, on a task of any package; those that cannot be made here are left out.

    Args:
        task: its name, as in `package/name`, or its class, which then need not be installed.
        settings: settings that make it small, such as `["hidden=32"]`, where its recipe for 40 images is not.
        golden: the file with the loss curve of this version; SSLCURR_WRITE_GOLDEN=1 in the environment writes it.
        checks: names from `CHECKS`.
        device: as `--device`.

    Raises:
        AssertionError: something that must hold does not; the message says what, its note which check it was.
    """
    with ExitStack() as stack:
        name = task if isinstance(task, str) else stack.enter_context(_registered(task))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sslcurr-check-")))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        subject = subject_of(name, root, settings=settings, golden=golden, device=device)
        for number, each in enumerate(CHECKS if checks is None else checks):
            folder = root / f"check-{number}"
            folder.mkdir()
            try:
                CHECKS[each](replace(subject, folder=folder))
            except SkipTest:
                continue
            except AssertionError as error:
                error.add_note(f"check of {name}: {each.replace('_', ' ')}")
                error.add_note(f"what must hold: {' '.join((CHECKS[each].__doc__ or '').split())}")
                raise


@contextmanager
def _registered(kind: type[Task]) -> Iterator[str]:
    """The name of a class, which it has in the table of tasks meanwhile."""
    name = kind.name
    before = TASKS.get(name)
    TASKS[name] = kind
    try:
        yield name
    finally:
        if before is None:
            del TASKS[name]
        else:
            TASKS[name] = before
