"""CKA of models on real images: end to end against slow float64 formulas, and what the store keeps of it."""

from __future__ import annotations

import copy
import itertools
import json
import math
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from sslcurr.analysis.evaluation import similarity
from sslcurr.analysis.evaluation.similarity import (
    CkaSettings,
    Similarity,
    batch_size_for,
    compare,
    dissimilarity,
    document_of,
    flat,
)
from sslcurr.analysis.measures.cka import Estimates
from sslcurr.analysis.results.similarity.tables import csv_tables
from sslcurr.backbones.checkpoint import Header, save_weights
from sslcurr.backbones.layers import POOLED, layer_names
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.models import Model, models_from
from sslcurr.engine.plan import Planner
from sslcurr.engine.selection import select, split_rows
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, SpecError
from sslcurr.spec.request import Request
from sslcurr.spec.stage import BackboneSpec
from sslcurr.testing.subject import write_images
from tests.analysis.measures.test_cka import slow_cka, textbook
from tests.backbones.test_layers import InPlace, outputs, untamed

NAME = "test_resnet"


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory):
    """63 images at 24 px, class by class."""
    request = Request(dataset=str(folder), backbone=NAME, image_size=24)
    return Planner(request, Store(tmp_path_factory.mktemp("packs")), ["rotation"]).data


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """84 images at 24 px: enough for intervals."""
    images = write_images(tmp_path_factory.mktemp("data") / "more", 28)
    request = Request(dataset=str(images), backbone=NAME, image_size=24)
    return Planner(request, Store(tmp_path_factory.mktemp("packs")), ["rotation"]).data


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def untrained(seed=0, name=NAME, size=24, **changes):
    spec = BackboneSpec(name=name, **changes)
    return Model(f"{name} {seed}", spec, size, None, f"untrained, seed {seed}", seed=seed)


def saved(network, path, model):
    """A model with the weights of `network`."""
    save_weights(network.state_dict(), Header(backbone=model.backbone, image_size=24, tasks=("none",)), path)
    return replace(model, title=path.stem, weights=path, digest=path.stem)


def compared(models, data, store, **settings):
    return compare(models, data, CkaSettings(**{"split": "all", **settings}), store, "cpu")


def batches_of(data, count, size, seed=0, split="all"):
    """The rows of each batch, from the order that a comparison has."""
    from sslcurr.seeds import numpy_generator

    rows = split_rows(data.spec(1.0), split, data.pack)
    order = numpy_generator(seed, "cka").permutation(rows)[:count]
    return np.array_split(order, math.ceil(len(order) / size))


def views_of(model, data, rows, size=None):
    feed = Feed(select(data.spec(1.0), labelled=False, pack=data.pack), model.backbone, torch.device("cpu"))
    return feed.views(np.sort(rows), [View(size=size or model.image_size, crop="center")], torch.Generator())[0]


def features(models, data, batches, layers, pool="none", size=None):
    """A list of batches of float64 features for each layer of each model, by hooks that copy, and the layers' names."""
    kept, names = [], []
    for model in models:
        network = model.network().double()
        each = [
            outputs(network, layer_names(network, layers), views_of(model, data, rows, size).double())
            for rows in batches
        ]
        names.append(tuple(each[0]))
        for name in each[0]:
            found = [batch[name] for batch in each]
            if pool == "avg":
                found = [batch.mean(dim=(2, 3)) if batch.ndim == 4 else batch for batch in found]
            kept.append([batch.flatten(1).numpy() for batch in found])
    return kept, tuple(names)


