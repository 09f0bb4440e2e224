"""The documents of `sslcurr import` and `sslcurr export`."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document


class ImportDocument(Document, frozen=True, kw_only=True):
    """Another project's checkpoint as one of ours.

    Attributes:
        checkpoint: the file that was written.
        sha256: of that file.
        backbone, stem, channels: the network it holds.
        layout: whose file it was.
        matched, missing, dropped: keys that were used, that the file lacks, and that were left out.
    """

    kind: ClassVar[str] = "import"

    checkpoint: str
    sha256: str
    backbone: str
    stem: str
    channels: int
    layout: str
    matched: list[str]
    missing: list[str]
    dropped: list[str]


class ExportDocument(Document, frozen=True, kw_only=True):
    """A checkpoint for other programs.

    Attributes:
        file: that was written.
        format: timm, torchvision or onnx.
        backbone, stem, image_size, channels: the network and what it sees; pixels.
        mean, std: normalisation of an input in [0, 1], one number a channel.
        classes: names of the classes, labels or numbers of a fine-tuned model.
        how: lines that say how it is loaded.
        pack_size: side to which images are squashed before they are cropped, in pixels.
        target: kind of target of a fine-tuned model: `classes`, `multilabel` or `regression`.
        flips: those that it was trained with.
        temperature: by which its outputs are divided for calibrated probabilities; None where it is not known.
    """

    kind: ClassVar[str] = "export"

    file: str
    format: str
    backbone: str
    stem: str
    image_size: int
    channels: int
    mean: list[float]
    std: list[float]
    classes: list[str]
    how: list[str]
    pack_size: int | UnsetType = UNSET
    target: str | UnsetType = UNSET
    flips: list[str] | UnsetType = UNSET
    temperature: float | UnsetType | None = UNSET
