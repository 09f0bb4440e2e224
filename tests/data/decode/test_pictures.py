"""Ordinary image files: every kind and mode against Pillow, pages and frames, no-data values, files with too little."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from sslcurr.data.decode import read
from sslcurr.data.decode.image import EXTENSIONS, PICTURES, BrokenImage, Traits
from sslcurr.data.decode.read import decode, decode_small, num_frames
from sslcurr.data.sources.catalog import find_source
from tests.data.decode.test_read import encoded, png_16, random_pixels, scene, tiff, windowed

GDAL_NODATA, NEW_SUBFILE_TYPE = 42113, 254


def traits_of(data: bytes, frame: int | None = None) -> Traits:
    traits = Traits()
    decode(data, frame, traits)
    return traits


def several(kind: str, count: int = 3, **options) -> tuple[list[np.ndarray], bytes]:
    """`count` images, each of one grey of its own but for a square, and the file of all of them."""
    images = []
    for i in range(count):
        image = np.full((12, 10, 3), 40 * i + 30, np.uint8)
        image[2:6, 3:7] = 250
        images.append(image)
    pictures = [Image.fromarray(image) for image in images]
    return images, encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


# --- kinds


KINDS = [
    ("PNG", ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"), {}),
    ("TIFF", ("1", "L", "RGB", "RGBA", "P", "CMYK", "I;16", "I;16B", "I", "F"), {}),
    ("TIFF", ("1", "L", "RGB", "CMYK", "I;16"), {"compression": "tiff_lzw"}),
    ("BMP", ("1", "L", "RGB", "P"), {}),
    ("GIF", ("L", "P"), {}),
    ("PPM", ("1", "L", "RGB", "I"), {}),
    ("WEBP", ("RGB", "RGBA"), {"lossless": True}),
    ("JPEG2000", ("L", "LA", "RGB", "RGBA", "I;16"), {}),
    ("JPEG", ("L", "RGB", "CMYK"), {}),
    ("AVIF", ("RGB",), {"quality": 100}),
]


def of_mode(mode: str, seed: int) -> Image.Image:
    """A random picture of a mode, from 3 to 40 pixels a side."""
    draw = np.random.default_rng(seed)
    height, width = (int(x) for x in draw.integers(3, 41, 2))
    colours = draw.integers(0, 256, (height, width, 4)).astype("u1")
    if mode in ("I;16", "I;16B", "I"):
        order = ">" if mode == "I;16B" else "<"
        deep = draw.integers(0, 4000, (height, width)).astype(f"{order}u2")
        return (
            Image.frombytes(mode, (width, height), deep.tobytes())
            if mode != "I"
            else Image.fromarray(deep.astype("i4"))
        )
    if mode == "F":
        return Image.fromarray(draw.normal(3, 50, (height, width)).astype("f4"))
    if mode == "P":
        image = Image.fromarray(colours[..., 0] % 7).convert("P")
        image.putpalette(draw.integers(0, 256, 21).astype("u1").tobytes())
        return image
    return Image.fromarray(colours, "RGBA").convert(mode)


def as_pillow_shows_it(data: bytes) -> np.ndarray:
    """What Pillow's own conversions give, uint8 [H, W, 1 or 3]; deep samples by the textbook's window."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode in ("I;16", "I;16B", "I", "F"):
            return windowed(np.asarray(image))[..., None]
        if image.mode in ("LA", "RGBA") or "transparency" in image.info:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            return np.asarray(Image.alpha_composite(black, image.convert("RGBA")))[..., :3]
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("kind", "modes", "options"), KINDS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_kind_and_mode_is_as_pillow_shows_it(kind, modes, options):
    for place, mode in enumerate(modes):
        for seed in range(4):
            data = encoded(of_mode(mode, 100 * place + seed), kind, **options)
            expected = as_pillow_shows_it(data)
            result = decode(data)
            assert result.shape[:2] == expected.shape[:2]
            wide = np.broadcast_to(result, (*result.shape[:2], 3)).astype(int)
            assert np.abs(wide - expected).max() <= (1 if mode in ("LA", "RGBA") else 0), (mode, seed)
            assert (result.shape[2] == 1) == bool((wide == wide[..., :1]).all())


