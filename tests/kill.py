"""A kill between two saves, in this process."""

from __future__ import annotations

from typing import Any

import pytest


def kill_at(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, call: int) -> None:
    """Raise KeyboardInterrupt at the n-th call of `target.name`, as a kill between two saves would end a process."""
    real, calls = getattr(target, name), []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(target, name, wrapped)
