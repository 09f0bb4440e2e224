"""`sslcurr schema KIND`: the JSON Schema of what a command prints."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli import completion


def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="Kind of document, such as train, rank or cka.", autocompletion=completion.kinds
        ),
    ],
) -> None:
    """Print the JSON Schema of what --json prints.

    Examples:

        sslcurr schema train
        sslcurr schema rank
    """
    from sslcurr.analysis.results.kinds import json_schema
    from sslcurr.cli.output import print_json

    print_json(json_schema(kind))