def test_names_of_all_kinds_are_images_in_a_folder(tmp_path):
    for i, suffix in enumerate(
        (".pgm", ".PPM", ".pbm", ".pnm", ".jfif", ".JPE", ".gif", ".webp", ".jp2", ".avif", ".TIF")
    ):
        kind = {".gif": "GIF", ".webp": "WEBP", ".jp2": "JPEG2000", ".avif": "AVIF", ".tif": "TIFF"}.get(suffix.lower())
        kind = kind or ("JPEG" if suffix.lower()[1] == "j" else "PPM")
        Image.fromarray(scene(20, 30)).save(tmp_path / f"{i:02d}{suffix}", kind)
    source = find_source(str(tmp_path))
    assert len(source.names) == 11
    assert all(decode((tmp_path / name).read_bytes()).shape == (20, 30, 3) for name in source.names)
    assert {".dcm", ".jpg", ".gif"} <= EXTENSIONS
    assert ".dcm" not in PICTURES


def test_a_name_that_says_another_kind_does_not_matter_and_an_unknown_kind_is_said(tmp_path):
    pixels = random_pixels(9, 7, 3)
    for kind in ("GIF", "PNG", "PPM"):
        (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(pixels), kind))
        assert read.read_image(tmp_path / "a.jpg").shape == (9, 7, 3)
    with pytest.raises(BrokenImage, match=r"not of a known kind \(JPEG, PNG, TIFF, BMP, GIF, WebP"):
        decode(b"8BPS" + bytes(100))


def test_grey_samples_of_a_netpbm_file_with_any_greatest_value():
    for top, bits in ((15, 8), (255, 8), (4095, 16), (65535, 16)):
        ramp = np.linspace(0, top, 30).round().astype(">u2" if bits == 16 else "u1")
        result = decode(b"P5\n10 3\n%d\n" % top + ramp.tobytes())[..., 0]
        expected = np.rint(ramp / top * 255) if bits == 8 else windowed(np.rint(ramp / top * 65535))
        assert np.abs(result.ravel() - expected).max() <= (0 if bits == 8 else 1)


# --- pages and frames


def test_pages_of_a_tiff_are_a_stack(tmp_path):
    images, data = several("TIFF")
    with pytest.raises(BrokenImage, match="it has 3 pages; --frames first takes the first, --frames all takes each"):
        decode(data)
    for i, image in enumerate(images):
        assert np.array_equal(decode(data, i), image[..., :1])
        assert np.array_equal(decode_small(data, 10, i)[0], read.resize(image[..., :1], 10))
    with pytest.raises(BrokenImage, match="3 frames, counted from 0; there is no frame 3"):
        decode(data, 3)
    (tmp_path / "a.tif").write_bytes(data)
    assert num_frames(tmp_path / "a.tif") == 3


def test_reduced_copies_and_masks_of_a_tiff_are_no_pages(tmp_path):
    pictures = [Image.fromarray(scene(40, 60, 1)), Image.fromarray(scene(20, 30, 1)), Image.fromarray(scene(40, 60, 1))]
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file) as writer:
        for picture, kind in zip(pictures, (0, 1, 4), strict=True):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[NEW_SUBFILE_TYPE] = kind
            picture.save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    assert np.array_equal(decode(file.getvalue())[..., 0], np.asarray(pictures[0]))
    assert traits_of(file.getvalue()).frames_left_out == 0
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    assert num_frames(tmp_path / "a.tif") == 1


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100})]
)
def test_the_first_frame_of_an_animation_is_taken_and_the_others_are_counted(kind, options, tmp_path):
    images, data = several(kind, **options)
    tolerance = 2 if kind == "AVIF" else 0
    assert np.abs(decode(data).astype(int) - images[0][..., :1]).max() <= tolerance
    assert traits_of(data).frames_left_out == 2
    for i in (0, 2):
        assert np.abs(decode(data, i).astype(int) - images[i][..., :1]).max() <= tolerance
        assert traits_of(data, i).frames_left_out == 0
    (tmp_path / "a").write_bytes(data)
    assert num_frames(tmp_path / "a") == 3


