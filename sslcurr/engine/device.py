"""Where a stage runs, in which precision and memory layout: chosen by the device unless requested."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sslcurr.errors import SpecError, is_out_of_memory
from sslcurr.wording import counted

# So many times as slow as float32 means that a CPU has no instructions for bf16; with them it is at most twice as slow.
SLOWEST_BF16 = 10.0
# Matrix products to measure that by: their sides grow until one takes so many seconds.
SMALLEST_PRODUCT, LARGEST_PRODUCT, LONG_PRODUCT = 32, 512, 0.02

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
        description = f"{platform.processor() or platform.machine()}, {counted(torch.get_num_threads(), 'thread')}"
        return Placement(
            torch.device("cpu"), "32" if precision == "auto" else precision, precision == "bf16", description
        )
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise SpecError(f"there is no device {device!r} here", "give --device cpu, or install a CUDA build of torch")
    where = torch.device("cuda", int(index or 0))
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return Placement(where, precision, True, torch.cuda.get_device_name(where))


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Say in one line that a training needs more memory than there is.

    Raises:
        SpecError: it does.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else "the computer has no more"
        raise SpecError(
            f"{what} needs more memory than there is ({reason})",
            "give a smaller --batch-size or --image-size, or --recompute, which keeps less of each image",
        ) from error


def check_speed(where: Placement) -> None:
    """Refuse bf16 on a CPU without instructions for it, where a training would take hundreds of times as long.

    Raises:
        SpecError: matrix products in bf16 are that much slower than in float32 here.
    """
    times = times_slower(where)
    if times > SLOWEST_BF16:
        raise SpecError(
            f"this CPU takes {times:.0f} times as long for a matrix product in bf16 as in float32: it has no "
            "instructions for bf16",
            "give --precision 32, or leave --precision out",
        )


def tested_placement(device: str, precision: str) -> Placement:
    """As `placement`, of a model that is only tested: in float32 where bf16 would take too long."""
    where = placement(device, precision)
    return placement(device, "32") if times_slower(where) > SLOWEST_BF16 else where


def times_slower(where: Placement) -> float:
    """How many times as long as in float32 matrix products take here; 1 but for bf16 on a CPU, which is measured."""
    return bf16_slowdown() if where.device.type == "cpu" and where.precision == "bf16" else 1.0


@functools.cache
def bf16_slowdown() -> float:
    """How many times as long as in float32 a matrix product takes in bf16 on this CPU; measured once a process."""
    return slowdown(product_seconds)


def slowdown(seconds: Callable[[int, torch.dtype], float]) -> float:
    """How many times as long as in float32 a matrix product takes in bf16.

    Products grow from tiny ones, and not beyond the first that takes long: without instructions for bf16 a large one
    takes minutes, and a small one shows it. The shortest of three times counts.

    Args:
        seconds: how long a product of two square matrices of a side and type takes.
    """
    side = SMALLEST_PRODUCT
    while True:
        single, brief = (min(seconds(side, kind) for _ in range(3)) for kind in (torch.float32, torch.bfloat16))
        if side >= LARGEST_PRODUCT or max(single, brief) > LONG_PRODUCT:
            return brief / max(single, 1e-9)
        side *= 2


def product_seconds(side: int, kind: torch.dtype) -> float:
    """Seconds of a product of two square matrices on the CPU."""
    matrix = torch.ones(side, side, dtype=kind)
    began = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - began


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
