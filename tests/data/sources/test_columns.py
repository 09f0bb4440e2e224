"""What columns and cells of tables mean, as people and spreadsheets write them."""

from __future__ import annotations

import json
import unicodedata

import pandas as pd
import pytest

from sslcurr.data.sources import tables
from sslcurr.data.sources.catalog import find_source
from sslcurr.data.sources.columns import Columns
from sslcurr.data.sources.words import is_missing
from sslcurr.errors import DataError

NAMES = [f"i/{k:02d}.png" for k in range(12)]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "i").mkdir()
    for name in NAMES:
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def lines(header, cells, separator=","):
    """A table of a row an image; `cells` gives what follows the path."""
    rows = [header, *([name, *map(str, cells(k))] for k, name in enumerate(NAMES))]
    return "".join(separator.join(row) + "\n" for row in rows)


def read(root, content, name="t.csv", **columns):
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_source(str(root / name), columns=Columns(**columns))


def mistake(root, content, name="t.csv", **columns):
    """The message and the hint, a line each."""
    with pytest.raises(DataError) as caught:
        read(root, content, name, **columns)
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint
    return str(caught.value).replace(f"{root}/", ""), caught.value.hint


def two(k):
    return "ab"[k % 2]


AB = [two(k) for k in range(12)]


# ---- columns


@pytest.mark.parametrize(
    "name", ["patient_id", "patientId", "PatientID", "Patient ID", "subject", "lesion_id", "caseid"]
)
def test_a_column_that_looks_like_a_group_is_asked_about(name, root):
    table = lines(["path", "label", name], lambda k: (two(k), f"P{k // 3}"))
    assert mistake(root, table) == (
        f"t.csv has no column group, but {name}, which may be one",
        f"give --group-column {name}, or --group-column none if there is none",
    )
    assert read(root, table, group=name).groups == [f"P{k // 3}" for k in range(12)]
    without = read(root, table, group="none")
    assert without.groups is None
    assert without.notes == (f"1 column of t.csv not used: {name}",)


@pytest.mark.parametrize("cells", [lambda k: (two(k), k), lambda k: (two(k), "all"), lambda k: (two(k), "")])
def test_a_group_that_changes_nothing_is_not_asked_about(cells, root):
    assert read(root, lines(["path", "label", "patient_id"], cells)).groups is None


