"""`sslcurr join DOCUMENT DOCUMENT...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import JsonOption, PlotOption, RunsOption
from sslcurr.cli.options import DrawingOptions
from sslcurr.cli.output import show_document


def join(
    documents: Annotated[
        list[str],
        typer.Argument(
            metavar="RANKING",
            help="Two or more rankings: the rank.json of sslcurr rank --plot, or runs (last, last~1, a name).",
            autocompletion=completion.runs,
        ),
    ],
    runs: RunsOption = Path("runs"),
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Join rankings of the same tasks with different seeds.

    The rankings may be of other machines or days.
    All figures are computed anew, as if one command had trained all seeds.
    This needs the predictions for every image.
    They are in the store that made a ranking, and in the folder of its --plot, as predictions.parquet.

    Examples:

        sslcurr join last last~1
        sslcurr join here/rank.json there/rank.json --plot both
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        show_document(lab.join(documents), options)
