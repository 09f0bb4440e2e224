"""`sslcurr run FILE`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.program import read


def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file, with a part [[run]] for each command.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, and print the command lines.")] = False,
) -> None:
    """Run the commands of an experiment file, one after the other.

    All of the file is checked before the first command begins.
    Run it again to go on after an interruption.
    Any command writes its part of such a file with --print-toml.

    Examples:

        sslcurr chain mocov2 rotation --seed 1 --print-toml > experiment.toml
        sslcurr run experiment.toml --dry-run
    """
    root = context.find_root()
    planned = read(file, root.command)
    for each in planned:
        shown = shlex.join(["sslcurr", *each.arguments])
        if dry_run:
            print(shown)
            continue
        print(f"{file}, line {each.line}: {shown}", file=sys.stderr, flush=True)
        before = sys.argv
        sys.argv = [before[0], *each.arguments]
        try:
            code = root.command.main(each.arguments, prog_name="sslcurr", standalone_mode=False)
        finally:
            sys.argv = before
        if isinstance(code, int) and code:
            raise typer.Exit(code)
