"""Attention inside masks: by hand, on a network whose maps are known, against the package's own, and as a command."""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from msgspec import UNSET
from msgspec.structs import asdict
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sslcurr.analysis.evaluation import attention as evaluation
from sslcurr.analysis.evaluation import maps as map_making
from sslcurr.analysis.evaluation.attention import AttentionSettings, ModelAttention, measure_attention, report_attention
from sslcurr.analysis.evaluation.cam import (
    class_maps,
    enlarged,
    first_components,
    gradcam_plus_plus_weights,
    gradcam_weights,
)
from sslcurr.analysis.evaluation.classifier import classifier_of
from sslcurr.analysis.evaluation.groups import chain_attention, chains_of, masks_of_split
from sslcurr.analysis.evaluation.masks import ImageMasks, masks_of
from sslcurr.analysis.experiments import ranking
from sslcurr.analysis.experiments.chains import FailedChain, MeasuredChain
from sslcurr.analysis.measures import attention
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.sheets import overlays
from sslcurr.backbones.build import build, num_features
from sslcurr.cli.output import print_document
from sslcurr.data import masks
from sslcurr.data.pack import Pack, load_pack
from sslcurr.data.packing import open_pack
from sslcurr.data.sources import catalog
from sslcurr.data.sources.boxes import Boxes
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.selection import Selection, split_rows
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError
from sslcurr.files import sha256_of
from sslcurr.spec.record import StageRecord
from sslcurr.spec.stage import StageSpec, to_dict
from tests.conftest import QUICK

# ---- shares, by hand


def test_share_of_the_mass_inside_by_hand():
    maps = np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 5.0], [0.0, 0.0]]])
    regions = np.array([[[0.0, 1.0], [0.5, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])
    found = attention.inside(maps, regions)
    assert found[0] == pytest.approx((2 + 1.5) / 10)
    assert np.isnan(found[1])  # a map that is zero everywhere has no share
    assert found[2] == 0.0
    np.testing.assert_allclose(attention.coverage(regions), [1.5 / 4, 1.0, 0.75])


def test_flat_maps_have_as_much_inside_as_is_covered():
    regions = np.random.default_rng(0).random((5, 6, 7))
    np.testing.assert_allclose(attention.inside(np.full((5, 6, 7), 3.0), regions), attention.coverage(regions))
    np.testing.assert_allclose(attention.inside(np.random.default_rng(1).random((5, 6, 7)), np.ones((5, 6, 7))), 1.0)


def test_pointing_game_by_hand():
    maps = np.array([[[1.0, 9.0], [2.0, 3.0]], [[1.0, 9.0], [2.0, 3.0]], [[4.0, 4.0], [4.0, 1.0]], np.zeros((2, 2))])
    inside_top = np.array([[0.0, 0.5], [0.0, 0.0]])
    outside = np.array([[1.0, 0.49], [1.0, 1.0]])
    shared = np.array([[1.0, 0.0], [0.0, 1.0]])  # one of three highest cells
    found = attention.pointing(maps, np.stack([inside_top, outside, shared, np.ones((2, 2))]))
    np.testing.assert_allclose(found[:3], [1.0, 0.0, 1 / 3])
    assert np.isnan(found[3])


def test_summary_takes_each_seed_by_the_images_that_have_a_value():
    values = np.array([[0.2, 0.4, np.nan, np.nan], [0.4, 0.6, 0.8, np.nan]])
    found = attention.summary(values)
    assert found.mean == pytest.approx((0.3 + 0.6) / 2)
    assert found.std == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert found.interval[0] < found.mean < found.interval[1]
    missing = np.array([[0.2, 0.4], [np.nan, np.nan]])  # a seed without any map is no seed
    assert attention.summary(missing) == attention.summary(missing[:1])
    assert attention.summary(np.full((2, 3), np.nan)) == attention.SeedMean(None, None, None)
    assert attention.summary(np.full((1, 3), 0.5)) == attention.SeedMean(0.5, None, (0.5, 0.5))


def test_interval_of_several_seeds_is_students_t_over_seeds_and_images():
    from sslcurr.analysis.measures.intervals import Images, interval_of, sample

    generator = np.random.default_rng(5)
    values, groups = generator.beta(2, 3, (3, 60)), generator.integers(0, 25, 60)
    found = attention.summary(values, groups)
    assert found.interval == interval_of(sample(values, Images.of(60, groups=groups)))
    assert found.interval != attention.summary(values).interval


def test_interval_agrees_with_scipy_and_groups_widen_it():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).beta(2, 3, 80)
    found = attention.summary(values[None])
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.interval, list(theirs.confidence_interval), atol=0.006)
    # Forty images, each there twice, tell what forty tell.
    doubled, groups = np.repeat(values[:40], 2), np.repeat(np.arange(40), 2)
    once = attention.summary(values[None, :40])
    np.testing.assert_allclose(attention.summary(doubled[None], groups).interval, once.interval, atol=0.01)
    narrow = attention.summary(doubled[None]).interval
    assert narrow[1] - narrow[0] < 0.85 * (once.interval[1] - once.interval[0])


# ---- class activation maps


