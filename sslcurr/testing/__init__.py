"""What must hold of every task, as checks that its own package can run: in a test, `check_task("package/name")`.

Names are imported when they are used: torch comes with the first of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslcurr.testing.checks import CHECKS
    from sslcurr.testing.learning import check_learns
    from sslcurr.testing.subject import Subject, subject_of
    from sslcurr.testing.suite import check_task

__all__ = ["CHECKS", "Subject", "check_learns", "check_task", "subject_of"]

_HOMES = {
    "CHECKS": "checks",
    "Subject": "subject",
    "check_learns": "learning",
    "check_task": "suite",
    "subject_of": "subject",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
