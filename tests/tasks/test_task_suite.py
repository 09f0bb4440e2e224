"""One suite over every task of the table. A new task is subjected to it by its line there; there are no exceptions."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sslcurr.engine import loop
from sslcurr.engine import train as engine
from sslcurr.engine.batches import Feed
from sslcurr.engine.log import read_rows
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.engine.train import build_task
from sslcurr.progress import Reporter
from sslcurr.seeds import torch_generator
from sslcurr.spec.request import Wishes
from sslcurr.spec.runtime import Runtime
from sslcurr.tasks import PRETEXT, TASKS, task_class
from sslcurr.tasks.base import Tick
from tests import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden"
every_task = pytest.mark.parametrize("task", sorted(TASKS))


def rows_of(stage, name="metrics.csv"):
    """A log without its clock."""
    rows = read_rows(stage.folder / name)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def tensors_of(stage):
    return {path.name: load_file(path) for path in sorted(stage.folder.glob("*.safetensors"))}


def assert_same_stage(a, b):
    assert rows_of(a) == rows_of(b)
    if (a.folder / "epochs.csv").exists():
        assert rows_of(a, "epochs.csv") == rows_of(b, "epochs.csv")
    left, right = tensors_of(a), tensors_of(b)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].keys() == right[name].keys()
        assert all(torch.equal(left[name][k], right[name][k]) for k in left[name])


def kill_at(monkeypatch, target, name, call):
    """Raise KeyboardInterrupt at the n-th call of `target.name`, as a kill between two saves would end a process."""
    real, calls = getattr(target, name), []

    def wrapped(*arguments, **named):
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(target, name, wrapped)


def a_batch(spec, selection, num_images=12):
    feed = Feed(selection, spec.backbone, torch.device("cpu"))
    kind = task_class(spec.task)
    views = kind.views(kind.Config(**spec.config))
    return feed.batch(np.arange(num_images), views, torch_generator("test"))


@every_task
def test_killed_anywhere_and_run_again_equals_uninterrupted(task, small_stage, tmp_path, monkeypatch):
    spec, runtime = small_stage(task), Runtime(save_steps=2, log_steps=1)
    whole = train_stage(spec, Store(tmp_path / "a"), runtime, Reporter())
    steps = engine.num_steps(whole.record["num_images"], spec.training.batch_size)
    store = Store(tmp_path / "b")
    # In the middle of an epoch, in the step after a save, at the very end of an epoch, and just before the weights.
    for target, name, call in (
        (engine, "one_step", 4),
        (engine, "one_step", 2),
        (loop.Loop, "epoch_done", 1),
        (engine, "finish", 1),
    ):
        with monkeypatch.context() as patch:
            kill_at(patch, target, name, call)
            with pytest.raises(KeyboardInterrupt):
                train_stage(spec, store, runtime, Reporter())
        assert store.all() == []
    again = train_stage(spec, store, runtime, Reporter())
    assert_same_stage(again, whole)
    assert len(rows_of(whole)) == whole.record["steps"] <= 3 * steps
    assert not (again.folder / "resume.pt").exists()


@every_task
def test_loss_changes_no_state(task, small_stage):
    spec = small_stage(task)
    selection = select(spec.data, labelled=task_class(task).labelled)
    module = build_task(spec, selection, None)
    statistics = {
        f"{name}.{buffer}"
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
        for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
    batch = a_batch(spec, selection)
    for step in (0, 30):  # in the frozen epochs and after them, queues in use
        tick = Tick(step, 60, 6)
        module.before_step(tick)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        module.loss(batch, tick)
        changed = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
        assert changed <= statistics


@every_task
def test_all_state_is_in_the_state_dict(task, small_stage):
    spec = small_stage(task)
    module = build_task(spec, select(spec.data, labelled=task_class(task).labelled), None)
    for part in module.modules():
        assert not part._non_persistent_buffers_set
        assert not [name for name, value in vars(part).items() if isinstance(value, torch.Tensor)]


@every_task
def test_after_step_does_not_count_for_itself(task, small_stage):
    """The same step twice from the same state gives the same loss: nothing but the tick tells the time."""
    spec = small_stage(task)
    selection = select(spec.data, labelled=task_class(task).labelled)
    losses = []
    for _ in range(2):
        module = build_task(spec, selection, None)
        batch, tick = a_batch(spec, selection), Tick(3, 60, 6)
        torch.manual_seed(0)
        out = module.loss(batch, tick)
        module.after_step(batch, out, tick)
        losses.append(module.loss(batch, Tick(4, 60, 6)).value.item())
    assert losses[0] == losses[1]


@every_task
def test_every_size_of_batch_gives_a_finite_loss_and_gradients(task, small_stage):
    spec = small_stage(task)
    selection = select(spec.data, labelled=task_class(task).labelled)
    for size in (2, 3, 12, 33):
        module = build_task(spec, selection, None)
        tick = Tick(30, 60, 6)
        batch = a_batch(spec, selection, size)
        out = module.loss(batch, tick)
        out.value.backward()
        module.after_step(batch, out, tick)
        assert torch.isfinite(out.value)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.backbone.parameters())
        assert all(tensor.shape[0] == size for tensor in out.keep.values())


@every_task
def test_loss_curve_is_that_of_its_version(task, small_stage, tmp_path):
    spec = small_stage(task)
    # A tenth of the rate: at the full one rounding errors of another processor grow, in fifteen steps, to differences
    # of a third (simsiam, barlow-twins); here they stay under 2e-4.
    spec = replace(spec, training=replace(spec.training, lr=spec.training.lr / 10))
    stage = train_stage(spec, Store(tmp_path), Runtime(log_steps=1), Reporter())
    losses = [float(row["loss"]) for row in read_rows(stage.folder / "metrics.csv")]
    path = GOLDEN / f"{task}-v{task_class(task).version}.json"
    if os.environ.get("SSLCURR_WRITE_GOLDEN"):
        path.write_text(json.dumps([round(x, 6) for x in losses]) + "\n")
    np.testing.assert_allclose(losses, json.loads(path.read_text()), rtol=2e-3, atol=2e-3)


@every_task
def test_accumulation_sees_the_same_images_and_keeps_all_of_them(task, small_stage, tmp_path):
    spec = small_stage(task)
    parts = replace(spec, training=replace(spec.training, accumulate=2))
    stage = train_stage(parts, Store(tmp_path), Runtime(log_steps=1), Reporter())
    assert stage.record["steps"] == 3 * engine.num_steps(stage.record["num_images"], 8)
    assert all(np.isfinite(float(row["loss"])) for row in read_rows(stage.folder / "metrics.csv"))


@every_task
def test_logging_saving_recomputing_and_the_place_of_the_store_leave_the_results_alone(task, small_stage, tmp_path):
    a = train_stage(small_stage(task), Store(tmp_path / "a"), Runtime(save_steps=1), Reporter())
    runtime = Runtime(log_steps=5, tensorboard=True, recompute=True)
    b = train_stage(small_stage(task), Store(tmp_path / "some" / "where"), runtime, Reporter())
    assert a.key == b.key
    assert a.record["weights_sha256"] == b.record["weights_sha256"]
    assert list((b.folder / "tensorboard").iterdir())


@every_task
def test_bf16_trains_in_the_same_loop(task, small_stage, tmp_path):
    # 64 px: on maps of one pixel, torch 2.15 gives bf16 gradients that are sometimes not finite, on a CPU.
    spec, losses = small_stage(task, image_size=64), {}
    for precision in ("32", "bf16"):
        stage = train_stage(
            replace(spec, training=replace(spec.training, precision=precision, epochs=1)),
            Store(tmp_path),
            Runtime(device="cpu", log_steps=1),
            Reporter(),
        )
        assert stage.record["precision"] == precision
        losses[precision] = [float(row["loss"]) for row in read_rows(stage.folder / "metrics.csv")]
        assert all(tensor.dtype != torch.bfloat16 for tensor in load_file(stage.weights).values())
    # Clusters of bf16 features, which are DeepCluster's labels, differ by an image or two.
    assert losses["bf16"][0] == pytest.approx(losses["32"][0], rel=0.05, abs=0.02)
    assert np.isfinite(losses["bf16"]).all()


@every_task
def test_recipes_fit_any_size_of_data(task):
    from sslcurr.tasks.base import Facts

    kind = task_class(task)
    for num_images in (4, 37, 300, 5_000, 100_000, 1_281_167):
        for batch_size in (None, 4, 512):
            facts = Facts(
                num_images=num_images,
                class_counts=(num_images // 2, num_images - num_images // 2),
                image_size=64,
                batch_size=batch_size,
            )
            recipe = kind.recipe(facts)
            assert recipe.training.batch_size == (batch_size or recipe.training.batch_size)
            assert recipe.training.batch_size <= max(4, num_images) or batch_size
            assert getattr(recipe.config, "queue_length", 0) <= max(16, num_images // 2)
            assert kind.views(recipe.config)


def pooled_accuracy(spec, store):
    """kNN balanced accuracy on the validation images, of the pooled features that the stage ends with."""
    from sslcurr.analysis.evaluation.classifier import features_of
    from sslcurr.analysis.measures.probes import probe_knn

    stage = train_stage(spec, store, Runtime(), Reporter())
    selection = select(spec.data, labelled=True)
    layers = features_of(stage.weights, spec.backbone, spec.config["image_size"], selection, "cpu", spec.seed)
    return probe_knn(layers["pooled"], len(selection.pack.classes), "val").validation


def fashion_stage(task, seed, store, *given):
    """A short training on real images."""
    wishes = Wishes(
        dataset="fashion", backbone="resnet18", stem="imagenet", image_size=20, seed=seed, fraction=0.2, settings=given
    )
    return Planner(replace(wishes, epochs=3), store, [task]).chain([task])[0]


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """What two backbones give after a training at a rate of nothing.

    Their batch norms know the images, which is worth ten points: an untrained backbone would be too easy to beat.
    """
    store = Store(tmp_path_factory.mktemp("untaught"))
    nothing = ("simclr.lr=1e-12", "simclr.weight_decay=0")
    return [pooled_accuracy(fashion_stage("simclr", seed, store, *nothing), store) for seed in range(2)]


@pytest.mark.parametrize("task", PRETEXT)
def test_it_learns(task, untaught, tmp_path):
    """A short training on real images beats the ones at a rate of nothing by more than their spread.

    One seed, to be quick; benchmarks/learning.py has three.
    """
    store = Store(tmp_path)
    taught = pooled_accuracy(fashion_stage(task, 0, store), store)
    assert taught - max(untaught) > np.ptp(untaught), (taught, untaught)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every_task
def test_a_gpu_sees_the_same_crops_and_losses(task, small_stage, tmp_path):
    spec = small_stage(task)
    losses = {}
    for device in ("cpu", "cuda"):
        exact = replace(spec, training=replace(spec.training, precision="32", epochs=1))
        stage = train_stage(exact, Store(tmp_path / device), Runtime(device=device, log_steps=1), Reporter())
        losses[device] = [float(row["loss"]) for row in read_rows(stage.folder / "metrics.csv")]
    np.testing.assert_allclose(losses["cuda"][:3], losses["cpu"][:3], rtol=0.02)
    default = train_stage(spec, Store(tmp_path / "auto"), Runtime(device="cuda"), Reporter())
    assert default.record["channels_last"]
    assert np.isfinite(default.record["metrics"]["loss"])
