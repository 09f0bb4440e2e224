"""`sslcurr import FILE` and `sslcurr export CHECKPOINT`: weights from and for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import JsonOption
from sslcurr.cli.options import MachineOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.spec.stage import STEMS


class ExportFormat(StrEnum):
    """Formats that export writes."""

    timm = "timm"
    torchvision = "torchvision"
    onnx = "onnx"


def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint of another project, such as moco_v2.pth.tar.")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name in timm of the network in it. Default: recognised by shapes."),
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(STEMS),
            help="First layers of the network, if the shapes do not tell. small: 3 x 3, stride 2. cifar: 3 x 3, "
            "stride 1.",
            autocompletion=completion.choices(*STEMS),
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            help="Side of the images that it was trained on. Default: 224, or 32 for the stem cifar.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: NAME.backbone.safetensors.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Use random weights where the file has none.")
    ] = False,
    unsafe_pickle: Annotated[
        bool,
        typer.Option(
            "--unsafe-pickle", help="Let the file run code while it is read. Only for files whose source you trust."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Convert weights of another project, and show what was used of them.

    It reads files of MMSelfSup, OpenSelfSup, MoCo, SwAV, BYOL, DINO, VISSL, lightly, lightly-train, solo-learn,
    torchvision and timm.
    Other commands take such a file as it is. This one shows how it is read.

    Examples:

        sslcurr import moco_v2_800ep_pretrain.pth.tar
        sslcurr import checkpoint.pth --backbone resnet50 --out resnet50.safetensors
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
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A run (last, its name), a stage (its folder, or the beginning of its key), or a "
            "backbone.safetensors.",
            autocompletion=completion.checkpoints,
        ),
    ],
    kind: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="timm: safetensors for timm.create_model. torchvision: a .pth for ResNets of torchvision. onnx: a "
            "network that runs without Python.",
        ),
    ] = ExportFormat.timm,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: named by the tasks and the format.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--backbone-only", help="Leave out the last layer of a fine-tuned model.")
    ] = False,
    *,
    shared: MachineOptions,
) -> None:
    """Write weights for other programs (timm, torchvision, ONNX).

    A fine-tuned model goes with its last layer.

    Examples:

        sslcurr export last --format onnx
        sslcurr export last --backbone-only --out backbone.safetensors
    """
    with shared.lab() as lab:
        show_document(lab.export(checkpoint, form=kind.value, out=out, backbone_only=headless), shared)
