"""`sslcurr chain TASK...`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.choices import Baseline, PlanOnlyOption, StartOption, check_plan_only
from sslcurr.cli.options import FoldedChainOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def chain(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK", help="Pretext tasks, in order (see sslcurr tasks).")],
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="End with classification.")] = True,
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="Also train classification from scratch, for comparison.")
    ] = None,
    start: StartOption = None,
    plan_only: PlanOnlyOption = False,
    *,
    shared: FoldedChainOptions,
) -> None:
    """Train a backbone by TASKS in order, fine-tune it, and report the test split.

    Each stage starts from the weights of the stage before.
    Finished stages in the store are reused.
    Run the same command again to continue after an interruption.
    """
    check_plan_only(plan_only=plan_only, dry_run=shared.dry_run)
    with shared.lab() as lab:
        call = lab.queue_chain if plan_only else lab.plan_chain if shared.dry_run else lab.chain
        show_document(call(tasks, finetune=finetune, baseline=bool(baseline), start=start), shared)
