"""`sslcurr pretrain TASK`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.options import Shared, shared_options


@shared_options
def pretrain(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A pretext task: see sslcurr tasks.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="CHECKPOINT|KEY", help="Start from these weights instead of from scratch."),
    ] = None,
    *,
    shared: Shared,
) -> None:
    """Train a backbone by one pretext task, without labels."""
    from sslcurr.cli.job import carry_out
    from sslcurr.tasks import check_pretext

    check_pretext([task])
    carry_out(shared, [task], start=start)
