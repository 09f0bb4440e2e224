"""What hardware there may be, as far as it can be told without torch, which takes seconds to import."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

# Devices of NVIDIA's driver, of its driver in Windows' Linux, and of AMD's.
DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
LIBRARIES = ("libcuda.so.1", "libamdhip64.so")


@functools.cache
def may_have_gpus() -> bool:
    """Whether torch may find a GPU here: there is a driver of one, or it cannot be told."""
    if sys.platform != "linux":
        return True
    return any(Path(device).exists() for device in DEVICES) or any(_can_load(library) for library in LIBRARIES)


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
