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


def torch_generator(*parts: object) -> torch.Generator:
    """A CPU generator of torch seeded for a purpose."""
    import torch

    return torch.Generator().manual_seed(seed_for(*parts))


def numpy_generator(*parts: object) -> np.random.Generator:
    """A generator of NumPy seeded for a purpose."""
    import numpy as np

    return np.random.default_rng(seed_for(*parts))
