"""`sslcurr predict MODEL [INPUT...]` and `sslcurr embed MODEL INPUT...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.help import ADVANCED, DATA
from sslcurr.cli.options import DrawnImageOptions, FileOptions, TargetKindOption, shared_options
from sslcurr.cli.output import show_document

INPUTS = "Images: folders, CSV or Parquet tables, data sets with a name, or files."


@shared_options
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A fine-tuned model: a run (last, its name), a stage (its folder, or the beginning of its key), or a "
            "file of sslcurr export.",
            autocompletion=completion.models,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help=f"{INPUTS} Default: the test images of the model's own data set.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all predictions to this file (.csv, .parquet or .json)."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Write only the N likeliest classes of each image. Default: all classes."
        ),
    ] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL|seeds",
            help="Average with this model, too. seeds: with the same chain at every other seed in the store. May be "
            "repeated.",
            autocompletion=completion.ensemble,
        ),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Average over the image and its mirror images, if the training had such.")
    ] = False,
    calibrated: Annotated[
        bool,
        typer.Option("--calibrated", help="Calibrate probabilities on the validation images (temperature scaling)."),
    ] = False,
    split: Annotated[
        Split, typer.Option(help="Which of the model's own images, if no INPUT is given.", rich_help_panel=DATA)
    ] = Split.test,
    target_kind: TargetKindOption = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap",
            help="Also test on images that the model was trained on.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    *,
    shared: DrawnImageOptions,
) -> None:
    """Predict the labels of images by a fine-tuned model.

    Images are prepared as in its training.
    A file that cannot be read gets a row with the reason.
    Where the images have labels, the result also says how good the predictions are.

    Examples:

        sslcurr predict last
        sslcurr predict last ~/new-images --out predictions.csv
        sslcurr predict last ~/new-images --ensemble seeds --calibrated
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
            metavar="CHECKPOINT",
            help=CHECKPOINT,
            autocompletion=completion.checkpoints,
        ),
    ],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help=INPUTS, autocompletion=completion.datasets)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the features to this file (.npz or .parquet).")],
    layer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Layer of the features, averaged over positions, such as layer3.",
            autocompletion=completion.choices("pooled", "layer1", "layer2", "layer3", "layer4"),
        ),
    ] = "pooled",
    *,
    shared: FileOptions,
) -> None:
    """Write the features of images to a file.

    A .npz file has the arrays features, path, label (if any is known) and reason.
    A file that cannot be read has NaN for features, and a reason.

    Examples:

        sslcurr embed last ~/new-images --out features.npz
        sslcurr embed last fashion --out features.parquet --layer layer3
    """
    with shared.lab() as lab:
        show_document(lab.embed(model, inputs, out=out, layer=layer), shared)
