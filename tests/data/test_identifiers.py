"""What identifies a patient in a DICOM header is written nowhere: every element of type PN, LO, DA and UI."""

from __future__ import annotations

import zipfile

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.conftest import QUICK

VALUES = {"PN": "ZqMarkName^Jane", "LO": "ZqMarkText", "DA": "18711130", "UI": "1.2.826.0.1.98765431234"}
NEEDED = {"SOPClassUID", "SOPInstanceUID"}


def elements() -> list[DataElement]:
    """One of every kind of element that may identify somebody, with a value that is found again."""
    found = []
    for tag, (kinds, _, _, _, keyword) in DicomDictionary.items():
        kind = kinds.split(" ")[0]
        if kind in VALUES and tag >> 16 > 2 and keyword and keyword not in NEEDED:
            found.append(DataElement(tag, kind, VALUES[kind]))
    return found


def write_scan(path, marked, rng, bright) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    for element in marked:
        data.add(element)
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = 24, 20, 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = (rng.integers(0, 120, (24, 20)) + 100 * bright).astype(np.uint8).tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def contents(path) -> list[bytes]:
    """The bytes of a file, and of the members of an archive."""
    found = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    return found


def test_no_identifier_of_a_header_is_in_any_file(sslcurr, tmp_path):
    marked, rng = elements(), np.random.default_rng(0)
    assert len(marked) > 500
    for number in range(24):
        place = tmp_path / "set" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        write_scan(place / f"{number}.dcm", marked, rng, number % 2)
    data = ("--dataset", str(tmp_path / "set"))
    out = tmp_path / "out"
    said = [sslcurr("data", "check", str(tmp_path / "set"), "--out", str(tmp_path / "faults.csv"))]
    said.append(sslcurr("chain", "rotation", *data, *QUICK, "--plot", str(out), "--name", "mine"))
    said.append(sslcurr("predict", "mine", str(tmp_path / "set"), "--out", str(tmp_path / "out" / "predicted.csv")))
    said.append(sslcurr("report", "--out", str(out / "page.html")))
    assert [each.exit_code for each in said] == [0] * 4, [each.stderr for each in said]
    markers = [value.encode() for value in VALUES.values()]
    for path in [*sslcurr.runs.rglob("*"), *out.rglob("*"), *tmp_path.glob("*.csv")]:
        for content in contents(path) if path.is_file() else []:
            assert not [marker for marker in markers if marker in content], path
    for each in said:
        assert not [value for value in VALUES.values() if value in each.stdout + each.stderr]
