"""Files that `sslcurr export` wrote, read again: a network with its last layer, and what it was trained with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sslcurr.backbones.build import build
from sslcurr.backbones.checkpoint import read_weights
from sslcurr.backbones.export import About
from sslcurr.errors import CheckpointError, SpecError
from sslcurr.spec.stage import BackboneSpec
from sslcurr.wording import reason_of

ONNX_ERRORS = (Exception,)
"""What onnxruntime raises on damaged files: classes of its own that share no other."""

Network = Callable[[Tensor], Tensor]
SUFFIXES = (".safetensors", ".onnx")
HINT = "give a file that sslcurr export wrote, with --format timm or onnx, or the key of a stage"


def is_exported(path: Path) -> bool:
    """Whether a file is one that `sslcurr export` wrote for timm or as ONNX; by its name for ONNX."""
    if path.suffix == ".onnx":
        return path.is_file()
    try:
        with safe_open(path, framework="pt") as file:
            return "about" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_exported(path: Path, device: torch.device) -> tuple[Network, About]:
    """The network of an exported file, [N, C, H, W] to [N, outputs], and what the file says of it.

    Raises:
        CheckpointError: it is none, is damaged, or has no last layer.
        SpecError: the package that runs it is missing.
    """
    network, values = _read_onnx(path) if path.suffix == ".onnx" else _read_timm(path, device)
    known = {item.name for item in fields(About)}
    missing = known - values.keys()
    if missing:
        raise CheckpointError(f"{path} does not say what its {sorted(missing)[0]} is", HINT)
    about = About(**{name: value for name, value in values.items() if name in known})
    if not about.classes:
        raise CheckpointError(f"{path} has no last layer: it gives features, and predicts nothing", HINT)
    return network, about


def _read_timm(path: Path, device: torch.device) -> tuple[Network, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path} ({reason_of(error)})", HINT) from error
    if "about" not in metadata:
        raise CheckpointError(f"{path} was not written by sslcurr export", HINT)
    values = json.loads(metadata["about"])
    spec = backbone_of(values)
    network = build(spec, num_classes=len(values["classes"])).eval()
    network.load_state_dict(read_weights(path))
    return network.to(device), values


def _read_onnx(path: Path) -> tuple[Network, dict[str, Any]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise SpecError("an ONNX file needs the package onnxruntime", "pip install 'sslcurr[onnx]'") from error
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        values = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    except ONNX_ERRORS as error:
        raise CheckpointError(f"cannot read {path} ({reason_of(error)})", HINT) from error

    def network(images: Tensor) -> Tensor:
        (outputs,) = session.run(None, {"images": _as_array(images)})
        return torch.from_numpy(outputs)

    return network, values


def _as_array(images: Tensor) -> NDArray[np.float32]:
    return np.asarray(images.float().cpu().numpy())


def backbone_of(values: dict[str, Any]) -> BackboneSpec:
    """The network that a file says it holds."""
    return BackboneSpec(
        name=values["backbone"],
        stem=values["stem"],
        channels=values["channels"],
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
    )
