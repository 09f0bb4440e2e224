"""`sslcurr probe CHECKPOINT...`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli.choices import CHECKPOINT
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show_document


class Projection(StrEnum):
    """How features are laid on a plane."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"


@shared_options
def probe(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help="The labelled images.", rich_help_panel="Data"),
    ] = None,
    label_fraction: Annotated[
        float,
        typer.Option("--label-fraction", help="Share of the training images that is used.", rich_help_panel="Data"),
    ] = 1.0,
    layers: Annotated[str, typer.Option(metavar="GLOB", help="Which layers, such as pooled or layer*.")] = "*",
    projection: Annotated[
        Projection | None,
        typer.Option(help="Also lay the features of the test images on a plane. Default: pca with --plot, else none."),
    ] = None,
    *,
    shared: ModelOptions,
) -> None:
    """What are frozen features worth, layer by layer? kNN and linear probes, RankMe, LogME and H-score.

    Nothing of the network is trained. Probes learn from the training images and choose their settings on the validation
    images. LogME and H-score need labels but no training, RankMe not even labels. Higher is better for all of them.
    """
    with shared.lab() as lab:
        document = lab.probe(
            checkpoints,
            dataset=dataset,
            label_fraction=label_fraction,
            layers=layers,
            projection=None if projection is None else projection.value,
        )
        show_document(document, shared)
