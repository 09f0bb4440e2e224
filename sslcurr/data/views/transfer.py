"""Tensors from the host to the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def send(tensors: Sequence[Tensor], device: torch.device, non_blocking: bool = True) -> list[Tensor]:
    """Copies of CPU tensors on a device, in one transfer from pinned memory, which does not wait for the device."""
    if device.type == "cpu":
        return list(tensors)
    # Eight bytes each keeps every element aligned, whatever its type.
    parts = [tensor.double().view(torch.long) if tensor.is_floating_point() else tensor.long() for tensor in tensors]
    flat = torch.cat([part.reshape(-1) for part in parts])
    if device.type == "cuda":
        flat = flat.pin_memory()
    sent = flat.to(device, non_blocking=non_blocking).split([tensor.numel() for tensor in tensors])
    return [
        (part.view(torch.double) if tensor.is_floating_point() else part).to(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(sent, tensors, strict=True)
    ]
