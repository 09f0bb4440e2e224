"""DICOM elements one by one: absent, empty, no number, against one another; random headers against plain formulas."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from sslcurr.data.decode import dicom_header, read
from sslcurr.data.decode.dicom import decode_dicom, has_grey_dicom_header, num_frames
from sslcurr.data.decode.image import BrokenImage, Traits
from tests.data.decode.test_dicom import encapsulated, lut, made, saved, smooth

PICTURE = smooth(top=4095)
WINDOW = {"WindowCenter": 2000, "WindowWidth": 3000}


def changed(data: bytes, without: tuple[str, ...] = (), empty: tuple[str, ...] = (), **values) -> bytes:
    """A file with elements taken out, emptied, or set, whatever is written into them."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword in without:
        delattr(dataset, keyword)
    for keyword in (*empty, *values):
        if keyword in dataset:
            delattr(dataset, keyword)
        value = values.get(keyword, "")
        tag = pydicom.datadict.tag_for_keyword(keyword)
        kind = pydicom.datadict.dictionary_VR(tag)
        if (isinstance(value, str) and value) or kind in ("IS", "DS"):  # LO takes any text
            kind = "LO"
        dataset.add_new(tag, "US" if kind == "US or SS" else kind, value if value != "" or kind != "US" else None)
    return saved(dataset)


def shown(data: bytes) -> list[int]:
    return decode_dicom(data)[..., 0].ravel().tolist()


# --- the image pixel module


