"""`sslcurr probe CHECKPOINT...`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import CHECKPOINT, OWN_IMAGES
from sslcurr.cli.help import ADVANCED, DATA
from sslcurr.cli.options import ALLOW_OVERLAP, IMAGES, SHARE, ModelOptions, shared_options
from sslcurr.cli.output import show_document


class Projection(StrEnum):
    """How features are projected to two dimensions."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"


@shared_options
def probe(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT", help=f"One model or more. {CHECKPOINT}", autocompletion=completion.checkpoints
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar=IMAGES,
            help=f"Labelled images. {OWN_IMAGES}",
            rich_help_panel=DATA,
            autocompletion=completion.datasets,
        ),
    ] = None,
    label_fraction: Annotated[
        float,
        typer.Option(
            "--label-fraction",
            metavar=SHARE,
            help="Share of the labelled training images that probes use, such as 0.1.",
            rich_help_panel=DATA,
        ),
    ] = 1.0,
    layers: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Layers to measure, such as pooled or layer*.",
            autocompletion=completion.choices("*", "pooled", "layer*"),
        ),
    ] = "*",
    projection: Annotated[
        Projection | None,
        typer.Option(
            help="Also project the features of the test images to two dimensions. Default: pca, if --plot is given."
        ),
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help=ALLOW_OVERLAP, rich_help_panel=ADVANCED)
    ] = False,
    *,
    shared: ModelOptions,
) -> None:
    """Measure how good features are, layer by layer.

    The network is not trained.
    kNN and linear probes learn on the training images, and validation images choose their settings.
    LogME and H-score use the labels without training. RankMe needs no labels.
    Higher is better for all of them.

    Examples:

        sslcurr probe last random
        sslcurr probe last --dataset ~/images --layers pooled --plot charts
    """
    with shared.lab() as lab:
        document = lab.probe(
            checkpoints,
            dataset=dataset,
            allow_overlap=allow_overlap,
            label_fraction=label_fraction,
            layers=layers,
            projection=None if projection is None else projection.value,
        )
        show_document(document, shared)
