"""Decoding: what each kind of file becomes, pixel by pixel."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from sslcurr.data.decode import depth, read
from sslcurr.data.decode import image as decode_image
from sslcurr.data.decode.read import decode, decode_small, read_image, resize
from sslcurr.errors import DataError

EXIF_ORIENTATION = 274


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def random_pixels(*shape: int, high: int = 256, dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def png_16(samples: np.ndarray) -> bytes:
    """A 16-bit PNG of [H, W, 1 to 4] samples, which Pillow cannot write in colour."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(samples: np.ndarray, *, planar: int = 1, photometric: int | None = None, deflate: bool = False) -> bytes:
    """A TIFF of [H, W, C] samples in their own type and byte order."""
    height, width, channels = samples.shape
    big = samples.dtype.byteorder == ">"
    order = ">" if big else "<"
    content = (samples.transpose(2, 0, 1) if planar == 2 else samples).tobytes()
    num_strips = channels if planar == 2 else 1
    length = len(content) // num_strips
    if deflate:
        content = zlib.compress(content)
        length = len(content)
    if photometric is None:
        photometric = 2 if channels >= 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [samples.dtype.itemsize * 8] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        273: ("I", None),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [length] * num_strips),
        284: ("H", [planar]),
        339: ("H", [kind] * channels),
    }
    if channels in (2, 4):
        tags[338] = ("H", [2])
    first_extra = 8 + 2 + 12 * len(tags) + 4

    def packed(kind: str, values: list[int]) -> bytes:
        return struct.pack(f"{order}{len(values)}{kind}", *values)

    extra = b""
    size_of_extra = sum(
        len(packed(k, v if v is not None else [0] * num_strips))
        for k, v in tags.values()
        if len(packed(k, v if v is not None else [0] * num_strips)) > 4
    )
    start = first_extra + size_of_extra
    entries = b""
    for tag, (code, values) in sorted(tags.items()):
        if values is None:
            values = [start + i * length for i in range(num_strips)]
        data = packed(code, values)
        field = struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[code], len(values))
        if len(data) > 4:
            entries += field + struct.pack(f"{order}I", first_extra + len(extra))
            extra += data
        else:
            entries += field + data.ljust(4, b"\0")
    header = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags))
    return header + entries + struct.pack(f"{order}I", 0) + extra + content


def windowed(samples: np.ndarray) -> np.ndarray:
    """The textbook version of `read.window`."""
    low, high = np.percentile(samples.astype(np.float64), [0.1, 99.9])
    return np.rint((np.clip(samples.astype(np.float64), low, high) - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_kinds_keep_every_pixel(kind, channels, tmp_path):
    pixels = random_pixels(9, 7, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    (tmp_path / "a").write_bytes(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    result = read_image(tmp_path / "a")
    assert result.dtype == np.uint8
    assert np.array_equal(result, pixels)


def test_jpeg_is_what_pillow_decodes():
    pixels = np.asarray(Image.fromarray(random_pixels(4, 4, 3)).resize((32, 24)))
    data = encoded(Image.fromarray(pixels), "JPEG")
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_colour_with_equal_channels_is_grey():
    grey = random_pixels(6, 5, 1)
    assert np.array_equal(decode(encoded(Image.fromarray(np.repeat(grey, 3, axis=2)))), grey)
    tinted = np.repeat(grey, 3, axis=2)
    tinted[5, 4, 2] ^= 1
    assert np.array_equal(decode(encoded(Image.fromarray(tinted))), tinted)


def test_one_bit_is_black_and_white():
    bits = random_pixels(5, 11, high=2).astype(bool)
    assert np.array_equal(decode(encoded(Image.fromarray(bits)))[..., 0], bits * np.uint8(255))


def test_cmyk_is_converted():
    image = Image.new("CMYK", (3, 2), (255, 0, 0, 0))
    assert np.array_equal(decode(encoded(image, "TIFF")), np.full((2, 3, 3), (0, 255, 255), np.uint8))


def test_transparency_is_composited_over_black():
    rgba = random_pixels(8, 8, 4)
    expected = np.rint(rgba[..., :3].astype(float) * rgba[..., 3:] / 255).astype(np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(rgba))), expected)
    grey = random_pixels(8, 8, 2)
    expected = np.rint(grey[..., :1].astype(float) * grey[..., 1:] / 255).astype(np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(grey))), expected)


