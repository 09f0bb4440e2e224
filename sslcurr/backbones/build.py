"""Backbones: timm networks without their classifier, with a stem for small images and features at every stage.

Convolutional networks, transformers and hybrids of both; what each stage gives is read as a map by `as_map`.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sslcurr.errors import SpecError, did_you_mean
from sslcurr.spec.stage import BackboneSpec

# How timm's transformers are told to take images of any size; networks of a fixed size that know neither keep theirs.
ANY_SIZE: tuple[dict[str, bool], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
    {},
)
# Of the stems for small images: by what the patches of a transformer are divided.
FINER = {"small": 4, "cifar": 8}


def import_timm() -> Any:
    """timm, without wandb: timm imports it wherever it is installed, for its own logs, which takes as long as timm."""
    if "timm" not in sys.modules and "wandb" not in sys.modules:
        sys.modules["wandb"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("timm")
        finally:
            del sys.modules["wandb"]
    return importlib.import_module("timm")


def build(spec: BackboneSpec, num_classes: int = 0) -> nn.Module:
    """The network of `spec` with fresh weights from torch's global generator; [N, C, H, W] -> [N, num_features].

    With `num_classes` it has timm's classifier, and gives [N, num_classes].

    Raises:
        SpecError: timm has no such network, it has no stages, or it cannot have the requested stem.
    """
    timm = import_timm()
    if not timm.is_model(spec.name):
        raise SpecError(f"timm has no backbone named {spec.name!r}", did_you_mean(spec.name, timm.list_models()[:]))
    try:
        network = _created(spec, num_classes)
    except RuntimeError as error:
        raise SpecError(f"timm cannot build {spec.name!r}: {error}", "try resnet18 or resnet50") from error
    if not getattr(network, "feature_info", []):
        raise SpecError(
            f"{spec.name!r} names no stages", "try resnet18, resnet50, convnext_tiny or vit_small_patch16_224"
        )
    if spec.stem != "imagenet" and not has_patches(network):
        _shrink_stem(network, spec)
    return network


def _created(spec: BackboneSpec, num_classes: int) -> nn.Module:
    """timm's network, which takes images of any size where it can; a transformer with the patches of its stem."""
    timm = import_timm()
    about = timm.get_pretrained_cfg(spec.name)
    is_fixed = about is not None and about.fixed_input_size
    for options in ANY_SIZE if is_fixed else ANY_SIZE[-1:]:
        try:
            if spec.stem == "imagenet" or not is_fixed:
                return _timm(spec, num_classes, options)
            with torch.device("meta"):
                coarse = _timm(spec, num_classes, options)
            if not has_patches(coarse):
                return _timm(spec, num_classes, options)
            return _timm(spec, num_classes, options | _finer_patches(coarse, spec))
        except TypeError:  # an option that this network does not know
            if not options:
                raise
    raise AssertionError("the last of the options is none")


def _timm(spec: BackboneSpec, num_classes: int, options: dict[str, Any]) -> nn.Module:
    timm = import_timm()
    network: nn.Module = timm.create_model(spec.name, num_classes=num_classes, in_chans=spec.channels, **options)
    return network


def has_patches(network: nn.Module) -> bool:
    """Whether it is a plain vision transformer: all blocks see the patches of one size."""
    return hasattr(network, "patch_embed") and hasattr(network, "num_prefix_tokens")


