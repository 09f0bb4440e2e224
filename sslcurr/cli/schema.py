"""`sslcurr schema KIND`: the JSON Schema of what a command prints."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of document, such as rank, cka or train.")],
) -> None:
    """Print the JSON Schema of a kind of document that commands print with --json."""
    from sslcurr.analysis.results.kinds import json_schema
    from sslcurr.cli.output import print_json

    print_json(json_schema(kind))