def median_rbf(bandwidths):
    """A function that gives RBF Gram matrices; the bandwidth is that of the first batch, the others come after it."""

    def gram(values):
        products = values @ values.T
        distances = np.maximum(np.diagonal(products)[:, None] + np.diagonal(products)[None] - 2 * products, 0)
        if not bandwidths:
            above = np.sort(distances[np.triu_indices(len(values), 1)])
            bandwidths.append(above[(len(above) - 1) // 2])
        return np.exp(-distances / (2 * bandwidths[0]))

    return gram


# ---- against the textbook


@pytest.mark.parametrize(
    ("settings", "count", "size"),
    [
        ({"layers": "all"}, 63, 32),
        ({"layers": "stages", "batch_size": 10}, 63, 10),
        ({"layers": "blocks", "batch_size": 63}, 63, 63),
        ({"layers": "stages", "batch_size": 1000, "estimator": "biased"}, 63, 63),
        ({"layers": "all", "pool": "avg", "num_images": 20, "batch_size": 7, "seed": 3}, 20, 7),
        ({"layers": "layer*", "estimator": "biased", "num_images": 63, "batch_size": 16}, 63, 16),
    ],
    ids=str,
)
def test_compare_agrees_with_the_textbook_in_float64(data, store, settings, count, size):
    models = [untrained(0), untrained(1)]
    found = compared(models, data, store, **settings)
    batches = batches_of(data, count, size, settings.get("seed", 0))
    kept, names = features(models, data, batches, settings["layers"], settings.get("pool", "none"))
    assert found.layers == names
    assert (found.num_images, found.num_batches) == (count, len(batches))
    expected = slow_cka(kept, settings.get("estimator", "unbiased"))
    # Of 7 images the unbiased estimate divides by small differences of Gram matrices in float32.
    np.testing.assert_allclose(found.estimates.value, expected, atol=3e-6 if size == 7 else 1e-6)
    assert found.estimates.low is None  # fewer than 80 images


@pytest.mark.parametrize("layers", ["stages", "blocks"])
def test_rbf_agrees_with_the_textbook_in_float64(data, store, layers):
    models = [untrained(0), untrained(1)]
    found = compared(models, data, store, kernel="rbf", layers=layers, batch_size=21)
    kept, names = features(models, data, batches_of(data, 63, 21), layers)
    assert found.layers == names
    grams = []
    for batches in kept:
        gram = median_rbf([])
        grams.append([gram(batch) for batch in batches])
    total = [[sum(textbook(a, b) for a, b in zip(one, other, strict=True)) for other in grams] for one in grams]
    own = np.sqrt(np.diagonal(total))
    np.testing.assert_allclose(found.estimates.value, total / np.outer(own, own), atol=1e-5)


def test_networks_sizes_and_channels_may_differ(data, store):
    grey = {"channels": 1, "mean": (0.4,), "std": (0.2,)}
    models = [untrained(0), untrained(0, size=32), untrained(0, **grey), untrained(2, "resnet18", 16, stem="cifar")]
    models.append(untrained(0, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)))
    found = compared(models, data, store, batch_size=40)
    kept, names = features(models, data, batches_of(data, 63, 40), "stages")
    assert found.layers == names
    np.testing.assert_allclose(found.estimates.value, slow_cka(kept), atol=2e-6)


def test_the_image_size_asked_for_counts_for_all(data, store):
    models = [untrained(0), untrained(1, size=32), untrained(1, size=None)]
    settings = CkaSettings(split="all", batch_size=63)
    found = compare(models, data, settings, store, "cpu", image_size=40)
    kept, _ = features(models, data, batches_of(data, 63, 63), "stages", size=40)
    np.testing.assert_allclose(found.estimates.value, slow_cka(kept), atol=1e-6)
    np.testing.assert_allclose(found.pair(1, 2).value, found.pair(1, 1).value, atol=1e-9)
    own = compare(models[2:], data, settings, store, "cpu")
    kept, _ = features(models[2:], data, batches_of(data, 63, 63), "stages", size=24)  # that of the data
    np.testing.assert_allclose(own.estimates.value, slow_cka(kept), atol=1e-6)


def test_an_in_place_relu_and_a_module_used_twice(data, store):
    """A network like torchvision's: what the norm gave is not what the ReLU made of it."""
    torch.manual_seed(0)
    network = untamed(InPlace())
    network.feature_info = [{"module": "relu", "num_chs": 6, "reduction": 2}]
    model = untrained()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "network", lambda self: copy.deepcopy(network))
        found = compared([model], data, store, layers="*", batch_size=63)
        kept, names = features([model], data, batches_of(data, 63, 63), "*")
    assert found.layers == names == (("conv1", "bn1", "relu", "conv2", "bn2", "relu#2", "last", "pooled"),)
    np.testing.assert_allclose(found.estimates.value, slow_cka(kept), atol=1e-6)
    value = found.estimates.value
    assert value[1, 2] < 0.999
    assert value[2, 5] < 0.999
    assert value[5, 6] == pytest.approx(1)


