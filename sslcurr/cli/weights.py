"""`sslcurr import FILE` and `sslcurr export CHECKPOINT`: weights from and for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.options import MachineOptions, shared_options
from sslcurr.cli.output import show_document


class ExportFormat(StrEnum):
    """Formats that export writes."""

    timm = "timm"
    torchvision = "torchvision"
    onnx = "onnx"


def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of another project.")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The timm network it holds. Default: recognised by its shapes.")
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option(help="imagenet, small (3 x 3, stride 2) or cifar (3 x 3, stride 1), if the shapes do not tell."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            help="Side of the images it was trained on. Default: 224, or 32 for a cifar stem.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: NAME.backbone.safetensors, here.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Fill weights that the file lacks with new random ones.")
    ] = False,
    unsafe_pickle: Annotated[
        bool,
        typer.Option(
            "--unsafe-pickle", help="Let a pickled file run code while it is read. Only if you trust its source."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Convert another project's checkpoint, and show which of its keys were used.

    It reads files of MMSelfSup, OpenSelfSup, MoCo, SwAV, BYOL, DINO, VISSL,
    lightly, lightly-train, solo-learn, torchvision and timm.
    Other commands take such a file as a checkpoint, too.
    This command shows how it is converted.
    """
    shared = MachineOptions(json=json)
    with shared.lab() as lab:
        document = lab.import_weights(
            file,
            out=out,
            backbone=backbone,
            stem=stem,
            image_size=image_size,
            allow_missing=allow_missing,
            unsafe_pickle=unsafe_pickle,
        )
        show_document(document, shared)


@shared_options
def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT|KEY", help="A backbone.safetensors, a stage's folder or key.")
    ],
    kind: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="timm: safetensors for timm.create_model. torchvision: a .pth for torchvision's ResNets. "
            "onnx: a network that runs without Python.",
        ),
    ] = ExportFormat.timm,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: TASKS.FORMAT, here.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--backbone-only", help="Leave out the classifier of a fine-tuned stage.")
    ] = False,
    *,
    shared: MachineOptions,
) -> None:
    """Write a checkpoint for other programs. A fine-tuned stage includes its classifier."""
    with shared.lab() as lab:
        show_document(lab.export(checkpoint, form=kind.value, out=out, backbone_only=headless), shared)
