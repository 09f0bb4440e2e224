"""`sslcurr explain RANKING`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import JsonOption, PlotOption, RunsOption
from sslcurr.cli.options import DrawingOptions
from sslcurr.cli.output import show_document

RESULT = "RESULT"


def explain(
    ranking: Annotated[
        str,
        typer.Argument(
            metavar="RANKING", help="A document of sslcurr rank or join, such as rank.json of --plot, or a run's name."
        ),
    ],
    similarity: Annotated[
        list[str] | None,
        typer.Option(
            "--similarity",
            metavar=RESULT,
            help="A document of sslcurr cka that compares the models of the tasks alone, or a run's name. May be "
            "repeated.",
        ),
    ] = None,
    distances: Annotated[
        list[str] | None,
        typer.Option(
            "--distances",
            metavar=RESULT,
            help="A document of sslcurr fid in the features of the models of the tasks alone, or a run's name. May be "
            "repeated.",
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Explain the differences between the chains of a ranking: how much of them is real, and what foretells them.

    The variance between chains is split into real differences, luck of seeds and choice of images.
    Then chains of tasks that were left out are foretold from the accuracies of single tasks,
    and from how alike their models are and how far data sets are in their features, where these are given.
    The predictions of every image are needed, as by sslcurr join.
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        show_document(lab.explain(ranking, similarity=similarity or (), distances=distances or ()), options)
