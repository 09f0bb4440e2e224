"""`sslcurr attend RUN...`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import OWN_IMAGES, Split
from sslcurr.cli.help import ADVANCED, DATA
from sslcurr.cli.options import ALLOW_OVERLAP, IMAGES, MASKS, DatasetOptions, shared_options
from sslcurr.cli.output import show_document


class MapMethod(StrEnum):
    """How a class activation map is computed."""

    gradcam = "gradcam"
    gradcam_plus_plus = "gradcam++"
    eigencam = "eigencam"


class MapTarget(StrEnum):
    """The class whose map is computed."""

    predicted = "predicted"
    label = "label"


@shared_options
def attend(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Fine-tuned models: runs (last, a name), or stages by the beginning of their keys.",
            autocompletion=completion.stages,
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar=IMAGES,
            help=f"Images to measure on. {OWN_IMAGES}",
            rich_help_panel=DATA,
            autocompletion=completion.datasets,
        ),
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FOLDER|TABLE", help=MASKS, rich_help_panel=DATA)] = None,
    split: Annotated[Split, typer.Option(help="Which images of it are used.", rich_help_panel=DATA)] = Split.test,
    method: Annotated[
        MapMethod, typer.Option(help="Kind of class activation map. eigencam is of no class.")
    ] = MapMethod.gradcam,
    target: Annotated[MapTarget, typer.Option(help="The class of the map.")] = MapTarget.predicted,
    layer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Layer that the map is made from. Default: the last stage of the network with at least 4 x 4 cells.",
        ),
    ] = "",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help=ALLOW_OVERLAP, rich_help_panel=ADVANCED)
    ] = False,
    *,
    shared: DatasetOptions,
) -> None:
    """Measure how much of a classifier's attention lies in a region (AIL).

    AIL is the share of a class activation map that lies inside the mask of the image, such as the lungs.
    Two figures stand beside it: the share of the image that the mask covers, which a uniform map would have,
    and how often the maximum of the map lies inside.

    Examples:

        sslcurr attend last --masks ~/lungs
        sslcurr attend last last~1 --dataset ~/images --masks ~/lungs --plot charts
    """
    with shared.lab() as lab:
        document = lab.attend(
            names,
            dataset=dataset,
            allow_overlap=allow_overlap,
            masks=masks,
            split=split.value,
            method=method.value,
            target=target.value,
            layer=layer,
        )
        show_document(document, shared)
