"""Regions of images: how they are found, and what they are when squashed, by hand and against slow counting."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sslcurr.data import masks
from sslcurr.data.masks import Boxes, is_squashed, proportions, read_mask
from sslcurr.data.packing import open_pack
from sslcurr.data.sources import catalog
from sslcurr.errors import DataError
from tests import trees
from tests.trees import write, write_dicom


def picture(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        trees.picture(number, colour=False).save(path)


def mask_file(path: Path, height: int = 4, width: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), 255).save(path)
    return path


def saved(path: Path, values, mode: str | None = None) -> Path:
    Image.fromarray(np.asarray(values), mode).save(path) if mode is None else values.save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Images of two folders; both have a c."""
    root = tmp_path / "images"
    picture(root / "a/b.png", root / "a/c.png", root / "d/c.jpg", root / "d/e.png")
    return root


def mistake(function, *arguments):
    """The message of the DataError, which is one line and has a hint of one line."""
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint
    return f"{caught.value} -- {caught.value.hint}"


# ---- what is inside of a file


def slowly(inside, size):
    """The share of each cell that is inside, in fractions, pixel by pixel."""
    inside = np.asarray(inside)
    height, width = inside.shape
    shares = np.empty((size, size), dtype=object)
    for i in range(size):
        for j in range(size):
            area = Fraction(0)
            for y, x in np.argwhere(inside).tolist():
                tall = min(Fraction(y + 1), Fraction(height * (i + 1), size)) - max(
                    Fraction(y), Fraction(height * i, size)
                )
                wide = min(Fraction(x + 1), Fraction(width * (j + 1), size)) - max(
                    Fraction(x), Fraction(width * j, size)
                )
                area += max(tall, 0) * max(wide, 0)
            shares[i, j] = area * size * size / (height * width)
    return shares


def rounded(shares):
    """Levels, ties either way: two arrays."""
    levels = shares * 255
    down = np.vectorize(lambda v: math.ceil(v - Fraction(1, 2)), otypes=[int])(levels)
    up = np.vectorize(lambda v: math.floor(v + Fraction(1, 2)), otypes=[int])(levels)
    return down, up


def agrees(cells, shares):
    down, up = rounded(shares)
    assert cells.dtype == np.uint8
    if up.any():
        assert np.all((down <= cells) & (cells <= up))
    else:
        assert cells.max() == cells.sum() == 1
        assert shares[cells == 1][0] == shares.max()


def test_read_by_hand(tmp_path):
    path = saved(tmp_path / "m.png", np.array([[1, 0, 0], [0, 0, 0], [9, 9, 255]], dtype=np.uint8))
    # Cells are 1.5 pixels wide; a pixel in the middle is half of each: shares of 2.25 are 1, 0; 1.5 and 1.5.
    assert read_mask(path, 30, 30, 2).tolist() == [[113, 0], [170, 170]]
    assert read_mask(path, 7, 900, 1).tolist() == [[113]]  # 4 of 9
    assert read_mask(path, 30, 30, 3).tolist() == [[255, 0, 0], [0, 0, 0], [255, 255, 255]]
    assert np.array_equal(read_mask(path, 30, 30, 6), np.kron(read_mask(path, 30, 30, 3), np.ones((2, 2))))
    wide = saved(tmp_path / "w.png", np.array([[0, 0, 0, 1, 1, 1]], dtype=np.uint8))
    assert read_mask(wide, 1, 6, 2).tolist() == [[0, 255], [0, 255]]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), size=st.integers(1, 9))
def test_files_against_slow_counting(tmp_path_factory, data, size):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    cells = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width).filter(any))
    inside = np.array(cells).reshape(height, width)
    path = saved(tmp_path_factory.getbasetemp() / "any.png", inside.astype(np.uint8))
    agrees(read_mask(path, 5, 5, size), slowly(inside, size))


@pytest.mark.parametrize("size", [1, 7, 16, 64, 224])
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (1001, 997)])
def test_all_ones_are_255(tmp_path, size, shape):
    path = mask_file(tmp_path / "m.png", *shape)
    assert np.all(read_mask(path, 10, 20, size) == 255)
    assert np.all(read_mask(Boxes(((-1, -3, shape[1] + 5, shape[0] + 3),)), *shape, size) == 255)


def test_the_smallest_region_does_not_vanish(tmp_path):
    inside = np.zeros((400, 500), dtype=np.uint8)
    inside[399, 250] = 1
    cells = read_mask(saved(tmp_path / "m.png", inside), 400, 500, 4)
    assert np.argwhere(cells).tolist() == [[3, 2]]
    assert cells.max() == 1
    cells = read_mask(Boxes(((250.2, 399.2, 0.1, 0.1),)), 400, 500, 4)
    assert np.argwhere(cells).tolist() == [[3, 2]]
    assert cells.max() == 1


