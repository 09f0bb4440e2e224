"""`sslcurr continue KEY`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.options import ContinueOptions, shared_options
from sslcurr.cli.output import show_document


@shared_options
def go_on(
    key: Annotated[
        str,
        typer.Argument(
            metavar="STAGE",
            help="A finished stage: the beginning of its key, its folder, or the run that ends with it (last, its "
            "name).",
            autocompletion=completion.stages,
        ),
    ],
    *,
    shared: ContinueOptions,
) -> None:
    """Train a finished stage for more epochs, as a new stage.

    Its settings and images are used again.
    The learning rate begins its schedule anew.
    A fine-tuned stage keeps its last layer, and is tested.

    Examples:

        sslcurr continue last
        sslcurr continue last --epochs 20 --lr 0.001
    """
    with shared.lab() as lab:
        call = lab.plan_go_on if shared.dry_run else lab.go_on
        show_document(call(key), shared)
