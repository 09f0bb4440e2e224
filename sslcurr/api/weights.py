"""Checkpoints from and for other programs: what `import` and `export` do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.analysis.results.weights.document import ExportDocument, ImportDocument
from sslcurr.api.session import Session
from sslcurr.errors import SpecError
from sslcurr.files import check_writable, write_whole

if TYPE_CHECKING:
    from sslcurr.engine.models import Model
    from sslcurr.engine.store import Store

WEIGHT_FORMATS = ("timm", "torchvision", "onnx")
SMALLEST, LARGEST = 8, 4096


def import_weights(
    session: Session, file: Path, *, out: Path | None = None, allow_missing: bool = False, unsafe_pickle: bool = False
) -> ImportDocument:
    """Turn another project's checkpoint into one of ours.

    The network, its stem and the image size are those of the request, or else found out.

    Args:
        file: the checkpoint.
        out: where to write; None is NAME.backbone.safetensors in the working directory.
        allow_missing: fill weights that the file does not have with fresh ones.
        unsafe_pickle: run the code that a pickled file asks to run.

    Raises:
        SpecError, CheckpointError: the file cannot be read, does not fit, or cannot be written.
    """
    from sslcurr.engine.models import conversion_of, write_import
    from sslcurr.files import sha256_of

    request, path = session.request, out or Path(f"{file.stem}.backbone.safetensors")
    if path.suffix != ".safetensors":
        raise SpecError(f"--out writes safetensors, not {path.name!r}", "give a name that ends in .safetensors")
    check_writable(path)
    if path.exists() and file.exists() and path.samefile(file):
        raise SpecError(f"{path} is the file to be imported", "give another --out")
    size = request.image_size
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise SpecError(f"image size must be from 8 to 4096 pixels, got {size}", "give --image-size 224")
    conversion, spec = conversion_of(
        file, request.backbone, request.stem, unsafe_pickle=unsafe_pickle, allow_missing=allow_missing
    )
    write_whole(path, lambda temporary: write_import(conversion, spec, temporary, title=file.stem, image_size=size))
    return session.finished(
        ImportDocument(
            checkpoint=str(path),
            sha256=sha256_of(path),
            backbone=spec.name,
            stem=spec.stem,
            channels=spec.channels,
            layout=conversion.layout,
            matched=list(conversion.matched),
            missing=list(conversion.missing),
            dropped=list(conversion.dropped),
        )
    )


def export(
    session: Session, checkpoint: str, *, form: str = "timm", out: Path | None = None, backbone_only: bool = False
) -> ExportDocument:
    """Write a checkpoint for other programs; a fine-tuned stage goes with its classifier.

    Args:
        checkpoint: a file, a stage's folder or its key.
        form: timm, torchvision or onnx.
        out: where to write; None is TASKS.FORMAT in the working directory.
        backbone_only: leave out the classifier.

    Raises:
        SpecError: the file cannot be written there, or the other program has no such network.
    """
    from sslcurr.analysis.evaluation.inference import fitted_of
    from sslcurr.backbones.export import SUFFIXES, exported
    from sslcurr.engine.models import model_of, parent_from

    store = session.store()
    model = model_of(parent_from(checkpoint, store), store, checkpoint)
    name = model.title.replace(" -> ", "-").replace("/", "-")
    path = out or Path(f"{name}-{form}{SUFFIXES[form]}")
    if path.suffix != SUFFIXES[form]:
        raise SpecError(f"--format {form} writes {SUFFIXES[form]}, not {path.name!r}", "give another --out")
    check_writable(path)
    _refuse_to_overwrite(path, checkpoint, model, store)
    head = None if backbone_only or model.stage is None else model.stage.folder / "head.safetensors"
    head = head if head is not None and head.is_file() else None
    fitted = fitted_of(model.stage, store) if head is not None and model.stage is not None else None
    size = model.image_size or 224
    written: list[ExportDocument] = []

    def write(temporary: Path) -> None:
        result = exported(model.network(), model.backbone, size, head, fitted, form, temporary, name=str(path))
        written.append(ExportDocument(file=str(path), format=form, **asdict(result.about), how=result.how))

    write_whole(path, write)
    return session.finished(written[0])


def _refuse_to_overwrite(path: Path, checkpoint: str, model: Model, store: Store) -> None:
    """Raises SpecError where a file to write is one to read, or one of the store's."""
    if path.exists() and model.weights is not None and path.samefile(model.weights):
        raise SpecError(f"{path} is the checkpoint to be exported", "give another --out")
    if Path(checkpoint).is_file() and path.exists() and path.samefile(checkpoint):
        raise SpecError(f"{path} is the file to be exported", "give another --out")
    if path.resolve().is_relative_to(store.root.resolve()):
        raise SpecError(f"{path} lies in the store, whose files are never overwritten", "give another --out")
