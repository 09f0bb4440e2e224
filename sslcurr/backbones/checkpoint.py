"""Checkpoints: a backbone as a safetensors file that says in its header what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sslcurr.backbones.build import build
from sslcurr.errors import CheckpointError
from sslcurr.files import hint_for
from sslcurr.integrity import sound
from sslcurr.spec.stage import BackboneSpec
from sslcurr.wording import reason_of

CHECKPOINT_FORMAT = "sslcurr-1"
UNREADABLE_HINT = "the file is damaged or absent: train it again or copy it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a checkpoint says of itself.

    Attributes:
        backbone: the network, its stem, channels and normalisation.
        image_size: side of the views it was trained with, in pixels.
        tasks: the tasks it went through, oldest first.
    """

    backbone: BackboneSpec
    image_size: int
    tasks: tuple[str, ...]


def save_backbone(network: nn.Module, header: Header, path: Path) -> None:
    """Write the weights of `network` and `header` to `path` (not atomic: the store publishes whole folders)."""
    save_weights(network.state_dict(), header, path)


def save_weights(weights: dict[str, Tensor], header: Header, path: Path) -> None:
    """As `save_backbone`, for the state dict of a network."""
    about = {
        "format": CHECKPOINT_FORMAT,
        "backbone": header.backbone.name,
        "stem": header.backbone.stem,
        "channels": header.backbone.channels,
        "mean": header.backbone.mean,
        "std": header.backbone.std,
        "image_size": header.image_size,
        "tasks": header.tasks,
    }
    # One entry: safetensors writes several in any order, and equal weights should be equal bytes.
    _write_safetensors(weights, path, {"sslcurr": json.dumps(about)})


def save_part(module: nn.Module, path: Path) -> None:
    """Write the tensors of a module as safetensors.

    Raises:
        CheckpointError: they cannot be written, as on a full disk.
    """
    _write_safetensors(module.state_dict(), path, None)


def _write_safetensors(weights: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise CheckpointError(
            f"cannot write {path} ({error})", "free some space and run the same command again: what was saved is kept"
        ) from error


def is_ours(path: Path) -> bool:
    """Whether a file is a safetensors file with our header; never raises for a file of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return False
    return "sslcurr" in metadata


def read_header(path: Path) -> Header:
    """What the checkpoint at `path` says of itself, without reading its weights.

    Raises:
        CheckpointError: no such file, no safetensors file, or none of sslcurr's.
        StoreError: it is a file of the store, and not what was written.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}", "give a backbone.safetensors file or a stage's key")
    _check_readable(path)
    sound(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error})", "give a backbone.safetensors file that sslcurr wrote"
        ) from error
    try:
        return _header_of(json.loads(metadata.get("sslcurr", "{}")), path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"the header of {path} is damaged ({reason_of(error)})", UNREADABLE_HINT) from error


def _header_of(about: dict[str, Any], path: Path) -> Header:
    if about.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path} was not written by sslcurr: its header does not say which backbone it holds",
            "give a backbone.safetensors file that sslcurr wrote",
        )
    backbone = BackboneSpec(
        name=about["backbone"],
        stem=about["stem"],
        channels=about["channels"],
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
    )
    return Header(backbone=backbone, image_size=about["image_size"], tasks=tuple(about["tasks"]))


def load_into(network: nn.Module, path: Path) -> None:
    """Load the weights at `path` into `network`; every key must match.

    Raises:
        CheckpointError: keys are missing, left over or of another shape.
    """
    weights = read_weights(path)
    expected = network.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    surplus = sorted(weights.keys() - expected.keys())
    shapes = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    if missing or surplus or shapes:
        first = (missing or surplus or shapes)[0]
        raise CheckpointError(
            f"{path} does not fit the backbone: {len(missing)} keys missing, {len(surplus)} left over, "
            f"{len(shapes)} of another shape (first: {first})",
            "use the backbone, stem and channels that the checkpoint was trained with",
        )
    network.load_state_dict(weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it cannot be read.
        StoreError: it is a file of the store, and not what was written.
    """
    _check_readable(path)
    sound(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path} ({error})", UNREADABLE_HINT) from error


def _check_readable(path: Path) -> None:
    """Raises CheckpointError for a file that cannot be opened: to safetensors one that may not be read is absent."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror})", hint_for(error, UNREADABLE_HINT)) from error


def read_head(path: Path) -> tuple[Tensor, Tensor]:
    """The last layer of a fine-tuned stage, its `head.safetensors`: weights [outputs, features] and biases [outputs].

    That of numbers has their unit, which is multiplied in.

    Raises:
        CheckpointError: it cannot be read.
    """
    tensors = {name.rpartition(".")[2]: tensor for name, tensor in read_weights(path).items()}
    matrix, bias = tensors["weight"], tensors["bias"]
    if "std" in tensors:
        matrix, bias = matrix * tensors["std"], bias * tensors["std"] + tensors["mean"]
    return matrix, bias


class HasCheckpoint(Protocol):
    """What names the file of a checkpoint, such as a stage of `Lab.stages()`."""

    @property
    def checkpoint(self) -> str:
        """Path of the file."""


def load_backbone(source: str | Path | HasCheckpoint) -> tuple[nn.Module, Header]:
    """The network of a checkpoint with its weights, in evaluation mode, and the checkpoint's header.

    Args:
        source: the file, or what names it.

    Raises:
        CheckpointError: the file is missing, damaged or not of sslcurr.
    """
    path = Path(source if isinstance(source, (str, Path)) else source.checkpoint)
    header = read_header(path)
    with torch.random.fork_rng(devices=[]):
        network = build(header.backbone)
    load_into(network, path)
    return network.eval(), header