def test_masks_agree_with_the_images_of_packs(tmp_path):
    # A white rectangle on black, once as an image in a pack and once as its own mask.
    shade = np.zeros((90, 140), dtype=np.uint8)
    shade[20:50, 30:130] = 255
    for name in ("x/a.png", "y/a.png"):
        (tmp_path / name).parent.mkdir()
        saved(tmp_path / name, shade)
    pack = open_pack(catalog.find_source(str(tmp_path / "x")), 24, tmp_path / "packs")
    mask = read_mask(tmp_path / "y/a.png", 90, 140, 24)
    boxes = read_mask(Boxes(((30, 20, 100, 30),)), 90, 140, 24)
    np.testing.assert_allclose(mask.astype(int), boxes.astype(int), atol=1)
    # The filter of packs is wider than a cell, so edges differ; the means along both sides and most cells do not.
    image = pack.images[0, 0].astype(float)
    assert np.abs(image - mask).mean() < 6
    centre = [np.average(np.arange(24), weights=each.sum(axis)) for each in (image, mask) for axis in (0, 1)]
    np.testing.assert_allclose(centre[:2], centre[2:], atol=0.1)


CHECKED = np.indices((5, 6)).sum(0) % 2 == 1


def png(path: Path, depth: int, colour_type: int, samples: np.ndarray) -> Path:
    """A PNG of 8 or 16 bits, written by hand."""
    rows = samples.astype(">u2" if depth == 16 else "u1").reshape(len(samples), -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def with_channels(*channels):
    return np.stack(np.broadcast_arrays(CHECKED, *channels)[1:], axis=-1)


# Number of the colour type, and the channels where the mask is inside; alpha says the contrary or nothing.
KINDS = {
    "grey": (0, (CHECKED,)),
    "grey and alpha": (4, (CHECKED, ~CHECKED)),
    "black and alpha": (4, (0, CHECKED)),
    "red": (2, (CHECKED, 0, 0)),
    "blue": (2, (0, 0, CHECKED)),
    "green and alpha": (6, (0, CHECKED, 0, ~CHECKED)),
    "opaque": (6, (0, 0, CHECKED, 1)),
    "transparent": (6, (CHECKED, 0, CHECKED, 0)),
    "black colour and alpha": (6, (0, 0, 0, CHECKED)),
}


@pytest.mark.parametrize("value", [1, 255, 256, 65535])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_png(kind, value, tmp_path):
    colour_type, channels = KINDS[kind]
    samples = with_channels(*channels).astype(np.int64) * value
    path = png(tmp_path / "m.png", 8 if value < 256 else 16, colour_type, samples)
    assert read_mask(path, 5, 6, 30).tolist() == np.kron(CHECKED * 255, np.ones((6, 5))).tolist()
    deep = png(tmp_path / "m.png", 16, colour_type, samples)  # 1 of 65535 is inside, too
    assert read_mask(deep, 5, 6, 30).tolist() == read_mask(path, 5, 6, 30).tolist()


def test_bits_and_palettes(tmp_path):
    wanted = np.kron(CHECKED * 255, np.ones((6, 5))).tolist()
    path = tmp_path / "m.png"
    Image.fromarray(CHECKED).save(path)
    with Image.open(path) as image:
        assert image.mode == "1"
    assert read_mask(path, 5, 6, 30).tolist() == wanted
    for bits, value in ((1, 1), (2, 3), (4, 7), (8, 200)):
        image = Image.fromarray((CHECKED * value).astype(np.uint8), "L").convert("P")
        image = Image.frombytes("P", (6, 5), (CHECKED * value).astype(np.uint8).tobytes())
        image.putpalette([255, 255, 255] + [0, 0, 0] * 255)  # white is place 0, and outside
        image.save(path, bits=bits, transparency=value)
        with Image.open(path) as again:
            assert again.mode == "P"
        assert read_mask(path, 5, 6, 30).tolist() == wanted
    # A grey value that is marked as transparent is inside all the same.
    Image.fromarray((CHECKED * 9).astype(np.uint8)).save(path, transparency=9)
    assert read_mask(path, 5, 6, 30).tolist() == wanted


def test_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.array([[0, 0, 7]], dtype=np.uint8)).save(tmp_path / "m.png", exif=exif)
    assert read_mask(tmp_path / "m.png", 1, 3, 3).tolist() == [[0, 0, 255]] * 3
    assert proportions(tmp_path / "m.png") == 3


