"""The mathematics of the joint-embedding tasks: by hand on tiny cases, and against other implementations."""

from __future__ import annotations

import copy
import math
from dataclasses import fields

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from sslcurr.engine.optim import build_optimizer, lr_at, set_lr
from sslcurr.spec.stage import Training
from sslcurr.tasks import task_class
from sslcurr.tasks.barlow_twins import redundancy
from sslcurr.tasks.base import Facts, Tick
from sslcurr.tasks.densecl import matched
from sslcurr.tasks.embedding import in_shuffled_groups, negative_cosine, rising_momentum
from sslcurr.tasks.mocov2 import MoCoV2
from sslcurr.tasks.simclr import nt_xent
from sslcurr.tasks.vicreg import terms
from tests.tasks.test_tasks import Pixels, batch_of

QUEUE = {"dim": 8, "queue_length": 16, "momentum": 0.9}
CROPS = {"small_size": 4, "num_small": 2, "hidden": 16}
SETTINGS = {
    "mocov2": {**QUEUE, "bn_group": 4},
    "densecl": {**QUEUE, "bn_group": 4},
    "simclr": {"hidden": 16, "dim": 8},
    "simsiam": {"hidden": 16, "dim": 8, "predictor": 4},
    "byol": {"hidden": 16, "dim": 8, "momentum": 0.9},
    "swav": {**CROPS, "dim": 8, "num_prototypes": 6, "queue_length": 0},
    "dino": {
        **CROPS,
        "bottleneck": 8,
        "outputs": 12,
        "teacher_temperature": 0.07,
        "teacher_warmup": 2.0,
        "momentum": 0.9,
    },
    "barlow-twins": {"hidden": 16, "dim": 8},
    "vicreg": {"hidden": 16, "dim": 8},
    "npid": {"dim": 8},
    "odc": {"num_clusters": 4, "smallest_cluster": 1, "hidden": 16, "dim": 8, "dropout": 0.0},
}
IMAGENET = Facts(num_images=1_281_167, image_size=224)


def task_of(name, backbone=None, channels=16, **config):
    """A tiny task of 4 px views on a backbone whose features have `channels` channels."""
    torch.manual_seed(0)
    kind = task_class(name)
    config = kind.Config(**{"image_size": 4, **SETTINGS[name], **config})
    return kind(backbone or Pixels(4), channels, Facts(num_images=40), config)


def views_of(task, num_images=8, seed=1, size=4):
    """Random images for all of the task's views."""
    generator = torch.Generator().manual_seed(seed)
    counts = [view.count for view in task.views(task.config)]
    views = [torch.randn(count * num_images, 3, size, size, generator=generator) for count in counts]
    return batch_of(*views, num_images=num_images)


def cosine(a, b):
    return ((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))).mean()


def gradients(task, value):
    """The gradient with regard to everything that learns, in one vector."""
    learning = [parameter for parameter in task.parameters() if parameter.requires_grad]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, learning)])


def assert_no_gradient(*modules):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    assert parameters
    assert all(parameter.grad is None for parameter in parameters)


@torch.no_grad()
def disturb(*modules, by=0.1):
    """Move a slow copy away from the encoder it was copied from, so that mistaking one for the other shows."""
    generator = torch.Generator().manual_seed(7)
    for module in modules:
        for parameter in module.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


# ---- shared parts


def test_negative_cosine_by_hand():
    prediction, target = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[4.0, 3.0], [0.0, -5.0]])
    assert negative_cosine(prediction, target).item() == pytest.approx(-(24 / 25 - 1) / 2)


def test_negative_cosine_is_computed_in_float32():
    prediction, target = torch.randn(6, 5).bfloat16(), torch.randn(6, 5).bfloat16()
    value = negative_cosine(prediction, target)
    unit = [x.double() / x.double().norm(dim=1, keepdim=True) for x in (prediction, target)]
    torch.testing.assert_close(value, -(unit[0] * unit[1]).sum(dim=1).mean().float())


