"""`sslcurr chain TASK...`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.choices import Baseline
from sslcurr.cli.options import Aiming, refuse_masks, shared_options


@shared_options
def chain(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK", help="Pretext tasks, in order: see sslcurr tasks.")],
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="End with classification.")] = True,
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="Also train classification from scratch, to compare.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="CHECKPOINT|KEY", help="Start from these weights instead of from scratch."),
    ] = None,
    *,
    shared: Aiming,
) -> None:
    """Train a backbone by TASKS, each starting from the one before, then fine-tune it and report the test split.

    Stages that the store holds already are reused; a command that was killed goes on when it is run again.
    """
    from sslcurr.cli.job import carry_out
    from sslcurr.tasks import check_pretext

    check_pretext(tasks)
    if not finetune:
        refuse_masks(shared, "--no-finetune")
    carry_out(
        shared, [*tasks, *(["classification"] if finetune else [])], start=start, baseline=finetune and bool(baseline)
    )
