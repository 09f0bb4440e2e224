"""`sslcurr cka A B [C...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli.choices import CHECKPOINT, OWN_IMAGES, Split
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show_document


class Estimator(StrEnum):
    """How HSIC is estimated."""

    unbiased = "unbiased"
    biased = "biased"


class Kernel(StrEnum):
    """The kernel of the Gram matrices."""

    linear = "linear"
    rbf = "rbf"


class Pool(StrEnum):
    """How a feature map is pooled."""

    none = "none"
    avg = "avg"


@shared_options
def cka(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help=f"Images to compare on. {OWN_IMAGES}", rich_help_panel="Data"),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split whose images are used.", rich_help_panel="Data")] = Split.test,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images",
            metavar="N",
            help="Number of images, chosen at random. Default: all.",
            rich_help_panel="Data",
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(
            metavar="stages|blocks|all|GLOB", help="Layers to compare: a set of them, or a pattern such as layer4.*"
        ),
    ] = "stages",
    estimator: Annotated[
        Estimator, typer.Option(help="unbiased can be below 0. biased is near 1 for few images.")
    ] = Estimator.unbiased,
    kernel: Annotated[Kernel, typer.Option(help="rbf uses the median distance as bandwidth.")] = Kernel.linear,
    pool: Annotated[Pool, typer.Option(help="none: whole maps. avg: their mean over positions.")] = Pool.none,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            show_default=False,
            help="Images per minibatch of the estimate. All images in one batch give the exact value. "
            "Default: an eighth of the images, from 32 to 256.",
        ),
    ] = 0,
    *,
    shared: ModelOptions,
) -> None:
    """Compare models layer by layer by centred kernel alignment (CKA): 1 alike, 0 unrelated.

    CKA ignores rotations and scales of the features.
    The models may have different networks.
    Each gets the images in the size and normalisation it was trained with.
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
