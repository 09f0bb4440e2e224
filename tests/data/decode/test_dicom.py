"""DICOM: every file that pydicom ships against pydicom's own functions, cases by hand, damage, and privacy."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from sslcurr.data.decode import dicom, read
from sslcurr.data.decode import image as decode_image
from sslcurr.data.decode.dicom import decode_dicom, looks_like_dicom, num_frames
from sslcurr.errors import DataError

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
STORE = importlib.util.find_spec("data_store")  # the package pydicom-data: larger files, among them radiographs
FOLDERS = [PYDICOM] + ([Path(str(STORE.origin)).parent / "data"] if STORE and STORE.origin else [])
NO_IMAGE = frozenset({".py", ".pyc", ".txt", ".json", ".dump", ".icc", ".gz"})
FILES = [
    path
    for folder in FOLDERS
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.suffix not in NO_IMAGE and looks_like_dicom(path.read_bytes()[:132])
]

# Damaged on purpose, by those who made them.
UNREADABLE = {
    "JPEG-lossy.dcm": "pylibjpeg-libjpeg",
    "JPGExtended.dcm": "pylibjpeg-libjpeg",
    "JPEG2000-embedded-sequence-delimiter.dcm": "cannot be decoded",
    "MR_truncated.dcm": "cut off",
    "badVR.dcm": "header is damaged",
    "meta_missing_tsyntax.dcm": "header is damaged",
    "nested_priv_SQ.dcm": "header is damaged",
}


@pytest.fixture(autouse=True)
def without_gpl(monkeypatch):
    """What the extra `dicom` does not bring is not used, even where it is installed."""
    from pydicom.pixels.decoders import base

    for name in ("JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless"):
        decoder = getattr(base, f"{name}Decoder")
        monkeypatch.setattr(decoder, "_available", {k: v for k, v in decoder._available.items() if k != "pylibjpeg"})


def theirs(function: Callable):
    """What pydicom says, without its remarks."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()
    finally:
        logger.setLevel(level)