def test_the_main_picture_of_an_mpo_is_taken(tmp_path):
    images, data = several("MPO")
    assert np.abs(decode(data).astype(int) - images[0][..., :1]).max() <= 12
    traits = traits_of(data)
    assert (traits.frames_left_out, traits.pictures_beside) == (0, 2)
    (tmp_path / "a.mpo").write_bytes(data)
    assert num_frames(tmp_path / "a.mpo") == 1


@pytest.mark.parametrize(("frames", "count"), [("first", 2), ("all", 4)])
def test_frames_of_files_are_chosen_as_those_of_dicom(frames, count, tmp_path):
    (tmp_path / "a.tif").write_bytes(several("TIFF")[1])
    Image.fromarray(scene(12, 10)).save(tmp_path / "b.png")
    source = find_source(str(tmp_path), frames=frames)
    assert source.names == [f"a.tif#{i}" for i in range(1, count)] + ["b.png"]
    assert source.place(0) == (tmp_path / "a.tif", 0)
    what = "each is an image" if frames == "all" else "the first is used"
    assert source.notes[-1] == f"1 file with several frames or pages: {what}"
    assert (source.groups == ["a.tif"] * 3 + [""]) == (frames == "all")


# --- no data


def geotiff(values: np.ndarray, no_data: str | None) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if no_data is not None:
        tags[GDAL_NODATA] = no_data
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=tags)


@pytest.mark.parametrize(
    ("declared", "value", "dtype"),
    [
        ("-9999", -9999, "f4"),
        ("-9999\0", -9999, "f4"),
        ("-3.4028234663852886e+38", -3.4028234663852886e38, "f4"),
        ("-3.40282346638529e+38", -3.4028234663852886e38, "f4"),
        (None, -3.4028234663852886e38, "f4"),
        (None, 3.4028234663852886e38, "f4"),
        (None, 1e38, "f4"),
        ("nan", np.nan, "f4"),
        (None, np.nan, "f4"),
        ("-32768", -32768, "i4"),
        ("65535", 65535, "u2"),
        ("0", 0, "u2"),
    ],
)
def test_pixels_without_data_are_black_and_move_nothing(declared, value, dtype):
    measured = np.random.default_rng(2).uniform(100, 1100, (40, 30)).astype(dtype)
    values = measured.copy()
    values[:10] = value
    result = decode(geotiff(values, declared))[..., 0]
    assert not result[:10].any()
    assert np.array_equal(result[10:], windowed(measured[10:]))
    traits = traits_of(geotiff(values, declared))
    assert traits.no_data == 300
    assert traits.decoder == (1 if np.isnan(value) else 2)  # NaN was heeded before


def test_no_data_of_8_bits_and_of_colour():
    grey = random_pixels(10, 12).clip(0, 254)
    grey[:4] = 255
    expected = grey.copy()
    expected[:4] = 0
    assert np.array_equal(decode(geotiff(grey, "255"))[..., 0], expected)
    colours = random_pixels(10, 12, 3).clip(1, 254)
    colours[2, 3] = 7
    colours[2, 4] = (7, 7, 8)  # a value of its own, in two channels of three
    expected = colours.copy()
    expected[2, 3] = 0
    assert np.array_equal(decode(geotiff(colours, "7")), expected)
    assert traits_of(geotiff(colours, "7")).no_data == 1
    untouched = traits_of(geotiff(grey, "none"))
    assert (untouched.no_data, untouched.decoder) == (0, 1)


def test_a_value_for_no_data_that_nothing_declares_leaves_a_sliver():
    values = np.random.default_rng(2).uniform(0, 1000, (64, 64)).astype("f4")
    assert traits_of(geotiff(values, None)).range_used == 1
    values[:16] = -9999
    traits = traits_of(geotiff(values, None))
    assert (traits.low, traits.high) == (232, 254)
    assert traits_of(geotiff(values, "-9999")).range_used > 0.99
    deep = np.random.default_rng(3).integers(30000, 31000, (64, 64)).astype("<u2")
    deep[:20] = 0
    assert traits_of(png_16(deep[..., None])).range_used < 0.05
    # Two values are a mask, and no measurement beside a value for no data.
    assert traits_of(geotiff((values > 0).astype("f4"), None)).range_used == 1


