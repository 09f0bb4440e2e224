"""`sslcurr predict MODEL [INPUT...]` and `sslcurr embed MODEL INPUT...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.choices import Split
from sslcurr.cli.options import DrawnImageOptions, FileOptions, TargetKindOption, shared_options
from sslcurr.cli.output import show_document

INPUTS = "Folders, CSV or Parquet tables, data sets with a name, or files of images."


@shared_options
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A fine-tuned stage: its key, its folder, a run with one; or a file of sslcurr export.",
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help=f"{INPUTS} Default: the test images of the stage's own data set."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all predictions to this file: .csv, .parquet or .json."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Write the likeliest classes only, so many. Default: all probabilities.")
    ] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL|seeds",
            help="Average with this model. May be repeated. seeds: the same chain at all other seeds of the store.",
        ),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Average the image and its mirror images, if the training saw such.")
    ] = False,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrated", help="Calibrate probabilities by the temperature that fits the validation images best."
        ),
    ] = False,
    split: Annotated[
        Split, typer.Option(help="Split of the stage's own images, where no INPUT is given.", rich_help_panel="Data")
    ] = Split.test,
    target_kind: TargetKindOption = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap",
            help="Also report on images that the model was trained on.",
            rich_help_panel="Data",
        ),
    ] = False,
    *,
    shared: DrawnImageOptions,
) -> None:
    """Predict classes, labels or numbers of images by a fine-tuned model.

    Images are decoded, cropped and normalised as in the training.
    A file that cannot be read is a row with the reason.
    Where labels are given, the result also says how good the predictions are.
    """
    with shared.lab() as lab:
        document = lab.predict(
            model,
            inputs or [],
            out=out,
            top=top,
            ensemble=ensemble or [],
            flips=flips,
            calibrated=calibrated,
            split=split.value,
            target_kind=target_kind,
            allow_overlap=allow_overlap,
        )
        show_document(document, shared)


@shared_options
def embed(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint file, the folder or key of a stage, a timm name, or random."
        ),
    ],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help=INPUTS)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the features to this file: .npz or .parquet.")],
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="Layer whose features are written, averaged over the map.")
    ] = "pooled",
    *,
    shared: FileOptions,
) -> None:
    """Write the features of images by any checkpoint to a file.

    A .npz file has the arrays features, path, label (if any is known) and reason.
    A file that cannot be read has features that are not a number, and a reason.
    """
    with shared.lab() as lab:
        show_document(lab.embed(model, inputs, out=out, layer=layer), shared)
