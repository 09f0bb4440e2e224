"""The mathematics of each task: by hand, and against another implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from sslcurr.backbones.build import build
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_for
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import key_of
from sslcurr.tasks.base import Batch, Facts, Tick, scaled_sigma
from sslcurr.tasks.classification import Classification
from sslcurr.tasks.embedding import collapse, enqueue, frozen_copy, in_shuffled_groups, info_nce, move_towards
from sslcurr.tasks.mocov2 import MoCoV2
from sslcurr.tasks.rotation import Rotation
from sslcurr.tasks.swav import SwAV, sinkhorn, swapped_prediction
from sslcurr.world import ALONE


class Pixels(nn.Module):
    """A backbone whose features are the pixels, with a weight so that it can learn."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size * size))

    def forward(self, images):
        return images.mean(dim=1).flatten(1) * self.weight


def batch_of(*views, labels=None, num_images=None):
    num_images = num_images or len(views[0])
    labels = torch.full((num_images,), -1) if labels is None else labels
    return Batch(views=views, index=torch.arange(num_images), labels=labels)


# ---- the base


def test_enqueue_writes_over_the_oldest_whatever_the_sizes():
    queue, position, expected = torch.zeros(5, 1), torch.zeros((), dtype=torch.long), []
    for size in (2, 2, 3, 1, 7, 2):
        rows = torch.arange(len(expected), len(expected) + size, dtype=torch.float)[:, None] + 1
        expected += rows.flatten().tolist()
        enqueue(queue, position, rows)
        filled = [x for x in queue.flatten().tolist() if x]
        assert sorted(filled) == sorted(expected)[-5:]
    assert 0 <= int(position) < 5


def test_move_towards_is_the_moving_average():
    fast = nn.Linear(3, 2)
    slow = frozen_copy(fast)
    before = slow.weight.clone()
    with torch.no_grad():
        fast.weight += 1.0
    move_towards(slow, fast, 0.9)
    torch.testing.assert_close(slow.weight, before + 0.1)
    assert not slow.weight.requires_grad


def test_collapse_is_zero_for_equal_and_one_for_scattered_vectors():
    generator = torch.Generator().manual_seed(0)
    assert collapse(torch.ones(8, 16) / 4).item() == 0
    scattered = F.normalize(torch.randn(4000, 16, generator=generator), dim=1)
    assert collapse(scattered).item() == pytest.approx(1.0, abs=0.03)


def test_blur_scales_with_the_view():
    assert scaled_sigma(224) == (0.1, 2.0)
    assert scaled_sigma(112) == (0.05, 1.0)


# ---- MoCo v2


def test_info_nce_by_hand():
    q = k = torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    # Logits are 1/T, 0 and -1/T with T = 0.5.
    expected = -2.0 + math.log(math.exp(2.0) + 1.0 + math.exp(-2.0))
    value, accuracy = info_nce(q, k, negatives, 0.5)
    assert value.item() == pytest.approx(expected)
    assert accuracy.item() == 1.0


def test_info_nce_agrees_with_lightly():
    from lightly.loss import NTXentLoss

    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(8, 16), dim=1) for _ in range(2))
    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(32, 16))
    theirs(q, k)  # makes the bank
    bank = F.normalize(torch.randn(32, 16), dim=1)
    theirs.memory_bank.bank = bank.clone()
    mine, _ = info_nce(q, k, bank, 0.2)
    torch.testing.assert_close(mine, theirs(q, k))


def moco(size=4, **config):
    torch.manual_seed(0)
    config = MoCoV2.Config(image_size=size, dim=8, **{"queue_length": 16, "bn_group": 4, "momentum": 0.9} | config)
    return MoCoV2(Pixels(size), size * size, Facts(num_images=40), config)


def test_keys_are_never_their_own_negatives():
    """A positive that stood in the queue would be matched twice; the queue is filled after the loss."""
    task = moco()
    views = torch.rand(2 * 6, 3, 4, 4)
    batch, tick = batch_of(views, num_images=6), Tick(0, 10, 5)
    out = task.loss(batch, tick)
    assert (out.keep["keys"] @ task.queue.T).max() < 0.9999
    task.after_step(batch, out, tick)
    torch.testing.assert_close(task.queue[:6], out.keep["keys"])
    assert int(task.position) == 6


def test_key_encoder_follows_the_query_encoder_and_takes_no_gradient():
    task = moco()
    before = task.key_encoder[1][0].weight.clone()
    with torch.no_grad():
        task.head[0].weight += 1.0
    batch, tick = batch_of(torch.rand(12, 3, 4, 4), num_images=6), Tick(0, 10, 5)
    out = task.loss(batch, tick)
    out.value.backward()
    assert all(p.grad is None for p in task.key_encoder.parameters())
    task.after_step(batch, out, tick)
    torch.testing.assert_close(task.key_encoder[1][0].weight, before + 0.1)
    assert [p.shape for p in task.key_encoder.parameters()] == [
        p.shape for p in nn.Sequential(task.backbone, task.head).parameters()
    ]


