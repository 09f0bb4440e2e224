"""`sslcurr report`: all that a store holds on one page, and its tables for papers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import JsonOption, RunsOption
from sslcurr.cli.options import MachineOptions
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError


class TableName(StrEnum):
    """A table that can be printed."""

    rank = "rank"
    orderings = "orderings"
    variants = "variants"
    agreement = "agreement"
    rates = "rates"
    search = "search"
    components = "components"
    predictors = "predictors"
    models = "models"
    insertions = "insertions"
    grid = "grid"
    cka = "cka"
    fid = "fid"
    probe = "probe"
    attend = "attend"
    train = "train"
    stages = "stages"


class TableFormat(StrEnum):
    """How a table is written."""

    md = "md"
    latex = "latex"
    csv = "csv"


def report(
    runs: RunsOption = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The HTML page. Default: report.html.", show_default=False)
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="NAME", help="Only this run. May be repeated. Default: all runs."),
    ] = None,
    table: Annotated[
        TableName | None,
        typer.Option(
            "--table",
            metavar="TABLE",
            help=f"Print one table instead: {', '.join(TableName)}. Of the newest run that has it, or of --run.",
        ),
    ] = None,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Format of --table. Default: md. csv has all values, not rounded."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the contents of a store as one page: rankings, tests, curves, figures, commands.

    The page needs no network, no server and no other files.
    With --json the document is printed. The page is then only written with --out.
    """
    if form is not None and table is None:
        raise SpecError("--format is for --table", "say which table: --table rank")
    if table is not None and (out is not None or json):
        raise SpecError("--table prints a table on stdout", f"leave out --{'out' if out else 'json'}, or add > FILE")
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        if table is not None:
            print(lab.table_text(table.value, names or (), form=(form or TableFormat.md).value), end="")
            return
        document = lab.report(names or (), out=out if out is not None or json else Path("report.html"))
        show_document(document, options)
