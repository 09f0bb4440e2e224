"""`sslcurr probe CHECKPOINT...`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli.choices import CHECKPOINT, OWN_IMAGES
from sslcurr.cli.options import ALLOW_OVERLAP, ModelOptions, shared_options
from sslcurr.cli.output import show_document


class Projection(StrEnum):
    """How features are projected to two dimensions."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"


@shared_options
def probe(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help=f"The labelled images. {OWN_IMAGES}", rich_help_panel="Data"),
    ] = None,
    label_fraction: Annotated[
        float,
        typer.Option("--label-fraction", help="Share of the training images that probes use.", rich_help_panel="Data"),
    ] = 1.0,
    layers: Annotated[str, typer.Option(metavar="GLOB", help="Layers to probe, such as pooled or layer*.")] = "*",
    projection: Annotated[
        Projection | None,
        typer.Option(help="Also project the features of the test images to two dimensions. Default: pca with --plot."),
    ] = None,
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help=ALLOW_OVERLAP, rich_help_panel="Data")] = False,
    *,
    shared: ModelOptions,
) -> None:
    """Measure frozen features layer by layer: kNN and linear probes, RankMe, LogME and H-score.

    The network is not trained.
    Probes learn on the training images. Validation images choose their settings.
    LogME and H-score need labels, but no training. RankMe needs no labels.
    Higher is better for all of them.
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
