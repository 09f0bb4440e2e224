"""`sslcurr attend RUN...`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import Split
from sslcurr.cli.options import MASKS, DatasetOptions, shared_options
from sslcurr.cli.output import show_document


class MapMethod(StrEnum):
    """Of class activation maps."""

    gradcam = "gradcam"
    gradcam_plus_plus = "gradcam++"
    eigencam = "eigencam"


class MapTarget(StrEnum):
    """Whose map it is."""

    predicted = "predicted"
    label = "label"


@shared_options
def attend(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY...", help="Runs (see sslcurr runs) or stages that end with classification."),
    ],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER|TABLE", help="The images.", rich_help_panel="Data")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FOLDER|TABLE", help=MASKS, rich_help_panel="Data")] = None,
    split: Annotated[Split, typer.Option(help="Whose images are looked at.", rich_help_panel="Data")] = Split.test,
    method: Annotated[
        MapMethod, typer.Option(help="How maps are made; eigencam knows no classes.")
    ] = MapMethod.gradcam,
    target: Annotated[MapTarget, typer.Option(help="The class whose map is taken.")] = MapTarget.predicted,
    layer: Annotated[
        str,
        typer.Option(metavar="NAME", help="Whose maps are weighted. Default: the last stage with 4 x 4 cells or more."),
    ] = "",
    *,
    shared: DatasetOptions,
) -> None:
    """How much of what fine-tuned models attend to lies in the lungs, or in any other region? (AIL)

    The share of each image's class activation map that lies inside its mask, beside the share of the view that the mask
    covers, which is what a map without preference would have, and how often the highest point lies inside.
    """
    with shared.lab() as lab:
        document = lab.attend(
            names,
            dataset=dataset,
            masks=masks,
            split=split.value,
            method=method.value,
            target=target.value,
            layer=layer,
        )
        show_document(document, shared)
