"""`sslcurr predict` and `embed`: the same images, the same numbers, whatever is given and however it is written."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sslcurr.data.pack import load_pack
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.testing.subject import dataset_for
from tests.conftest import QUICK

TINY = (*QUICK, "--set", "data.test=0.3")


@pytest.fixture
def trained(folder, sslcurr):
    """A chain of each kind of target in one store: kind -> document."""

    def chain(kind, *more):
        data = dataset_for("classification" if kind == "classes" else kind, folder)["dataset"]
        return sslcurr.json("chain", "rotation", "--dataset", data, "--target", kind, *TINY, *more)

    return chain


def key_of(document):
    return document["stages"][-1]["key"]


def rows_of(path):
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression"])
def test_the_test_images_have_the_predictions_of_the_report(kind, trained, sslcurr, tmp_path):
    chain = trained(kind)
    out = tmp_path / "out.csv"
    document = sslcurr.json("predict", key_of(chain), "--out", str(out))
    ours, theirs = rows_of(out), rows_of(chain["downstream"]["predictions"])
    names = [name for name in ours[0] if name != "reason"]
    assert [[row[name] for name in names] for row in ours] == [[row[name] for name in names] for row in theirs]
    report = {name: value for name, value in chain["downstream"].items() if name not in ("calibration", "predictions")}
    assert document["report"] == report
    assert (document["num_images"], document["num_broken"], document["num_trained"]) == (len(ours), 0, 0)


def test_files_give_the_same_bits_as_the_pack(trained, folder, sslcurr, tmp_path):
    chain = trained("classes")
    theirs = rows_of(chain["downstream"]["predictions"])
    table = tmp_path / "test.csv"
    table.write_text("path,label\n" + "".join(f"{folder}/{row['path']},{row['label']}\n" for row in theirs))
    out = tmp_path / "out.csv"
    document = sslcurr.json("predict", key_of(chain), str(table), "--out", str(out))
    for ours, row in zip(rows_of(out), theirs, strict=True):
        assert {name: ours[name] for name in row if name != "path"} == {n: v for n, v in row.items() if n != "path"}
    assert document["report"]["balanced_accuracy"] == chain["downstream"]["balanced_accuracy"]
    assert document["report"]["split"] == "given"
    # A folder has the training images, too: they are no part of the report.
    whole = sslcurr.json("predict", key_of(chain), str(folder))
    assert whole["num_images"] == 63
    assert whole["num_trained"] + whole["report"]["num_images"] == 63
    assert whole["report"]["num_images"] == len(theirs)
    allowed = sslcurr.json("predict", key_of(chain), str(folder), "--allow-overlap")
    assert (allowed["num_trained"], allowed["report"]["num_images"]) == (0, 63)


def test_every_form_of_a_file_says_the_same(trained, folder, sslcurr, tmp_path):
    key = key_of(trained("classes"))
    files = {form: tmp_path / f"out.{form}" for form in ("csv", "parquet", "json")}
    for path in files.values():
        sslcurr.json("predict", key, str(folder / "bag"), "--out", str(path))
    tables = [pd.read_csv(files["csv"], keep_default_na=False), pd.read_parquet(files["parquet"])]
    tables.append(pd.DataFrame(json.loads(files["json"].read_text())))
    for table in tables[1:]:
        assert list(table.columns) == list(tables[0].columns)
        assert table["prediction"].tolist() == tables[0]["prediction"].tolist()
        np.testing.assert_allclose(table["probability_bag"], tables[0]["probability_bag"], rtol=1e-5)
    assert tables[0][[name for name in tables[0] if name.startswith("probability")]].sum(axis=1).round(4).eq(1).all()


def test_single_files_broken_ones_and_the_likeliest_classes(trained, folder, sslcurr, tmp_path):
    key = key_of(trained("classes"))
    image = next((folder / "bag").glob("*.png"))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    colour = tmp_path / "colour.jpg"
    Image.new("RGB", (40, 30), "red").save(colour)
    given = [str(image), str(tmp_path / "broken.png"), str(colour)]
    document = sslcurr.json("predict", key, *given, "--top", "2")
    assert [each["path"] for each in document["images"]] == given
    assert [bool(each["reason"]) for each in document["images"]] == [False, True, False]
    first, broken, _ = document["images"]
    assert first["prediction"] == next(iter(first["probabilities"]))
    assert len(first["probabilities"]) == 2
    assert broken["prediction"] is None
    assert (document["num_images"], document["num_broken"]) == (3, 1)
    assert "report" not in document
    shown = sslcurr("predict", key, *given).stdout
    assert "cannot be read" in shown
    sslcurr.json("predict", key, *given, "--top", "2", "--out", str(tmp_path / "o.csv"))
    assert list(rows_of(tmp_path / "o.csv")[0]) == [
        *("path", "prediction_1", "probability_1", "prediction_2", "probability_2", "reason")
    ]


def test_models_and_mirror_images_are_averaged(trained, folder, sslcurr):
    keys = [key_of(trained("classes", "--seed", str(seed))) for seed in (0, 1, 2)]
    image = str(next((folder / "bag").glob("*.png")))

    def probabilities(*arguments):
        return sslcurr.json("predict", *arguments)["images"][0]["probabilities"]

    alone = [probabilities(key, image) for key in keys]
    for together in (
        probabilities(keys[0], image, "--ensemble", keys[1], "--ensemble", keys[2]),
        probabilities(keys[0], image, "--ensemble", "seeds"),
    ):
        for name, value in together.items():
            assert value == pytest.approx(np.mean([each[name] for each in alone]))
    mirrored = Path(image).with_name("mirrored.bmp")
    Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    try:
        expected = [alone[0], probabilities(keys[0], str(mirrored))]
    finally:
        mirrored.unlink()
    for name, value in probabilities(keys[0], image, "--flips").items():
        assert value == pytest.approx(np.mean([each[name] for each in expected]), abs=2e-3)


def test_calibrated_probabilities_are_those_at_the_temperature(trained, sslcurr):
    chain = trained("classes")
    temperature = chain["downstream"]["calibration"]["temperature"]
    plain, calibrated = (sslcurr.json("predict", key_of(chain), *more)["images"] for more in ((), ("--calibrated",)))
    for one, other in zip(plain, calibrated, strict=True):
        logits = np.log(np.array([one["probabilities"][name] for name in sorted(one["probabilities"])])) / temperature
        expected = np.exp(logits) / np.exp(logits).sum()
        found = [other["probabilities"][name] for name in sorted(other["probabilities"])]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression"])
@pytest.mark.parametrize("form", ["timm", "onnx"])
def test_exported_files_predict_the_same(form, kind, trained, folder, sslcurr, tmp_path):
    chain = trained(kind)
    suffix = {"timm": "safetensors", "onnx": "onnx"}[form]
    path = tmp_path / f"model.{suffix}"
    exported = sslcurr.json("export", key_of(chain), "--format", form, "--out", str(path))
    assert exported["target"] == kind
    images = str(folder / "sandal")
    ours, theirs = (sslcurr.json("predict", model, images)["images"] for model in (key_of(chain), str(path)))
    for one, other in zip(ours, theirs, strict=True):
        if kind == "regression":
            assert one["prediction"] == pytest.approx(other["prediction"], rel=1e-5)
        else:
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_the_example_for_onnx_gives_the_same_probabilities(trained, folder, sslcurr, tmp_path):
    from tests import REPOSITORY

    chain, path = trained("classes"), tmp_path / "model.onnx"
    sslcurr.json("export", key_of(chain), "--format", "onnx", "--out", str(path))
    page = (REPOSITORY / "docs" / "predict.md").read_text()
    example = page.partition("<!-- onnx -->")[2].partition("```python\n")[2].partition("```")[0]
    assert len(example.strip().splitlines()) <= 10
    image = next((folder / "bag").glob("*.png"))
    names = {}
    exec(example.replace("model.onnx", str(path)).replace("image.png", str(image)), names)
    expected = sslcurr.json("predict", str(path), str(image))["images"][0]["probabilities"]
    assert {name: float(p) for name, p in zip(names["classes"], names["probabilities"], strict=True)} == pytest.approx(
        expected, abs=0.01
    )


def test_memory_does_not_grow_with_the_images(trained, folder, sslcurr, tmp_path, monkeypatch):
    """Blocks are decoded one ahead of the one that is used, and dropped after it."""
    import weakref

    from sslcurr.data import stream

    key, alive, most = key_of(trained("classes")), [], 0
    monkeypatch.setattr(stream, "BLOCK", 4)
    made = stream._block

    def counted(*arguments):
        nonlocal most
        block = made(*arguments)
        alive.append(weakref.ref(block))
        most = max(most, sum(each() is not None for each in alive))
        return block

    monkeypatch.setattr(stream, "_block", counted)
    sslcurr.json("predict", key, str(folder), "--out", str(tmp_path / "out.csv"))
    assert len(alive) == 16
    assert most <= 4


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("PRETEXT",), "ends with a pretext task, and predicts nothing", "sslcurr finetune"),
        (("KEY", "--out", "out.txt"), "--out writes .csv, .parquet, .json", "ends in .csv"),
        (("KEY", "gone.png"), "unknown data set 'gone.png'", ""),
        (("KEY", "--ensemble", "seeds"), "the store has no other seed of", "--seed 1"),
        (("KEY", "NOTES"), "is no image and no table", "images: "),
    ],
)
def test_mistakes_of_predicting(arguments, message, hint, trained, sslcurr, tmp_path):
    chain = trained("classes")
    (tmp_path / "notes.txt").write_text("x")
    words = {"KEY": key_of(chain), "PRETEXT": chain["stages"][0]["key"], "NOTES": str(tmp_path / "notes.txt")}
    result = sslcurr("predict", *(words.get(each, each) for each in arguments))
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert hint in result.stderr


def test_models_of_other_classes_are_not_averaged_and_many_images_need_a_file(trained, folder, sslcurr):
    keys = [key_of(trained(kind)) for kind in ("classes", "multilabel")]
    result = sslcurr("predict", keys[0], str(folder), "--ensemble", keys[1])
    assert result.exit_code == 1
    assert "predicts labels bag, sandal, trouser" in result.stderr
    result = sslcurr("predict", keys[0], "fashion")
    assert result.exit_code == 1
    assert "give --out predictions.csv" in result.stderr


def test_labels_that_the_model_does_not_know_are_counted_and_left_out(trained, folder, sslcurr, tmp_path):
    key, other = key_of(trained("classes")), tmp_path / "others"
    for name in ("bag", "hat"):
        (other / name).mkdir(parents=True)
        for number in range(3):
            Image.effect_noise((28, 28), 40 + number).save(other / name / f"{number}.png")
    document = sslcurr.json("predict", key, str(other))
    assert document["num_unknown"] == 3
    assert document["report"]["num_images"] == 3


# ---- features


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_features_are_those_of_the_network(form, trained, folder, sslcurr, tmp_path):
    import torch

    from sslcurr import load_backbone

    chain, out = trained("classes"), tmp_path / f"features.{form}"
    given = tmp_path / "images"
    shutil.copytree(folder / "bag", given / "bag")
    shutil.copytree(folder / "sandal", given / "sandal")
    (given / "bag" / "broken.png").write_bytes(b"nothing")
    document = sslcurr.json("embed", chain["stages"][0]["key"], str(given), "--out", str(out))
    assert (document["num_images"], document["num_broken"]) == (43, 1)
    if form == "npz":
        arrays = np.load(out)
        features, paths, labels, reasons = (arrays[name] for name in ("features", "path", "label", "reason"))
    else:
        table = pd.read_parquet(out)
        features = table.filter(like="feature_").to_numpy()
        paths, labels, reasons = (table[name].to_numpy(dtype=str) for name in ("path", "label", "reason"))
    assert features.shape == (43, document["num_features"])
    assert set(labels) == {"bag", "sandal"}
    broken = paths == "bag/broken.png"
    assert np.isnan(features).all(axis=1).tolist() == broken.tolist() == [bool(reason) for reason in reasons]
    network, header = load_backbone(chain["stages"][0]["checkpoint"])
    row = int(np.flatnonzero(~broken)[0])
    image = Image.open(given / paths[row]).resize((24, 24), Image.Resampling.BILINEAR)
    image = image.resize((16, 16), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None, None]
    (mean,), (std,) = header.backbone.mean, header.backbone.std
    with torch.no_grad():
        expected = network((pixels - mean) / std)[0].numpy()
    np.testing.assert_allclose(features[row], expected, rtol=0.05, atol=0.02)


def test_any_checkpoint_can_be_embedded(folder, sslcurr, tmp_path):
    out = tmp_path / "f.npz"
    document = sslcurr.json(
        "embed", "random:test_resnet", str(folder), "--out", str(out), "--image-size", "16", "--layer", "layer2"
    )
    assert np.load(out)["features"].shape == (63, document["num_features"])
    result = sslcurr("embed", "random:test_resnet", str(folder), "--out", str(out), "--layer", "layer9")
    assert (result.exit_code, "has no layer 'layer9'" in result.stderr) == (1, True)


def test_a_file_that_cannot_be_read_has_features_that_are_no_numbers(trained, sslcurr, tmp_path):
    stage = key_of(trained("classes"))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    for name in ("features.npz", "features.parquet"):
        document = sslcurr.json("embed", stage, str(tmp_path / "broken.png"), "--out", str(tmp_path / name))
        assert (document["num_images"], document["num_broken"]) == (1, 1)
        assert document["num_features"] > 0
    with np.load(tmp_path / "features.npz") as arrays:
        features = arrays["features"]
    assert features.shape == (1, document["num_features"])
    assert np.isnan(features).all()
    table = pd.read_parquet(tmp_path / "features.parquet")
    assert table.filter(like="feature_").shape == (1, document["num_features"])
    assert table["reason"][0]


# ---- labels that are given


def test_labels_are_read_as_the_classes_of_the_model(trained, folder, sslcurr, tmp_path):
    key = key_of(trained("classes"))
    images = sorted(folder.glob("*/*.png"))[::9]
    table = tmp_path / "few.csv"
    table.write_text("\n".join(["path,label", *(f"{path},{path.parent.name}" for path in images)]))
    document = sslcurr.json("predict", key, str(table), "--allow-overlap")
    assert document["report"]["num_images"] == len(images)
    table.write_text("\n".join(["path,label", *(f"{path},{path.parent.name.upper()}" for path in images)]))
    result = sslcurr("predict", key, str(table), "--allow-overlap")
    assert "has labels that the model does not know: BAG" in result.stderr
    assert f"{len(images)} images with labels that the model does not know left out" in result.stdout
    table.write_text("\n".join(["path,label", *(f"{path},{number}.5" for number, path in enumerate(images))]))
    assert sslcurr.json("predict", key, str(table))["num_unknown"] == len(images)


def test_all_that_was_trained_on_is_left_out_and_said(trained, folder, sslcurr):
    key = key_of(trained("classes"))
    stage = Store(sslcurr.runs).find(key)
    pack = load_pack(Path(stage.spec.data.pack))
    rows = select(stage.spec.data, labelled=True, pack=pack).rows["train"]
    table = folder.parent / "train.csv"
    table.write_text("\n".join(["path,label", *(f"{folder}/{pack.names[row]},bag" for row in rows)]))
    result = sslcurr("predict", key, str(table))
    assert f"{len(rows)} labelled images that the model was trained on left out" in result.stdout
    own = sslcurr.json("predict", key, "--split", "train")
    assert (own["split"], own["report"]["split"], own["report"]["num_images"]) == ("train", "train", len(rows))


def test_of_an_exported_file_it_is_not_known_what_it_saw(trained, folder, sslcurr, tmp_path):
    key, out = key_of(trained("classes")), tmp_path / "m.safetensors"
    sslcurr.json("export", key, "--format", "timm", "--out", str(out))
    document = sslcurr.json("predict", str(out), str(folder))
    assert document["unknown"] == [f"whether {out} was trained on some of these images"]
    assert "not known: whether" in sslcurr("predict", str(out), str(folder)).stdout


def test_of_labels_that_a_table_has_not_nothing_is_known(trained, folder, sslcurr, tmp_path):
    key = key_of(trained("multilabel"))
    images = sorted(folder.glob("*/*.png"))
    rows = [f"{path},{int(path.parent.name == 'bag')}" for path in images]
    table = tmp_path / "one.csv"
    table.write_text("\n".join(["path,bag", *rows]))
    document = sslcurr.json("predict", key, str(table), "--label-column", "bag", "--allow-overlap")
    labels = document["report"]["labels"]
    assert (labels["bag"]["num_holding"], labels["bag"]["num_known"]) == (21, 63)
    assert all(each["num_known"] == 0 for name, each in labels.items() if name != "bag")
    foreign = tmp_path / "foreign.csv"
    foreign.write_text(
        "\n".join(["path,label", *(f"{path},{'x|y' if n % 2 else 'x'}" for n, path in enumerate(images))])
    )
    document = sslcurr.json("predict", key, str(foreign))
    assert (document["num_unknown"], "report" in document) == (63, False)
    some = tmp_path / "some.csv"
    some.write_text("\n".join(["path,label", f"{images[0]},", f"{images[1]},No Finding", f"{images[2]},bag|worn"]))
    out = tmp_path / "some-out.csv"
    sslcurr.json("predict", key, str(some), "--out", str(out))
    assert [row["label"] for row in rows_of(out)] == ["?", "", "bag|worn"]


def test_no_label_is_no_remark(trained, folder, sslcurr):
    key = key_of(trained("multilabel"))
    result = sslcurr("predict", key, str(folder / "bag"))
    assert "not compared" not in result.stderr
    assert "report" not in sslcurr.json("predict", key, str(folder / "bag"))


def test_rows_are_those_of_the_tables(trained, folder, sslcurr, tmp_path):
    key = key_of(trained("classes"))
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        shutil.copytree(folder / "bag", tmp_path / place / "images")
        names = sorted(path.name for path in (tmp_path / place / "images").glob("*.png"))[:3]
        names[1] = "gone.png"
        (tmp_path / place / "t.csv").write_text("\n".join(["path,label", *(f"images/{name},bag" for name in names)]))
    out = tmp_path / "out.csv"
    tables = [str(tmp_path / place / "t.csv") for place in ("one", "two")]
    document = sslcurr.json("predict", key, *tables, "--out", str(out), "--allow-overlap")
    rows = rows_of(out)
    assert (document["num_images"], document["num_broken"], document["report"]["num_images"]) == (6, 2, 4)
    assert [Path(row["path"]).is_file() for row in rows] == [True, False, True] * 2
    assert [bool(row["reason"]) for row in rows] == [False, True, False] * 2


def test_features_need_no_labels(folder, sslcurr, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,diagnosis", *(f"{path},{path.parent.name}" for path in folder.glob("*/*.png"))]))
    call = ("embed", "random:test_resnet", str(table), "--out", str(tmp_path / "f.npz"), "--image-size", "16")
    assert sslcurr.json(*call)["num_images"] == 63
    assert "features without labels: " in sslcurr(*call).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "val"), "--split val is of the images that a stage was trained on"),
        (("--target", "regression"), "predicts classes, and --target says regression"),
    ],
)
def test_what_does_not_go_together(arguments, message, trained, folder, sslcurr):
    result = sslcurr("predict", key_of(trained("classes")), str(folder), *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
