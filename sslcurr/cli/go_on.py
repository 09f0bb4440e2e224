"""`sslcurr continue KEY`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.options import ContinueOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def go_on(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A finished stage: the beginning of its key, or its folder.")
    ],
    *,
    shared: ContinueOptions,
) -> None:
    """Train a finished stage on, as a stage of its own, with its settings and on its images.

    A fine-tuned stage goes on with its last layer, and is reported.
    The learning rate begins its schedule again.
    """
    with shared.lab() as lab:
        call = lab.plan_go_on if shared.dry_run else lab.go_on
        show_document(call(key), shared)
