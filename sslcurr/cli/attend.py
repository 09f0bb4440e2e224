"""`sslcurr attend RUN...`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import OWN_IMAGES, Split
from sslcurr.cli.options import ALLOW_OVERLAP, MASKS, DatasetOptions, shared_options
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
        typer.Argument(metavar="RUN|KEY...", help="Runs (see sslcurr runs), or stages that end with classification."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help=f"Images to measure on. {OWN_IMAGES}", rich_help_panel="Data"),
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FOLDER|TABLE", help=MASKS, rich_help_panel="Data")] = None,
    split: Annotated[Split, typer.Option(help="Split whose images are used.", rich_help_panel="Data")] = Split.test,
    method: Annotated[
        MapMethod, typer.Option(help="Kind of class activation map. eigencam ignores classes.")
    ] = MapMethod.gradcam,
    target: Annotated[MapTarget, typer.Option(help="Class whose map is computed.")] = MapTarget.predicted,
    layer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Layer whose maps are weighted. Default: the last stage with at least 4 x 4 cells."
        ),
    ] = "",
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help=ALLOW_OVERLAP, rich_help_panel="Data")] = False,
    *,
    shared: DatasetOptions,
) -> None:
    """Measure how much of a classifier's attention lies in the lungs, or in another region (AIL).

    AIL is the share of a class activation map that lies inside the image's mask.
    Two figures stand beside it: the share of the view that the mask covers,
    which a uniform map would have, and how often the maximum lies inside.
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
