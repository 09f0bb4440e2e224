"""Finding data sets: by name, as folders, as tables."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from sslcurr.data.sources.catalog import CATALOG, find_source
from sslcurr.errors import DataError


def touch(root, *names):
    """Files that look like images by name; `find_source` opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def table(root, text, name="labels.csv"):
    (root / name).write_text(text, encoding="utf-8")
    return find_source(str(root / name))


def test_fashion_is_the_default():
    source = find_source(None)
    assert source.name == "fashion"
    assert source.root is None
    assert source.arrays.shape == (2500, 28, 28)
    assert source.arrays.dtype == np.uint8
    assert len(source.names) == len(set(source.names)) == len(source.labels) == 2500
    assert source.names[12] == "train/00012"
    assert (source.splits.count(""), source.splits.count("test")) == (2000, 500)
    assert source.classes[0] == "T-shirt/top"
    assert source.classes[9] == "ankle boot"
    assert {source.labels.count(label) for label in source.classes} == {250}
    assert source.image_size == CATALOG["fashion"].image_size == 28
    assert len(source.classes) == CATALOG["fashion"].num_classes
    assert find_source("fashion").names == source.names


def test_one_class_a_folder(tmp_path):
    touch(tmp_path, "cat/b.JPG", "cat/deep/a.png", "dog/a.tiff", "dog/notes.txt", "README.md")
    touch(tmp_path, ".git/x.png", "__MACOSX/cat/b.jpg", "dog/.hidden.png")
    source = find_source(str(tmp_path))
    assert source.names == ["cat/b.JPG", "cat/deep/a.png", "dog/a.tiff"]
    assert source.labels == ["cat", "cat", "dog"]
    assert source.classes == ("cat", "dog")
    assert source.splits is None
    assert source.groups is None
    assert source.notes == ("2 files ignored that are not images",)


def test_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path, "b.png", "a.webp", "labels.csv")
    source = find_source(str(tmp_path))
    assert source.names == ["a.webp", "b.png"]
    assert source.labels == [None, None]
    assert source.classes == ()
    assert any("--dataset" in note and "labels.csv" in note for note in source.notes)


def test_a_single_class_folder_with_a_table_is_remarked(tmp_path):
    touch(tmp_path, "images/a.png", "metadata.csv")
    assert any("metadata.csv" in note for note in find_source(str(tmp_path)).notes)
    touch(tmp_path, "others/a.png")
    assert not any("metadata.csv" in note for note in find_source(str(tmp_path)).notes)


def test_images_beside_class_folders_have_no_label(tmp_path):
    touch(tmp_path, "cat/a.png", "dog/a.png", "loose.png")
    source = find_source(str(tmp_path))
    assert dict(zip(source.names, source.labels, strict=True))["loose.png"] is None
    assert source.notes == ("1 image beside the class folders: used without a label",)


def test_empty_class_folder_is_named(tmp_path):
    touch(tmp_path, "cat/a.png", "dog/readme.txt")
    with pytest.raises(DataError, match="dog has no images") as caught:
        find_source(str(tmp_path))
    assert "remove it" in caught.value.hint


def test_folder_without_images(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(DataError, match="has no images"):
        find_source(str(tmp_path))


def test_given_splits(tmp_path):
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "validation/cat/b.png", "test/dog/c.png", "test/loose.png")
    source = find_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert dict(zip(source.names, zip(source.splits, source.labels, strict=True), strict=True)) == {
        "train/cat/a.png": ("train", "cat"),
        "train/dog/a.png": ("train", "dog"),
        "validation/cat/b.png": ("val", "cat"),
        "test/dog/c.png": ("test", "dog"),
        "test/loose.png": ("test", None),
    }


def test_a_part_that_is_not_given_is_taken_from_the_training_images(tmp_path):
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/cat/b.png", "extra/c.png")
    source = find_source(str(tmp_path))
    assert dict(zip(source.names, source.splits, strict=True)) == {
        "extra/c.png": "",
        "train/cat/a.png": "",
        "train/dog/a.png": "",
        "test/cat/b.png": "test",
    }
    assert "no images were given as val: taken from the training images" in source.notes


def test_empty_class_folder_in_a_split(tmp_path):
    touch(tmp_path, "train/cat/a.png", "test/cat/b.png")
    (tmp_path / "test/dog").mkdir()
    with pytest.raises(DataError, match="test/dog has no images"):
        find_source(str(tmp_path))


