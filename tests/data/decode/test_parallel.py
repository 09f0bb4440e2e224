"""Processes that decode for threads: results, errors, and a decoder that takes its process down."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from sslcurr.data.check import check_source
from sslcurr.data.decode.image import BrokenImage
from sslcurr.data.decode.parallel import Crashed, Processes, in_threads
from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import find_source
from tests.trees import write_dicom


def square(x: int) -> int:
    if x < 0:
        raise BrokenImage("negative")
    return x * x


def crash(x: int) -> int:
    os._exit(9) if x == 3 else None
    return x


def test_results_and_errors_come_from_the_processes():
    with Processes(2) as processes:
        assert processes.call(partial(square, 7)) == 49
        assert processes.call(os.getpid) != os.getpid()
        with pytest.raises(BrokenImage, match="negative"):
            processes.call(partial(square, -1))
    with Processes(0) as processes:
        assert processes.call(os.getpid) == os.getpid()


def test_a_crash_is_of_one_call_alone():
    found = {}

    def work(i: int) -> int | str:
        try:
            return processes.call(partial(crash, i))
        except Crashed as error:
            return str(error)

    with Processes(2) as processes, closing(in_threads(work, range(8), 4)) as results:
        found = dict(results)
    assert found == {i: "its decoder crashed" if i == 3 else i for i in range(8)}


def test_few_files_start_no_processes():
    assert Processes.for_dicom(31, 8).count == 0
    assert Processes.for_dicom(32, 8).count == 8
    assert not Processes.for_dicom(999, 8).takes_headers
    assert not Processes.for_dicom(100_000, 4).takes_headers
    assert Processes.for_dicom(1000, 5).takes_headers


def test_what_neither_crashes_nor_holds_the_lock_for_long_is_decoded_here(tmp_path):
    write_dicom(tmp_path / "plain.dcm", 1)
    data = dcmread(tmp_path / "plain.dcm")
    data.compress(RLELossless)
    data.save_as(tmp_path / "rle.dcm")
    data.file_meta.TransferSyntaxUID = "1.2.3"
    data.save_as(tmp_path / "unknown.dcm")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "rle.dcm").read_bytes()[:150])  # before it names its syntax
    (tmp_path / "text.dcm").write_text("no image")
    (tmp_path / "picture.png").write_bytes((tmp_path / "rle.dcm").read_bytes())
    names = ["plain.dcm", "rle.dcm", "unknown.dcm", "cut.dcm", "text.dcm", "picture.png", "missing.dcm"]

    def elsewhere(processes: Processes) -> list[str]:
        return [name for name in names if processes.read(tmp_path / name, os.getpid) != os.getpid()]

    with Processes(1) as processes:
        assert elsewhere(processes) == ["rle.dcm", "unknown.dcm", "cut.dcm"]
    with Processes(1, takes_headers=True) as processes:
        assert elsewhere(processes) == [name for name in names if name != "picture.png"]
    assert elsewhere(Processes(0)) == []


REUSE = """
import resource, sys
import numpy as np
from sslcurr.data.decode.parallel import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        some = [np.ones(3 * 2**20, np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc")
def test_memory_of_images_is_used_again():
    before, after = map(int, subprocess.check_output([sys.executable, "-c", REUSE]).split())
    assert before > 1000
    assert after < 100


@pytest.fixture
def radiographs(tmp_path) -> Path:
    """36 DICOM files of two classes, one of them cut off."""
    for i in range(36):
        write_dicom(tmp_path / "set" / "ab"[i % 2] / f"{i:02d}.dcm", i)
    torn = tmp_path / "set/a/04.dcm"
    torn.write_bytes(torn.read_bytes()[:-20])
    return tmp_path / "set"


@pytest.fixture
def for_processes(monkeypatch):
    """Files of any kind and number are enough for processes."""
    monkeypatch.setattr("sslcurr.data.decode.parallel.MANY_WORKERS", 1)
    monkeypatch.setattr("sslcurr.data.decode.parallel.MANY_FILES", 1)


@pytest.mark.usefixtures("for_processes")
def test_packs_and_checks_of_many_dicom_files_are_those_of_one_thread(radiographs, tmp_path, monkeypatch):
    source = find_source(str(radiographs))
    by_processes = open_pack(source, 8, tmp_path / "one", workers=2, skip_broken=True)
    findings = check_source(source, workers=2)
    monkeypatch.setattr("sslcurr.data.decode.parallel.FEW_FILES", 1000)
    for workers in (1, 2):
        by_threads = open_pack(source, 8, tmp_path / f"two-{workers}", workers=workers, skip_broken=True)
        assert by_processes.fingerprint == by_threads.fingerprint
        assert np.array_equal(by_processes.images, by_threads.images)
        assert (by_processes.folder / "broken.txt").read_text() == (by_threads.folder / "broken.txt").read_text()
    assert by_processes.names == [name for name in source.names if name != "a/04.dcm"]
    assert findings == check_source(source, workers=1)
    assert [fault.name for fault in findings.broken] == ["a/04.dcm"]


@pytest.mark.usefixtures("for_processes")
def test_mistakes_cross_from_the_processes(radiographs, tmp_path):
    source = find_source(str(radiographs))

    def remove(done: int, total: int) -> None:
        if done == 0:
            shutil.rmtree(radiographs / "b")

    with pytest.raises(Exception, match=r"cannot be read: No such file"):
        open_pack(source, 8, tmp_path / "packs", workers=2, skip_broken=True, progress=remove)
