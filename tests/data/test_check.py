"""What is wrong with a data set, found before a training does; and `sslcurr data` on the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from sslcurr.data.check import check_source, numbered, rows_of_copies
from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import CATALOG, find_source
from sslcurr.data.split import SplitSettings, assign
from tests.conftest import QUICK


def picture(path, seed, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def faulty(tmp_path):
    """A table with one of each fault: 12 sound images, and what goes wrong in practice."""
    root = tmp_path / "faulty"
    rows = [("path", "label", "group", "split")]
    for i in range(12):
        picture(root / f"{i:02d}.png", i)
        rows.append((f"{i:02d}.png", "ab"[i % 2], f"Smith^John {i // 3}", ""))
    rows.append(("gone.png", "a", "", ""))
    (root / "torn.png").write_bytes((root / "00.png").read_bytes()[:100])
    rows.append(("torn.png", "a", "", ""))
    picture(root / "copy.bmp", 0)  # the pixels of 00.png in another format, in another group
    rows.append(("copy.bmp", "a", "", ""))
    picture(root / "contradiction.bmp", 1)  # those of 01.png, which is b
    rows.append(("contradiction.bmp", "a", "Smith^John 0", ""))
    picture(root / "same.bmp", 2)  # those of 02.png, in its group
    rows.append(("same.bmp", "a", "Smith^John 0", ""))
    for i in range(2):
        picture(root / f"rare{i}.png", 100 + i)
        rows.append((f"rare{i}.png", "rare", "", ""))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_findings(faulty):
    found = check_source(find_source(str(faulty / "labels.csv")), workers=2)
    assert found.num_images == 19
    assert [(fault.name, fault.reason) for fault in found.faults] == [("gone.png", "is not there")]
    assert [fault.name for fault in found.broken] == ["torn.png"]
    assert {name: dict(counts) for name, counts in found.counts.items()} == {
        "a": {"": 9},
        "b": {"": 6},
        "rare": {"": 2},
    }
    assert found.copies == [["00.png", "copy.bmp"], ["01.png", "contradiction.bmp"], ["02.png", "same.bmp"]]
    assert found.contradictions == [["01.png", "contradiction.bmp"]]
    assert found.apart == [["00.png", "copy.bmp"]]
    assert found.across == []
    assert found.undivided.startswith("class rare has 2 groups, too few to be in each of test, train, val")
    assert found.parts == {}
    assert found.sides == (10, 12, 12)
    assert found.num_grey == 0
    assert found.num_groups == 4 + 3
    assert len(found.problems) == 4
    assert rows_of_copies([["x", "y", "z"]]) == [("x", "y"), ("x", "z")]


def test_workers_find_the_same(faulty):
    source = find_source(str(faulty / "labels.csv"))
    calls = []
    one = check_source(source, workers=1, progress=lambda *done: calls.append(done))
    assert one == check_source(source, workers=4)
    assert calls == [(i, 18) for i in range(1, 19)]


def test_equal_images_in_given_splits_are_a_problem(tmp_path):
    for i, split in enumerate(("train", "test")):
        for label in "ab":
            for k in range(3):
                picture(
                    tmp_path / split / label / f"{k}.png",
                    seed=0 if (label, k) == ("a", 1) else 1000 * (i + 1) + 10 * ord(label) + k,
                )
    found = check_source(find_source(str(tmp_path)))
    assert found.across == [["test/a/1.png", "train/a/1.png"]]
    assert found.problems == ["test/a/1.png = train/a/1.png: the same image in different splits"]
    assert found.counts["a"] == {"test": 3, "": 3}


def test_equal_images_that_would_be_trained_on_and_tested_on_are_a_problem(tmp_path, sslcurr):
    for label in "ab":
        for k in range(10):
            for twin in "xy":
                picture(tmp_path / "twins" / label / f"{k}{twin}.png", seed=100 * ord(label) + k)
    source = find_source(str(tmp_path / "twins"))
    pack = open_pack(source, 16, tmp_path / "packs")
    part = dict(zip(pack.names, assign(pack, SplitSettings()).tolist(), strict=True))
    expected = [
        pair
        for pair in ([f"{label}/{k}x.png", f"{label}/{k}y.png"] for label in "ab" for k in range(10))
        if {part[name] for name in pair} == {"train", "test"}
    ]
    found = check_source(source)
    assert len(found.apart) == 20 > len(expected) > 0
    assert found.divided == expected
    assert found.problems == [f"{a} = {b}: the same image for training and for testing" for a, b in expected]
    result = sslcurr("data", "check", str(tmp_path / "twins"), "--json")
    assert (result.exit_code, json.loads(result.stdout)["trained_and_tested"]) == (1, expected)


def test_classes_without_an_image_left_are_a_problem(tmp_path):
    picture(tmp_path / "a/0.png", 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/0.png").write_bytes(b"no image")
    found = check_source(find_source(str(tmp_path)))
    assert found.empty == ["b"]
    assert found.undivided.startswith("class a has 1 images")


@pytest.mark.parametrize("name", ["fashion", "digits"])
def test_packaged_sets_are_sound(name):
    found = check_source(find_source(name))
    assert found.problems == []
    assert sum(sum(counts.values()) for counts in found.counts.values()) == CATALOG[name].num_images
    assert len(found.counts) == CATALOG[name].num_classes


def test_elpv_is_sound():
    source = find_source("elpv")
    assert len(source.names) == CATALOG["elpv"].num_images
    assert (source.root / source.names[0]).is_file()
    # 1,508 cells with probability 0, 295 with a third: functional; 106 and 715 with two thirds and one.
    assert (source.labels.count("functional"), source.labels.count("defective")) == (1803, 821)


# --- the command line


def test_check_says_all_and_exits_with_1(sslcurr, faulty):
    result = sslcurr("data", "check", str(faulty / "labels.csv"))
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith(("problem", "copy"))]
    assert lines == [
        "problem: gone.png is not there",
        lines[1],
        "problem: 01.png = contradiction.bmp: the same image with different labels",
        "problem: class rare has 2 groups, too few to be in each of test, train, val",
        "copy: 00.png = copy.bmp",
    ]
    assert lines[1].startswith("problem: torn.png cannot be decoded: ")
    assert "19 images, 7 groups" in result.stdout
    assert "Smith" not in result.stdout + result.stderr


def test_check_writes_tables_without_names_of_patients(sslcurr, faulty, tmp_path):
    out, copies = tmp_path / "all.csv", tmp_path / "copies.csv"
    result = sslcurr(
        "data", "check", str(faulty / "labels.csv"), "--out", str(out), "--duplicates", str(copies), "--json"
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == 4
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 19
    assert "Smith" not in out.read_text() + result.stdout + result.stderr
    assert len({row["group"] for row in rows}) == 5
    assert rows[0] == {"path": "00.png", "label": "a", "group": "1", "split": "", "problem": ""}
    assert {row["path"] for row in rows if row["problem"]} == {"gone.png", "torn.png"}
    assert copies.read_text().splitlines() == [
        "image_name_1,image_name_2",
        "00.png,copy.bmp",
        "02.png,same.bmp",
    ]


def test_check_of_a_sound_set_exits_with_0(sslcurr, folder):
    result = sslcurr("data", "check", str(folder))
    assert result.exit_code == 0
    assert "no problems found" in result.stdout
    document = sslcurr.json("data", "check", str(folder))
    assert document["classes"] == {"bag": 21, "sandal": 21, "trouser": 21}
    assert document["sides"] == {"shortest": 28, "median": 28, "longest": 28}
    assert document["grey"] == 63


def test_list_and_show_every_name(sslcurr, tmp_path):
    listed = sslcurr("data", "list", "--data-root", str(tmp_path)).stdout
    documents = sslcurr.json("data", "list", "--data-root", str(tmp_path))["datasets"]
    assert [document["name"] for document in documents] == list(CATALOG)
    for document in documents:
        assert document["name"] in listed
        shown = sslcurr.json("data", "show", document["name"], "--data-root", str(tmp_path))
        assert {name: shown[name] for name in shown if name not in ("schema", "invocation")} == document
        empty = {"tree", "files"} if document["there"].startswith("in the package") else set()
        assert {key for key, value in shown.items() if value in ("", [])} == empty
        text = sslcurr("data", "show", document["name"], "--data-root", str(tmp_path)).stdout
        for value in (shown["licence"], shown["where"], str(shown["image_size"]), *shown["files"], *shown["tree"]):
            assert value in text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["show", "isic2091"], "unknown data set 'isic2091'", "did you mean isic2019?"),
        (["check", "covid"], "the files of covid are not in", "sslcurr data show covid"),
        (["prepare", "isic2019", "--download"], "isic2019 cannot be downloaded", "cifar10, voc2007, places365 can"),
        (["sample", "fashion", "--out", "x.jpg"], "--out writes PNG", "ends in .png"),
        (["check", "fashion", "--out", "no/where.csv"], "there is no folder no", "make it first"),
        (["prepare", "fashion", "--set", "data.vall=0.1"], "vall", "did you mean"),
    ],
)
def test_mistakes_are_one_line(sslcurr, arguments, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sslcurr("data", *arguments)
    assert result.exit_code == 1
    error, advice = result.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error
    assert advice.startswith("hint: ")
    assert hint in advice


def test_unknown_frames_are_wrong_usage(sslcurr, folder):
    result = sslcurr("data", "check", str(folder), "--frames", "second")
    assert result.exit_code == 2
    assert "refuse, first or all" in result.stderr


def test_prepare_makes_the_pack_that_trainings_use(sslcurr, folder):
    prepared = sslcurr.json("data", "prepare", str(folder), "--image-size", "16", "--set", "data.val=0.1")
    assert prepared["images"] == 63
    assert (prepared["image_size"], prepared["pack_size"], prepared["channels"]) == (16, 24, 1)
    assert prepared["bytes"] == 63 * 24 * 24
    packs = sorted(path.name for path in (sslcurr.runs / "packs").iterdir() if path.is_dir())
    sslcurr.json("pretrain", "rotation", "--dataset", str(folder), *QUICK)
    assert sorted(path.name for path in (sslcurr.runs / "packs").iterdir() if path.is_dir()) == packs
    assert prepared["pack"].endswith(packs[0])
    again = sslcurr("data", "prepare", str(folder), "--image-size", "16")
    assert "63 images of 24 x 24 x 1 for training at 16 px" in again.stdout


def test_a_prepared_pack_is_kept_by_runs_remove(sslcurr, folder):
    prepared = sslcurr.json("data", "prepare", str(folder), "--image-size", "16")
    assert sslcurr.json("runs", "remove", "--yes")["removed"] == {}
    (run,) = sslcurr.json("runs")["runs"]
    assert run["title"] == "data prepare, 16 px"
    assert "data prepare" in sslcurr("runs").stdout
    removed = sslcurr.json("runs", "remove", run["run"], "--yes")["removed"]
    assert prepared["pack"] in removed


def test_prepare_names_what_it_left_out(sslcurr, faulty):
    result = sslcurr("data", "prepare", str(faulty / "labels.csv"), "--image-size", "16")
    assert result.exit_code == 1
    assert "gone.png is not there" in result.stderr
    prepared = sslcurr("data", "prepare", str(faulty / "labels.csv"), "--image-size", "16", "--skip-broken", "--json")
    assert json.loads(prepared.stdout)["left_out"] == 2
    assert "2 images left out" in prepared.stderr


def test_download_is_done_only_when_asked_and_where_it_can(sslcurr, tmp_path, monkeypatch):
    calls = []
    entry = CATALOG["cifar10"]
    monkeypatch.setitem(CATALOG, "cifar10", type(entry)(**{**vars(entry), "downloader": calls.append}))
    for command in (
        ["prepare", "cifar10"],
        ["check", "cifar10"],
        ["sample", "cifar10", "--out", str(tmp_path / "x.png")],
    ):
        assert sslcurr("data", *command, "--data-root", str(tmp_path)).exit_code == 1
    assert calls == []
    assert not (tmp_path / "cifar10").exists()
    result = sslcurr("data", "prepare", "cifar10", "--data-root", str(tmp_path), "--download")
    assert calls == [tmp_path / "cifar10"]
    assert "the files of cifar10 are not in" in result.stderr  # what was "fetched" is nothing


def test_a_failed_download_is_one_line(sslcurr, tmp_path, monkeypatch):
    def fail(home):
        raise OSError("no route to host")

    entry = CATALOG["cifar10"]
    monkeypatch.setitem(CATALOG, "cifar10", type(entry)(**{**vars(entry), "downloader": fail}))
    result = sslcurr("data", "prepare", "cifar10", "--data-root", str(tmp_path), "--download")
    assert result.exit_code == 1
    assert "cifar10 could not be downloaded: no route to host" in result.stderr


def test_sample_draws_a_class_a_row(sslcurr, tmp_path):
    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        for i in range(3):
            path = tmp_path / "set" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 60), colour).save(path)
    (tmp_path / "set/red/0.png").write_bytes(b"no image")
    out = tmp_path / "sheet.png"
    result = sslcurr("data", "sample", str(tmp_path / "set"), "--out", str(out), "--num-images", "2")
    assert result.exit_code == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (4 + 2 * 100, 170 + 4 + 2 * 100, 3)
    for column in range(2):
        # Drawn whole: 48 of 96 pixels wide.
        assert sheet[4 + 48, 170 + column * 100 + 24].tolist() == [0, 0, 255]
        assert sheet[104 + 48, 170 + column * 100 + 24].tolist() == [255, 0, 0]
        assert sheet[4 + 48, 170 + column * 100 + 60].tolist() == [255, 255, 255]
    few = sslcurr("data", "sample", str(tmp_path / "set"), "--out", str(out), "--num-classes", "1")
    assert "the first 1 of 2 rows" in few.stderr


def test_sample_of_nothing_readable_is_one_line(sslcurr, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(b"no image")
    result = sslcurr("data", "sample", str(tmp_path / "set"), "--out", str(tmp_path / "x.png"))
    assert result.exit_code == 1
    assert "not one image of set can be decoded" in result.stderr


def test_groups_are_numbers_in_their_order():
    assert numbered(["x", "", "y", "x"]) == ["1", "", "2", "1"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("t{i}.png,{c},,train\n", "class b has 2 images, too few"),
        ("t{i}.png,{c},,test\n", "class b has 1 images, too few"),
    ],
)
def test_check_divides_as_a_training_does(rows, message, tmp_path):
    lines, free = ["path,label,group,split\n"], 2 if "train" in rows else 1
    for i in range(12):
        picture(tmp_path / f"t{i}.png", i)
        picture(tmp_path / f"f{i}.png", 100 + i)
        lines.append(rows.format(i=i, c="ab"[i % 2]))
        lines.append(f"f{i}.png,{'b' if i < free else 'a'},,\n")
    (tmp_path / "labels.csv").write_text("".join(lines))
    assert message in check_source(find_source(str(tmp_path / "labels.csv"))).undivided


def test_mistaken_numbers_and_places_are_seen_before_the_work(sslcurr, tmp_path):
    assert sslcurr("data", "check", "digits", "--workers", "-1").exit_code == 2
    for options in (["check", "digits", "--out", str(tmp_path)], ["prepare", "digits", "--image-size", "0"]):
        result = sslcurr("data", *options)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
