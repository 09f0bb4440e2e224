"""Fine-tuning as people do it: frozen parts, slower layers, a head that warms up, mixed images, stages trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.optim import param_groups_layer_decay

from sslcurr.backbones.parts import freeze_parts, layers_of
from sslcurr.engine.optim import build_optimizer, hold_back
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.spec.stage import Training, key_of
from sslcurr.tasks import config_of, config_values, task_class
from sslcurr.tasks.base import Batch, Facts, Tick
from sslcurr.testing.checks import CHECKS
from sslcurr.testing.subject import Subject, dataset_for
from tests.conftest import QUICK

NETWORKS = (
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "densenet121",
    "vgg11",
    "mobilenetv3_small_050",
)


class Whole(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.backbone = timm.create_model(name, num_classes=0)
        self.head = torch.nn.Linear(4, 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_learn_in_shares_as_timm_has_them(name):
    module = Whole(name)
    optimizer = build_optimizer(module, Training(optimizer="adamw", lr=0.1, layer_decay=0.7))
    ours = {id(p): group["lr_factor"] for group in optimizer.param_groups for p in group["params"]}
    names = {id(parameter): each for each, parameter in module.named_parameters()}
    with_head = timm.create_model(name, num_classes=2)
    theirs = param_groups_layer_decay(with_head, layer_decay=0.7)
    share = {id(p): group["lr_scale"] for group in theirs for p in group["params"]}
    expected = {each: share[id(parameter)] for each, parameter in with_head.named_parameters()}
    for parameter, factor in ours.items():
        each = names[parameter]
        if each.startswith("backbone."):
            assert factor == pytest.approx(expected[each.removeprefix("backbone.")]), each
        else:
            assert factor == 1.0
    assert optimizer.param_groups[0]["lr_factor"] == 1.0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_parts_are_frozen(name):
    network = timm.create_model(name, num_classes=0)
    total = sum(parameter.numel() for parameter in network.parameters())
    counts = []
    for freeze in ("none", "stem", "1", "2", "all"):
        network.requires_grad_(True)
        parts = freeze_parts(network, freeze)
        counts.append(sum(p.numel() for p in network.parameters() if not p.requires_grad))
        inside = {id(parameter) for part in parts for parameter in part.parameters(recurse=False)}
        assert inside == {id(p) for p in network.parameters() if not p.requires_grad}
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == total
    assert 0 < counts[1] < counts[2] < counts[3] < total
    with pytest.raises(SpecError, match="stages, and freeze=99 wants more"):
        freeze_parts(network, "99")


def test_resnets_are_frozen_stage_by_stage():
    network = timm.create_model("resnet18", num_classes=0)
    freeze_parts(network, "2")
    frozen = {name.split(".")[0] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}
    assert layers_of(network, coarse=True)["layer3.0.conv1.weight"] == 3


def test_a_norm_behind_the_last_stage_is_frozen_with_it():
    network = timm.create_model("test_convnext", num_classes=0)
    freeze_parts(network, "4")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(SpecError, match="the network has 4 stages, and freeze=5 wants more"):
        freeze_parts(network, "5")


@pytest.mark.parametrize("option", [("--freeze", "stem"), ("--layer-decay", "0.7")])
def test_a_network_whose_layers_nobody_knows_is_refused_before_training(option, folder, sslcurr):
    ask = ("finetune", "--dataset", str(folder), "--backbone", "poolformer_s12", "--image-size", "32", *option)
    result = sslcurr(*ask, "--dry-run")
    assert result.exit_code == 1
    assert "timm does not say which layers a MetaFormer has" in result.stderr


def test_stem_has_one_key_however_it_is_called(small_stage):
    stages = [small_stage("classification", training=Training(freeze=freeze)) for freeze in ("0", "stem")]
    assert key_of(stages[0]) == key_of(stages[1])


@pytest.mark.parametrize("task", ["dino", "byol", "mocov2"])
def test_what_follows_a_frozen_backbone_is_frozen_too(task, folder, sslcurr):
    first = sslcurr.json("pretrain", "rotation", "--dataset", str(folder), *QUICK)["stages"][0]
    ask = ("pretrain", task, "--from", first["key"], "--dataset", str(folder), "--epochs", "2", "--batch-size", "16")
    second = sslcurr.json(*ask, "--set", f"{task}.freeze=2")["stages"][0]
    before, after = load_file(first["checkpoint"]), load_file(second["checkpoint"])
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not changed & {"conv1", "bn1", "layer1", "layer2"}


def test_what_is_frozen_keeps_its_weights_and_its_statistics(folder, sslcurr):
    first = sslcurr.json("pretrain", "rotation", "--dataset", str(folder), *QUICK)["stages"][0]
    tuned = sslcurr.json("finetune", first["key"], *QUICK, "--freeze", "2")["stages"][0]
    before, after = load_file(first["checkpoint"]), load_file(tuned["checkpoint"])
    kept = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("conv1", "bn1", "layer1", "layer2"))}
    assert frozen <= kept
    assert any("running_mean" in name for name in frozen)
    assert not {name for name in kept - frozen if name.endswith("weight")}
    whole = sslcurr.json("finetune", first["key"], *QUICK, "--freeze", "all")["stages"][0]
    assert all(torch.equal(before[name], value) for name, value in load_file(whole["checkpoint"]).items())
    assert whole["metrics"]["loss"] > 0


def test_the_backbone_waits_for_the_head(small_stage):
    module = Whole("test_resnet")
    training = Training(optimizer="adamw", lr=0.1, head_warmup=1, epochs=2)
    optimizer = build_optimizer(module, training)
    assert not optimizer.param_groups[0]["waits"]
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    hold_back(optimizer)
    optimizer.step()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("backbone."), name
    with pytest.raises(SpecError, match="leaves none of 2"):
        Training(head_warmup=2, epochs=2)


def test_mixed_images_have_mixed_labels():
    kind = task_class("classification")
    config = replace(kind.Config(image_size=32), mixup=0.4, balance="loss")
    network = timm.create_model("test_resnet", num_classes=0)
    task = kind(network, network.num_features, Facts(num_images=8, class_counts=(2, 6)), config).eval()
    views, labels = torch.rand(8, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 1, 1, 1])
    torch.manual_seed(3)
    with torch.no_grad():
        loss = task.loss(Batch((views,), torch.arange(8), labels), Tick(0, 10, 5)).value
        torch.manual_seed(3)
        share = float(torch.distributions.Beta(0.4, 0.4).sample())
        other = torch.randperm(8)
        logits = task.head(network(share * views + (1 - share) * views[other]))
        soft = share * F.one_hot(labels, 2) + (1 - share) * F.one_hot(labels[other], 2)
        weights = task.class_weights
        by_hand = -(soft * weights * logits.log_softmax(1)).sum() / weights[labels].sum()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_that_are_no_classes_are_mixed_too(kind, folder, sslcurr):
    data = ("--dataset", dataset_for(kind, folder)["dataset"], "--target", kind, *QUICK)
    plain = sslcurr.json("finetune", *data)["stages"][0]
    mixed = sslcurr.json("finetune", *data, "--set", f"{kind}.mixup=0.4")["stages"][0]
    assert mixed["key"] != plain["key"]
    assert mixed["metrics"]["loss"] != plain["metrics"]["loss"]


def test_what_is_off_is_no_part_of_a_key(small_stage):
    spec = small_stage("classification")
    config = config_of(spec)
    assert "mixup" not in config_values(config)
    assert config_values(replace(config, mixup=0.2))["mixup"] == 0.2
    changes = ({"freeze": "stem"}, {"layer_decay": 0.7}, {"head_warmup": 1.0})
    keys = {key_of(replace(spec, training=replace(spec.training, **change))) for change in changes}
    assert len(keys | {key_of(spec)}) == 4
    assert key_of(replace(spec, training=replace(spec.training, freeze="none", layer_decay=1.0))) == key_of(spec)


def test_a_stage_is_trained_on_with_its_last_layer(folder, sslcurr):
    data = ("--dataset", str(folder), *QUICK)
    chain = sslcurr.json("chain", "rotation", *data, "--set", "classification.mixup=0.2")
    pretext, tuned = chain["stages"]
    planned = sslcurr.json("continue", tuned["key"], "--epochs", "2", "--dry-run")
    assert not planned["stages"][0]["reused"]
    document = sslcurr.json("continue", tuned["key"], "--epochs", "2", "--lr", "1e-12")
    (stage,) = document["stages"]
    assert (stage["task"], document["overlap"]["images"]) == ("classification", 0)
    store = Store(sslcurr.runs)
    old, new = store.find(tuned["key"]), store.find(stage["key"])
    heads = [load_file(each.folder / "head.safetensors") for each in (old, new)]
    assert all(torch.allclose(heads[0][name], heads[1][name], atol=1e-8) for name in heads[0])
    assert new.spec.config == old.spec.config
    assert (new.spec.training.epochs, new.spec.parent, new.spec.tasks) == (
        2,
        tuned["key"],
        ("rotation", "classification", "classification"),
    )
    assert sslcurr.json("continue", tuned["key"], "--epochs", "2", "--lr", "1e-12")["stages"][0]["reused"]
    assert sslcurr.json("predict", stage["key"])["num_images"] == document["downstream"]["num_images"]
    further = sslcurr.json("continue", pretext["key"], "--epochs", "2")
    assert "downstream" not in further
    assert store.find(further["stages"][0]["key"]).spec.tasks == ("rotation", "rotation")
    assert "begin anew" in sslcurr("continue", pretext["key"], "--epochs", "3").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("finetune", "--freeze", "9"), "freeze=9 wants more"),
        (("finetune", "--freeze", "half"), "unknown freeze 'half'"),
        (("finetune", "--layer-decay", "2"), "layer_decay must be above 0 and at most 1"),
        (("finetune", "--probe", "knn", "--freeze", "1"), "--freeze is for fine-tuned models, and --probe knn"),
        (("chain", "rotation", "--no-finetune", "--layer-decay", "0.5"), "--layer-decay is for fine-tuned models"),
        (("rank", "rotation", "--measure", "knn", "--freeze", "all"), "--freeze is for fine-tuned models"),
        (("finetune", "--set", "classification.head_warmup=3"), "leaves none of 1 for the backbone"),
    ],
)
def test_mistakes(arguments, message, folder, sslcurr):
    result = sslcurr(*arguments, "--dataset", str(folder), *QUICK)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "hint: " in result.stderr
    assert not Store(sslcurr.runs).all()


def test_a_stage_is_trained_on_with_its_own_seed(folder, sslcurr):
    first = sslcurr.json("finetune", "--dataset", str(folder), *QUICK, "--seed", "3", "--name", "third")
    again = sslcurr.json("continue", "third", "--epochs", "1")
    assert again["seeds"] == first["seeds"] == [3]
    assert sslcurr.json("runs", "show", "last")["seed"] == 3


def test_only_stages_are_trained_on(sslcurr):
    result = sslcurr("continue", "12345678")
    assert result.exit_code == 1
    assert "error: " in result.stderr


def test_a_frozen_warming_mixed_stage_goes_on_with_the_same_bytes(small_stage, tmp_path):
    spec = small_stage("classification")
    training = replace(spec.training, freeze="1", layer_decay=0.7, head_warmup=1.0)
    spec = replace(spec, training=training, config={**spec.config, "mixup": 0.3})
    subject = Subject("classification", lambda: spec, tmp_path)
    CHECKS["killed_anywhere_and_run_again_equals_uninterrupted"](subject)
