"""`sslcurr chain TASK...`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.choices import Baseline, PlanOnlyOption, StartOption, TasksArgument, check_plan_only
from sslcurr.cli.options import FoldedChainOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def chain(
    tasks: TasksArgument,
    finetune: Annotated[
        bool, typer.Option("--finetune/--no-finetune", help="Whether to fine-tune on the labels at the end.")
    ] = True,
    baseline: Annotated[
        Baseline | None,
        typer.Option("--baseline", help="Also train on the labels alone, from scratch, and print the difference."),
    ] = None,
    start: StartOption = None,
    plan_only: PlanOnlyOption = False,
    *,
    shared: FoldedChainOptions,
) -> None:
    """Train by pretext tasks in order, fine-tune on the labels, and test.

    Each stage starts from the weights of the stage before.
    Stages that the store has are not trained again.
    Run the same command again to go on after an interruption.

    Examples:

        sslcurr chain mocov2 swav rotation
        sslcurr chain mocov2 swav rotation --dry-run
        sslcurr chain mocov2 rotation --dataset ~/images --baseline scratch
        sslcurr chain swav --dataset ~/study/labels.csv --unlabelled ~/scans
    """
    check_plan_only(plan_only=plan_only, dry_run=shared.dry_run)
    with shared.lab() as lab:
        call = lab.queue_chain if plan_only else lab.plan_chain if shared.dry_run else lab.chain
        show_document(call(tasks, finetune=finetune, baseline=bool(baseline), start=start), shared)
