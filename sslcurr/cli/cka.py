"""`sslcurr cka A B [C...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show_document


class Estimator(StrEnum):
    """Of HSIC."""

    unbiased = "unbiased"
    biased = "biased"


class Kernel(StrEnum):
    """Of the Gram matrices."""

    linear = "linear"
    rbf = "rbf"


class Pool(StrEnum):
    """What is compared of a map."""

    none = "none"
    avg = "avg"


@shared_options
def cka(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER|TABLE", help="The images they are shown.", rich_help_panel="Data")
    ] = None,
    split: Annotated[Split, typer.Option(help="Whose images are shown.", rich_help_panel="Data")] = Split.test,
    num_images: Annotated[
        int | None,
        typer.Option("--num-images", metavar="N", help="So many at random. Default: all.", rich_help_panel="Data"),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(metavar="stages|blocks|all|GLOB", help="Which layers are compared, such as layer4.*"),
    ] = "stages",
    estimator: Annotated[
        Estimator, typer.Option(help="unbiased may be below 0; biased is near 1 for few images, related or not.")
    ] = Estimator.unbiased,
    kernel: Annotated[Kernel, typer.Option(help="rbf takes the median distance as its bandwidth.")] = Kernel.linear,
    pool: Annotated[Pool, typer.Option(help="none: whole maps. avg: their mean over places.")] = Pool.none,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Images compared at once; as many as there are gives the exact value and no interval. "
            "Default: an eighth of them, from 32 to 256.",
        ),
    ] = 0,
    *,
    shared: ModelOptions,
) -> None:
    """How alike are models, layer by layer? Centred kernel alignment (CKA): 1 alike, 0 unrelated.

    Rotations and scales of features do not count. Images pass each model once. Models may be of different networks;
    each sees the images as it was trained to.
    """
    with shared.lab() as lab:
        document = lab.cka(
            checkpoints,
            dataset=dataset,
            split=split.value,
            num_images=num_images,
            layers=layers,
            estimator=estimator.value,
            kernel=kernel.value,
            pool=pool.value,
            batch_size=batch_size,
        )
        show_document(document, shared)
