"""`sslcurr cka A B [C...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import CHECKPOINT, OWN_IMAGES, Split
from sslcurr.cli.help import DATA
from sslcurr.cli.options import IMAGES, ModelOptions, shared_options
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
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT", help=f"Two models or more. {CHECKPOINT}", autocompletion=completion.checkpoints
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar=IMAGES,
            help=f"Images to compare on. {OWN_IMAGES}",
            rich_help_panel=DATA,
            autocompletion=completion.datasets,
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which images of it are used.", rich_help_panel=DATA)] = Split.test,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images",
            metavar="N",
            help="Use so many images, chosen at random. Default: all.",
            rich_help_panel=DATA,
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(
            metavar="SET|PATTERN",
            help="Layers to compare. stages: the output of each stage of the network. blocks: of each block. all: of "
            "each layer. Or a pattern (layer4.*).",
            autocompletion=completion.choices("stages", "blocks", "all"),
        ),
    ] = "stages",
    estimator: Annotated[
        Estimator, typer.Option(help="unbiased: may be below 0. biased: too near to 1 for few images.")
    ] = Estimator.unbiased,
    kernel: Annotated[Kernel, typer.Option(help="rbf: its bandwidth is the median distance.")] = Kernel.linear,
    pool: Annotated[Pool, typer.Option(help="none: compare whole maps. avg: their means over positions.")] = Pool.none,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            show_default=False,
            help="Images in a batch of the estimate. As many as there are images: the exact value, for more memory. "
            "Default: an eighth of the images, from 32 to 256.",
        ),
    ] = 0,
    *,
    shared: ModelOptions,
) -> None:
    """Measure how alike models are, layer by layer (CKA).

    Centred kernel alignment is 1 for features that are equal but for rotation and scale, and 0 for unrelated ones.
    The models may have different networks.
    Each is given the images as in its training.

    Examples:

        sslcurr cka last random
        sslcurr cka last last~1 --dataset ~/images --plot charts
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