@pytest.mark.parametrize(
    "keyword", ["SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "HighBit", "BitsAllocated"]
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_an_element_that_is_absent_or_empty_is_its_default(keyword, syntax):
    data = made(PICTURE, bits=12, syntax=syntax, **WINDOW)
    expected = decode_dicom(data)
    assert expected.std() > 30
    assert np.array_equal(decode_dicom(changed(data, without=(keyword,))), expected)
    assert np.array_equal(decode_dicom(changed(data, empty=(keyword,))), expected)


def test_all_of_them_may_be_absent_at_once():
    data = made(PICTURE, **WINDOW)
    absent = ("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "HighBit", "BitsAllocated")
    assert np.array_equal(decode_dicom(changed(data, without=(*absent, "BitsStored"))), decode_dicom(data))


def test_bits_stored_are_those_allocated():
    data = made(smooth(top=60000), **WINDOW)
    assert np.array_equal(decode_dicom(changed(data, without=("BitsStored", "HighBit"))), decode_dicom(data))
    assert np.array_equal(decode_dicom(changed(data, BitsStored=40)), decode_dicom(data))


def test_colour_without_its_planar_configuration_is_interleaved():
    colours = np.stack([smooth(top=250, dtype="u1"), smooth(top=90, dtype="u1"), smooth(top=30, dtype="u1")], axis=2)
    data = made(colours, kind="RGB")
    for odd in (
        changed(data, without=("PlanarConfiguration",)),
        changed(data, without=("SamplesPerPixel", "PlanarConfiguration")),
        changed(data, without=("PhotometricInterpretation",)),
        changed(data, PlanarConfiguration=7),
    ):
        assert np.array_equal(decode_dicom(odd), colours)


@pytest.mark.parametrize("value", ["", "0", "1", "-3"])
def test_a_number_of_frames_that_says_nothing_is_one(value, tmp_path):
    data = changed(made(PICTURE, **WINDOW), NumberOfFrames=value)
    assert np.array_equal(decode_dicom(data), decode_dicom(made(PICTURE, **WINDOW)))
    (tmp_path / "a.dcm").write_bytes(data)
    assert num_frames(tmp_path / "a.dcm") == 1
    assert has_grey_dicom_header(tmp_path / "a.dcm")


@pytest.mark.parametrize(("shape", "inverted"), [("INVERSE", True), ("IDENTITY", False)])
def test_a_shape_tells_what_a_missing_interpretation_does_not(shape, inverted):
    bright = np.array([[0, 1000, 2000, 4095]], "u2")
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    expected = shown(made(bright, kind="MONOCHROME1" if inverted else "MONOCHROME2", **window))
    absent = changed(made(bright, **window), without=("PhotometricInterpretation",), PresentationLUTShape=shape)
    assert shown(absent) == expected
    # Where both are there they say the same thing twice, and the picture is inverted once.
    both = made(bright, kind="MONOCHROME1", PresentationLUTShape="INVERSE", **window)
    assert shown(both) == shown(made(bright, kind="MONOCHROME1", **window)) == [255, 193, 130, 0]


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
def test_a_size_that_is_not_there_is_said(keyword):
    with pytest.raises(BrokenImage, match="does not say how many rows and columns"):
        decode_dicom(changed(made(PICTURE), without=(keyword,)))


def test_pixels_for_several_images_in_a_header_of_one_are_refused():
    frames = np.stack([PICTURE] * 3)
    for without in ((), ("NumberOfFrames",)):
        data = changed(made(frames, NumberOfFrames=3), without=without, **({} if without else {"NumberOfFrames": "1"}))
        with pytest.raises(BrokenImage, match="pixels for more images than its header says"):
            decode_dicom(data)
    with pytest.raises(BrokenImage, match="pixels for more images"):
        decode_dicom(changed(made(PICTURE), BitsAllocated=8, BitsStored=8, HighBit=7))


@pytest.mark.parametrize(
    "elements", [{"Rows": 400}, {"SamplesPerPixel": 3}, {"BitsAllocated": 32}, {"NumberOfFrames": "2"}]
)
def test_pixels_for_fewer_than_a_header_says_are_refused(elements):
    with pytest.raises(BrokenImage, match="fewer than its header says"):
        decode_dicom(changed(made(PICTURE, bits=12), **elements), 0)


@pytest.mark.parametrize("keyword", ["PhotometricInterpretation", "PixelRepresentation", "HighBit"])
def test_a_value_that_cannot_be_is_a_default_or_refused(keyword):
    data = made(PICTURE, bits=12, **WINDOW)
    if keyword == "PhotometricInterpretation":
        for value in ("RGB", "GRAYSCALE"):
            with pytest.raises(BrokenImage):
                decode_dicom(changed(data, PhotometricInterpretation=value))
    else:
        assert np.array_equal(
            decode_dicom(changed(data, **{keyword: 9 if keyword != "HighBit" else 3})), decode_dicom(data)
        )


# --- where a sample lies in its word


@pytest.mark.parametrize("high", [11, 12, 14, 15])
@pytest.mark.parametrize("dtype", ["u2", "i2"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_samples_lie_below_their_high_bit(high, dtype, syntax):
    picture = (PICTURE - (2048 if dtype == "i2" else 0)).astype(dtype)
    window = {"WindowCenter": 200, "WindowWidth": 1500}
    traits = Traits()
    data = made((picture << (high - 11)).astype(dtype), bits=12, syntax=syntax, HighBit=high, **window)
    assert np.array_equal(decode_dicom(data, None, traits), decode_dicom(made(picture, bits=12, **window)))
    assert traits.decoder == (1 if high == 11 else 2)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_compressed_samples_lie_below_their_high_bit_too(syntax, dtype):
    picture = (smooth(64, 64, top=4095) - (2048 if dtype == "i2" else 0)).astype(dtype)
    window = {"WindowCenter": 200, "WindowWidth": 1500}
    expected = decode_dicom(made(picture, bits=12, **window))
    data = made((picture << 4).astype(dtype), syntax=syntax, **window)
    assert np.array_equal(decode_dicom(changed(data, BitsStored=12)), expected)
    assert np.array_equal(decode_dicom(changed(data, BitsStored=12, HighBit=15)), expected)
    beside = made(picture, bits=12, syntax=syntax, **window)  # below its high bit, whatever the header says
    assert np.array_equal(decode_dicom(changed(beside, HighBit=15)), expected)


def test_left_aligned_samples_of_32_bits_and_of_colour():
    deep = smooth(top=10**6).astype("u4")
    window = {"WindowCenter": 5 * 10**5, "WindowWidth": 10**6}
    shifted = made(deep << 8, bits=24, HighBit=31, **window)
    assert np.array_equal(decode_dicom(shifted), decode_dicom(made(deep, bits=24, **window)))
    colours = np.stack([PICTURE, PICTURE // 2, PICTURE // 3], axis=2)
    assert np.array_equal(
        decode_dicom(made(colours << 4, kind="RGB", bits=12, HighBit=15)),
        decode_dicom(made(colours, kind="RGB", bits=12)),
    )


def test_a_high_bit_against_the_samples_is_not_believed():
    # They fill the low bits, and none is above the twelfth.
    data = made(PICTURE, bits=12, HighBit=15, **WINDOW)
    assert np.array_equal(decode_dicom(data), decode_dicom(made(PICTURE, bits=12, **WINDOW)))
    with pytest.raises(BrokenImage, match="at other bits than its header says"):
        decode_dicom(made(PICTURE * 3, bits=12, HighBit=15))


def test_samples_of_more_bits_than_the_header_says_are_refused():
    with pytest.raises(BrokenImage, match="more than the 12 bits"):
        decode_dicom(made((PICTURE * 3.9).astype("u2"), bits=12))
    with pytest.raises(BrokenImage, match="more than the 12 bits"):
        decode_dicom(made(np.array([[-3000, 10, 2000]], "i2"), bits=12))
    with pytest.raises(BrokenImage, match="more than the 12 bits"):  # signed samples under an unsigned header
        decode_dicom(made(np.array([[-5, 10, 2000]], "i2").view("u2"), bits=12))


def test_overlays_signs_and_padding_above_a_sample_are_no_samples():
    expected = decode_dicom(made(PICTURE, bits=12, **WINDOW))
    drawn = PICTURE.copy()
    drawn[5:9, 4:20] |= 1 << 13
    overlay = pydicom.dcmread(io.BytesIO(made(drawn, bits=12, **WINDOW)))
    overlay.add_new(0x60000100, "US", 16)
    overlay.add_new(0x60000102, "US", 13)
    assert np.array_equal(decode_dicom(saved(overlay)), expected)
    signed = np.array([[-2048, -1, 0, 2047]], "i2")  # written with their sign in all bits above
    assert shown(made(signed, bits=12, WindowCenter=0.5, WindowWidth=4096)) == [0, 127, 128, 255]
    padded = PICTURE.copy()
    padded[:3] = 63536
    assert np.array_equal(decode_dicom(made(padded, bits=12, PixelPaddingValue=63536, **WINDOW))[3:], expected[3:])


# --- the modality's unit


@pytest.mark.parametrize(
    ("slope", "intercept", "meant"),
    [
        ("", "-1024", (1, -1024)),
        (None, "-1024", (1, -1024)),
        ("0", "-1024", (1, -1024)),
        ("abc", "-1024", (1, -1024)),
        ("2", "", (2, 0)),
        ("2", None, (2, 0)),
        ("2\\3", "-1024\\7", (2, -1024)),
        ("-1", "4095", (-1, 4095)),
        ("inf", "nan", (1, 0)),
        ("1e-3", "0", (0.001, 0)),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_slope_and_intercept_each_by_itself(slope, intercept, meant, syntax):
    stored = np.array([[0, 500, 1000, 1040, 1064, 4000]], "u2")
    units = stored * float(meant[0]) + meant[1]
    low, high = float(units.min()), float(units.max())
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    data = made(stored, bits=12, syntax=syntax, WindowCenter=(low + high) / 2, WindowWidth=high - low)
    data = changed(data, VOILUTFunction="LINEAR_EXACT", **{k: v for k, v in elements.items() if v is not None})
    assert shown(data) == np.rint((units - low) / (high - low) * 255).astype(int).ravel().tolist()


# --- windows


@pytest.mark.parametrize(
    ("centre", "width", "meant"),
    [
        ("300\\100", "200\\50", (300, 200)),
        ("300\\100", "0\\50", (100, 50)),
        ("300\\100", "-5\\50", (100, 50)),
        ("\\100", "\\50", (100, 50)),
        ("300\\100\\7", "200", (300, 200)),
        ("abc\\100", "200\\50", (100, 50)),
        ("300", "abc", None),
        ("300", "0.5", None),
        ("", "", None),
        ("300", None, None),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_first_window_that_can_be_is_taken(centre, width, meant, syntax):
    stored = np.arange(0, 600, 7, dtype="u2").reshape(2, -1)
    elements = {"WindowCenter": centre, "WindowWidth": width}
    data = changed(made(stored, syntax=syntax), **{k: v for k, v in elements.items() if v is not None})
    if meant is None:
        assert shown(data) == shown(made(stored))
        return
    centre, width = meant
    # PS3.3 C.11.2.1.2.1
    expected = ((stored - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1) * 255
    assert shown(data) == np.rint(expected).astype(int).ravel().tolist()


def test_a_window_beside_all_values_is_one_brightness_and_noted():
    traits = Traits()
    image = decode_dicom(made(PICTURE + 12000, WindowCenter=3174, WindowWidth=2426))
    assert image.min() == image.max() == 255
    read.decode(made(PICTURE + 12000, WindowCenter=3174, WindowWidth=2426), None, traits)
    assert traits.is_blank
    wide = Traits()
    read.decode(made(PICTURE, WindowCenter=2048, WindowWidth=65536), None, wide)
    assert not wide.is_blank
    assert wide.range_used < 0.07


# --- tables

CURVE = np.clip(4095 / (1 + np.exp(-(np.arange(4096) - 2048) / 500)), 0, 4095).astype(int).tolist()


@pytest.mark.parametrize("bits", [12, 16, 8, 0, 40])
def test_entries_of_12_bits_are_shown_as_such_whatever_the_descriptor_says(bits):
    stored = np.array([[0, 1000, 2048, 3000, 4095]], "u2")
    expected = [round(CURVE[value] / 4095 * 255) for value in stored.ravel()]
    assert expected == [4, 28, 127, 222, 251]
    assert shown(made(stored, bits=12, VOILUTSequence=[lut(0, CURVE, bits)])) == expected


def test_entries_of_8_bits_in_words_of_16_and_packed_in_pairs():
    stored = np.array([[0, 1, 2, 3, 9]], "u2")
    expected = [0, 85, 170, 255, 255]
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 85, 170, 255], 16)])) == expected
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 85, 170, 255], 8)])) == expected
    packed = lut(0, [0] * 4, 8)
    packed.LUTData = bytes([0, 85, 170, 255])
    assert shown(made(stored, VOILUTSequence=[packed])) == expected
    swapped = lut(0, [0] * 4, 8)
    swapped.LUTData = bytes([85, 0, 255, 170])  # as words of big endian
    assert shown(made(stored, VOILUTSequence=[swapped], syntax=ExplicitVRBigEndian)) == expected


def test_the_bits_of_a_descriptor_hold_where_the_entries_do_not_deny_them():
    stored = np.array([[0, 1, 2]], "u2")
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 1024, 2047], 12)])) == [0, 64, 127]
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 100, 200], 8)])) == [0, 100, 200]
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 16384, 32767], 16)])) == [0, 64, 127]
    assert shown(made(stored, VOILUTSequence=[lut(0, [0, 8192, 16383], 16)])) == [0, 128, 255]