def test_broken_files(tmp_path):
    path = tmp_path / "m.png"
    noise = np.random.default_rng(0).integers(0, 255, (50, 50), dtype=np.uint8)
    saved(path, noise)
    whole = path.read_bytes()
    for content in (b"", b"no image at all", whole[:20], whole[:60], whole[: len(whole) // 2], whole[:-40]):
        path.write_bytes(content)
        assert f"the mask {path} cannot be read: " in mistake(read_mask, path, 9, 9, 4)
    path.write_bytes(whole[:900] + bytes(100) + whole[1000:])
    assert "cannot be read" in mistake(read_mask, path, 9, 9, 4)
    Image.fromarray(noise).save(path, format="JPEG")
    assert "cannot be read: not a PNG file" in mistake(read_mask, path, 9, 9, 4)
    assert "not a PNG file" in mistake(proportions, path)
    assert "cannot be read: No such file" in mistake(read_mask, tmp_path / "gone.png", 9, 9, 4)
    assert "cannot be read: Is a directory" in mistake(read_mask, tmp_path, 9, 9, 4)
    head = bytearray(whole)
    head[16:24] = struct.pack(">II", 100_000, 100_000)
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    path.write_bytes(head)
    assert "its header says 100000 x 100000 pixels" in mistake(read_mask, path, 9, 9, 4)


@pytest.mark.parametrize("kind", [(0, (0,)), (4, (0, 1)), (4, (0, 0)), (6, (0, 0, 0, 1)), (6, (0, 0, 0, 0))])
def test_empty_files(kind, tmp_path):
    path = png(tmp_path / "m.png", 8, kind[0], with_channels(*kind[1]) * 255)
    message = mistake(read_mask, path, 5, 6, 4)
    assert message == f"the mask {path} is empty -- remove it; images without a mask are left out"


def test_large_masks_are_no_bombs(tmp_path, monkeypatch):
    path = tmp_path / "m.png"
    Image.new("1", (200, 100), 1).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200 * 100 // 3)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_mask(path, 1, 2, 3).tolist() == [[255] * 3] * 3


def test_proportions(tmp_path):
    square = mask_file(tmp_path / "s.png", 256, 256)
    assert proportions(square) == 1
    assert proportions(mask_file(tmp_path / "w.png", 10, 25)) == 2.5
    assert proportions(Boxes(((0, 0, 1, 2),))) is None
    assert not is_squashed(Boxes(((0, 0, 1, 2),)), 10, 1000)
    for height, width, other in ((100, 100, False), (104, 100, False), (100, 104, False), (106, 100, True)):
        assert is_squashed(square, height, width) is other
        assert is_squashed(square, width, height) is other
    assert not is_squashed(tmp_path / "w.png", 1000, 2500)
    assert is_squashed(tmp_path / "w.png", 2500, 1000)


# ---- boxes


def test_boxes_by_hand():
    # An image of 4 x 8: cells of two are 2 high and 4 wide.
    assert read_mask(Boxes(((0, 0, 4, 2),)), 4, 8, 2).tolist() == [[255, 0], [0, 0]]
    assert read_mask(Boxes(((2, 1, 4, 1),)), 4, 8, 2).tolist() == [[64, 64], [0, 0]]
    assert read_mask(Boxes(((2, 1, 4, 2),)), 4, 8, 2).tolist() == [[64, 64], [64, 64]]
    # Left, top, width, height: the whole right half, then what overlaps counts once, then two that touch.
    assert read_mask(Boxes(((4, -9, 99, 99),)), 4, 8, 2).tolist() == [[0, 255], [0, 255]]
    assert read_mask(Boxes(((0, 0, 4, 2), (0, 0, 4, 2), (1, 1, 2, 1))), 4, 8, 2).tolist() == [[255, 0], [0, 0]]
    assert read_mask(Boxes(((0, 0, 1, 2), (1, 0, 3, 2))), 4, 8, 2).tolist() == [[255, 0], [0, 0]]
    assert read_mask(Boxes(((0, 0, 2, 2), (1, 0, 2, 2))), 4, 8, 2).tolist() == [[191, 0], [0, 0]]


quarters = st.integers(-8, 60).map(lambda n: n / 4)


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.tuples(quarters, quarters, st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.integers(1, 6),
)
def test_boxes_against_slow_counting(boxes, height, width, size):
    # On a grid of quarters of a pixel a box is a set of whole cells.
    boxes = [(x, y, w / 4, h / 4) for x, y, w, h in boxes]
    inside = [(x < width and y < height and x + w > 0 and y + h > 0) for x, y, w, h in boxes]
    if not all(inside):
        assert "lies outside of its image" in mistake(read_mask, Boxes(tuple(boxes)), height, width, size)
        return
    fine = np.zeros((4 * height, 4 * width), dtype=bool)
    for x, y, w, h in boxes:
        fine[max(int(4 * y), 0) : int(4 * (y + h)), max(int(4 * x), 0) : int(4 * (x + w))] = True
    agrees(read_mask(Boxes(tuple(boxes)), height, width, size), slowly(fine, size))


def test_boxes_that_are_none():
    for box in ((0, 0, 0, 5), (0, 0, 5, 0), (0, 0, -1, 5), (0, 0, 5, -2)):
        assert "of a.png has no area" in mistake(Boxes, (box,), "a.png")
    for place in range(4):
        for value in (math.nan, math.inf, -math.inf):
            box = [1.0, 2.0, 3.0, 4.0]
            box[place] = value
            assert "has a number that is not finite" in mistake(Boxes, ((0, 0, 1, 1), tuple(box)))
    assert "no box of a.png" in mistake(Boxes, (), "a.png")


def test_boxes_outside():
    for box in ((8, 0, 5, 5), (0, 4, 5, 5), (-5, 0, 5, 5), (0, -5, 5, 5)):
        message = mistake(read_mask, Boxes(((0, 0, 1, 1), box), "a.png in t.csv"), 4, 8, 2)
        assert f"the box at {box[0]}, {box[1]} of 5 x 5 pixels of a.png in t.csv lies outside" in message
        assert "8 x 4" in message
    assert read_mask(Boxes(((7.99, 3.99, 5, 5), (-5, -5, 5.01, 5.01))), 4, 8, 2).any()


def test_boxes_are_values():
    assert Boxes(((0, 0, 1, 1),), "here") == Boxes(((0, 0, 1, 1),), "there")
    assert hash(Boxes(((0, 0, 1, 1),), "here")) == hash(Boxes(((0, 0, 1, 1),)))
    assert Boxes(((0, 0, 1, 1),)) != Boxes(((0, 0, 1, 2),))


TWO = Boxes(((1.5, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.25)))
TWO_TEXTS = (
    '[{"x": 1.5, "y": 2, "width": 3, "height": 4}, {"x": 5, "y": 6, "width": 7, "height": 8.25}]',
    "[{'x': 1.5, 'y': 2, 'width': 3, 'height': 4}, {'height': 8.25, 'x': 5, 'y': 6, 'width': 7, 'score': None}]",
    "[[1.5, 2, 3, 4], [5, 6, 7, 8.25]]",
    "[(1.5, 2, 3, 4), [5, 6, 7, 8.25]]",
    "((1.5, 2, 3, 4), (5, 6, 7, 8.25))",
)


@pytest.mark.parametrize("text", TWO_TEXTS)
def test_texts_of_boxes(text):
    boxes = Boxes.from_text(text, "a")
    assert boxes == TWO
    assert all(type(number) is float for box in boxes.boxes for number in box)


@pytest.mark.parametrize(
    "text",
    [
        *("nonsense", "3", "[1, 2, 3, 4]", "[[1, 2, 3]]", "[[1, 2, 3, 4, 5]]", "[[1, 2, 3, '4']]", '{"x": 1}', "null"),
        *('[{"x": 1, "y": 2, "width": 3}]', "[[1, 2, 3, true]]", "[[1, 2, 3, None]]", "[", "[[1, 2, 3, 4], 5]"),
        *(
            "[[1, 2, 3, 1" + "0" * 400 + "]]",
            "[" * 100_000,
            "(" * 300,
            "[[1, 2, 3, 4 if 1 else 2]]",
            "'\\d'",
            "[[1,2,3,4j]]",
        ),
        *("__import__('os')", "\0", "[[0x1for x in (1,)]]", "{'x': 1, 'y': 2, 'width': 3, 'height': 4}", "{[]}"),
    ],
)
def test_texts_that_are_no_boxes(text):
    message = mistake(Boxes.from_text, text, "a.png in t.csv")
    assert message.startswith("the boxes of a.png in t.csv cannot be read: ")
    assert len(message) < 300


def test_texts_of_bad_boxes():
    assert Boxes.from_text("[]") is None
    assert "has no area" in mistake(Boxes.from_text, "[[1, 2, 0, 4]]")
    assert "is not finite" in mistake(Boxes.from_text, "[[1, 2, NaN, 4]]")
    assert "is not finite" in mistake(Boxes.from_text, "[[1, 2, 1e999, 4]]")


def test_labels_of_siim():
    assert Boxes.from_label("opacity 1 1.5 2 4.5 6  opacity 0.5 5 6 12 14.25") == TWO
    assert Boxes.from_label("none 1 0 0 1 1") is None
    assert Boxes.from_label("") is None
    assert Boxes.from_label("none 1 0 0 1 1 opacity 1 0 0 1 1") == Boxes(((0, 0, 1, 1),))
    for text in ("pneumonia", "opacity", "opacity 1 1 2 3", "negative 1 0 0 1 1", "opacity 1 1 2 3 x"):
        assert mistake(Boxes.from_label, text, "a").startswith(f"the label of a says nothing of boxes: '{text}'")
    assert "no area" in mistake(Boxes.from_label, "opacity 1 5 5 5 9")
    assert "not finite" in mistake(Boxes.from_label, "opacity 1 5 5 nan 9")


# ---- tables of images


def table_of(path: Path, rows: list[dict]) -> Path:
    """The rows as CSV, Parquet or JSON lines, by the suffix."""
    if path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


KINDS_OF_TABLES = pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])


