"""A kill between two saves, in this process."""

from __future__ import annotations

from typing import Any

import pytest

from sslcurr.testing.checks import killed_at


def kill_at(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, call: int) -> None:
    """Raise KeyboardInterrupt at the n-th call of `target.name`."""
    monkeypatch.setattr(target, name, killed_at(getattr(target, name), call))
