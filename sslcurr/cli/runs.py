"""`sslcurr runs`: what the store holds, and how to make room in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import output
from sslcurr.cli.choices import JsonOption, RunsOption
from sslcurr.cli.options import DrawingOptions, MachineOptions
from sslcurr.cli.program import Program
from sslcurr.cli.terminal import print_path, watch
from sslcurr.errors import StoreError

app = Program(invoke_without_command=True, help="List, show and remove the contents of the store.")


@app.callback()
def list_runs(
    ctx: typer.Context,
    runs: RunsOption = Path("runs"),
    stages: Annotated[bool, typer.Option("--stages", help="List stages instead of runs.")] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Show what all processes are at, on any machine, until Ctrl-C. Once with --json, or in a pipe.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the runs (commands) of a store, or its stages."""
    if ctx.invoked_subcommand is None:
        options = MachineOptions(runs=runs, json=json)
        with options.lab() as lab:
            if live:
                looks = lab.looks()
                if json or not sys.stdout.isatty():
                    output.show_document(next(looks), options)
                else:
                    watch(looks)
            else:
                output.show_document(lab.stages() if stages else lab.runs(), options)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN|KEY", help="A run, or the beginning of a stage's key.")],
    runs: RunsOption = Path("runs"),
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FOLDER", help="Draw the results of the run, or the curves of the stage, in this folder."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a run or a stage in full."""
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        output.show_document(lab.show(name), options)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run: its number, its name, last, last~1.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another one.")],
    runs: RunsOption = Path("runs"),
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FOLDER", help="Write the tables and the document to this folder.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show two runs, one beside the other: settings that differ, and results with their paired differences."""
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        output.show_document(lab.compare(first, second), options)


@app.command("export")
def export_run(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run: its number, its name, last, last~1.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write, such as run.zip.")],
    packs: Annotated[bool, typer.Option("--packs", help="With the packed images.")] = False,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Write a run into one file, to hand to a colleague: records, weights, reports.

    A stage that is not finished goes with its last save, so that it goes on elsewhere.
    """
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        output.show_document(lab.export_run(name, out=out, packs=packs), options)


@app.command("import")
def import_run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that sslcurr runs export wrote.")],
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Take a run from a file into the store. Every file is verified by its hash first."""
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        output.show_document(lab.import_run(file), options)


@app.command()
def check(
    runs: RunsOption = Path("runs"),
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged or left over, so that it can be made again.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Hold all of the store against what was written.

    Shows what is damaged, missing, half-written or left over, and the commands that make it again. The exit code is 3
    where something is damaged or missing.
    """
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        document = lab.check_runs(repair=repair)
        output.show_document(document, options)
    if document.num_faults:
        raise typer.Exit(3)


@app.command()
def remove(
    names: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Runs to forget.")] = None,
    runs: RunsOption = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Forget RUNS, then remove the stages, analyses and packs that no run needs.

    Without RUNS, no run is forgotten.
    """
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        unneeded = lab.remove(names or (), dry_run=True)
        if not json:
            for path, size in unneeded.removed.items():
                print_path(f"{size / 2**20:10.1f} MiB  {path}")
        if not dry_run and (unneeded.removed or unneeded.forgotten):
            _confirm(len(unneeded.removed), len(unneeded.forgotten), yes=yes)
            unneeded = lab.remove(names or ())
        output.show_document(unneeded if dry_run else unneeded.done(), options)


def _confirm(num_entries: int, num_runs: int, *, yes: bool) -> None:
    """Ask for confirmation, unless `yes` is set.

    Raises:
        StoreError: stdin is not a terminal, so nobody can be asked.
    """
    if not yes and not sys.stdin.isatty():
        raise StoreError("removing needs confirmation", "add --yes, or --dry-run to see what would be removed")
    if not yes and not typer.confirm(f"remove {num_entries} entries and forget {num_runs} runs?"):
        raise typer.Exit(1)