@KINDS_OF_TABLES
def test_tables_with_masks(suffix, folder):
    mask_file(folder / "masks/b.png")
    outside = mask_file(folder.parent / "outside.png")
    rows = [
        {"path": "a/b.png", "label": "x", "mask": "masks/../masks//b.png", "boxes": ""},
        {"path": "a/c.png", "label": "y", "mask": str(outside), "boxes": None},
        {"path": "d/c.jpg", "label": "x", "mask": "", "boxes": TWO_TEXTS[1]},
        {"path": "d/e.png", "label": "y", "mask": None, "boxes": "[]"},
    ]
    source = catalog.find_source(str(table_of(folder / f"t{suffix}", rows)))
    assert source.masks == {"a/b.png": folder / "masks/b.png", "a/c.png": outside, "d/c.jpg": TWO}
    assert masks.find_masks(source) == source.masks
    assert source.labels == ["x", "y", "x", "y"]
    assert catalog.find_source(str(table_of(folder / f"p{suffix}", [{"path": "a/b.png"}]))).masks == {}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_tables_with_lists_of_boxes(suffix, folder):
    boxes = json.loads(TWO_TEXTS[0])
    source = catalog.find_source(str(table_of(folder / f"t{suffix}", [{"path": "a/b.png", "boxes": boxes}])))
    assert source.masks == {"a/b.png": TWO}


