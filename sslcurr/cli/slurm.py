"""`sslcurr slurm COMMAND [ARGUMENT...]`: what a command trains, by workers on SLURM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sslcurr.cli.options import MachineOptions
from sslcurr.cli.output import show_document

# What is no option of slurm is one of the command, wherever it stands.
CONTEXT = {"ignore_unknown_options": True}
CLUSTER = "SLURM"


def slurm(
    context: typer.Context,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="rank, grid or chain.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGUMENT]...", help="Its arguments and options, such as --dataset and --runs."),
    ] = None,
    *,
    partition: Annotated[
        str, typer.Option("--partition", metavar="NAME", help="Partition of the cluster.", rich_help_panel=CLUSTER)
    ],
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Jobs of the array.", rich_help_panel=CLUSTER)],
    gpus_per_worker: Annotated[
        int,
        typer.Option(
            "--gpus-per-worker",
            metavar="N",
            help="GPUs of each, a process for each GPU; --devices of COMMAND says how many train a stage together. "
            "0: it trains on the CPU.",
            rich_help_panel=CLUSTER,
        ),
    ] = 1,
    cpus_per_worker: Annotated[
        int,
        typer.Option(
            "--cpus-per-worker",
            metavar="N",
            help="Cores of each, and the threads of its processes.",
            rich_help_panel=CLUSTER,
        ),
    ] = 4,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", metavar="GB", help="Memory of each. Default: the partition's.", rich_help_panel=CLUSTER
        ),
    ] = None,
    time: Annotated[
        int,
        typer.Option(
            "--time",
            metavar="MINUTES",
            help="Time limit of a job. It is queued again when that has come, and goes on.",
            rich_help_panel=CLUSTER,
        ),
    ] = 240,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Who pays.", rich_help_panel=CLUSTER)
    ] = None,
    qos: Annotated[
        str | None, typer.Option("--qos", metavar="NAME", help="Quality of service.", rich_help_panel=CLUSTER)
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option("--constraint", metavar="FEATURE", help="Feature of the nodes.", rich_help_panel=CLUSTER),
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(
            "--setup",
            metavar="LINE",
            help="A line of shell that runs before each worker, such as 'module load cuda'. May be repeated.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(
            "--logs",
            metavar="FOLDER",
            help="Folder for logs, on a disk that all nodes see. Default: slurm in the store.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all workers have ended.", rich_help_panel=CLUSTER)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the script for sbatch. Plan and submit nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Train what COMMAND wants by workers on SLURM.

    The command is planned here, and an array of jobs is submitted.
    Each job trains stages of the store until nothing is left.
    Run COMMAND again without slurm to print the results.
    The options here may stand anywhere after COMMAND, among its own.
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