@pytest.mark.parametrize("kind", ["US", "SS"])
def test_the_first_value_has_the_sign_of_the_values(kind):
    entries = [0, 85, 170, 255]
    stored = np.array([[-5, -3, -2, 0, 7]], "i2")
    first = -3 if kind == "SS" else 65533
    expected = [0, 0, 85, 255, 255]
    assert shown(made(stored, VOILUTSequence=[lut(first, entries, 8, vr=kind)])) == expected
    high = np.array([[0, 40000, 40001, 40003]], "u2")
    first = 40000 - 65536 if kind == "SS" else 40000
    assert shown(made(high, VOILUTSequence=[lut(first, entries, 8, vr=kind)])) == [0, 0, 85, 255]


def test_a_length_of_zero_is_65536():
    table = lut(0, [0], 16)
    table.LUTDescriptor = [0, 0, 16]
    table.LUTData = np.arange(65535, -1, -1).astype("<u2").tobytes()
    stored = np.array([[0, 257 * 100, 65535]], "u2")
    assert shown(made(stored, VOILUTSequence=[table])) == [255, 155, 0]


def test_a_table_without_descriptor_or_data_is_none():
    for keyword in ("LUTDescriptor", "LUTData"):
        table = lut(0, CURVE, 12)
        delattr(table, keyword)
        assert shown(made(PICTURE, VOILUTSequence=[table], **WINDOW)) == shown(made(PICTURE, **WINDOW))
        assert shown(made(PICTURE, ModalityLUTSequence=[table], **WINDOW)) == shown(made(PICTURE, **WINDOW))
    both = made(PICTURE, VOILUTSequence=[Dataset(), lut(0, CURVE, 12)])
    assert shown(both) == shown(made(PICTURE, VOILUTSequence=[lut(0, CURVE, 12)]))