@pytest.mark.parametrize("scale", [256, 257, 1])
def test_a_palette_of_a_tiff_may_have_8_bits_where_16_are_meant(scale):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    image = Image.fromarray(random_pixels(9, 7)).convert("P")
    image.putpalette(colours.astype("u1").tobytes())
    data = bytearray(encoded(image, "TIFF"))
    with Image.open(io.BytesIO(bytes(data))) as opened:
        written = struct.pack("<768H", *opened.tag_v2[320])
    at = bytes(data).index(written)
    data[at : at + len(written)] = struct.pack("<768H", *(colours.T.reshape(-1) * scale).tolist())
    assert np.array_equal(decode(bytes(data)), colours[np.asarray(image)])
    assert traits_of(bytes(data)).decoder == (2 if scale == 1 else 1)


# --- what is noted of pixels


def test_blank_and_transparent_images_are_noted():
    red = Image.new("RGB", (9, 7), (200, 10, 30))
    for data in (encoded(red), encoded(red, "JPEG"), encoded(red, "GIF"), encoded(Image.new("L", (3, 3), 255), "TIFF")):
        assert traits_of(data).is_blank
        assert not traits_of(data).is_transparent
    speck = np.full((9, 7, 3), 200, np.uint8)
    speck[8, 6, 2] = 201
    assert not traits_of(encoded(Image.fromarray(speck))).is_blank
    rgba = random_pixels(9, 7, 4)
    rgba[..., 3] = 0
    for data in (encoded(Image.fromarray(rgba)), encoded(Image.fromarray(rgba[..., 2:]))):
        assert (traits_of(data).is_blank, traits_of(data).is_transparent) == (True, True)
    rgba[..., 3] = 1
    assert traits_of(encoded(Image.fromarray(rgba))).high <= 1
    assert traits_of(geotiff(np.full((8, 8), np.nan, "f4"), None)).is_blank


def test_the_range_leaves_out_a_thousandth_at_either_end():
    pixels = np.full((100, 100), 100, np.uint8)
    pixels[:50] = 110
    pixels[0, :10] = 255
    traits = traits_of(encoded(Image.fromarray(pixels)))
    assert (traits.low, traits.high) == (100, 110)
    pixels[0, :11] = 255
    assert traits_of(encoded(Image.fromarray(pixels))).high == 255
    assert Traits.of_integers(traits.to_integers()) == traits
    assert Traits(low=51, high=102).range_used == 0.2


