"""Less memory for more arithmetic: only what the stages of a network give is kept for the backward pass.

What lies within a stage is computed again when its gradient is due (https://arxiv.org/abs/1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from sslcurr.backbones.build import stage_names


def recompute_stages(network: nn.Module) -> None:
    """Make each stage of a timm network forget what it computed in training, and compute it again for its gradient.

    Results stay what they were, bit for bit: running statistics are moved by the first computation only, and random
    numbers (dropout) are those of it. A copy made of the network afterwards would share its stages: copy it before.
    """
    for name in stage_names(network):
        stage = network.get_submodule(name)
        if not list(stage.parameters()):
            continue  # the activation after the stem, which works in place
        stage.forward = _forgetful(stage, stage.forward)


def _forgetful(stage: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _statistics_stand_still(stage)

    def again(*inputs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        output: Tensor = checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)
        return output

    return again


@contextmanager
def _statistics_stand_still(module: nn.Module) -> Iterator[None]:
    # Without momentum a norm computes all that it did before, which the backward pass insists on, and moves nothing.
    norms = [part for part in module.modules() if isinstance(part, _NormBase)]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)