@pytest.mark.parametrize(("scale", "bits"), [(257, 16), (16, 16), (1, 16), (1, 8)])
def test_a_palette_of_16_12_and_8_bits_is_the_same_colours(scale, bits):
    stored = np.array([[0, 1, 2, 9]], "u1")
    palette = {}
    for name, values in (("Red", [10, 20, 7, 255]), ("Green", [30, 40, 7, 0]), ("Blue", [50, 60, 7, 7])):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        palette[f"{name}PaletteColorLookupTableData"] = (np.array(values) * scale).astype("<u2").tobytes()
    result = decode_dicom(made(stored, kind="PALETTE COLOR", **palette))
    assert result.tolist() == [[[10, 30, 50], [20, 40, 60], [7, 7, 7], [255, 0, 7]]]


# --- damage


def test_a_deflated_file_is_limited_while_it_is_inflated(monkeypatch, tmp_path):
    monkeypatch.setattr(dicom_header, "HEADER_BYTES", 2**20)
    sound = made(PICTURE, syntax=DeflatedExplicitVRLittleEndian, **WINDOW)
    assert np.array_equal(decode_dicom(sound), decode_dicom(made(PICTURE, **WINDOW)))
    end, syntax = dicom_header._meta_end(sound)
    assert syntax == DeflatedExplicitVRLittleEndian.encode()
    content = zlib.decompress(sound[end:], -15)
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    # An element behind the pixels, of 64 MB of zeros.
    tail = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 2**26)
    bomb = sound[:end] + compressor.compress(content + tail) + compressor.compress(bytes(2**26)) + compressor.flush()
    (tmp_path / "bomb.dcm").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(BrokenImage, match="more in it than an image of the size in its header"):
            decode_dicom(bomb)
        assert num_frames(tmp_path / "bomb.dcm") == 1
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    with pytest.raises(BrokenImage, match="cut off"):
        decode_dicom(sound[:-30])