class Known(nn.Module):
    """Channel 0 is the image, channel 1 its negative, then global averages and two classes of known weights."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(2, len(weights), bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor(weights))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.maps(images)).mean(dim=(2, 3)))


IMAGE = torch.tensor([[[[1.0, -2.0, 3.0], [0.0, 4.0, -1.0]]]])  # [1, 1, 2, 3]


def test_grad_cam_of_a_network_whose_map_is_known():
    network = Known([[2.0, 0.5], [-1.0, 3.0]])
    # Before the activation: gradients of a mean over 6 cells, where the ReLU lets them through.
    image = IMAGE[0, 0].numpy()
    positive, negative = (image > 0).mean() * 1.0, (image < 0).mean() * 1.0
    for label, (first, second) in enumerate([(2.0, 0.5), (-1.0, 3.0)]):
        weights = first * positive / 6, second * negative / 6
        expected = np.maximum(weights[0] * image + weights[1] * -image, 0)
        maps, predicted = class_maps(network, network.maps, IMAGE, "gradcam", torch.tensor([label]))
        np.testing.assert_allclose(maps[0], expected, rtol=1e-6)
        assert predicted.tolist() == [0]
    # 2 * 8/6 + 0.5 * 3/6 against -8/6 + 9/6: class 0 is predicted, and is what is explained where no class is given.
    np.testing.assert_array_equal(
        class_maps(network, network.maps, IMAGE, "gradcam")[0],
        class_maps(network, network.maps, IMAGE, "gradcam", torch.tensor([0]))[0],
    )


def test_a_layer_that_writes_over_its_input_does_not_change_the_map():
    inplace, plain = Known([[2.0, 0.5]]), Known([[2.0, 0.5]])
    plain.act = nn.ReLU()
    for method in attention.CAM_METHODS:
        first, second = (class_maps(each, each.maps, IMAGE, method)[0] for each in (inplace, plain))
        np.testing.assert_array_equal(first, second)
        assert first.sum() > 0


def test_maps_do_not_depend_on_the_batch_and_leave_the_network_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 4)).train()
    images = torch.randn(6, 3, 9, 9)
    for method in attention.CAM_METHODS:
        together, predicted = class_maps(network, network[2], images, method)
        alone = np.concatenate([class_maps(network, network[2], image[None], method)[0] for image in images])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
        assert predicted.shape == (6,)
    assert network.training
    assert network[1].num_batches_tracked == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    trained = class_maps(network, network[2], images, "gradcam")[0]
    np.testing.assert_allclose(class_maps(network.requires_grad_(False), network[2], images, "gradcam")[0], trained)


def test_weights_of_grad_cam_plus_plus_by_hand():
    # One image, two maps of two cells. The first sums to 3: factors 4 / (8 + 3 * 8) and 1 / (2 + 3 * -1), the second
    # of which has no positive gradient; the second map sums to -1: factor 1 / (2 - 1), and a cell without a gradient.
    activations = np.array([[[[1.0, 2.0]], [[-3.0, 2.0]]]], dtype=np.float32)
    gradients = np.array([[[[2.0, -1.0]], [[1.0, 0.0]]]], dtype=np.float32)
    weights = gradcam_plus_plus_weights(activations, gradients)
    np.testing.assert_allclose(weights, [[2.0 * 4.0 / 32.0, 1.0]], rtol=2e-6)
    np.testing.assert_allclose(gradcam_weights(gradients), [[0.5, 0.5]])
    nothing = np.zeros_like(activations)
    np.testing.assert_array_equal(gradcam_plus_plus_weights(activations, nothing), [[0.0, 0.0]])


def test_grad_cam_plus_plus_of_a_network_whose_map_is_known():
    network = Known([[2.0, 0.5]])
    image = IMAGE[0, 0].numpy()
    # Gradients of a mean over 6 cells, before the activation; the maps are the image and minus the image.
    expected = np.zeros_like(image)
    for values, slope in ((image, 2.0 / 6), (-image, 0.5 / 6)):
        gradients = np.where(values > 0, slope, 0.0)
        factors = gradients**2 / (2 * gradients**2 + values.sum() * gradients**3 + 1e-6)
        expected += (factors * gradients).sum() * values
    maps, _ = class_maps(network, network.maps, IMAGE, "gradcam++")
    np.testing.assert_allclose(maps[0], np.maximum(expected, 0), rtol=1e-5)
    assert (maps > 0).any()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_weights_are_those_of_the_package(method):
    package = pytest.importorskip("pytorch_grad_cam")
    numbers = np.random.default_rng(0)
    activations = numbers.normal(size=(5, 12, 4, 6)).astype(np.float32)
    gradients = numbers.normal(scale=0.1, size=activations.shape).astype(np.float32)
    gradients[numbers.random(gradients.shape) < 0.3] = 0.0
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    with (package.GradCAM if method == "gradcam" else package.GradCAMPlusPlus)(network, [network[0]]) as theirs:
        expected = theirs.get_cam_weights(None, None, None, activations, gradients)
    ours = gradcam_weights(gradients) if method == "gradcam" else gradcam_plus_plus_weights(activations, gradients)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_are_those_of_the_package_but_for_its_stretching(method):
    pytest.importorskip("pytorch_grad_cam")
    import cv2
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    images = torch.randn(4, 3, 9, 9)
    labels = torch.tensor([3, 1, 0, 2])
    with (GradCAM if method == "gradcam" else GradCAMPlusPlus)(network, [network[1]]) as package:
        theirs = package(images, [ClassifierOutputTarget(label) for label in labels.tolist()])
    ours, _ = class_maps(network, network[1], images, method, labels)

    def stretched(values: np.ndarray) -> np.ndarray:
        values = values - values.min()
        return values / (1e-7 + values.max())

    # Stretched before it is enlarged and again after, as the package does.
    expected = np.stack([stretched(cv2.resize(stretched(values), (9, 9))) for values in ours])
    np.testing.assert_allclose(theirs, expected, atol=2e-3)


def component_of_scikit_learn(activations: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(n_components=1).fit_transform(activations.reshape(len(activations), -1).T).reshape(activations.shape[1:])


def component_of_the_package(activations: np.ndarray) -> np.ndarray:
    svd = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")
    return svd.get_2d_projection(activations[None])[0]


@pytest.mark.parametrize("component", [component_of_scikit_learn, component_of_the_package])
def test_eigencam_is_the_first_component_but_for_its_sign(component):
    activations = np.random.default_rng(0).normal(size=(5, 12, 4, 6)) + np.linspace(0, 3, 6)
    for a, b in zip(first_components(activations), map(component, activations), strict=True):
        sign = np.sign((a * b).sum())
        np.testing.assert_allclose(a, sign * b, rtol=1e-4, atol=1e-5)
        assert a.max() >= -a.min()


def test_a_layer_without_maps_is_a_mistake():
    network = Known([[1.0, 1.0]])
    with pytest.raises(SpecError, match="gives no"):
        class_maps(network, network.head, IMAGE, "gradcam")
    with pytest.raises(SpecError, match="not used"):
        class_maps(network, nn.Conv2d(1, 1, 1), IMAGE, "gradcam")


@pytest.mark.parametrize(("size", "layer"), [(224, "layer4"), (64, "layer3"), (16, "layer1"), (8, "act1"), (4, "act1")])
def test_the_last_stage_that_is_not_too_coarse_is_taken(size, layer):
    from sslcurr.analysis.evaluation.maps import finest_needed
    from sslcurr.backbones.build import build
    from sslcurr.spec.stage import BackboneSpec

    assert finest_needed(build(BackboneSpec(name="resnet18")).eval(), 3, size) == layer


def test_enlarged_maps_keep_their_place():
    maps = np.zeros((1, 2, 2), dtype=np.float32)
    maps[0, 0, 1] = 1.0
    large = enlarged(maps, 8)
    assert large.shape == (1, 8, 8)
    assert large[0, 0, 7] == 1.0  # row and column are not swapped
    assert large[0, 7, 0] == 0.0
    theirs = nn.functional.interpolate(torch.from_numpy(maps)[None], size=(8, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(large, theirs[0].numpy())


# ---- masks as the network sees the image


@pytest.fixture
def pictured(tmp_path: Path):
    """A pack of two images, 40 x 80 (lying) and 60 x 30 (upright), each white in its right half."""
    root = tmp_path / "pictures"
    for name, (height, width) in {"wide": (40, 80), "tall": (60, 30)}.items():
        (root / name).mkdir(parents=True)
        pixels = np.zeros((height, width), dtype=np.uint8)
        pixels[:, width // 2 :] = 255
        Image.fromarray(pixels).save(root / name / "0.png")
    source = catalog.find_source(str(root))
    return source, open_pack(source, 32, tmp_path / "packs")


@pytest.mark.parametrize("shape", [(40, 80), (20, 40), (400, 800)])
def test_masks_are_cut_and_scaled_as_their_images_are(pictured, tmp_path, shape):
    from sslcurr.data.views.draw import make_views

    _, pack = pictured
    file = tmp_path / "mask.png"
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[:, shape[1] // 2 :] = 1
    Image.fromarray(pixels).save(file)
    row = pack.names.index("wide/0.png")
    found = masks_of({"wide/0.png": file}, pack, np.arange(2), Store(tmp_path / "runs"), "test", print)
    assert found is not None
    assert found.rows.tolist() == [row]
    view = View(size=24, crop="center")
    seen = found.in_view(np.array([0]), view)
    sizes = [torch.from_numpy(sides[[row]]) for sides in (pack.heights, pack.widths)]
    images = torch.from_numpy(np.array(pack.images[[row]]))
    (image,) = make_views(images, *sizes, [view], torch.Generator(), mean=(0.0,), std=(1.0,), channels=1)
    # The image is its own mask: what is white is inside. At the edge packs smooth a little more than masks.
    difference = np.abs(seen - image[:, 0].numpy())
    assert difference.max() < 0.15
    assert (difference > 0.02).any(axis=(0, 1)).sum() <= 4  # columns of 24
    assert attention.coverage(seen)[0] == pytest.approx(0.5, abs=0.01)  # the centre of a lying image has both halves


def test_boxes_are_masks_in_pixels_of_the_true_image(pictured, tmp_path):
    _, pack = pictured
    # The right half of the image 60 high and 30 wide, and of the other the left quarter, which the view does not show.
    known = {"tall/0.png": Boxes(((15.0, 0.0, 15.0, 60.0),)), "wide/0.png": Boxes(((0.0, 0.0, 20.0, 40.0),))}
    found = masks_of(known, pack, np.arange(2), Store(tmp_path / "runs"), "test", print)
    assert found is not None
    seen = dict(
        zip(
            [pack.names[row] for row in found.rows],
            found.in_view(np.arange(2), View(size=20, crop="center")),
            strict=True,
        )
    )
    assert seen["tall/0.png"][:, 11:].min() > 0.99
    assert seen["tall/0.png"][:, :9].max() < 0.01
    assert seen["wide/0.png"].max() < 0.02


def test_regions_are_read_again_when_a_mask_changes(pictured, tmp_path):
    _, pack = pictured
    store, file = Store(tmp_path / "runs"), tmp_path / "mask.png"
    notes: list[str] = []

    def digest() -> str:
        found = masks_of({"tall/0.png": file}, pack, np.arange(2), store, "test", notes.append)
        assert found is not None
        return found.digest

    Image.new("L", (30, 60), 255).save(file)
    first = digest()
    assert digest() == first
    assert not notes
    Image.new("L", (64, 64), 255).save(file)
    assert digest() == first  # the same mask at another size
    assert "1 mask of other proportions than the image" in notes[0]
    changed = Image.new("L", (30, 60), 255)
    changed.paste(0, (0, 0, 30, 20))
    changed.save(file)
    assert digest() != first
    Image.new("L", (30, 60), 0).save(file)
    with pytest.raises(DataError, match="mask"):
        digest()
    notes.clear()
    assert masks_of({"other.png": file}, pack, np.arange(2), store, "val", notes.append) is None
    assert notes == ["none of the val images has a mask, so attention cannot be measured"]
    assert masks_of({}, pack, np.arange(2), store, "val", notes.append) is None
    assert len(notes) == 1


# ---- sheets


def test_best_median_and_worst_are_chosen_of_a_class():
    values = np.array([0.1, 0.9, np.nan, 0.5, 0.3, 0.7, 0.2, 0.8, 0.6])
    labels = np.array([0, 0, 0, 0, 1, 0, 0, 2, 2])
    assert overlays.chosen(values, labels, 0) == {"best": 1, "median": 3, "worst": 0}  # of 0.9 0.7 0.5 0.2 0.1
    assert overlays.chosen(values, labels, 1) == {"best": 4}
    assert overlays.chosen(values, labels, 2) == {"best": 7, "worst": 8}
    assert overlays.chosen(values, labels, 3) == {}


def test_attention_is_drawn_where_it_is_and_the_mask_outlined(tmp_path):
    image = np.full((64, 64, 3), 100, dtype=np.uint8)
    heat, mask = np.zeros((64, 64)), np.zeros((64, 64))
    heat[:32, :32], mask[16:48, 16:48] = 1.0, 1.0
    plain, over = overlays.pictures_of(overlays.Example("best", image, heat, mask, ""))
    assert plain.shape == over.shape == (overlays.CELL, overlays.CELL, 3)
    assert tuple(plain[64, 32]) == overlays.OUTLINE  # the left edge of the mask, halfway down
    assert (plain[64, 64] == 100).all()  # its inside is left as it is
    assert (over[8, 8] != 100).any()  # attention
    assert (over[120, 120] == 100).all()  # none
    overlays.draw_sheet(
        [("a" * 300, [overlays.Example("worst", image, heat, mask, "c" * 300)] * 3), ("b", [])],
        "t" * 400,
        tmp_path / "s.png",
    )
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width < 1200
    flat, _ = overlays.pictures_of(overlays.Example("best", image, np.zeros((4, 4)), np.ones((4, 4)), ""))
    assert (flat == 100).all()  # a mask of everything has no outline


def test_maps_masks_and_ranks_stand_where_they_belong(monkeypatch, tmp_path):
    from PIL import ImageDraw

    image = np.full((64, 64, 3), 100, dtype=np.uint8)
    heat, mask = np.zeros((64, 64)), np.zeros((64, 64))
    heat[:20, 44:], mask[48:, :16] = 2.0, 0.75  # the right upper corner, the left lower one
    mask[:16, 48:] = 0.25  # less than half of these cells is inside
    plain, over = overlays.pictures_of(overlays.Example("best", image, heat, mask, ""))
    assert (over[8, 120] != 100).any()
    assert (over[120, 8] == 100).all()
    assert [tuple(plain[96, 8]), tuple(plain[112, 31])] == [overlays.OUTLINE] * 2
    assert (plain[:64] == 100).all()
    written = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda pen, at, text, **how: written.append((at[0], text)))
    monkeypatch.setattr(ImageDraw.ImageDraw, "multiline_text", lambda *arguments, **how: None)
    overlays.draw_sheet([("a", [overlays.Example("best", image, heat, mask, "")] * 3)], "t", tmp_path / "s.png")
    # Examples are given best first, from the left.
    assert [text for _, text in sorted(written[2:])] == ["best", "median", "worst"]


# ---- the attention of one model, without a command

BEFORE = "layer1.0.conv1"  # before an activation: few maps are zero everywhere


@pytest.fixture
def tuned(small_stage, tmp_path):
    """`tuned(seed)`: a stage of classification with random weights, and its spec; nothing is trained."""
    base = small_stage("classification")

    def make(seed: int = 0) -> tuple[Stage, StageSpec]:
        torch.manual_seed(seed)
        spec = replace(base, seed=seed)
        path = tmp_path / f"stage-{seed}"
        path.mkdir()
        network = build(spec.backbone).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)  # what is trained begins with branches that are 0
        save_file(network.state_dict(), path / "backbone.safetensors")
        pack = load_pack(Path(spec.data.pack))
        feed = Feed(Selection(pack, {"test": np.arange(63)}), spec.backbone, torch.device("cpu"))
        (images,) = feed.views(np.arange(63), [View(size=16, crop="center")], torch.Generator())
        with torch.no_grad():
            features = network(images)
        weight = torch.randn(3, num_features(network))
        head = {"weight": weight, "bias": -weight @ features.mean(dim=0)}  # so that each class is predicted of some
        save_file(head, path / "head.safetensors")
        record = StageRecord(
            key=f"stage{seed}",
            weights_sha256=sha256_of(path / "backbone.safetensors"),
            parent=None,
            parent_weights_sha256=None,
            metrics={},
            steps=0,
            num_images=0,
            images_per_second=0.0,
            seconds=0.0,
            device="cpu",
            precision="32",
            versions={},
        )
        (path / "done.json").write_text(json.dumps(record.to_json()))
        return Stage(f"stage{seed}", path), spec

    return make


def lying(spec: StageSpec) -> Pack:
    """The pack of a stage, as if its images were twice as wide as they are high, and patients had three each."""
    pack = load_pack(Path(spec.data.pack))
    sides = {"heights": np.full_like(pack.heights, 28), "widths": np.full_like(pack.widths, 56)}
    return replace(pack, **sides, groups=np.arange(63)[::-1] // 3)


def masks_with(pack: Pack, rows: list[int], tmp_path: Path) -> ImageMasks:
    """The left of each image, up to another column for each row; views show columns 14 to 42 of 56."""
    known = {pack.names[row]: Boxes(((0.0, 0.0, 15.0 + row % 26, 28.0),)) for row in rows}
    found = masks_of(known, pack, np.arange(len(pack.names)), Store(tmp_path / "runs"), "test", print)
    assert found is not None
    return found


@pytest.mark.parametrize("target", evaluation.TARGETS)
def test_every_image_has_its_own_map_mask_label_and_name(tuned, tmp_path, monkeypatch, target):
    monkeypatch.setattr(map_making, "BATCH_SIZE", 4)
    stage, spec = tuned()
    pack, rows = lying(spec), [3, 9, 17, 20, 30, 33, 44, 50, 58, 62]
    marked = masks_with(pack, rows, tmp_path)
    settings = AttentionSettings(target=target, layer=BEFORE)
    result = measure_attention(stage, spec, marked, settings, Store(tmp_path / "runs"), "cpu")
    # The same, image by image, with the masks as they are by hand.
    backbone, classifier = classifier_of(stage, spec)
    feed = Feed(Selection(pack, {"test": np.array(rows)}), spec.backbone, torch.device("cpu"))
    view = View(size=16, crop="center")
    for place, row in enumerate(rows):
        (image,) = feed.views(np.array([row]), [view], torch.Generator())
        label = torch.tensor([int(pack.labels[row])]) if target == "label" else None
        maps, predicted = class_maps(classifier, backbone.layer1[0].conv1, image, "gradcam", label)
        large = enlarged(maps, 16)
        edge = 16 * (1 + row % 26) / 28
        mask = np.broadcast_to(np.clip(edge - np.arange(16), 0, 1), (1, 16, 16))
        assert result.predicted[place] == predicted[0]
        assert result.coverage[place] == pytest.approx((1 + row % 26) / 28, abs=0.01)  # of the view, not of the image
        assert result.inside[place] == pytest.approx(attention.inside(large, mask)[0], abs=0.03, nan_ok=True)
        np.testing.assert_equal(result.pointing[place], attention.pointing(large, mask)[0])
    assert np.isfinite(result.inside).sum() > 5
    assert (result.predicted != pack.labels[rows]).any()
    assert result.groups.tolist() == [(62 - row) // 3 for row in rows]
    assert (result.layer, result.map_size) == (BEFORE, (4, 4))
    table = pd.read_csv(result.folder / "images.csv")
    assert table["path"].tolist() == [pack.names[row] for row in rows]
    assert table["label"].tolist() == [pack.names[row].split("/")[0] for row in rows]
    assert table["prediction"].tolist() == [pack.classes[number] for number in result.predicted]
    for name, values in (
        ("attention", result.inside),
        ("coverage", result.coverage),
        ("pointing", result.pointing),
    ):
        np.testing.assert_allclose(table[name], values, rtol=1e-5)


def test_predictions_bear_the_names_of_the_training_and_labels_those_of_the_images(tuned, tmp_path):
    stage, spec = tuned()
    own = load_pack(Path(spec.data.pack)).classes
    pack, rows = replace(lying(spec), classes=("k", "l", "m"), fingerprint="of others"), [3, 20, 30, 44, 62]
    marked = masks_with(pack, rows, tmp_path)
    result = measure_attention(stage, spec, marked, AttentionSettings(), Store(tmp_path / "runs"), "cpu")
    table = pd.read_csv(result.folder / "images.csv")
    assert table["prediction"].tolist() == [own[number] for number in result.predicted]
    assert table["label"].tolist() == ["klm"[label] for label in pack.labels[rows]]
    with pytest.raises(SpecError, match="other classes"):
        measure_attention(stage, spec, marked, AttentionSettings(target="label"), Store(tmp_path / "runs"), "cpu")


def test_sheets_show_the_image_map_and_mask_of_the_place_that_they_name(tuned, tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(overlays, "draw_sheet", lambda rows, title, path, remarks: sheets.append((rows, title)))
    stage, spec = tuned()
    pack, rows = lying(spec), [1, 6, 12, 25, 31, 40, 46, 55, 60]
    marked = masks_with(pack, rows, tmp_path)
    result = measure_attention(stage, spec, marked, AttentionSettings(layer=BEFORE), Store(tmp_path / "runs"), "cpu")
    ((shown, title),) = sheets
    assert title == "classification, seed 0, on clothes: gradcam, layer1.0.conv1, predicted class"
    maps = enlarged(np.load(result.folder / "maps.npy"), 16)
    labels = pack.labels[rows]
    known = labels[np.isfinite(result.inside)]
    assert [name for name, _ in shown] == [name for label, name in enumerate(pack.classes) if label in known]
    others = 0
    for name, examples in shown:
        places = overlays.chosen(result.inside, labels, pack.classes.index(name))
        assert [example.rank for example in examples] == list(places)
        for place, example in zip(places.values(), examples, strict=True):
            np.testing.assert_array_equal(example.attention, maps[place])
            assert example.mask.mean() == pytest.approx(result.coverage[place])
            lines = example.caption.split("\n")
            assert (
                lines[0] == f"{100 * result.inside[place]:.0f} % inside, {100 * result.coverage[place]:.0f} % covered"
            )
            named = pack.classes[result.predicted[place]]
            assert lines[1:] == ([] if named == name else [f"named {named}"])
            others += named != name
    assert others


def test_attention_is_kept_by_all_that_decides_it(tuned, tmp_path, monkeypatch):
    def nothing(*arguments) -> evaluation.KeptAttention:
        columns = dict.fromkeys(("inside", "pointing", "coverage", "predicted"), np.zeros(1))
        np.savez(arguments[-1] / "images.npz", **columns)
        return evaluation.KeptAttention(layer="x", map_size=(1, 1), num_images=1, view_size=8)

    monkeypatch.setattr(map_making, "measure_maps", nothing)
    (stage, spec), (other, _) = tuned(), tuned(1)
    marked, store = masks_with(lying(spec), [3, 9], tmp_path), Store(tmp_path / "runs")

    def folder(stage: Stage = stage, shown: ImageMasks = marked, **settings: str) -> Path:
        return measure_attention(stage, spec, shown, AttentionSettings(**settings), store, "cpu").folder

    again = Stage(stage.key, other.folder)  # trained once more, to other weights
    pack = marked.pack
    elsewhere = [
        folder(),
        folder(again),
        folder(Stage("another", stage.folder)),
        folder(shown=replace(marked, digest="0")),
        folder(shown=replace(marked, pack=replace(pack, fingerprint="0"))),
        folder(shown=replace(marked, pack=replace(pack, size=2 * pack.size))),
        folder(method="gradcam++"),
        folder(method="eigencam"),
        folder(target="label"),
        folder(layer="layer1"),
    ]
    assert len(set(elsewhere)) == len(elsewhere)
    assert folder() == elsewhere[0]


def test_masks_are_kept_by_their_images_their_pack_and_all_of_their_boxes(pictured, tmp_path):
    _, pack = pictured
    pack, store = replace(pack, names=["a", "b"]), Store(tmp_path / "runs")

    def of(row: int, boxes: tuple, pack: Pack = pack) -> ImageMasks:
        found = masks_of({pack.names[row]: Boxes(boxes)}, pack, np.arange(2), store, "test", print)
        assert found is not None
        return found

    box, second = (0.0, 0.0, 10.0, 20.0), (10.0, 20.0, 10.0, 10.0)
    first = of(0, (box,))
    one_size = replace(pack, heights=pack.heights[[0, 0]], widths=pack.widths[[0, 0]])
    same, alike = of(0, (box,), replace(one_size, fingerprint="1")), of(1, (box,), replace(one_size, fingerprint="1"))
    np.testing.assert_array_equal(same.masks, alike.masks)
    assert same.digest != alike.digest  # the same masks, but of other images
    assert (of(1, (box,)).rows.tolist(), first.rows.tolist()) == ([1], [0])
    assert of(1, (box,)).digest != of(1, (box, second)).digest
    wider = replace(pack, fingerprint="2", widths=2 * pack.widths)
    assert of(0, (box,), wider).masks.sum() == pytest.approx(first.masks.sum() / 2, rel=0.05)
    assert of(0, (box,), replace(pack, size=16)).masks.shape == (1, 16, 16)


def test_a_mask_file_that_changed_but_not_in_size_is_read_again(pictured, tmp_path):
    _, pack = pictured
    coverages = []
    for height in (10, 40):
        file = tmp_path / "mask.png"
        pixels = np.zeros((60, 30), dtype=np.uint8)
        pixels[:height] = 255
        Image.fromarray(pixels).save(file)
        file.write_bytes(file.read_bytes().ljust(1000, b"\0"))
        os.utime(file, (height, height))
        found = masks_of({"tall/0.png": file}, pack, np.arange(2), Store(tmp_path / "runs"), "test", print)
        coverages.append(found.masks.mean() / 255)
    assert coverages == pytest.approx([1 / 6, 4 / 6], abs=0.01)


def fixed(inside: list[float], pointing: list[float], **more) -> ModelAttention:
    about = {"coverage": np.array([0.1, 0.2, 0.3, 0.4]), "predicted": np.zeros(4, dtype=int), "groups": None}
    about |= {"layer": "layer4", "map_size": (2, 2), "folder": Path("nowhere")} | more
    return ModelAttention(np.array(inside), np.array(pointing), **about)


def test_what_several_models_come_to_by_hand():
    rows = np.array([1, 4, 5, 7])
    pack = SimpleNamespace(label_names=("x", "y", "none"), labels=np.array([1, 0, 1, 1, 1, 0, 1, 1]))
    masked = SimpleNamespace(pack=pack, rows=rows)

    def of(measured: list[ModelAttention]):
        specs = [SimpleNamespace(seed=seed, tasks=("classification",)) for seed in range(len(measured))]
        stages = [SimpleNamespace(key=f"k{spec.seed}", spec=spec) for spec in specs]
        return chain_attention("t", stages, measured, masked)

    nan = float("nan")
    measured = [fixed([0.2, nan, 0.4, 0.9], [1, nan, 0, 1]), fixed([0.4, nan, nan, 0.7], [0, nan, nan, 1])]
    found = of(measured)
    means = [np.mean([0.2, 0.4, 0.9]), np.mean([0.4, 0.7])]  # each seed by the images that have a map at it
    assert found.attention.mean == pytest.approx(np.mean(means))
    assert found.attention.std == pytest.approx(np.std(means, ddof=1))
    assert found.pointing.mean == pytest.approx(np.mean([2 / 3, 1 / 2]))
    assert found.coverage == pytest.approx(0.25)  # of all images, also of those without a map
    assert (found.num_images, found.num_undefined) == (4, 3)  # maps of images at seeds
    assert list(found.classes) == ["x", "y"]  # rows 1 and 5, 4 and 7
    first, second = found.classes.values()
    assert (first.num_images, second.num_images) == (2, 2)
    assert (first.attention, second.attention) == pytest.approx(((0.3 + 0.4) / 2, 0.8))
    assert (first.coverage, second.coverage) == pytest.approx((0.2, 0.3))
    assert (first.pointing, second.pointing) == pytest.approx((0.25, 1.0))
    # Images of one group count together, in a class, too: one group alone says nothing of others.
    one = of([fixed([0.2, 0.3, 0.4, 0.9], [1] * 4, groups=np.array([7, 8, 7, 9]))])
    assert one.classes["x"].interval == pytest.approx([0.3, 0.3])
    assert one.classes["y"].interval == (0.0, 1.0)  # two groups, 0.3 and 0.9
    assert asdict(one.attention) == vars(attention.summary(np.array([[0.2, 0.3, 0.4, 0.9]]), np.array([0, 1, 0, 2])))
    short = report_attention(measured[0])
    assert short.mean == pytest.approx(means[0])
    assert short.pointing == pytest.approx(2 / 3)
    assert (short.coverage, short.num_images) == (pytest.approx(0.25), 4)


def test_attention_of_a_ranking_is_that_of_its_runs_over_images_and_seeds():
    groups = np.array([1, 2, 1, 3])
    measured = [fixed([0.2, np.nan, 0.4, 0.9], [1] * 4, groups=groups), fixed([0.6, np.nan, 0.4, 0.7], [0] * 4)]
    chains = [
        MeasuredChain(("a",), seed, 0.5, None, np.ones(4), "key", Path("."), each) for seed, each in enumerate(measured)
    ]
    assert chains[0].run().attention == pytest.approx(0.5)  # a map that is zero everywhere is left out
    assert chains[1].run().attention == pytest.approx((0.6 + 0.4 + 0.7) / 3)
    failed = FailedChain(("a",), 2, "why")
    estimate = ranking.attention_of([chains[0], failed, chains[1]])
    inside = np.stack([each.inside for each in measured])
    assert asdict(estimate) == vars(attention.summary(inside, groups))
    assert asdict(estimate) != vars(attention.summary(inside))
    assert estimate.mean == pytest.approx((0.5 + 1.7 / 3) / 2)
    assert ranking.attention_of([failed, replace(chains[0], attention=None)]) is UNSET
    results = ranking.Results([0, 1, 2], {"scratch": [failed]}, {("a",): chains})
    settings = AttentionSettings("eigencam", "label")
    told = {"masks": "m", "method": "eigencam", "target": "label", "layer": "layer4", "coverage": 0.25, "num_images": 4}
    assert ranking.attention_facts(results, settings, "m").to_json() == told


# ---- which stages are one chain, and which images they are asked about


def test_chains_are_of_stages_that_differ_by_their_seed_alone(small_stage, tmp_path):
    store, base = Store(tmp_path / "runs"), small_stage("classification")

    def put(key: str, lineage: tuple[str, ...] = ("rotation",), **changes) -> str:
        spec = replace(base, lineage=lineage, **changes)
        (store.stages / key).mkdir(parents=True)
        (store.stages / key / "stage.json").write_text(json.dumps(to_dict(spec)))
        (store.stages / key / "done.json").write_text("{}")
        return key

    def of(*keys: str) -> dict[str, list[tuple[str, int]]]:
        found = chains_of(list(keys), store, print)
        return {title: [(stage.key, stage.spec.seed) for stage in stages] for title, stages in found.items()}

    pretext = {"lineage": (), "task": "rotation"}
    put("p", **pretext)
    put("q", **pretext, seed=1)
    put("r", **pretext, training=replace(base.training, epochs=7))
    title = "rotation -> classification"
    first, second = put("aaaaaa11", parent="p"), put("bbbbbb22", parent="q", seed=1)
    assert of(first, second) == {title: [(first, 0), (second, 1)]}
    assert of(second, first, second) == {title: [(second, 1), (first, 0)]}
    longer = put("cccccc33", parent="q", seed=1, training=replace(base.training, epochs=9))
    assert of(first, longer) == {f"{title} (aaaaaa)": [(first, 0)], f"{title} (cccccc)": [(longer, 1)]}
    other = put("dddddd44", parent="r")  # of the same seed, from another parent
    assert of(first, other) == {f"{title} (aaaaaa)": [(first, 0)], f"{title} (dddddd)": [(other, 0)]}
    # At other seeds, but after another pretraining: not one chain at two seeds. Nor where the pretraining is gone.
    for key, parent in (("ffffff66", "r"), ("abcdef77", "gone")):
        elsewhere = put(key, parent=parent, seed=2)
        assert list(of(first, elsewhere)) == [f"{title} (aaaaaa)", f"{title} ({key[:6]})"]
    swapped = put("eeeeee55", ("swav",), parent="p", seed=1)
    assert of(first, swapped) == {title: [(first, 0)], "swav -> classification": [(swapped, 1)]}


def test_a_split_is_that_of_the_training_where_the_images_are_the_same(small_stage, tmp_path):
    spec = small_stage("classification")
    pack = load_pack(Path(spec.data.pack))
    labels = pack.labels.copy()
    labels[::5] = -1
    known = {name: Boxes(((0.0, 0.0, 9.0, 9.0),)) for name in pack.names}
    report = SimpleNamespace(counting=lambda title: nullcontext(), note=print)

    def rows(trained_on, labels, split="test") -> list[int]:
        looked = replace(pack, labels=labels)
        data = SimpleNamespace(pack=looked, masks=known, spec=lambda share: replace(spec.data, fraction=share))
        asked = replace(spec, data=trained_on)
        return masks_of_split(asked, data, split, Store(tmp_path / "runs"), report).rows.tolist()

    given = spec.data
    for change in ({"split_seed": 5}, {"test": 0.4}, {"val": 0.3, "test": 0.4}):
        own = replace(given, **change)
        assert (
            rows(own, pack.labels) == split_rows(own, "test", pack).tolist() != split_rows(given, "test", pack).tolist()
        )
        assert rows(replace(own, fingerprint="of others"), pack.labels) == split_rows(given, "test", pack).tolist()
    # Images without a label are left out where there are labels.
    assert rows(given, labels, "all") == [row for row in range(63) if row % 5]
    assert rows(given, np.full_like(labels, -1), "all") == list(range(63))


def test_the_table_of_attend_shows_each_number_once_in_percent(capsys):
    def measured(mean: float | None, interval: list[float] | None) -> dict:
        return {"mean": mean, "std": None if mean is None else 0.025, "interval": interval}

    classes = {
        "x": {"num_images": 5, "attention": 0.11, "interval": [0.1, 0.12], "coverage": 0.22, "pointing": 0.33},
        "y": {"num_images": 7, "attention": None, "interval": None, "coverage": 0.44, "pointing": None},
    }
    shared = {"num_images": 12, "coverage": 0.345, "classes": classes}
    about = {"tasks": ["classification"], "stages": ["k"], "layer": "layer2", "map_size": [2, 2], "images": ["i.csv"]}
    shared |= {**about, "num_undefined": 3, "sheet": "s.png", "pointing": measured(0.567, [0.5, 0.6])}
    chains = [
        {"chain": "a", "seeds": [0, 4], "attention": measured(0.456, [0.4, 0.5]), **shared},
        {"chain": "b", "seeds": [1], "attention": measured(None, None), **shared, "classes": {"x": classes["x"]}},
    ]
    about = {"dataset": "d", "split": "val", "method": "eigencam", "layer": "layer2", "target": "label", "masks": "m"}
    print_document(decode("attend", {**about, "num_images": 12, "chains": chains}))
    text = capsys.readouterr().out
    first = text.splitlines()[0]
    assert first == "Attention inside the masks: d, 12 val images with a mask; eigencam of the label class at layer2"
    lines = [line for line in text.splitlines()[1:] if re.search(r"\d", line) and "interval" not in line]
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    assert rows == [
        ["a", "2", "45.6 ± 2.5", "40.0 to 50.0", "34.5", "56.7", "50.0 to 60.0", "3", "12"],
        ["b", "1", "-", "-", "34.5", "56.7", "50.0 to 60.0", "3", "12"],
        ["x", "5", "11.0", "10.0 to 12.0", "22.0", "33.0"],
        ["y", "7", "-", "-", "44.0", "-"],
    ]


# ---- the command


@pytest.fixture(scope="module")
def masked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG masks named like the images of `folder`: the upper half for trousers, all of it for the others."""
    root = tmp_path_factory.mktemp("masks")
    for path in sorted(folder.rglob("*.png")):
        pixels = np.full((56, 56), 255, dtype=np.uint8)
        if path.parent.name == "trouser":
            pixels[28:] = 0
        target = root / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(target)
    return root


