"""Stores as earlier versions left them, without seals and hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sslcurr.data.blocks import BLOCKS
from sslcurr.integrity import HASHES


def without_hashes(folder: Path) -> None:
    """Make a folder one of a version that listed no hashes of its files."""
    for name in (HASHES, BLOCKS):
        (folder / name).unlink(missing_ok=True)


def write_unsealed(path: Path, plain: dict[str, Any]) -> None:
    """Write a record as versions without seals did, in a folder without hashes."""
    without_hashes(path.parent)
    path.write_text(json.dumps({name: value for name, value in plain.items() if name != "seal"}))
