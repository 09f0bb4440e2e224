"""The parts of a backbone from its stem to its end, as timm numbers them: what is frozen, and what learns slower."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from sslcurr.backbones.build import build
from sslcurr.errors import SpecError
from sslcurr.spec.stage import BackboneSpec

# No name of a parameter: the last layer, which timm numbers together with what is behind all stages.
HEAD = "?"


class _WithHead(nn.Module):
    """The names of a network's parameters, and of its last layer, which was taken off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def named_parameters(self, *arguments: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.network.named_parameters(*arguments, **options)
        yield HEAD, nn.Parameter(torch.empty(0))


def layers_of(network: nn.Module, *, coarse: bool = False) -> dict[str, int]:
    """The number of each parameter's layer, from 0, the stem, on, and of the `HEAD`; of its stage where `coarse`.

    Raises:
        SpecError: timm does not say which these are.
    """
    from timm.models import group_parameters

    try:
        matcher = network.group_matcher(coarse=coarse)  # type: ignore[operator]
        numbers = group_parameters(_WithHead(network), matcher, reverse=True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise SpecError(
            f"timm does not say which layers a {type(network).__name__} has: none can be frozen or learn slower",
            "leave out freeze and layer_decay, or take another backbone, such as resnet18",
        ) from error
    return {name: int(number) for name, number in numbers.items()}


def freeze_parts(network: nn.Module, freeze: str) -> list[nn.Module]:
    """Let a part of a network take no gradient.

    Args:
        network: a backbone.
        freeze: as of `sslcurr.spec.stage.Training`.

    Returns:
        The modules whose parameters are all frozen; norms among them are to stay in the mode of evaluation.

    Raises:
        SpecError: it has not so many stages.
    """
    if freeze == "none":
        return []
    stages = layers_of(network, coarse=True)
    # A norm behind the last stage counts with the head, and is frozen with the last stage.
    last = max((number for number in stages.values() if number != stages[HEAD]), default=0)
    number = {"stem": 0, "all": last}.get(freeze)
    if number is None:
        number = int(freeze)
        if number > last:
            raise SpecError(f"the network has {last} stages, and freeze={number} wants more", "freeze=all is all of it")
    frozen = {name for name, stage in stages.items() if stage <= number or number == last}
    for name, parameter in network.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    found = []
    for name, part in network.named_modules():
        own = [f"{name}.{each}" if name else each for each, _ in part.named_parameters(recurse=False)]
        if own and set(own) <= frozen:
            found.append(part)
    return found


@lru_cache(maxsize=16)
def check_parts(spec: BackboneSpec, freeze: str) -> None:
    """Raises SpecError for a part that a network has not, or where timm does not say which layers it has.

    It is built without memory for its weights.
    """
    with torch.device("meta"):
        network = build(spec)
    layers_of(network)
    freeze_parts(network, freeze)
