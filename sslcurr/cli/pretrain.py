"""`sslcurr pretrain TASK`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import StartOption
from sslcurr.cli.options import PretextOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def pretrain(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="A pretext task, such as swav. sslcurr tasks lists them.",
            autocompletion=completion.tasks,
        ),
    ],
    start: StartOption = None,
    *,
    shared: PretextOptions,
) -> None:
    """Train by one pretext task, without labels.

    Examples:

        sslcurr pretrain swav --dataset ~/scans
        sslcurr pretrain mocov2 --dataset ~/scans --backbone resnet18 --epochs 50
        sslcurr pretrain rotation --from last
    """
    with shared.lab() as lab:
        call = lab.plan_pretrain if shared.dry_run else lab.pretrain
        show_document(call(task, start=start), shared)