def test_negative_cosine_gives_the_target_no_gradient():
    prediction, target = (torch.randn(6, 5, requires_grad=True) for _ in range(2))
    negative_cosine(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None


def test_shuffled_groups_put_every_output_back_in_order():
    seen = []

    def encode(images):
        seen.extend(images[:, 0].tolist())
        return images, 2 * images[:, :1], images.sum(dim=1)

    torch.manual_seed(0)
    images = torch.arange(66.0, requires_grad=True).view(33, 2)
    same, double, total = in_shuffled_groups(nn.Identity(), encode, images, 8)
    assert torch.equal(same, images)
    assert torch.equal(double, 2 * images[:, :1])
    assert torch.equal(total, images.sum(dim=1))
    assert not any(output.requires_grad for output in (same, double, total))
    # Without the shuffle a group would be the same images in every pass that shares its order.
    assert sorted(seen) == images[:, 0].tolist()
    assert seen != images[:, 0].tolist()


def test_norms_of_shuffled_groups_are_those_of_passes_one_group_after_the_other():
    encoder = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(16))
    apart = copy.deepcopy(encoder)
    images = torch.rand(33, 2, 4, 4)
    torch.manual_seed(0)
    (found,) = in_shuffled_groups(encoder, lambda x: (encoder(x),), images, 8)
    torch.manual_seed(0)
    order = torch.randperm(33)
    parts = images[order].tensor_split(4)
    assert sorted(len(part) for part in parts) == [8, 8, 8, 9]
    with torch.no_grad():
        expected = torch.cat([apart(part) for part in parts])
    torch.testing.assert_close(found[order], expected)
    for name, value in apart.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], value, msg=name)
    # Afterwards a norm sees the whole batch again.
    torch.testing.assert_close(encoder(images), apart(images))
    assert not torch.allclose(found, encoder(images))


def test_shuffled_groups_of_a_small_batch_are_one():
    norm = nn.BatchNorm1d(2)
    images = torch.rand(5, 2)
    (found,) = in_shuffled_groups(norm, lambda x: (norm(x),), images, 8)
    torch.testing.assert_close(found, norm(images).detach())


def test_rising_momentum_agrees_with_lightly():
    from lightly.utils.scheduler import cosine_schedule

    for step in range(11):
        # Theirs reaches the end at step max_steps - 1, ours at total_steps.
        theirs = cosine_schedule(step, 11, 0.97, 1.0)
        assert rising_momentum(0.97, Tick(step, 10, 5)) == pytest.approx(theirs, abs=1e-9)
    assert rising_momentum(0.97, Tick(0, 10, 5)) == pytest.approx(0.97)
    assert rising_momentum(0.97, Tick(5, 10, 5)) == pytest.approx(0.985)
    assert 0.9999 < rising_momentum(0.97, Tick(999, 1000, 5)) < 1.0


