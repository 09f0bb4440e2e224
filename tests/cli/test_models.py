"""cka, fid and probe as commands: what they print, what they keep, and what they refuse."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist

from sslcurr.backbones.checkpoint import load_backbone, read_header
from sslcurr.engine.store import Store
from tests.conftest import QUICK, Command


@pytest.fixture
def network() -> str:
    """The network of the stages that are compared: the smallest, unless a test is marked `of_resnet18`."""
    return "test_resnet"


of_resnet18 = pytest.mark.parametrize("network", ["resnet18"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Callable[[str], Path]:
    """Network -> a store with rotation at two seeds, and one of them fine-tuned; each is trained once."""

    @functools.cache
    def trained(network: str) -> Path:
        command = Command(tmp_path_factory.mktemp("looking") / "runs")
        options = ("--dataset", str(folder), *QUICK, "--backbone", network)
        for seed in ("0", "1"):
            command.json("pretrain", "rotation", *options, "--seed", seed)
        command.json("chain", "rotation", *options)
        return command.runs

    return trained


@pytest.fixture
def runs(stores: Callable[[str], Path], network: str) -> Path:
    return stores(network)


@pytest.fixture
def look(runs: Path) -> Command:
    return Command(runs)


@pytest.fixture
def keys(runs: Path) -> dict[tuple[str, int], str]:
    stages = Store(runs).all()
    return {("-".join(stage.spec.tasks), stage.spec.seed): stage.key for stage in stages}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def weights_of(runs: Path, key: str) -> Path:
    return runs / "stages" / key / "backbone.safetensors"


# ---- cka


def test_cka_of_two_stages(look, keys, folder, tmp_path):
    a, b = keys["rotation", 0], keys["rotation", 1]
    arguments = ("cka", a, b, "--dataset", str(folder), "--split", "all", "--plot", str(tmp_path / "charts"))
    found = look.json(*arguments)
    (pair,) = found["pairs"]
    assert [row["layer"] for row in pair["layers"]] == ["act1", "layer1", "layer2", "layer3", "layer4", "pooled"]
    assert found["num_images"] == 63
    assert found["num_batches"] == 2
    matrix = np.array(pair["matrix"])
    np.testing.assert_allclose(np.diag(matrix), [row["cka"] for row in pair["layers"]])
    assert (np.diag(matrix) < 0.99999).all()
    table = pd.read_csv(tmp_path / "charts" / "cka.csv")
    assert len(table) == 36
    np.testing.assert_allclose(table["cka"], matrix.ravel(), atol=1e-7)
    for name in ("layers.png", "matrix.png"):
        assert min(size_of(tmp_path / "charts" / name)) > 500
    assert (tmp_path / "charts" / "layers.svg").read_text().startswith("<?xml")
    assert found["files"][0] == str(tmp_path / "charts" / "cka.csv")
    result = look(*arguments)
    assert result.exit_code == 0
    assert f"{pair['layers'][0]['cka']:.3f}" in result.stdout


def test_cka_of_a_stage_with_itself_is_one_and_of_many_all_pairs(look, keys, folder):
    key = keys["rotation", 0]
    found = look.json("cka", key, key, "random", "--dataset", str(folder), "--split", "all", "--batch-size", "8")
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [
        ("rotation (1)", "rotation (2)"),
        ("rotation (1)", "untrained test_resnet"),
        ("rotation (2)", "untrained test_resnet"),
    ]
    same, other, again = found["pairs"]
    assert [row["cka"] for row in same["layers"]] == pytest.approx([1.0] * 6, abs=1e-6)
    assert other["matrix"] == again["matrix"]
    assert other["matrix_interval"] is None  # fewer than 80 images


def test_cka_has_intervals_over_images_from_80_images_on(look, keys):
    key = keys["rotation", 0]
    ask = ("cka", key, "random", "--dataset", "fashion", "--split", "test", "--num-images", "90")
    (pair,) = look.json(*ask)["pairs"]
    low, high = pair["layers"][3]["interval"]
    assert low < pair["layers"][3]["cka"] < high
    assert "95 % intervals over images" in " ".join(look(*ask).stdout.split())


def test_cka_of_different_networks_has_no_same_layers(look, keys, folder):
    arguments = ("cka", keys["rotation", 0], "random:mobilenetv3_small_050", "--dataset", str(folder))
    found = look.json(*arguments, "--image-size", "32")
    (pair,) = found["pairs"]
    assert [row["layer"] for row in pair["layers"]] == ["pooled"]
    assert np.array(pair["matrix"], dtype=float).shape == (6, len(found["models"][1]["layers"]))
    result = look(*arguments, "--image-size", "32", "--layers", "all")
    assert "most alike" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("A",), "one checkpoint", "give another"),
        (("A", "B", "--layers", "layer5"), "no layer is named 'layer5'", "layer4"),
        (("A", "B", "--num-images", "3"), "--num-images must be at least 4", ""),
        (("A", "B", "--batch-size", "3"), "--batch-size must be at least 4", ""),
        (("A", "nothing.pth"), "there is no checkpoint at nothing.pth", "timm name"),
        (("A", "resnet1"), "'resnet1' is no file, no run or stage of", "did you mean"),
        (("A", "resnet18"), "the weights of resnet18 are not on this machine", "random:resnet18"),
        (("random", "random"), "random does not name a network", "--backbone"),
        (("A", "B", "--set", "data.test=2"), "test", ""),
    ],
)
def test_mistakes_of_cka_are_two_lines(look, keys, folder, arguments, message, hint, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    names = {"A": keys["rotation", 0], "B": keys["rotation", 1]}
    result = look("cka", *[names.get(argument, argument) for argument in arguments], "--dataset", str(folder))
    assert result.exit_code == 1
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in error
    if hint:
        assert hint in result.stderr.splitlines()[-1]


def pictures(root: Path, images: list[np.ndarray]) -> Path:
    root.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(root / f"{number}.png")
    return root


def test_three_images_one_image_many_times_and_constant_images(look, keys, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 20, 20), dtype=np.uint8)
    three = pictures(tmp_path / "three", list(noise[:3]))
    result = look("cka", keys["rotation", 0], keys["rotation", 1], "--dataset", str(three), "--split", "all")
    assert result.exit_code == 1
    assert "CKA needs 4 images, and three has 3" in result.stderr
    for name, images in (("copies", [noise[0]] * 20), ("black", [np.zeros((20, 20), np.uint8)] * 20)):
        root = pictures(tmp_path / name, images)
        found = look("cka", keys["rotation", 0], "random", "--dataset", str(root), "--split", "all", "--json")
        document = json.loads(found.stdout)
        assert all(row["cka"] is None for row in document["pairs"][0]["layers"])
        assert "the same features for all images" in found.stderr
        distances = look.json("fid", str(root), str(three), "--models", keys["rotation", 0], "--num-images", "3")
        (model,) = distances["models"]
        assert model["halves"]["fid"]["mean"] == 0
        assert model["datasets"][0]["normalised"] is None
        assert model["datasets"][0]["fid"]["mean"] > 0


def broken(path: Path, source: Path) -> Path:
    """A copy of a checkpoint with NaN in its weights."""
    weights = load_file(source)
    weights["layer2.0.conv1.weight"][0] = math.nan
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        save_file(weights, path, metadata=file.metadata())
    return path


@pytest.mark.parametrize("command", ["cka", "probe", "fid"])
def test_features_that_are_not_finite_are_an_error(look, runs, keys, folder, tmp_path, command):
    path = broken(tmp_path / "nan.safetensors", weights_of(runs, keys["rotation", 0]))
    arguments = {
        "cka": (str(path), "random", "--dataset", str(folder)),
        "probe": (str(path), "--dataset", str(folder)),
        "fid": (str(folder), "digits", "--models", str(path), "--num-images", "10"),
    }[command]
    result = look(command, *arguments)
    assert result.exit_code == 1
    assert "not finite at" in result.stderr


# ---- fid


def pooled(path: Path, images: np.ndarray) -> np.ndarray:
    network, header = load_backbone(path)
    mean, std = header.backbone.mean[0], header.backbone.std[0]
    x = torch.from_numpy(images).float()[:, None] / 255
    with torch.no_grad():
        return network((x - mean) / std).double().numpy()


def slow_distance(a: np.ndarray, b: np.ndarray) -> float:
    roots = np.sqrt(np.maximum(np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real, 0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * roots)


def test_fid_is_that_of_features_taken_by_hand(look, runs, keys, tmp_path):
    generator = np.random.default_rng(0)
    sets = {name: generator.integers(low, 255, (30, 16, 16), dtype=np.uint8) for name, low in (("a", 0), ("b", 120))}
    roots = {name: pictures(tmp_path / name, list(images)) for name, images in sets.items()}
    model = keys["rotation", 0]
    found = look.json(
        "fid", str(roots["a"]), str(roots["b"]), "--models", model, "--set", "data.pack_size=16", "--halves", "3"
    )
    assert found["num_images"] == 15
    (row,) = found["models"]
    features = {name: pooled(weights_of(runs, model), images) for name, images in sets.items()}
    # Half of the images each: by hand it is that of other halves of the same sets, so about equal; and all of b:
    assert row["datasets"][0]["fid"]["mean"] == pytest.approx(slow_distance(features["a"], features["b"]), rel=0.5)
    ratios = [a / b for a, b in zip(row["datasets"][0]["fid"]["values"], row["halves"]["fid"]["values"], strict=True)]
    assert row["datasets"][0]["normalised"]["values"] == pytest.approx(ratios)
    kept = [np.load(path) for path in (look.runs / "analyses").glob("features-*/features.npy")]
    firsts = np.sort(features["b"][:, 0])
    (stored,) = [each for each in kept if len(each) == 30 and np.allclose(np.sort(each[:, 0]), firsts, atol=1e-5)]
    apart = cdist(stored, features["b"])
    assert sorted(apart.argmin(axis=1)) == list(range(30))
    assert apart.min(axis=1).max() < 1e-4


def noise(num: int, seed: int, low: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(low, 255, (num, 16, 16), dtype=np.uint8))


def test_a_figure_depends_neither_on_the_other_data_sets_nor_on_their_order_or_names(look, keys, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    a = pictures(tmp_path / "a" / "test", noise(40, 0))
    b = pictures(tmp_path / "b" / "test", noise(12, 1, 60))
    c = pictures(tmp_path / "c" / "test", noise(30, 2, 120))

    def figures(*datasets: Path) -> dict[str, list[float]]:
        found = look.json(
            "fid", "--reference", str(a), "--datasets", *map(str, datasets), "--models", keys["rotation", 0],
            "--halves", "2", "--num-images", "10",
        )  # fmt: skip
        (model,) = found["models"]
        return {entry["dataset"]: entry["fid"]["values"] for entry in model["datasets"]}

    both, turned = figures(b, c), figures(c, b)
    assert both == turned
    assert list(both) == [str(b), str(c)]  # all are called test
    assert figures(c) == {str(c): both[str(c)]}
    # Without --num-images the smallest decides, whatever it is called and wherever it stands.
    for order in ((b, c), (c, b)):
        found = look.json("fid", str(a), *map(str, order), "--models", keys["rotation", 0], "--halves", "1")
        assert found["num_images"] == 12


def test_an_untrained_network_sees_all_data_sets_at_one_size(look, tmp_path):
    found = look.json("fid", "fashion", "digits", "--models", "random:test_efficientnet", "--num-images", "10")
    assert found["models"][0]["image_size"] == 28
    sizes = [
        json.loads((folder / "inputs.json").read_text())["image_size"]
        for folder in (look.runs / "analyses").glob("features-*/")
        if json.loads((folder / "inputs.json").read_text())["backbone"]["name"] == "test_efficientnet"
    ]
    assert sizes == [28, 28]


def test_the_distance_for_endlessly_many_images_is_near_zero_for_halves(look, keys):
    result = look(
        "fid", "fashion", "digits", "--models", "random:test_resnet", "--num-images", "600", "--extrapolate", "--json"
    )
    model = json.loads(result.stdout)["models"][0]
    halves = model["halves"]
    assert abs(halves["extrapolated"]["mean"]) < 0.3 * halves["fid"]["mean"]
    assert len(halves["extrapolated"]["values"]) == 5
    assert model["datasets"][0]["extrapolated"]["mean"] > 0.5 * model["datasets"][0]["fid"]["mean"]
    few = look("fid", "fashion", "digits", "--models", "random:test_resnet", "--num-images", "10", "--extrapolate")
    assert "may be far off" in few.stderr
    assert "FID, endless" in few.stdout


def test_a_second_fid_takes_no_forward_pass(look, keys, folder, monkeypatch):
    arguments = ("fid", str(folder), "digits", "--models", keys["rotation", 0], "random", "--num-images", "20")
    first = look.json(*arguments)
    monkeypatch.setattr("sslcurr.engine.models.Model.network", lambda self: pytest.fail("a forward pass"))
    assert look.json(*arguments) == first


def test_options_with_many_values_and_the_reference_among_the_data_sets(look, keys, folder):
    a, b = keys["rotation", 0], keys["rotation", 1]
    long = look.json(
        "fid", "--datasets", "digits", str(folder), "--models", a, b, "--reference", str(folder), "--num-images", "12"
    )
    short = look.json(
        "fid", "--num-images=12", "--reference", str(folder), "--models", a, "--models", b, "--datasets", "digits",
        "--datasets", str(folder),
    )  # fmt: skip
    assert long == short
    assert [row["model"] for row in long["models"]] == ["rotation (seed 0)", "rotation (seed 1)"]
    digits, own = long["models"][0]["datasets"]
    assert [digits["dataset"], own["dataset"]] == ["digits", "clothes"]
    assert own["normalised"]["values"] == [1.0] * 5
    assert digits["normalised"]["mean"] > 1.5


def test_accuracies_come_from_the_store_or_a_table_and_order_the_models(look, keys, folder, tmp_path):
    models = [keys["rotation", 0], keys["rotation", 1], "random"]
    arguments = ("fid", str(folder), "digits", "--models", *models, "--num-images", "12")
    from_store = look.json(*arguments)
    assert list(from_store["accuracies"]["clothes"]) == ["rotation (seed 0)"]
    assert from_store["correlations"] == []  # of one model
    titles = ["rotation (seed 0)", "rotation (seed 1)", "untrained test_resnet"]
    distances = {row["model"]: row["datasets"][0]["normalised"]["mean"] for row in from_store["models"]}
    table = tmp_path / "accuracy.csv"
    pd.DataFrame({"model": titles, "accuracy": [-distances[name] for name in titles]}).to_csv(table, index=False)
    found = look.json(*arguments, "--accuracy", str(table), "--plot", str(tmp_path / "charts"))
    (together,) = found["correlations"]
    assert together["spearman"] == pytest.approx(-1)
    assert together["kendall"] == pytest.approx(-1)
    assert len(pd.read_csv(tmp_path / "charts" / "fid.csv")) == 6
    for name in ("by-dataset.png", "by-model.png"):
        assert min(size_of(tmp_path / "charts" / name)) > 500
    for columns, message in (
        ({"model": ["elsewhere"], "accuracy": [1]}, "names a model 'elsewhere'"),
        ({"model": [titles[0]], "accuracy": ["good"]}, "the accuracy of rotation (seed 0)"),
        ({"model": [titles[0]]}, "has no column accuracy"),
        ({"model": [], "accuracy": []}, "has no rows"),
    ):
        pd.DataFrame(columns).to_csv(table, index=False)
        result = look(*arguments, "--accuracy", str(table))
        assert result.exit_code == 1
        assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no reference is named"),
        (("digits",), "nothing is named to compare with digits"),
        (("digits", "fashion", "--num-images", "9999"), "half of digits has"),
        (("digits", "fashion", "--layer", "layer9", "--models", "A"), "has no layer 'layer9'"),
        (("digits", "fashion", "--num-images", "1"), "--num-images must be at least 2"),
        (("digits", "nonsense", "--models", "A"), "unknown data set 'nonsense'"),
        (("--models", "A", "digits", "fashion"), "no reference is named"),
    ],
)
def test_mistakes_of_fid_are_two_lines(look, keys, arguments, message):
    models = () if "--models" in arguments else ("--models", "A")
    names = [keys["rotation", 0] if argument == "A" else argument for argument in (*arguments, *models)]
    result = look("fid", *names)
    assert result.exit_code == 1
    assert message in result.stderr


def test_an_option_without_its_values_is_wrong_usage(look):
    for arguments in (("--models", "--datasets", "digits"), ("fashion", "digits", "--models")):
        result = look("fid", *arguments)
        assert result.exit_code == 2
        assert "--models needs a value" in result.stderr


def test_few_images_are_warned_of(look, keys, folder):
    result = look("fid", str(folder), "digits", "--models", keys["rotation", 0], "--num-images", "10")
    assert "10 images of each side, fewer than the 96 features" in result.stderr


# ---- Inception


def test_inception_needs_its_weights_and_says_where_from(look, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = look("fid", str(folder), "digits")
    assert result.exit_code == 1
    assert "are not on this machine" in result.stderr
    assert "--inception-weights" in result.stderr
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    result = look("fid", str(folder), "digits", "--inception-weights", str(tmp_path / "weights.pth"))
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_inception_features_are_those_of_torch_fidelity(look, folder, tmp_path, monkeypatch):
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    # Its weights cannot be had here: random ones have the same keys and shapes.
    torch.manual_seed(0)
    monkeypatch.setattr(extractor, "load_state_dict_from_url", lambda *a, **k: {})
    monkeypatch.setattr(extractor.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    network = extractor.FeatureExtractorInceptionV3("x", ["2048"])
    monkeypatch.undo()
    weights = tmp_path / "weights.pth"
    torch.save(network.state_dict(), weights)
    images = np.random.default_rng(0).integers(0, 255, (6, 299, 299, 3), dtype=np.uint8)
    a, b = pictures(tmp_path / "a", list(images)), pictures(tmp_path / "b", list(images[:3] // 2))
    arguments = (
        "fid",
        str(a),
        str(b),
        "--inception-weights",
        str(weights),
        "--image-size",
        "64",  # of other models: this one sees 299
        "--halves",
        "1",
    )
    found = look.json(*arguments)
    assert found["models"][0]["num_features"] == 2048
    expected = network(torch.from_numpy(images).permute(0, 3, 1, 2))[0].numpy()
    stored = [np.load(path) for path in (look.runs / "analyses").glob("features-*/features.npy")]
    (mine,) = [each for each in stored if each.shape == (6, 2048)]
    np.testing.assert_allclose(np.sort(mine[:, :50], axis=0), np.sort(expected[:, :50], axis=0), rtol=1e-4, atol=1e-5)


# ---- probe


def test_probe_reports_what_finetune_reports(look, keys, folder):
    found = look.json("probe", keys["rotation", 0], "random", "--dataset", str(folder))
    trained, untrained = found["models"]
    assert trained["model"] == "rotation"
    assert list(trained["layers"]) == ["act1", "layer1", "layer2", "layer3", "layer4", "pooled"]
    for kind in ("knn", "linear"):
        report = look.json("finetune", keys["rotation", 0], "--dataset", str(folder), "--probe", kind)["downstream"]
        row = trained["layers"][report["layer"]][kind]
        assert row["balanced_accuracy"] == pytest.approx(report["balanced_accuracy"])
        assert row["interval"] == pytest.approx(report["interval"])
    assert 1 <= trained["layers"]["pooled"]["rankme"] <= 41
    assert untrained["layers"]["pooled"]["rankme"] != trained["layers"]["pooled"]["rankme"]
    text = look("probe", keys["rotation", 0], "random", "--dataset", str(folder)).stdout
    assert f"{trained['layers']['layer2']['logme']:.3f}" in text


def test_probe_without_labels_gives_rankme_only(look, keys, tmp_path):
    root = pictures(tmp_path / "flat", list(np.random.default_rng(0).integers(0, 255, (12, 16, 16), dtype=np.uint8)))
    result = look("probe", keys["rotation", 0], "--dataset", str(root), "--layers", "pooled", "--json")
    (row,) = json.loads(result.stdout)["models"]
    assert list(row["layers"]) == ["pooled"]
    assert row["layers"]["pooled"]["rankme"] > 1
    assert row["layers"]["pooled"]["knn"] is None
    assert "no labels" in result.stderr
    wrong = look("probe", keys["rotation", 0], "--dataset", str(root), "--layers", "layer9")
    assert wrong.exit_code == 1
    assert "no layer of test_resnet is named 'layer9'" in wrong.stderr


# ---- what is kept


def test_what_was_looked_at_is_kept_until_its_run_is_removed(look, keys, folder):
    found = look.json("cka", keys["rotation", 0], keys["rotation", 1], "--dataset", str(folder), "--seed", "7")
    assert found["pairs"]
    rows = look.json("runs")["runs"]
    assert any(row["title"].startswith("cka rotation") for row in rows)


# ---- import and export


@of_resnet18
def test_export_and_import_keep_every_output(look, runs, keys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import timm
    import torchvision

    key = keys["rotation-classification", 0]
    images = torch.randn(3, 1, 16, 16)
    network, _ = load_backbone(weights_of(runs, key))
    head = load_file(runs / "stages" / key / "head.safetensors")
    matrix, bias = (next(t for t in head.values() if t.ndim == n) for n in (2, 1))
    with torch.no_grad():
        expected = network(images) @ matrix.T + bias
    document = look.json("export", key)
    assert document["classes"] == ["bag", "sandal", "trouser"]
    theirs = timm.create_model("resnet18", num_classes=3, in_chans=1).eval()
    theirs.load_state_dict(load_file(document["file"]))
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), expected)
    document = look.json("export", key, "--format", "torchvision", "--backbone-only")
    scope: dict[str, object] = {"torch": torch, "torchvision": torchvision}
    exec("\n".join(document["how"]), scope)
    with torch.no_grad():
        torch.testing.assert_close(scope["model"].eval()(images), network(images))
    imported = look.json("import", document["file"], "--image-size", "16")
    assert (imported["backbone"], imported["channels"], imported["missing"]) == ("resnet18", 1, [])
    assert len(imported["matched"]) == len(network.state_dict())
    assert imported["dropped"] == []
    again, about = load_backbone(imported["checkpoint"])
    assert about.image_size == 16
    assert all(torch.equal(again.state_dict()[name], value) for name, value in network.state_dict().items())
    same = look.json("cka", key, imported["checkpoint"], "--dataset", str(folder), "--split", "all")
    assert [row["cka"] for row in same["pairs"][0]["layers"]] == pytest.approx([1.0] * 6, abs=1e-6)
    # The foreign file itself is taken everywhere, too: for a chain, a probe, and to look at.
    chain = look.json(
        "chain", "rotation", "--dataset", str(folder), *QUICK, "--backbone", "resnet18", "--from", document["file"],
        "--no-finetune",
    )  # fmt: skip
    assert read_header(Path(chain["stages"][0]["checkpoint"])).tasks == (Path(document["file"]).stem, "rotation")


@of_resnet18
def test_export_overwrites_neither_its_source_nor_the_store(look, runs, keys, tmp_path):
    key = keys["rotation", 0]
    before = weights_of(runs, key).read_bytes()
    result = look("export", key, "--out", str(weights_of(runs, key)))
    assert result.exit_code == 1
    assert "is the checkpoint to be exported" in result.stderr
    result = look("export", key, "--out", str(runs / "stages" / "other.safetensors"))
    assert "lies in the store" in result.stderr
    assert weights_of(runs, key).read_bytes() == before
    path = tmp_path / "own.pth"
    look.json("export", key, "--format", "torchvision", "--out", str(path))
    result = look("export", str(path), "--format", "torchvision", "--out", str(path))
    assert "is the file to be exported" in result.stderr


def test_export_to_onnx_gives_the_same_logits(look, runs, keys, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    key, path = keys["rotation-classification", 0], tmp_path / "model.onnx"
    document = look.json("export", key, "--format", "onnx", "--out", str(path))
    session = onnxruntime.InferenceSession(str(path))
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["bag", "sandal", "trouser"]
    assert json.loads(about["mean"]) == document["mean"]
    network, _ = load_backbone(weights_of(runs, key))
    head = load_file(runs / "stages" / key / "head.safetensors")
    matrix, bias = (next(t for t in head.values() if t.ndim == n) for n in (2, 1))
    for num in (1, 5):
        images = torch.randn(num, 1, 16, 16)
        with torch.no_grad():
            expected = network(images) @ matrix.T + bias
        (found,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


@of_resnet18
def test_mistakes_of_import_and_export(look, runs, keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("no weights")
    source = weights_of(runs, keys["rotation", 0])
    state = load_file(source)
    torch.save({f"net.{name}": value for name, value in state.items()}, tmp_path / "good.pth")
    torch.save({"fc.weight": torch.zeros(3, 4)}, tmp_path / "other.pth")
    torch.save({**state, "conv1.weight": torch.zeros(64, 2, 7, 7)}, tmp_path / "sobel.pth")
    torch.save({name: value for name, value in state.items() if "layer4" not in name}, tmp_path / "half.pth")
    for arguments, message in (
        (("import", "text.pth"), "text.pth"),
        (("import", "absent.pth"), "absent.pth"),
        (("import", "other.pth"), "cannot tell which backbone"),
        (("import", "other.pth", "--backbone", "resnet18"), "resnet18"),
        (("import", "sobel.pth"), "2 input channels"),
        (("import", "good.pth", "--backbone", "resnet50"), "resnet18"),
        (("import", "half.pth", "--backbone", "resnet18"), "missing"),
        (("import", "good.pth", "--out", "x.pth"), "--out writes safetensors"),
        (("export", keys["rotation", 0], "--format", "onnx", "--out", "x.pth"), "--format onnx writes .onnx"),
        (("export", "00000000"), "no stage in"),
    ):
        result = look(*arguments)
        assert result.exit_code == 1, arguments
        assert message in result.stderr, (arguments, result.stderr)
        assert len(result.stderr.splitlines()) == 2
    filled = look.json("import", "half.pth", "--backbone", "resnet18", "--allow-missing")
    assert len(filled["missing"]) > 10
    assert "matched" in look("import", "good.pth").stdout


def test_a_timm_name_takes_the_weights_that_are_on_the_machine(look, folder, tmp_path, monkeypatch):
    import timm

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    about = timm.get_pretrained_cfg("convnext_atto.d2_in1k")
    kept = tmp_path / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    torch.manual_seed(3)
    network = timm.create_model("convnext_atto")
    torch.save(network.state_dict(), kept / about.url.rpartition("/")[2])
    found = look.json("cka", "convnext_atto.d2_in1k", "random", "--dataset", str(folder), "--image-size", "32")
    assert [model["title"] for model in found["models"]] == ["convnext_atto.d2_in1k", "untrained convnext_atto"]
    imports = (look.runs / "imports").glob("*/backbone.safetensors")
    (imported,) = [path for path in imports if read_header(path).tasks == ("convnext_atto.d2_in1k",)]
    again, header = load_backbone(imported)
    assert header.image_size == about.input_size[-1]
    assert header.backbone.mean == about.mean
    with torch.no_grad():
        images = torch.randn(2, 3, 32, 32)
        expected = network.eval().forward_head(network.forward_features(images), pre_logits=True)
        torch.testing.assert_close(again(images), expected)
