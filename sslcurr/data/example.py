"""A small study on disk, to try every command with: images without labels, a few with labels, and new ones."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.errors import DataError
from sslcurr.files import temporary_path

if TYPE_CHECKING:
    import numpy as np

KINDS = ("dicom", "png")
# Images of each class: without labels, labelled for training, validation and testing, and new.
NUM_UNLABELLED, NUM_TRAIN, NUM_VAL, NUM_TEST, NUM_NEW = 150, 12, 10, 30, 10
# The root for UIDs that nobody has registered: a decimal number of 128 bits follows (ITU-T X.667).
UID_ROOT = "2.25"


def write_example(folder: Path, kind: str) -> int:
    """Write the embedded images as a study of files.

    `scans/` has no labels, `labelled/` has `labels.csv` with the columns path, label and split, and the labels of
    `new/` are in `answers.csv`. The images are those of Fashion-MNIST that come with the package, 28 x 28 grey, ten
    classes (https://arxiv.org/abs/1708.07747). As DICOM each is a radiograph of 12 bits.

    Args:
        folder: that is not there yet, or empty.
        kind: dicom or png.

    Returns:
        How many images were written.

    Raises:
        DataError: the folder has something in it, or pydicom is missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty", "give a folder that is not there yet")
    suffix, encoded = _encoder(kind)
    # Made beside it and renamed, so that a folder which is there is whole.
    half = temporary_path(folder)
    try:
        number = _write_files(half, suffix, encoded)
        os.replace(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return number


def _write_files(folder: Path, suffix: str, encoded: Callable[[np.ndarray, int], bytes]) -> int:
    from sslcurr.data.sources.sets.packaged import load_fashion

    source = load_fashion()
    images = source.arrays
    assert images is not None
    queues: dict[tuple[str, str], list[int]] = {}
    for place, (label, split) in enumerate(zip(source.labels, source.splits or (), strict=True)):
        queues.setdefault((split, label or ""), []).append(place)
    counts: dict[str, int] = {}

    def taken(split: str, number: int, where: str) -> list[tuple[str, str]]:
        """Write so many images of each class into a folder; gives their paths and labels."""
        rows = []
        for _ in range(number):
            for label in source.classes:
                place = queues[split, label].pop(0)
                counts[where] = counts.get(where, 0) + 1
                path = f"{where}/{counts[where]:04d}{suffix}"
                (folder / where).mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(encoded(images[place], place))
                rows.append((path, label))
        return rows

    taken("", NUM_UNLABELLED, "scans")
    parts = {"train": ("", NUM_TRAIN), "val": ("", NUM_VAL), "test": ("test", NUM_TEST)}
    labelled = [(*row, name) for name, (split, number) in parts.items() for row in taken(split, number, "labelled")]
    _write_table(folder / "labels.csv", ("path", "label", "split"), labelled)
    _write_table(folder / "answers.csv", ("path", "label"), taken("test", NUM_NEW, "new"))
    return sum(counts.values())


def _write_table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_bytes(text.getvalue().encode())


def _encoder(kind: str) -> tuple[str, Callable[[np.ndarray, int], bytes]]:
    """The ending of a file's name, and what makes bytes of an image [H, W] and its number."""
    if kind == "png":
        return ".png", _as_png
    from sslcurr.data.decode.dicom import require_pydicom

    require_pydicom()
    return ".dcm", _as_dicom


def _as_png(image: np.ndarray, number: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def _as_dicom(image: np.ndarray, number: int) -> bytes:
    """A radiograph of 12 bits with names that are nobody's; the same bytes each time."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    uid = UID(f"{UID_ROOT}.{10**20 + number}")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    header.StudyInstanceUID = header.SeriesInstanceUID = UID(f"{uid}.1")
    header.PatientID, header.PatientName, header.Modality = f"EXAMPLE-{number:04d}", "EXAMPLE", "DX"
    header.Rows, header.Columns = image.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.WindowCenter, header.WindowWidth = 2048, 4096
    header.PixelData = (image.astype(np.uint16) * 16).astype("<u2").tobytes()
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()