def _finer_patches(network: nn.Module, spec: BackboneSpec) -> dict[str, Any]:
    """The options of a transformer with smaller patches, and as many of them for an image that is as much smaller."""
    embed: Any = network.patch_embed
    patch, size, factor = embed.patch_size[0], embed.img_size[0], FINER[spec.stem]
    if patch % factor:
        raise SpecError(
            f"patches of {patch} pixels of {spec.name} cannot be divided by {factor}", "give --stem imagenet"
        )
    return {"patch_size": patch // factor, "img_size": size // factor}


@cache
def can_have_stem(name: str, stem: str) -> bool:
    """Whether timm has a network `name` that can have the stem; no weights are made for the answer."""
    try:
        with torch.device("meta"):
            build(BackboneSpec(name=name, stem=stem))
    except SpecError:
        return False
    return True


def as_map(network: nn.Module, output: Tensor) -> Tensor:
    """What a stage gives, as [N, C, h, w]: maps stay as they are, channels that come last are moved, and tokens are
    laid out as the square that they are of, without those that are of no place.

    Raises:
        SpecError: it is neither.
    """
    if output.ndim == 4:
        _, first, second, last = output.shape
        places_first = getattr(network, "output_fmt", "NCHW") == "NHWC" if first == second == last else first == second
        return output.permute(0, 3, 1, 2) if places_first else output
    if output.ndim == 3:
        tokens = output[:, int(getattr(network, "num_prefix_tokens", 0)) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1] and side:
            return tokens.transpose(1, 2).unflatten(2, (side, side))
    raise SpecError(
        f"a layer gives [{', '.join(map(str, output.shape))}], no map of places", "name another layer, such as a stage"
    )


def check_backbone(spec: BackboneSpec, sizes: Iterable[int]) -> None:
    """Build the network without memory for weights and pass images of `sizes` pixels through it, before any training.

    Raises:
        SpecError: as `build` does, or the network cannot process images of such a size.
    """
    with torch.device("meta"), torch.no_grad():
        network = build(spec).eval()
        for size in sorted(sizes):
            try:
                network(torch.empty(2, spec.channels, size, size))
            except (RuntimeError, AssertionError, ValueError) as error:
                raise SpecError(
                    f"{spec.name} cannot process images of {size} x {size} pixels, which this training uses",
                    "give a larger --image-size (or --set TASK.small_size, TASK.patch_size), or a ResNet",
                ) from error


def _shrink_stem(network: nn.Module, spec: BackboneSpec) -> None:
    first = getattr(network, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not hasattr(network, "maxpool"):
        raise SpecError(f"{spec.name!r} has no stem that can be made small", "give --stem imagenet, or a ResNet")
    stride = 2 if spec.stem == "small" else 1
    network.conv1 = nn.Conv2d(spec.channels, first.out_channels, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()


def stage_names(network: nn.Module) -> list[str]:
    """The names of the network's stages, first to last, as timm's `feature_info` gives them (`layer1` ...)."""
    return [str(info["module"]) for info in network.feature_info]  # type: ignore[union-attr]


class StageFeatures(nn.Module):
    """Average-pooled features at the stages named; a batch becomes one [N, sum of their channels] tensor.

    The pooled output of the network itself is named `pooled`.
    """

    def __init__(self, network: nn.Module, names: Iterable[str] | None = None) -> None:
        super().__init__()
        self.network = network
        self.names = [*stage_names(network), "pooled"] if names is None else list(names)
        self.widths: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, sum of channels], the stages side by side; `widths` says how many each has."""
        pooled: dict[str, Tensor] = {}

        def pool(name: str, output: Tensor) -> None:
            # Pooled at once: an in-place layer that follows must not change it.
            pooled[name] = as_map(self.network, output).mean(dim=(2, 3)).float()

        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: pool(name, output)
            )
            for name in self.names
            if name != "pooled"
        ]
        try:
            pooled["pooled"] = self.network(images).float()
        finally:
            for hook in hooks:
                hook.remove()
        self.widths = [pooled[name].shape[1] for name in self.names]
        return torch.cat([pooled[name] for name in self.names], dim=1)


def num_features(network: nn.Module) -> int:
    """Channels of the network's pooled output, [N, C]; some networks widen it after the last map (MobileNetV3)."""
    return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]


def num_map_channels(network: nn.Module) -> int:
    """Channels of the network's last map, [N, C, H, W]."""
    return int(network.num_features)  # type: ignore[arg-type]