def test_mistakes_in_tables(folder):
    mask_file(folder / "m.png")
    rows = [{"path": "a/b.png", "mask": "m.png", "boxes": "[[1, 2, 3, 4]]"}]
    table = table_of(folder / "t.csv", rows)
    assert (
        mistake(catalog.find_source, str(table)) == f"{table} has both a mask and boxes for a/b.png -- keep one of them"
    )
    table_of(table, [{"path": "a/b.png", "mask": "m.png"}, *({"path": f"a/{n}.png", "mask": "no.png"} for n in "xy")])
    assert catalog.find_source(str(table)).masks == {"a/b.png": folder / "m.png"}  # of images that are not there
    paths = ("a/b.png", "a/c.png", "d/e.png")
    table_of(table, [{"path": path, "mask": f"{path}.png" if place else "m.png"} for place, path in enumerate(paths)])
    message = mistake(catalog.find_source, str(table))
    assert message.startswith(f"{table} names the mask {folder}/a/c.png.png, which is not there, and 1 more -- ")
    table_of(table, [{"path": "a/b.png", "boxes": "two"}])
    assert f"the boxes of a/b.png in {table} cannot be read: 'two'" in mistake(catalog.find_source, str(table))
    table_of(table, [{"path": "a/b.png", "boxes": "[[1, 2, 3, -4]]"}])
    assert f"of a/b.png in {table} has no area" in mistake(catalog.find_source, str(table))
    table_of(table, [{"path": "a/b.png", "mask": "a"}])
    assert "which is not there" in mistake(catalog.find_source, str(table))
    write(table, "path,mask,mask", "a/b.png,m.png,m.png")
    assert "2 columns called mask" in mistake(catalog.find_source, str(table))


def test_no_fingerprint_knows_of_masks(folder, tmp_path):
    mask_file(folder / "m.png")
    table = folder / "t.csv"
    write(table, "path,label", "a/b.png,x", "a/c.png,y", "d/e.png,x")
    plain = open_pack(catalog.find_source(str(table)), 8, tmp_path / "packs")
    write(table, "path,label,mask,boxes", "a/b.png,x,m.png,", 'a/c.png,y,,"[[1, 2, 3, 4]]"', "d/e.png,x,,")
    source = catalog.find_source(str(table))
    assert len(source.masks) == 2
    again = open_pack(source, 8, tmp_path / "packs")
    assert again.fingerprint == plain.fingerprint
    assert again.folder == plain.folder  # it is the same pack


