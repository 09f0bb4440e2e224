"""`sslcurr report`: all that a store holds on one page, and its tables for papers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
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
        typer.Option(
            "--run",
            metavar="RUN",
            help="Only this run: last, its name or its number. May be repeated. Default: all runs.",
            autocompletion=completion.runs,
        ),
    ] = None,
    table: Annotated[
        TableName | None,
        typer.Option(
            "--table",
            metavar="TABLE",
            help="Print one table in place of the page, of the newest run that has it or of --run: "
            f"{', '.join(TableName)}.",
        ),
    ] = None,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Format of --table. csv: all values, not rounded. Default: md."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write one HTML page of all results, or a table for a paper.

    The page has rankings, tests, curves, figures, and the commands that made them.
    It needs no network, no server and no other files.
    With --json it is only written if --out is given, too.

    Examples:

        sslcurr report
        sslcurr report --run last --out last.html
        sslcurr report --table rank --format latex
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
