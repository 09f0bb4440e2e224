"""The layers of a network by name, and what each gives for a batch of images."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from sslcurr.backbones.build import stage_names
from sslcurr.errors import SpecError

POOLED = "pooled"
"""The name of the network's own output, [N, num_features]."""

# Modules that hand on what they are given, in evaluation mode.
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)


def layer_names(network: nn.Module, which: str) -> list[str]:
    """The layers that `which` means, in the network's order.

    Args:
        network: a backbone.
        which: `stages` (those of timm's `feature_info`, and `pooled`), `blocks` (stages, and the blocks they are made
            of), `all` (every module that has no parts) or a pattern of names such as `layer4.*`.

    Raises:
        SpecError: no layer has such a name.
    """
    stages = stage_names(network)
    if which == "stages":
        return [*stages, POOLED]
    if which == "blocks":
        return [*_with_blocks(network, stages), POOLED]
    if which == "all":
        parts = [name for name, module in network.named_modules() if name and not list(module.children())]
        return [name for name in parts if not _idle(network.get_submodule(name))] + [POOLED]
    names = [name for name, _ in network.named_modules() if name]
    matching = [name for name in [*names, POOLED] if fnmatchcase(name, which)]
    if not matching:
        near = difflib.get_close_matches(which, [*names, POOLED], n=4, cutoff=0.5) or [*stages, POOLED]
        raise SpecError(
            f"no layer is named {which!r}",
            f"there are {', '.join(near)} and others; or give stages, blocks, all, or a pattern such as {stages[-1]}.*",
        )
    return matching


def _idle(module: nn.Module) -> bool:
    return isinstance(module, IDLE) or type(module).__name__ == "DropPath"


def _with_blocks(network: nn.Module, stages: Sequence[str]) -> list[str]:
    names = []
    for name in stages:
        stage = network.get_submodule(name)
        blocks, prefix = getattr(stage, "blocks", stage), f"{name}.blocks" if hasattr(stage, "blocks") else name
        if isinstance(blocks, nn.Sequential):
            names += [f"{prefix}.{part}" for part, _ in blocks.named_children()]
        names.append(name)
    return list(dict.fromkeys(names))


def not_finite(title: str, layer: str) -> SpecError:
    """The mistake of showing images to the model `title`, whose features at `layer` are NaN or infinite."""
    return SpecError(
        f"{title} gives features that are not finite at {layer}", "its weights are damaged, or its training diverged"
    )


class Taps:
    """Shows the output of the layers named to `see`, once for each time one is called; a context.

    A module that a network calls several times is told apart: `relu`, `relu#2` ... What `see` is given may be
    overwritten in place by the next layer, so it must take what it needs of it at once. `see(name, output, again)` gets
    `again` true where the output is the very tensor that the layer before gave (a stage's is that of its last block).
    """

    def __init__(self, network: nn.Module, names: Sequence[str], see: Callable[[str, Tensor, bool], None]) -> None:
        self.network = network
        self.names = names
        self.see = see
        self.calls: Counter[str] = Counter()
        self.hooks: list[Any] = []
        self.last: tuple[Tensor, int] | None = None

    def __enter__(self) -> Taps:
        for name in self.names:
            if name != POOLED:
                module = self.network.get_submodule(name)
                self.hooks.append(
                    module.register_forward_hook(lambda m, i, output, name=name: self._seen(name, output))
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def __call__(self, images: Tensor) -> None:
        """Show what each layer gives for [N, C, H, W] images."""
        self.calls.clear()
        self.last = None
        with torch.no_grad():  # inference_mode counts no versions, by which a change in place is seen
            output = self.network(images)
            if POOLED in self.names:
                self._seen(POOLED, output)
        self.last = None

    def _seen(self, name: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise SpecError(f"the layer {name} gives no tensor but a {type(output).__name__}", "name other layers")
        self.calls[name] += 1
        number = self.calls[name]
        again = self.last is not None and self.last[0] is output and self.last[1] == output._version
        self.last = (output, output._version)
        self.see(name if number == 1 else f"{name}#{number}", output, again)