def test_keys_come_back_in_the_order_of_their_images():
    """Shuffled and normalised in groups, row i is still of image i."""
    task = moco(bn_group=2)
    images = torch.rand(9, 3, 4, 4)
    (keys,) = in_shuffled_groups(task.key_encoder, lambda x: (task.key_encoder(x),), images, 2)
    torch.testing.assert_close(keys, task.key_encoder(images))


def test_batch_norm_of_keys_is_in_groups():
    seen = []

    class Spy(nn.BatchNorm2d):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    torch.manual_seed(0)
    config = MoCoV2.Config(image_size=4, dim=8, queue_length=16, bn_group=8)
    task = MoCoV2(nn.Sequential(Spy(3), Pixels(4)), 16, Facts(num_images=40), config)
    task.loss(batch_of(torch.rand(64, 3, 4, 4), num_images=32), Tick(0, 10, 5))
    assert seen == [8, 8, 8, 8, 32]


# ---- SwAV


def test_sinkhorn_agrees_with_lightly():
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = torch.randn(24, 10, generator=torch.Generator().manual_seed(0)).tanh()
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), theirs(scores, 3, 0.05), rtol=1e-4, atol=1e-6)


def test_sinkhorn_converges_to_equal_use_by_hand():
    # Two images that both prefer the first of two prototypes: equal use forces the less sure one to the other.
    codes = sinkhorn(torch.tensor([[1.0, 0.0], [0.6, 0.0]]), 0.05, 200)
    torch.testing.assert_close(codes.sum(dim=0), torch.ones(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(2))
    assert codes[0].argmax() == 0
    assert codes[1].argmax() == 1


def test_sinkhorn_stays_finite_with_sharp_scores():
    codes = sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0]]) * 30, 0.05, 3)
    assert torch.isfinite(codes).all()


def test_swapped_prediction_agrees_with_lightly():
    from lightly.loss import SwaVLoss

    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5 * 6, 7, generator=generator).tanh()
    crops = list(scores.chunk(5))
    codes = [sinkhorn(crop, 0.05, 3) for crop in crops[:2]]
    theirs = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)(crops[:2], crops[2:])[0]
    torch.testing.assert_close(swapped_prediction(scores, codes, 5, 0.1), theirs, rtol=1e-4, atol=1e-5)


def test_swapped_prediction_by_hand():
    # Two crops of one image; the code of one is predicted from the scores of the other.
    scores = torch.tensor([[0.2, 0.0], [0.0, 0.1]])
    codes = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.25, 0.75]])]

    def log_share(a, b):
        return a - math.log(math.exp(a) + math.exp(b))

    first_code_from_second = -log_share(0.0, 1.0)
    second_code_from_first = -(0.25 * log_share(2.0, 0.0) + 0.75 * log_share(0.0, 2.0))
    expected = (first_code_from_second + second_code_from_first) / 2
    assert swapped_prediction(scores, codes, 2, 0.1).item() == pytest.approx(expected)


def swav(**config):
    torch.manual_seed(0)
    settings = {"image_size": 4, "small_size": 4, "num_small": 1, "dim": 8, "hidden": 8, "num_prototypes": 6}
    config = SwAV.Config(**settings | {"queue_length": 12, "queue_start": 0.0, "frozen_epochs": 1.0} | config)
    return SwAV(Pixels(4), 16, Facts(num_images=18), config)


def swav_batch(num_images=6):
    return batch_of(torch.rand(2 * num_images, 3, 4, 4), torch.rand(num_images, 3, 4, 4), num_images=num_images)


def test_prototypes_are_frozen_for_epochs_and_have_unit_length():
    task = swav()
    for step, frozen in ((0, True), (2, True), (3, False)):
        task.zero_grad(set_to_none=True)
        with torch.no_grad():
            task.prototypes.mul_(3.0)
        task.before_step(Tick(step, 9, 3))
        torch.testing.assert_close(task.prototypes.norm(dim=1), torch.ones(6))
        task.loss(swav_batch(), Tick(step, 9, 3)).value.backward()
        assert (task.prototypes.grad is None) == frozen


def test_queue_is_used_once_it_is_full_and_holds_the_last_embeddings():
    task = swav()
    for step in range(4):
        batch = swav_batch()
        out = task.loss(batch, Tick(step, 9, 3))
        alone = [sinkhorn(s, 0.05, 3) for s in (out.keep["embeddings"] @ task.prototypes.T).unbind(dim=1)]
        codes = task._codes((out.keep["embeddings"] @ task.prototypes.T).unbind(dim=1), Tick(step, 9, 3), ALONE)
        # An epoch has three steps of six images: twelve are queued when the second epoch begins.
        assert torch.allclose(codes[0], alone[0]) == (step < 3)
        task.after_step(batch, out, Tick(step, 9, 3))
    torch.testing.assert_close(task.queue[6:], out.keep["embeddings"].detach())