def test_compressed_pixels_of_an_absurd_size_are_refused_before_they_are_decoded():
    whole = pydicom.dcmread(io.BytesIO(made(smooth(64, 64), syntax=JPEG2000Lossless)))
    part = bytearray(pydicom.encaps.get_frame(whole.PixelData, 0, number_of_frames=1))
    at = part.index(b"\xff\x4f\xff\x51")
    part[at + 8 : at + 16] = struct.pack(">II", 60000, 60000)
    with pytest.raises(BrokenImage, match="cannot be decoded: they are 60000 x 60000"):
        decode_dicom(encapsulated([bytes(part)], smooth(64, 64), JPEG2000Lossless))
    small = smooth(48, 40, top=250, dtype="u1")
    file = io.BytesIO()
    Image.fromarray(small).save(file, "JPEG")
    jpeg = bytearray(file.getvalue())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(BrokenImage, match="cannot be decoded: they are 65000 x 65000"):
        decode_dicom(encapsulated([bytes(jpeg)], small, JPEGBaseline8Bit))


def test_a_jpeg_whose_scan_ends_early_is_broken_though_it_has_its_end_marker():
    noise = np.random.default_rng(0).integers(0, 255, (80, 96)).astype("u1")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    jpeg = file.getvalue()
    start = jpeg.index(b"\xff\xda")
    assert decode_dicom(encapsulated([jpeg], noise, JPEGBaseline8Bit)).shape == (80, 96, 1)
    short = jpeg[: start + (len(jpeg) - start) // 4].rstrip(b"\xff") + b"\xff\xd9"
    with pytest.raises(BrokenImage, match="end early"):
        decode_dicom(encapsulated([short], noise, JPEGBaseline8Bit))


@pytest.mark.parametrize("error", [AssertionError, SystemError, struct.error, MemoryError, RecursionError, KeyError])
def test_whatever_pydicom_raises_is_a_broken_image(error, monkeypatch):
    def fail(*_, **__):
        raise error("Zyxwvut^Quentin")

    monkeypatch.setattr(pydicom, "dcmread", fail)
    with pytest.raises(BrokenImage) as caught:
        read.decode(made(PICTURE))
    assert "Zyxwvut" not in f"{caught.value} {caught.value.__cause__}"


def test_a_panic_of_a_package_in_rust_is_a_broken_image(monkeypatch):
    class PanicException(BaseException):  # PyO3's name
        pass

    def fail(*_, **__):
        raise PanicException

    monkeypatch.setattr(pydicom, "dcmread", fail)
    with pytest.raises(BrokenImage, match="damaged"):
        decode_dicom(made(PICTURE))


# --- random headers against the standard's formulas


def random_case(seed: int) -> tuple[bytes, np.ndarray]:
    """A file with a random header, and its image as floats 0..255 by the formulas of PS3.3, pixel by pixel."""
    draw = np.random.default_rng(seed)
    pick = lambda *choices: choices[int(draw.integers(len(choices)))]  # noqa: E731
    allocated = pick(8, 16, 16)
    bits = int(draw.integers(4, allocated + 1))
    high = pick(bits - 1, bits - 1, allocated - 1)
    signed = bool(draw.integers(2))
    least = -(2 ** (bits - 1)) if signed else 0
    values = draw.integers(least, least + 2**bits, (7, 9))
    kind = f"{'i' if signed else 'u'}{allocated // 8}"
    words = ((values << (high + 1 - bits)) & (2**allocated - 1)).astype(f"u{allocated // 8}").view(kind)
    interpretation = pick("MONOCHROME1", "MONOCHROME2", "MONOCHROME2")
    syntax = pick(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    elements: dict = {"HighBit": high}
    units, changes = values.astype(float), {}
    slope, intercept = pick(None, "2", "0.5", "0", ""), pick(None, "-1024", "10", "")
    if slope is not None:
        changes["RescaleSlope"] = slope
    if intercept is not None:
        changes["RescaleIntercept"] = intercept
    units = units * (float(slope or 1) or 1.0) + float(intercept or 0)
    voi = pick("none", "window", "window", "table")
    span = max(2.0, float(units.max() - units.min()))
    if voi == "window":
        centre, width = round(float(units.mean()), 3), round(span * draw.uniform(0.3, 1.5) + 1, 3)
        function = pick("", "LINEAR", "LINEAR_EXACT", "SIGMOID")
        first = pick("", "7\\")
        changes |= {"WindowCenter": f"{first}{centre}", "WindowWidth": f"{'0' if first else ''}{first[1:]}{width}"}
        if function:
            elements["VOILUTFunction"] = function
        shown = by_window(units, centre, width, function)
    elif voi == "table":
        entry_bits = pick(8, 10, 12)
        count = int(draw.integers(2, 200))
        entries = draw.integers(0, 2**entry_bits, count)
        entries[-1] = 2**entry_bits - 1
        at = int(np.floor(units.min())) + int(draw.integers(0, 5))
        # By the signs that stored values can have, not by those that they happen to have.
        lowest = min(least * (float(slope or 1) or 1.0) + float(intercept or 0), 0)
        at = max(-(2**15), at if lowest < 0 else max(at, 0))
        item = Dataset()
        said = pick(entry_bits, 16)
        item.add_new(0x00283002, "SS" if at < 0 else "US", [count, at, said])
        item.add_new(0x00283006, "OW", entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes())
        elements["VOILUTSequence"] = [item]
        shown = entries[(units - at).clip(0, count - 1).astype(int)] / (2**entry_bits - 1) * 255
    elif bits == 8 and not signed and np.array_equal(units, values):
        shown = units
    else:
        low, top = np.percentile(units, [0.1, 99.9])
        shown = (units.clip(low, top) - low) / (top - low) * 255
    if interpretation == "MONOCHROME1":
        shown = 255 - shown
    data = made(words, kind=interpretation, bits=bits, syntax=syntax, **elements)
    absent = ["SamplesPerPixel"] if draw.integers(2) else []
    absent += ["PixelRepresentation"] if not signed and draw.integers(2) else []
    absent += ["HighBit"] if high == bits - 1 and draw.integers(2) else []
    return changed(data, without=tuple(absent), **changes), shown


def by_window(units: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, as they stand there, with 0 and 255 as ymin and ymax."""
    if function == "SIGMOID":
        return 255 / (1 + np.exp(-4 * (units - centre) / width))
    if function == "LINEAR_EXACT":
        inside = ((units - centre) / width + 0.5) * 255
        return np.where(units <= centre - width / 2, 0, np.where(units > centre + width / 2, 255, inside))
    inside = ((units - (centre - 0.5)) / (width - 1) + 0.5) * 255
    low, top = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return np.where(units <= low, 0, np.where(units > top, 255, inside))


@pytest.mark.parametrize("block", range(8))
def test_random_headers_are_shown_by_the_formulas_of_the_standard(block):
    for seed in range(block * 30, block * 30 + 30):
        data, expected = random_case(seed)
        result = decode_dicom(data)[..., 0]
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() <= 0.5 + 1e-6, seed


def test_a_table_shorter_than_its_descriptor_says_is_refused():
    short = lut(0, list(range(4096)), 12)
    short.LUTData = short.LUTData[:2048] if not isinstance(short.LUTData, bytes) else short.LUTData[:4096]
    with pytest.raises(BrokenImage, match="look-up table in its header is cut off"):
        shown(made(np.array([[0, 100]], "u2"), VOILUTSequence=[short]))
