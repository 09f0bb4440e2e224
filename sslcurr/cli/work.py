"""`sslcurr work`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.options import WorkOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def work(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when all plans are carried out. Default: wait for more.")
    ] = False,
    *,
    shared: WorkOptions,
) -> None:
    """Carry out what commands with --plan-only, or with --pool shared, want done on this store.

    Start it as often as there are GPUs or cores, on any machine that sees the store.
    A worker that dies blocks nothing: another takes over what it was at.
    """
    with shared.lab() as lab:
        show_document(lab.work(until_idle=until_idle), shared)
