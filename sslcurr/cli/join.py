"""`sslcurr join DOCUMENT DOCUMENT...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import JsonOption, PlotOption, RunsOption
from sslcurr.cli.options import DrawingOptions
from sslcurr.cli.output import show_document


def join(
    documents: Annotated[
        list[str],
        typer.Argument(
            metavar="RANKING RANKING...",
            help="Documents of sslcurr rank, such as rank.json in the folders of --plot, or names of runs.",
        ),
    ],
    runs: RunsOption = Path("runs"),
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Join rankings of the same tasks that were measured with different seeds, on other machines or days.

    All figures, intervals and tests are computed anew, as if one command had measured all seeds.
    The predictions of every image are needed: predictions.parquet of --plot beside
    each document (or NAME.parquet beside NAME.json), else those in the store that made it.
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        show_document(lab.join(documents), options)
