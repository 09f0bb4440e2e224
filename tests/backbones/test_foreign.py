"""Foreign checkpoints: every layout gives the features of the network it was made of, every misfit says what to do."""

from __future__ import annotations

import argparse
import functools
import pickle
import re
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lightly.models import ResNetGenerator
from safetensors.torch import save_file
from torch import nn

from sslcurr.backbones import foreign
from sslcurr.backbones.build import build
from sslcurr.backbones.checkpoint import Header, save_backbone
from sslcurr.backbones.foreign import FAMILIES, convert_state, guess
from sslcurr.backbones.foreign_read import read_state
from sslcurr.errors import CheckpointError
from sslcurr.spec.stage import BackboneSpec

RESNET50 = BackboneSpec(name="resnet50")
RESNET18 = BackboneSpec(name="resnet18")
CIFAR = BackboneSpec(name="resnet18", stem="cifar")
GREY = BackboneSpec(name="resnet18", channels=1, mean=(0.449,), std=(0.226,))

# nn.Sequential(*list(resnet.children())[:-1]): ReLU and pooling take the places 2 and 3.
PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@functools.cache
def trained(spec):
    """A network whose weights and running statistics are all its own, as after a training."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build(spec).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                for tensor in (module.weight, module.running_var):
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                for tensor in (module.bias, module.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
            module.num_batches_tracked.fill_(1234)
    return network


@functools.cache
def weights(spec=RESNET50):
    return {name: tensor.detach() for name, tensor in trained(spec).state_dict().items()}


@functools.cache
def images(channels=3):
    return torch.rand(2, channels, 64, 64, generator=torch.Generator().manual_seed(1))


@functools.cache
def empty(spec):
    with torch.device("meta"):
        return build(spec).eval()


@torch.no_grad()
def features(state, spec):
    network = empty(spec)
    network.load_state_dict(state, assign=True)
    return network(images(spec.channels))


@functools.cache
def expected(spec):
    return features(weights(spec), spec)


def same(conversion, spec=RESNET50):
    assert list(conversion.weights) == list(weights(spec))
    return torch.equal(features(conversion.weights, spec), expected(spec))


def under(prefix, spec=RESNET50):
    return {f"{prefix}{name}": tensor for name, tensor in weights(spec).items()}


def other(prefix, spec=RESNET50):
    """A copy with other values, which must not be the one that is taken."""
    return {f"{prefix}{name}": tensor for name, tensor in _shifted(spec).items()}


@functools.cache
def _shifted(spec):
    return {name: tensor + 1 for name, tensor in weights(spec).items()}


def children(prefix, names, places=None):
    places = places or PLACES
    found = {}
    for name, tensor in names.items():
        top, rest = name.split(".", 1)
        found[f"{prefix}{places[top]}.{rest}"] = tensor
    return found


def heads(*names):
    return {f"{name}.weight": torch.zeros(8, 8) for name in names}


def without_counters(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


LAYOUTS = {
    "mmselfsup": (
        lambda: {
            "meta": {"epoch": 200, "mmengine_version": "0.4.0"},
            "state_dict": {
                **under("backbone."),
                **other("encoder_k.module.0."),
                **heads("neck.mlp.0", "head.fc", "encoder_k.module.1.mlp.0"),
                "encoder_k.steps": torch.tensor(0),
                "queue": torch.zeros(8, 16),
                "queue_ptr": torch.zeros(1),
            },
        },
        "MMSelfSup",
    ),
    "openselfsup moco": (
        lambda: {
            "state_dict": {
                **other("encoder_k.0."),
                **under("encoder_q.0."),
                **under("backbone."),
                **heads("encoder_q.1.mlp.0", "encoder_k.1.mlp.0"),
                "queue": torch.zeros(8, 16),
            }
        },
        "OpenSelfSup",
    ),
    "openselfsup byol": (
        lambda: {
            "state_dict": {
                **other("target_net.0."),
                **under("online_net.0."),
                **under("backbone."),
                **heads("online_net.1.fc0", "target_net.1.fc0", "head.predictor.fc0"),
            }
        },
        "OpenSelfSup",
    ),
    "openselfsup byol without backbone": (
        lambda: {"state_dict": {**other("target_net.0."), **under("online_net.0.")}},
        "OpenSelfSup",
    ),
    "mmselfsup byol": (
        lambda: {
            "state_dict": {
                **other("target_net.module.0."),
                **under("backbone."),
                **heads("neck.fc0", "head.predictor.fc0", "target_net.module.1.fc0"),
                "target_net.steps": torch.tensor(9),
            }
        },
        "MMSelfSup",
    ),
    "extracted backbone": (lambda: {"state_dict": under(""), "author": "MMSelfSup"}, "torchvision or timm"),
    "moco": (
        lambda: {
            "epoch": 800,
            "arch": "resnet50",
            "state_dict": {
                **other("module.encoder_k."),
                **under("module.encoder_q."),
                **heads("module.encoder_q.fc.0", "module.encoder_q.fc.2", "module.encoder_k.fc.0"),
                "module.queue": torch.zeros(8, 16),
                "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
            },
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(64, 3, 7, 7)}}, "param_groups": [{"lr": 0.03}]},
        },
        "MoCo",
    ),
    "moco v3": (
        lambda: {"state_dict": {**other("module.momentum_encoder."), **under("module.base_encoder.")}},
        "MoCo",
    ),
    "swav": (
        lambda: {
            **under("module."),
            **heads("module.projection_head.0", "module.projection_head.3", "module.prototypes"),
        },
        "SwAV",
    ),
    "vissl": (
        lambda: {
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": without_counters(under("_feature_blocks.")),
                        "heads": heads("0.clf.0"),
                    },
                    "meta": {},
                },
                "train": True,
            }
        },
        "VISSL",
    ),
    "lightly examples": (
        lambda: (
            {**children("backbone.", weights()), **children("backbone_momentum.", other(""))}
            | heads("projection_head.layers.0", "projection_head_momentum.layers.0")
        ),
        "lightly",
    ),
    "lightly example of dino": (
        lambda: (
            {**children("student_backbone.", other("")), **children("teacher_backbone.", weights())}
            | heads("student_head.layers.0")
        ),
        "lightly",
    ),
    "lightly benchmark of moco": (
        lambda: {
            "epoch": 99,
            "state_dict": {
                **under("backbone."),
                **other("query_backbone."),
                **heads("projection_head.layers.0", "online_classifier.classification_head"),
            },
        },
        "lightly",
    ),
    "lightly benchmark of dino": (
        lambda: {
            "state_dict": {
                **under("backbone."),
                **other("student_backbone."),
                **heads("projection_head.layers.0", "student_projection_head.layers.0"),
            }
        },
        "lightly",
    ),
    "lightly with two names": (
        lambda: {"state_dict": {**other("student_backbone."), **under("teacher_backbone."), **heads("student_head.0")}},
        "lightly",
    ),
    "lightly-train export": (lambda: {**under(""), **heads("fc")}, "torchvision or timm"),
    "lightly-train simclr": (
        lambda: {"state_dict": {**under("embedding_model.wrapped_model._features."), **heads("projection_head.0")}},
        "lightly-train",
    ),
    "lightly-train older": (
        lambda: {"state_dict": children("embedding_model.model_wrapper._features.", weights())},
        "lightly-train",
    ),
    "lightly-train dino of a timm network": (
        lambda: {
            "state_dict": {
                **other("student_embedding_model.wrapped_model._model."),
                **under("teacher_embedding_model.wrapped_model._model."),
            }
        },
        "lightly-train",
    ),
    "solo-learn": (
        lambda: {
            "state_dict": {
                **other("momentum_backbone."),
                **under("backbone."),
                **heads("projector.0", "momentum_projector.0", "classifier"),
            }
        },
        "solo-learn",
    ),
    "solo-learn before 1.0.3": (
        lambda: {"state_dict": {**other("momentum_encoder."), **under("encoder."), **heads("projector.0")}},
        "solo-learn",
    ),
    "torchvision": (lambda: {**without_counters(under("")), **heads("fc")}, "torchvision or timm"),
    "dino": (lambda: under(""), "torchvision or timm"),
    "dino full": (
        lambda: {
            "student": {**other("module.backbone."), **heads("module.head.mlp.0")},
            "teacher": {**under("backbone."), **heads("head.mlp.0")},
            "epoch": 800,
        },
        "DINO",
    ),
    "dino full, distributed teacher": (
        lambda: {"student": other("module.backbone."), "teacher": under("module.backbone.")},
        "DINO",
    ),
    "byol converted": (lambda: {"state_dict": {**without_counters(under("")), **heads("fc")}}, "torchvision or timm"),
    "byol as online and target network": (
        lambda: {**other("target_network.encoder."), **under("online_network.encoder.")},
        "prefix 'online_network.encoder.'",
    ),
    "compiled": (lambda: {"model": under("_orig_mod."), "model_ema": other("_orig_mod.")}, "torchvision or timm"),
    "compiled and distributed": (lambda: {"model": under("module._orig_mod.")}, "torchvision or timm"),
    "timm with average": (lambda: {"state_dict_ema": other(""), "state_dict": under("")}, "torchvision or timm"),
    "supcon": (
        lambda: {
            "model": {name.replace("downsample", "shortcut"): value for name, value in under("module.encoder.").items()}
        },
        "prefix 'model.module.encoder.'",
    ),
}


def flat(content):
    """The tensors of nested dicts by dotted names, as `read_state` gives them."""
    found = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": tensor for name, tensor in flat(value).items()}
        elif isinstance(value, torch.Tensor):
            found[key] = value
    return found


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_gives_the_features_of_its_network(name):
    make, layout = LAYOUTS[name]
    state = flat(make())
    conversion = convert_state(state, RESNET50)
    assert same(conversion)
    assert conversion.layout == layout
    assert conversion.missing == ()
    assert {*conversion.matched, *conversion.dropped} == set(state)
    assert len(conversion.matched) + len(conversion.dropped) == len(state)
    assert guess(state) == RESNET50


@pytest.mark.parametrize("name", ["moco", "vissl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_read_whatever_its_name(name, zipped, tmp_path):
    make, _ = LAYOUTS[name]
    torch.save(make(), tmp_path / "model.tar", _use_new_zipfile_serialization=zipped)
    state = read_state(tmp_path / "model.tar")
    assert list(state)[:100] == list(flat(make()))[:100]
    assert same(convert_state(state, RESNET50))


def test_a_file_of_timm_and_one_of_ours_are_read(tmp_path):
    save_file(weights() | heads("fc"), tmp_path / "model.bin")
    assert same(convert_state(read_state(tmp_path / "model.bin"), RESNET50))
    header = Header(backbone=RESNET18, image_size=32, tasks=("mocov2",))
    save_backbone(trained(RESNET18), header, tmp_path / "backbone.safetensors")
    conversion = convert_state(read_state(tmp_path / "backbone.safetensors"), RESNET18)
    assert same(conversion, RESNET18)
    assert conversion.dropped == ()


def test_a_small_network_a_small_stem_and_grey_images():
    assert same(convert_state(under("state_dict.backbone.", RESNET18), RESNET18), RESNET18)
    assert guess(under("a.", RESNET18)) == RESNET18
    state = under("state_dict.backbone.", CIFAR) | heads("state_dict.classifier")
    assert guess(state) == CIFAR
    assert guess(state, stem="small") == BackboneSpec(name="resnet18", stem="small")
    conversion = convert_state(state, CIFAR)
    assert conversion.layout == "solo-learn"
    assert same(conversion, CIFAR)
    assert guess(under("", GREY)) == GREY
    assert same(convert_state(under("backbone.", GREY), GREY), GREY)


def test_children_without_pooling_are_of_a_small_stem():
    places = {**PLACES, "layer1": "3", "layer2": "4", "layer3": "5", "layer4": "6"}
    conversion = convert_state(children("f.", weights(CIFAR), places), CIFAR)
    assert conversion.layout == "prefix 'f.'"
    assert same(conversion, CIFAR)
    message, hint = error_of(convert_state, children("f.", weights(RESNET18), places), RESNET18)
    assert "no pooling" in message
    assert "--stem cifar" in hint


def test_the_resnet_of_lightly_is_converted_whole_and_refused_without_its_relu():
    theirs = ResNetGenerator("resnet-18").eval()
    state = {f"backbone.{name}": tensor.detach() for name, tensor in theirs.state_dict().items()}
    assert guess(state) == CIFAR
    conversion = convert_state(state, CIFAR)
    assert conversion.dropped == ("backbone.linear.weight", "backbone.linear.bias")
    assert any("shortcut" in name for name in conversion.matched)
    theirs.linear = nn.Identity()
    small = images()[:, :, :32, :32]  # it pools 4 x 4, the size that images of 32 x 32 come to
    network = build(CIFAR).eval()
    network.load_state_dict(conversion.weights)
    with torch.no_grad():
        torch.testing.assert_close(network(small), theirs(small))
    # lightly's tutorials put the children into nn.Sequential, where a ReLU that is called as a function is lost.
    lost = nn.Sequential(*list(theirs.children())[:-1])
    state = {f"backbone.{name}": tensor.detach() for name, tensor in lost.state_dict().items()}
    message, _ = error_of(convert_state, state, CIFAR)
    assert "no ReLU after its first normalisation" in message
    assert "backbone.2.0.conv1.weight" in message


def test_weights_are_copies_of_single_precision():
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights(RESNET18).items()
    }
    state["layer1.0.conv1.weight"] = weights(RESNET18)["layer1.0.conv1.weight"].to(
        torch.bfloat16, memory_format=torch.channels_last
    )
    state["conv1.weight"] = weights(RESNET18)["conv1.weight"]
    conversion = convert_state(state, RESNET18)
    for name, tensor in conversion.weights.items():
        assert tensor.dtype == weights(RESNET18)[name].dtype
        assert tensor.is_contiguous()
        assert tensor.data_ptr() != state[name].data_ptr()
        torch.testing.assert_close(tensor, weights(RESNET18)[name], rtol=1e-2, atol=1e-3)


def test_counters_may_be_absent_and_become_zero():
    conversion = convert_state(without_counters(weights(RESNET18)), RESNET18)
    assert conversion.missing == ()
    counters = [tensor for name, tensor in conversion.weights.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 20
    assert all(tensor.dtype == torch.int64 and tensor.shape == () and tensor == 0 for tensor in counters)
    assert convert_state(weights(RESNET18), RESNET18).weights["bn1.num_batches_tracked"] == 1234


@pytest.mark.parametrize(
    "copy", ["momentum_backbone", "target_net", "key_encoder", "encoder_k", "model_ema", "teacher"]
)
def test_a_copy_with_momentum_never_wins(copy):
    for trained_name in ("backbone", "encoder", "zzz", "online_net.0.very.far.down"):
        for first in (True, False):
            ours, theirs = under(f"{trained_name}.", RESNET18), other(f"{copy}.", RESNET18)
            conversion = convert_state(ours | theirs if first else theirs | ours, RESNET18)
            assert torch.equal(conversion.weights["conv1.weight"], weights(RESNET18)["conv1.weight"])
            assert all(key.startswith(trained_name) for key in conversion.matched)


def test_a_network_of_another_size_beside_it_is_left_alone():
    state = under("teacher.") | under("student.", RESNET18)
    assert same(convert_state(state, RESNET18), RESNET18)
    assert same(convert_state(state, RESNET50))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True), max_size=5))
@example(["layer1", "0"])
@example(["0", "1", "conv1"])
@example(["module", "_orig_mod", "model"])
def test_a_prefix_changes_nothing(words):
    prefix = "".join(f"{word}." for word in words)
    conversion = convert_state(under(prefix, RESNET18) | heads("unrelated"), RESNET18)
    assert same(conversion, RESNET18)
    assert conversion.dropped == ("unrelated.weight",)


@pytest.mark.parametrize("name", [name for names in FAMILIES.values() for name in names])
def test_a_network_is_known_by_its_shapes(name):
    with torch.device("meta"):
        state = {f"model.{key}": tensor for key, tensor in build(BackboneSpec(name=name)).state_dict().items()}
    state["model.fc.weight"] = torch.zeros(3, 3, device="meta")
    state["model.head.fc.weight"] = torch.zeros(3, 3, device="meta")
    assert guess(state) == BackboneSpec(name=name)


def test_a_network_that_is_no_resnet_is_converted():
    spec = BackboneSpec(name="mobilenetv3_large_100")
    assert same(convert_state(under("module.", spec) | heads("module.classifier"), spec), spec)


def in_old_names(state):
    """The keys of a DenseNet as torchvision wrote them before 0.3, in which CheXNet was released."""
    return {re.sub(r"(denselayer\d+)\.(norm|relu|conv)(\d)\.", r"\1.\2.\3.", key): state[key] for key in state}


@pytest.mark.parametrize("name", ["densenet121", "densenet169", "densenet201"])
@pytest.mark.parametrize("prefix", ["", "module.densenet121.", "model.encoder."])
def test_the_old_names_of_densenets_are_known(name, prefix):
    with torch.device("meta"):
        state = build(BackboneSpec(name=name)).state_dict()
    old = {prefix + key: tensor for key, tensor in in_old_names(state).items() if "num_batches_tracked" not in key}
    assert f"{prefix}features.denseblock1.denselayer1.norm.1.weight" in old
    assert f"{prefix}features.denseblock1.denselayer1.norm1.weight" not in old
    assert guess(old) == BackboneSpec(name=name)
    # MONAI's DenseNet has its layers in a container.
    monai = {prefix + re.sub(r"(denselayer\d+)\.", r"\1.layers.", key): tensor for key, tensor in state.items()}
    assert guess(monai) == BackboneSpec(name=name)


def test_chexnet_is_converted_to_the_features_of_its_network():
    spec = BackboneSpec(name="densenet121")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = torchvision.models.densenet121(num_classes=14).eval()
        for name, tensor in theirs.state_dict().items():
            if "running" in name:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    # Its classifier is a sequence, and it is wrapped in DataParallel.
    state = {f"module.densenet121.{key}": value for key, value in in_old_names(theirs.state_dict()).items()}
    state = {key.replace("classifier.", "classifier.0."): value for key, value in state.items()}
    conversion = convert_state(without_counters(state), guess(state))
    assert conversion.missing == ()
    assert conversion.dropped == (
        "module.densenet121.classifier.0.weight",
        "module.densenet121.classifier.0.bias",
    )
    ours = build(spec).eval()
    ours.load_state_dict(conversion.weights)
    with torch.no_grad():
        assert torch.equal(ours(images()), torch.relu(theirs.features(images())).mean((2, 3)))


@pytest.mark.parametrize(("name", "factor"), [("resnet50", 2), ("resnet50", 4), ("resnet18", 3), ("resnet101", 2)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_network_of_several_times_the_width_is_said_to_be_none_of_timms(name, factor, prefix):
    with torch.device("meta"):
        state = build(BackboneSpec(name=name)).state_dict()
        wide = {}
        for key, tensor in state.items():
            channels = [size if size == 3 else size * factor for size in tensor.shape[:2]]
            wide[prefix + key] = torch.zeros((*channels, *tensor.shape[2:]))
        wide[f"{prefix}prototypes.weight"] = torch.zeros(16, 128)
    for arguments in ((guess, wide), (convert_state, wide, RESNET50), (convert_state, wide, RESNET18)):
        message, hint = error_of(*arguments)
        assert message == (
            f"the file holds a {name} of {factor} times the width, which timm does not have; no --backbone fits it"
        )
        assert hint == f"take the checkpoint of the {name} of normal width that the same authors publish"


def test_a_network_that_is_wider_inside_its_blocks_only_is_timms():
    with torch.device("meta"):
        state = build(BackboneSpec(name="wide_resnet50_2")).state_dict()
    assert guess({f"module.{key}": tensor for key, tensor in state.items()}) == BackboneSpec(name="wide_resnet50_2")


def error_of(function, *arguments, **settings):
    with pytest.raises(CheckpointError) as caught:
        function(*arguments, **settings)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value), caught.value.hint


def test_a_file_without_the_backbone_is_refused():
    state = heads("encoder.layers.0", "encoder.layers.1", "b", "c")
    message, hint = error_of(convert_state, state, RESNET50)
    assert "no weights of a resnet50" in message
    assert "encoder.layers.0.weight, encoder.layers.1.weight, b.weight, ... (4 in all)" in message
    assert "--backbone NAME" in hint
    message, hint = error_of(guess, state)
    assert "cannot tell" in message
    assert "--backbone NAME" in hint
    _, hint = error_of(convert_state, weights(), BackboneSpec(name="convnext_tiny"))
    assert "--backbone resnet50" in hint


@pytest.mark.parametrize(("channels", "word"), [(2, "Sobel"), (4, "takes 4 input channels")])
def test_other_input_channels_are_refused(channels, word):
    state = under("backbone.") | {"backbone.conv1.weight": torch.zeros(64, channels, 7, 7)}
    for function, arguments in ((convert_state, (state, RESNET50)), (guess, (state,))):
        message, _ = error_of(function, *arguments)
        assert word in message
        assert f"{channels} input channels" in message


def test_another_stem_is_refused():
    message, hint = error_of(convert_state, weights(CIFAR), RESNET18)
    assert "3 x 3 first convolution" in message
    assert "--stem cifar or --stem small" in hint
    message, hint = error_of(convert_state, weights(RESNET18), CIFAR)
    assert "7 x 7 first convolution" in message
    assert "--stem imagenet" in hint


def test_colour_and_grey_are_not_mixed():
    message, hint = error_of(convert_state, weights(GREY), RESNET18)
    assert "takes 1 input channels, and the requested one 3" in message
    assert "channels = 1" in hint
    message, _ = error_of(convert_state, weights(RESNET18), GREY)
    assert "takes 3 input channels, and the requested one 1" in message


def test_another_architecture_is_refused():
    message, hint = error_of(convert_state, weights(), RESNET18)
    assert "another architecture than resnet18" in message
    assert "layer1.0.conv1.weight is (64, 64, 1, 1), not (64, 64, 3, 3)" in message
    assert hint == "it looks like a resnet50: give --backbone resnet50"
    # Deeper and shallower networks agree in every shape that they both have.
    for allow in (False, True):
        _, hint = error_of(convert_state, weights(), BackboneSpec(name="resnet101"), allow_missing=allow)
        assert "--backbone resnet50" in hint
    message, hint = error_of(convert_state, weights(BackboneSpec(name="resnet34")), RESNET18)
    assert "layer1.2.conv1.weight" in message
    assert "--backbone resnet34" in hint


def test_missing_keys_are_refused_or_filled():
    state = under("backbone.", RESNET18)
    del state["backbone.layer4.1.conv2.weight"], state["backbone.bn1.bias"]
    message, hint = error_of(convert_state, state, RESNET18)
    assert "lacks 2 of 100 keys of resnet18 (first: bn1.bias)" in message
    assert "--allow-missing" in hint
    before = torch.random.get_rng_state()
    conversion = convert_state(state, RESNET18, allow_missing=True, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert conversion.missing == ("bn1.bias", "layer4.1.conv2.weight")
    again = convert_state(state, RESNET18, allow_missing=True, seed=5).weights
    assert all(torch.equal(again[name], tensor) for name, tensor in conversion.weights.items())
    torch.manual_seed(5)
    assert torch.equal(
        conversion.weights["layer4.1.conv2.weight"], build(RESNET18).state_dict()["layer4.1.conv2.weight"]
    )
    assert torch.equal(conversion.weights["conv1.weight"], weights(RESNET18)["conv1.weight"])
    elsewhere = convert_state(state, RESNET18, allow_missing=True, seed=6).weights["layer4.1.conv2.weight"]
    assert not torch.equal(elsewhere, conversion.weights["layer4.1.conv2.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    state = dict(weights(RESNET18))
    state["bn1.running_var"] = torch.full((64,), value)
    message, _ = error_of(convert_state, state, RESNET18)
    assert "bn1.running_var" in message
    assert "not finite" in message
    # A head that is not used may hold anything.
    assert convert_state(weights(RESNET18) | {"fc.weight": torch.full((3, 3), value)}, RESNET18).missing == ()


def test_nothing_is_drawn_from_the_global_generator():
    foreign._table.cache_clear()
    before = torch.random.get_rng_state()
    spec = guess(weights(RESNET18))
    convert_state(weights(RESNET18), spec)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_unknown_prefix_is_named():
    assert convert_state(under("state_dict.backbone.", RESNET18), RESNET18).layout == "prefix 'state_dict.backbone.'"


def test_integers_are_no_weights():
    state = dict(weights(RESNET18))
    state["conv1.weight"] = torch.zeros(64, 3, 7, 7, dtype=torch.int8)
    assert "torch.int8" in error_of(convert_state, state, RESNET18)[0]
    state = weights(RESNET18) | {"bn1.num_batches_tracked": torch.tensor([1.0, 2.0])}
    assert "bn1.num_batches_tracked is not a number" in error_of(convert_state, state, RESNET18)[0]


def test_nested_containers_become_dotted_names(tmp_path):
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    torch.save({"a": {"b": [one, {"c": two}]}, 3: (nn.Parameter(three),), "epoch": 1, "none": None}, tmp_path / "x")
    state = read_state(tmp_path / "x")
    assert {name: len(tensor) for name, tensor in state.items()} == {"a.b.0": 1, "a.b.1.c": 2, "3.0": 3}
    assert not any(tensor.requires_grad for tensor in state.values())
    loop = {"a": one}
    loop["loop"] = loop
    torch.save(loop, tmp_path / "x")
    assert list(read_state(tmp_path / "x")) == ["a"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_more_than_values_is_refused_unless_trusted(zipped, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(
        {"args": argparse.Namespace(lr=1), "state_dict": {"x": torch.ones(2)}},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    message, hint = error_of(read_state, path)
    assert str(path) in message
    assert "argparse.Namespace" in message
    assert hint == "if you trust where it comes from: sslcurr import FILE --unsafe-pickle"
    assert list(read_state(path, unsafe_pickle=True)) == ["state_dict.x"]
    torch.save({"loss": np.float64(1.5), "x": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    assert "numpy" in error_of(read_state, path)[0]
    assert list(read_state(path, unsafe_pickle=True)) == ["x"]


def test_a_pickled_network_gives_its_state(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": trained(RESNET18)}, path)
    assert "--unsafe-pickle" in error_of(read_state, path)[1]
    assert same(convert_state(read_state(path, unsafe_pickle=True), RESNET18), RESNET18)


def test_a_pickle_of_an_absent_module_names_it(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    module = types.ModuleType("their_project")
    module.Config = type("Config", (), {"__module__": "their_project"})
    monkeypatch.setitem(sys.modules, "their_project", module)
    torch.save({"config": module.Config(), "x": torch.ones(1)}, path)
    monkeypatch.delitem(sys.modules, "their_project")
    assert "their_project.Config" in error_of(read_state, path)[0]
    message, hint = error_of(read_state, path, unsafe_pickle=True)
    assert "'their_project'" in message
    assert "install" in hint


def test_what_is_no_checkpoint_is_refused(tmp_path):
    assert "does not exist" in error_of(read_state, tmp_path / "absent.pth")[0]
    assert "is a folder" in error_of(read_state, tmp_path)[0]
    path = tmp_path / "model.pth"
    for content, word in (
        (b"", "is empty"),
        (b"epoch,loss\n1,0.5\n", "neither a safetensors file"),
        (pickle.dumps({"a": 1}), "cannot read"),
        (struct.pack("<Q", 1 << 40) + b"{}", "cannot read"),
        (struct.pack("<Q", 2) + b"{}", "no weights"),
        (b"PK\x03\x04 and no more", "cannot read"),
        (b"\x80\x02}q\x00", "cannot read"),
    ):
        path.write_bytes(content)
        for unsafe in (False, True):
            message, _ = error_of(read_state, path, unsafe_pickle=unsafe)
            assert word in message
            assert str(path) in message
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "cannot read" in error_of(read_state, path)[0]
    torch.save({"epoch": 3, "weights": []}, path)
    assert "no weights" in error_of(read_state, path)[0]


@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
@pytest.mark.parametrize("unsafe", [False, True])
def test_a_file_cut_short_is_refused(kind, unsafe, tmp_path):
    path = tmp_path / "model"
    state = {f"layer.{number}.weight": torch.rand(3, 3) for number in range(20)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    assert len(read_state(path)) == 20
    for length in {*range(0, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 1}:
        path.write_bytes(whole[:length])
        error_of(read_state, path, unsafe_pickle=unsafe)