def test_swav_without_queue_and_small_crops():
    task = swav(queue_length=0, num_small=0)
    out = task.loss(batch_of(torch.rand(12, 3, 4, 4), num_images=6), Tick(0, 9, 3))
    task.after_step(swav_batch(), out, Tick(0, 9, 3))
    assert torch.isfinite(out.value)


# ---- Rotation


def test_rotation_label_matches_the_pixels():
    """The head is given a backbone that finds the bright corner: labels 0 to 3 are quarter turns anticlockwise."""
    images = torch.zeros(2, 3, 4, 4)
    images[:, :, 0, 0] = 1.0  # bright at the top left
    corners = [0, 12, 15, 3]  # flattened place of that corner after 0, 90, 180, 270 degrees anticlockwise
    task = Rotation(Pixels(4), 16, Facts(num_images=2), Rotation.Config(image_size=4))
    with torch.no_grad():
        task.head.weight.zero_()
        for label, place in enumerate(corners):
            task.head.weight[label, place] = 50.0
    out = task.loss(batch_of(images), Tick(0, 1, 1))
    assert out.metrics["accuracy"] == 1.0
    assert out.value.item() == pytest.approx(0.0, abs=1e-6)


def test_rotation_by_hand_with_an_ignorant_head():
    task = Rotation(Pixels(4), 16, Facts(num_images=2), Rotation.Config(image_size=4))
    nn.init.zeros_(task.head.weight)
    out = task.loss(batch_of(torch.rand(2, 3, 4, 4)), Tick(0, 1, 1))
    assert out.value.item() == pytest.approx(math.log(4))


# ---- Classification


def test_class_weights_by_hand_and_against_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    task = Classification(Pixels(2), 4, Facts(num_images=10, class_counts=(6, 3, 1)), Classification.Config())
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(task.class_weights.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(expected[0], 10 / (3 * 6))


@pytest.mark.parametrize("balance", ["loss", "none"])
def test_classification_loss_agrees_with_torch(balance):
    torch.manual_seed(0)
    facts = Facts(num_images=9, class_counts=(6, 3))
    task = Classification(Pixels(2), 4, facts, Classification.Config(balance=balance)).eval()
    images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 0, 0, 1])
    out = task.loss(batch_of(images, labels=labels), Tick(0, 1, 1))
    weights = torch.tensor([0.75, 1.5]) if balance == "loss" else None
    torch.testing.assert_close(out.value, F.cross_entropy(task.logits()(images), labels, weight=weights))


@pytest.mark.parametrize(
    ("task", "settings", "corrected"),
    [
        ("classification", [], False),
        ("classification", ["accumulate=2"], True),
        ("classification", ["accumulate=2", "balance=none"], False),
        ("odc", ["accumulate=2"], True),
        ("odc", ["accumulate=2", "reweight=0"], False),
        ("simclr", ["accumulate=2", "optimizer=lars"], False),
        ("simclr", ["optimizer=lars", "weight_decay=0"], True),
        ("simclr", ["weight_decay=0"], False),
    ],
)
def test_keys_are_others_only_where_results_are(task, settings, corrected, folder, tmp_path):
    """Weighted losses in parts, and LARS without weight decay; all other stages keep the keys that they had."""
    settings = [*settings, *(["num_clusters=5", "smallest_cluster=4"] if task == "odc" else [])]
    request = Request(
        dataset=str(folder),
        backbone="test_resnet",
        image_size=16,
        batch_size=8,
        epochs=2,
        settings=tuple(f"{task}.{setting}" for setting in settings),
    )
    spec = Planner(request, Store(tmp_path), [task]).chain([task])[0]
    assert bool(spec.corrections) == corrected
    assert (key_of(spec) != key_of(replace(spec, corrections=()))) == corrected


def test_a_stage_ends_with_the_backbone_that_its_task_hands_on(small_stage, tmp_path):
    spec = small_stage("dino")
    spec = replace(spec, training=replace(spec.training, epochs=1))
    stages = [
        train_stage(replace(spec, config={**spec.config, "hand_on": who}), Store(tmp_path), Runtime(), Reporter())
        for who in ("teacher", "student")
    ]
    assert [stage.record.metrics["loss"] for stage in stages] == [stages[0].record.metrics["loss"]] * 2
    torch.manual_seed(seed_for(spec.seed, "init", "backbone"))
    start = build(spec.backbone).state_dict()
    teacher, student = (load_file(stage.weights) for stage in stages)
    name = next(iter(start))
    moved = [(weights[name] - start[name]).norm().item() for weights in (teacher, student)]
    assert 0 < moved[0] < 0.8 * moved[1]  # it follows slowly


def test_sampling_draws_every_class_equally_often():
    class Fixed:
        def labels(self, split="train"):
            return torch.tensor([0] * 90 + [1] * 10)

    facts = Facts(num_images=100, class_counts=(90, 10))
    task = Classification(Pixels(2), 4, facts, Classification.Config(balance="sampling"))
    task.start(Fixed())
    weights = task.sampling_weights()
    assert weights[:90].sum().item() == pytest.approx(weights[90:].sum().item())
    assert Classification(Pixels(2), 4, facts, Classification.Config()).sampling_weights() is None