def test_folders_called_training_and_testing(tmp_path):
    touch(tmp_path, "Training/cat/a.png", "Training/dog/a.png", "Testing/cat/b.png", "Testing/dog/b.png")
    source = find_source(str(tmp_path))
    assert source.names == ["Testing/cat/b.png", "Testing/dog/b.png", "Training/cat/a.png", "Training/dog/a.png"]
    assert source.labels == ["cat", "dog", "cat", "dog"]
    assert source.splits == ["test", "test", "", ""]
    touch(tmp_path, "dev/cat/c.png")
    assert find_source(str(tmp_path)).splits == ["test", "test", "train", "train", "val"]


def test_classes_called_train_and_bus_are_classes(tmp_path):
    touch(tmp_path, "train/a.png", "bus/a.png")
    source = find_source(str(tmp_path))
    assert source.classes == ("bus", "train")
    assert source.splits is None


def test_a_link_to_itself_ends(tmp_path):
    touch(tmp_path, "cat/a.png", "dog/a.png")
    (tmp_path / "cat/again").symlink_to(tmp_path)
    assert "cat/a.png" in find_source(str(tmp_path)).names


def test_relative_paths_are_looked_for_in_the_data_root(tmp_path, monkeypatch):
    touch(tmp_path, "root/set/a.png", "here/x.txt")
    monkeypatch.chdir(tmp_path / "here")
    assert find_source("set", tmp_path / "root").root == tmp_path / "root/set"
    touch(tmp_path, "here/set/b.png")
    assert find_source("set", tmp_path / "root").names == ["b.png"]


