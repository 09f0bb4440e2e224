"""Labels that may hold together, and numbers: how tables write them."""

from __future__ import annotations

import pytest

from sslcurr.data.sources.columns import Columns
from sslcurr.data.sources.labels import read_labels
from sslcurr.errors import DataError
from tests.data.sources.test_columns import lines, mistake, read, root, two

__all__ = ["root"]  # the fixture


@pytest.mark.parametrize("separator", ["|", ";", " | "])
def test_cells_with_several_labels(separator, root):
    cells = [f"b{separator}a", "a", "b", "No Finding", f"a{separator}b", "", "NA", *["a"] * 5]
    source = read(root, lines(["path", "label"], lambda k: (cells[k],)))
    assert (source.target, source.classes) == ("multilabel", ("a", "b"))
    assert source.labels == ["a|b", "a", "b", "", "a|b", None, None, *["a"] * 5]
    assert any(note.startswith("2 images of 10 have several labels, such as b") for note in source.notes)


def test_what_a_person_says_of_the_labels_comes_first(root):
    table = lines(["path", "label"], lambda k: ("a|b" if k % 2 else "a",))
    assert read(root, table, target="classes").classes == ("a", "a|b")
    one = lines(["path", "label"], lambda k: ("a|b" if k == 3 else two(k),))
    assert read(root, one, target="multilabel").labels[3] == "a|b"
    grades = lines(["path", "label"], lambda k: (k % 3,))
    assert read(root, grades, target="regression").labels[:3] == ["0.0", "1.0", "2.0"]
    assert read(root, grades, target="multilabel").classes == ("0", "1", "2")
    ages = lines(["path", "label"], lambda k: (40.5 + k,))
    assert len(read(root, ages, target="classes").classes) == 12


def test_columns_of_labels(root):
    cells = [("1", "0"), ("1.0", "True"), ("0", "no"), ("", "1"), ("", "NA"), *[("0", "0")] * 7]
    source = read(root, lines(["path", "mass", "edema"], lambda k: cells[k]), label="mass,edema")
    assert (source.target, source.classes) == ("multilabel", ("mass", "edema"))
    assert source.labels == ["mass", "edema|mass", "", "?mass|edema", None, *[""] * 7]
    assert not any("not used" in note for note in source.notes)


def test_a_column_whose_name_has_a_comma_is_one_column(root):
    table = lines(["path", "x"], lambda k: (two(k),)).replace("path,x", 'path,"a,b"')
    assert read(root, table, label="a,b").classes == ("a", "b")


@pytest.mark.parametrize(
    ("header", "cells", "columns", "message", "hint"),
    [
        (["label"], ["a|b", "a", "x|No finding"], {}, "has No finding beside other labels", "take one of them out"),
        (
            ["label"],
            ["1.5", "2", "high"],
            {"target": "regression"},
            "has the label 'high', which is no number",
            "empty",
        ),
        (["label"], ["7", "7", "7"], {"target": "regression"}, "has one number only, 7", "nothing to learn"),
        (["label"], ["-1", "3.5", "4.25"], {"target": "regression"}, "has the number -1 beside others", "empty"),
        (
            ["m", "e"],
            [("1", "0"), ("-1", "0")],
            {"label": "m,e"},
            "has '-1' under m in row 2, neither 0 nor 1",
            "known",
        ),
        (
            ["m", "e"],
            [("1", "0"), ("0", "1")],
            {"label": "m,e", "target": "classes"},
            "has a column for each",
            "--label",
        ),
        (
            ["m", "e"],
            [("1", "0"), ("0", "1")],
            {"label": "m,f"},
            "has no column f, which --label-column",
            "known: e, m, path",
        ),
        (["label"], ["Mass|edema", "mass", "x|y"], {}, "has the classes 'Mass' and 'mass'", "one way"),
        (["label"], ["?x|a", "a", "x|a"], {}, "has the label '?x'", "take the | or ? out of its name"),
    ],
)
def test_mistakes_in_labels(header, cells, columns, message, hint, root):
    def row(k):
        cell = cells[k % len(cells)]
        return cell if isinstance(cell, tuple) else (cell,)

    found = mistake(root, lines(["path", *header], row), **columns)
    assert message in found[0]
    assert hint in found[1]