@pytest.mark.parametrize("name", ["Label", "LABEL", " label ", "label"])
def test_the_case_of_a_name_does_not_matter(name, root):
    source = read(root, lines(["Path", name, "GROUP"], lambda k: (two(k), k // 3)))
    assert source.labels == AB
    assert source.groups == [str(k // 3) for k in range(12)]
    assert "the column GROUP of t.csv is taken for the group" in source.notes


def test_two_columns_of_one_name_in_two_cases_are_asked_about(root):
    table = lines(["path", "label", "Label"], lambda k: (two(k), k % 3))
    assert mistake(root, table)[0] == "t.csv has the columns label and Label: which is the label?"
    assert read(root, table, label="Label").classes == ("0", "1", "2")


@pytest.mark.parametrize("name", ["class", "dx", "Diagnosis", "target", "labels", "lable", "lebel", "Finding Labels"])
def test_a_column_that_looks_like_a_label_is_asked_about(name, root):
    table = lines(["path", name], lambda k: (two(k),))
    assert mistake(root, table)[1] == f"give --label-column {name}, or --label-column none if there is none"
    assert read(root, table, label=name).labels == AB
    assert read(root, table, label="none").labels == [None] * 12


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("set", lambda k: "train" if k % 4 else "test"),
        ("Phase", lambda k: "TRAIN" if k % 4 else "TEST"),
        ("whatever", lambda k: "train" if k % 4 else "test"),
        ("fold", lambda k: k % 5),
        ("is_valid", lambda k: k % 4 == 0),
        ("spilt", lambda k: "train" if k % 4 else "test"),
    ],
)
def test_a_column_that_looks_like_a_split_is_asked_about(name, cells, root):
    table = lines(["path", "label", name], lambda k: (two(k), cells(k)))
    assert mistake(root, table)[1] == f"give --split-column {name}, or --split-column none if there is none"
    assert read(root, table, split="none").splits is None


def test_a_split_by_another_name(root):
    table = lines(["path", "label", "set"], lambda k: (two(k), "Train" if k % 4 else "holdout"))
    assert read(root, table, split="set").splits == ["test" if k % 4 == 0 else "" for k in range(12)]


def test_folders_of_splits_are_not_mixed(tmp_path):
    names = [f"data/{part}/{k}.png" for part in ("train", "test") for k in range(4)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = "path,label\n" + "".join(f"{name},{two(k)}\n" for k, name in enumerate(names))
    message, hint = mistake(tmp_path, table)
    assert message == "t.csv has no column split, but its paths lie in folders test and train"
    assert "--split-column none" in hint
    assert read(tmp_path, table, split="none").names == names
    only = "path,label\n" + "".join(f"{name},{two(k)}\n" for k, name in enumerate(names[:4]))
    assert read(tmp_path, only).splits is None


def test_several_candidates_are_all_named(root):
    table = lines(["path", "label", "patient_id", "lesion_id"], lambda k: (two(k), k // 4, k // 2))
    assert mistake(root, table)[0] == "t.csv has no column group, but patient_id, lesion_id, which may be one"


def test_columns_that_are_not_used_are_named(root):
    table = lines(["path", "label", "age", "sex", "a", "b", "c", "d"], lambda k: (two(k), 60, "f", 1, 2, 3, 4))
    assert read(root, table).notes == ("6 columns of t.csv not used: age, sex, a, b, c and 1 more",)


def test_options_are_checked(root):
    table = lines(["path", "label"], lambda k: (two(k),))
    assert mistake(root, table, label="lable") == (
        "t.csv has no column lable, which --label-column names",
        "did you mean label?",
    )
    assert mistake(root, table, path="none")[0] == "a table needs a column of paths"
    assert find_source(str(root), columns=Columns(label="x", group="none")).notes[0] == (
        f"{root} is no table: --label-column not used"
    )


def test_a_path_column_by_another_name(root):
    table = lines(["filename", "label"], lambda k: (two(k),))
    message, hint = mistake(root, table)
    assert message == "t.csv has no column path (or file_name)"
    assert hint.startswith("--path-column filename; ")
    assert read(root, table, path="filename").names == NAMES


def test_names_without_extension_and_folder(root):
    table = "image_id,dx\n" + "".join(f"{k:02d},{two(k)}\n" for k in range(12))
    source = read(root, table, path="image_id", label="dx")
    assert source.names == NAMES
    assert source.labels == AB
    (root / "more").mkdir()
    (root / "more/03.jpg").write_bytes(b"x")
    assert mistake(root, table, path="image_id", label="dx")[0] == "03 in t.csv could be i/03.png or more/03.jpg"


def test_a_table_without_a_header(root):
    message, _ = mistake(root, "".join(f"{name},a\n" for name in NAMES))
    assert message == "t.csv has an image in its first row"


def test_columns_of_an_imagefolder(tmp_path):
    for name in ("train/a.png", "train/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "metadata.csv").write_text("file_name,Label,patient\ntrain/a.png,x,1\ntrain/b.png,y,2\n")
    assert find_source(str(tmp_path)).labels == ["x", "y"]
    (tmp_path / "metadata.csv").write_text("file_name,diagnosis\ntrain/a.png,x\ntrain/b.png,y\n")
    with pytest.raises(DataError, match="but diagnosis, which may be one"):
        find_source(str(tmp_path))
    assert find_source(str(tmp_path), columns=Columns(label="diagnosis")).labels == ["x", "y"]
    assert find_source(str(tmp_path), columns=Columns(label="none")).labels == [None, None]


# ---- cells


@pytest.mark.parametrize(
    "text", ["", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "-", "?", "#N/A", "<NA>", "-nan", "\\N"]
)
def test_spellings_of_missing(text, root):
    assert is_missing(text)
    table = lines(["path", "label", "group"], lambda k: (two(k) if k < 8 else text, f"p{k // 2}" if k < 6 else text))
    for name, content in (("t.csv", table), ("t.jsonl", as_json_lines(table)), ("t.parquet", None)):
        if content is None:
            as_frame(table).to_parquet(root / name)
            content = (root / name).read_bytes()
        source = read(root, content, name)
        assert source.labels == [*AB[:8], *[None] * 4]
        assert source.groups == [*(f"p{k // 2}" for k in range(6)), *[""] * 6]
        assert source.notes[0].startswith("4 images without a label")
        assert (f"written {text}: " in source.notes[0]) == (text != "")


def as_frame(table):
    header, *rows = (line.split(",") for line in table.splitlines())
    return pd.DataFrame(rows, columns=header)


def as_json_lines(table):
    return "\n".join(json.dumps(row) for row in as_frame(table).to_dict("records"))


@pytest.mark.parametrize("text", ["no", "normal", "unknown", "0", "nanometre", "Nana"])
def test_values_that_are_not_missing(text):
    assert not is_missing(text)


def test_minus_beside_plus_is_a_class(root):
    assert read(root, lines(["path", "label"], lambda k: ("+-"[k % 2],))).classes == ("+", "-")
    assert read(root, lines(["path", "label"], lambda k: ("a-"[k % 2],))).classes == ("a",)


def test_a_missing_split_is_left_open(root):
    table = lines(["path", "label", "split"], lambda k: (two(k), ("train", "test", "NA")[k % 3]))
    assert read(root, table).splits == [("train", "test", "")[k % 3] for k in range(12)]


def test_a_missing_path_is_a_mistake(root):
    assert mistake(root, "path,label\ni/00.png,a\nNA,b\n")[0] == "t.csv has no path in row 2"
    (root / "NA").write_bytes(b"x")
    assert read(root, "path,label\ni/00.png,a\nNA,b\n").names == ["i/00.png", "NA"]


@pytest.mark.parametrize(
    "content",
    [
        lines(["path", "label"], lambda k: (two(k),), ";"),
        lines(["path", "label"], lambda k: (two(k),), "\t"),
        lines(["path", "label"], lambda k: (two(k),), "|"),
        "sep=;\r\n" + lines(["path", "label"], lambda k: (two(k),), ";").replace("\n", "\r\n"),
        '\ufeff"sep=,"\n' + lines(["path", "label"], lambda k: (two(k),)),
        lines(["path", "label"], lambda k: (two(k),), "\t").encode("utf-16"),
        "\ufeff" + lines(["Path", "Label"], lambda k: (two(k),), ";"),
        lines(["path", "label"], lambda k: (two(k),)).replace("i/", "i\\"),
        lines(["path", "label"], lambda k: (two(k),)).replace("i/0", ".\\i\\0"),
    ],
)
def test_as_spreadsheets_and_windows_write_them(content, root):
    source = read(root, content)
    assert source.names == NAMES
    assert source.labels == AB
    assert source.faults == ()


def test_a_name_with_a_backslash_is_itself(root):
    (root / "i\\00.png").write_bytes(b"x")
    assert read(root, "path\ni\\00.png\ni/00.png\n").names == ["i\\00.png", "i/00.png"]


def test_utf_16_without_its_mark_is_named(root):
    message, hint = mistake(root, lines(["path", "label"], lambda k: (two(k),)).encode("utf-16-le"))
    assert message == "t.csv cannot be read as CSV: it is UTF-16 without the mark that says so"
    assert "UTF-8" in hint


def test_unicode_forms_of_paths(tmp_path):
    composed, apart = (unicodedata.normalize(form, "bénin/é.png") for form in ("NFC", "NFD"))
    (tmp_path / apart).parent.mkdir()
    (tmp_path / apart).write_bytes(b"x")
    (tmp_path / "t.csv").write_text(f"path\n{composed}\n", encoding="utf-8")
    source = find_source(str(tmp_path / "t.csv"))
    assert (source.names, source.faults) == ([apart], ())


def test_paths_that_are_not_there_say_why(root):
    assert "path of a Windows machine" in mistake(root, "path\nC:\\data\\x.png\n")[1]
    assert mistake(root, "path\ni/00.PNG\n")[1] == "i/00.png is: upper and lower case differ"


@pytest.mark.parametrize("again", ["i/00.png", "./i/00.png", "i\\00.png", "i//00.png", "ROOT/i/00.png"])
def test_an_image_listed_twice_in_any_spelling(again, root):
    table = f"path,label\ni/00.png,a\ni/01.png,b\n{again.replace('ROOT', str(root))},b\n"
    assert mistake(root, table)[0] == "t.csv lists i/00.png 2 times, as a and as b"


@pytest.mark.parametrize(
    ("label", "shown"),
    [("bkl|mel", "'bkl|mel'"), ("bkl;mel", "'bkl;mel'"), ('"a, b"', "'a, b'"), ("\"['a', 'b']\"", "\"['a', 'b']\"")],
)
def test_several_classes_an_image_are_named(label, shown, root):
    message, hint = mistake(root, lines(["path", "label"], lambda k: (label if k == 3 else two(k),)))
    assert message == f"t.csv has 1 image with several labels, such as {shown}"
    assert "--target multilabel" in hint
    assert "--label-column none" in hint
    table = lines(["path", "label"], lambda k: (label if k == 3 else two(k),))
    assert read(root, table, label="none").labels == [None] * 12


def test_lists_in_json_are_several_labels(root):
    rows = [json.dumps({"path": name, "label": ["a", "b"] if k else ["a"]}) for k, name in enumerate(NAMES)]
    source = read(root, "\n".join(rows), "t.jsonl")
    assert (source.target, source.classes) == ("multilabel", ("a", "b"))
    assert source.labels == ["a", *["a|b"] * 11]


def test_a_comma_in_the_name_of_a_class(root):
    assert read(root, lines(["path", "label"], lambda k: (f'"{two(k)}, left"',))).classes == ("a, left", "b, left")


@pytest.mark.parametrize("label", [lambda k: 0.37 * k, lambda k: f'"{k},5"', lambda k: 20 + k])
def test_measurements_are_numbers(label, root):
    source = read(root, lines(["path", "label"], lambda k: (label(k),)))
    assert (source.target, source.classes) == ("regression", ("label",))
    assert source.labels == [repr(float(str(label(k)).strip('"').replace(",", "."))) for k in range(12)]
    assert any(note.startswith("labels are 12 different numbers, such as ") for note in source.notes)


def test_numbers_of_classes_are_classes(root):
    assert read(root, lines(["path", "label"], lambda k: (k % 4 / 2,))).classes == ("0.0", "0.5", "1.0", "1.5")
    assert read(root, lines(["path", "label"], lambda k: (k % 6,))).classes == ("0", "1", "2", "3", "4", "5")


def test_classes_that_differ_in_case_are_asked_about(root):
    message, _ = mistake(root, lines(["path", "label"], lambda k: (("Mel", "mel ", "nv")[k % 3],)))
    assert message == "t.csv has the classes 'Mel' and 'mel', which differ in case or blanks only"


def test_eval_in_a_column_is_asked_about(root):
    table = lines(["path", "label", "split"], lambda k: (two(k), "train" if k % 3 else "eval"))
    assert mistake(root, table)[1] == "write val or test"


# ---- labels and groups that mislead


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["0", "1", "-1"], "has the label -1 beside 0, 1: a missing value, or a class?"),
        (["0", "1", "2", "999"], "has the label 999 beside 0, 1, 2: a missing value, or a class?"),
        (["1", "True", "False"], "has the classes 1, False, True, several ways to write yes and no"),
        (["y", "n", "Y", "N"], "has the classes N, Y, n, y, several ways to write yes and no"),
        (["basal-cell", "basal cell"], "has the classes 'basal cell' and 'basal-cell', which differ in case"),
        (["b", "b\u200b", "bb\u200b", "bb"], "has the classes 'b"),
        (["mel", "nv", "mel/nv"], "has 4 images with several labels, such as 'mel/nv'"),
        (["mel", "nv", "mel & nv"], "has 4 images with several labels, such as 'mel & nv'"),
        (["[0 1]", "[1 0]"], "has 12 images with several labels, such as '[0 1]'"),
        ([f"{k} mm" for k in range(12)], "has a label of its own for each of 12 images, such as '0 mm'"),
    ],
)
def test_labels_that_mislead_are_asked_about(cells, message, root):
    table = lines(["path", "label"], lambda k: (cells[k % len(cells)],))
    assert mistake(root, table)[0].startswith(f"t.csv {message}")


@pytest.mark.parametrize(
    "cells", [["-1", "1"], ["T", "t", "F", "q"], ["3-4", "34"], ["0", "1", "99", "50"], ["y", "n"]]
)
def test_labels_that_are_clear_are_classes(cells, root):
    table = lines(["path", "label"], lambda k: (cells[k % len(cells)],))
    assert read(root, table).classes == tuple(sorted(cells))


def test_a_column_for_each_class_is_asked_about(root):
    table = lines(["path", "MEL", "NV", "age"], lambda k: (k % 2, 1 - k % 2, k))
    message, hint = mistake(root, table)
    assert message == "t.csv has no column label, but a column for each class: MEL, NV"
    assert "--label-column none" in hint
    assert read(root, lines(["path", "a", "b"], lambda k: (k % 2, 1))).labels == [None] * 12  # no class of two


@pytest.mark.parametrize("name", ["severity", "adjudicated_dr_grade", "is_malignant", "y_true"])
def test_more_names_of_labels(name, root):
    assert mistake(root, lines(["path", name], lambda k: (k % 3,)))[0].endswith(f"but {name}, which may be one")


@pytest.mark.parametrize("name", ["accession_number", "slide", "video", "PatNo", "Fallnummer", "\u60a3\u8005ID"])
def test_more_names_of_groups(name, root):
    message, _ = mistake(root, lines(["path", "label", name], lambda k: (two(k), k // 4)))
    assert message == f"t.csv has no column group, but {name}, which may be one"


@pytest.mark.parametrize(
    ("name", "cells"),
    [("in_train", "01"), ("val_fold", "01"), ("x", ["PublicTest", "Training"]), ("x", ["development", "validation"])],
)
def test_more_names_of_splits(name, cells, root):
    message, _ = mistake(root, lines(["path", "label", name], lambda k: (two(k), cells[k // 2 % 2])))
    assert message == f"t.csv has no column split, but {name}, which may be one"


def test_one_group_in_two_spellings_is_one(root):
    source = read(
        root, lines(["path", "label", "group"], lambda k: (two(k), ["P07", "p7", "P 8", "q1.01", "q1.1"][k % 5]))
    )
    assert len(set(source.groups)) == 4
    assert source.groups[0] == source.groups[1] == "P07"
    assert source.notes == ("1 group taken for others that differ in case, blanks or leading zeros only",)


def test_masks_listed_as_images_are_a_mistake(root):
    (root / "i/00_mask.png").write_bytes(b"x")
    table = lines(["path", "label"], lambda k: (two(k),)) + "i/00_mask.png,a\n"
    assert mistake(root, table)[0] == "t.csv lists as images what is named like masks of its images, i/00_mask.png"


def test_names_with_an_extension_are_found_in_folders(root):
    table = lines(["path", "label"], lambda k: (two(k),)).replace("i/", "")
    assert read(root, table).names == NAMES
    for part in ("train", "test"):
        (root / part).mkdir()
        (root / part / f"{part}.png").write_bytes(b"x")
    assert "its paths lie in folders test and train" in mistake(root, "path\ntrain.png\ntest.png\n")[0]


def test_an_imagefolder_of_which_a_split_has_no_labels(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for k in "abc":
            (tmp_path / part / f"{k}.png").write_bytes(b"x")
    (tmp_path / "train/metadata.csv").write_text("file_name,label\na.png,x\nb.png,y\n")
    (tmp_path / "test/metadata.csv").write_text("file_name\na.png\nb.png\nc.png\n")
    source = find_source(str(tmp_path))
    assert dict(zip(source.names, source.labels, strict=True)) == {
        **{"train/a.png": "x", "train/b.png": "y"},
        **{f"test/{k}.png": None for k in "abc"},
    }
    assert "1 image left out that metadata.csv does not list, such as train/c.png" in source.notes


def test_columns_of_a_damaged_parquet_that_are_shorter_than_others(root, monkeypatch):
    class Short:
        names = ("path", "label", "group")

        def shown(self, name):
            return self.cells(name)

        def cells(self, name):
            return [] if name == "group" else ["a.png", "b.png"]

    monkeypatch.setattr(tables, "read_table", lambda table: Short())
    with pytest.raises(DataError, match=r"t.parquet is damaged: its column group has other rows than the rest"):
        tables.role_columns(root / "t.parquet")
