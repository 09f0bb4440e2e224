"""Checkpoints for other programs: timm, torchvision, ONNX."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sslcurr.backbones.build import build
from sslcurr.backbones.checkpoint import read_head
from sslcurr.errors import SpecError
from sslcurr.spec.stage import BackboneSpec
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION

FILE = "<file>"
# What the outputs of a model with a last layer are called.
OUTPUTS = {CLASSES.name: "logits", MULTILABEL.name: "logits", REGRESSION.name: "numbers"}
SUFFIXES = {"timm": ".safetensors", "torchvision": ".pth", "onnx": ".onnx"}


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file for another program holds; the fields are those of `ExportDocument`.

    An image is squashed to a square of `pack_size` pixels, its largest centred square is cut out of that and resized to
    `image_size`, both bilinear with antialiasing; then (pixels / 255 - mean) / std.
    """

    backbone: str
    stem: str
    image_size: int
    channels: int
    mean: list[float]
    std: list[float]
    classes: list[str]
    pack_size: int
    target: str
    flips: list[str]
    temperature: float | None


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What is known of a fine-tuned model beside its network.

    Attributes:
        classes: names of its outputs, in order.
        pack_size: side to which images were squashed before they were cropped, in pixels.
        target: the kind of target.
        flips: `horizontal`, `vertical`: those that it was trained with.
        temperature: by which its outputs are divided for calibrated probabilities; None where it is not known.
    """

    classes: tuple[str, ...]
    pack_size: int
    target: str
    flips: tuple[str, ...] = ()
    temperature: float | None = None


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the lines of Python that read it."""

    about: About
    how: list[str]


def exported(
    network: nn.Module,
    spec: BackboneSpec,
    image_size: int,
    head: Path | None,
    model: Fitted | None,
    kind: str,
    path: Path,
    name: str,
) -> Exported:
    """Write a network for another program.

    Args:
        network: the backbone, in evaluation mode.
        spec: what it is.
        image_size: side of the images it was trained with, in pixels.
        head: the classifier of a fine-tuned stage, `head.safetensors`; None exports the backbone alone.
        model: what is known of the classifier; None exports the backbone alone.
        kind: `timm`, `torchvision` or `onnx`.
        path: the file to write.
        name: what the lines of Python call it.

    Returns:
        What was written.

    Raises:
        SpecError: the other program has no such network, or a package is missing.
    """
    whole = network if head is None else with_classifier(network, spec, head)
    about = About(
        backbone=spec.name,
        stem=spec.stem,
        image_size=image_size,
        channels=spec.channels,
        mean=list(spec.mean),
        std=list(spec.std),
        classes=[] if model is None else list(model.classes),
        pack_size=image_size if model is None else model.pack_size,
        target=CLASSES.name if model is None else model.target,
        flips=[] if model is None else list(model.flips),
        temperature=None if model is None else model.temperature,
    )
    num_classes = len(about.classes)
    how = {"timm": _timm, "torchvision": _torchvision, "onnx": _onnx}[kind](whole, spec, num_classes, about, path)
    return Exported(about, [line.replace(FILE, name) for line in how])


def with_classifier(network: nn.Module, spec: BackboneSpec, head: Path) -> nn.Module:
    """timm's network with a classifier: the weights of the backbone and those of a `head.safetensors`."""
    matrix, bias = read_head(head)
    whole = build(spec, num_classes=len(matrix)).eval()
    whole.load_state_dict(network.state_dict(), strict=False)
    classifier = whole.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        classifier.weight.copy_(matrix)
        classifier.bias.copy_(bias)
    return whole


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _stem_lines(spec: BackboneSpec) -> list[str]:
    if spec.stem == "imagenet":
        return []
    stride = 2 if spec.stem == "small" else 1
    return [
        f"model.conv1 = torch.nn.Conv2d({spec.channels}, 64, 3, stride={stride}, padding=1, bias=False)",
        "model.maxpool = torch.nn.Identity()",
    ]


def _timm(network: nn.Module, spec: BackboneSpec, num_classes: int, about: About, path: Path) -> list[str]:
    save_file(_weights(network), path, metadata={"about": json.dumps(asdict(about))})
    return [
        f'model = timm.create_model("{spec.name}", num_classes={num_classes}, in_chans={spec.channels})',
        *_stem_lines(spec),
        f'model.load_state_dict(safetensors.torch.load_file("{FILE}"))',
    ]


def _torchvision(network: nn.Module, spec: BackboneSpec, num_classes: int, about: About, path: Path) -> list[str]:
    import torchvision

    weights = _weights(network)
    with torch.device("meta"):
        names = torchvision.models.list_models(module=torchvision.models)
        theirs = torchvision.models.get_model(spec.name).state_dict() if spec.name in names else {}
    body = {name for name in theirs if not name.startswith("fc.")}
    shapes_differ = any(
        weights[name].shape != theirs[name].shape for name in body & weights.keys() if name != "conv1.weight"
    )
    if body != {name for name in weights if not name.startswith("fc.")} or shapes_differ:
        raise SpecError(f"torchvision has no network with the weights of timm's {spec.name}", "give --format timm")
    torch.save(weights, path)
    lines = [f"model = torchvision.models.{spec.name}({f'num_classes={num_classes}' if num_classes else ''})"]
    if spec.stem == "imagenet" and spec.channels != 3:
        lines.append(f"model.conv1 = torch.nn.Conv2d({spec.channels}, 64, 7, stride=2, padding=3, bias=False)")
    lines += _stem_lines(spec)
    lines += [] if num_classes else ["model.fc = torch.nn.Identity()"]
    return [*lines, f'model.load_state_dict(torch.load("{FILE}"))']


def _onnx(network: nn.Module, spec: BackboneSpec, num_classes: int, about: About, path: Path) -> list[str]:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch needs it)
    except ImportError as error:
        raise SpecError("ONNX needs the packages onnx and onnxscript", "pip install 'sslcurr[onnx]'") from error
    size, output = about.image_size, OUTPUTS[about.target] if num_classes else "features"
    example = torch.zeros(2, spec.channels, size, size)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["images"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for name, value in asdict(about).items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=name, value=json.dumps(value)))
    onnx.save(model, str(path))
    return [
        f'session = onnxruntime.InferenceSession("{FILE}")',
        f'(found,) = session.run(["{output}"], {{"images": images}})  # float32 [N, {spec.channels}, {size}, {size}], '
        "(pixels / 255 - mean) / std",
    ]