def percentile_window(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """0..255 as floats, by the textbook."""
    values = values.astype(np.float64)
    low, high = np.percentile(values[counted], [0.1, 99.9])
    if low == high:
        low, high = values[counted].min(), values[counted].max()
    return np.zeros(values.shape) if low == high else (values.clip(low, high) - low) / (high - low) * 255


def expected_grey(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """0..255 as floats, by pydicom's own functions where there is a window or table."""
    values = apply_modality_lut(stored, dataset)
    if "VOILUTSequence" in dataset:
        low, high = 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
        shown = (apply_voi_lut(values, dataset) - low) / (high - low) * 255
    elif dataset.get("WindowWidth") is not None:
        bits = dataset.BitsStored
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
        if "RescaleSlope" in dataset:
            low, high = (x * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept) for x in (low, high))
        shown = (apply_voi_lut(values, dataset) - low) / (high - low) * 255
    elif dataset.BitsStored == 8 and values is stored:
        shown = stored.astype(np.float64)
    else:
        padding = dataset.get("PixelPaddingValue")
        counted = np.ones(stored.shape, bool) if padding is None else stored != padding
        shown = percentile_window(values, counted)
    return 255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_is_as_pydicom_shows_it(path):
    data = path.read_bytes()
    dataset = theirs(lambda: pydicom.dcmread(io.BytesIO(data), force=True))
    if path.name in UNREADABLE:
        with pytest.raises(decode_image.BrokenImage, match=UNREADABLE[path.name]):
            decode_dicom(data)
        return
    if not any(keyword in dataset for keyword in dicom.PIXEL_KEYWORDS):
        with pytest.raises(decode_image.BrokenImage, match="no image"):
            decode_dicom(data)
        return
    frames = num_frames(path)
    assert frames == int(dataset.get("NumberOfFrames") or 1)
    result = decode_dicom(data, frames - 1)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        assert path.name == "OT-PAL-8-face.dcm"
        return
    stored = theirs(lambda: pixel_array(dataset, index=frames - 1))
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        expected = colours >> 8 if colours.max() > 255 else colours
    elif kind.startswith("MONOCHROME"):
        if "SharedFunctionalGroupsSequence" in dataset:  # which pydicom does not look into
            groups = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[frames - 1]
            for group in groups:
                for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                    for item in group.get(name, []):
                        dataset.update(item)
        expected = theirs(lambda: expected_grey(dataset, stored))[..., None]
    else:
        expected = stored if stored.dtype == np.uint8 else percentile_window(stored, np.ones(stored.shape, bool))
    assert result.shape == expected.shape
    assert np.abs(result - expected.astype(np.float64)).max() <= 0.51
    assert dicom.has_grey_dicom_header(path) == (result.shape[2] == 1)


def test_the_files_are_many():
    assert len(FILES) > 100


def test_byte_order_and_compression_do_not_change_an_image():
    def folded(name: str) -> np.ndarray:
        return decode_dicom(next(path for path in FILES if path.name == name).read_bytes(), 0)

    for group in (
        ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"),
        ("MR_small.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
        ("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"),
    ):
        first = folded(group[0])
        assert first.std() > 10
        for other in group[1:]:
            assert np.array_equal(folded(other), first)


def made(
    pixels: np.ndarray, *, kind: str = "MONOCHROME2", bits: int | None = None, syntax=ExplicitVRLittleEndian, **elements
) -> bytes:
    """A DICOM file of [H, W], [H, W, 3] or, with NumberOfFrames among the elements, [frames, H, W] samples."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    dataset.PatientName = "Zyxwvut^Quentin"
    dataset.PatientID = "PID-774411"
    colour = kind in ("RGB", "YBR_FULL")
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = kind
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    if pixels.dtype.kind == "f":
        keyword = "FloatPixelData" if pixels.dtype.itemsize == 4 else "DoubleFloatPixelData"
        setattr(dataset, keyword, pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())
    else:
        dataset.BitsStored = bits or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}[syntax]
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    return saved(dataset)


def saved(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encapsulated(frames: list[bytes], pixels: np.ndarray, syntax, **elements) -> bytes:
    """A DICOM file with these compressed frames, whatever they hold."""
    dataset = pydicom.dcmread(io.BytesIO(made(pixels, **elements)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


def smooth(height: int = 40, width: int = 30, top: int = 4095, dtype: str = "u2") -> np.ndarray:
    """A picture with slopes and noise, [H, W] of 0..top."""
    rows, columns = np.mgrid[:height, :width]
    wave = 0.4 + 0.3 * np.sin(rows / 5) + 0.2 * np.cos(columns / 4)
    noise = np.random.default_rng(0).uniform(0, 0.1, (height, width))
    return np.rint((wave + noise).clip(0, 1) * top).astype(dtype)


def test_signed_12_bits_with_slope_and_two_windows():
    stored = np.array([[-2048, -1000, 0], [500, 1000, 2047]], "i2")
    data = made(stored, bits=12, RescaleSlope=2, RescaleIntercept=-24, WindowCenter=[40, 0], WindowWidth=[401, 9])
    units = stored * 2.0 - 24
    # The first window: 401 wide means 400 steps from -160.5 to 239.5.
    expected = np.rint(((units - 39.5) / 400 + 0.5).clip(0, 1) * 255)
    assert decode_dicom(data)[..., 0].tolist() == expected.tolist()
    assert expected.tolist() == [[0, 0, 87], [255, 255, 255]]


@pytest.mark.parametrize("junk", [0x0000, 0xF000, 0xA000])
def test_bits_that_are_not_stored_do_not_count(junk):
    stored = smooth(top=4095)
    data = made(stored | np.uint16(junk), bits=12)
    assert np.array_equal(decode_dicom(data), decode_dicom(made(stored, bits=12)))
    signed = made((stored | np.uint16(junk)).view("i2"), bits=12)
    values = np.where(stored >= 2048, stored.astype(int) - 4096, stored)
    expected = percentile_window(values, np.ones(values.shape, bool))
    assert np.abs(decode_dicom(signed)[..., 0] - expected).max() <= 0.51


def test_linear_exact_and_sigmoid():
    stored = np.arange(256, dtype="u2").reshape(16, 16) * 4
    window = {"WindowCenter": 500, "WindowWidth": 300}
    exact = decode_dicom(made(stored, bits=10, **window, VOILUTFunction="LINEAR_EXACT"))[..., 0]
    assert np.array_equal(exact, np.rint(((stored - 500.0) / 300 + 0.5).clip(0, 1) * 255))
    sigmoid = decode_dicom(made(stored, bits=10, **window, VOILUTFunction="SIGMOID"))[..., 0]
    assert np.array_equal(sigmoid, np.rint(255 / (1 + np.exp(-4 * (stored - 500.0) / 300))))
    assert not np.array_equal(exact, sigmoid)


def test_a_window_of_one_value_is_a_threshold():
    stored = np.array([[98, 99, 100, 101]], "u2")
    assert decode_dicom(made(stored, WindowCenter=100, WindowWidth=1)).ravel().tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("window", [{"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 7}, {"WindowWidth": None}])
def test_an_impossible_window_is_none(window):
    assert np.array_equal(decode_dicom(made(smooth(), **window)), decode_dicom(made(smooth())))


def test_monochrome_1_is_the_same_picture_inverted():
    picture = smooth(top=4095)
    assert picture[:20].mean() > picture[20:].mean() + 100
    bright = decode_dicom(made(picture, bits=12, WindowCenter=2000, WindowWidth=3002))
    window = {"WindowCenter": 4095 - 2000 + 1, "WindowWidth": 3002}
    assert np.array_equal(decode_dicom(made(4095 - picture, bits=12, kind="MONOCHROME1", **window)), bright)
    without = decode_dicom(made(picture, bits=12)).astype(int)
    again = decode_dicom(made(4095 - picture, bits=12, kind="MONOCHROME1"))
    assert np.abs(without - again).max() <= 1  # halves are rounded to even
    assert (np.diff(without.ravel()[np.argsort(picture, axis=None)]) >= 0).all()


def lut(first: int, entries: list[int], bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, vr, [len(entries), first, bits])
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return item


def test_voi_and_modality_tables():
    stored = np.array([[0, 9, 10, 11, 12, 13, 200]], "u2")
    table = lut(10, [0, 1023, 512, 256], 10)
    expected = [0, 0, 0, 255, 128, 64, 64]
    window = {"WindowCenter": 3, "WindowWidth": 4}  # the table goes before
    assert decode_dicom(made(stored, VOILUTSequence=[table], **window)).ravel().tolist() == expected
    modality = made(
        stored, ModalityLUTSequence=[lut(10, [100, 300, 200, 400], 16)], WindowCenter=250.5, WindowWidth=301
    )
    assert decode_dicom(modality).ravel().tolist() == [0, 0, 0, 170, 85, 255, 255]
    short = lut(10, [1, 2, 3, 4], 16)
    short.LUTDescriptor = [400, 10, 16]
    with pytest.raises(decode_image.BrokenImage, match="look-up table"):
        decode_dicom(made(stored, VOILUTSequence=[short]))


def test_the_first_value_of_a_table_may_be_negative():
    stored = np.array([[-5, -3, -2, 0, 7]], "i2")
    table = lut(-3, [0, 85, 170, 255], 8, vr="SS")
    assert decode_dicom(made(stored, VOILUTSequence=[table])).ravel().tolist() == [0, 0, 85, 255, 255]


def test_without_a_window_percentiles_that_padding_does_not_move():
    picture = smooth(200, 200, top=3000).astype("i2")
    padded = picture.copy()
    padded[:, :80] = -2000
    result = decode_dicom(made(padded, PixelPaddingValue=-2000))[..., 0]
    expected = percentile_window(padded, padded != -2000)
    assert np.abs(result - expected).max() <= 0.51
    assert not result[:, :80].any()
    assert result[:, 80:].std() > 40
    padded[0, 0] = -1990
    ranged = decode_dicom(made(padded, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990))[..., 0]
    assert np.abs(ranged - percentile_window(padded, padded > -1990)).max() <= 0.51
    assert not decode_dicom(made(np.full((4, 4), -2000, "i2"), PixelPaddingValue=-2000)).any()


def test_eight_bits_without_a_window_stay_and_a_constant_is_black():
    picture = smooth(top=200, dtype="u1")
    assert np.array_equal(decode_dicom(made(picture))[..., 0], picture)
    assert np.array_equal(decode_dicom(made(picture, RescaleSlope=1, RescaleIntercept=0))[..., 0], picture)
    assert np.array_equal(decode_dicom(made(picture, kind="MONOCHROME1"))[..., 0], 255 - picture)
    assert not decode_dicom(made(np.full((5, 6), 777, "u2"))).any()
    assert decode_dicom(made(np.full((5, 6), 777, "u2"), WindowCenter=777, WindowWidth=1000)).ravel()[0] == 128


@pytest.mark.parametrize("dtype", ["u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_deep_integers_and_floats(dtype, syntax):
    picture = smooth(top=10**6).astype("f8") if dtype[0] == "f" else smooth(top=10**6, dtype="i8")
    picture = (picture - (500_000 if dtype != "u4" else 0)).astype(dtype)
    expected = percentile_window(picture, np.ones(picture.shape, bool))
    assert np.abs(decode_dicom(made(picture, syntax=syntax))[..., 0] - expected).max() <= 0.51
    shown = decode_dicom(made(picture, syntax=syntax, WindowCenter=0, WindowWidth=400_001, kind="MONOCHROME1"))[..., 0]
    assert np.abs(shown - (255 - ((picture + 0.5) / 400_000 + 0.5).clip(0, 1) * 255)).max() <= 0.51


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_transfer_syntaxes_agree(syntax, dtype):
    picture = smooth(31, 17, top=250).astype(dtype)
    window = {"WindowCenter": 120, "WindowWidth": 180}
    assert np.array_equal(decode_dicom(made(picture, syntax=syntax, **window)), decode_dicom(made(picture, **window)))


def test_colour_is_kept_and_converted():
    colours = np.stack([smooth(top=250, dtype="u1"), smooth(top=90, dtype="u1"), smooth(top=30, dtype="u1")], axis=2)
    assert np.array_equal(decode_dicom(made(colours, kind="RGB")), colours)
    ybr = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    assert np.abs(decode_dicom(made(ybr, kind="YBR_FULL")).astype(int) - colours).max() <= 3
    deep = colours.astype("u2") * 100
    expected = percentile_window(deep, np.ones(deep.shape, bool))
    assert np.abs(decode_dicom(made(deep, kind="RGB")) - expected).max() <= 0.51
    grey = np.repeat(colours[..., :1], 3, axis=2)
    assert read.decode(made(grey, kind="RGB")).shape == (40, 30, 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_applied(bits):
    stored = np.array([[0, 1, 2, 9]], "u1")
    red, green, blue = [10, 20, 7, 255], [30, 40, 7, 0], [50, 60, 7, 7]
    palette = {}
    for name, values in (("Red", red), ("Green", green), ("Blue", blue)):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        content = np.array(values, "<u2") * 257 if bits == 16 else np.array(values, "u1")
        palette[f"{name}PaletteColorLookupTableData"] = content.tobytes()
    result = decode_dicom(made(stored, kind="PALETTE COLOR", **palette))
    assert result.tolist() == [[[10, 30, 50], [20, 40, 60], [7, 7, 7], [255, 0, 7]]]
    with pytest.raises(decode_image.BrokenImage):
        decode_dicom(made(stored, kind="PALETTE COLOR"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_one_frame_of_several(syntax, tmp_path):
    frames = np.stack([smooth(top=top) for top in (500, 2000, 4000)])
    window = {"WindowCenter": 2000, "WindowWidth": 4000}
    data = made(frames, NumberOfFrames=3, syntax=syntax, **window)
    path = tmp_path / "cine.dcm"
    path.write_bytes(data)
    assert num_frames(path) == 3
    with pytest.raises(
        decode_image.BrokenImage, match="it has 3 frames; --frames first takes the first, --frames all takes each"
    ):
        decode_dicom(data)
    for i in range(3):
        assert np.array_equal(decode_dicom(data, i), decode_dicom(made(frames[i], **window)))
        assert np.array_equal(read.decode(data, i), decode_dicom(data, i))
    for wrong in (3, -1):
        with pytest.raises(decode_image.BrokenImage, match="3 frames"):
            decode_dicom(data, wrong)
    path.write_bytes(made(frames[0]))
    assert num_frames(path) == 1
    assert np.array_equal(decode_dicom(made(frames[0]), 0), decode_dicom(made(frames[0])))


def test_the_other_frames_are_not_decoded():
    pixels = np.stack([smooth(top=top) for top in (500, 4000)])
    whole = pydicom.dcmread(io.BytesIO(made(pixels, NumberOfFrames=2, syntax=JPEGLSLossless)))
    first, second = (get_frame(whole.PixelData, i, number_of_frames=2) for i in (0, 1))
    rotten = second[:40] + bytes(len(second) - 42) + second[-2:]
    data = encapsulated([first, rotten], pixels, JPEGLSLossless, NumberOfFrames=2)
    assert np.array_equal(decode_dicom(data, 0), decode_dicom(made(pixels[0])))
    with pytest.raises(decode_image.BrokenImage):
        decode_dicom(data, 1)


def test_windows_of_single_frames_are_heeded():
    frames = np.stack([smooth(), smooth()])
    groups = []
    for centre in (1000, 3000):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = centre, 1001
        group = Dataset()
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    data = made(frames, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    for i, centre in enumerate((1000, 3000)):
        expected = decode_dicom(made(frames[i], WindowCenter=centre, WindowWidth=1001))
        assert np.array_equal(decode_dicom(data, i), expected)


def compressed_files() -> dict[str, tuple[bytes, int | None]]:
    picture = smooth(30, 20, top=250)
    files = {
        syntax.name: (made(picture, syntax=syntax), None)
        for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless)
    }
    files["JPEG 2000"] = (made(smooth(64, 64), syntax=JPEG2000Lossless), None)
    file = io.BytesIO()
    small = smooth(48, 40, top=250, dtype="u1")
    Image.fromarray(small).save(file, "JPEG", quality=90)
    files["JPEG"] = (encapsulated([file.getvalue()], small, JPEGBaseline8Bit), None)
    files["JPEG lossless"] = ((PYDICOM / "SC_rgb_jpeg_gdcm.dcm").read_bytes(), None)
    files["three frames"] = (made(np.stack([picture] * 3), NumberOfFrames=3, syntax=RLELossless), 1)
    files["with an element behind"] = (made(picture, DataSetTrailingPadding=b"\0" * 40), None)
    return files


COMPRESSED = compressed_files()


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_file_cut_anywhere_is_broken_or_whole(name):
    data, frame = COMPRESSED[name]
    whole = decode_dicom(data, frame)
    step = max(1, len(data) // 400)
    cuts = sorted({*range(0, len(data), step), *range(len(data) - 40, len(data))})
    num_whole = 0
    for cut in cuts:
        try:
            result = decode_dicom(data[:cut], frame)
        except decode_image.BrokenImage:
            continue
        assert np.array_equal(result, whole)
        num_whole += 1
    assert num_whole <= 50


@pytest.mark.parametrize("name", [RLELossless.name, JPEGLSLossless.name, "JPEG 2000", "JPEG", "JPEG lossless"])
def test_a_frame_cut_before_it_was_wrapped_is_broken_or_whole(name):
    data, _ = COMPRESSED[name]
    whole = decode_dicom(data)
    dataset = pydicom.dcmread(io.BytesIO(data))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    # By even numbers, since wrapping pads with a zero, which could be a run's last byte.
    steps = {*range(2, len(frame), max(1, len(frame) // 300) * 2), *range(len(frame) // 2 * 2 - 12, len(frame), 2)}
    for cut in sorted(steps):
        dataset.PixelData = encapsulate([frame[:cut]])
        try:
            result = decode_dicom(saved(dataset))
        except decode_image.BrokenImage:
            continue
        assert np.array_equal(result, whole)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(COMPRESSED)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_never_raise_anything_else(name, flips):
    data, frame = COMPRESSED[name]
    damaged = bytearray(data)
    for place, value in flips:
        damaged[int(place * len(damaged))] = value
    with contextlib.suppress(decode_image.BrokenImage):
        result = decode_dicom(bytes(damaged), frame)
        assert result.dtype == np.uint8
        assert result.shape[2] in (1, 3)


def test_empty_encrypted_and_other_kinds():
    with pytest.raises(decode_image.BrokenImage, match="the file is empty"):
        read.decode(b"")
    envelope = bytes.fromhex("3082010006092a864886f70d010703a0820100") + bytes(200)
    with pytest.raises(decode_image.BrokenImage, match="it is encrypted"):
        read.decode(envelope)
    dataset = pydicom.dcmread(io.BytesIO(made(smooth())))
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = ExplicitVRLittleEndian
    item.EncryptedContent = b"\1\2"
    dataset.EncryptedAttributesSequence = [item]
    # De-identified files keep what was taken out in this way; their pixels are still there.
    assert np.array_equal(decode_dicom(saved(dataset)), decode_dicom(made(smooth())))
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    with pytest.raises(decode_image.BrokenImage, match="it is encrypted"):
        decode_dicom(saved(dataset))
    with pytest.raises(decode_image.BrokenImage, match=r"it holds no image \(Comprehensive SR Storage\)"):
        read.decode((PYDICOM / "test-SR.dcm").read_bytes())
    with pytest.raises(decode_image.BrokenImage, match=r"it holds no image \(RT Structure Set Storage\)"):
        read.decode((PYDICOM / "rtstruct.dcm").read_bytes())
    with pytest.raises(decode_image.BrokenImage, match=r"it holds no image \(Media Storage Directory Storage\)"):
        read.decode((PYDICOM / "dicomdirtests" / "DICOMDIR").read_bytes())


def test_hostile_sizes_are_refused():
    dataset = pydicom.dcmread(io.BytesIO(made(smooth())))
    dataset.Rows = dataset.Columns = 65535
    with pytest.raises(decode_image.BrokenImage, match="65535 x 65535 pixels, more than"):
        decode_dicom(saved(dataset))
    dataset.Rows = 0
    with pytest.raises(decode_image.BrokenImage, match="65535 x 0 pixels"):
        decode_dicom(saved(dataset))


def test_a_file_without_preamble_or_transfer_syntax():
    data = made(smooth(), syntax=ImplicitVRLittleEndian)
    meta_length = struct.unpack_from("<I", data, 140)[0]
    for bare in (data[132:], data[144 + meta_length :]):
        assert looks_like_dicom(bare)
        assert np.array_equal(read.decode(bare), decode_dicom(data))
    explicit = made(smooth())
    bare = explicit[144 + struct.unpack_from("<I", explicit, 140)[0] :]
    assert looks_like_dicom(bare)
    assert np.array_equal(read.decode(bare), decode_dicom(explicit))


def test_other_kinds_do_not_look_like_dicom():
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"):
        file = io.BytesIO()
        Image.fromarray(smooth(top=250, dtype="u1")).save(file, kind)
        assert not looks_like_dicom(file.getvalue())
    assert not looks_like_dicom(b"")
    assert not looks_like_dicom(b"some words, and then some more of them")
    assert not looks_like_dicom(b"\x08\x00")


def test_has_grey_header(tmp_path):
    colours = np.stack([smooth(top=250, dtype="u1")] * 3, axis=2)
    for name, data, grey in (
        ("a.dcm", made(smooth()), True),
        ("b.dcm", made(smooth(), kind="MONOCHROME1"), True),
        ("c.dcm", made(colours, kind="RGB"), False),
        ("d.dcm", made(smooth(top=200, dtype="u1"), kind="PALETTE COLOR"), False),
        ("e.dcm", made(smooth())[:180], True),
        ("f.dcm", b"", True),
    ):
        (tmp_path / name).write_bytes(data)
        assert read.has_grey_header(tmp_path / name) is grey
    assert read.has_grey_header(tmp_path / "gone.dcm") is True


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_nothing_of_a_person_gets_out(level, caplog, recwarn, capfd):
    caplog.set_level(level)
    picture = smooth(30, 20, top=250)
    secret = ("Zyxwvut", "Quentin", "774411")
    texts = []
    for name, (data, frame) in COMPRESSED.items():
        for i, cut in enumerate(range(100, len(data), max(1, len(data) // 60))):
            variants = [data[:cut], data[:cut] + bytes([i % 256]) + data[cut + 1 :]]
            at = data.find(b"Zyxwvut")
            if at > 0:  # a length that makes the name part of another element
                variants.append(data[: at - 1] + bytes([i % 256]) + data[at:])
            for variant in variants:
                try:
                    decode_dicom(variant, frame)
                except (decode_image.BrokenImage, DataError) as error:
                    texts.append(f"{name} {error} {error.__cause__}")
    # A value that cannot be is quoted by pydicom.
    bad = made(picture, NumberOfFrames=11).replace(b"IS\x02\x0011", b"IS\x02\x00Zy")
    with pytest.raises(decode_image.BrokenImage) as caught:
        decode_dicom(bad)
    texts.append(f"{caught.value} {caught.value.__cause__}")
    assert len(texts) > 100
    assert not [text for text in texts if any(word in text for word in (*secret, "Zy"))]
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]
    assert not recwarn.list
    written = capfd.readouterr()
    assert not any(word in written.out + written.err for word in secret)


def test_pydicom_speaks_again_afterwards():
    logger = logging.getLogger("pydicom")
    before, filters = logger.level, list(warnings.filters)
    decode_dicom(made(smooth()))
    with pytest.raises(decode_image.BrokenImage):
        decode_dicom(made(smooth())[:300])
    assert logger.level == before
    assert list(warnings.filters) == filters


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    data = made(smooth(), syntax=JPEGLSLossless)
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    from pydicom.pixels.decoders.base import JPEGLSLosslessDecoder

    with monkeypatch.context() as patch:
        patch.setattr(JPEGLSLosslessDecoder, "_available", {})
        with pytest.raises(DataError, match="JPEG-LS Lossless Image Compression") as caught:
            read.decode(data)
        assert caught.value.hint == "pip install 'sslcurr[dicom]'"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for call in (lambda: read.decode(data), lambda: num_frames(path), lambda: read.has_grey_header(path)):
        with pytest.raises(DataError, match="DICOM needs pydicom") as caught:
            call()
        assert caught.value.hint == "pip install 'sslcurr[dicom]'"


def test_decode_small_gives_the_true_size():
    data = made(smooth(90, 50), WindowCenter=2000, WindowWidth=4000)
    image, height, width = read.decode_small(data, 32)
    assert (height, width) == (90, 50)
    assert np.array_equal(image, read.resize(decode_dicom(data), 32))
