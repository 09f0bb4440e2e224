"""Processes that decode for threads: results, errors, and a decoder that takes its process down."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

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


@pytest.fixture
def radiographs(tmp_path) -> Path:
    """36 DICOM files of two classes, one of them cut off."""
    for i in range(36):
        write_dicom(tmp_path / "set" / "ab"[i % 2] / f"{i:02d}.dcm", i)
    torn = tmp_path / "set/a/04.dcm"
    torn.write_bytes(torn.read_bytes()[:-20])
    return tmp_path / "set"


def test_packs_and_checks_of_many_dicom_files_are_those_of_one_thread(radiographs, tmp_path, monkeypatch):
    source = find_source(str(radiographs))
    by_processes = open_pack(source, 8, tmp_path / "one", workers=2, skip_broken=True)
    findings = check_source(source, workers=2)
    monkeypatch.setattr("sslcurr.data.decode.parallel.FEW_FILES", 1000)
    by_thread = open_pack(source, 8, tmp_path / "two", workers=1, skip_broken=True)
    assert by_processes.fingerprint == by_thread.fingerprint
    assert np.array_equal(by_processes.images, by_thread.images)
    assert (by_processes.folder / "broken.txt").read_text() == (by_thread.folder / "broken.txt").read_text()
    assert by_processes.names == [name for name in source.names if name != "a/04.dcm"]
    assert findings == check_source(source, workers=1)
    assert [fault.name for fault in findings.broken] == ["a/04.dcm"]


def test_mistakes_cross_from_the_processes(radiographs, tmp_path):
    source = find_source(str(radiographs))

    def remove(done: int, total: int) -> None:
        if done == 0:
            shutil.rmtree(radiographs / "b")

    with pytest.raises(Exception, match=r"cannot be read: No such file"):
        open_pack(source, 8, tmp_path / "packs", workers=2, skip_broken=True, progress=remove)