@pytest.mark.parametrize(
    ("dataset", "message", "hint"),
    [
        ("fashoin", "unknown data set 'fashoin'", "did you mean fashion"),
        ("./nothing", "the folder ./nothing is not there", "nothing"),
        ("some.csv", "the table some.csv is not there", "some.csv"),
        ("", "unknown data set ''", "folder"),
    ],
)
def test_unknown_data_sets(dataset, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        find_source(dataset)
    assert str(caught.value) == message
    assert hint in caught.value.hint


def test_a_file_that_is_no_table(tmp_path):
    touch(tmp_path, "all.zip")
    with pytest.raises(DataError, match="not a table"):
        find_source(str(tmp_path / "all.zip"))


def test_table(tmp_path):
    touch(tmp_path, "images/b.png", "images/a.png", "c.png")
    source = table(
        tmp_path,
        "\ufeffpath,label,extra,group,split\n"
        f"images/b.png,0,x,p1,\n./images/a.png,1,x,p1,\n{tmp_path}/c.png,,x,,validation\n\n",
    )
    assert source.name == tmp_path.name
    assert source.root == tmp_path
    # In the order of its rows.
    assert source.names == ["images/b.png", "images/a.png", "c.png"]
    assert source.labels == ["0", "1", None]
    assert source.groups == ["p1", "p1", ""]
    assert source.splits == ["", "", "val"]
    assert source.classes == ("0", "1")
    assert source.faults == ()


def test_table_outside_its_folder(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "set/b.png")
    source = table(tmp_path / "set", f"file_name\n{tmp_path}/elsewhere/a.png\nb.png\n", "cases.csv")
    assert source.name == "cases"
    assert source.names == [f"{tmp_path}/elsewhere/a.png", "b.png"]
    assert source.labels == [None, None]


def test_integer_like_labels(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    assert table(tmp_path, "path,label\na.png,3.0\nb.png,0\nc.png,\nd.png,003\n").labels == ["3", "0", None, "003"]
    assert table(tmp_path, "path,label\na.png,1.0\nb.png,1.5\n").labels == ["1.0", "1.5"]


@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
def test_parquet(suffix, tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png")
    frame = pd.DataFrame(
        {"path": ["b.png", "a.png", "c.png"], "label": [1.0, None, 3.0], "group": [7, 7, 8], "pixels": [b"1"] * 3}
    )
    frame.to_parquet(tmp_path / f"t{suffix}")
    source = find_source(str(tmp_path / f"t{suffix}"))
    assert source.names == ["b.png", "a.png", "c.png"]
    assert source.labels == ["1", None, "3"]
    assert source.groups == ["7", "7", "8"]


def json_lines(path, *rows, ends="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + ends for row in rows), encoding="utf-8")
    return path


def test_json_lines(tmp_path):
    touch(tmp_path, "é/ü b.png", "a.png", "c.png", "d.png")
    rows = [
        {"path": "é/ü b.png", "label": 1, "group": 7, "extra": {"deep": [1]}},
        {"path": " a.png ", "label": None, "split": "val"},
        {"label": 3.0, "path": "c.png", "group": "", "split": None},
        {"path": "d.png", "label": True},
    ]
    for ends in ("\n", "\r\n", "\n \n"):
        source = find_source(str(json_lines(tmp_path / "cases.jsonl", *rows, ends=ends)))
        assert source.name == "cases"
        assert source.names == ["é/ü b.png", "a.png", "c.png", "d.png"]
        assert source.labels == ["1", None, "3", "True"]
        assert source.groups == ["7", "", "", ""]
        assert source.splits == ["", "val", "", ""]
    (tmp_path / "cases.jsonl").write_text('\ufeff{"file_name": "a.png"}', encoding="utf-8")
    assert find_source(str(tmp_path / "cases.jsonl")).names == ["a.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path"),
        ('{"label": 1}\n', "has no column path"),
        ('{"path": "a.png"}\n["a.png"]\n', "has no JSON object in line 2"),
        ('{"path": "a.png"}\n{"path": \n', "cannot be read as JSON lines"),
        ('{"path": "a.png"}\n{"label": 1}\n', "no path in row 2"),
        ('{"path": "a.png"}\n{"path": "a.png"}\n', "lists a.png 2 times"),
    ],
)
def test_mistakes_in_json_lines(text, message, tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        find_source(str(tmp_path / "t.jsonl"))
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


def test_files_of_a_table_that_are_not_there_are_faults(tmp_path):
    touch(tmp_path, "a.png", "c.png")
    (tmp_path / "folder.png").mkdir()
    long = "x" * 300 + ".png"
    source = table(tmp_path, f"path,label\na.png,1\nx.png,2\nc.png,3\nfolder.png,4\n{long},5\n")
    assert source.names == ["a.png", "c.png"]
    assert source.labels == ["1", "3"]
    assert source.classes == ("1", "3")
    assert [(fault.name, fault.reason) for fault in source.faults] == [
        (name, "is not there") for name in ("x.png", "folder.png", long)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.png\n./a.png\n", "lists a.png 2 times"),
        ("path\nx.png\ny.png\n", "lists x.png, which is not there, and 1 more"),
        ("path,split\na.png,tset\n", "unknown split 'tset'"),
        (
            "path,split,group\na.png,train,Jane Doe\nb.png,test,Jane Doe\n",
            "has one group in two splits: a.png in train, b.png in test",
        ),
        ("\n", "no column path"),
        ("path,label,path\na.png,1,b.png\n", "has 2 columns called path"),
        ('path,label\na.png,"cat\nb.png,dog\n', "cannot be read as CSV: unexpected end of data"),
        ("pth,label\na.png,1\n", "no column path"),
        ("path,label\n", "lists no images"),
        ("path,label\n,1\n", "no path in row 1"),
        ("path,label\na.png,1,2\n", "more cells in row 2"),
        ("", "is empty"),
    ],
)
def test_mistakes_in_tables(text, message, tmp_path):
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, text)
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint
    assert "Jane" not in str(caught.value) + caught.value.hint


def test_missing_path_column_says_which_was_meant(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(DataError) as caught:
        table(tmp_path, "paths,label\na.png,1\n")
    assert "did you mean paths?" in caught.value.hint
    with pytest.raises(DataError) as caught:
        table(tmp_path, "pth;label\na.png;1\n")
    assert "--path-column pth" in caught.value.hint


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_tables_that_are_no_tables(name, tmp_path):
    (tmp_path / name).write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="cannot be read as"):
        find_source(str(tmp_path / name))


def test_training_without_validation_in_a_table(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    source = table(tmp_path, "path,split\na.png,train\nb.png,test\n")
    assert source.splits == ["", "test"]
    assert source.notes
    assert table(tmp_path, "path,split\na.png,\nb.png,\n").splits is None


DICOM = b"\0" * 128 + b"DICM" + b"rest"


def test_dicom_without_an_extension_is_found_by_its_content(tmp_path):
    for name in ("cat/IM00001", "cat/1.2.840.113619.2.5", "dog/b.dcm", "dog/DICOMDIR", "dog/c.bin", "dog/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(DICOM)
    (tmp_path / "dog/README").write_bytes(DICOM[:128])
    (tmp_path / "dog/empty").write_bytes(b"")
    (tmp_path / "dog/NOTES").write_bytes(b"x" * 128 + b"MCID")
    (tmp_path / "dog/gone").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "dog/pipe")  # to open it would wait for ever
    source = find_source(str(tmp_path))
    assert source.names == ["cat/1.2.840.113619.2.5", "cat/IM00001", "dog/b.dcm"]
    # DICOMDIR and c.bin are no images by their names, the others by what they are.
    assert source.notes == ("7 files ignored that are not images",)


def test_links_into_folders_above_end_in_folders_of_systems_too(tmp_path):
    touch(tmp_path, "cat/a.png", "dog/b.png", "@eaDir/cat/c.png")
    for place in ("@eaDir/up", "@eaDir/cat/up", "dog/up"):
        (tmp_path / place).symlink_to(tmp_path)
    (tmp_path / "dog/loop").symlink_to(tmp_path / "dog/loop")
    source = find_source(str(tmp_path))
    assert source.names == ["cat/a.png", "dog/b.png"]
    assert source.notes[0] == "1 image left out, thumbnails or rubbish of a system, such as @eaDir/cat/c.png"


# ---- Hugging Face's imagefolder


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder_with_a_table_in_its_root(kind, tmp_path):
    touch(tmp_path, "train/0001.png", "train/0002.png", "test/0001.png", "loose.png", "train/unlisted.png")
    rows = [
        {"file_name": "train/0002.png", "label": 4, "text": "a, b"},
        {"file_name": "./train/0001.png", "label": 5, "text": ""},
        {"file_name": "test/0001.png", "label": 4, "text": "c"},
        {"file_name": "loose.png", "label": None, "text": "d"},
    ]
    if kind == "jsonl":
        json_lines(tmp_path / "metadata.jsonl", *rows)
    else:
        frame = pd.DataFrame(rows)
        getattr(frame, f"to_{kind}")(tmp_path / f"metadata.{kind}", index=False)
    source = find_source(str(tmp_path))
    assert (source.name, source.root) == (tmp_path.name, tmp_path)
    assert source.names == ["train/0002.png", "train/0001.png", "test/0001.png", "loose.png"]
    assert source.labels == ["4", "5", "4", None]
    assert source.classes == ("4", "5")
    assert source.splits == ["train", "train", "test", ""]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_imagefolder_with_tables_in_its_splits(name, tmp_path):
    def metadata(folder, *rows):
        if name.endswith("l"):
            json_lines(tmp_path / folder / name, *rows)
        else:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(tmp_path / folder / name, index=False)

    touch(tmp_path, "train/a.png", "train/deep/b.png", "test/a.png", "validation/a.png")
    a, b = {"file_name": "a.png", "label": "cat"}, {"file_name": "deep/b.png", "label": "dog"}
    metadata("train", {**b, "group": "p1"}, {**a, "group": "p2"})
    metadata("test", a)
    metadata("validation", {**a, "label": "dog"}, {"file_name": "gone.png", "label": "dog"})
    source = find_source(str(tmp_path))
    assert source.names == ["test/a.png", "train/deep/b.png", "train/a.png", "validation/a.png"]
    assert source.labels == ["cat", "dog", "cat", "dog"]
    assert source.groups == ["", "p1", "p2", ""]
    assert source.splits == ["test", "train", "train", "val"]
    assert [fault.name for fault in source.faults] == ["validation/gone.png"]


@pytest.mark.parametrize("column", ["file_name,text", "path,label"])
def test_a_table_without_labels_leaves_an_imagefolder_to_its_folders(column, tmp_path):
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/cat/a.png")
    (tmp_path / "train/metadata.csv").write_text(f"{column}\ncat/a.png,x\n", encoding="utf-8")
    source = find_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.splits == ["test", "", ""]


def test_a_split_column_counts_more_than_folders(tmp_path):
    touch(tmp_path, "train/a.png", "train/b.png")
    (tmp_path / "metadata.csv").write_text("file_name,label,split\ntrain/a.png,1,test\ntrain/b.png,2,val\n")
    assert find_source(str(tmp_path)).splits == ["test", "val"]


def test_folder_that_may_not_be_read(tmp_path, monkeypatch):
    touch(tmp_path, "cat/a.png", "dog/a.png")
    scan = os.scandir

    def denied(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="dog may not be read"):
        find_source(str(tmp_path))