# ---- frames


@pytest.fixture
def clips(tmp_path):
    root = tmp_path / "clips"
    write_dicom(root / "a/x.dcm", 0, frames=2)
    write_dicom(root / "a/y.dcm", 1)
    write_dicom(root / "b/z", 2, frames=3)
    mask_file(tmp_path / "masks/a/x.png")
    write(
        root / "t.csv", "path,label,mask,boxes", "a/x.dcm,1,../masks/a/x.png,", 'a/y.dcm,1,,"[[1, 2, 3, 4]]"', "b/z,2,,"
    )
    return root


def test_frames_have_the_mask_of_their_file(clips):
    file, boxes = clips.parent / "masks/a/x.png", Boxes(((1, 2, 3, 4),))
    table = str(clips / "t.csv")
    assert catalog.find_source(table).masks == {"a/x.dcm": file, "a/y.dcm": boxes}
    first = catalog.find_source(table, frames="first")
    assert first.masks == masks.find_masks(first) == {"a/x.dcm#1": file, "a/y.dcm": boxes}
    every = catalog.find_source(table, frames="all")
    assert every.masks == masks.find_masks(every) == {"a/x.dcm#1": file, "a/x.dcm#2": file, "a/y.dcm": boxes}
    # By hand, a source may know them by file.
    assert masks.find_masks(replace(every, masks={"a/x.dcm": file, "a/x.dcm#2": boxes})) == {
        "a/x.dcm#1": file,
        "a/x.dcm#2": boxes,
    }


def test_frames_in_folders_and_tables(clips):
    every, folder = catalog.find_source(str(clips), frames="all"), clips.parent / "masks"
    own = mask_file(folder / "b/z#2.png")
    flat = mask_file(folder / "z#3_mask.png")
    file = folder / "a/x.png"
    assert masks.find_masks(every, folder) == {"a/x.dcm#1": file, "a/x.dcm#2": file, "b/z#2": own, "b/z#3": flat}
    shared = mask_file(folder / "z.png")
    assert masks.find_masks(every, folder)["b/z#1"] == shared
    table = table_of(folder / "m.csv", [{"path": "b/z", "mask": "z.png"}, {"path": "b/z#2", "mask": "a/x.png"}])
    assert masks.find_masks(every, table) == {"b/z#1": shared, "b/z#2": file, "b/z#3": shared}
    table_of(table, [{"id": "x_image", "mask": "z.png"}])
    assert masks.find_masks(every, table) == {"a/x.dcm#1": shared, "a/x.dcm#2": shared}


# ---- folders of masks


def test_folders_of_masks(folder, tmp_path):
    source, where = catalog.find_source(str(folder)), tmp_path / "masks"
    order = ["a/b.PNG", "a/b_mask.png", "b.png", "b_mask.png"]
    for name in reversed(order):
        mask_file(where / name)
        assert masks.find_masks(source, where) == {"a/b.png": where / name}
    mask_file(where / "d/c_mask.png")
    mask_file(where / "e.png")
    mask_file(where / "other.png")
    write(where / "note.txt", "lungs")
    Image.new("L", (4, 4)).save(where / "d/c.jpg")
    wanted = {"a/b.png": where / "a/b.PNG", "d/c.jpg": where / "d/c_mask.png", "d/e.png": where / "e.png"}
    assert masks.find_masks(source, where) == wanted
    assert list(masks.find_masks(source, where)) == ["a/b.png", "d/c.jpg", "d/e.png"]
    known = replace(source, masks={"a/c.png": Boxes(((1, 2, 3, 4),))})
    assert masks.find_masks(known, where) == wanted  # instead of what is known
    assert masks.find_masks(known) == known.masks


def test_folders_of_masks_that_leave_it_open(folder, tmp_path):
    source, where = catalog.find_source(str(folder)), tmp_path / "masks"
    mask_file(where / "c_mask.png")
    message = mistake(masks.find_masks, source, where)
    assert message.startswith(f"the mask {where}/c_mask.png could be of two images: a/c.png, d/c.jpg -- ")
    mask_file(where / "a/c.png")
    assert "could be of two images: a/c.png, d/c.jpg" in mistake(masks.find_masks, source, where)
    mask_file(where / "d/c.png")
    assert masks.find_masks(source, where) == {"a/c.png": where / "a/c.png", "d/c.jpg": where / "d/c.png"}
    picture(folder / "d/c.png")
    message = mistake(masks.find_masks, catalog.find_source(str(folder)), where)
    assert message.startswith(f"the mask {where}/d/c.png could be of two images: d/c.jpg, d/c.png -- ")