def test_palette_with_and_without_transparency():
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 200, 100, 0])
    image.putdata([0, 1, 2, 2])
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[200, 100, 0], [200, 100, 0]]], np.uint8)
    assert np.array_equal(decode(encoded(image)), expected)
    faded = expected.copy()
    faded[0, 1] = 0
    faded[1] = np.rint(expected[1] * (128 / 255))
    assert np.array_equal(decode(encoded(image, transparency=bytes([255, 0, 128]))), faded)
    assert np.array_equal(decode(encoded(image, transparency=1))[0, 1], [0, 0, 0])


def test_transparent_colour_key_becomes_black():
    pixels = np.full((2, 2, 3), (9, 8, 7), np.uint8)
    pixels[0, 0] = (1, 2, 3)
    expected = pixels.copy()
    expected[0, 0] = 0
    assert np.array_equal(decode(encoded(Image.fromarray(pixels), transparency=(1, 2, 3))), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 250  # the upper left quarter is white
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation](pixels)
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[EXIF_ORIENTATION] = orientation
        data = encoded(Image.fromarray(pixels), kind, tiffinfo=tags)
    else:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        data = encoded(Image.fromarray(pixels), kind, exif=exif)
    result = decode(data)
    assert result.shape[:2] == turned.shape[:2]
    assert np.abs(result.astype(int) - turned[..., :1]).max() <= 6


def test_16_bit_orientation_is_applied():
    samples = random_pixels(4, 6, 1, high=65536, dtype="<u2")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    data = encoded(Image.fromarray(samples[..., 0]), exif=exif)
    assert np.array_equal(decode(data), windowed(np.rot90(samples, -1)))


@pytest.mark.parametrize("high", [256, 4096, 65536])
@pytest.mark.parametrize("write", [png_16, tiff])
def test_a_16_bit_ramp_is_windowed_not_clipped(high, write):
    ramp = np.linspace(0, high - 1, 64 * 64).round().reshape(64, 64, 1).astype("<u2")
    result = decode(write(ramp))
    assert result.shape == (64, 64, 1)
    assert np.array_equal(result, windowed(ramp))
    assert (np.diff(result.ravel().astype(int)) >= 0).all()
    counts = np.bincount(result.ravel(), minlength=256)
    assert counts.max() <= 2.5 * 64 * 64 / 256  # nothing piles up at either end
    assert abs(result.mean() - 127.5) < 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_tiff_keeps_both_bytes(order, channels, deflate):
    samples = random_pixels(20, 15, channels, high=3000, dtype=f"{order}u2")
    colour = samples[..., :3]
    if channels == 4:
        samples[..., 3] = 65535
    assert np.array_equal(decode(tiff(samples, deflate=deflate)), windowed(colour))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_png_keeps_both_bytes(channels):
    samples = random_pixels(20, 15, channels, high=3000, dtype="<u2")
    if channels != 3:
        samples[..., -1] = np.where(np.arange(15) < 7, 65535, 0)
        visible = samples[..., :-1] * (samples[..., -1:] // 65535)
    else:
        visible = samples
    assert np.array_equal(decode(png_16(samples)), windowed(visible))


@pytest.mark.parametrize("dtype", ["<u4", "<i4", "<f4", ">f4", "<i2"])
def test_32_bit_and_signed_tiff_are_windowed(dtype):
    samples = (random_pixels(30, 20, 1, high=2**31, dtype="i8") * (2 if dtype == "<u4" else 1)).astype(np.float64)
    if dtype[1] != "u":
        samples -= samples.mean()
    if dtype == "<i2":
        samples /= 2**17
    samples = samples.astype(dtype)
    assert np.array_equal(decode(tiff(samples)), windowed(samples))


def test_white_is_zero_in_16_bits_too():
    samples = random_pixels(30, 20, 1, high=4000, dtype="<u2")
    assert np.abs(decode(tiff(samples, photometric=0)).astype(int) - (255 - windowed(samples).astype(int))).max() <= 1


def test_nan_and_infinity_in_float_tiff():
    samples = np.linspace(-1, 1, 40 * 50).reshape(40, 50, 1).astype("<f4")
    samples[0, 0], samples[0, 1], samples[0, 2] = np.nan, np.inf, -np.inf
    result = decode(tiff(samples))
    assert result[0, :3, 0].tolist() == [0, 255, 0]
    assert abs(int(result[20, 0, 0]) - 128) <= 1
    assert not decode(tiff(np.full((4, 4, 1), np.nan, "<f4"))).any()


def test_outliers_do_not_darken_and_constants_are_black():
    samples = random_pixels(100, 100, 1, high=1000, dtype="<u2")
    samples[3, 3] = 65535
    assert decode(png_16(samples)).mean() > 120
    assert not decode(png_16(np.full((5, 5, 1), 700, "<u2"))).any()
    speck = np.full((100, 100, 1), 700, "<u2")
    speck[1, 1] = 900  # the percentiles coincide, the least and greatest value do not
    assert np.argwhere(decode(png_16(speck))[..., 0] == 255).tolist() == [[1, 1]]


def test_separate_planes_of_16_bits_are_refused():
    with pytest.raises(decode_image.BrokenImage, match="separate planes"):
        decode(tiff(random_pixels(6, 6, 3, high=4000, dtype="<u2"), planar=2))


def test_first_of_several_frames():
    frames = [Image.fromarray(random_pixels(5, 5) // 2), Image.new("L", (5, 5), 255)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, 0)[..., 0], np.asarray(frames[0]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just some text", "not an image"),
        (encoded(Image.fromarray(random_pixels(64, 64, 3)), "JPEG")[:2000], "truncated"),
        (encoded(Image.fromarray(random_pixels(64, 64, 3)), "PNG")[:2000], "truncated"),
        (encoded(Image.new("L", (8, 8)), "TGA"), "not of a known kind"),
    ],
)
def test_broken_files_are_named_with_the_reason(content, reason, tmp_path):
    path = tmp_path / "scan.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_damaged_bytes_never_raise_anything_else():
    generator = np.random.default_rng(1)
    pixels = random_pixels(24, 20, 3)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    whole = [
        encoded(Image.fromarray(pixels), "JPEG", exif=exif),
        encoded(Image.fromarray(pixels)),
        encoded(Image.fromarray(pixels).quantize(8)),
        encoded(Image.fromarray(pixels), "BMP"),
        encoded(Image.fromarray(pixels), "WEBP", exif=exif),
        encoded(Image.fromarray(pixels), "TIFF"),
        tiff(random_pixels(9, 9, 3, high=4000, dtype="<u2")),
        png_16(random_pixels(9, 9, 4, high=4000, dtype="<u2")),
    ]
    num_broken = 0
    with read.pillow_without_warnings():
        for i in range(1500):
            data = bytearray(whole[i % len(whole)])
            for _ in range(int(generator.integers(1, 5))):
                data[int(generator.integers(0, len(data)))] = int(generator.integers(0, 256))
            if i % 3 == 0:
                del data[int(generator.integers(1, len(data))) :]
            try:
                decode(bytes(data))
            except decode_image.BrokenImage:
                num_broken += 1
    assert num_broken > 100


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "gone.png")