@pytest.fixture
def in_float64():
    """Peers keep no more digits than torch's default; in float32 they lose four."""
    torch.set_default_dtype(torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_default_dtype(torch.float32)


PEERED = ["layer1", "layer2", "layer3", "layer4"]


def of_peers(models, data):
    """Networks, and the batches of a comparison."""
    images = [(views_of(models[0], data, rows).double(),) for rows in batches_of(data, 63, 21)]
    return [model.network().double() for model in models], DataLoader(images, batch_size=None)


def test_torch_cka_agrees(data, store, in_float64):
    theirs = pytest.importorskip("torch_cka")
    models = [untrained(0), untrained(1)]
    torch.set_default_dtype(torch.float32)
    found = compared(models, data, store, layers="layer?", batch_size=21).pair(0, 1).value
    networks, loader = of_peers(models, data)
    torch.set_default_dtype(torch.float64)
    peer = theirs.CKA(*networks, model1_layers=PEERED, model2_layers=PEERED, device="cpu")
    with torch.no_grad():
        peer.compare(loader)
    np.testing.assert_allclose(found, peer.export()["CKA"].numpy(), atol=1e-6)


def test_pytorch_cka_agrees(data, store, in_float64):
    theirs = pytest.importorskip("cka")
    models = [untrained(0), untrained(1)]
    torch.set_default_dtype(torch.float32)
    found = compared(models, data, store, layers="layer?", batch_size=21).pair(0, 1).value
    assert found.min() > 0  # they clip what is not
    networks, loader = of_peers(models, data)
    torch.set_default_dtype(torch.float64)
    with theirs.CKA(*networks, layers=PEERED, device="cpu") as peer:
        expected = peer._compare(loader, progress=False)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


# ---- what alike means


def test_a_model_is_like_itself_and_less_like_another(data, store):
    found = compared([untrained(0), untrained(0), untrained(1)], data, store)
    same, other = found.pair(0, 1).value, found.pair(0, 2).value
    np.testing.assert_allclose(np.diagonal(same), 1, atol=1e-9)
    np.testing.assert_allclose(same, found.pair(0, 0).value, atol=1e-9)
    assert np.diagonal(other).max() < 0.999
    assert found.undefined() == {}


def permuted(network):
    """The same with the channels of its stem in another order; what comes after the stem makes no sense."""
    made = copy.deepcopy(network)
    state = made.state_dict()
    stem = [key for key, value in state.items() if key.startswith("conv1.") and value.ndim == 4][-1]
    order = torch.randperm(len(state[stem]), generator=torch.Generator().manual_seed(0))
    for key in (stem, "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        state[key] = state[key][order]
    made.load_state_dict(state)
    return made


def test_the_order_of_channels_does_not_count(data, store, tmp_path):
    model = untrained(0)
    network = model.network()
    turned = permuted(network)
    x = views_of(model, data, np.arange(4))
    one, other = (outputs(each, ["bn1"], x)["bn1"] for each in (network, turned))
    assert not torch.allclose(one, other)
    models = [saved(network, tmp_path / "a.safetensors", model), saved(turned, tmp_path / "b.safetensors", model)]
    found = compared(models, data, store, layers="bn1")
    np.testing.assert_allclose(found.estimates.value, 1, atol=1e-6)


def test_the_order_of_models_does_not_count(more, store):
    models = [untrained(0), untrained(1), untrained(2, "resnet18", 32)]
    one, other = compared(models, more, store, batch_size=28), compared(models[::-1], more, store, batch_size=28)
    assert one.estimates.low is not None
    for a, b in itertools.product(range(3), repeat=2):
        for name in ("value", "low", "high"):
            np.testing.assert_allclose(
                getattr(one.pair(a, b), name), getattr(other.pair(2 - b, 2 - a), name).T, atol=1e-9
            )
    assert one.pair(0, 2).value.shape == (len(one.layers[0]), len(one.layers[2]))


def test_pairs_and_layers_by_hand():
    names = (("a", "b"), ("b", "c", "a"))
    value = np.arange(25.0).reshape(5, 5)
    np.fill_diagonal(value, [1, 1, np.nan, 1, np.nan])
    found = Similarity((untrained(0), untrained(1)), names, Estimates(value, value - 1, None), 9, 1, None)
    np.testing.assert_array_equal(found.pair(0, 1).value, value[:2, 2:])
    np.testing.assert_array_equal(found.pair(1, 0).low, value[2:, :2] - 1)
    assert found.pair(1, 0).high is None
    assert found.same_layers(0, 1) == [("a", 0, 2), ("b", 1, 0)]
    assert found.same_layers(1, 0) == [("b", 0, 1), ("a", 2, 0)]
    assert found.undefined() == {"test_resnet 1": ["b", "a"]}


def test_the_document_holds_all_values_and_intervals(more, store):
    settings = CkaSettings(split="all", batch_size=28, seed=3)
    found = compare([untrained(0), untrained(1), untrained(2)], more, settings, store, "cpu")
    document = document_of(found, settings, more)
    assert (document.dataset, document.num_images, document.seeds) == (more.pack.name, 84, [3])
    for (a, b), pair in zip(itertools.combinations(range(3), 2), document.pairs, strict=True):
        expected = found.pair(a, b)
        np.testing.assert_array_equal(np.array(pair.matrix), expected.value)
        np.testing.assert_array_equal(np.array(pair.matrix_interval), np.stack([expected.low, expected.high], axis=-1))
        assert [row.interval for row in pair.layers] == [pair.matrix_interval[i][i] for i in range(len(pair.layers))]
    table = next(csv_tables(document)).to_pandas()
    pairs = [found.pair(a, b) for a, b in itertools.combinations(range(3), 2)]
    for name, column in (("value", "cka"), ("low", "low"), ("high", "high")):
        np.testing.assert_array_equal(table[column], np.concatenate([getattr(pair, name).ravel() for pair in pairs]))


def test_an_interval_of_batches_without_variance_is_null_and_not_nan(data):
    value = np.array([[1.0, 0.5], [0.5, np.nan]])
    low = np.array([[1.0, np.nan], [0.4, np.nan]])
    names = (("a",), ("a",))
    found = Similarity((untrained(0), untrained(1)), names, Estimates(value, low, low + 0.2), 9, 4, None)
    (pair,) = document_of(found, CkaSettings(), data).pairs
    assert pair.matrix == [[0.5]]
    assert pair.matrix_interval == [[None]]
    assert pair.layers[0].interval is None
    json.dumps(pair.to_json(), allow_nan=False)


# ---- images


def test_num_images_are_the_same_ones_each_time_and_more_contain_fewer(data, store, tmp_path):
    few = compared([untrained(0)], data, store, num_images=12)
    again = compared([untrained(0)], data, Store(tmp_path / "other"), num_images=12)
    np.testing.assert_array_equal(few.estimates.value, again.estimates.value)
    assert few.num_images == 12
    other = compared([untrained(0)], data, store, num_images=12, seed=1)
    assert not np.allclose(few.estimates.value, other.estimates.value, atol=1e-4)


def shown(monkeypatch, work):
    """The rows of each batch that `work` makes views of."""
    seen, views = [], Feed.views
    monkeypatch.setattr(Feed, "views", lambda self, rows, *rest: seen.append(rows) or views(self, rows, *rest))
    work()
    return seen


def test_batches_are_of_all_classes_although_the_images_lie_class_by_class(data, store, monkeypatch):
    labels = data.pack.labels
    assert list(labels) == sorted(labels)
    batches = shown(monkeypatch, lambda: compared([untrained(0), untrained(1)], data, store, batch_size=16))
    assert [len(rows) for rows in batches] == [16, 16, 16, 15]  # models that want the same views share them
    assert sorted(np.concatenate(batches)) == list(range(63))
    for rows in batches:
        assert np.bincount(labels[rows], minlength=3).min() >= 2


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_only_the_split_is_shown(data, store, monkeypatch, split):
    batches = shown(monkeypatch, lambda: compared([untrained(0)], data, store, split=split))
    expected = select(data.spec(1.0), labelled=False, pack=data.pack).rows[split]
    assert sorted(np.concatenate(batches)) == sorted(expected)


@pytest.mark.parametrize("n", [5, 6, 7, 9, 63])
@pytest.mark.parametrize("batch_size", [4, 5, 6])
def test_small_batches_have_four_images_at_least(data, store, n, batch_size):
    found = compared([untrained(0)], data, store, layers="pooled", num_images=n, batch_size=batch_size)
    assert np.isfinite(found.estimates.value).all()
    assert found.num_images == n


@pytest.mark.parametrize(
    ("num_images", "expected"), [(4, 32), (63, 32), (256, 32), (257, 33), (264, 33), (2048, 256), (100_000, 256)]
)
def test_the_batch_size_that_is_taken(num_images, expected):
    assert batch_size_for(num_images) == expected


# ---- once, and no more than needed


def test_one_forward_pass_a_model_and_batch_and_none_the_second_time(data, store, monkeypatch):
    passes, network_of = [], Model.network

    def counting(self):
        network = network_of(self)

        def forward(this, x):
            passes.append((self.title, len(x)))
            return type(this).forward(this, x)

        network.forward = types.MethodType(forward, network)
        return network

    monkeypatch.setattr(Model, "network", counting)
    models = [untrained(0), untrained(1)]
    told = []
    ask = (models, data, CkaSettings(split="all", layers="all"), store, "cpu")
    first = compare(*ask, progress=lambda *at: told.append(at))
    real = [each for each in passes if each[1] != 2]  # folding is tried with two images
    assert real == [(models[0].title, 32), (models[1].title, 32), (models[0].title, 31), (models[1].title, 31)]
    assert told == [(1, 2), (2, 2)]
    passes.clear()
    monkeypatch.setattr(Model, "network", None)
    again = compare([replace(models[0], title="another name"), models[1]], *ask[1:])
    np.testing.assert_array_equal(again.estimates.value, first.estimates.value)
    assert (again.layers, again.num_batches, again.folder) == (first.layers, 2, first.folder)
    assert again.models[0].title == "another name"
    assert passes == []


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "pooled"},
        {"split": "test"},
        {"num_images": 40},
        {"estimator": "biased"},
        {"kernel": "rbf"},
        {"pool": "avg"},
        {"batch_size": 20},
        {"seed": 1},
    ],
    ids=str,
)
def test_other_settings_are_another_analysis(data, store, change):
    base = compared([untrained(0)], data, store)
    other = compared([untrained(0)], data, store, **change)
    assert base.folder != other.folder
    assert base.estimates.value.shape != other.estimates.value.shape or not np.array_equal(
        base.estimates.value, other.estimates.value
    )


