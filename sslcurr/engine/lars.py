"""LARS: a learning rate for each weight, by the ratio of its norm to that of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

TRUST = 0.001  # what the ratio is multiplied by, in all papers that use it
EPSILON = 1e-8


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose gradients are scaled by 0.001 |w| / (|g| + decay |w|) (https://arxiv.org/abs/1708.03888).

    A group whose `adapted` is False is not scaled: that is plain SGD. Whether it is does not depend on the weight
    decay, as in the code of SimCLR, BYOL, Barlow Twins and VICReg. These divide by |g + decay w|, which is nearly the
    same at their weight decays of about 1e-6. A weight whose norm or whose gradient's norm is 0 takes a plain step.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        momentum: of the scaled gradients; the learning rate is applied after it.
        weight_decay: added to the gradient before it is scaled.
        nesterov: look ahead by one step of the momentum.
        adapted: whether gradients are scaled.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        adapted: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov, "adapted": adapted})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure`, if there is one, computes the gradients anew and gives the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        decay, momentum = group["weight_decay"], group["momentum"]
        update = weight.grad
        assert update is not None
        # Groups of a training that was begun with another LARS do not say whether they are adapted.
        if group.get("adapted", decay != 0):
            norm, slope = weight.norm(), update.norm()
            if norm != 0 and slope != 0:
                update = (update.add(weight, alpha=decay)) * (TRUST * (norm / (slope + norm * decay + EPSILON)))
        elif decay != 0:
            update = update.add(weight, alpha=decay)
        if momentum != 0:
            state = self.state[weight]
            if "momentum_buffer" in state:
                buffer = state["momentum_buffer"].mul_(momentum).add_(update)
            else:
                buffer = state["momentum_buffer"] = update.clone()
            update = update.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        weight.add_(update, alpha=-group["lr"])