def test_large_images_pass_without_a_warning_and_hostile_ones_do_not(monkeypatch):
    data = encoded(Image.new("L", (40, 30), 7))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's limit, which warns above 100 and raises above 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).shape == (30, 40, 1)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(read, "MAX_PIXELS", 1000)
    with pytest.raises(decode_image.BrokenImage, match="40 x 30 pixels"):
        decode(data)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i2", "u1", "i1"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (301, 401, 1), (40, 50, 3)])
def test_window_by_a_table_is_exactly_that_by_pixel(dtype, shape):
    generator = np.random.default_rng(shape[0])
    info = np.iinfo(dtype)
    steep = generator.normal(0.4, 0.1, shape).clip(0, 1) * (info.max - info.min) + info.min
    images = [
        generator.integers(info.min, info.max + 1, shape),
        steep,
        generator.integers(0, 3, shape),
        np.full(shape, 7),
        np.where(generator.random(shape) < 0.9995, 5, 9),
        np.where(generator.random(shape) < 0.5, info.min, info.max),
    ]
    for image in images:
        deep = image.astype(dtype)
        # Floats of 64 bits take the way by pixel, and hold every value of 16 bits.
        expected = read.window(deep.astype(np.float64))
        result = read.window(deep)
        assert result.dtype == np.uint8
        assert np.array_equal(result, expected)
        across = read.window(deep.swapaxes(0, 1)[::-1])
        assert np.array_equal(across, expected.swapaxes(0, 1)[::-1])


def test_percentiles_of_counts_are_those_of_numpy():
    generator = np.random.default_rng(3)
    for _ in range(300):
        values = generator.permutation(np.unique(generator.normal(0, 10.0 ** generator.integers(-3, 6), 30)))
        counts = generator.integers(1, 10 ** generator.integers(1, 5), values.size)
        every = (0.0, 0.1, 3.0, 50.0, 99.9, 100.0, float(generator.uniform(0, 100)))
        found = depth.percentiles_of_counts(values, counts, every)
        assert found == np.percentile(np.repeat(values, counts), every).tolist()


