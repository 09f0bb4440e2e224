"""Backbones and their checkpoints: loadable by plain timm, and refused when they do not fit."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sslcurr.backbones.build import (
    StageFeatures,
    build,
    can_have_stem,
    check_backbone,
    num_features,
    num_map_channels,
    stage_names,
)
from sslcurr.backbones.checkpoint import Header, load_backbone, load_into, read_header, save_backbone
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.errors import CheckpointError, SpecError
from sslcurr.spec.request import Request
from sslcurr.spec.stage import BackboneSpec

GREY = {"channels": 1, "mean": (0.449,), "std": (0.226,)}


def header(spec, tasks=("mocov2", "swav")):
    return Header(backbone=spec, image_size=32, tasks=tasks)


def test_a_checkpoint_loads_with_plain_timm(tmp_path):
    spec = BackboneSpec(name="resnet18")
    network = build(spec).eval()
    save_backbone(network, header(spec), tmp_path / "backbone.safetensors")
    plain = timm.create_model("resnet18", num_classes=0)
    plain.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(plain.eval()(images), network(images))


def test_a_small_stem_loads_with_timm_and_two_more_lines_and_never_silently_without(tmp_path):
    spec = BackboneSpec(name="resnet18", stem="small", **GREY)
    network = build(spec).eval()
    save_backbone(network, header(spec), tmp_path / "b.safetensors")
    plain = timm.create_model("resnet18", num_classes=0, in_chans=1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        plain.load_state_dict(load_file(tmp_path / "b.safetensors"))
    plain.conv1 = nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)
    plain.maxpool = nn.Identity()
    plain.load_state_dict(load_file(tmp_path / "b.safetensors"))
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(plain.eval()(images), network(images))


def test_a_header_says_what_the_file_holds_and_equal_weights_are_equal_bytes(tmp_path):
    spec = BackboneSpec(name="resnet18", stem="small", **GREY)
    network = build(spec)
    for name in ("a", "b"):
        save_backbone(network, header(spec), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_header(tmp_path / "a") == header(spec)
    again, found = load_backbone(tmp_path / "a")
    assert found.tasks == ("mocov2", "swav")
    assert not again.training
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_what_does_not_fit_is_refused(tmp_path):
    spec = BackboneSpec(name="resnet18")
    save_backbone(build(spec), header(spec), tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="1 of another shape"):
        load_into(build(BackboneSpec(name="resnet18", **GREY)), tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="keys missing"):
        load_into(build(BackboneSpec(name="resnet34")), tmp_path / "b.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, message in (
        ("foreign.safetensors", "was not written by sslcurr"),
        ("text.safetensors", "is not a safetensors file"),
        ("absent.safetensors", "there is no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            read_header(tmp_path / name)
        assert error.value.hint


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        (BackboneSpec(name="resnet181"), "no backbone named 'resnet181'", "did you mean resnet18"),
        (BackboneSpec(name="convnext_atto", stem="small"), "no stem that can be made small", "imagenet"),
    ],
)
def test_impossible_backbones(spec, message, hint):
    with pytest.raises(SpecError, match=message) as error:
        build(spec)
    assert hint in error.value.hint


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "convnext_atto", "mobilenetv3_small_050"])
def test_features_at_every_stage(name):
    network = build(BackboneSpec(name=name)).eval()
    module = StageFeatures(network).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = module(images)
        maps = network.forward_intermediates(images, intermediates_only=True)
        pooled = network(images)
    assert module.names == [*stage_names(network), "pooled"]
    assert features.shape == (2, sum(module.widths))
    parts = features.split(module.widths, dim=1)
    torch.testing.assert_close(parts[-1], pooled)
    for part, stage in zip(parts[:-1], maps, strict=True):
        torch.testing.assert_close(part, stage.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_stems_halve_the_image_as_they_say():
    images = torch.rand(1, 3, 32, 32)
    for stem, side in (("imagenet", 8), ("small", 16), ("cifar", 32)):
        network = build(BackboneSpec(name="resnet18", stem=stem)).eval()
        assert network.forward_intermediates(images, intermediates_only=True)[1].shape[-1] == side


def test_a_stem_that_a_network_cannot_have_is_not_its_default(tmp_path):
    """resnet10t begins with three convolutions, resnet18 with one; patches of 14 pixels have no quarter."""
    for name, can in (("resnet18", True), ("vit_tiny_patch16_224", True), ("resnet10t", False)):
        assert can_have_stem(name, "small") == can
    for name in ("vit_small_patch14_dinov2", "resnet18x"):
        assert not can_have_stem(name, "small")
    for name, stem in (("resnet10t", "imagenet"), ("resnet18", "small")):
        planner = Planner(Request(dataset="fashion", backbone=name), Store(tmp_path), ["rotation"])
        assert planner.chain(["rotation"])[0].backbone.stem == stem


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "regnety_002", "test_resnet"])
def test_heads_know_the_width_of_pooled_features_and_of_maps(name):
    """MobileNetV3 widens its features after the last map; heads of the map's width would not fit them."""
    network = build(BackboneSpec(name=name)).eval()
    images = torch.rand(2, 3, 64, 64)
    assert network(images).shape == (2, num_features(network))
    assert network.forward_features(images).shape[:2] == (2, num_map_channels(network))


def test_a_backbone_that_cannot_see_small_views_is_refused_before_training():
    check_backbone(BackboneSpec(name="convnext_atto"), {64, 32})
    check_backbone(BackboneSpec(name="resnet18"), {64, 28, 8})
    with pytest.raises(SpecError, match="convnext_atto cannot process images of 28 x 28"):
        check_backbone(BackboneSpec(name="convnext_atto"), {64, 28})
