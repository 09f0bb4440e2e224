"""`sslcurr slurm COMMAND [ARGUMENT...]`: what a command trains, by workers on SLURM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import JsonOption
from sslcurr.cli.options import MachineOptions
from sslcurr.cli.output import show_document

# What is no option of slurm is one of the command, wherever it stands.
CONTEXT = {"ignore_unknown_options": True}
CLUSTER = "SLURM"


def slurm(
    context: typer.Context,
    command: Annotated[
        str,
        typer.Argument(
            metavar="COMMAND",
            help="What to train: chain, rank or grid.",
            autocompletion=completion.choices("chain", "rank", "grid"),
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENT]...",
            help="Its arguments and options, such as --dataset and --runs.",
            autocompletion=completion.tasks,
        ),
    ] = None,
    *,
    partition: Annotated[
        str, typer.Option("--partition", metavar="NAME", help="Partition of the cluster.", rich_help_panel=CLUSTER)
    ],
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="How many jobs.", rich_help_panel=CLUSTER)],
    gpus_per_worker: Annotated[
        int,
        typer.Option(
            "--gpus-per-worker",
            metavar="N",
            help="GPUs of each job. 0: train on the CPU. With --devices of COMMAND, several train a stage together.",
            rich_help_panel=CLUSTER,
        ),
    ] = 1,
    cpus_per_worker: Annotated[
        int,
        typer.Option(
            "--cpus-per-worker",
            metavar="N",
            help="CPU cores of each job.",
            rich_help_panel=CLUSTER,
        ),
    ] = 4,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory",
            metavar="GB",
            help="Memory of each job. Default: that of the partition.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    time: Annotated[
        int,
        typer.Option(
            "--time",
            metavar="MINUTES",
            help="Time limit of a job. A job that is not done by then is queued again, and goes on.",
            rich_help_panel=CLUSTER,
        ),
    ] = 240,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Account that pays.", rich_help_panel=CLUSTER)
    ] = None,
    qos: Annotated[
        str | None, typer.Option("--qos", metavar="NAME", help="Quality of service.", rich_help_panel=CLUSTER)
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option(
            "--constraint", metavar="FEATURE", help="Feature that the nodes must have.", rich_help_panel=CLUSTER
        ),
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(
            "--setup",
            metavar="LINE",
            help="A shell command to run before each worker, such as 'module load cuda'. May be repeated.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(
            "--logs",
            metavar="FOLDER",
            help="Folder of the logs, on a disk that all nodes see. Default: slurm in the store.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all jobs have ended.", rich_help_panel=CLUSTER)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the script for sbatch, and submit nothing.", rich_help_panel=CLUSTER),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a chain, a ranking or a grid by jobs on SLURM.

    An array of jobs is submitted. Each job trains stages of the store until nothing is left.
    Then run COMMAND without slurm to print the results.
    The options below may stand anywhere among those of COMMAND.

    Examples:

        sslcurr slurm rank rotation mocov2 swav --partition gpu --workers 4
        sslcurr slurm chain mocov2 swav --partition gpu --workers 1 --dry-run
    """
    from sslcurr.api.clusters import check_planned

    check_planned(command)
    words = [command, *(arguments or ())]
    parsed = _parsed(context, words)
    devices = parsed.get("devices", "1")
    shared = MachineOptions(runs=parsed["runs"], json=json)
    asked: Any = {
        "partition": partition,
        "num_workers": workers,
        "gpus_per_worker": gpus_per_worker,
        "devices": int(devices) if devices.isdigit() else devices,
        "cpus_per_worker": cpus_per_worker,
        "memory": memory,
        "time": time,
        "account": account,
        "qos": qos,
        "constraint": constraint,
        "setup": setup or (),
        "logs": logs,
    }
    with shared.lab() as lab:
        document = lab.plan_slurm(words, **asked) if dry_run else lab.slurm(words, wait=wait, **asked)
        show_document(document, shared)


def _parsed(context: typer.Context, words: list[str]) -> dict[str, Any]:
    """The options of a command as it understands them; a mistake is reported as by the command itself."""
    program: Any = context.find_root().command
    with program.commands[words[0]].make_context(words[0], words[1:], parent=context.find_root()) as parsed:
        values: dict[str, Any] = parsed.params
    return values
