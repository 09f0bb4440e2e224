"""`sslcurr import FILE` and `sslcurr export CHECKPOINT`: weights from and for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli.options import MachineOptions, shared_options
from sslcurr.cli.output import show_document


class ExportFormat(StrEnum):
    """What is written."""

    timm = "timm"
    torchvision = "torchvision"
    onnx = "onnx"


def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of another project.")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The timm network it holds. Default: found out from the shapes.")
    ] = None,
    stem: Annotated[
        str | None, typer.Option(help="imagenet, small (3 x 3, stride 2) or cifar (stride 1), where it cannot be told.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", metavar="PIXELS", help="What it was trained on. Default: 224, or 32 for a cifar stem."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write. Default: NAME.backbone.safetensors, here.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Fill weights that the file does not have with fresh ones.")
    ] = False,
    unsafe_pickle: Annotated[
        bool,
        typer.Option(
            "--unsafe-pickle", help="Run the code that a pickled file asks to run. Only if you trust its source."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Turn another project's checkpoint into one of ours, and say which of its keys were used.

    MMSelfSup, OpenSelfSup, MoCo, SwAV, BYOL, DINO, VISSL, lightly, lightly-train, solo-learn, torchvision, timm. Every
    command that takes a checkpoint also takes such a file itself; this one shows what becomes of it.
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
        str, typer.Argument(metavar="CHECKPOINT|KEY", help="A backbone.safetensors, a stage's folder or its key.")
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
        Path | None, typer.Option(metavar="FILE", help="Where to write. Default: TASKS.FORMAT, here.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--backbone-only", help="Leave out the classifier of a fine-tuned stage.")
    ] = False,
    *,
    shared: MachineOptions,
) -> None:
    """Write a checkpoint for other programs; a fine-tuned stage goes with its classifier."""
    with shared.lab() as lab:
        show_document(lab.export(checkpoint, form=kind.value, out=out, backbone_only=headless), shared)