def test_attend_reports_the_attention_of_chains_and_seeds(sslcurr, folder, masked, tmp_path):
    quick = ("--dataset", str(folder), *QUICK)
    first = sslcurr.json("chain", "rotation", *quick)
    sslcurr.json("chain", "rotation", *quick, "--seed", "1")
    (run, again) = [entry["run"] for entry in sslcurr.json("runs")["runs"]]
    found = sslcurr.json(
        "attend", run, again, "--dataset", str(folder), "--masks", str(masked), "--plot", str(tmp_path / "p")
    )
    (row,) = found["chains"]
    assert row["chain"] == "rotation -> classification"
    assert row["seeds"] == [0, 1]
    assert row["stages"][0] == first["stages"][-1]["key"]
    assert found["layer"] == "layer1"
    assert row["map_size"] == [4, 4]
    by_class = row["classes"]
    assert by_class["bag"]["attention"] == pytest.approx(1.0, abs=1e-6)
    assert by_class["bag"]["coverage"] == pytest.approx(1.0)
    assert by_class["bag"]["pointing"] == 1.0
    assert by_class["trouser"]["coverage"] == pytest.approx(0.5, abs=0.01)
    assert 0.0 <= by_class["trouser"]["attention"] < 1.0
    tables = [pd.read_csv(path) for path in row["images"]]
    assert len(tables[0]) == row["num_images"] == found["num_images"]
    assert row["attention"]["mean"] == pytest.approx(np.mean([table["attention"].mean() for table in tables]), abs=1e-5)
    assert row["attention"]["std"] == pytest.approx(np.std([t["attention"].mean() for t in tables], ddof=1), abs=1e-5)
    with Image.open(row["sheet"]) as sheet:
        assert sheet.width > 300
    assert {Path(path).name for path in found["files"]} >= {"sheet.png", "attention.png", "attention.svg"}
    assert all(Path(path).is_file() for path in found["files"])
    shown = sslcurr("attend", run, "--dataset", str(folder), "--masks", str(masked), "--layer", "layer4")
    assert "Attention inside the masks: clothes, 12 test images with a mask" in shown.stdout
    assert "1 x 1 cells, which is coarse" in shown.stderr
    # What it found is kept, and what it needs is not removed.
    assert "attend rotation -> classification" in {entry["title"] for entry in sslcurr.json("runs")["runs"]}
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}


