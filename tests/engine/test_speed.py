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
from sslcurr.errors import SpecError
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


def simulated(float32, bf16):
    """Products of a CPU of so many operations a second for each type, after 10 microseconds; and what they took."""
    took = []

    def seconds(side, kind):
        took.append(1e-5 + 2 * side**3 / {torch.float32: float32, torch.bfloat16: bf16}[kind])
        return took[-1]

    return seconds, took


@pytest.mark.parametrize("speed", [1e6, 3e7, 1e9])
def test_bf16_without_instructions_is_found_out_by_products_that_take_no_time(speed):
    seconds, took = simulated(float32=100e9, bf16=speed)
    assert device.slowdown(seconds) > device.SLOWEST_BF16
    assert sum(took) < 1.0
    assert max(took) < 8 * max(device.LONG_PRODUCT, 2 * device.SMALLEST_PRODUCT**3 / speed)


def test_bf16_with_instructions_is_measured_at_the_largest_product():
    seconds, took = simulated(float32=300e9, bf16=150e9)
    assert device.slowdown(seconds) == pytest.approx(2.0, rel=0.02)
    assert len(took) == 2 * 3 * 5
    assert sum(took) < 0.1


def test_the_shortest_of_three_times_counts():
    times = iter([9.0, 1.0, 9.0, 5.0, 8.0, 8.0])
    assert device.slowdown(lambda side, kind: next(times)) == 5.0


def test_bf16_is_refused_where_it_takes_ten_times_as_long(small_stage, tmp_path, monkeypatch):
    spec = small_stage("rotation")
    spec = replace(spec, training=replace(spec.training, epochs=1, precision="bf16"))
    monkeypatch.setattr(device, "bf16_slowdown", lambda: 340.4)
    with pytest.raises(SpecError) as error:
        train_stage(spec, Store(tmp_path), Runtime(device="cpu"), Reporter())
    assert str(error.value) == (
        "this CPU takes 340 times as long for a matrix product in bf16 as in float32: it has no instructions for bf16"
    )
    assert error.value.hint == "give --precision 32, or leave --precision out"
    monkeypatch.setattr(device, "bf16_slowdown", lambda: pytest.fail("measured without need"))
    for asked in ("auto", "32"):
        plain = replace(spec, training=replace(spec.training, precision=asked))
        assert train_stage(plain, Store(tmp_path), Runtime(device="cpu"), Reporter()).record.precision == "32"


def test_what_was_trained_in_bf16_elsewhere_is_tested_in_float32_on_such_a_cpu(small_stage, tmp_path, monkeypatch):
    from sslcurr.analysis.evaluation import classifier

    spec = small_stage("classification")
    spec = replace(spec, training=replace(spec.training, epochs=1, precision="32"))
    stage = train_stage(spec, Store(tmp_path), Runtime(device="cpu"), Reporter())
    elsewhere = replace(spec, training=replace(spec.training, precision="bf16"))

    def predictions(asked, times):
        monkeypatch.setattr(device, "bf16_slowdown", lambda: times)
        folder = tmp_path / f"{asked.training.precision}-{times}"
        folder.mkdir()
        classifier._evaluate(stage, asked, folder, "cpu")
        return (folder / "predictions.csv").read_text()

    assert predictions(elsewhere, 340.0) == predictions(spec, 1.0) != predictions(elsewhere, 1.0)


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
        "from sslcurr.backbones.build import build; from sslcurr.spec.stage import BackboneSpec;"
        "build(BackboneSpec(name='test_resnet'));"
        "heavy = {'torchmetrics', 'lightning_fabric', 'pytorch_lightning', 'lightly', 'sklearn', 'cv2', 'matplotlib',"
        "'wandb', 'pandas'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