class Maps(nn.Module):
    """A backbone with a map of features, as DenseCL asks for."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filter = nn.Conv2d(3, 16, 1)

    def forward_features(self, images):
        return self.filter(images)

    def forward_head(self, features, pre_logits=False):
        return features.mean(dim=(2, 3))

    def forward(self, images):
        return self.forward_head(self.forward_features(images))


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_feature_std_tells_collapse(name):
    """Near 0 once the backbone gives the same for every image, far from it before."""
    task = task_of(name, Maps())
    batch = views_of(task, num_images=16)
    before = task.loss(batch, Tick(0, 10, 5)).metrics["feature_std"]
    nn.init.zeros_(task.backbone.filter.weight)
    after = task.loss(batch, Tick(0, 10, 5)).metrics["feature_std"]
    assert 0.05 < before < 1.1
    assert 0.0 <= after < 1e-3
    assert before.shape == ()
    assert not before.requires_grad


# ---- SimCLR


def test_nt_xent_by_hand():
    # The views of the first image are rows 0 and 2, those of the second rows 1 and 3.
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, -1.0]])

    def term(own, *others):
        return -math.log(math.exp(2 * own) / sum(math.exp(2 * x) for x in (own, *others)))

    expected = (term(0.6, 0.0, 0.0) + term(-1.0, 0.0, 0.8) + term(0.6, 0.8, -0.8) + term(-1.0, 0.0, -0.8)) / 4
    value, accuracy = nt_xent(embeddings, 0.5)
    assert value.item() == pytest.approx(expected)
    assert accuracy.item() == 0.25  # only row 0 is nearest to its other view


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_nt_xent_agrees_with_lightly(temperature):
    from lightly.loss import NTXentLoss

    torch.manual_seed(0)
    first, second = (F.normalize(torch.randn(6, 5), dim=1) for _ in range(2))
    theirs = NTXentLoss(temperature=temperature, memory_bank_size=0)(first, second)
    torch.testing.assert_close(nt_xent(torch.cat([first, second]), temperature)[0], theirs)


def test_simclr_loss_is_nt_xent_of_unit_embeddings_of_both_views():
    task = task_of("simclr", temperature=0.3)
    batch = views_of(task)
    embeddings = task.head(task.backbone(batch.views[0]))
    expected, _ = nt_xent(embeddings / embeddings.norm(dim=1, keepdim=True), 0.3)
    torch.testing.assert_close(task.loss(batch, Tick(0, 10, 5)).value, expected)


# ---- SimSiam and BYOL


def both_directions(task, views, targets=None):
    """Sum of the cosines of each view's prediction with the other's target; the projections are the default target."""
    projections = [task.head(task.backbone(view)) for view in views]
    first, second = (task.predictor(projection) for projection in projections)
    targets = targets or projections
    return cosine(first, targets[1]) + cosine(second, targets[0])


def test_simsiam_stops_the_gradient():
    """The gradient is that of a loss whose targets are constants, and not that of one whose targets learn."""
    task = task_of("simsiam")
    batch = views_of(task)
    views = batch.views[0].chunk(2)
    with torch.no_grad():
        targets = [task.head(task.backbone(view)) for view in views]
    expected = -0.5 * both_directions(task, views, targets)
    leaky = gradients(task, -0.5 * both_directions(task, views))
    value = task.loss(batch, Tick(0, 10, 5)).value
    torch.testing.assert_close(value, expected)
    mine = gradients(task, value)
    torch.testing.assert_close(mine, gradients(task, expected), rtol=1e-4, atol=1e-6)
    assert (mine - leaky).norm() > 0.1 * mine.norm()


def test_byol_stops_the_gradient():
    task = task_of("byol")
    batch = views_of(task)
    with torch.no_grad():
        targets = [task.target(view) for view in batch.views]
    expected = 4.0 - 2.0 * both_directions(task, batch.views, targets)
    # The target is still a copy of the online encoder: through that, the gradient would leak.
    leaky = 4.0 - 2.0 * both_directions(task, batch.views)
    value = task.loss(batch, Tick(0, 10, 5)).value
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(value, leaky)
    mine = gradients(task, value)
    torch.testing.assert_close(mine, gradients(task, expected), rtol=1e-4, atol=1e-6)
    assert (mine - gradients(task, leaky)).norm() > 0.1 * mine.norm()


def test_byol_loss_takes_its_targets_from_the_slow_encoder():
    task = task_of("byol")
    disturb(task.target, by=0.5)
    batch = views_of(task)
    with torch.no_grad():
        targets = [task.target(view) for view in batch.views]
    expected = 4.0 - 2.0 * both_directions(task, batch.views, targets)
    torch.testing.assert_close(task.loss(batch, Tick(0, 10, 5)).value, expected)


def test_byol_loss_by_hand():
    """2 - 2 cosine for each direction: (3, 4) and (-4, 3) are predicted, the target sees the first component only."""

    def pictures(*vectors):
        return torch.tensor(vectors).view(-1, 1, 2, 2).expand(-1, 3, -1, -1)

    task = task_of("byol", Pixels(2), 4, image_size=2)
    task.head, task.predictor = nn.Identity(), nn.Identity()
    task.target = Pixels(2)
    with torch.no_grad():
        task.target.weight.copy_(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    first = pictures([3.0, 4.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    second = pictures([-4.0, 3.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    # First image: cosines -0.6 and -0.8; second image: 1 and 1.
    expected = ((2 + 2 * 0.6) + (2 + 2 * 0.8) + 0.0) / 2
    assert task.loss(batch_of(first, second), Tick(0, 10, 5)).value.item() == pytest.approx(expected)


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.9), (5, 0.95), (9, 1 - 0.05 * (1 + math.cos(0.9 * math.pi)))])
def test_byol_target_follows_more_and_more_slowly_and_takes_no_gradient(step, momentum):
    task = task_of("byol")
    batch, tick = views_of(task), Tick(step, 10, 5)
    disturb(task.backbone, task.head, by=1.0)
    before = [parameter.clone() for parameter in task.target.parameters()]
    out = task.loss(batch, tick)
    out.value.backward()
    assert_no_gradient(task.target)
    assert all(torch.equal(now, old) for now, old in zip(task.target.parameters(), before, strict=True))
    task.after_step(batch, out, tick)
    online = [*task.backbone.parameters(), *task.head.parameters()]
    for now, old, fast in zip(task.target.parameters(), before, online, strict=True):
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * fast)


@pytest.mark.parametrize("name", ["byol", "barlow-twins", "dino"])
def test_two_views_have_different_laws(name):
    kind = task_class(name)
    first, second, *small = kind.views(kind.recipe(IMAGENET).config)
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    assert first.count == second.count == 1
    differing = {item.name for item in fields(first) if getattr(first, item.name) != getattr(second, item.name)}
    assert differing == {"blur", "solarize"}
    assert [(view.count, view.blur, view.solarize) for view in small] == ([(8, 0.5, 0.0)] if name == "dino" else [])


@pytest.mark.parametrize("name", ["simclr", "simsiam", "vicreg", "densecl"])
def test_two_views_of_one_law(name):
    kind = task_class(name)
    (view,) = kind.views(kind.recipe(IMAGENET).config)
    assert view.count == 2
    assert (view.blur, view.solarize) == (0.5, 0.1 if name == "vicreg" else 0.0)


def test_simsiam_predictor_keeps_its_rate():
    task = task_of("simsiam")
    training = Training(lr=0.4, epochs=4)
    optimizer = build_optimizer(task, training, task.rules())
    predictor = {id(parameter) for parameter in task.predictor.parameters()}
    for step in (0, 5, 10, 19):
        set_lr(optimizer, training, lr_at(training, step, 20, 5))
        rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
        assert rates.keys() == {id(parameter) for parameter in task.parameters()}
        falling = 0.2 * (1 + math.cos(math.pi * step / 20))
        for parameter, rate in rates.items():
            assert rate == pytest.approx(0.4 if parameter in predictor else falling)


# ---- Barlow Twins


def test_redundancy_by_hand():
    # C is [[1, -1], [1, -1]]: the second component is opposed, and both off-diagonal entries are 1 in size.
    first, second = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    # The tolerance is for the 1e-5 that is added to the variance, as batch norm does.
    assert redundancy(first, second, 0.25).item() == pytest.approx((1 + 1) ** 2 + 0.25 * 2, rel=1e-4)


def test_redundancy_is_zero_for_identical_decorrelated_components():
    components = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    # Scale and shift are normalised away.
    assert redundancy(components, 5.0 * components + 2.0, 1.0).item() == pytest.approx(0.0, abs=1e-8)


def test_redundancy_agrees_with_lightly():
    """With few rows, so that a standard deviation of n - 1 would show; both use the biased one, as the paper's code."""
    from lightly.loss import BarlowTwinsLoss

    torch.manual_seed(0)
    first = torch.randn(6, 5, dtype=torch.float64)
    second = first + 0.5 * torch.randn(6, 5, dtype=torch.float64)
    theirs = BarlowTwinsLoss(lambda_param=0.0051)(first, second)
    torch.testing.assert_close(redundancy(first, second, 0.0051), theirs)