def test_every_method_target_and_layer_gives_shares(sslcurr, folder, masked):
    sslcurr.json("finetune", "--dataset", str(folder), *QUICK)
    (run,) = [entry["run"] for entry in sslcurr.json("runs")["runs"]]
    means = {}
    for options in (("--method", "gradcam++"), ("--method", "eigencam"), ("--target", "label"), ("--split", "all")):
        found = sslcurr.json(
            "attend", run, "--dataset", str(folder), "--masks", str(masked), "--layer", "layer1", *options
        )
        (row,) = found["chains"]
        assert row["map_size"] == [4, 4]
        means[options] = row["classes"]["trouser"]["attention"]
        assert 0.0 < means[options] < 1.0
    assert len(set(means.values())) == 4
    assert found["num_images"] == 63


def test_chain_and_rank_show_attention_where_masks_are_known(sslcurr, folder, masked, tmp_path):
    table = tmp_path / "labels.csv"
    rows = [
        {"path": str(path), "label": path.parent.name, "mask": str(masked / path.relative_to(folder))}
        for path in sorted(folder.rglob("*.png"))
    ]
    pd.DataFrame(rows).to_csv(table, index=False)
    quick = ("--dataset", str(table), *QUICK)
    document = sslcurr.json("chain", "rotation", *quick, "--baseline", "scratch")
    for report in (document["downstream"], document["baseline"]):
        looks = report["attention"]
        assert looks["num_images"] == report["num_images"]
        assert 0.6 < looks["coverage"] < 1.0
        assert looks["interval"][0] <= looks["mean"] <= looks["interval"][1]
    assert "attention in masks (%)" in sslcurr("chain", "rotation", *quick).stdout
    ranked = sslcurr.json("rank", "rotation", *quick, "--seeds", "1", "--length", "1")
    assert ranked["attention"]["masks"] == "those of the data set"
    assert ranked["attention"]["coverage"] == pytest.approx(document["downstream"]["attention"]["coverage"])
    # Of one seed the same stage: the same figure, however it was asked for.
    assert ranked["tasks"][0]["attention"]["mean"] == pytest.approx(document["downstream"]["attention"]["mean"])
    assert ranked["baselines"]["scratch"]["attention"]["mean"] == pytest.approx(
        document["baseline"]["attention"]["mean"]
    )
    shown = sslcurr("rank", "rotation", *quick, "--seeds", "1")
    assert "AIL" in shown.stdout
    assert "a map without preference has" in shown.stdout
    run = next(entry["run"] for entry in sslcurr.json("runs")["runs"] if entry["title"].startswith("rotation"))
    attended = sslcurr.json("attend", run, "--dataset", str(table))
    by_chain = {row["chain"]: row for row in attended["chains"]}
    assert by_chain["rotation -> classification"]["attention"]["mean"] == pytest.approx(looks_of(document))
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}
    # Without masks nothing is said of attention, and nothing else changes: masks are no part of a training.
    plain = sslcurr.json("chain", "rotation", "--dataset", str(folder), *QUICK)
    assert "attention" not in plain["downstream"]