# --- too little in a file


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def short_png(rows: int, colour_type: int = 2, interlace: int = 0, value: int = 90) -> bytes:
    """A PNG of 16 x 16 pixels with the data of that many rows, and every mark of a whole one."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour_type]

    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        lines = [len(range(x, 16, dx)) for x, y, dx, dy in passes for _ in range(y, 16, dy)]
    else:
        lines = [16] * 16
    raw = b"".join(b"\0" + bytes([value]) * (width * channels) for width in lines[:rows])
    palette = chunk(b"PLTE", bytes(range(48)) * 10) if colour_type == 3 else b""
    header = struct.pack(">IIBBBBB", 16, 16, 8, colour_type, 0, 0, interlace)
    parts = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("colour_type", [0, 2, 3, 6])
@pytest.mark.parametrize("rows", [1, 8, 15])
def test_a_png_with_too_few_rows_is_broken(colour_type, rows):
    with pytest.raises(BrokenImage, match="fewer rows"):
        decode(short_png(rows, colour_type))
    for value in (1, 84, 171):  # none is taken for a row that is not there
        assert decode(short_png(16, colour_type, value=value)).shape[:2] == (16, 16)
    first = decode(short_png(16, colour_type, value=0))[15]  # rows of zeros are rows
    assert (first == (range(3) if colour_type == 3 else 0)).all()


def test_an_interlaced_png_with_too_few_rows_is_broken():
    num_rows = 2 + 2 + 2 + 4 + 4 + 8 + 8
    assert decode(short_png(num_rows, interlace=1)).shape == (16, 16, 1)
    for value in (0, 84, 171):
        assert (decode(short_png(num_rows, interlace=1, value=value)) == value).all()
    for rows in (3, 14, num_rows - 1):
        with pytest.raises(BrokenImage, match="fewer rows"):
            decode(short_png(rows, interlace=1))


@pytest.mark.parametrize("white", [False, True])
def test_a_black_and_white_png_whose_last_rows_are_of_one_colour_is_whole(white):
    def png(rows: int) -> bytes:
        raw = b"".join(b"\0" + bytes([255 * (white ^ (row < 8))] * 2) for row in range(rows))
        header = struct.pack(">IIBBBBB", 16, 16, 1, 0, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + parts

    image = decode(png(16))
    assert image.shape == (16, 16, 1)
    assert (image[:8] == 255 * (not white)).all()
    assert (image[8:] == 255 * white).all()
    with pytest.raises(BrokenImage, match="fewer rows"):
        decode(png(15))


def test_a_png_without_its_palette_is_broken():
    whole = short_png(16, 3)
    start = whole.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", whole, start)
    with pytest.raises(BrokenImage, match=r"the file is damaged \(AssertionError\)"):
        decode(whole[:start] + whole[start + 12 + length :])


def test_a_tiff_whose_strips_do_not_reach_its_end_is_broken():
    data = bytearray(tiff(random_pixels(16, 16, 1)))
    # Half of the rows to a strip, with the offset and length of one strip.
    at = data.index(struct.pack("<HHI", 278, 4, 1)) + 8
    struct.pack_into("<I", data, at, 8)
    with pytest.raises(BrokenImage, match="fewer rows"):
        decode(bytes(data))
    sparse = bytearray(tiff(random_pixels(16, 16, 1)))
    struct.pack_into("<I", sparse, sparse.index(struct.pack("<HHI", 273, 4, 1)) + 8, 0)
    with pytest.raises(BrokenImage, match="not stored"):
        decode(bytes(sparse))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 2},
        {"subsampling": 0, "optimize": True},
        {"restart_marker_blocks": 5},
        {"restart_marker_rows": 1},
        {"progressive": True},
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_with_its_end_marker_and_less_than_its_blocks_is_broken(options, mode):
    whole = encoded(Image.fromarray(random_pixels(90, 120, 3)).convert(mode), "JPEG", quality=85, **options)
    assert decode(whole).shape[:2] == (90, 120)
    start = whole.index(b"\xff\xda")
    # Of a progressive one the last scans are the finest detail, and the longest.
    for share in (0.02, 0.1, 0.3, 0.5) if "progressive" in options else (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        short = whole[: start + int((len(whole) - start) * share)].rstrip(b"\xff") + b"\xff\xd9"
        for read_it in (decode, lambda data: decode_small(data, 16)):
            with pytest.raises(BrokenImage, match=r"end early|missing|truncated"):
                read_it(short)


def test_a_sound_jpeg_that_ends_grey_is_whole():
    for mode, colour in (("L", 128), ("RGB", (128, 128, 128)), ("CMYK", (127, 127, 127, 127))):
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}):
            data = encoded(Image.new(mode, (50, 30), colour), "JPEG", **options)
            assert decode(data).shape == (30, 50, 1)
            assert decode(data + bytes(40)).shape == (30, 50, 1)


@pytest.mark.parametrize(("kind", "modes", "options"), KINDS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_file_cut_anywhere_is_broken_or_whole(kind, modes, options):
    for mode in modes:
        data = encoded(of_mode(mode, 7), kind, **options)
        whole = decode(data)
        for cut in range(1, len(data), max(1, len(data) // 25)):
            try:
                result = decode(data[:cut])
            except BrokenImage:
                continue
            assert np.array_equal(result, whole), (mode, cut)


@pytest.mark.parametrize(
    "error",
    [AssertionError, SystemError, MemoryError, struct.error, RecursionError, Image.DecompressionBombError, Exception],
)
def test_whatever_pillow_raises_is_a_broken_image_with_a_reason(error, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(BrokenImage) as caught:
        decode(encoded(Image.new("L", (4, 4)), "BMP"))
    assert str(caught.value)
