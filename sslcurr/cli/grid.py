"""`sslcurr grid TASK...`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.api.options import GridOptions
from sslcurr.cli.choices import Baseline, PlanOnlyOption, SeedsOption, TasksArgument, check_plan_only
from sslcurr.cli.options import PretextOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError

FRACTIONS = "1,0.5,0.25,0.125"


def _fractions(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"{name} takes shares, got {text!r}", f"give {name} {FRACTIONS}") from None


@shared_options
def grid(
    tasks: TasksArgument,
    ssl_fractions: Annotated[
        str, typer.Option("--ssl-fractions", metavar="SHARES", help="Shares of the images for pretraining.")
    ] = FRACTIONS,
    label_fractions: Annotated[
        str, typer.Option("--label-fractions", metavar="SHARES", help="Shares of the labels for fine-tuning.")
    ] = FRACTIONS,
    seeds: SeedsOption = 3,
    baseline: Annotated[
        Baseline | None,
        typer.Option("--baseline", help="Also train on each share of the labels from scratch."),
    ] = None,
    plan_only: PlanOnlyOption = False,
    *,
    shared: PretextOptions,
) -> None:
    """Train a chain on fewer images and fewer labels, and compare.

    A smaller share is a part of every larger one, and has the same proportions of classes.
    Pretraining never uses fewer images than fine-tuning uses labels.
    Each pretraining is done once, for all shares of the labels.

    Examples:

        sslcurr grid mocov2 swav --dataset ~/images
        sslcurr grid mocov2 --dataset ~/images --label-fractions 1,0.1
    """
    check_plan_only(plan_only=plan_only, dry_run=shared.dry_run)
    options: GridOptions = {
        "seeds": seeds,
        "baseline": bool(baseline),
        "ssl_fractions": _fractions("--ssl-fractions", ssl_fractions),
        "label_fractions": _fractions("--label-fractions", label_fractions),
    }
    with shared.lab() as lab:
        call = lab.queue_grid if plan_only else lab.plan_grid if shared.dry_run else lab.grid
        show_document(call(tasks, **options), shared)
