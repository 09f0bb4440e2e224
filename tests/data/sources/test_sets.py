"""The named data sets, on tiny copies of their published trees; what is found there is written down by hand."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslcurr.data.sources.boxes import Boxes
from sslcurr.data.sources.catalog import CATALOG, FRAMES, entry_of, find_source
from sslcurr.data.sources.sets.entry import Entry, Needed, locate
from sslcurr.errors import DataError
from tests import SHARED_DATA, trees
from tests.trees import TREES, image_name, study_name, write, write_dicom

SHARED = SHARED_DATA
PACKAGED = ("fashion", "digits", "elpv")

every_tree = pytest.mark.parametrize("name", TREES)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Whatever asks for the network fails."""

    def refused(*args, **kwargs):
        raise AssertionError(f"asked for the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("urllib.request.urlopen", refused)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", refused)
    for module in ("cifar", "voc", "places365"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", refused)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """`built(name)`: a data root with the tree of one data set; not to be changed."""
    made: dict[object, Path] = {}

    def build(name: str) -> Path:
        tree = TREES[name]
        if tree not in made:
            made[tree] = tmp_path_factory.mktemp(name)
            tree(made[tree] / CATALOG[name].folders[0] if CATALOG[name].folders else made[tree] / name)
        return made[tree]

    return build


@pytest.fixture
def found(built, monkeypatch):
    """`found(name)`: the source of the tiny tree of that name."""

    def look(name: str):
        root = built(name)
        trees.trust(monkeypatch, root / name)
        return find_source(name, root)

    return look


def by_name(source, column):
    return dict(zip([Path(name).name for name in source.names], column, strict=True))


# ---- all of them


@pytest.mark.parametrize("name", CATALOG)
def test_conformance(name, found, tmp_path):
    source = found(name) if name in TREES else find_source(name, tmp_path)
    again = found(name) if name in TREES else find_source(name, tmp_path)
    entry = CATALOG[name]
    assert source.name == name
    assert source.names
    assert len(set(source.names)) == len(source.names) == len(source.labels)
    assert not any(name.startswith("/") or "\\" in name or ".." in name.split("/") for name in source.names)
    if source.arrays is None:
        assert source.root.is_absolute()
        assert all((source.root / name).is_file() for name in source.names)
        assert source.place(0) == (source.root / source.names[0], None)
    else:
        assert source.root is None
        assert len(source.arrays) == len(source.names)
        assert source.arrays.dtype == np.uint8
    if source.target == "classes":
        assert set(source.labels) <= {*source.classes, None}
    else:
        assert {part for label in source.labels if label for part in label.split("|")} <= set(source.classes)
    assert len(set(source.classes)) == len(source.classes)
    for column in (source.groups, source.splits):
        assert column is None or (len(column) == len(source.names) and any(column))
    assert set(source.splits or ()) <= {"", "train", "val", "test"}
    assert source.image_size == entry.image_size
    assert not {fault.name for fault in source.faults} & set(source.names)
    assert len(set(source.faults)) == len(source.faults)
    assert not any("\n" in note for note in source.notes)
    for field in fields(source):
        if field.name == "arrays":
            assert source.arrays is None or np.array_equal(source.arrays, again.arrays)
        else:
            assert getattr(source, field.name) == getattr(again, field.name), field.name


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_sets_are_whole(name):
    source, entry = find_source(name), CATALOG[name]
    assert len(source.names) == entry.num_images
    assert len(source.classes) == entry.num_classes
    assert None not in source.labels
    assert (source.groups, source.faults, source.notes) == (None, (), ())


def test_digits():
    source = find_source("digits")
    assert source.names[1796] == "1796"
    assert source.labels[:12] == [*"012345678901"]
    assert source.classes == tuple("0123456789")
    assert source.arrays.shape == (1797, 8, 8)
    # scikit-learn's first row is 0 0 5 13 9 1 0 0 of 16.
    assert source.arrays[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert source.arrays.max() == 255
    assert source.splits is None


def test_elpv():
    source = find_source("elpv")
    assert source.names[0] == "images/cell0001.png"
    assert source.classes == ("functional", "defective")
    # Of the probabilities 0, 1/3, 2/3 and 1 there are 1508, 295, 106 and 715.
    assert Counter(source.labels) == {"functional": 1508 + 295, "defective": 106 + 715}
    assert source.labels[:2] == ["defective", "defective"]
    assert source.splits is None


@pytest.mark.parametrize("name", CATALOG)
def test_entries_are_filled_in(name):
    entry = CATALOG[name]
    facts = ("title", "modality", "num_images", "target", "group", "split", "licence", "citation", "page", "image_size")
    assert all(getattr(entry, fact) for fact in (*facts, "augmentations", "normalisation", "loader"))
    assert bool(entry.tree) == bool(entry.needs) == (not entry.package) == (name not in PACKAGED)
    assert "https://" in entry.citation
    assert "http" in entry.page or name in PACKAGED
    for needed in entry.needs:
        assert needed.fetch
        # What stands before a wildcard is in the tree, for one of the paths.
        assert any(path.partition("*")[0] in entry.tree for path in needed.paths), needed
    assert "\n\n" not in entry.tree
    assert entry.num_classes >= 2 or "none" in entry.target


@every_tree
def test_trees_have_what_entries_need(name, built):
    home = built(name) / (CATALOG[name].folders or (name,))[0]
    assert all(needed.is_in(home) for needed in CATALOG[name].needs)


def test_entry_of_an_unknown_name():
    assert entry_of("coco") is CATALOG["coco"]
    with pytest.raises(DataError, match="unknown data set 'isic2018'") as caught:
        entry_of("isic2018")
    assert "did you mean isic20" in caught.value.hint


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    # Files with other sums are refused, not fetched again: the fixture fails every download.
    for name in ("cifar10", "places365"):
        TREES[name](tmp_path / name)
        with pytest.raises(DataError, match=f"torchvision cannot use the files of {name} in .*corrupted") as caught:
            find_source(name, tmp_path)
        assert caught.value.hint
    for name in CATALOG:
        if CATALOG[name].needs:
            with pytest.raises(DataError):
                find_source(name, tmp_path / "nothing")


def test_downloaders_ask_torchvision(tmp_path, monkeypatch):
    asked = []

    def note(url, *args, **kwargs):
        asked.append(url.split("/")[2])
        raise InterruptedError

    for module in ("cifar", "voc", "places365"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", note)
    downloaders = {name: entry.downloader for name, entry in CATALOG.items() if entry.downloader}
    assert list(downloaders) == ["cifar10", "voc2007", "places365"]
    for download in downloaders.values():
        with pytest.raises(InterruptedError):
            download(tmp_path)
    assert asked[0] == "www.cs.toronto.edu"
    assert asked[2] == "data.csail.mit.edu"
    assert len(asked) == 3


# ---- where they are looked for


NEEDY = Entry(
    **{
        **{field.name: getattr(CATALOG["coco"], field.name) for field in fields(Entry)},
        "needs": (Needed(("images", "images_*/"), "the images"), Needed(("a.csv", "b.csv"), "the table")),
        "folders": ("needy", "needy-v2"),
    }
)


@pytest.mark.parametrize("folder", [".", "needy", "needy-v2"])
@pytest.mark.parametrize("files", [("images/x.png", "a.csv"), ("images_01/x.png", "b.csv")])
def test_located(folder, files, tmp_path, monkeypatch):
    for file in files:
        write(tmp_path / folder / file)
    home = (tmp_path / folder).resolve()
    assert locate("needy", NEEDY, tmp_path) == home
    monkeypatch.chdir(tmp_path)
    assert locate("needy", NEEDY, None) == locate("needy", NEEDY, Path(".")) == home
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert locate("needy", NEEDY, Path("~") / tmp_path.name) == home


def test_the_first_whole_folder_is_taken(tmp_path):
    for folder in ("needy-v2", "."):
        write(tmp_path / folder / "images/x.png")
        write(tmp_path / folder / "a.csv")
    write(tmp_path / "needy/a.csv")
    assert locate("needy", NEEDY, tmp_path) == tmp_path / "needy-v2"


def test_incomplete(tmp_path):
    write(tmp_path / "needy-v2/images_01.tar.gz")  # not unpacked
    write(tmp_path / "needy-v2/b.csv")
    with pytest.raises(DataError) as caught:
        locate("needy", NEEDY, tmp_path)
    assert str(caught.value) == f"needy is not complete in {tmp_path / 'needy-v2'}: no images"
    assert f"sslcurr data show needy --data-root {tmp_path}" in caught.value.hint


def test_nowhere(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        locate("needy", NEEDY, tmp_path)
    assert str(caught.value) == f"the files of needy are not in {tmp_path}"
    assert "sslcurr data show needy" in caught.value.hint
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        locate("needy", NEEDY, None)
    assert str(caught.value) == f"the files of needy are not in {tmp_path} (give --data-root)"


def test_sets_of_packages_need_no_folder(tmp_path):
    assert locate("digits", CATALOG["digits"], tmp_path / "nothing") is None


def test_a_name_of_the_catalog_wins_over_a_folder(built, monkeypatch):
    monkeypatch.chdir(built("imagenet"))
    assert find_source("imagenet").image_size == 224
    assert find_source("./imagenet").image_size is None


# ---- skin lesions


def test_isic2019(found, built):
    source = found("isic2019")
    assert source.root == built("isic2019") / "isic2019"
    assert source.classes == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    plain = [f"ISIC_{100 * code + j:07d}" + "_downsampled" * (j == 3) for code in range(8) for j in range(7)]
    folder = "ISIC_2019_Training_Input/ISIC_2019_Training_Input"
    assert source.names == [f"{folder}/{image}.jpg" for image in [*plain, "ISIC_0009003", "ISIC_0009004"]]
    assert source.labels == [c for c in source.classes for _ in range(7)] + [None, None]
    groups = [f"BCN_{c:04d}{n}" for c in range(8) for n in ("000", "001", "002", "003", "", "005", "005")]
    groups = [group if len(group) > 8 else "" for group in groups]
    assert source.groups == [*groups, "MSK4_0009003", "MSK4_0009004"]
    assert source.splits is None
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        ("ISIC_0009002", "is marked as MEL and NV"),
        ("ISIC_0009001", "is listed twice in ISIC_2019_Training_GroundTruth.csv, and differently"),
        ("ISIC_0009005", "is not there"),
    ]
    assert source.notes == (
        "1 image not in ISIC_2019_Training_Metadata.csv: each a group of its own",
        "1 row of ISIC_2019_Training_GroundTruth.csv repeated: counted once",
        "1 image left out: ISIC_2019_Training_GroundTruth.csv does not list them",
        "2 images without a label: used for pretraining only",
    )


def test_isic2019_with_other_numbers_and_without_unknowns(tmp_path):
    trees.isic2019(tmp_path)
    table = tmp_path / "ISIC_2019_Training_GroundTruth.csv"
    rows = ["image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC", "ISIC_0000000,0.7,0,0,0,0,0,0,0", "ISIC_0000001,1,,0,0,0,0,0,False"]
    write(table, *rows)
    source = find_source("isic2019", tmp_path)
    assert [fault.reason for fault in source.faults] == ["has '0.7' under MEL, neither 0 nor 1"]
    assert source.labels == ["MEL"]
    write(table, *rows[:2])
    with pytest.raises(DataError, match=r"lists no image that can be used: ISIC_0000000 has '0\.7' under MEL"):
        find_source("isic2019", tmp_path)
    write(table, "image,MEL,NV", "ISIC_0000000,1,0")
    with pytest.raises(DataError, match="has no column BCC"):
        find_source("isic2019", tmp_path)
    write(table, rows[0], ",1,0,0,0,0,0,0,0")
    with pytest.raises(DataError, match="has nothing under image in row 1"):
        find_source("isic2019", tmp_path)
    write(table, rows[0])
    with pytest.raises(DataError, match=r"lists no image that can be used$"):
        find_source("isic2019", tmp_path)


def test_a_tree_without_its_images(tmp_path):
    trees.isic2019(tmp_path)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"ISIC_0009002 is marked as MEL and NV, and 60 more") as caught:
        find_source("isic2019", tmp_path)
    assert "sslcurr data show isic2019" in caught.value.hint


ISIC2020_PLAIN = [f"ISIC_{10 * p + j:07d}" for p in range(7) for j in range(2)] + [
    f"ISIC_{10 * p:07d}" for p in range(7, 13)
]


def test_isic2020(found):
    source = found("isic2020")
    assert source.classes == ("benign", "malignant")
    # 9005 and 9006 are copies of 40, which comes first.
    listed = [*ISIC2020_PLAIN, "ISIC_0009002"]
    assert source.names == [f"ISIC_2020_Training_JPEG/train/{image}.jpg" for image in listed]
    assert source.labels == ["benign"] * 14 + ["malignant"] * 6 + ["benign"]
    assert source.groups == [f"IP_{p // 2:07d}" for p in range(14)] + [f"IP_{p:07d}" for p in range(7, 13)] + [""]
    assert source.splits is None
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        ("ISIC_0009003", "has 'indeterminate' under benign_malignant"),
        ("ISIC_0009001", "is listed twice in ISIC_2020_Training_GroundTruth_v2.csv, and differently"),
        ("ISIC_0009004", "is not there"),
    ]
    assert source.notes == (
        "1 row of ISIC_2020_Training_GroundTruth_v2.csv repeated: counted once",
        "2 images left out: listed as duplicates",
        "1 image left out: ISIC_2020_Training_GroundTruth_v2.csv does not list them",
    )


def test_isic2020_of_kaggle(tmp_path):
    trees.isic2020(tmp_path / "isic2020", kaggle=True)
    source = find_source("isic2020", tmp_path)
    # The DICOM files in train are the same images.
    listed = [*ISIC2020_PLAIN, "ISIC_0009002", "ISIC_0009005", "ISIC_0009006"]
    assert source.names == [f"jpeg/train/{image}.jpg" for image in listed]
    assert source.groups[-3:] == ["", "IP_0000004", "IP_0000004"]
    assert source.notes[0] == "1 row of train.csv repeated: counted once"
    # Without the JPEGs, the DICOM files do.
    shutil.rmtree(tmp_path / "isic2020/jpeg")
    assert find_source("isic2020", tmp_path).names == [f"train/{image}.dcm" for image in ISIC2020_PLAIN[:3]]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["first,second", "ISIC_0000000,ISIC_0000001"], {"ISIC_0000001"}),
        (["first,second", "ISIC_0000001,ISIC_0000000"], {"ISIC_0000001"}),
        (["a,b", "ISIC_0000001,ISIC_0000010", "ISIC_0000010,ISIC_0000000"], {"ISIC_0000001", "ISIC_0000010"}),
        (["a,b,c", "x/ISIC_0000000.jpg, ISIC_0000001.jpg ,ISIC_0000010.png"], {"ISIC_0000001", "ISIC_0000010"}),
        (["a,b", "ISIC_0000000,ISIC_0000000", "ISIC_0000000,other", ",", "ISIC_0000000"], set()),
        (["a,b"], set()),
        ([], set()),
    ],
)
@pytest.mark.parametrize("table", ["duplicates.csv", "ISIC_2020_Training_Duplicates.csv"])
def test_duplicates(table, lines, left, tmp_path):
    trees.isic2020(tmp_path, kaggle=True)
    before = set(find_source("isic2020", tmp_path).names)
    write(tmp_path / table, *lines, end="\r\n", bom=True)
    source = find_source("isic2020", tmp_path)
    assert before - set(source.names) == {f"jpeg/train/{image}.jpg" for image in left}
    assert any("listed as duplicates" in note for note in source.notes) == bool(left)


def test_a_copy_stays_where_the_first_is_missing(tmp_path):
    trees.isic2020(tmp_path, kaggle=True)
    write(tmp_path / "duplicates.csv", "a,b", "ISIC_0000000,ISIC_0000001")
    (tmp_path / "jpeg/train/ISIC_0000000.jpg").unlink()
    source = find_source("isic2020", tmp_path)
    assert "jpeg/train/ISIC_0000001.jpg" in source.names
    assert "ISIC_0000000" in {fault.name for fault in source.faults}


def test_an_image_of_two_lesions_is_a_fault(tmp_path):
    trees.isic2019(tmp_path)
    with (tmp_path / "ISIC_2019_Training_Metadata.csv").open("a") as file:
        file.write("ISIC_0000000,55.0,,BCN_other,female\r\n")
    faults = {fault.name: fault.reason for fault in find_source("isic2019", tmp_path).faults}
    assert faults["ISIC_0000000"] == "is listed twice in ISIC_2019_Training_Metadata.csv, and differently"


def test_a_list_of_duplicates_that_cannot_be_read(tmp_path):
    trees.isic2020(tmp_path)
    (tmp_path / "duplicates.csv").write_bytes(b"a,b\n\xff\xfe,\xe9\n")
    with pytest.raises(DataError, match=r"duplicates\.csv cannot be read as CSV"):
        find_source("isic2020", tmp_path)


# ---- chest X-rays

COVID_CLASSES = ("negative", "typical", "indeterminate", "atypical")


@pytest.mark.parametrize("name", ["covid", "covid-4"])
def test_covid(name, found, built):
    source = found(name)
    four = name == "covid-4"
    assert source.classes == (COVID_CLASSES if four else ("negative", "pneumonia"))
    expected: list[tuple[int, int, str | None]] = [
        (10 * code + j, 10 * code + j, label) for code, label in enumerate(COVID_CLASSES) for j in range(6)
    ]
    expected += [
        (50, 50, "typical"),
        (51, 50, None),  # not marked, while others of the study are
        (52, 50, "typical"),
        (60, 60, "typical"),
        (61, 60, "typical"),
        (70, 70, "negative"),
        (71, 70, "negative"),
        (80, 80, None),
        (90, 90, None),
        (110, 110, "typical"),
    ]
    assert [Path(n).stem for n in source.names] == [image_name(image) for image, _, _ in expected]
    assert {n.split("/")[0] for n in source.names} == {"train"}
    assert {Path(n).suffix for n in source.names} == {".dcm"}
    labels = [label for _, _, label in expected]
    assert source.labels == (labels if four else [n if n in (None, "negative") else "pneumonia" for n in labels])
    assert source.groups == [study_name(study) for _, study, _ in expected]
    assert [n.split("/")[1] for n in source.names] == source.groups
    assert source.splits is None
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        (image_name(100), "belongs to a study that is marked as Negative for Pneumonia and Indeterminate Appearance"),
        (image_name(120), "belongs to a study that is listed twice in train_study_level.csv, and differently"),
        (image_name(130), "is not there"),
    ]
    assert source.notes == (
        "2 images of studies without a label in train_study_level.csv",
        "1 image without a box in positive studies where another image has one",
        "1 row of train_image_level.csv repeated: counted once",
        "1 image left out: train_image_level.csv does not list them",
        "3 images without a label: used for pretraining only",
    )
    marked = [i for i, _, _ in expected if i in (50, 52, 110) or (10 <= i < 40)]
    assert {Path(n).stem: mask for n, mask in source.masks.items()} == {
        image_name(i): Boxes(trees.image_boxes(i)) for i in marked
    }
    assert set(source.masks) <= set(source.names)
    assert [len(trees.image_boxes(i)) for i in (10, 11)] == [1, 2]


def test_covid_with_boxes_in_labels_only(found, tmp_path):
    trees.covid(tmp_path, suffix=".png")
    table = tmp_path / "train_image_level.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = [[row["id"], row["label"], row["StudyInstanceUID"]] for row in csv.DictReader(file)]
    write(table, "id,label,StudyInstanceUID", *(",".join(row) for row in rows))
    masks = {Path(n).stem: mask for n, mask in find_source("covid", tmp_path).masks.items()}
    wanted = {Path(n).stem: mask for n, mask in found("covid").masks.items()}
    assert list(masks) == list(wanted)
    for key, mask in masks.items():
        np.testing.assert_allclose(mask.boxes, wanted[key].boxes)
    # Boxes of rows that differ in nothing else add up; a row met again says nothing new.
    key, _, study = rows[6]
    write(table, "id,label,StudyInstanceUID", *(f"{key},opacity 1 {x} 2 9 9,{study}" for x in (1, 1, 0)))
    assert list(find_source("covid", tmp_path).masks.values()) == [Boxes(((1, 2, 8, 7), (0, 2, 9, 7)))]
    items = [f"\"[{{'x': {x}, 'y': 2, 'width': 3, 'height': 4}}]\"" for x in (1, 1, 0)]
    write(table, "id,boxes,label,StudyInstanceUID", *(f"{key},{item},opacity 1 1 2 4 6,{study}" for item in items))
    source = find_source("covid", tmp_path)
    assert list(source.masks.values()) == [Boxes(((1, 2, 3, 4), (0, 2, 3, 4)))]
    assert source.faults == ()
    write(table, "id,boxes,label,StudyInstanceUID", f"{key},nonsense,opacity 1 1 2 4 6,{study}")
    with pytest.raises(DataError, match=f"the boxes of {image_name(10)} in .*train_image_level.csv cannot be read"):
        find_source("covid", tmp_path)


def test_covid_as_png_and_with_copies(tmp_path):
    trees.covid(tmp_path / "siim-covid19-detection", suffix=".png")
    source = find_source("covid", tmp_path)
    assert source.names[0] == f"train/{image_name(0)}.png"
    assert len(source.names) == 34
    write(tmp_path / "siim-covid19-detection/duplicates.csv", "a,b", f"{image_name(1)},{image_name(0)}.dcm")
    copied = find_source("covid", tmp_path)
    assert copied.names == [name for name in source.names if image_name(1) not in name]
    assert "1 image left out: listed as duplicates" in copied.notes


def test_an_image_of_two_studies(tmp_path):
    trees.covid(tmp_path, suffix=".png")
    table = tmp_path / "train_image_level.csv"
    with table.open("a", encoding="utf-8") as file:
        file.write(trees.image_row(0, 1, box=False) + "\n")
    faults = {fault.name: fault.reason for fault in find_source("covid", tmp_path).faults}
    assert faults[image_name(0)] == "is listed twice in train_image_level.csv, and differently"


CHEST_PLAIN = [(patient, visit) for patient in range(1, 17) for visit in range(2)] + [(20, 2)]


@pytest.mark.parametrize("options", [{}, {"v2020": True, "one_folder": True}], ids=["2017", "2020"])
def test_chestxray14(options, tmp_path):
    trees.chestxray14(tmp_path / "chestxray14", **options)
    source = find_source("chestxray14", tmp_path)
    table = "Data_Entry_2017_v2020.csv" if options else "Data_Entry_2017.csv"
    assert source.classes == ("no finding", "finding")
    assert [Path(name).name for name in source.names] == [f"{p:08d}_{v:03d}.png" for p, v in CHEST_PLAIN]
    folders = ["images" if options else f"images_{1 + (p > 8):03d}/images" for p, _ in CHEST_PLAIN]
    assert [str(Path(name).parent) for name in source.names] == folders
    assert source.labels == [("finding", "no finding")[p % 2] for p, _ in CHEST_PLAIN[:-1]] + [None]
    assert source.groups == [str(p) for p, _ in CHEST_PLAIN]
    assert source.splits == ["test" if p in (5, 6, 11, 12) else "" for p, _ in CHEST_PLAIN]
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        ("00000020_004", "is in both train_val_list.txt and test_list.txt"),
        ("00000020_001", "has No Finding beside Mass"),
        ("00000020_000", f"is listed twice in {table}, and differently"),
        ("00000020_003", "is not there"),
    ]
    assert source.notes == (
        f"1 row of {table} repeated: counted once",
        f"1 image left out: {table} does not list them",
        "1 image without a label: used for pretraining only",
    )


def test_chestxray14_by_its_findings(tmp_path):
    trees.chestxray14(tmp_path / "chestxray14")
    source, plain = (find_source(name, tmp_path) for name in ("chestxray14-findings", "chestxray14"))
    assert (source.target, source.names, source.splits) == ("multilabel", plain.names, plain.splits)
    expected = ["" if p % 2 else "Cardiomegaly|Emphysema" if visit else "Hernia" for p, visit in CHEST_PLAIN[:-1]]
    assert source.labels == [*expected, None]
    assert len(source.classes) == 14
    assert {fault.name for fault in source.faults} == {fault.name for fault in plain.faults}


def test_chestxray14_needs_its_lists(tmp_path):
    trees.chestxray14(tmp_path, lists=False)
    with pytest.raises(DataError, match=r"no test_list\.txt"):
        find_source("chestxray14", tmp_path)
    # A list that was opened and saved again has a mark before its first name.
    write(tmp_path / "test_list.txt", "00000001_000.png", "00000001_001.png", bom=True)
    splits = by_name(find_source("chestxray14", tmp_path), find_source("chestxray14", tmp_path).splits)
    assert {name for name, split in splits.items() if split == "test"} == {"00000001_000.png", "00000001_001.png"}


def test_both_forms_of_the_table(tmp_path):
    trees.chestxray14(tmp_path)
    trees.chestxray14(tmp_path, v2020=True)
    assert any("v2020" in note for note in find_source("chestxray14", tmp_path).notes)


# ---- photographs


def test_cifar10(found):
    source = found("cifar10")
    assert source.classes == trees.CIFAR10_CLASSES
    assert source.names == [f"train/{i:05d}" for i in range(50)] + [f"test/{i:05d}" for i in range(10)]
    assert source.labels == [trees.CIFAR10_CLASSES[(i + batch) % 10] for batch in range(6) for i in range(10)]
    assert source.splits == [""] * 50 + ["test"] * 10
    assert source.arrays.shape == (60, 32, 32, 3)
    for number in (0, 23, 59):
        assert np.array_equal(source.arrays[number], np.asarray(trees.picture(number, size=32)))
    assert (source.groups, source.faults, source.notes) == (None, (), ())


def test_imagenet(found):
    source = found("imagenet")
    assert source.classes == ("n01440764 tench", "n02012849 crane", "n03126707 crane")
    wnids = ("n01440764", "n02012849", "n03126707")
    train = [f"train/{w}/{w}_{number}.JPEG" for w in wnids for number in (10026, 10027, 10029, 999)]
    val = [f"val/{w}/ILSVRC2012_val_{293 + i + 10 * k:08d}.JPEG" for i, w in enumerate(wnids) for k in range(2)]
    assert source.names == train + val
    assert source.labels == [c for c in source.classes for _ in range(4)] + [
        c for c in source.classes for _ in range(2)
    ]
    assert source.splits == [""] * 12 + ["test"] * 6
    assert (source.groups, source.faults, source.notes) == (None, (), ())


def test_a_part_of_imagenet_keeps_its_labels(tmp_path):
    # With a class less in one of the folders, the numbers of the others differ between the two.
    trees.imagenet(tmp_path)
    shutil.rmtree(tmp_path / "train/n02012849")
    source = find_source("imagenet", tmp_path)
    assert all(label.split()[0] in name for name, label in zip(source.names, source.labels, strict=True))
    assert source.classes == ("n01440764 tench", "n02012849 crane", "n03126707 crane")


@pytest.mark.parametrize("damage", ["meta", "empty meta", "stranger", "empty class"])
def test_a_damaged_imagenet_is_one_line(damage, tmp_path):
    trees.imagenet(tmp_path)
    if "meta" in damage:
        (tmp_path / "meta.bin").write_bytes(b"" if damage == "empty meta" else b"no such thing")
    else:
        (tmp_path / "train/stranger").mkdir()
        if damage == "stranger":
            shutil.copy(next(tmp_path.rglob("*.JPEG")), tmp_path / "train/stranger/x.JPEG")
    with pytest.raises(DataError, match="torchvision cannot use the files of imagenet") as caught:
        find_source("imagenet", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("small", [True, False])
def test_places365(small, tmp_path, monkeypatch):
    trees.places365(tmp_path / "places365", small=small)
    trees.trust(monkeypatch, tmp_path / "places365")
    source = find_source("places365", tmp_path)
    train, val = ("data_256_standard", "val_256") if small else ("data_large_standard", "val_large")
    classes = ("a/airfield", "a/airplane_cabin", "a/apartment_building/outdoor")
    assert source.classes == classes
    assert source.names == [f"{train}/{c}/{i:08d}.jpg" for c in classes for i in range(1, 5)] + [
        f"{val}/Places365_val_{10 * i + code:08d}.jpg" for code in range(3) for i in range(1, 3)
    ]
    assert source.labels == [c for c in classes for _ in range(4)] + [c for c in classes for _ in range(2)]
    assert source.splits == [""] * 12 + ["test"] * 6
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        (f"{train}/a/airfield/00000009.jpg", "is not there"),
        (f"{val}/Places365_val_00000099.jpg", "is not there"),
    ]
    assert source.notes == ()


def test_voc2007(found, tmp_path):
    source = found("voc2007")
    trainval = ("000005", "000007", "000009", "000012", "000016", "000017", "000019", "000023", "000026", "000032")
    numbers = (*trainval, "000001", "000002", "000003")
    assert source.names == [f"VOCdevkit/VOC2007/JPEGImages/{number}.jpg" for number in numbers]
    assert source.labels == [None] * 13
    assert source.classes == ()
    assert source.splits == [""] * 10 + ["test"] * 3
    assert [fault.name for fault in source.faults] == ["VOCdevkit/VOC2007/JPEGImages/000008.jpg"]
    assert source.notes == ("voc2007 has several classes an image: its images are used, without labels",)
    trees.voc2007(tmp_path, test=False)
    source = find_source("voc2007", tmp_path)
    assert (len(source.names), source.splits, source.faults) == (10, None, ())


def test_coco(found, tmp_path):
    source = found("coco")
    train = (9, 25, 30, 34, 36, 42, 49, 61, 64, 581929)
    assert source.names == [f"train2017/{i:012d}.jpg" for i in train] + [
        f"val2017/{i:012d}.jpg" for i in (139, 285, 581781)
    ]
    assert source.labels == [None] * 13
    assert source.splits == [""] * 10 + ["test"] * 3
    assert source.faults == ()
    assert source.notes == ("coco has several classes an image: its images are used, without labels",)
    for folder in ("train2017", "val2017"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="the images of coco are not in") as caught:
        find_source("coco", tmp_path)
    assert "sslcurr data show coco" in caught.value.hint


def plant_groups(source):
    """Class and file name without the random identifier -> group."""
    keys = [f"{name.split('/')[0]}/{name.rpartition('___')[2]}" for name in source.names]
    return dict(zip(keys, source.groups, strict=True))


def test_plantvillage(found, built):
    source = found("plantvillage")
    assert source.root == built("plantvillage") / "plantvillage/raw/color"
    assert source.classes == ("Apple___Apple_scab", "Apple___Black_rot", "Soybean___healthy", "Tomato___healthy")
    assert source.names == sorted(source.names)
    assert source.labels == [name.split("/")[0] for name in source.names]
    assert Counter(source.labels) == {
        "Apple___Apple_scab": 7,
        "Apple___Black_rot": 4,
        "Soybean___healthy": 7,
        "Tomato___healthy": 7,
    }
    groups = {}
    for crop, camera, number in (
        ("Apple___Apple_scab", "FREC_Scab", 3335),
        ("Soybean___healthy", "RS_HL", 5531),
        ("Tomato___healthy", "RS_HL", 5531),
    ):
        for j, leaf in enumerate((1, 1, 2, 3, 4)):
            groups[f"{crop}/{camera} {number + j}.JPG"] = f"{crop}:::{leaf}.0"
        groups[f"{crop}/{camera} {number + 5}.JPG"] = ""
        groups[f"{crop}/{camera} {number} copy.JPG"] = f"{crop}:::1.0"
    groups |= {f"Apple___Black_rot/JR_FrgE.S {2891 + j}.JPG": f"Apple_Frogeye Spot:::{13 + j}.0" for j in range(3)}
    groups["Apple___Black_rot/JR_FrgE.S 2894.JPG"] = ""
    assert plant_groups(source) == groups
    assert source.splits is None
    assert source.faults == ()
    assert source.notes == ("4 images not in leaf-map.json: each a group of its own",)


@pytest.mark.parametrize("folder", ["raw/color", "color", "plantvillage dataset/color", "PlantVillage", "."])
def test_plantvillage_in_other_folders(folder, built, tmp_path):
    home = tmp_path / "PlantVillage-Dataset"
    shutil.copytree(built("plantvillage") / "plantvillage/raw/color", home / folder)
    source = find_source("plantvillage", tmp_path)
    assert source.root == (home / folder).resolve()
    assert (len(source.names), source.groups) == (25, None)
    shutil.copy(built("plantvillage") / "plantvillage/leaf-map.json", home)
    assert find_source("plantvillage", tmp_path).groups.count("") == 4
    (home / "leaf-map.json").write_text("<html>", encoding="utf-8")
    with pytest.raises(DataError, match=r"leaf-map\.json cannot be read"):
        find_source("plantvillage", tmp_path)
    (home / "leaf-map.json").write_text("{}", encoding="utf-8")
    assert find_source("plantvillage", tmp_path).groups is None


# ---- end to end

QUICK = ("--backbone", "test_resnet", "--stem", "imagenet", "--image-size", "16", "--epochs", "1", "--batch-size", "8")
LABELLED = [name for name in TREES if CATALOG[name].num_classes]


@every_tree
def test_trees_are_pretrained_on_and_fine_tuned_to(name, built, sslcurr, monkeypatch):
    root = built(name)
    trees.trust(monkeypatch, root / name)
    options = ("--dataset", name, "--data-root", str(root), "--skip-broken", *QUICK)
    pretrained = sslcurr.json("pretrain", "rotation", *options)["stages"][0]
    assert np.isfinite(pretrained["metrics"]["loss"])
    if name not in LABELLED:
        result = sslcurr("finetune", *options)
        assert result.exit_code == 1
        assert "has no labels, which classification needs" in result.stderr
        return
    report = sslcurr.json("finetune", pretrained["key"], *options)["downstream"]
    assert report["split"] == "test"
    if report.get("target") == "multilabel":
        assert report["num_images"] == max(label["num_known"] for label in report["labels"].values()) > 0
        return
    assert report["num_images"] == np.sum(report["confusion_matrix"]) > 0
    assert set(report["per_class_recall"]) == set(find_source(name, root).classes)
    with open(report["predictions"], encoding="utf-8", newline="") as file:
        tested = {Path(row["name"] if "name" in row else next(iter(row.values()))).stem for row in csv.DictReader(file)}
    source = find_source(name, root)
    if source.groups is not None:
        # Whatever tests has no sibling in another part; all of a group are tested, or those of it with a label.
        of = {
            Path(n).stem: (g or n, label)
            for n, g, label in zip(source.names, source.groups, source.labels, strict=True)
        }
        held = {of[stem][0] for stem in tested}
        assert tested == {stem for stem, (group, label) in of.items() if group in held and label is not None}


@pytest.mark.parametrize("name", ["isic2019", "covid"])
def test_faults_stop_a_run_and_are_told(name, built, sslcurr):
    result = sslcurr("pretrain", "rotation", "--dataset", name, "--data-root", str(built(name)), *QUICK)
    assert result.exit_code == 1
    first = {"isic2019": "ISIC_0009002 is marked as MEL and NV", "covid": f"{image_name(100)} belongs to a study"}[name]
    assert first in result.stderr
    assert "and 2 more" in result.stderr
    assert "--skip-broken" in result.stderr


# ---- DICOM of several frames


@pytest.fixture
def clips(tmp_path):
    """A folder of two classes with one file of three frames and one of two among files of one."""
    for number, (name, frames) in enumerate(
        [("cat/a.dcm", 3), ("cat/b.dcm", 1), ("dog/c", 2), ("dog/d.dcm", 1), ("dog/e.png", 0)]
    ):
        if frames:
            write_dicom(tmp_path / name, number, frames=frames, inverted=False)
        else:
            trees.picture(number, colour=False).save(tmp_path / name)
    return tmp_path


def test_frames(clips):
    plain = find_source(str(clips))
    assert plain.names == ["cat/a.dcm", "cat/b.dcm", "dog/c", "dog/d.dcm", "dog/e.png"]
    assert plain.frames == {}
    assert find_source(str(clips), frames="refuse").names == plain.names
    first = find_source(str(clips), frames="first")
    assert first.names == ["cat/a.dcm#1", "cat/b.dcm", "dog/c#1", "dog/d.dcm", "dog/e.png"]
    assert first.frames == {"cat/a.dcm#1": ("cat/a.dcm", 0), "dog/c#1": ("dog/c", 0)}
    assert first.labels == plain.labels
    assert first.groups is None
    assert first.masks == {}
    every = find_source(str(clips), frames="all")
    assert every.names == [
        *("cat/a.dcm#1", "cat/a.dcm#2", "cat/a.dcm#3", "cat/b.dcm", "dog/c#1", "dog/c#2", "dog/d.dcm", "dog/e.png")
    ]
    assert every.labels == ["cat"] * 4 + ["dog"] * 4
    assert every.groups == ["cat/a.dcm"] * 3 + ["", "dog/c", "dog/c", "", ""]
    assert every.splits is None
    assert [every.place(i) for i in (2, 3, 4)] == [
        (clips / "cat/a.dcm", 2),
        (clips / "cat/b.dcm", None),
        (clips / "dog/c", 0),
    ]
    assert set(FRAMES) == {"refuse", "first", "all"}


def test_frames_keep_given_groups_and_splits(clips):
    rows = ["path,label,group,split", "cat/a.dcm,cat,p1,train", "cat/b.dcm,cat,p1,train", "dog/c,dog,,test"]
    write(clips / "t.csv", *rows, "dog/d.dcm,dog,,val")
    every = find_source(str(clips / "t.csv"), frames="all")
    assert every.groups == ["p1", "p1", "p1", "p1", "dog/c", "dog/c", ""]
    assert every.splits == ["train"] * 4 + ["test"] * 2 + ["val"]
    assert every.labels == ["cat"] * 4 + ["dog"] * 3


def test_a_damaged_header_is_left_to_decoding(clips):
    whole = (clips / "cat/a.dcm").read_bytes()
    (clips / "cat/b.dcm").write_bytes(whole[:180])
    assert "cat/b.dcm" in find_source(str(clips), frames="all").names
    (clips / "cat/gone.dcm").symlink_to(clips / "nothing.dcm")
    assert "cat/gone.dcm" in find_source(str(clips), frames="all").names


def test_data_sets_without_frames_are_as_they_were(found, built):
    source = find_source("covid", built("covid"), frames="all")
    assert source.names == found("covid").names
    assert source.frames == {}
    assert find_source("digits", frames="all").names == find_source("digits").names


# ---- real images

HAM_CLASSES = {"akiec": "AK", "bcc": "BCC", "bkl": "BKL", "df": "DF", "mel": "MEL", "nv": "NV", "vasc": "VASC"}


def shared_rows(folder, every):
    """Some of the real images, by their table."""
    if not (SHARED / folder).is_dir():
        pytest.skip("the shared images are not here")
    with (SHARED / folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[::every]


def test_isic2019_of_real_images(tmp_path, sslcurr):
    home, rows = tmp_path / "isic2019", shared_rows("ham", 11)
    truth, metadata = (
        ["image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"],
        ["image,age_approx,anatom_site_general,lesion_id,sex"],
    )
    (home / "ISIC_2019_Training_Input").mkdir(parents=True)
    for row in rows:
        image = Path(row["path"]).stem
        truth.append(trees.one_hot(image, trees.SKIN_CLASSES.index(HAM_CLASSES[row["label"]]), width=9))
        metadata.append(f"{image},50.0,,{row['group']},male")
        (home / f"ISIC_2019_Training_Input/{image}.jpg").symlink_to(SHARED / "ham" / row["path"])
    write(home / "ISIC_2019_Training_GroundTruth.csv", *truth)
    write(home / "ISIC_2019_Training_Metadata.csv", *metadata)
    source = find_source("isic2019", tmp_path)
    assert source.labels == [HAM_CLASSES[row["label"]] for row in rows]
    assert source.groups == [row["group"] for row in rows]
    assert (source.faults, source.notes) == ((), ())
    options = ("--dataset", "isic2019", "--data-root", str(tmp_path), *QUICK)
    document = sslcurr.json("chain", "rotation", *options)
    assert document["downstream"]["num_images"] > 7


def test_chestxray14_of_real_images(tmp_path, sslcurr):
    home, rows = tmp_path / "chestxray14", [r for r in shared_rows("cxr", 9) if r["label"] != "covid-19"]
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    patients = sorted({row["group"] for row in rows})
    test = []
    for number, row in enumerate(rows):
        patient = patients.index(row["group"]) + 1
        name = f"{patient:08d}_{number:03d}.png"
        lines.append(
            f"{name},{'Pneumonia' if row['label'] == 'pneumonia' else 'No Finding'},{number},{patient},50,F,PA"
        )
        (home / "images").mkdir(parents=True, exist_ok=True)
        with Image.open(SHARED / "cxr" / row["path"]) as image:
            image.convert("L").resize((64, 64)).save(home / "images" / name)
        if patient % 4 == 0:
            test.append(name)
    write(home / "Data_Entry_2017_v2020.csv", *lines)
    write(home / "test_list.txt", *test)
    source = find_source("chestxray14", tmp_path)
    assert Counter(source.labels) == Counter("finding" if r["label"] == "pneumonia" else "no finding" for r in rows)
    assert source.splits.count("test") == len(test) > 3
    assert source.faults == ()
    document = sslcurr.json("finetune", "--dataset", "chestxray14", "--data-root", str(tmp_path), *QUICK)
    assert document["downstream"]["num_images"] == len(test)


def test_leaf_map_is_json_as_published(built):
    # The form that the authors' repository has: a list of `class:::leaf` by lower-case name.
    leaves = json.loads((built("plantvillage") / "plantvillage/leaf-map.json").read_text(encoding="utf-8"))
    assert leaves["rs_hl 5531"] == ["Soybean___healthy:::1.0", "Tomato___healthy:::1.0"]
