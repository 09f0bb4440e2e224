"""`sslcurr runs`: what the store holds, and how to make room in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion, output
from sslcurr.cli.choices import JsonOption, RunsOption
from sslcurr.cli.help import MACHINE
from sslcurr.cli.options import DrawingOptions, MachineOptions
from sslcurr.cli.program import Program
from sslcurr.cli.terminal import print_path, watch
from sslcurr.errors import StoreError

app = Program(invoke_without_command=True)
RUN = "A run: last, last~1, its name or its number."


@app.callback()
def list_runs(
    ctx: typer.Context,
    stages: Annotated[bool, typer.Option("--stages", help="List the trained stages in place of the runs.")] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Show what is being trained now, on any machine, until Ctrl-C.",
        ),
    ] = False,
    json: JsonOption = False,
    runs: RunsOption = Path("runs"),
) -> None:
    """List, show, compare and remove what the store holds.

    A run is a command that was run. A stage is what one task has trained.

    Examples:

        sslcurr runs
        sslcurr runs --stages
        sslcurr runs show last
    """
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
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|KEY",
            help=f"{RUN} Or a stage: the beginning of its key.",
            autocompletion=completion.stages,
        ),
    ],
    runs: RunsOption = Path("runs"),
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FOLDER",
            help="Draw the results of the run, or the curves of the stage, into this folder.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show all about a run or a stage.

    Examples:

        sslcurr runs show last
        sslcurr runs show last --plot charts
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        output.show_document(lab.show(name), options)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help=RUN, autocompletion=completion.runs)],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another one.", autocompletion=completion.runs)],
    runs: RunsOption = Path("runs"),
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FOLDER",
            help="Write the tables (CSV) and the document (JSON) to this folder, too.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two runs: settings that differ, and results.

    Examples:

        sslcurr runs compare last last~1
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        output.show_document(lab.compare(first, second), options)


@app.command("export")
def export_run(
    name: Annotated[str, typer.Argument(metavar="RUN", help=RUN, autocompletion=completion.runs)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write, such as run.zip.")],
    packs: Annotated[bool, typer.Option("--packs", help="Also write the packed images.")] = False,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Write a run to one file, to hand to a colleague.

    The file has records, weights and reports.
    A stage that is not finished is saved with it, and can go on elsewhere.

    Examples:

        sslcurr runs export last --out run.zip
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
    """Take a run from such a file into the store.

    Every file in it is verified by its hash first.

    Examples:

        sslcurr runs import run.zip
    """
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        output.show_document(lab.import_run(file), options)


@app.command()
def check(
    runs: RunsOption = Path("runs"),
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged or left over. It can be made again.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check that every file of the store is as it was written.

    It shows what is damaged, missing, half-written or left over, and the commands that make it again.
    The exit code is 3 if something is damaged or missing.

    Examples:

        sslcurr runs check
        sslcurr runs check --repair
    """
    options = MachineOptions(runs=runs, json=json)
    with options.lab() as lab:
        document = lab.check_runs(repair=repair)
        output.show_document(document, options)
    if document.num_faults:
        raise typer.Exit(3)


@app.command()
def remove(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs to forget: last, last~1, names or numbers.", autocompletion=completion.runs
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Forget runs, and remove what no other run needs.

    Stages, results and packed images that another run needs are kept.
    Without a RUN no run is forgotten.

    Examples:

        sslcurr runs remove --dry-run
        sslcurr runs remove last
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