def test_other_models_sizes_and_data_are_another_analysis(data, store):
    settings = CkaSettings(split="all", layers="pooled")
    folders = [
        compare([untrained(0)], data, settings, store, "cpu").folder,
        compare([untrained(1)], data, settings, store, "cpu").folder,
        compare([untrained(0, std=(0.5, 0.5, 0.5))], data, settings, store, "cpu").folder,
        compare([untrained(0)], data, settings, store, "cpu", image_size=32).folder,
        compare([untrained(0), untrained(0)], data, settings, store, "cpu").folder,
    ]
    assert len(set(folders)) == 5
    assert compare([untrained(0)], data, settings, store, "cpu", image_size=24).folder == folders[0]
    assert compared([untrained(0)], data, store, layers="pooled", batch_size=32).folder == folders[0]
    assert compared([untrained(0)], data, store, layers="pooled", num_images=63).folder == folders[0]


def test_no_gram_is_computed_twice_for_one_tensor(data, store, monkeypatch):
    calls, gram_of = [], similarity.linear_gram
    monkeypatch.setattr(similarity, "linear_gram", lambda features: calls.append(1) or gram_of(features))
    found = compared([untrained(0)], data, store, layers="blocks", batch_size=63)
    repeated = [name for name in found.layers[0] if f"{name}.0" in found.layers[0]]
    assert len(repeated) >= 3
    assert len(calls) == len(found.layers[0]) - len(repeated)