def test_names_with_points(tmp_path):
    write_dicom(tmp_path / "images/1.2.840.1")
    write_dicom(tmp_path / "images/1.2.840.2.dcm")
    for name in ("1.2.840.1", "1.2.840.2_mask"):
        mask_file(tmp_path / f"masks/{name}.png")
    found = masks.find_masks(catalog.find_source(str(tmp_path / "images")), tmp_path / "masks")
    assert {name: path.name for name, path in found.items()} == {
        "1.2.840.1": "1.2.840.1.png",
        "1.2.840.2.dcm": "1.2.840.2_mask.png",
    }


def test_images_are_no_masks_of_themselves(folder):
    write(folder / "t.csv", "path", "a/b.png", "d/c.jpg")
    source = catalog.find_source(str(folder / "t.csv"))
    mask_file(folder / "a/b_mask.png")
    mask_file(folder / "d/c.png")
    wanted = {"a/b.png": folder / "a/b_mask.png", "d/c.jpg": folder / "d/c.png"}
    assert masks.find_masks(source, folder) == wanted
    (folder.parent / "link").symlink_to(folder)
    assert masks.find_masks(source, folder.parent / "link") == wanted
    # A mask beside its image is none of the folder's images; c.png is one, and alone with a c.jpg no mask of it.
    source = catalog.find_source(str(folder))
    assert masks.find_masks(source, folder) == {"a/b.png": folder / "a/b_mask.png"}
    (folder / "a/b_mask.png").unlink()
    assert "has no PNG masks" in mistake(masks.find_masks, source, folder)


