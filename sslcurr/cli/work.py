"""`sslcurr work`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.options import WorkOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def work(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when all is done. Default: wait for more.")
    ] = False,
    *,
    shared: WorkOptions,
) -> None:
    """Train what other commands have planned in the store.

    Commands plan with --plan-only, or with --pool shared.
    Start as many workers as you have GPUs, on any machine that sees the store.
    If a worker dies, another one goes on with its stage.

    Examples:

        sslcurr work --until-idle
        sslcurr work --runs ~/runs --device cuda:1
    """
    with shared.lab() as lab:
        show_document(lab.work(until_idle=until_idle), shared)