def looks_of(document: dict) -> float:
    return document["downstream"]["attention"]["mean"]


def test_attend_shows_images_of_the_size_asked_for(sslcurr, folder, masked):
    sslcurr.json("finetune", "--dataset", str(folder), *QUICK)
    (run,) = [entry["run"] for entry in sslcurr.json("runs")["runs"]]
    arguments = ("attend", run, "--dataset", str(folder), "--masks", str(masked))
    assert sslcurr.json(*arguments, "--layer", "layer1", "--image-size", "32")["chains"][0]["map_size"] == [8, 8]
    assert sslcurr.json(*arguments, "--image-size", "32")["layer"] == "layer2"


def test_masks_do_not_change_keys(sslcurr, folder, masked):
    quick = ("--dataset", str(folder), *QUICK, "--dry-run")
    plain, with_masks = (
        sslcurr.json("chain", "rotation", *quick),
        sslcurr.json("chain", "rotation", *quick, "--masks", str(masked)),
    )
    assert plain == with_masks


def test_mistakes_of_attend_are_one_line(sslcurr, folder, masked, tmp_path):
    document = sslcurr.json("chain", "rotation", "--dataset", str(folder), *QUICK)
    pretext, fine = (stage["key"] for stage in document["stages"])
    empty = tmp_path / "empty"
    (empty / "bag").mkdir(parents=True)
    for path in (folder / "bag").glob("*.png"):
        Image.new("L", (28, 28), 0).save(empty / "bag" / path.name)
    data = ("--dataset", str(folder))
    for arguments, message in (
        ((pretext, *data), "ends with rotation, and has no classes"),
        (("nothing", *data), "no stage in"),
        ((fine, *data), "no mask is known of the test images"),
        ((fine, *data, "--masks", str(tmp_path / "nowhere")), "not there"),
        ((fine, *data, "--masks", str(empty)), "empty"),
        ((fine, *data, "--masks", str(masked), "--layer", "layer9"), "has no layer 'layer9'"),
        (
            (
                fine,
                *data,
                "--masks",
                str(masked),
                "--plot",
                str(folder / "bag" / next((folder / "bag").iterdir()).name),
            ),
            "cannot make",
        ),
    ):
        result = sslcurr("attend", *arguments)
        assert result.exit_code == 1, arguments
        assert message in result.stderr
        assert "hint: " in result.stderr
        assert len(result.stderr.strip().splitlines()) <= 3
    own = sslcurr.json("attend", fine, "--masks", str(masked))
    assert (own["dataset"], own["num_images"]) == ("clothes", 12)  # the stage's own test images
    for command in (
        ("finetune", "--probe", "knn"),
        ("chain", "rotation", "--no-finetune"),
        ("rank", "--measure", "knn"),
    ):
        refused = sslcurr(*command, *data, "--masks", str(masked))
        assert refused.exit_code == 1
        assert "--masks is for fine-tuned models" in refused.stderr
    # An empty mask is heard of before anything is trained.
    begun = sslcurr("chain", "mocov2", "--dataset", str(folder), *QUICK, "--masks", str(empty))
    assert begun.exit_code == 1
    assert not [s for s in sslcurr.json("runs", "--stages")["stages"] if s["task"] == "mocov2"]


