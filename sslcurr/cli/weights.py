"""`sslcurr import FILE` and `sslcurr export CHECKPOINT`: weights from and for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.cli.options import Machine, check_writable, shared_options
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.engine.store import Stage


class Format(StrEnum):
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
    from sslcurr.backbones.checkpoint import sha256_of
    from sslcurr.cli.output import console, print_json, table
    from sslcurr.engine.models import conversion_of, write_import
    from sslcurr.files import write_whole

    path = out or Path(f"{file.stem}.backbone.safetensors")
    if path.suffix != ".safetensors":
        raise SpecError(f"--out writes safetensors, not {path.name!r}", "give a name that ends in .safetensors")
    check_writable(path)
    if path.exists() and file.exists() and path.samefile(file):
        raise SpecError(f"{path} is the file to be imported", "give another --out")
    if image_size is not None and not 8 <= image_size <= 4096:
        raise SpecError(f"image size must be from 8 to 4096 pixels, got {image_size}", "give --image-size 224")
    conversion, spec = conversion_of(file, backbone, stem, unsafe_pickle=unsafe_pickle, allow_missing=allow_missing)
    write_whole(
        path, lambda temporary: write_import(conversion, spec, temporary, title=file.stem, image_size=image_size)
    )
    document: dict[str, Any] = {
        "checkpoint": str(path),
        "sha256": sha256_of(path),
        "backbone": spec.name,
        "stem": spec.stem,
        "channels": spec.channels,
        "layout": conversion.layout,
        "matched": list(conversion.matched),
        "missing": list(conversion.missing),
        "dropped": list(conversion.dropped),
    }
    if json:
        print_json(document)
        return
    stem_said = "" if spec.stem == "imagenet" else f", {spec.stem} stem"
    rows = table("", "keys", "such as", right=["keys"])
    for name in ("matched", "missing", "dropped"):
        keys = document[name]
        rows.add_row(name, f"{len(keys):,}", ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else ""))
    out_console = console()
    out_console.print(f"{spec.name}{stem_said}, {spec.channels} channels; layout: {conversion.layout}", markup=False)
    out_console.print(rows)
    out_console.print(f"checkpoint: {path}", soft_wrap=True, markup=False)


@shared_options
def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT|KEY", help="A backbone.safetensors, a stage's folder or its key.")
    ],
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            help="timm: safetensors for timm.create_model. torchvision: a .pth for torchvision's ResNets. "
            "onnx: a network that runs without Python.",
        ),
    ] = Format.timm,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write. Default: TASKS.FORMAT, here.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--backbone-only", help="Leave out the classifier of a fine-tuned stage.")
    ] = False,
    *,
    shared: Machine,
) -> None:
    """Write a checkpoint for other programs; a fine-tuned stage goes with its classifier."""
    from sslcurr.backbones.export import SUFFIXES, exported
    from sslcurr.cli.output import print_json
    from sslcurr.engine.models import model_of, parent_from
    from sslcurr.files import write_whole

    store = shared.store()
    model = model_of(parent_from(checkpoint, store), store, checkpoint)
    path = out or Path(f"{model.title.replace(' -> ', '-').replace('/', '-')}-{kind.value}{SUFFIXES[kind.value]}")
    if path.suffix != SUFFIXES[kind.value]:
        raise SpecError(f"--format {kind.value} writes {SUFFIXES[kind.value]}, not {path.name!r}", "give another --out")
    check_writable(path)
    source = model.weights
    if path.exists() and source is not None and path.samefile(source):
        raise SpecError(f"{path} is the checkpoint to be exported", "give another --out")
    if Path(checkpoint).is_file() and path.exists() and path.samefile(checkpoint):
        raise SpecError(f"{path} is the file to be exported", "give another --out")
    if path.resolve().is_relative_to(store.root.resolve()):
        raise SpecError(f"{path} lies in the store, whose files are never overwritten", "give another --out")
    head = None if headless or model.stage is None else model.stage.folder / "head.safetensors"
    head = head if head is not None and head.is_file() else None
    classes = classes_of(model.stage) if head is not None and model.stage is not None else ()
    size = model.image_size or 224
    document: dict[str, Any] = {}
    write_whole(
        path,
        lambda temporary: document.update(
            exported(model.network(), model.backbone, size, head, classes, kind.value, temporary, name=str(path))
        ),
    )
    if shared.json:
        print_json(document)
        return
    print(f"written: {path}")
    for line in document["how"]:
        print(f"  {line}")


def classes_of(stage: Stage) -> tuple[str, ...]:
    """The names of a fine-tuned stage's classes.

    Raises:
        DataError: the packed images, which say them, are gone.
    """
    from sslcurr.data.pack import load_pack

    return load_pack(Path(stage.spec.data.pack)).classes