def test_barlow_twins_loss_is_the_redundancy_of_its_two_views():
    task = task_of("barlow-twins", off_diagonal=0.02)
    batch = views_of(task)
    first, second = (task.head(task.backbone(view)) for view in batch.views)
    torch.testing.assert_close(task.loss(batch, Tick(0, 10, 5)).value, redundancy(first, second, 0.02))


# With settings under which a matrix product in bfloat16 shows in the loss.
LOSSES = {
    "simclr": ({"temperature": 0.02}, lambda x: nt_xent(F.normalize(torch.cat(x), dim=1), 0.02)[0]),
    "barlow-twins": ({"off_diagonal": 0.5}, lambda x: redundancy(*x, 0.5)),
    "vicreg": ({"invariance": 0.0, "variance": 0.0, "covariance": 9.0}, lambda x: 9.0 * terms(*x)[2]),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_are_computed_in_full_precision_under_autocast(name):
    """The network runs in bfloat16; from its outputs on, the loss is what float32 gives of them."""
    config, by_hand = LOSSES[name]
    task, outputs = task_of(name, **config), []
    plain = task.loss(views_of(task), Tick(0, 10, 5)).value
    task.head.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = task.loss(views_of(task), Tick(0, 10, 5)).value
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, plain, rtol=0.05, atol=0)
    torch.testing.assert_close(value, by_hand([output.float() for output in outputs]), rtol=1e-5, atol=0)


