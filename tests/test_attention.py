"""Attention in regions: by hand, on a network whose maps are known, against the package's own, and as a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from sslcurr.analysis import attention, overlays
from sslcurr.analysis.cam import METHODS, class_maps, enlarged, first_components
from sslcurr.analysis.regions import regions_of
from sslcurr.data import catalog, masks
from sslcurr.data.boxes import Boxes
from sslcurr.data.pack import open_pack
from sslcurr.data.views import View
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, SpecError
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


def test_summary_is_the_mean_over_images_and_seeds_with_gaps_filled_by_other_seeds():
    values = np.array([[0.2, 0.4, np.nan, np.nan], [0.4, 0.6, 0.8, np.nan]])
    found = attention.summary(values)
    means = [(0.2 + 0.4 + 0.8) / 3, (0.4 + 0.6 + 0.8) / 3]
    assert found["mean"] == pytest.approx(np.mean(means))
    assert found["std"] == pytest.approx(np.std(means, ddof=1))
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    assert attention.summary(np.full((2, 3), np.nan)) == {"mean": None, "std": None, "interval": None}
    assert attention.summary(np.full((1, 3), 0.5)) == {"mean": 0.5, "std": None, "interval": [0.5, 0.5]}


def test_interval_agrees_with_scipy_and_groups_widen_it():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).beta(2, 3, 80)
    found = attention.summary(values[None])
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found["interval"], list(theirs.confidence_interval), atol=0.006)
    # Forty images, each there twice, tell what forty tell.
    doubled, groups = np.repeat(values[:40], 2), np.repeat(np.arange(40), 2)
    once = attention.summary(values[None, :40])
    np.testing.assert_allclose(attention.summary(doubled[None], groups)["interval"], once["interval"], atol=0.01)
    narrow = attention.summary(doubled[None])["interval"]
    assert narrow[1] - narrow[0] < 0.85 * (once["interval"][1] - once["interval"][0])


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
    for method in METHODS:
        first, second = (class_maps(each, each.maps, IMAGE, method)[0] for each in (inplace, plain))
        np.testing.assert_array_equal(first, second)
        assert first.sum() > 0


def test_maps_do_not_depend_on_the_batch_and_leave_the_network_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 4)).train()
    images = torch.randn(6, 3, 9, 9)
    for method in METHODS:
        together, predicted = class_maps(network, network[2], images, method)
        alone = np.concatenate([class_maps(network, network[2], image[None], method)[0] for image in images])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
        assert predicted.shape == (6,)
    assert network.training
    assert network[1].num_batches_tracked == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    trained = class_maps(network, network[2], images, "gradcam")[0]
    np.testing.assert_allclose(class_maps(network.requires_grad_(False), network[2], images, "gradcam")[0], trained)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_are_those_of_the_package_but_for_its_stretching(method):
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


def test_eigencam_is_that_of_the_package_but_for_its_sign():
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    activations = np.random.default_rng(0).normal(size=(5, 12, 4, 6)) + np.linspace(0, 3, 6)
    ours, theirs = first_components(activations), get_2d_projection(activations)
    for a, b in zip(ours, theirs, strict=True):
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
    from sslcurr.analysis.gaze import finest_needed
    from sslcurr.backbones.build import build
    from sslcurr.engine.spec import BackboneSpec

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
    source = catalog.find(str(root))
    return source, open_pack(source, 32, tmp_path / "packs")


@pytest.mark.parametrize("shape", [(40, 80), (20, 40), (400, 800)])
def test_masks_are_cut_and_scaled_as_their_images_are(pictured, tmp_path, shape):
    from sslcurr.data.views import make_views

    _, pack = pictured
    file = tmp_path / "mask.png"
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[:, shape[1] // 2 :] = 1
    Image.fromarray(pixels).save(file)
    row = pack.names.index("wide/0.png")
    found = regions_of({"wide/0.png": file}, pack, np.arange(2), Store(tmp_path / "runs"), "test", print)
    assert found is not None
    assert found.rows.tolist() == [row]
    view = View(size=24, crop="center")
    seen = found.seen(np.array([0]), view)
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
    found = regions_of(known, pack, np.arange(2), Store(tmp_path / "runs"), "test", print)
    assert found is not None
    seen = dict(
        zip(
            [pack.names[row] for row in found.rows], found.seen(np.arange(2), View(size=20, crop="center")), strict=True
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
        found = regions_of({"tall/0.png": file}, pack, np.arange(2), store, "test", notes.append)
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
    assert regions_of({"other.png": file}, pack, np.arange(2), store, "val", notes.append) is None
    assert notes == ["none of the val images has a mask, so attention cannot be measured"]
    assert regions_of({}, pack, np.arange(2), store, "val", notes.append) is None
    assert len(notes) == 1


# ---- sheets


def test_best_median_and_worst_are_chosen_of_a_class():
    values = np.array([0.1, 0.9, np.nan, 0.5, 0.3, 0.7, 0.2])
    labels = np.array([0, 0, 0, 0, 1, 0, 0])
    assert overlays.chosen(values, labels, 0) == [1, 3, 0]  # 0.9, 0.5 of 0.9 0.7 0.5 0.2 0.1, 0.1
    assert overlays.chosen(values, labels, 1) == [4]
    assert overlays.chosen(values, labels, 2) == []


def test_attention_is_drawn_where_it_is_and_the_mask_outlined(tmp_path):
    image = np.full((64, 64, 3), 100, dtype=np.uint8)
    heat, mask = np.zeros((64, 64)), np.zeros((64, 64))
    heat[:32, :32], mask[16:48, 16:48] = 1.0, 1.0
    plain, over = overlays.pictures_of(overlays.Example(image, heat, mask, ""))
    assert plain.shape == over.shape == (overlays.CELL, overlays.CELL, 3)
    assert tuple(plain[64, 32]) == overlays.OUTLINE  # the left edge of the mask, halfway down
    assert (plain[64, 64] == 100).all()  # its inside is left as it is
    assert (over[8, 8] != 100).any()  # attention
    assert (over[120, 120] == 100).all()  # none
    overlays.draw_sheet(
        [("a" * 300, [overlays.Example(image, heat, mask, "c" * 300)] * 3), ("b", [])], "t" * 400, tmp_path / "s.png"
    )
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width < 1200
    flat, _ = overlays.pictures_of(overlays.Example(image, np.zeros((4, 4)), np.ones((4, 4)), ""))
    assert (flat == 100).all()  # a mask of everything has no outline


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
    values = np.nanmean([table["attention"] for table in tables], axis=0)
    assert row["attention"]["mean"] == pytest.approx(np.nanmean(values), abs=1e-5)
    with Image.open(row["sheet"]) as sheet:
        assert sheet.width > 300
    assert {Path(path).name for path in found["files"]} >= {"sheet.png", "attention.png", "attention.svg"}
    assert all(Path(path).is_file() for path in found["files"])
    shown = sslcurr("attend", run, "--dataset", str(folder), "--masks", str(masked), "--layer", "layer4")
    assert "Attention inside the masks of" in shown.stdout
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
    assert "attention inside masks" in sslcurr("chain", "rotation", *quick).stdout
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
    assert "which cover" in shown.stdout
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
    found = masks.find(catalog.find(str(folder)), masked)
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
