"""`sslcurr explain RANKING`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import JsonOption, PlotOption, RunsOption
from sslcurr.cli.options import DrawingOptions
from sslcurr.cli.output import show_document

RESULT = "RESULT"


def explain(
    ranking: Annotated[
        str,
        typer.Argument(
            metavar="RANKING",
            help="A ranking with orderings: a run of sslcurr rank (last, its name), or the rank.json of --plot.",
            autocompletion=completion.runs,
        ),
    ],
    similarity: Annotated[
        list[str] | None,
        typer.Option(
            "--similarity",
            metavar=RESULT,
            help="A result of sslcurr cka for the models of the single tasks: a run, or its cka.json. May be repeated.",
            autocompletion=completion.runs,
        ),
    ] = None,
    distances: Annotated[
        list[str] | None,
        typer.Option(
            "--distances",
            metavar=RESULT,
            help="A result of sslcurr fid in the features of these models: a run, or its fid.json. May be repeated.",
            autocompletion=completion.runs,
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Tell real differences between orderings from chance.

    The variance between chains is divided into real differences, chance of the seed and choice of test images.
    Then the accuracy of each chain is predicted from that of its single tasks.
    With --similarity and --distances, also from how alike their models are.
    This needs the predictions for every image, as sslcurr join does.

    Examples:

        sslcurr explain last
        sslcurr explain both/rank.json --plot charts
    """
    options = DrawingOptions(runs=runs, json=json, plot=plot)
    with options.lab() as lab:
        show_document(lab.explain(ranking, similarity=similarity or (), distances=distances or ()), options)
