"""Randomness is a function of what it is for, not a state: nothing random is ever saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_for(*parts: object) -> int:
    """A 63-bit seed for a purpose, such as `seed_for(seed, "order", epoch)`."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_torch(*parts: object) -> None:
    """Seed torch's global generators for a purpose: that of the CPU, and those of GPUs once they are in use.

    `torch.manual_seed` gives the same numbers, but also asks each kind of device that is not in use, which notes the
    whole call stack: half a millisecond at every step.
    """
    import torch

    seed = seed_for(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def torch_generator(*parts: object) -> torch.Generator:
    """A CPU generator of torch seeded for a purpose."""
    import torch

    return torch.Generator().manual_seed(seed_for(*parts))


def numpy_generator(*parts: object) -> np.random.Generator:
    """A generator of NumPy seeded for a purpose."""
    import numpy as np

    return np.random.default_rng(seed_for(*parts))
