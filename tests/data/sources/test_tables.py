"""Tables with whatever people and programs put into them, against a slow reading of the same rules."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslcurr.data.sources.catalog import find_source
from sslcurr.data.sources.sets.xray import APPEARANCES
from sslcurr.errors import DataError
from tests import trees

quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

FILES = (
    "a.png",
    "b c.png",
    "sub/d.png",
    "sub/de ep/e,f.png",
    'q"uo"te.png',
    "it's.png",
    ".hidden.png",
    "..dots.png",
    "semi;colon.png",
    "#hash.png",
    "caf\u00e9.png",
    "cafe\u0301.png",  # looks the same, and is another file here
    "日本/画像.png",
    "tab\there.png",
    "new\nline.png",
    "no extension",
)
# What a table may say beside text of its own; NUL and lone carriage returns included.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SPLITS = {
    **dict.fromkeys(["train", "Training", "TRAIN"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "dev"], "val"),
    **dict.fromkeys(["test", "testing", "Test"], "test"),
    "": "",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables").resolve()
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def padded(cells):
    blanks = st.sampled_from(["", "", " ", "\t"])
    return st.tuples(blanks, cells, blanks).map("".join)


PATHS = st.one_of(
    st.sampled_from(FILES),
    st.sampled_from(FILES),
    st.sampled_from(FILES).map("./{}".format),
    st.sampled_from(FILES).map("sub/..//{}".format),
    st.sampled_from(FILES).map("ROOT/{}".format),
    st.sampled_from(FILES).map("ROOT/sub/../{}".format),
    st.sampled_from(["gone.png", "sub", "/nowhere/x.png", "x" * 300]),
    TEXT,
)
LABELS = st.one_of(
    st.sampled_from(["", "cat", "dog, big", "0", "1.0", "2.00", "+3.0", "0.5", ".5", "1.", '"', "Ü"]), TEXT
)
GROUPS = st.one_of(st.sampled_from(["", "", "p1", "p2", "p3", "7.0", "7"]), TEXT)
CELLS = {
    "path": padded(PATHS),
    "label": padded(LABELS),
    "group": padded(GROUPS),
    "split": st.one_of(*[st.sampled_from([*SPLITS, ""])] * 9, TEXT),
    "extra": TEXT,
    "": TEXT,
}


@st.composite
def csv_texts(draw):
    """The text of a table: columns in any order, quoted or not, with blank lines, short and long rows."""
    optional = draw(st.lists(st.sampled_from(["label", "group", "split", "extra", ""]), unique=True))
    path = draw(st.sampled_from([*["path"] * 7, *["file_name"] * 4, "paht"]))
    header = draw(st.permutations([path, *optional]))
    distinct = draw(st.sampled_from([True, True, False]))  # most tables name a file once
    rows = []
    for place in range(draw(st.sampled_from([0, 1, 2, 3, 3, 4, 5, 7]))):
        row = [draw(CELLS["path" if name == path else name]) for name in header]
        if distinct:
            row[header.index(path)] = draw(st.sampled_from(["", "./"])) + FILES[place]
        if draw(st.integers(0, 25)) == 0:
            row = draw(st.sampled_from([[], [""] * len(row), row[:-1], [*row, ""], [*row, "more"]]))
        rows.append(row)
    out = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(out, lineterminator=end, quoting=quoting)
    writer.writerow([draw(st.sampled_from(["", " "])) + name for name in header])
    for row in rows:
        writer.writerow(row)
    return draw(st.sampled_from(["", "\ufeff"])) + out.getvalue() + draw(st.sampled_from(["", end, end * 3]))


ABSENT = {
    "",
    "na",
    "n/a",
    "nan",
    "none",
    "null",
    "nil",
    "nat",
    "-",
    "--",
    "---",
    "?",
    "??",
    ".",
    "\u2013",
    "\u2014",
    "\\n",
}


def without_absent(cells):
    """A cell that says that there is nothing is empty; - beside + is a value."""
    return ["" if cell.casefold() in ABSENT and (cell != "-" or "+" not in cells) else cell for cell in cells]


def is_several(label):
    return any(sum(part.strip() != "" for part in label.split(separator)) > 1 for separator in "|;")


class Wrong(Exception):
    """By the slow reading too, there is something wrong with the table."""


class Several(Exception):
    """Labels may hold together, or it is asked whether they may: `test_labels.py` is about them."""


def numbers_as_names(cells):
    """3.0 is 3, unless another cell is a fraction."""

    def parts(cell):
        head, point, tail = (cell[1:] if cell[:1] in ("+", "-") else cell).partition(".")
        digits = point and (head + tail).isdecimal()
        return (head, tail) if digits else None

    if any(p and any(digit in "123456789" for digit in p[1]) for p in map(parts, cells)):
        return cells
    whole = [p is not None and p[0] != "" and p[1] != "" and set(p[1]) == {"0"} for p in map(parts, cells)]
    return [cell.partition(".")[0] if is_whole else cell for cell, is_whole in zip(cells, whole, strict=True)]


def slowly(text, root):
    """Names, labels, groups, splits and the names of faults."""
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    header = [cell.strip() for cell in rows[0]]
    table = []
    for row in rows[1:]:
        if any(cell != "" for cell in row[len(header) :]):
            raise Wrong("long row")
        if any(cell != "" for cell in row):
            table.append({name: (row[i].strip() if i < len(row) else "") for i, name in enumerate(header)})
    key = "path" if "path" in header else "file_name"
    if key not in header or not table or not all(row[key] for row in table):
        raise Wrong("no paths")
    names = []
    for row in table:
        whole = os.path.normpath(os.path.join(root, row[key]))
        inside = whole.startswith(f"{root}/") or whole == str(root)
        relative = os.path.relpath(whole, root) if inside or not row[key].startswith("/") else whole
        if row[key].casefold() in ABSENT:
            raise Wrong("no path")
        names.append(relative)
    if len(set(names)) < len(names):
        raise Wrong("named twice")
    labels = numbers_as_names(without_absent([row.get("label", "") for row in table]))
    groups = numbers_as_names(without_absent([row.get("group", "") for row in table]))
    given = without_absent([row.get("split", "") for row in table])
    if not {split.lower() for split in given} <= {name.lower() for name in SPLITS}:
        raise Wrong("unknown split")
    splits = [{k.lower(): v for k, v in SPLITS.items()}[split.lower()] for split in given]
    parts = {}
    for group, split in zip(groups, splits, strict=True):
        if group and split:
            parts.setdefault(group, set()).add(split)
    if any(len(each) > 1 for each in parts.values()):
        raise Wrong("a group in two splits")
    there = [os.path.isfile(os.path.join(root, name)) for name in names]
    if not any(there):
        raise Wrong("nothing is there")
    kept = [i for i in range(len(names)) if there[i]]
    if any(is_several(labels[i]) for i in kept):
        raise Several
    plain = {" ".join(labels[i].replace("_", " ").split()).casefold(): labels[i] for i in kept if len(labels[i]) > 1}
    if len(plain) < len({labels[i] for i in kept if len(labels[i]) > 1}):
        raise Wrong("classes that differ in case")
    splits = [splits[i] for i in kept]
    if "" not in splits and "train" in splits and not {"val", "test"} <= set(splits):
        splits = ["" if split == "train" else split for split in splits]
    groups = [groups[i] for i in kept]
    return (
        [names[i] for i in kept],
        [labels[i] or None for i in kept],
        groups if set(groups) > {""} or "" not in groups else None,
        splits if set(splits) != {""} else None,
        [name for name, here in zip(names, there, strict=True) if not here],
    )


def check(table, expected):
    """`find_source` says what `expected` says, or both find something wrong."""
    try:
        wanted = expected()
    except Several:
        with suppress(DataError):
            assert find_source(str(table)).target == "multilabel"
        return
    except Wrong:
        with pytest.raises(DataError) as caught:
            find_source(str(table))
        assert str(caught.value)
        assert caught.value.hint
        return
    source = find_source(str(table))
    faults = [fault.name for fault in source.faults]
    assert (source.names, source.labels, source.groups, source.splits, faults) == wanted
    assert source.classes == tuple(sorted({label for label in source.labels if label is not None}))


@quickly
@given(text=csv_texts())
def test_csv(root, text):
    text = text.replace("ROOT", str(root))
    table = root / "table.csv"
    table.write_bytes(text.encode())
    check(table, lambda: slowly(text, root))


def test_groups_of_files_that_are_not_there_are_none(root):
    table = root / "groups.csv"
    table.write_text("path,label,group\na.png,,\ngone.png,,p1\n")
    check(table, lambda: slowly(table.read_text(), root))
    assert find_source(str(table)).groups is None


def test_groups_of_other_characters_are_other_groups(root):
    table = root / "groups.csv"
    table.write_text("path,label,group\na.png,,1-1\nb c.png,,11\nd/e.png,,_\n")
    check(table, lambda: slowly(table.read_text(), root))
    table.write_text("path,label,group\na.png,,_\nb c.png,,\n")
    check(table, lambda: slowly(table.read_text(), root))


@quickly
@given(data=st.data())
def test_json_lines_say_what_csv_says(root, data):
    columns = data.draw(st.lists(st.sampled_from(["label", "group", "split", "extra"]), unique=True))
    rows = [
        {name: data.draw(CELLS[name]) for name in data.draw(st.permutations(["path", *columns]))}
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    for row in rows:
        row["path"] = row["path"].replace("ROOT", str(root))
    out = io.StringIO()
    writer = csv.DictWriter(out, ["path", *columns], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    ascii_only = data.draw(st.booleans())
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    table = root / "table.jsonl"
    table.write_bytes(data.draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join(lines).encode())

    def expected():
        # In CSV a row without anything in it is a blank line; here it is an object without a path.
        if not all(any(row.values()) for row in rows):
            raise Wrong("an object without a path")
        return slowly(out.getvalue(), root)

    check(table, expected)


@quickly
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_any_bytes_are_a_table_or_a_mistake(root, content, suffix):
    table = root / f"bytes{suffix}"
    table.write_bytes(content)
    with pytest.raises(DataError) as caught:
        find_source(str(table))
    assert caught.value.hint


# ---- tables of the named data sets

MARKS = st.sampled_from(["0", "0", "0", "0.0", "", "1", "1.0", "TRUE", "false", "2", "x"])
ONE, ZERO = {"1", "1.0", "true"}, {"0", "0.0", "false", ""}


def column_of(cells, columns):
    """The column that is marked, None for none, ... for nonsense."""
    low = [cell.strip().lower() for cell in cells]
    if not set(low) <= ONE | ZERO or sum(cell in ONE for cell in low) > 1:
        return ...
    return next((column for column, cell in zip(columns, low, strict=True) if cell in ONE), None)


@st.composite
def one_hot_rows(draw, keys, width, end=""):
    """Rows of a one-hot table, most of which have one mark."""
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        marked = draw(st.integers(0, width))
        cells = ["1.0" if i == marked else "0.0" for i in range(width)]
        if draw(st.integers(0, 3)) == 0:
            cells = draw(st.lists(MARKS, min_size=width, max_size=width))
        rows.append([draw(keys) + end, *cells])
    return rows


def write_rows(path, header, rows, end):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(header)
        writer.writerows(rows)


def expect(home, name, wanted, faulty):
    """`wanted` is image -> (label, group), in order."""
    if not wanted:
        with pytest.raises(DataError) as caught:
            find_source(name, home)
        assert caught.value.hint
        return
    source = find_source(name, home)
    found = zip(source.labels, source.groups or [""] * len(source.names), strict=True)
    assert dict(zip([path.rpartition("/")[2][:-4] for path in source.names], found, strict=True)) == wanted
    assert [path.rpartition("/")[2][:-4] for path in source.names] == list(wanted)
    assert {fault.name for fault in source.faults} == faulty
    assert len(source.faults) >= len(faulty)


ISIC_KEYS = tuple(f"ISIC_{number:07d}" for number in range(6))  # 0 to 3 have a file, 8 has one and is in no table


@pytest.fixture(scope="module")
def isic(tmp_path_factory):
    home = tmp_path_factory.mktemp("isic2019")
    for key in (*ISIC_KEYS[:4], "ISIC_0000008"):
        trees.write(home / f"ISIC_2019_Training_Input/{key}.jpg", "x")
    return home


@quickly
@given(
    truth=one_hot_rows(st.sampled_from(ISIC_KEYS), 9),
    lesions=st.dictionaries(st.sampled_from(ISIC_KEYS), st.sampled_from(["", "BCN_1", "BCN_2", "MSK 3"])),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_isic2019_with_any_cells(isic, truth, lesions, end):
    columns = [*trees.SKIN_CLASSES, "UNK"]
    write_rows(isic / "ISIC_2019_Training_GroundTruth.csv", ["image", *columns], truth, end)
    metadata = [["55.0", image, "", lesion] for image, lesion in lesions.items()]
    write_rows(isic / "ISIC_2019_Training_Metadata.csv", ["age_approx", "image", "sex", "lesion_id"], metadata, end)
    said = {}
    for image, *cells in truth:
        column = column_of(cells, columns)
        said.setdefault(image, []).append(None if column == "UNK" else column)
    nonsense = {image for image, labels in said.items() if ... in labels or len(set(labels)) > 1}
    missing = {image for image in said if image not in ISIC_KEYS[:4]}
    order = dict.fromkeys(image for image, *_ in truth if image not in nonsense | missing)
    wanted = {image: (said[image][0], lesions.get(image, "")) for image in order}
    expect(isic, "isic2019", wanted, nonsense | missing)


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    home = tmp_path_factory.mktemp("covid")
    for key in "abcdef":
        trees.write(home / f"train/{key * 12}.dcm", "x")
    return home


@quickly
@given(
    studies=one_hot_rows(st.sampled_from(["s1", "s2", "s3"]), 4, end="_study"),
    images=st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            st.sampled_from(["opacity 1 2 3 4 5", "none 1 0 0 1 1", ""]),
            st.sampled_from(["s1", "s2", "s3", "s4", ""]),
        ),
        max_size=9,
    ),
    four=st.booleans(),
)
def test_covid_with_any_cells(chests, studies, images, four):
    write_rows(chests / "train_study_level.csv", ["id", *APPEARANCES], studies, "\n")
    rows = [[f"{key * 12}_image", "", label, study] for key, label, study in images]
    write_rows(chests / "train_image_level.csv", ["id", "boxes", "label", "StudyInstanceUID"], rows, "\r\n")
    short = ["negative", "typical", "indeterminate", "atypical"]
    marks = {}
    for study, *cells in studies:
        marks.setdefault(study.removesuffix("_study"), set()).add(column_of(cells, short))
    bad_studies = {study for study, columns in marks.items() if len(columns) > 1 or ... in columns}
    boxed = {study for _, label, study in images if label.startswith("opacity")}
    said = {}
    for key, box, study in images:
        label = next(iter(marks.get(study, {None}))) if study not in bad_studies else ...
        if label not in (None, ..., "negative"):
            label = None if study in boxed and not box.startswith("opacity") else (label if four else "pneumonia")
        said.setdefault(key, set()).add((label, study))
    nonsense = {key for key, each in said.items() if len(each) > 1 or any(label is ... for label, _ in each)}
    missing = {key for key in said if key in "gh"}
    order = dict.fromkeys(key for key, _, _ in images if key not in nonsense | missing)
    wanted = {key * 12: next(iter(said[key])) for key in order}
    expect(chests, "covid-4" if four else "covid", wanted, {key * 12 for key in nonsense | missing})