def test_folders_of_numbers(tmp_path):
    from sslcurr.data.sources.catalog import find_source

    for number in ("3", "7.5"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "a.png").write_bytes(b"x")
    source = find_source(str(tmp_path), columns=Columns(target="regression"))
    assert (source.target, source.classes, source.labels) == ("regression", ("number",), ["3.0", "7.5"])
    assert find_source(str(tmp_path)).classes == ("3", "7.5")


def test_a_named_set_says_itself_what_its_labels_are():
    from sslcurr.data.sources.catalog import find_source

    with pytest.raises(DataError, match="the labels of fashion are classes") as caught:
        find_source("fashion", columns=Columns(target="multilabel"))
    assert caught.value.hint == "leave out --target multilabel"
    assert find_source("fashion", columns=Columns(target="classes")).target == "classes"


def test_numbers_have_the_name_of_their_column():
    read = read_labels(["1,5", None, "2"], "regression", "t.csv", name="age")
    assert (read.names, read.labels) == (("age",), ["1.5", None, "2.0"])


def test_all_signs_stand_between_labels(root):
    cells = ["a|b", "a;c", "b", "c; a", "b|c"]
    source = read(root, lines(["path", "label"], lambda k: (cells[k % 5],)))
    assert source.classes == ("a", "b", "c")
    assert source.labels[:4] == ["a|b", "a|c", "b", "a|c"]
    commas = [f'"{cell}"' for cell in ("a, b", "a", "a,c")]
    source = read(root, lines(["path", "label"], lambda k: (commas[k % 3],)), target="multilabel")
    assert source.labels[:3] == ["a|b", "a", "a|c"]
    named = [f'"{cell}"' for cell in ("nevus, left", "nevus, right", "scar")]
    assert read(root, lines(["path", "label"], lambda k: (named[k % 3],))).classes == (
        *("nevus, left", "nevus, right", "scar"),
    )


@pytest.mark.parametrize(
    ("cells", "columns", "message"),
    [
        (["effusion, mass", "mass", "effusion, nodule"], {}, "'effusion, mass' beside 'mass': one class, or several"),
        (["a|b", "a,b", "a"], {"target": "multilabel"}, "labels with a comma between them, 'a,b', beside others"),
        (["1,532", "488", "1,201", "977"], {"target": "regression"}, "1,532: a comma before decimals, or between"),
        (["1,5", "2.5", "3,5"], {"target": "regression"}, "1,5 beside 2.5: a comma before decimals, or between"),
        (["1.5", "1e400"], {"target": "regression"}, "the number 1e400, which is too large"),
    ],
)
def test_signs_that_may_mean_two_things_are_asked_about(cells, columns, message, root):
    table = lines(["path", "label"], lambda k: (f'"{cells[k % len(cells)]}"',))
    found, hint = mistake(root, table, **columns)
    assert message in found
    assert hint


def test_decimal_commas_are_read_where_they_are_clear():
    found = read_labels(["0,125", "1,500", "2,5"], "regression", "t.csv")
    assert found.labels == ["0.125", "1.5", "2.5"]


def test_one_cell_that_is_no_number_among_many():
    with pytest.raises(DataError, match="'unknown' beside 40 numbers: a missing value"):
        read_labels([f"{number}.5" for number in range(40)] + ["unknown"], None, "t.csv")


def test_one_column_of_yes_and_no_is_one_label_that_may_hold(root):
    cells = ["1", "0", "", "0"]
    source = read(root, lines(["path", "mass"], lambda k: (cells[k % 4],)), label="mass", target="multilabel")
    assert (source.classes, source.label_columns) == (("mass",), ("mass",))
    assert source.labels[:4] == ["mass", "", None, ""]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("none,none", "names none beside others"),
        ("none,mass", "names none beside others"),
        ("mass,mass", "names mass twice"),
        ("mass,", "names nothing between two commas"),
    ],
)
def test_columns_of_labels_that_cannot_be(label, message, root):
    found, hint = mistake(root, lines(["path", "mass", "edema"], lambda k: (k % 2, 1 - k % 2)), label=label)
    assert message in found
    assert hint
