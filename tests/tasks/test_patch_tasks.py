"""Patches, and the tasks that ask where they lie: labels against painted pixels, losses against slow ways."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sslcurr.engine.optim import build_optimizer, lr_at
from sslcurr.spec.stage import Training
from sslcurr.tasks.base import Facts, Tick
from sslcurr.tasks.jigsaw import Jigsaw, permutation_set
from sslcurr.tasks.patches import cut, drop_colors, patch_sizes
from sslcurr.tasks.relative_location import SIDES, RelativeLocation
from tests.tasks.test_tasks import Pixels, batch_of

IMAGENET = Facts(num_images=1_281_167, class_counts=(1281,) * 1000, image_size=224)
NOW = Tick(0, 10, 5)
OUTER = (0, 1, 2, 3, 5, 6, 7, 8)


class Mean(nn.Module):
    """A backbone whose one feature is the mean of the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * self.weight


def convolution(norm):
    """A small network of four features."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten())


def painted(num_images=4, cell=10):
    """Images whose pixels have the number of their cell, plus ten times that of the image."""
    rows = torch.arange(3 * cell) // cell
    cells = 3 * rows[:, None] + rows[None]
    return (cells + 10 * torch.arange(num_images)[:, None, None])[:, None].expand(-1, 3, -1, -1).float()


def scattered(num_images=4, size=30):
    return torch.rand(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))


def inputs_of(module):
    """A list that gets what `module` is given."""
    seen = []
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    return seen


# ---- cut


def own_places(num_images, size):
    """Images whose pixels have their row, their column and the number of their image."""
    row = torch.arange(size)[None, :, None].expand(num_images, size, size)
    image = torch.arange(num_images)[:, None, None].expand(num_images, size, size)
    return torch.stack([row, row.transpose(1, 2), image], dim=1).float()


@pytest.mark.parametrize(("size", "patch"), [(30, 6), (31, 9), (32, 3), (12, 1)])
def test_patches_are_squares_of_their_cell_in_order(size, patch):
    cell, num_images = size // 3, 50
    torch.manual_seed(0)
    patches = cut(own_places(num_images, size), patch)
    assert patches.shape == (9 * num_images, 3, patch, patch)
    steps = torch.arange(patch).float()
    for position, (row, column, image) in enumerate(patches):
        place = position // num_images
        top, left = int(row[0, 0]), int(column[0, 0])
        assert cell * (place // 3) <= top <= cell * (place // 3 + 1) - patch
        assert cell * (place % 3) <= left <= cell * (place % 3 + 1) - patch
        assert torch.equal(row, (top + steps)[:, None].expand(patch, patch))
        assert torch.equal(column, (left + steps)[None].expand(patch, patch))
        assert (image == position % num_images).all()


def test_all_places_are_drawn_independently():
    torch.manual_seed(0)
    corners = cut(own_places(3000, 30), 8)[:, :2, 0, 0].unflatten(0, (9, -1))  # room 3
    shifts = corners - torch.tensor([[10 * (i // 3), 10 * (i % 3)] for i in range(9)])[:, None]
    for cell in shifts:
        counts = torch.stack([(cell == torch.tensor([r, c])).all(dim=1).sum() for r in range(3) for c in range(3)])
        # Nine places of 333 on average, with a deviation of 17.
        assert counts.sum() == 3000
        assert 250 < counts.min() <= counts.max() < 420
    # Rows and columns of all cells: no two of these 18 numbers are correlated.
    correlation = np.corrcoef(shifts.permute(0, 2, 1).reshape(18, -1).numpy())
    assert np.abs(correlation - np.eye(18)).max() < 0.1


def test_gap_between_patches_varies():
    torch.manual_seed(0)
    corners = cut(own_places(500, 30), 8)[:, :2, 0, 0].unflatten(0, (9, -1))
    gaps = set((corners[1, :, 1] - corners[0, :, 1] - 8).int().tolist())
    assert gaps == {0, 1, 2, 3, 4}
    assert set((corners[3, :, 0] - corners[0, :, 0] - 8).int().tolist()) == gaps


def test_patches_as_large_as_cells_are_the_cells():
    images = scattered(4, 12)
    expected = [images[:, :, r : r + 4, c : c + 4] for r in (0, 4, 8) for c in (0, 4, 8)]
    assert torch.equal(cut(images, 4), torch.cat(expected))


def test_cutting_repeats_itself_with_the_same_seed():
    images = scattered()
    torch.manual_seed(3)
    first, other = cut(images, 6), cut(images, 6)
    torch.manual_seed(3)
    assert torch.equal(cut(images, 6), first)
    assert not torch.equal(first, other)


def test_patch_sizes():
    assert patch_sizes(224) == (255, 64)
    assert patch_sizes(64)[1] == 32
    for image_size in range(8, 513):
        grid, patch = patch_sizes(image_size)
        assert 4 <= patch <= grid // 3
        assert grid % 3 == 0
        # The gap is that of the papers, 21 of 64 px, rounded up to whole pixels of a cell.
        assert patch * 85 / 64 <= grid / 3 < patch * 85 / 64 + 1
        assert patch >= min(32, image_size // 2)
        assert image_size < 112 or patch == max(32, round(image_size * 64 / 224))


# ---- colours


def test_dropped_colors_leave_one_and_faint_noise():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2000, 3, 8, 8, generator=generator)
    patches = patches * torch.tensor([1.0, 5.0, 0.2])[:, None, None] + torch.tensor([0.0, 9.0, -3.0])[:, None, None]
    before = patches.clone()
    torch.manual_seed(0)
    found = drop_colors(patches, 0.3)
    assert torch.equal(patches, before)
    same = (found == patches).flatten(2).all(dim=2)
    changed = ~same.all(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert (same[changed].sum(dim=1) == 1).all()
    kept = same[changed].int().argmax(dim=1)
    assert torch.bincount(kept, minlength=3).min() > 0.25 * len(kept)
    left = patches[changed][torch.arange(len(kept)), kept]
    mean, std = left.mean(dim=(1, 2)), left.std(dim=(1, 2))
    for channel in range(3):
        replaced = kept != channel
        noise = (found[changed][replaced, channel] - mean[replaced, None, None]) / std[replaced, None, None]
        assert noise.mean().item() == pytest.approx(0, abs=1e-3)
        assert noise.std().item() == pytest.approx(0.01, rel=0.03)
    # The two replaced channels have noise of their own.
    of_first = found[changed][kept == 0]
    assert not torch.equal(of_first[:, 1], of_first[:, 2])


def test_dropping_colors_with_certainty_never_and_of_grey():
    patches = scattered(20, 8)
    assert torch.equal(drop_colors(patches, 0.0), patches)
    assert not (drop_colors(patches, 1.0) == patches).flatten(1).all(dim=1).any()
    grey = patches[:, :1]
    assert torch.equal(drop_colors(grey, 1.0), grey)
    assert torch.isfinite(drop_colors(torch.ones(5, 3, 8, 8), 1.0)).all()


# ---- relative location


def location(backbone=None, dim=1, **config):
    settings = {"image_size": 24, "grid_size": 30, "patch_size": 6, "hidden": 8, "dropout": 0.0}
    torch.manual_seed(0)
    config = RelativeLocation.Config(**settings | config)
    return RelativeLocation(backbone or Mean(), dim, Facts(num_images=4), config)


def test_pairs_are_an_outer_cell_and_the_centre():
    task = location()
    seen = inputs_of(task.neck)
    task.loss(batch_of(painted(4)), NOW)
    expected = [[cell + 10 * image, 4 + 10 * image] for cell in OUTER for image in range(4)]
    torch.testing.assert_close(seen[0], torch.tensor(expected).float())


class KnowingHead(nn.Module):
    """Names the outer cell of which the first feature of a pair has the number; `shift` makes it wrong."""

    def __init__(self, shift=0):
        super().__init__()
        self.shift = shift

    def forward(self, pairs):
        cells = [OUTER.index(round(x) % 10) for x in pairs[:, 0].tolist()]
        return 50.0 * F.one_hot((torch.tensor(cells) + self.shift) % 8, 8).float()


def test_location_label_matches_the_pixels():
    task = location()
    task.neck = nn.Identity()
    for shift, accuracy, loss in ((0, 1.0, 0.0), (1, 0.0, 50.0)):
        task.head = KnowingHead(shift)
        out = task.loss(batch_of(painted(4)), NOW)
        assert out.metrics["accuracy"] == accuracy
        assert out.value.item() == pytest.approx(loss, abs=1e-5)


def test_location_with_an_ignorant_head():
    task = location()
    nn.init.zeros_(task.head.weight)
    assert task.loss(batch_of(scattered()), NOW).value.item() == pytest.approx(math.log(8))


def slow_location(task, images):
    """The loss as MMSelfSup has it: sixteen patches an image, the centre once for each of its eight neighbours."""
    cells = cut(images, task.config.patch_size).chunk(9)
    centres = task.backbone(torch.cat([cells[4]] * 8))
    neighbours = task.backbone(torch.cat([cells[i] for i in OUTER]))
    side = torch.tensor([i for i in range(8) for _ in images])
    return F.cross_entropy(task.head(task.neck(torch.cat([neighbours, centres], dim=1))), side)


@pytest.mark.parametrize("norm", [False, True])
def test_centre_once_is_centre_eight_times(norm):
    """Eight copies have the mean and variance of one, so loss and gradient are the same with batch norms too."""
    task, images = location(convolution(norm=norm), 4).train(), scattered()
    nn.init.normal_(task.head.weight)
    gradients = []
    for way in (lambda: task.loss(batch_of(images), NOW).value, lambda: slow_location(task, images)):
        task.zero_grad()
        torch.manual_seed(5)
        value = way()
        value.backward()
        gradients.append([value.detach()] + [p.grad.clone() for p in task.parameters()])
    assert gradients[0][1].abs().max() > 1e-3
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_backbone_sees_nine_patches_an_image():
    task = location(convolution(norm=True), 4).train()
    rows = inputs_of(task.backbone)
    task.loss(batch_of(scattered()), NOW)
    assert [len(x) for x in rows] == [4, 8 * 4]


def test_location_weight_decay_behind_the_backbone_is_five_times():
    task = location(convolution(norm=True), 4)
    optimizer = build_optimizer(task, Training(weight_decay=1e-4, momentum=0.9), task.rules())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(task.parameters()))
    for name, parameter in task.named_parameters():
        factor = 1 if name.startswith("backbone.") else 5
        assert decay[id(parameter)] == pytest.approx(factor * 1e-4), name
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


@pytest.mark.parametrize("kind", [RelativeLocation, Jigsaw])
@pytest.mark.parametrize(("num_images", "image_size"), [(1_281_167, 224), (300, 28), (5000, 64)])
def test_views_are_cut_upright_and_in_true_geometry(kind, num_images, image_size):
    facts = Facts(num_images=num_images, image_size=image_size)
    config = kind.recipe(facts).config
    (view,) = kind.views(config)
    assert (view.size, config.patch_size) == patch_sizes(image_size)
    assert (view.count, view.crop, view.ratio) == (1, "random", (1.0, 1.0))
    assert (view.horizontal_flip, view.vertical_flip, view.rotation) == (0.0, 0.0, 0.0)
    # 255 of 292 px of the short side is 0.76 of a square and 0.57 of a picture of 4 : 3.
    assert view.scale == pytest.approx(((255 / 292) ** 2 * 3 / 4, (255 / 292) ** 2), abs=0.01)
    assert view.gray == (0.66 if kind is RelativeLocation else 0.3)
    assert kind.fixed_view(config).size == image_size


def test_location_pictures_have_the_labels():
    task, images = location(), painted(4)
    shown = task.pictures(batch_of(images))
    assert torch.equal(shown.pop("view"), images)
    values = {title: picture.mean(dim=(1, 2, 3)) for title, picture in shown.items()}
    tens = 10.0 * torch.arange(4)
    assert torch.equal(values.pop("centre"), 4 + tens)
    assert list(values) == [f"{i}: {side}" for i, side in enumerate(SIDES)]
    for cell, value in zip(OUTER, values.values(), strict=True):
        assert torch.equal(value, cell + tens)
    for cell, side in zip(OUTER, SIDES, strict=True):
        assert ("above" in side, "below" in side) == (cell < 3, cell > 5)
        assert ("left" in side, "right" in side) == (cell % 3 == 0, cell % 3 == 2)


def test_location_drops_colors_when_asked():
    plain, colourless = (location(Pixels(6), 36, color_dropping=share) for share in (0.0, 1.0))
    rows = [inputs_of(task.backbone) for task in (plain, colourless)]
    for task in (plain, colourless):
        torch.manual_seed(0)
        task.loss(batch_of(scattered()), NOW)
    same = (rows[0][0] == rows[1][0]).flatten(2).all(dim=2)
    assert (same.sum(dim=1) == 1).all()


# ---- jigsaw


def jigsaw(backbone=None, dim=1, **config):
    settings = {"image_size": 24, "grid_size": 30, "patch_size": 6, "hidden": 8, "dropout": 0.0}
    settings |= {"num_permutations": 12, "patch_features": 5, "normalise": False}
    torch.manual_seed(0)
    config = Jigsaw.Config(**settings | config)
    return Jigsaw(backbone or Mean(), dim, Facts(num_images=4), config)


def distances(permutations):
    return [sum(a != b for a, b in zip(p, q, strict=True)) for p, q in itertools.combinations(permutations, 2)]


def test_permutations_are_far_from_one_another():
    permutations = permutation_set(64)
    assert len(set(permutations)) == 64
    assert all(sorted(permutation) == list(range(9)) for permutation in permutations)
    assert permutations[0] == tuple(range(9))
    assert min(distances(permutations)) == 7
    # Nine permutations can differ from one another at every place, as the rows of a Latin square; not ten.
    assert min(distances(permutations[:9])) == 9
    assert min(distances(permutations[:10])) == 8
    random = [tuple(row) for row in np.random.default_rng(0).permuted(np.tile(np.arange(9), (64, 1)), axis=1)]
    assert min(distances(permutations)) > min(distances(random))


def test_permutations_are_always_the_same_and_begin_alike():
    first = permutation_set(30)
    permutation_set.cache_clear()
    assert permutation_set(30) == first
    assert permutation_set(12) == first[:12]


def test_each_permutation_is_the_farthest_from_those_before_it():
    every, chosen = np.array(list(itertools.permutations(range(9)))), permutation_set(14)
    apart = np.stack([(every != np.array(p)).sum(axis=1) for p in chosen])
    for count in range(1, 14):
        merit = 1000 * apart[:count].min(axis=0) + apart[:count].sum(axis=0)
        assert chosen[count] == tuple(every[merit.argmax()])


def test_shuffled_places_have_the_cells_of_the_permutation():
    task = jigsaw(shuffles=3)
    assert task.permutations.tolist() == [list(p) for p in permutation_set(12)]
    cells = cut(painted(4), 6).unflatten(0, (9, -1))
    labels = task._draw(4)
    assert labels.shape == (12,)
    shuffled = task._shuffled(cells, labels)
    assert shuffled.shape == (12, 9, 3, 6, 6)
    for row, label in enumerate(labels.tolist()):
        for place in range(9):
            number = permutation_set(12)[label][place] + 10 * (row % 4)
            assert (shuffled[row, place] == number).all()


def test_all_permutations_are_drawn():
    task = jigsaw(shuffles=50)
    counts = torch.bincount(task._draw(40), minlength=12)
    assert counts.shape == (12,)
    assert counts.sum() == 2000
    assert counts.min() > 110


def test_shuffling_features_is_shuffling_patches():
    task, backbone = jigsaw(shuffles=3), convolution(norm=False)
    cells = cut(scattered(), 6).unflatten(0, (9, -1))
    labels = task._draw(4)
    features = backbone(cells.flatten(0, 1)).unflatten(0, (9, -1))
    of_shuffled = backbone(task._shuffled(cells, labels).flatten(0, 1)).unflatten(0, (12, 9))
    torch.testing.assert_close(task._shuffled(features, labels), of_shuffled)


class Spell(nn.Module):
    """Reads the permutation off the features of the nine places, which have the numbers of their cells."""

    def __init__(self, count, shift=0):
        super().__init__()
        self.known, self.shift = permutation_set(count), shift

    def forward(self, features):
        orders = [tuple(round(x) % 10 for x in row) for row in features.tolist()]
        labels = torch.tensor([self.known.index(order) for order in orders])
        return 50.0 * F.one_hot((labels + self.shift) % len(self.known), len(self.known)).float()


@pytest.mark.parametrize("shuffles", [1, 3])
def test_jigsaw_label_matches_the_pixels(shuffles):
    task = jigsaw(shuffles=shuffles)
    task.patch_head = nn.Identity()
    for shift, accuracy, loss in ((0, 1.0, 0.0), (1, 0.0, 50.0)):
        task.head = Spell(12, shift)
        out = task.loss(batch_of(painted(4)), NOW)
        assert out.metrics["accuracy"] == accuracy
        assert out.value.item() == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("shuffles", [1, 2, 5])
def test_jigsaw_loss_is_that_of_shuffled_patches(shuffles):
    """The slow way shuffles the patches of each image and sends all of them through the backbone again."""
    task, images = jigsaw(convolution(norm=False), 4, shuffles=shuffles, normalise=True).train(), scattered()
    nn.init.normal_(task.head[-1].weight)
    torch.manual_seed(5)
    out = task.loss(batch_of(images), NOW)
    torch.manual_seed(5)
    cells, labels = task._patches(batch_of(images)).unflatten(0, (9, -1)), task._draw(4)
    losses = []
    for row, label in enumerate(labels.tolist()):
        patches = torch.stack([cells[cell, row % 4] for cell in permutation_set(12)[label]])
        logits = task.head(task.patch_head(task.backbone(patches)).flatten()[None])
        losses.append(-logits.log_softmax(dim=1)[0, label].item())
    assert out.value.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_jigsaw_with_an_ignorant_head():
    task = jigsaw()
    nn.init.zeros_(task.head[-1].weight)
    nn.init.zeros_(task.head[-1].bias)
    assert task.loss(batch_of(scattered()), NOW).value.item() == pytest.approx(math.log(12))


@pytest.mark.parametrize("normalise", [True, False])
def test_each_patch_is_normalised_by_itself(normalise):
    task = jigsaw(normalise=normalise)
    rows = inputs_of(task.backbone)
    images = scattered() * torch.tensor([1.0, 20.0, 0.5])[:, None, None] + torch.tensor([3.0, 0.0, -7.0])[:, None, None]
    torch.manual_seed(5)
    task.loss(batch_of(images), NOW)
    torch.manual_seed(5)
    patches = cut(images, 6)
    if not normalise:
        assert torch.equal(rows[0], patches)
        return
    mean, std = rows[0].mean(dim=(2, 3)), rows[0].std(dim=(2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.ones_like(std))
    own = patches.flatten(2)
    expected = (own - own.mean(dim=2, keepdim=True)) / own.std(dim=2, correction=0, keepdim=True)
    torch.testing.assert_close(rows[0].flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_patches_without_contrast_stay_finite():
    task = jigsaw(normalise=True)
    rows = inputs_of(task.backbone)
    assert torch.isfinite(task.loss(batch_of(torch.full((4, 3, 30, 30), 0.7)), NOW).value)
    torch.testing.assert_close(rows[0], torch.zeros(36, 3, 6, 6), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shuffles", [1, 2, 8])
def test_backbone_sees_nine_patches_an_image_whatever_the_shuffles(shuffles):
    task = jigsaw(convolution(norm=True), 4, shuffles=shuffles)
    rows, heads = inputs_of(task.backbone), inputs_of(task.head)
    task.loss(batch_of(scattered(5)), NOW)
    assert [tuple(x.shape) for x in rows] == [(45, 3, 6, 6)]
    assert [tuple(x.shape) for x in heads] == [(5 * shuffles, 45)]


def test_jigsaw_pictures_have_the_label_and_the_cells():
    task, images = jigsaw(shuffles=2), painted(4)
    labels = set()
    for _ in range(20):
        shown = task.pictures(batch_of(images))
        assert len(shown) == 1 + 9 + 9
        assert torch.equal(shown["view"], images)
        (label,) = {int(title.split(":")[0]) for title in shown if "place" in title}
        labels.add(label)
        for place, cell in enumerate(permutation_set(12)[label]):
            picture = shown[f"{label}: place {place}, cell {cell}"]
            assert picture.shape == (4, 3, 6, 6)
            assert torch.equal(picture, shown[f"cell {cell}"])
            assert torch.equal(picture.mean(dim=(1, 2, 3)), cell + 10.0 * torch.arange(4))
    assert len(labels) > 3


# ---- recipes


def rates(training, steps_per_epoch=2503):
    """The rate at the first and the last step of each epoch."""
    total = training.epochs * steps_per_epoch
    return SimpleNamespace(
        first=[lr_at(training, epoch * steps_per_epoch, total, steps_per_epoch) for epoch in range(training.epochs)],
        last=[
            lr_at(training, (epoch + 1) * steps_per_epoch - 1, total, steps_per_epoch)
            for epoch in range(training.epochs)
        ],
    )


def test_location_recipe_at_the_size_of_imagenet():
    config, training = RelativeLocation.recipe(IMAGENET).config, RelativeLocation.recipe(IMAGENET).training
    assert (config.grid_size, config.patch_size, config.hidden, config.dropout) == (255, 64, 4096, 0.5)
    assert (training.optimizer, training.lr, training.batch_size, training.epochs) == ("sgd", 0.2, 512, 70)
    assert (training.momentum, training.weight_decay) == (0.9, 1e-4)
    found = rates(training)
    rising = [0.2 * (0.1 + 0.9 * epoch / 5) for epoch in range(5)]
    assert found.first == pytest.approx(rising + [0.2] * 25 + [0.02] * 20 + [0.002] * 20)
    assert found.last[5:] == pytest.approx([0.2] * 25 + [0.02] * 20 + [0.002] * 20)
    assert found.last[4] == pytest.approx(0.2, rel=1e-3)


def test_location_recipe_scales_with_the_batch_and_the_epochs():
    facts = Facts(num_images=1_281_167, batch_size=128, epochs=14)
    training = RelativeLocation.recipe(facts).training
    assert (training.lr, training.batch_size, training.epochs, training.warmup) == (pytest.approx(0.05), 128, 14, 1.0)
    assert rates(training, 10).first[1:] == pytest.approx([0.05] * 5 + [0.005] * 4 + [0.0005] * 4)


def test_jigsaw_recipe_at_the_size_of_imagenet():
    config, training = Jigsaw.recipe(IMAGENET).config, Jigsaw.recipe(IMAGENET).training
    assert (config.grid_size, config.patch_size, config.num_permutations, config.shuffles) == (255, 64, 1000, 1)
    assert (config.hidden, config.patch_features, config.normalise) == (4096, 512, True)
    assert (training.optimizer, training.lr, training.batch_size, training.epochs) == ("sgd", 0.01, 256, 70)
    assert rates(training).first == pytest.approx([0.01] * 20 + [1e-3] * 20 + [1e-4] * 20 + [1e-5] * 10)
