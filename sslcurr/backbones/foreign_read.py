"""Reading other projects' files: tensors out of pickles, safetensors and archives, without running their code."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sslcurr.errors import CheckpointError
from sslcurr.files import hint_for

# What reading a damaged or hostile file is known to raise.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    AttributeError,
    ImportError,
    ValueError,
    TypeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    SafetensorError,
)


def read_state(path: Path, *, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """All tensors of a file on the CPU, by dotted names: `state_dict.backbone.conv1.weight`.

    The file is safetensors or what torch.save wrote, whatever its name ends with. A pickle may run any code when it is
    read, so only tensors and plain values are allowed; `unsafe_pickle` allows all, also a whole pickled network.

    Raises:
        CheckpointError: no file, no checkpoint, damaged, no tensors in it, or a pickle of more than plain values.
    """
    tensors = dict(_tensors(_content(path, unsafe_pickle=unsafe_pickle), "", frozenset()))
    if not tensors:
        raise CheckpointError(f"there are no weights in {path}", "give the file that holds the trained network")
    return tensors


def _content(path: Path, *, unsafe_pickle: bool) -> object:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}", "give the path of a checkpoint, as model.pth or model.safetensors")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        # safetensors begins with the length of its header in eight bytes, and the header with a brace.
        if start[6:] == b"\0\0{":
            return load_file(path)
        # A zip archive, or a pickle of protocol 2 and later: torch.save has written both.
        if start[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            what = "is empty" if not start else "is neither a safetensors file nor one that torch.save wrote"
            raise CheckpointError(f"{path} {what}", "copy it again, or unpack it if it is an archive")
        with warnings.catch_warnings():
            # Of old storages and changed sources: nothing that the person who has the file can mend.
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
            return content
    except UNREADABLE as error:
        if not unsafe_pickle and (names := _not_allowed(path, error)):
            raise CheckpointError(
                f"{path} holds more than weights: reading it would run {', '.join(names)}",
                "if you trust where it comes from: sslcurr import FILE --unsafe-pickle",
            ) from error
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise CheckpointError(
                f"{path} can only be read where the Python module {error.name!r} is installed",
                "install the project that wrote it, or save its state dict alone there",
            ) from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120].strip().rstrip(":")
        raise CheckpointError(
            f"cannot read {path} ({reason})", hint_for(error, "the file is damaged or no checkpoint: copy it again")
        ) from error


def _not_allowed(path: Path, error: BaseException) -> list[str]:
    """What a pickle calls that is not allowed, at most three names; none if that is not what is wrong with it."""
    if "TorchScript" in str(error):
        return ["TorchScript"]
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except UNREADABLE:
        # Files from before the zip format are not looked through: torch's message names the first.
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
    return names if len(names) <= 3 else [*names[:3], "..."]


def _tensors(content: object, name: str, inside: frozenset[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested containers, named by the way to them; a container inside itself is not followed."""
    if isinstance(content, Tensor):
        if content.layout == torch.strided and not content.is_quantized and content.device.type == "cpu":
            yield name, content.detach()
        return
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, list | tuple):
        items = list(enumerate(content))
    else:
        return
    if id(content) in inside or len(inside) > 50:
        return
    for key, value in items:
        yield from _tensors(value, f"{name}.{key}" if name else str(key), inside | {id(content)})