# ---- mistakes


def test_too_few_images(data, store):
    few = replace(data, split=replace(data.split, val=0.0, test=0.05))
    assert len(split_rows(few.spec(1.0), "test", data.pack)) == 3
    with pytest.raises(DataError, match="CKA needs 4 images, and clothes has 3 of test"):
        compared([untrained(0)], few, store, split="test")
    for name in ("num_images", "batch_size"):
        with pytest.raises(SpecError, match=f"--{name.replace('_', '-')}"):
            CkaSettings(**{name: 3})
        assert getattr(CkaSettings(**{name: 4}), name) == 4


def test_a_wrong_layer_is_a_mistake_and_leaves_nothing(data, store):
    with pytest.raises(SpecError, match="no layer is named 'layer9'"):
        compared([untrained(0)], data, store, layers="layer9")
    assert store.all_analyses() == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_features_that_are_not_finite_name_model_and_layer(data, store, tmp_path, kernel, wrong):
    model = untrained(0)
    network = model.network()
    with torch.no_grad():
        next(network.layer2.parameters())[0] = wrong
    bad = saved(network, tmp_path / "bad.safetensors", model)
    with pytest.raises(SpecError, match="bad gives features that are not finite at layer2"):
        compared([model, bad], data, store, kernel=kernel)
    assert store.all_analyses() == []


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_constant_layer_is_undefined_and_the_others_are_not(more, store, tmp_path, kernel):
    model = untrained(0)
    network = model.network()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.startswith("layer2") and name.endswith(".weight"):
                value.zero_()
    dead = saved(network, tmp_path / "dead.safetensors", model)
    found = compared([model, dead], more, store, kernel=kernel, batch_size=42)
    assert list(found.undefined()) == ["dead"]
    undefined = found.undefined()["dead"]
    assert undefined[0] == "layer2"
    assert "layer1" not in undefined
    pair = found.pair(0, 1)
    column = found.layers[1].index("layer2")
    assert np.isnan(pair.value[:, column]).all()
    assert np.isnan(pair.low[:, column]).all()
    alike = found.layers[0].index("layer1")
    assert pair.value[alike, alike] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_one_image_many_times_is_undefined(data, store, monkeypatch, kernel):
    views = Feed.views
    monkeypatch.setattr(Feed, "views", lambda self, rows, *rest: views(self, np.full_like(rows, 7), *rest))
    found = compared([untrained(0)], data, store, kernel=kernel, layers="all")
    assert np.isnan(found.estimates.value).all()
    assert list(found.undefined().values()) == [list(found.layers[0])]