# ---- VICReg


def test_terms_by_hand():
    first, second = torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.zeros(2, 2)
    invariance, variance, covariance = terms(first, second)
    assert invariance.item() == pytest.approx((4 + 4) / 4)
    # The first has variances of 2, over 1; the second none, and the root of 1e-4 is 0.01.
    assert variance.item() == pytest.approx((0.0 + 0.99) / 2)
    assert covariance.item() == pytest.approx((2**2 + 2**2) / 2)


def test_terms_agree_with_numpy():
    draw = np.random.default_rng(0)
    first, second = (draw.normal(size=(7, 3)) * [0.3, 0.8, 2.0] for _ in range(2))
    invariance, variance, covariance = terms(torch.from_numpy(first), torch.from_numpy(second))
    assert invariance.item() == pytest.approx(((first - second) ** 2).mean())
    hinges, sums = [], []
    for x in (first, second):
        hinges.append(np.maximum(0, 1 - np.sqrt(np.std(x, axis=0, ddof=1) ** 2 + 1e-4)).mean())
        matrix = np.cov(x, rowvar=False)
        sums.append((matrix[~np.eye(3, dtype=bool)] ** 2).sum() / 3)
    assert variance.item() == pytest.approx(np.mean(hinges))
    assert covariance.item() == pytest.approx(np.sum(sums))


def test_vicreg_loss_agrees_with_lightly():
    from lightly.loss import VICRegLoss

    task = task_of("vicreg", invariance=20.0, variance=15.0, covariance=3.0)
    batch = views_of(task)
    first, second = (task.head(task.backbone(view)) for view in batch.views[0].chunk(2))
    loss = VICRegLoss(lambda_param=20.0, mu_param=15.0, nu_param=3.0, gather_distributed=False, eps=1e-4)
    torch.testing.assert_close(task.loss(batch, Tick(0, 10, 5)).value, loss(first, second))


# ---- DINO


class Spy(Pixels):
    """Keeps what it was shown; a copy of it keeps its own."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.seen: list[torch.Tensor] = []

    def forward(self, images):
        self.seen.append(images)
        return super().forward(images)


def dino(**config):
    """A DINO whose teacher and centre are no longer those of the beginning."""
    task = task_of("dino", Spy(4), **config)
    disturb(task.teacher_backbone, task.teacher_head)
    task.center.copy_(0.1 * torch.randn(12, generator=torch.Generator().manual_seed(2)))
    return task


@pytest.mark.parametrize(("step", "temperature"), [(0, 0.04), (5, 0.055), (8, 0.064), (10, 0.07), (19, 0.07)])
def test_dino_loss_and_center_agree_with_lightly(step, temperature):
    """Two large and two small crops; the teacher's temperature rises for two epochs of five steps."""
    from lightly.loss import DINOLoss

    task = dino(center_momentum=0.8)
    batch, tick = views_of(task), Tick(step, 20, 5)
    with torch.no_grad():
        large = torch.cat(batch.views[:2])
        features = torch.cat([task.backbone(large), task.backbone(batch.views[2])])
        student = F.linear(F.normalize(task.head.project(features)), F.normalize(task.head.prototypes))
        taught = task.teacher_head.project(task.teacher_backbone(large))
        teacher = F.linear(F.normalize(taught), F.normalize(task.teacher_head.prototypes))
    theirs = DINOLoss(
        output_dim=12,
        warmup_teacher_temp=0.04,
        teacher_temp=0.07,
        warmup_teacher_temp_epochs=2,
        student_temp=0.1,
        center_momentum=0.8,
    )
    theirs.center.copy_(task.center)
    expected = theirs(list(teacher.chunk(2)), list(student.chunk(4)), teacher_temp=temperature)
    before = task.center.clone()
    out = task.loss(batch, tick)
    torch.testing.assert_close(out.value, expected, rtol=1e-4, atol=1e-5)
    # The centre is that of the steps before, so it is the same for all parts of an accumulated step.
    assert torch.equal(task.center, before)
    task.after_step(batch, out, tick)
    torch.testing.assert_close(task.center, theirs.center.flatten(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(task.center, 0.8 * before + 0.2 * teacher.mean(dim=0), rtol=1e-4, atol=1e-6)


def test_dino_prototypes_are_frozen_in_the_first_epochs():
    task = dino(frozen_epochs=1.0)
    for step, frozen in ((0, True), (2, True), (3, False)):
        task.zero_grad(set_to_none=True)
        task.loss(views_of(task), Tick(step, 9, 3)).value.backward()
        assert (task.head.prototypes.grad is None) == frozen
        assert task.head.project[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.9), (10, 0.95)])
