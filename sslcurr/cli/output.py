"""What commands print on stdout: tables for a person, one JSON document for a script."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sslcurr.cli.options import DrawingOptions, MachineOptions
from sslcurr.cli.terminal import print_line, print_path, print_table

if TYPE_CHECKING:
    from sslcurr.analysis.results.document import Document

# Names of files that are printed at most.
MOST_FILES = 6


# The exit code of a command of which a part failed.
FAILED = 3


def show_document(document: Document, options: MachineOptions) -> None:
    """Print a document as tables, or as one JSON document where `options` say so; files that were drawn are named, and
    at a terminal what may come next.

    Raises:
        typer.Exit: chains of it failed.
    """
    files = options.reporter.files
    if options.json:
        plain = document.to_json()
        if isinstance(options, DrawingOptions) and options.draws:
            # `schema` and `invocation` come last.
            plain = {**plain, "files": [str(path) for path in files]}
            plain |= {name: plain.pop(name) for name in ("schema", "invocation")}
        print_json(plain)
    else:
        print_document(document, files)
        if sys.stdout.isatty() and (commands := document.next_commands()):
            runs = "" if options.runs == Path("runs") else f" --runs {shlex.quote(str(options.runs))}"
            print_path("next: " + "; ".join(f"{command}{runs}" for command in commands))
    if getattr(document, "failed", None):
        raise typer.Exit(FAILED)


def print_document(document: Document, files: Sequence[Path] = ()) -> None:
    """The tables of a document, what comes below them, and where files were written."""
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