def test_a_pattern_of_layers_that_are_never_called_is_a_mistake(data, store):
    torch.manual_seed(0)
    network = untamed(InPlace())
    network.feature_info = [{"module": "relu", "num_chs": 6, "reduction": 2}]
    network.spare = nn.Linear(3, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "network", lambda self: copy.deepcopy(network))
        with pytest.raises(SpecError, match="spare"):
            compared([untrained(0)], data, store, layers="spare")


# ---- pieces


def test_flat_rows_are_the_same_features_in_any_memory_format():
    maps = torch.randn(5, 3, 4, 6)
    for made in (maps, maps.to(memory_format=torch.channels_last), maps.permute(0, 1, 3, 2), maps[:, :, ::2]):
        rows = flat(made, "none")
        assert rows.shape == (5, made[0].numel())
        torch.testing.assert_close(rows @ rows.T, made.flatten(1) @ made.flatten(1).T)
        torch.testing.assert_close(flat(made, "avg"), made.mean(dim=(2, 3)))
    assert flat(maps.to(memory_format=torch.channels_last), "none").data_ptr() != 0
    rows = torch.randn(5, 7)
    for pool in ("none", "avg"):
        assert torch.equal(flat(rows, pool), rows)
    assert flat(torch.randn(5, 2, 3), "avg").shape == (5, 6)


def test_flat_copies_no_channels_last_map():
    maps = torch.randn(5, 3, 4, 6).to(memory_format=torch.channels_last)
    assert flat(maps, "none").data_ptr() == maps.data_ptr()


# ---- dissimilarity


def test_dissimilarity_of_stages_is_one_minus_the_mean_over_layers(sslcurr, folder):
    tiny = ("--dataset", str(folder), "--backbone", NAME, "--image-size", "24", "--epochs", "1", "--batch-size", "16")
    store = Store(sslcurr.runs)
    keys = [sslcurr.json("pretrain", "rotation", *tiny, "--seed", seed)["stages"][0]["key"] for seed in ("0", "1")]
    stages = [store.resolve(key) for key in keys]
    request = Request(dataset=str(folder), backbone=NAME, image_size=24)
    data = Planner(replace(request, settings=("data.val=0.3",)), store, ["rotation"]).data
    between = dissimilarity(data, store, "cpu")
    assert between(stages[0], stages[0]) == pytest.approx(0, abs=1e-9)
    models = models_from(keys, store)
    num = len(split_rows(data.spec(1.0), "val", data.pack))
    kept, names = features(models, data, batches_of(data, num, 32, split="val"), "stages", "avg")
    value = slow_cka(kept)
    width = len(names[0])
    expected = 1 - np.mean([value[i, width + i] for i in range(width)])
    assert 0 < between(*stages) == pytest.approx(expected, abs=1e-5)
    assert between(*stages[::-1]) == pytest.approx(between(*stages), abs=1e-9)
    assert POOLED in names[0]


def test_more_images_than_there_are_is_a_mistake(data, store):
    with pytest.raises(DataError, match="63 images of all, fewer than --num-images 64"):
        compared([untrained(0), untrained(1)], data, store, num_images=64)


@pytest.mark.parametrize("setting", [{"kernel": "cosine"}, {"pool": "max"}, {"estimator": "exact"}])
def test_unknown_settings_are_mistakes(setting):
    with pytest.raises(SpecError, match="unknown"):
        CkaSettings(**setting)
