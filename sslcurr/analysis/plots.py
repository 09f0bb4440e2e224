"""From what commands found to charts: one function for each kind of document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslcurr.engine.store import Stage


@dataclass(frozen=True)
class Figure:
    """A chart that was drawn.

    Attributes:
        base: its path without suffix; `base`.png and `base`.svg, as far as they were asked for, lie there.
        title: what it shows, in a line of plain text.
    """

    base: Path
    title: str


def draw(
    kind: str, document: Mapping[str, Any], folder: Path, *, formats: Sequence[str] = ("png", "svg")
) -> list[Figure]:
    """Draw what a command found into `folder`.

    Args:
        kind: of the document: train, rank, search, grid, cka, fid, probe or attend.
        document: as the command prints it with `--json` (docs/commands.md).
        folder: an existing folder.
        formats: png, svg or both.
    """
    return []


def draw_stages(stages: Mapping[str, Stage], folder: Path, *, formats: Sequence[str] = ("png", "svg")) -> list[Figure]:
    """Draw the curves of finished stages, title -> stage, from their logs; and their searches for a learning rate."""
    return []
