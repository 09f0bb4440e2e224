"""What commands print on stdout: tables for a person, one JSON document for a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.cli.terminal import print_line, print_path, print_table

if TYPE_CHECKING:
    from sslcurr.analysis.results.document import Document

# Names of files that are printed at most.
MOST_FILES = 6


def show(document: Document, *, as_json: bool, files: Sequence[Path] | None = None) -> None:
    """Print a document.

    Args:
        document: what a command found.
        as_json: as one JSON document; `files` come last in it.
        files: those that were drawn; None for a command that draws nothing.
    """
    if as_json:
        paths = {} if files is None else {"files": [str(path) for path in files]}
        print_json({**document.to_json(), **paths})
        return
    for table in document.tables():
        if not table.detail:
            print_table(table)
    for line in document.closing_lines():
        print_path(line)
    if files:
        names = list(dict.fromkeys(path.name for path in files))
        more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
        print_line(f"written to {files[0].parent}: {', '.join(names[:MOST_FILES])}{more}")


def print_json(plain: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(plain, indent=2, allow_nan=False))
