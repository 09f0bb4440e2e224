"""What makes trainings faster or smaller without changing them, and what says where their time goes."""

from __future__ import annotations

import copy
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from sslcurr.backbones.build import build
from sslcurr.backbones.recompute import recompute_stages
from sslcurr.engine import device
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.store import Store
from sslcurr.progress import PHASES, Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import BackboneSpec, hash_of, key_of, to_dict

# ---- recomputing


def kept_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, apart from the weights."""
    kept: dict[int, int] = {}
    own = {value.untyped_storage().data_ptr() for value in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(images)
    del output
    return sum(kept.values())


@pytest.mark.parametrize("name", ["resnet18", "test_resnet", "convnext_atto", "mobilenetv3_small_050"])
def test_recomputed_stages_give_the_same_gradients_and_statistics_and_keep_less(name):
    torch.manual_seed(0)
    plain = build(BackboneSpec(name=name)).train()
    forgetful = copy.deepcopy(plain)
    recompute_stages(forgetful)
    images = torch.rand(4, 3, 64, 64)
    for network in (plain, forgetful):
        torch.manual_seed(1)  # drop path
        network(images).square().sum().backward()
    for (part, one), other in zip(plain.named_parameters(), forgetful.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), part
    for part, value in plain.state_dict().items():
        assert torch.equal(value, forgetful.state_dict()[part]), part
    assert kept_bytes(forgetful, images) < 0.8 * kept_bytes(plain, images)


def test_recomputing_keeps_frozen_norms_frozen_and_passes_without_gradients_as_they_are():
    network = build(BackboneSpec(name="test_resnet"))
    recompute_stages(network)
    network.eval()
    before = copy.deepcopy(network.state_dict())
    network(torch.rand(4, 3, 32, 32)).sum().backward()
    with torch.no_grad():
        network(torch.rand(4, 3, 32, 32))
    assert all(torch.equal(value, before[part]) for part, value in network.state_dict().items())
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


# ---- where the time goes


def test_every_phase_of_a_step_is_told_in_order(small_stage, tmp_path):
    class Listener(Reporter):
        def __init__(self):
            self.told = []

        @contextmanager
        def phase(self, name):
            self.told.append(name)
            yield
            self.told.append(f"end of {name}")

    spec = small_stage("mocov2")
    spec = replace(spec, training=replace(spec.training, epochs=1, accumulate=2))
    listener = Listener()
    stage = train_stage(spec, Store(tmp_path), Runtime(), listener)
    parts = ["host to device", "views", "forward", "backward"]
    step = [*parts, *parts, "optimizer", "after_step", "logging"]
    assert set(step) == set(PHASES)
    expected = [text for name in step for text in (name, f"end of {name}")]
    assert listener.told == expected * stage.record.steps


# ---- memory that is kept


def test_small_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    asked = []

    class Library:
        def mallopt(self, name, value):
            asked.append((name, value))
            return 1

    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: Library())
    device.keep_freed_memory()
    assert asked == [(-1, 2**31 - 1), (-3, 2**22)]
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: object())  # musl
    device.keep_freed_memory()
    monkeypatch.setattr(device.sys, "platform", "darwin")
    device.keep_freed_memory()
    assert len(asked) == 2


@pytest.mark.parametrize(("asked", "precision", "channels_last"), [("auto", "32", False), ("bf16", "bf16", True)])
def test_cpus_train_in_float32_and_bf16_is_for_those_who_ask(asked, precision, channels_last):
    found = device.placement("cpu", asked)
    assert (found.precision, found.channels_last) == (precision, channels_last)


# ---- planning many chains


def test_chains_share_their_planned_stages_and_are_what_a_new_planner_plans(folder, tmp_path):
    request = Request(dataset=str(folder), image_size=16, backbone="test_resnet", epochs=2)
    tasks = ["mocov2", "rotation", "simclr", "classification"]
    planner = Planner(request, Store(tmp_path), tasks)
    chains = [["mocov2", "rotation", "classification"], ["mocov2", "simclr"], ["rotation", "mocov2"]]
    for seed in (0, 1):
        planned = [planner.requesting(seed=seed).chain(chain) for chain in chains]
        assert planned[0][0] is planned[1][0]
        for chain, found in zip(chains, planned, strict=True):
            fresh = Planner(replace(request, seed=seed), Store(tmp_path), tasks).chain(chain)
            assert [to_dict(spec) for spec in found] == [to_dict(spec) for spec in fresh]
            assert [key_of(spec) for spec in found] == [key_of(spec) for spec in fresh]
    assert planner.chain(["mocov2"])[0].seed == 0


def test_the_key_is_the_hash_of_all_that_was_asked_and_no_part_of_the_record(small_stage):
    import hashlib
    import json

    spec = small_stage("swav")
    plain = json.dumps(to_dict(spec, for_key=True), sort_keys=True, separators=(",", ":"))
    assert hash_of(spec) == hashlib.sha256(f"sslcurr 1\n{plain}".encode()).hexdigest()
    assert key_of(spec) == hash_of(spec)[:16]
    assert not any("key" in name for name in to_dict(spec))
    other = replace(spec, seed=7)
    assert key_of(other) == hash_of(other)[:16] != key_of(spec)
    # Equal values that are written differently are different things to ask for, as they always were.
    whole, real = (replace(spec, training=replace(spec.training, lr=lr)) for lr in (1, 1.0))
    assert whole == real
    assert key_of(whole) != key_of(real)


# ---- the start


def test_the_engine_imports_no_package_that_it_does_not_use():
    # torchmetrics alone had taken four seconds; LARS is all that the engine takes from lightly, and only when asked.
    code = (
        "import sys, sslcurr.engine.train;"
        "heavy = {'torchmetrics', 'lightning_fabric', 'pytorch_lightning', 'lightly', 'sklearn', 'cv2', 'matplotlib'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