def test_mistakes_with_folders(folder, tmp_path, monkeypatch):
    source = catalog.find_source(str(folder))
    assert mistake(masks.find_masks, source, tmp_path / "gone").startswith(
        f"the masks {tmp_path}/gone are not there -- "
    )
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty/a.txt")
    assert f"the folder {tmp_path}/empty has no PNG masks" in mistake(masks.find_masks, source, tmp_path / "empty")
    other = mask_file(tmp_path / "masks/other.png")
    assert mistake(masks.find_masks, source, tmp_path / "masks") == (
        f"no mask in {tmp_path}/masks is of an image of images"
        " -- for a/b.png looked for a/b.png, a/b_mask.png, b.png, b_mask.png"
    )
    assert "are a file, but not a table" in mistake(masks.find_masks, source, other)
    monkeypatch.chdir(tmp_path)
    mask_file(tmp_path / "masks/e.png")
    assert masks.find_masks(source, Path("masks")) == {"d/e.png": tmp_path / "masks/e.png"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert masks.find_masks(source, Path("~/masks")) == {"d/e.png": tmp_path / "masks/e.png"}


def test_masks_of_embedded_images(tmp_path):
    source = catalog.find_source("digits")
    mask_file(tmp_path / "0007.png")
    assert masks.find_masks(source, tmp_path) == {source.names[7]: tmp_path / "0007.png"}
    table = table_of(tmp_path / "t.csv", [{"path": source.names[3], "mask": "0007.png"}])
    assert masks.find_masks(source, table) == {source.names[3]: tmp_path / "0007.png"}


# ---- tables of masks


@KINDS_OF_TABLES
def test_tables_of_masks(suffix, folder, tmp_path):
    source, where = catalog.find_source(str(folder)), tmp_path / f"masks/t{suffix}"
    file = mask_file(tmp_path / "masks/m.png")
    rows = [
        {"path": "a/b.png", "mask": "m.png"},
        {"path": f"{folder}/d/../a/c.png", "mask": str(file)},
        {"path": "../images/d/e.png", "mask": "m.png"},
        {"path": "d/c.jpg", "mask": None},
        {"path": "gone.png", "mask": "gone too.png"},
    ]
    assert masks.find_masks(source, table_of(where, rows)) == dict.fromkeys(["a/b.png", "a/c.png", "d/e.png"], file)
    rows = [{"path": "a/b.png", "boxes": TWO_TEXTS[0]}, {"path": "a/b.png", "boxes": "[[0, 0, 1, 1]]"}]
    assert masks.find_masks(source, table_of(where, rows)) == {"a/b.png": Boxes((*TWO.boxes, (0, 0, 1, 1)))}
    both = [{"id": "b_image", "mask": "m.png", "boxes": None}, {"id": "e", "mask": None, "boxes": TWO_TEXTS[2]}]
    assert masks.find_masks(source, table_of(where, both)) == {"a/b.png": file, "d/e.png": TWO}
    sides = [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in TWO.boxes]
    nothing = dict.fromkeys(("x", "y", "width", "height"))
    rows = [{"id": "b", **sides[0]}, {"id": "e", **nothing}, {"id": "b_image", **sides[1]}, {"id": "q", **sides[1]}]
    assert masks.find_masks(source, table_of(where, rows)) == {"a/b.png": TWO}
    rows = [{"file_name": "a/b.png", "label": "opacity 1 1.5 2 4.5 6 opacity 1 5 6 12 14.25"}]
    rows += [{"file_name": "a/c.png", "label": "none 1 0 0 1 1"}]
    assert masks.find_masks(source, table_of(where, rows)) == {"a/b.png": TWO}


def test_labels_are_read_last(folder, tmp_path):
    source, where = catalog.find_source(str(folder)), tmp_path / "t.csv"
    file = mask_file(tmp_path / "m.png")
    sides = {"x": 1, "y": 2, "width": 3, "height": 4}
    table_of(where, [{"path": "a/b.png", "label": "pneumonia", "mask": "m.png", **sides}])
    assert masks.find_masks(source, where) == {"a/b.png": file}
    table_of(where, [{"path": "a/b.png", "label": "pneumonia", **sides}])
    assert masks.find_masks(source, where) == {"a/b.png": Boxes(((1, 2, 3, 4),))}
    table_of(where, [{"path": "a/b.png", "label": "pneumonia"}])
    assert "the label of a/b.png in" in mistake(masks.find_masks, source, where)


def test_the_challenges_own_table(tmp_path):
    trees.covid(tmp_path / "covid")
    source = catalog.find_source("covid", tmp_path)
    assert masks.find_masks(source, tmp_path / "covid/train_image_level.csv") == source.masks


def test_mistakes_in_tables_of_masks(folder, tmp_path):
    source, where = catalog.find_source(str(folder)), tmp_path / "t.csv"
    mask_file(tmp_path / "m.png")
    mask_file(tmp_path / "n.png")

    def told(*rows):
        return mistake(masks.find_masks, source, table_of(where, list(rows)))

    box = {"boxes": "[[1, 2, 3, 4]]"}
    assert told({"name": "b", "mask": "m.png"}).startswith(f"{where} has no column path (or id) -- ")
    assert told({"path": "a/b.png", "other": "m.png"}).startswith(f"{where} has no masks -- ")
    assert told({"path": "a/b.png", "x": 1, "y": 2, "width": 3}).startswith(f"{where} has no masks -- ")
    assert told({"path": "a/b.png", "mask": "m.png"}, {"path": "", "mask": "m.png"}).startswith(
        f"{where} has nothing under path in row 2 -- "
    )
    assert told({"path": "a/b.png", "mask": "m.png"}, {"path": "a/b.png", "mask": "n.png"}).startswith(
        f"{where} names two masks for a/b.png -- "
    )
    assert "has both a mask and boxes for a/b.png" in told({"path": "a/b.png", "mask": "m.png", **box})
    apart = told({"path": "a/b.png", "mask": "m.png", "boxes": ""}, {"path": "a/b.png", "mask": "", **box})
    assert "has both a mask and boxes for a/b.png" in apart
    gone = told(*({"path": f"a/{n}.png", "mask": f"{n}.png"} for n in "bc"))
    assert f"names the mask {tmp_path}/b.png, which is not there, and 1 more" in gone
    assert told({"id": "c", **box}).startswith(f"c in {where} could be two images: a/c.png, d/c.jpg -- ")
    assert told({"path": "b.png", **box}) == (
        f"{where} names no image of images -- looked for a/b.png under path, to begin with"
    )
    assert told({"id": "a/b.png", **box}).endswith(" -- looked for b under id, to begin with")
    assert told({"path": "a/b.png", "mask": ""}).startswith(f"{where} has no mask for any image of images -- ")
    sides = {"path": "a/b.png", "x": 1, "y": 2, "width": 3, "height": 4}
    for value in ("", "wide"):
        assert "the box of a/b.png in" in told({**sides, "width": value})
    assert "has no area" in told({**sides, "height": 0})
    assert "not finite" in told({**sides, "x": "nan"})
    assert "the boxes of a/b.png in" in told({"path": "a/b.png", "boxes": "?"})
    write(where, "")
    assert "-- " in mistake(masks.find_masks, source, where)


def test_one_look_at_the_folder_is_enough(folder, tmp_path, monkeypatch):
    source = catalog.find_source(str(folder))
    mask_file(tmp_path / "masks/a/b.png")
    asked = []
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path))
    monkeypatch.setattr(os.path, "isfile", asked.append)
    masks.find_masks(source, tmp_path / "masks")
    assert asked == []
