"""`sslcurr report`: all that a store holds on one page, and its tables for papers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import Json, Runs
from sslcurr.errors import SpecError, StoreError


class TableName(StrEnum):
    """A table that can be printed."""

    rank = "rank"
    orderings = "orderings"
    search = "search"
    grid = "grid"
    cka = "cka"
    fid = "fid"
    probe = "probe"
    attend = "attend"
    train = "train"
    stages = "stages"


class Format(StrEnum):
    """How a table is written."""

    md = "md"
    latex = "latex"
    csv = "csv"


def report(
    runs: Runs = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page, HTML. Default: report.html.", show_default=False)
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="NAME", help="Only this run; may be repeated. Default: all of the store."),
    ] = None,
    table: Annotated[
        TableName | None,
        typer.Option("--table", help="Print one table instead, of the newest run that has it or of --run."),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Of --table. Default: md. csv holds all values, not rounded.")
    ] = None,
    json: Json = False,
) -> None:
    """Write what a store holds as one page: rankings, tests, curves, figures, and the commands that make them again.

    The page needs nothing else: no network, no server, no other files. With --json the document that it is made of is
    printed, and the page is only written where --out says so.
    """
    from sslcurr.analysis.report import gather, tables
    from sslcurr.analysis.report import page as reports
    from sslcurr.analysis.results.formats import render
    from sslcurr.analysis.results.kinds import TABLE_NAMES
    from sslcurr.cli.options import check_writable
    from sslcurr.cli.output import print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.store import Store
    from sslcurr.files import write_whole
    from sslcurr.wording import counted

    if form is not None and table is None:
        raise SpecError("--format is for --table", "say which table: --table rank")
    if table is not None and (out is not None or json):
        raise SpecError("--table prints a table on stdout", f"leave out --{'out' if out else 'json'}, or add > FILE")
    if table is not None and table is not TableName.stages and len(names or []) > 1:
        raise SpecError(f"--table {table.value} is of one run, and {len(names or [])} are named", "give one --run")
    page_path = out or Path("report.html")
    if table is None and (out is not None or not json):
        check_writable(page_path)
    if not runs.is_dir():
        raise StoreError(f"there is no store at {runs}", "give --runs FOLDER, or train something first")
    store = Store(runs)  # only read, so that it need not be writable
    document = gather.gather(store, names or [])
    if table is not None:
        found, command = tables.printed_table(document, table.value, TABLE_NAMES[table.value])
        print(render(found, (form or Format.md).value, command), end="")
        return
    if out is not None or not json:
        with reporting() as progress:
            page = reports.page(document, store)
            write_whole(page_path, page.html.encode())
            if page.left_out:
                progress.note(f"{counted(len(page.left_out), 'figure')} left out, so that the page stays small")
        if not json:
            size, shown = page_path.stat().st_size / 1e6, counted(page.num_figures, "figure")
            print(f"{page_path}: {size:.2f} MB, {counted(len(document['runs']), 'run')}, {shown}")
    if json:
        print_json(document | {"page": str(page_path) if out is not None else None})
