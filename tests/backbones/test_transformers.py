"""Vision transformers and hybrids: images of any size, stages as maps, the whole way to predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sslcurr.analysis.evaluation.cam import class_maps
from sslcurr.backbones.build import StageFeatures, as_map, build, check_backbone, num_features, stage_names
from sslcurr.errors import SpecError
from sslcurr.spec.stage import BackboneSpec

VIT = ("--backbone", "test_vit", "--stem", "small", "--image-size", "32", "--epochs", "1", "--batch-size", "16")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("test_vit", (28, 32, 64, 224)),
        ("vit_tiny_patch16_224", (32, 96)),
        ("swin_tiny_patch4_window7_224", (32, 64)),
        ("test_mambaout", (32, 64)),
        ("coatnet_0_rw_224", (224,)),
    ],
)
def test_images_of_any_size_pass_and_stages_are_maps(name, sizes):
    network = build(BackboneSpec(name=name)).eval()
    features = StageFeatures(network)
    for size in sizes:
        images = torch.rand(2, 3, size, size)
        with torch.no_grad():
            found = features(images)
        assert found.shape == (2, sum(features.widths))
        assert features.widths[-1] == num_features(network)
        if size % 32:
            continue
        with torch.no_grad():
            theirs = network.forward_intermediates(images, intermediates_only=True)
        parts = found.split(features.widths, dim=1)[:-1]
        assert len(parts) == len(stage_names(network))
        for part, stage in zip(parts, theirs[-len(parts) :], strict=True):
            torch.testing.assert_close(part, stage.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_what_is_a_map_and_what_is_not():
    network = build(BackboneSpec(name="test_vit")).eval()
    tokens = torch.arange(2 * 5 * 3, dtype=torch.float32).view(2, 5, 3)  # one for the class, four places
    assert torch.equal(as_map(network, tokens)[0, :, 0, 1], tokens[0, 2])
    assert torch.equal(as_map(network, tokens)[0, :, 1, 0], tokens[0, 3])
    first, last = torch.rand(2, 8, 4, 4), torch.rand(2, 4, 4, 8)
    assert as_map(network, first) is first
    assert torch.equal(as_map(network, last)[0, 3, 1, 2], last[0, 1, 2, 3])
    for shape in ((2, 4, 3), (2, 3)):
        with pytest.raises(SpecError, match="no map of places"):
            as_map(network, torch.rand(shape))


def test_patches_of_small_images_are_smaller():
    for stem, patch in (("imagenet", 16), ("small", 4), ("cifar", 2)):
        network = build(BackboneSpec(name="test_vit", stem=stem, channels=1, mean=(0.5,), std=(0.2,)))
        assert network.patch_embed.proj.weight.shape[1:] == (1, patch, patch)
        assert network.pos_embed.shape[1] == 101  # its own images have ten by ten patches


@pytest.mark.parametrize(
    ("spec", "sizes", "message"),
    [
        (BackboneSpec(name="coatnet_0_rw_224"), (64,), "cannot process images of 64 x 64"),
        (BackboneSpec(name="swin_tiny_patch4_window7_224", stem="small"), (), "no stem that can be made small"),
        (BackboneSpec(name="vit_base_patch14_dinov2", stem="small"), (), "patches of 14 pixels"),
    ],
)
def test_what_cannot_be(spec, sizes, message):
    with pytest.raises(SpecError, match=message) as error:
        check_backbone(spec, sizes)
    assert error.value.hint


def test_the_map_of_a_transformer_is_of_its_places():
    """A bright corner that the class hangs on has the attention."""
    torch.manual_seed(0)
    network = build(BackboneSpec(name="test_vit", stem="small")).eval()
    classifier = torch.nn.Sequential(network, torch.nn.Linear(num_features(network), 2))
    images = torch.zeros(3, 3, 32, 32)
    layer = network.get_submodule(stage_names(network)[-2])
    maps, _ = class_maps(classifier, layer, images, "gradcam", to_map=lambda output: as_map(network, output))
    assert maps.shape == (3, 8, 8)
    with pytest.raises(SpecError, match="gives no"):
        class_maps(classifier, network, images, "gradcam")


def test_the_whole_way_of_a_transformer(folder, sslcurr, tmp_path):
    data = ("--dataset", str(folder), *VIT)
    ranking = sslcurr.json("rank", "rotation", "mocov2", *data, "--seeds", "1", "--set", "mocov2.queue_length=20")
    assert len(ranking["tasks"]) == 2
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in folder.glob("*/*.png"):
        mask = np.zeros((28, 28), np.uint8)
        mask[7:21, 7:21] = 255
        Image.fromarray(mask).save(masks / path.name)
    chain = sslcurr.json("chain", "rotation", *data, "--masks", str(masks), "--freeze", "1", "--layer-decay", "0.8")
    pretext, tuned = chain["stages"]
    assert 0 <= chain["downstream"]["attention"]["mean"] <= 1
    attended = sslcurr.json("attend", tuned["key"], "--masks", str(masks), "--method", "eigencam")
    assert attended["split"] == "test"
    compared = sslcurr.json("cka", pretext["key"], tuned["key"], "--layers", "stages")
    assert len(compared["models"]) == 2
    probed = sslcurr.json("finetune", pretext["key"], "--probe", "linear", *VIT)["downstream"]
    assert set(probed["layers"]) == {*(f"blocks.{number}" for number in range(6)), "pooled"}
    out = tmp_path / "m.onnx"
    sslcurr.json("export", tuned["key"], "--format", "onnx", "--out", str(out))
    tables = []
    for model in (tuned["key"], str(out)):
        file = tmp_path / "p.csv"
        sslcurr.json("predict", model, str(folder), "--out", str(file))
        tables.append(pd.read_csv(file).filter(like="probability_").to_numpy())
    np.testing.assert_allclose(tables[0], tables[1], atol=2e-6)


@pytest.mark.parametrize("task", ["densecl", "swav", "jigsaw", "relative-location", "masked-image", "dino"])
def test_tasks_train_transformers(task, folder, sslcurr):
    small = {"densecl": ["densecl.queue_length=20", "densecl.bn_group=4"], "swav": ["swav.num_prototypes=12"]}
    small["dino"] = ["dino.outputs=24", "dino.hidden=32", "dino.bottleneck=16"]
    small["jigsaw"] = ["jigsaw.num_permutations=12"]
    settings = [part for setting in small.get(task, []) for part in ("--set", setting)]
    stage = sslcurr.json("pretrain", task, "--dataset", str(folder), *VIT, *settings)["stages"][0]
    assert np.isfinite(stage["metrics"]["loss"])


def test_weights_that_a_name_means(folder, sslcurr, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    data = ("--dataset", str(folder))
    for arguments in (
        ("--backbone", "test_vit.r160_in1k"),
        ("--from", "imagenet", "--backbone", "test_vit.r160_in1k"),
    ):
        result = sslcurr("chain", "rotation", *data, *arguments)
        assert result.exit_code == 1
        assert "the weights of test_vit.r160_in1k are not on this machine" in result.stderr
        assert "timm.create_model('test_vit.r160_in1k', pretrained=True)" in result.stderr
    for arguments, message in (
        (("--from", "imagenet"), "of which network?"),
        (("--from", "random.safetensors", "--backbone", "test_vit.r160_in1k"), "names weights, and --from"),
        (("--backbone", "resnet50.nosuch"), "timm has no weights named 'resnet50.nosuch'"),
    ):
        result = sslcurr("chain", "rotation", *data, *arguments)
        assert (result.exit_code, message in result.stderr) == (1, True)
