"""Backbones: timm networks without their classifier, with a stem for small images and features at every stage."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sslcurr.errors import SpecError, did_you_mean
from sslcurr.spec.stage import BackboneSpec


def build(spec: BackboneSpec, num_classes: int = 0) -> nn.Module:
    """The network of `spec` with fresh weights from torch's global generator; [N, C, H, W] -> [N, num_features].

    With `num_classes` it has timm's classifier, and gives [N, num_classes].

    Raises:
        SpecError: timm has no such network, it is not convolutional, or it cannot have the stem asked for.
    """
    import timm

    if not timm.is_model(spec.name):
        raise SpecError(f"timm has no backbone named {spec.name!r}", did_you_mean(spec.name, timm.list_models()[:]))
    try:
        network = timm.create_model(spec.name, num_classes=num_classes, in_chans=spec.channels)
    except RuntimeError as error:
        raise SpecError(f"timm cannot build {spec.name!r}: {error}", "try resnet18 or resnet50") from error
    # A convolutional network shrinks its maps from stage to stage; a plain transformer keeps one size.
    if len({info["reduction"] for info in getattr(network, "feature_info", [])}) < 2:
        raise SpecError(f"{spec.name!r} is not a convolutional network", "try resnet18, resnet50 or convnext_tiny")
    if spec.stem != "imagenet":
        _shrink_stem(network, spec)
    return network


def check(spec: BackboneSpec, sizes: Iterable[int]) -> None:
    """Build the network without memory and show it images of `sizes` pixels, to find a mistake before any training.

    Raises:
        SpecError: as `build` does, or the network cannot see images of such a size.
    """
    with torch.device("meta"), torch.no_grad():
        network = build(spec).eval()
        for size in sorted(sizes):
            try:
                network(torch.empty(2, spec.channels, size, size))
            except (RuntimeError, AssertionError, ValueError) as error:
                raise SpecError(
                    f"{spec.name} cannot see images of {size} x {size} pixels, of which it would be shown some",
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
        channels = {info["module"]: info["num_chs"] for info in self.network.feature_info}  # type: ignore[union-attr]

        def see(name: str, output: Tensor) -> None:
            if output.ndim != 4 or output.shape[1] != channels[name]:
                raise SpecError(f"{name} gives no [N, C, H, W] maps", "probes need a convolutional backbone")
            # Pooled at once: an in-place layer that follows must not change what was seen here.
            pooled[name] = output.mean(dim=(2, 3)).float()

        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: see(name, output)
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
