"""`sslcurr data` and training on folders and tables as people have them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import sslcurr as package
from sslcurr.errors import DataError
from tests.conftest import QUICK


def pictures(folder, *names, size=16):
    """Noise of its own in each file."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = np.random.default_rng(list(f"{folder.name}/{name}".encode()))
        Image.fromarray(seed.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return folder


def of_classes(folder, *classes, count=6):
    return pictures(folder, *(f"{label}/{k}.png" for label in classes for k in range(count)))


@pytest.fixture
def patients(tmp_path):
    """A table of 24 images of 8 patients, 4 of each class; the column has another name than `group`."""
    names = [f"{k:02d}.png" for k in range(24)]
    pictures(tmp_path / "set", *names)
    rows = [f"{name},{'ab'[k // 3 % 2]},P{k // 3}" for k, name in enumerate(names)]
    (tmp_path / "set/t.csv").write_text("\n".join(["path,label,patient_id", *rows]))
    return tmp_path / "set/t.csv"


@pytest.mark.parametrize(
    "command",
    [
        ("data", "check", "TABLE"),
        ("data", "prepare", "TABLE"),
        ("data", "sample", "TABLE", "--out", "sheet.png"),
        ("tasks", "show", "rotation", "--dataset", "TABLE"),
        ("pretrain", "rotation", "--dataset", "TABLE", "--dry-run", *QUICK),
    ],
)
def test_columns_are_asked_about_and_named_by_options(command, sslcurr, patients, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [str(patients) if word == "TABLE" else word for word in command]
    result = sslcurr(*command)
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-2:] == [
        f"error: {patients} has no column group, but patient_id, which may be one",
        "hint: give --group-column patient_id, or --group-column none if there is none",
    ]
    assert sslcurr(*command, "--group-column", "patient_id").exit_code == 0


def test_a_named_group_is_on_one_side(sslcurr, patients):
    found = sslcurr.json("data", "check", str(patients), "--group-column", "patient_id")
    assert found["groups"] == 8
    assert sum(found["parts"].values()) == 24
    assert all(number % 3 == 0 for number in found["parts"].values())  # whole patients, of three images each


def test_the_same_columns_by_any_name_are_the_same_data(sslcurr, patients):
    named = sslcurr.json("data", "prepare", str(patients), "--group-column", "patient_id", "--image-size", "16")
    plain = patients.with_name("u.csv")
    plain.write_text(patients.read_text().replace("patient_id", "group"))
    assert sslcurr.json("data", "prepare", str(plain), "--image-size", "16")["fingerprint"] == named["fingerprint"]


def test_the_library_takes_columns(patients, tmp_path):
    lab = package.Lab(tmp_path / "store", group_column="patient_id")
    assert lab.check(str(patients)).groups == 8
    assert lab.check(str(patients), group_column="none").groups is None
    with pytest.raises(DataError, match="no column patients"):
        lab.check(str(patients), group_column="patients")


def test_the_program_leaves_its_own_output_out(sslcurr, tmp_path, monkeypatch):
    of_classes(tmp_path / "set", "a", "b")
    monkeypatch.chdir(tmp_path / "set")
    sslcurr.runs = tmp_path / "set/my runs"
    assert sslcurr("data", "prepare", ".", "--image-size", "16").exit_code == 0
    sheet = ("data", "sample", ".", "--out")
    assert sslcurr(*sheet, "sheet.png").exit_code == 0
    assert sslcurr(*sheet, "a/sheet.png").exit_code == 0
    views = ("tasks", "show", "rotation", "--dataset", ".", "--image-size", "16", "--out", "b/views.png")
    assert sslcurr(*views).exit_code == 0
    training = ("pretrain", "rotation", "--dataset", ".", *QUICK, "--device", "cpu", "--plot", "figures")
    result = sslcurr(*training)
    assert result.exit_code == 0, result.stderr
    assert list((tmp_path / "set/figures").glob("*.png"))
    result = sslcurr("data", "check", ".", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["classes"] == {"a": 6, "b": 6}
    assert found["images"] == 12
    assert "my runs left out: a store of sslcurr, and no images" in found["notes"]
    own = 3 + len(list((tmp_path / "set/figures").glob("*.png")))
    assert f"{own} pictures left out that sslcurr drew, such as a/sheet.png" in found["notes"]


def test_a_class_that_training_lacks_stops_a_classifier_and_no_pretext_task(sslcurr, tmp_path):
    of_classes(tmp_path / "set/train", "cat", "dog")
    of_classes(tmp_path / "set/val", "cat", "dog", "bird", count=3)
    result = sslcurr("data", "check", str(tmp_path / "set"))
    assert result.exit_code == 1
    assert "problem: class bird has no training image: cannot be learnt" in result.stdout
    fine_tuned = sslcurr("finetune", "--dataset", str(tmp_path / "set"), *QUICK)
    assert fine_tuned.exit_code == 1
    assert fine_tuned.stderr.strip().splitlines()[-2:] == [
        "error: set: class bird has no training image: cannot be learnt, and a mean over all classes misleads",
        "hint: add training images of it or take the class out; pretext tasks go without labels",
    ]
    assert not (sslcurr.runs / "stages").exists()
    assert sslcurr("pretrain", "rotation", "--dataset", str(tmp_path / "set"), *QUICK).exit_code == 0


def test_a_class_that_the_test_lacks_is_a_problem_and_a_note(sslcurr, tmp_path):
    of_classes(tmp_path / "set/train", "cat", "dog", "bird", count=5)
    of_classes(tmp_path / "set/test", "cat", "dog", count=3)
    found = json.loads(sslcurr("data", "check", str(tmp_path / "set"), "--json").stdout)
    assert found["problems"] == 1
    result = sslcurr("pretrain", "rotation", "--dataset", str(tmp_path / "set"), *QUICK, "--dry-run")
    assert result.exit_code == 0
    assert "class bird has no test image: not measured" in result.stderr


def test_a_test_set_alone_is_checked_as_one_that_cannot_train(sslcurr, tmp_path):
    of_classes(tmp_path / "set/test", "cat", "dog", count=2)
    result = sslcurr("data", "check", str(tmp_path / "set"))
    assert result.exit_code == 1
    assert "problem: classes cat, dog have no training image" in result.stdout


def test_thumbnails_and_masks_do_not_count(sslcurr, tmp_path):
    of_classes(tmp_path / "set", "benign", "malignant")
    pictures(tmp_path / "set", *(f"benign/@eaDir/{k}.png/SYNOPHOTO_THUMB_M.png" for k in range(6)))
    pictures(tmp_path / "set", *(f"malignant/{k}_mask.png" for k in range(6)))
    found = sslcurr.json("data", "check", str(tmp_path / "set"))
    assert found["classes"] == {"benign": 6, "malignant": 6}
    assert [note.partition(" left out")[0] for note in found["notes"]] == ["6 images", "6 masks"]