def test_dino_teacher_follows_and_takes_no_gradient(step, momentum):
    task = dino()
    batch, tick = views_of(task), Tick(step, 20, 5)
    teacher = [*task.teacher_backbone.parameters(), *task.teacher_head.parameters()]
    before = [parameter.clone() for parameter in teacher]
    out = task.loss(batch, tick)
    out.value.backward()
    assert_no_gradient(task.teacher_backbone, task.teacher_head)
    assert task.backbone.weight.grad.abs().sum() > 0
    task.after_step(batch, out, tick)
    student = [*task.backbone.parameters(), *task.head.parameters()]
    for now, old, fast in zip(teacher, before, student, strict=True):
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * fast)


def test_dino_hands_on_its_teacher_unless_asked():
    assert dino().handed_on() is not dino().backbone
    task = dino()
    assert task.handed_on() is task.teacher_backbone
    task = dino(hand_on="student")
    assert task.handed_on() is task.backbone


def test_dino_head_is_that_of_its_authors():
    """Three layers with GELU, batch norms only if asked, small truncated normal weights, no biases at first."""
    head = dino(hidden=300, bottleneck=200).head
    linear = [part for part in head.project if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [(16, 300), (300, 300), (300, 200)]
    assert [type(part) for part in head.project] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    for part in linear:
        assert part.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not part.bias.any()
    # As torch draws the weights of a linear layer without weight normalisation.
    assert head.prototypes.abs().max().item() == pytest.approx(200**-0.5, rel=0.01)
    with_norms = dino(head_norms=True).head.project
    assert [type(part) for part in with_norms][:3] == [nn.Linear, nn.BatchNorm1d, nn.GELU]


def test_dino_student_sees_all_crops_and_the_teacher_the_large_ones():
    task = dino(num_small=3)
    batch = views_of(task, num_images=6)
    task.loss(batch, Tick(0, 20, 5))
    assert [len(images) for images in task.backbone.seen] == [12, 18]
    assert torch.equal(torch.cat(task.backbone.seen), torch.cat(batch.views))
    assert torch.equal(torch.cat(task.teacher_backbone.seen), torch.cat(batch.views[:2]))


# ---- DenseCL


def test_timm_backbone_is_its_features_and_its_head():
    backbone = timm.create_model("test_resnet", num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    features = backbone.forward_features(images)
    assert features.shape == (2, 96, 2, 2)
    torch.testing.assert_close(backbone.forward_head(features, pre_logits=True), backbone(images))


def places():
    """Dense keys and two maps over five places, of lengths so different that a product would not do for a cosine."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 3, 5, generator=generator)
    query, key = torch.randn(2, 2, 4, 5, generator=generator)
    return keys, query, key * torch.tensor([0.1, 1.0, 10.0, 3.0, 0.3])


def test_matched_agrees_with_a_slow_loop():
    keys, query, key = places()
    expected, chosen = torch.empty_like(keys), set()
    for n in range(2):
        for p in range(5):
            cosines = [float(F.cosine_similarity(query[n, :, p], key[n, :, q], dim=0)) for q in range(5)]
            best = cosines.index(max(cosines))
            chosen.add(best)
            expected[n, :, p] = keys[n, :, best]
    assert len(chosen) > 2
    assert torch.equal(matched(keys, query, key), expected)


def test_matched_agrees_with_lightly():
    from lightly.models.utils import select_most_similar

    keys, query, key = places()
    theirs = select_most_similar(query.transpose(1, 2), key.transpose(1, 2), keys.transpose(1, 2)).transpose(1, 2)
    assert torch.equal(matched(keys, query, key), theirs)


def dense(**config):
    """DenseCL on four places an image, with key encoders that are no longer copies; keys in one group."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0)
    task = task_of("densecl", backbone, 96, **{"image_size": 64, "bn_group": 100, **config})
    disturb(task.key_encoder, task.key_dense_head, by=0.05)
    return task


@torch.no_grad()
def dense_keys(task, second):
    """Global keys [N, D], dense keys [N, D, P] and features [N, C, P] of the key encoder, none of unit length."""
    features = task.key_encoder[0].forward_features(second)
    return task.key_encoder(second), task.key_dense_head(features).flatten(2), features.flatten(2)


def test_densecl_loss_by_hand():
    task = dense(dense_weight=0.3, temperature=0.25)
    batch = views_of(task, num_images=5, size=64)
    first, second = batch.views[0].chunk(2)
    with torch.no_grad():
        keys, places_of_keys, key_features = dense_keys(task, second)
        query = F.normalize(task.head(task.backbone(first)), dim=1)
        features = task.backbone.forward_features(first)
        queries, features = task.dense_head(features).flatten(2), features.flatten(2)
    keys = F.normalize(keys, dim=1)

    def term(one, own, queue):
        logits = torch.cat([(one @ own)[None], queue @ one]) / 0.25
        return float(logits.logsumexp(dim=0) - logits[0])

    whole = np.mean([term(query[n], keys[n], task.queue) for n in range(5)])
    parts = []
    for n in range(5):
        for p in range(4):
            likeness = [float(F.cosine_similarity(features[n, :, p], key_features[n, :, q], dim=0)) for q in range(4)]
            own = places_of_keys[n, :, likeness.index(max(likeness))]
            parts.append(term(F.normalize(queries[n, :, p], dim=0), F.normalize(own, dim=0), task.dense_queue))
    out = task.loss(batch, Tick(0, 10, 5))
    assert out.metrics["global_loss"].item() == pytest.approx(whole, rel=1e-4)
    assert out.metrics["dense_loss"].item() == pytest.approx(np.mean(parts), rel=1e-4)
    assert out.value.item() == pytest.approx(0.7 * whole + 0.3 * np.mean(parts), rel=1e-4)


def test_densecl_queues_get_the_keys_after_the_step():
    task = dense()
    batch, tick = views_of(task, num_images=5, size=64), Tick(0, 10, 5)
    keys, places_of_keys, _ = dense_keys(task, batch.views[0].chunk(2)[1])
    queues = task.queue.clone(), task.dense_queue.clone()
    out = task.loss(batch, tick)
    assert torch.equal(task.queue, queues[0])
    assert torch.equal(task.dense_queue, queues[1])
    task.after_step(batch, out, tick)
    torch.testing.assert_close(task.queue[:5], F.normalize(keys, dim=1), rtol=1e-4, atol=1e-5)
    pooled = F.normalize(places_of_keys.mean(dim=2), dim=1)
    torch.testing.assert_close(task.dense_queue[:5], pooled, rtol=1e-4, atol=1e-5)
    assert torch.equal(task.queue[5:], queues[0][5:])
    assert torch.equal(task.dense_queue[5:], queues[1][5:])
    assert int(task.position) == int(task.dense_position) == 5


def test_densecl_key_encoders_follow_and_take_no_gradient():
    task = dense()
    batch, tick = views_of(task, num_images=5, size=64), Tick(0, 10, 5)
    slow = [*task.key_encoder.parameters(), *task.key_dense_head.parameters()]
    before = [parameter.clone() for parameter in slow]
    out = task.loss(batch, tick)
    out.value.backward()
    assert_no_gradient(task.key_encoder, task.key_dense_head)
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (task.head[0], task.dense_head[0]))
    task.after_step(batch, out, tick)
    fast = [*task.backbone.parameters(), *task.head.parameters(), *task.dense_head.parameters()]
    for now, old, quick in zip(slow, before, fast, strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * quick)


def test_densecl_without_dense_weight_is_mocov2():
    """With the same weights, and the same shuffle of the keys."""
    task = dense(dense_weight=0.0, bn_group=2)
    shared = {item.name: getattr(task.config, item.name) for item in fields(MoCoV2.Config)}
    moco = task_of("mocov2", timm.create_model("test_resnet", num_classes=0), 96, **shared)
    moco.load_state_dict({name: task.state_dict()[name] for name in moco.state_dict()})
    batch, values = views_of(task, num_images=6, size=64), []
    for each in (task, moco):
        torch.manual_seed(3)
        out = each.loss(batch, Tick(0, 10, 5))
        values.append((out.value, out.keep["keys"], out.metrics["accuracy"]))
    torch.testing.assert_close(*values)


# ---- recipes


PAPERS = {
    "simclr": ({"temperature": 0.1, "dim": 128, "hidden": 2048}, {"lr": 0.3, "batch_size": 256, "weight_decay": 1e-6}),
    "byol": (
        {"momentum": 0.99, "hidden": 4096, "dim": 256},
        {"optimizer": "lars", "lr": 4.8, "batch_size": 4096, "weight_decay": 1e-6, "warmup": 10.0},
    ),
    "simsiam": (
        {"hidden": 2048, "dim": 2048, "predictor": 512},
        {"optimizer": "sgd", "lr": 0.05, "batch_size": 256, "weight_decay": 1e-4, "warmup": 0.0},
    ),
    "barlow-twins": (
        {"off_diagonal": 0.0051, "hidden": 8192, "dim": 8192},
        {"lr": 1.6, "batch_size": 2048, "norm_and_bias_lr": 0.024, "weight_decay": 1.5e-6, "warmup": 10.0},
    ),
    "vicreg": (
        {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, "hidden": 8192, "dim": 8192},
        {"lr": 1.6, "batch_size": 2048, "weight_decay": 1e-6, "warmup": 10.0, "norm_and_bias_lr": 1.0},
    ),
    "densecl": (
        {"dense_weight": 0.5, "temperature": 0.2, "momentum": 0.999, "queue_length": 65536, "dim": 128},
        {"optimizer": "sgd", "lr": 0.03, "batch_size": 256, "weight_decay": 1e-4},
    ),
    "dino": (
        {"student_temperature": 0.1, "teacher_temperature": 0.04, "center_momentum": 0.9, "num_small": 8},
        {
            "lr": 0.06,
            "batch_size": 512,
            "weight_decay": 1e-4,
            "warmup": 10.0,
            "clip_each": 3.0,
            "final_lr": 1e-6 / 0.06,
        },
    ),
}


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_recipe_for_imagenet_is_the_papers(name):
    config, training = PAPERS[name]
    recipe = task_class(name).recipe(IMAGENET)
    lars = name in ("simclr", "byol", "barlow-twins", "vicreg")
    decays_all = not lars and name != "dino"
    expected = {"optimizer": "lars" if lars else "sgd", "schedule": "cosine", "decay_norm_and_bias": decays_all}
    assert {key: getattr(recipe.config, key) for key in config} == pytest.approx(config)
    for key, value in (expected | training).items():
        found = getattr(recipe.training, key)
        assert found == (pytest.approx(value) if isinstance(value, float) else value), key
    assert recipe.config.image_size == 224
    assert recipe.config.blur_sigma == (0.1, 2.0)


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_recipe_rate_is_proportional_to_the_batch(name):
    training = task_class(name).recipe(IMAGENET).training
    requested = Facts(num_images=1_281_167, image_size=224, batch_size=2 * training.batch_size)
    doubled = task_class(name).recipe(requested).training
    assert doubled.batch_size == 2 * training.batch_size
    assert doubled.lr == pytest.approx(2 * training.lr)


@pytest.mark.parametrize("facts", [IMAGENET, Facts(num_images=500, image_size=64)], ids=["large", "small"])
def test_densecl_recipe_is_that_of_mocov2(facts):
    mine, theirs = task_class("densecl").recipe(facts), MoCoV2.recipe(facts)
    assert mine.training == theirs.training
    for item in fields(MoCoV2.Config):
        assert getattr(mine.config, item.name) == getattr(theirs.config, item.name)


@pytest.mark.parametrize(
    ("epochs", "num_images", "momentum"), [(1000, 10**6, 0.996), (300, 10**6, 0.99), (1000, 500, 0.99)]
)
def test_byol_momentum_is_that_of_the_papers_epochs(epochs, num_images, momentum):
    facts = Facts(num_images=num_images, epochs=epochs)
    assert task_class("byol").recipe(facts).config.momentum == momentum


@pytest.mark.parametrize(
    ("name", "setting"), [("byol", "second_solarize"), ("dino", "second_solarize"), ("vicreg", "solarize")]
)
def test_images_of_one_channel_are_not_solarized(name, setting):
    facts = Facts(num_images=500, image_size=64, channels=1)
    assert getattr(task_class(name).recipe(facts).config, setting) == 0.0
