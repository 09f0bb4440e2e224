"""Blank images, slivers of the range, frames left out: what a check says, a pack keeps, and where a training stops."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from sslcurr.data.check import check_source
from sslcurr.data.decode import image as decode_image
from sslcurr.data.decode import read
from sslcurr.data.decode.image import Traits
from sslcurr.data.flaws import flaws_of, notes_on, require_content
from sslcurr.data.pack import load_pack
from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import find_source
from sslcurr.errors import DataError
from tests.conftest import QUICK
from tests.data.decode.test_dicom import lut, made, smooth
from tests.data.decode.test_pictures import geotiff, several, short_png
from tests.earlier import write_unsealed


def noise(seed: int, high: int = 256) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, high, (12, 10, 3), dtype=np.uint8))


def make_folder(root, count: int = 6):
    for i in range(count):
        for name in "ab":
            (root / name).mkdir(parents=True, exist_ok=True)
            noise(100 * ord(name) + i).save(root / name / f"{i}.png")
    return root


def transparent(seed: int) -> Image.Image:
    return Image.fromarray(np.dstack([np.asarray(noise(seed)), np.zeros((12, 10), np.uint8)]))


@pytest.fixture
def flawed(tmp_path):
    """Sound images with one or two of each flaw among them."""
    root = make_folder(tmp_path / "flawed")
    Image.new("RGB", (12, 10), (255, 255, 255)).save(root / "a/3.png")
    transparent(1).save(root / "a/4.png")
    transparent(2).save(root / "b/4.png")
    noise(3, high=17).save(root / "b/5.png")
    (root / "a/9.gif").write_bytes(several("GIF", count=4)[1])
    (root / "b/9.mpo").write_bytes(several("MPO")[1])
    grid = np.random.default_rng(0).uniform(0, 1, (10, 12)).astype("f4")
    grid[:3] = -9999
    (root / "b/8.tif").write_bytes(geotiff(grid, "-9999"))
    return root


PROBLEMS = [
    "a/3.png: blank, every pixel is the same",
    "a/4.png, and 1 more: transparent everywhere, and so black: save them without transparency",
    "b/5.png (0 to 16 of 255): less than 10% of the range of brightness is used",
    "a/9.gif (4 frames): only the first frame is used; --frames all takes each, --frames first says that this is meant",
]
NOTES = [
    "b/8.tif (30.0%): pixels without a value are black, and do not count for the window",
    "b/9.mpo (3 pictures): of several pictures in one file, the main one is used",
]


def test_a_check_names_each_kind_with_its_number_and_an_example(flawed):
    found = check_source(find_source(str(flawed)))
    assert found.problems == PROBLEMS
    assert found.flaws.notes == NOTES
    assert found.copies == []  # the transparent ones are equal, and that is not what is wrong with them
    assert check_source(find_source(str(flawed)), workers=1) == found


def test_what_was_asked_for_is_no_problem(flawed):
    found = check_source(find_source(str(flawed), frames="first"))
    assert found.problems == [PROBLEMS[0], PROBLEMS[1], PROBLEMS[2]]
    every = find_source(str(flawed), frames="all")
    assert [name for name in every.names if ".gif" in name] == [f"a/9.gif#{i}" for i in (1, 2, 3, 4)]
    assert check_source(every).problems == found.problems


def test_the_command_says_so_and_writes_it_to_its_tables(sslcurr, flawed, tmp_path):
    result = sslcurr("data", "check", str(flawed), "--json", "--out", str(tmp_path / "all.csv"))
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["problems"] == 4
    assert document["blank"] == ["a/3.png", "a/4.png", "b/4.png"]
    assert document["narrow_range"] == ["b/5.png"]
    assert document["frames_left_out"] == ["a/9.gif"]
    assert document["without_data"] == ["b/8.tif"]
    assert [note for note in document["notes"] if "b/" in note] == NOTES
    assert NOTES[0] in result.stderr
    rows = {row["path"]: row["problem"] for row in csv.DictReader((tmp_path / "all.csv").read_text().splitlines())}
    assert {name: problem for name, problem in rows.items() if problem} == {
        "a/3.png": "blank",
        "a/4.png": "transparent",
        "b/4.png": "transparent",
        "b/5.png": "uses 0 to 16 of 255 only",
        "a/9.gif": "has 4 frames",
    }
    assert all(f"problem: {problem}" in sslcurr("data", "check", str(flawed)).stdout for problem in PROBLEMS)


def test_a_run_says_the_same_also_from_a_pack_that_is_there(sslcurr, flawed, monkeypatch):
    for _ in range(2):
        result = sslcurr("data", "prepare", str(flawed), "--image-size", "16")
        assert result.exit_code == 0
        for line in (*PROBLEMS, *NOTES):
            assert line in " ".join(result.stderr.split())
        monkeypatch.setattr(read, "decode_small", None)  # the second time nothing is decoded


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda name, i: Image.new("L", (9, 9), 30), r"every image is blank.* \(a/0\.png, and 11 more\)"),
        (lambda name, i: noise(i, 12), r"every image is blank or uses less than 10% of the range"),
        (
            lambda name, i: transparent(i) if name == "b" else None,
            r"every image of class b is blank.* \(b/0\.png, and 5",
        ),
    ],
)
def test_no_training_starts_on_images_that_show_nothing(sslcurr, tmp_path, spoil, message):
    root = make_folder(tmp_path / "set")
    for name in "ab":
        for i in range(6):
            image = spoil(name, i)
            if image is not None:
                image.save(root / name / f"{i}.png")
    result = sslcurr("pretrain", "rotation", "--dataset", str(root), *QUICK)
    assert result.exit_code == 1
    error, hint = result.stderr.strip().splitlines()[-2:]
    with pytest.raises(DataError, match=message):
        require_content(open_pack(find_source(str(root)), 16, tmp_path / "packs"))
    assert error.startswith("error: every image")
    assert hint.startswith("hint: sslcurr data check lists them")
    assert not list((sslcurr.runs / "stages").glob("*"))


def test_a_split_of_blank_images_stops_and_one_image_with_content_does_not(tmp_path):
    for split in ("train", "test"):
        make_folder(tmp_path / split)
    for path in (tmp_path / "test").rglob("*.png"):
        Image.new("L", (9, 9)).save(path)
    pack = open_pack(find_source(str(tmp_path)), 16, tmp_path / "packs")
    with pytest.raises(DataError, match=r"every image of the split test is blank"):
        require_content(pack)
    noise(5).save(tmp_path / "test/a/0.png")
    noise(6).save(tmp_path / "test/b/0.png")
    pack = open_pack(find_source(str(tmp_path)), 16, tmp_path / "packs")
    assert notes_on(pack) == ["test/a/1.png, and 9 more: blank, every pixel is the same"]


# --- packs


def test_a_pack_keeps_what_was_noted(flawed, tmp_path):
    pack = open_pack(find_source(str(flawed)), 16, tmp_path / "packs")
    for name, row in zip(pack.names, pack.traits, strict=True):
        traits = Traits()
        read.decode((flawed / name).read_bytes(), None, traits)
        assert Traits.of_integers(row) == traits
    assert notes_on(pack) == [*PROBLEMS, *NOTES]


def strip_traits(folder) -> None:
    """Makes a pack one of a version that noted nothing."""
    with np.load(folder / "rows.npz", allow_pickle=False) as arrays:
        kept = {key: arrays[key] for key in arrays if key != "traits"}
    np.savez(folder / "rows.npz", **kept)
    about = json.loads((folder / "pack.json").read_text())
    del about["decoder"]
    write_unsealed(folder / "pack.json", about)


def test_a_pack_without_notes_serves_and_what_is_taken_from_it_is_looked_at(tmp_path):
    root = make_folder(tmp_path / "set")
    Image.new("RGB", (12, 10), (9, 9, 9)).save(root / "a/1.png")
    pack = open_pack(find_source(str(root)), 16, tmp_path / "packs")
    strip_traits(pack.folder)
    older = open_pack(find_source(str(root)), 16, tmp_path / "packs")
    assert older.folder == pack.folder
    assert older.traits is None
    assert notes_on(older) == []
    noise(77).save(root / "a/7.png")
    newer = open_pack(find_source(str(root)), 16, tmp_path / "packs")
    assert notes_on(newer) == ["a/1.png: blank, every pixel is the same"]


def test_rows_of_a_part_that_notes_nothing_are_made_again(tmp_path):
    root = make_folder(tmp_path / "set")
    (root / "b/5.png").write_bytes(short_png(4))
    with pytest.raises(DataError, match="fewer rows"):
        open_pack(find_source(str(root)), 16, tmp_path / "packs")
    (lines,) = (tmp_path / "packs").glob("*.part/rows.jsonl")
    rows = [json.loads(line.rpartition(" ")[0])[:5] for line in lines.read_text().splitlines()]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack = open_pack(find_source(str(root)), 16, tmp_path / "packs", skip_broken=True)
    assert pack.num_images == 11
    assert (pack.traits[:, 1] > 200).all()  # the brightest of each image
    assert notes_on(pack) == []


def test_only_files_that_gave_other_pixels_are_known_by_more_than_their_bytes(tmp_path):
    stored, table = smooth(top=4095), lut(0, list(range(4096)), 16)
    grid = np.random.default_rng(0).uniform(0, 1, (10, 12)).astype("f4")
    files = {
        "left.dcm": (made((stored << 4).astype("u2"), bits=12, HighBit=15), True),
        "right.dcm": (made(stored, bits=12), False),
        "table.dcm": (made(stored, bits=12, VOILUTSequence=[table]), True),
        "table_12.dcm": (made(stored, bits=12, VOILUTSequence=[lut(0, list(range(4096)), 12)]), False),
        "unit.dcm": (made(stored, bits=12, ModalityLUTSequence=[table]), False),
        "slope.dcm": (made(stored, bits=12, RescaleSlope=2, RescaleIntercept=1), False),
        # By percentiles an intercept alone changes nothing; by a window it does.
        "no_slope.dcm": (made(stored, bits=12, RescaleIntercept=1), False),
        "no_slope_window.dcm": (made(stored, bits=12, RescaleIntercept=1, WindowCenter=9, WindowWidth=9), True),
        "grid.tif": (geotiff(grid, None), False),
        "declared.tif": (geotiff(np.where(grid < 0.2, -1, grid), "-1"), True),
        "nowhere.tif": (geotiff(grid, "-1"), False),
        "a.gif": (several("GIF")[1], False),
    }
    (tmp_path / "set").mkdir()
    for name, (data, _) in files.items():
        (tmp_path / "set" / name).write_bytes(data)
    pack = open_pack(find_source(str(tmp_path / "set")), 16, tmp_path / "packs")
    with np.load(pack.folder / "rows.npz") as rows:
        known_by = {name: row.tobytes() for name, row in zip(pack.names, rows["sha256"], strict=True)}
    for name, (data, is_revised) in files.items():
        digest = hashlib.sha256(data + b"decoder 2" * is_revised)
        assert known_by[name] == digest.digest(), name


def test_packs_of_files_that_may_be_revised_are_made_anew(tmp_path, monkeypatch):
    whole, decoded = read.decode_small, []
    monkeypatch.setattr(read, "decode_small", lambda *arguments: decoded.append(1) or whole(*arguments))
    for suffix, count in ((".tif", 2), (".png", 0)):
        root = tmp_path / suffix
        root.mkdir()
        for i in range(2):
            noise(i).save(root / f"{i}{suffix}")
        with monkeypatch.context() as patch:
            patch.setattr(decode_image, "may_be_revised", lambda _: False)
            older = open_pack(find_source(str(root)), 16, tmp_path / "packs")
        strip_traits(older.folder)
        decoded.clear()
        newer = open_pack(find_source(str(root)), 16, tmp_path / "packs")
        assert len(decoded) == count
        assert (newer.folder == older.folder) == (count == 0)
        assert newer.fingerprint == older.fingerprint
        assert np.array_equal(newer.images, load_pack(older.folder).images)


def test_flaws_of_nothing_are_none():
    flaws = flaws_of([("a", Traits(low=0, high=255), 100)])
    assert (flaws.problems, flaws.notes, flaws.reasons()) == ([], [], {})


@pytest.mark.parametrize("value", [-9999.0, -1e10, 65535.0])
def test_a_value_for_no_data_that_leaves_one_level_is_reported(value):
    grid = np.random.default_rng(0).uniform(0, 1, (40, 40)).astype("f4")
    grid[:3] = value
    traits = Traits()
    read.decode(geotiff(grid, None), None, traits)
    assert traits.range_used == 0.0
    assert len(flaws_of([("x", traits, 1600)]).problems) == 1
    two = Traits()
    read.decode(geotiff(np.where(grid > 0.5, np.float32(1), np.float32(0)), None), None, two)
    assert two.range_used == 1.0  # black and white, and meant so


@pytest.mark.parametrize(
    ("elements", "used"),
    [
        ({"WindowCenter": 2048, "WindowWidth": 4096}, None),  # one for these values
        ({"WindowCenter": 2000, "WindowWidth": 20}, "0 to 0"),  # black and white, next to nothing between
        ({"WindowCenter": 40, "WindowWidth": 400}, "255 to 255"),  # that of Hounsfield units, without their offset
        ({"WindowCenter": 9000, "WindowWidth": 400}, "0 to 0"),
        ({"VOILUTSequence": [lut(0, list(range(0, 65536, 257)), 16)]}, "255 to 255"),  # of 8 bits, over 12
    ],
)
def test_a_window_for_other_values_is_reported(elements, used):
    stored = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype("u2")
    stored[:20] = np.minimum(stored[:20], 1990)
    traits = Traits()
    shown = read.decode(made(stored, bits=12, **elements), None, traits)
    problems = flaws_of([("x", traits, 1600)]).problems
    if used is None:
        assert problems == []
        assert shown.min() < 5 < 250 < shown.max()
    elif shown.min() == shown.max():
        assert problems == ["x: blank, every pixel is the same"]
    else:
        assert problems == [f"x ({used} of 255): less than 10% of the range of brightness is used"]


def test_a_head_among_black_air_and_a_picture_of_two_values_are_no_problem():
    stored = np.zeros((40, 40), "u2")
    stored[15:25, 15:25] = np.arange(1000, 1100).reshape(10, 10)
    stored[15, 15:25] = 3000
    for pixels in (stored, np.where(stored > 0, 1, 0).astype("u2")):
        traits = Traits()
        read.decode(made(pixels, bits=12, WindowCenter=1050, WindowWidth=100), None, traits)
        assert not [line for line in flaws_of([("x", traits, 1600)]).problems if "range" in line]
