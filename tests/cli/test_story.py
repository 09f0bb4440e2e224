"""The first story of a user: many scans, labels of a few, a chain, predictions of new scans, a report."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from tests.trees import write_dicom

NUM_SCANS, NUM_LABELLED = 120, 60


def scan(rng, is_ill):
    """A radiograph of 12 bits in which what is ill is a bright disc."""
    rows, columns = np.mgrid[:40, :40]
    pixels = 900 + 8 * rows + rng.normal(0, 60, (40, 40))
    if is_ill:
        row, column = rng.integers(14, 26, 2)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < 64] += 1500
    return pixels.clip(0, 4095).astype(np.uint16)


@pytest.fixture
def study(tmp_path):
    """Folders `scans` (120), `new` (9 and a broken file), and `labels.csv` with 60 of the scans, two a patient."""
    rng = np.random.default_rng(0)
    for folder, number in (("scans", NUM_SCANS), ("new", 9)):
        (tmp_path / folder).mkdir()
        for place in range(number):
            write_dicom(tmp_path / folder / f"{place:03d}.dcm", place, pixels=scan(rng, place % 3 == 0))
    whole = (tmp_path / "new" / "000.dcm").read_bytes()
    (tmp_path / "new" / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    rows = [
        f"scans/{place:03d}.dcm,{'ill' if place % 3 == 0 else 'well'},{place // 2}" for place in range(NUM_LABELLED)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    return tmp_path


def test_from_unlabelled_and_labelled_scans_to_predictions(study, sslcurr, monkeypatch):
    monkeypatch.chdir(study)
    checked = sslcurr("data", "check", "labels.csv")
    assert checked.exit_code == 0
    training = ("--backbone", "test_resnet", "--image-size", "32", "--batch-size", "16", "--epochs", "2")
    training += ("--set", "classification.epochs=30")
    result = sslcurr("chain", "rotation", "--dataset", "labels.csv", "--unlabelled", "scans", *training)
    assert result.exit_code == 0
    document = sslcurr.json("chain", "rotation", "--dataset", "labels.csv", "--unlabelled", "scans", *training)
    pretext, target = document["stages"]
    assert "pretext tasks see 60 images without labels beside the training images of" in result.stderr
    shown = sslcurr.json("runs", "show", pretext["key"])
    held = NUM_SCANS - shown["happened"]["num_images"]
    assert document["downstream"]["num_images"] < held < NUM_LABELLED / 2  # validation and test
    assert document["overlap"]["images"] == 0
    assert document["downstream"]["balanced_accuracy"] > 0.7
    predicted = sslcurr.json("predict", target["key"], "new", "--out", "predictions.csv", "--calibrated")
    assert (predicted["num_images"], predicted["num_broken"]) == (10, 1)
    rows = list(csv.DictReader((study / "predictions.csv").read_text().splitlines()))
    right = [row["prediction"] == ("ill" if number % 3 == 0 else "well") for number, row in enumerate(rows[:9])]
    assert np.mean(right) > 0.7
    assert rows[9]["prediction"] == ""
    assert rows[9]["reason"]
    page = sslcurr.json("report", "--out", "report.html")
    assert "rotation" in (study / page["page"]).read_text()