@pytest.mark.parametrize("dtype", ["u2", "i2", ">u2", "i4", "f4"])
def test_two_values_are_told_from_three_wherever_the_third_is(dtype):
    values = np.where(random_pixels(100, 50) > 128, 7, 900).astype(dtype)
    assert depth.has_two_values(values)
    assert depth.has_two_values(np.full_like(values, 5))
    for place in range(0, values.size, 97):  # among the few that are looked at first, or not
        third = values.copy()
        third.flat[place] = 8
        assert not depth.has_two_values(third)
        if dtype == "f4":
            third.flat[place] = np.nan
            assert depth.has_two_values(third)


@pytest.mark.parametrize("value", [0, 171, 84, 171 * 257, 84 * 257])
def test_a_deep_png_whose_last_rows_are_what_is_looked_for_is_whole(value):
    samples = random_pixels(6, 5, 1, high=2**16, dtype="u2")
    samples[4:] = value
    assert np.array_equal(decode(png_16(samples)), read.window(samples))


def scene(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture with soft and sharp edges, [H, W] or [H, W, 3]."""
    coarse = np.random.default_rng(5).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    picture = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    picture[height // 3 : height // 2, width // 4 : width // 2] = (230, 40, 90)
    return picture if channels == 3 else picture[..., 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_small_is_resized_with_the_true_upright_size(orientation, channels):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = encoded(Image.fromarray(scene(600, 900, channels)), "JPEG", quality=92, exif=exif)
    small, height, width = decode_small(data, 64)
    whole = decode(data)
    assert (height, width) == whole.shape[:2] == ((900, 600) if orientation >= 5 else (600, 900))
    assert small.shape == (64, 64, channels)
    difference = np.abs(small.astype(int) - resize(whole, 64))
    assert difference.mean() < 0.5
    assert difference.max() <= 12


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (9, 9), (17, 400), (127, 129), (1000, 130), (1023, 1025)])
@pytest.mark.parametrize("progressive", [False, True])
def test_small_of_jpegs_of_any_size_and_mode(mode, size, progressive):
    picture = Image.fromarray(scene(max(size[1], 8), max(size[0], 8))).resize(size).convert(mode)
    data = encoded(picture, "JPEG", quality=95, progressive=progressive)
    small, height, width = decode_small(data, 32)
    assert (width, height) == size
    expected = resize(decode(data), 32)
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < 0.7


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_small_of_other_kinds_is_exactly_resize_of_decode(kind):
    data = encoded(Image.fromarray(scene(200, 300)), kind)
    small, height, width = decode_small(data, 40)
    assert (height, width) == (200, 300)
    assert np.array_equal(small, resize(decode(data), 40))
    deep = png_16(random_pixels(90, 70, 1, high=5000, dtype="<u2"))
    assert np.array_equal(decode_small(deep, 40)[0], resize(decode(deep), 40))


def test_small_turns_a_tiff_once():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[EXIF_ORIENTATION] = 6
    data = encoded(Image.fromarray(scene(20, 30)), "TIFF", tiffinfo=tags)
    small, height, width = decode_small(data, 16)
    assert (height, width) == (30, 20)
    assert np.array_equal(small, resize(decode(data), 16))


def test_small_of_a_cut_jpeg_is_broken_or_whole():
    data = encoded(Image.fromarray(scene(300, 400)), "JPEG", quality=90)
    whole = decode_small(data, 32)[0]
    for cut in range(1, len(data), len(data) // 150):
        try:
            small = decode_small(data[:cut], 32)[0]
        except decode_image.BrokenImage:
            continue
        assert np.array_equal(small, whole)


def test_resize_antialiases_and_keeps_what_fits():
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 200  # stripes of one pixel, which only aliasing would keep
    small = resize(fine, 8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small.astype(int) - 100).max() <= 12
    assert resize(fine, 64) is fine
    squashed = resize(random_pixels(50, 20, 1), 16)
    assert squashed.shape == (16, 16, 1)
    assert squashed.dtype == np.uint8


def test_a_jpeg_of_which_the_end_was_never_written_is_refused():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    data = file.getvalue()
    half = len(data) // 2
    with pytest.raises(decode_image.BrokenImage, match="end early"):
        read.decode(data[:half] + bytes(len(data) - half))
    assert read.decode(data + bytes(200)).shape == (64, 64, 3)  # padding after the end