def test_another_data_set_is_looked_at_with_a_note(sslcurr, folder, masked, tmp_path):
    sslcurr.json("finetune", "--dataset", str(folder), *QUICK)
    (run,) = [entry["run"] for entry in sslcurr.json("runs")["runs"]]
    other = tmp_path / "other"
    (other / "trouser").mkdir(parents=True)
    (other / "sandal").mkdir(parents=True)
    for name in ("trouser", "sandal"):
        for path in sorted((folder / name).iterdir())[:9]:
            with Image.open(path) as image:
                image.rotate(90).save(other / name / path.name)
    arguments = ("attend", run, "--dataset", str(other), "--masks", str(masked), "--split", "all")
    result = sslcurr(*arguments)
    assert result.exit_code == 0
    assert "was fine-tuned on clothes; these are images of other" in result.stderr
    found = sslcurr.json(*arguments)
    assert found["num_images"] == 18
    predicted = pd.read_csv(found["chains"][0]["images"][0])["prediction"]
    assert set(predicted) <= {"bag", "sandal", "trouser"}
    refused = sslcurr(*arguments, "--target", "label")
    assert refused.exit_code == 1
    assert "other classes" in refused.stderr


def test_masks_module_reads_what_the_command_is_given(folder, masked):
    found = masks.find_masks(catalog.find_source(str(folder)), masked)
    assert len(found) == 63
    assert json.dumps(sorted(found)[:1])


def test_a_fault_in_masks_that_nobody_asked_for_is_a_note(sslcurr, folder, masked, tmp_path):
    boxes = {"path": [], "label": [], "boxes": []}
    for path in sorted(folder.rglob("*.png")):
        boxes["path"].append(str(path))
        boxes["label"].append(path.parent.name)
        boxes["boxes"].append("[[400, 400, 20, 20]]")  # of an image that was larger once
    table = tmp_path / "labels.csv"
    pd.DataFrame(boxes).to_csv(table, index=False)
    result = sslcurr("finetune", "--dataset", str(table), *QUICK)
    assert result.exit_code == 0
    assert "attention is not measured: the box at 400, 400" in result.stderr
    asked = sslcurr("finetune", "--dataset", str(table), *QUICK, "--masks", str(table))
    assert asked.exit_code == 1
    assert "lies outside of its image" in asked.stderr
