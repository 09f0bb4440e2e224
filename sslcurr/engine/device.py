"""Where a stage runs, in which precision and memory layout: chosen by the device unless requested."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
from dataclasses import dataclass
from typing import Any

import torch

from sslcurr.errors import SpecError

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 2**22  # bytes of a tensor that is given back at once


@dataclass(frozen=True, slots=True)
class Placement:
    """A device with what was chosen for it.

    Attributes:
        device: the torch device.
        precision: `32` or `bf16` (autocast; weights and losses stay in float32).
        channels_last: memory layout of images and weights.
        description: the device's name, for records.
    """

    device: torch.device
    precision: str
    channels_last: bool
    description: str

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """A fresh context in which forward passes run in the chosen precision."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def placement(device: str, precision: str = "auto") -> Placement:
    """Choose device, precision and layout.

    On GPUs channels_last, and bf16 where they have it. On CPUs float32 in the plain layout; bf16, with channels_last,
    is for those who ask. It trains a ResNet-18 at 32 and 64 px 1.4 and 1.9 times as fast on an AMD EPYC with AVX-512
    BF16 and 0.9 times as fast on an Intel Xeon that has it too, and on maps of one pixel (32 px and the ImageNet stem)
    torch 2.15 gives gradients of it that are sometimes not finite.

    Raises:
        SpecError: there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise SpecError(f"unknown device {device!r}", "give --device auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        description = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        return Placement(
            torch.device("cpu"), "32" if precision == "auto" else precision, precision == "bf16", description
        )
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise SpecError(f"there is no device {device!r} here", "give --device cpu, or install a CUDA build of torch")
    where = torch.device("cuda", int(index or 0))
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return Placement(where, precision, True, torch.cuda.get_device_name(where))


def keep_freed_memory() -> None:
    """Let the C library keep small tensors that a step frees for the next one, and give back large ones at once.

    By default glibc gives back whatever happens to lie at the end of its memory, page by page, and comes to keep
    tensors of up to 32 MiB among small ones, where the holes that they leave fit nothing else: a seventh more memory
    for SwAV, at the same speed. It is no part of any result. Where the C library has no `mallopt` (macOS, Windows,
    musl), nothing happens.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, LARGE)
