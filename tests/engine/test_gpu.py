"""Ways in which a GPU may train faster, as far as a CPU shows them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sslcurr.data.views.draw import make_views
from sslcurr.data.views.view import View
from sslcurr.engine import gpu
from sslcurr.engine.gpu import Beside, compiled_views, record_passes, ways_of
from sslcurr.errors import SpecError
from sslcurr.spec.runtime import GPU_WAYS, Runtime
from sslcurr.tasks.base import Batch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_ways_are_those_asked_for_or_those_that_were_measured(tmp_path, monkeypatch):
    measured = tmp_path / "gpu.json"
    measured.write_text(json.dumps({"Quick 9000": {"ways": ["ahead", "graphs"]}}))
    monkeypatch.setattr(gpu, "MEASURED", measured)
    assert ways_of(Runtime(), CUDA, "Quick 9000") == {"ahead", "graphs"}
    assert ways_of(Runtime(), CUDA, "Another") == {"channels-last"}
    assert ways_of(Runtime(gpu=("graphs",)), CUDA, "Quick 9000") == {"graphs"}
    assert ways_of(Runtime(gpu=("none",)), CUDA, "Quick 9000") == set()
    assert ways_of(Runtime(gpu=GPU_WAYS), CPU, "x86_64") == set()


def test_the_file_of_measured_ways_names_ways_only():
    for found in json.loads(gpu.MEASURED.read_text()).values():
        assert set(found["ways"]) <= set(GPU_WAYS)


@pytest.mark.parametrize(("asked", "message"), [(("graph",), "did you mean"), (("auto", "ahead"), "alone")])
def test_ways_that_cannot_be(asked, message):
    with pytest.raises(SpecError) as caught:
        Runtime(gpu=asked)
    assert message in caught.value.hint


def test_a_cpu_trains_the_same_whatever_is_asked_of_gpus(sslcurr, folder, tmp_path):
    from tests.conftest import QUICK

    digests = []
    for number, way in enumerate(("none", "ahead", "graphs")):
        runs = str(tmp_path / str(number))
        found = sslcurr.json(
            "pretrain", "simclr", "--dataset", str(folder), *QUICK, "--gpu", way, "--runs", runs, "--device", "cpu"
        )
        (stage,) = found["stages"]
        digests.append((stage["key"], json.loads((tmp_path / f"{number}/stages/{stage['key']}/done.json").read_text())))
    assert len({(key, done["weights_sha256"]) for key, done in digests}) == 1


class Streams:
    """Streams of a GPU that there is not: notes what is asked of them."""

    def __init__(self, monkeypatch) -> None:
        self.events: list[object] = []
        self.training = SimpleNamespace(wait_stream=lambda other: self.events.append("training waits for views"))
        side = SimpleNamespace(device=CUDA)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.training)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self._on(stream, side))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: self._kept(tensor, stream))

    def _on(self, stream, side):
        assert stream is side
        self.events.append("views on their own stream")
        return nullcontext()

    def _kept(self, tensor, stream) -> None:
        assert stream is self.training
        self.events.append(tensor.data_ptr())


def test_the_training_waits_for_views_that_are_made_beside_it_and_keeps_their_memory(monkeypatch):
    streams = Streams(monkeypatch)
    batch = Batch((torch.ones(2), torch.ones(3)), torch.arange(2), torch.zeros(2))

    def make() -> Batch:
        streams.events.append("made")
        return batch

    assert Beside(CUDA).made(make) is batch
    kept = [tensor.data_ptr() for tensor in (*batch.views, batch.index, batch.labels)]
    assert streams.events == ["views on their own stream", "made", "training waits for views", *kept]
    streams.events.clear()
    assert Beside(None).made(make) is batch
    assert streams.events == ["made"]


class Recorder:
    """Stands for torch's recordings: computes the ordinary way, into one place for each shape as they do."""

    def __init__(self, monkeypatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", self.make)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))

    def make(self, network, samples, allow_unused_input):
        assert not torch.is_autocast_enabled("cpu") or not torch.is_autocast_cache_enabled()
        for _ in range(3):  # the warm-up
            network(*samples).sum().backward()
        self.shapes.append(tuple(samples[0].shape))

        def replayed(images):
            self.replays += 1
            assert images.shape == samples[0].shape
            return network(images)

        return replayed


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())


@pytest.mark.parametrize("autocast", [nullcontext, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_recorded_passes_are_the_passes(monkeypatch, autocast):
    recorder = Recorder(monkeypatch)
    plain, recorded = network(), network()
    record_passes(recorded, autocast)
    sizes = [4, 4, 3, 4, 3, 3, 4]
    for step, size in enumerate(sizes):
        images = torch.randn(size, 1, 6, 6, generator=torch.Generator().manual_seed(step))
        for each in (plain, recorded):
            torch.manual_seed(step)
            with autocast():
                each(images).square().sum().backward()
        for one, other in zip(plain.parameters(), recorded.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)
            one.grad = other.grad = None
        for one, other in zip(plain.buffers(), recorded.buffers(), strict=True):
            assert torch.equal(one, other)
    assert recorder.shapes == [(4, 1, 6, 6), (3, 1, 6, 6)]
    assert recorder.replays == len(sizes) - 2  # each shape the ordinary way once
    assert list(plain.state_dict()) == list(recorded.state_dict())


def test_what_a_recording_has_no_room_for_goes_the_ordinary_way(monkeypatch):
    recorder = Recorder(monkeypatch)
    recorded = network()
    record_passes(recorded, nullcontext)
    images = torch.randn(4, 1, 6, 6)
    recorded(images)
    first, second = recorded(images), recorded(images)  # both wait for their gradients
    assert recorder.replays == 1
    (first.sum() + second.sum()).backward()
    recorded(images)
    assert recorder.replays == 2
    with torch.no_grad():
        recorded(images)
    recorded.eval()
    recorded(images)
    recorded.train()
    recorded(images.clone().requires_grad_())
    assert recorder.replays == 2
    for size in range(5, 5 + gpu.MOST_SHAPES):
        for _ in range(3):
            recorded(torch.randn(size, 1, 6, 6)).sum().backward()
    assert len(recorder.shapes) == gpu.MOST_SHAPES


@pytest.mark.long
def test_compiled_views_are_the_views(monkeypatch):
    from sslcurr.data.views import crops

    monkeypatch.setattr(crops, "resize_sparse", lambda *rest: crops.resize_dense(*rest))  # as on a GPU
    images = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sides = torch.full((5,), 30)
    view = View(size=8, count=2, jitter=0.8, gray=0.3, blur=0.7, horizontal_flip=0.5)

    def made(*, compiled: bool) -> torch.Tensor:
        how = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "channels": 3}
        with compiled_views(compiled, backend="eager"):
            return make_views(images, sides, sides, [view], torch.Generator().manual_seed(1), **how)[0]

    real = crops.resize_dense
    torch.testing.assert_close(made(compiled=True), made(compiled=False))
    assert crops.resize_dense is real
