"""Packs: what is in them, that they survive any end, and that they follow the files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sslcurr.data import packing
from sslcurr.data.decode import read
from sslcurr.data.pack import load_pack
from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import find_source
from sslcurr.errors import DataError
from tests import REPOSITORY, SHARED_DATA

SIZE = 16

# A process that packs slowly, saves often and says what it decoded.
SLOW_PROCESS = """
import signal, sys, time
from pathlib import Path
from sslcurr.data import packing
from sslcurr.data.decode import read
from sslcurr.data.sources.catalog import find_source

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
whole, decoded = read.decode_small, []

def slowly(*arguments):
    time.sleep(0.01 if len(decoded) < int(sys.argv[3]) else 0.2)
    decoded.append(1)
    return whole(*arguments)

read.decode_small = slowly
packing.FLUSH_ROWS = 3
made = packing.open_pack(find_source(sys.argv[1]), 16, Path(sys.argv[2]), workers=2)
print(len(decoded), made.fingerprint)
"""


@pytest.fixture
def shared_data() -> Path:
    """Real images, where this checkout has them beside it."""
    folder = SHARED_DATA
    if not folder.is_dir():
        pytest.skip("the folder with real images is not beside this checkout")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 colour images of two classes and several sizes."""
    return make_folder(tmp_path / "pets", 40)


def make_folder(root: Path, count: int, channels: int = 3, start: int = 0) -> Path:
    generator = np.random.default_rng(start)
    for i in range(start, start + count):
        path = root / ("cat" if i % 2 else "dog") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = int(generator.integers(5, 40)), int(generator.integers(5, 40))
        pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path)
    return root


def open_folder(folder: Path, root: Path, size: int = SIZE, **options):
    return open_pack(find_source(str(folder)), size, root, **options)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Grows by one with each image that is decoded."""
    whole, calls = read.decode_small, []

    def counting(*arguments):
        calls.append(1)
        return whole(*arguments)

    monkeypatch.setattr(read, "decode_small", counting)
    return calls


def assert_same(one, other) -> None:
    assert np.array_equal(one.images, other.images)
    for name in ("heights", "widths", "labels", "groups", "splits"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b))
    for name in ("name", "classes", "names", "fingerprint", "size", "channels", "skipped"):
        assert getattr(one, name) == getattr(other, name)


def test_what_is_in_a_pack(folder, tmp_path):
    pack = open_folder(folder, tmp_path / "packs")
    source = find_source(str(folder))
    assert pack.num_images == 40
    assert pack.names == source.names
    assert pack.classes == ("cat", "dog")
    assert (pack.size, pack.channels, pack.skipped) == (SIZE, 3, 0)
    assert pack.images.shape == (40, 3, SIZE, SIZE)
    assert (pack.images.dtype, pack.labels.dtype) == (np.uint8, np.int64)
    assert (pack.heights.dtype, pack.widths.dtype) == (np.int32, np.int32)
    with pytest.raises(ValueError, match="read-only"):
        pack.images[:][0, 0, 0, 0] = 1
    for i, name in enumerate(pack.names):
        image = read.read_image(folder / name)
        assert (pack.heights[i], pack.widths[i]) == image.shape[:2]
        assert pack.classes[pack.labels[i]] == name.split("/")[0]
        assert np.array_equal(pack.images[i], read.resize(image, SIZE).transpose(2, 0, 1))
    assert sorted(p.name for p in pack.folder.iterdir()) == [
        "blocks.npy",
        "broken.txt",
        "hashes.json",
        "names.json",
        "pack.json",
        "pixels.bin",
        "rows.npz",
    ]


def test_a_pack_is_found_again(folder, tmp_path, decoded):
    first = open_folder(folder, tmp_path / "packs")
    assert len(decoded) == 40
    assert_same(open_folder(folder, tmp_path / "packs", workers=1), first)
    assert_same(load_pack(first.folder), first)
    assert len(decoded) == 40


def test_workers_change_nothing(folder, tmp_path):
    one = open_folder(folder, tmp_path / "a", workers=1)
    many = open_folder(folder, tmp_path / "b", workers=7)
    assert_same(one, many)
    for name in ("pixels.bin", "rows.npz", "names.json", "pack.json"):
        assert (one.folder / name).read_bytes() == (many.folder / name).read_bytes()


def test_grey_files_make_one_channel(tmp_path):
    folder = make_folder(tmp_path / "grey", 6, channels=1)
    grey = open_folder(folder, tmp_path / "packs")
    assert grey.images.shape == (6, 1, SIZE, SIZE)
    # The same content saved as colour is grey too, and one colour image among them makes three channels of all.
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    as_colour = open_folder(folder, tmp_path / "packs")
    assert as_colour.folder != grey.folder
    assert as_colour.channels == 1
    assert np.array_equal(as_colour.images, grey.images)
    make_folder(folder, 1, start=100)
    mixed = open_folder(folder, tmp_path / "packs")
    assert mixed.channels == 3
    place = [mixed.names.index(name) for name in grey.names]
    assert np.array_equal(mixed.images[place], np.repeat(grey.images, 3, axis=1))


def test_embedded_images(tmp_path):
    source = find_source("fashion")
    pack = open_pack(source, 28, tmp_path)
    assert pack.images.shape == (2500, 1, 28, 28)
    assert np.array_equal(pack.images[:, 0], source.arrays)
    assert set(pack.heights) == set(pack.widths) == {28}
    assert pack.classes[pack.labels[2001]] == source.labels[2001]
    assert pack.splits.tolist() == source.splits
    smaller = open_pack(source, 14, tmp_path)
    assert smaller.images.shape == (2500, 1, 14, 14)
    assert smaller.fingerprint == pack.fingerprint
    assert smaller.folder != pack.folder


def test_labels_groups_and_splits_of_a_table(tmp_path):
    folder = make_folder(tmp_path / "set", 4)
    (folder / "labels.csv").write_text(
        "path,label,group,split\ndog/000.png,b,q,test\ncat/001.png,,p,\ndog/002.png,a,,\ncat/003.png,a,q,test\n"
    )
    pack = open_folder(folder / "labels.csv", tmp_path / "packs")
    assert pack.names == ["dog/000.png", "cat/001.png", "dog/002.png", "cat/003.png"]
    assert pack.labels.tolist() == [1, -1, 0, 0]
    assert pack.groups.tolist() == [1, 0, 2, 1]
    assert pack.splits.tolist() == ["test", "", "", "test"]


def test_faults_of_a_table_stop_unless_they_may_be_skipped(tmp_path):
    folder = make_folder(tmp_path / "set", 4)
    (folder / "labels.csv").write_text("path,label\ndog/000.png,b\ngone.png,a\ncat/001.png,a\nlost.png,a\n")
    with pytest.raises(DataError, match=r"set: gone\.png is not there, and 1 more") as caught:
        open_folder(folder / "labels.csv", tmp_path / "packs")
    assert "--skip-broken" in caught.value.hint
    assert not (tmp_path / "packs").exists()
    pack = open_folder(folder / "labels.csv", tmp_path / "packs", skip_broken=True)
    assert pack.names == ["dog/000.png", "cat/001.png"]
    assert pack.skipped == 2
    assert (pack.folder / "broken.txt").read_text() == "gone.png\tis not there\nlost.png\tis not there\n"
    with pytest.raises(DataError, match=r"gone\.png is not there"):  # also where the pack is there
        open_folder(folder / "labels.csv", tmp_path / "packs")


def test_names_with_tabs_and_line_ends_are_one_line(tmp_path):
    folder = make_folder(tmp_path / "set", 4)
    (folder / "cat/a\tb\nc.png").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        open_folder(folder, tmp_path / "packs")
    pack = open_folder(folder, tmp_path / "packs", skip_broken=True)
    assert (pack.folder / "broken.txt").read_text() == "cat/a b c.png\tthe file is empty\n"
    with pytest.raises(DataError, match=r"cat/a b c\.png cannot be decoded: the file is empty"):
        open_folder(folder, tmp_path / "packs")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_late_colour_image_widens_a_grey_pack(workers, tmp_path, decoded):
    folder = make_folder(tmp_path / "set", 300, channels=1)
    sampled = set(np.linspace(0, 299, 64).round().astype(int).tolist())
    late = sorted(path for path in folder.rglob("*.png"))
    for i in (200, 250):
        assert i not in sampled
        Image.fromarray(np.full((9, 9, 3), (250, 10, i - 190), np.uint8)).save(late[i])
    pack = open_folder(folder, tmp_path / "packs", workers=workers)
    assert pack.images.shape == (300, 3, SIZE, SIZE)
    assert [pack.images[i, :, 0, 0].tolist() for i in (200, 250)] == [[250, 10, 10], [250, 10, 60]]
    grey = np.asarray(Image.open(late[3]).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert (pack.images[3] == grey).all()
    assert len(decoded) <= 300 + 2 * (workers + 1) + 8 * workers  # those in flight when it was met
    assert [path.name for path in pack.folder.parent.iterdir() if path.suffix == ".part"] == []


def test_killed_after_it_was_widened(tmp_path, monkeypatch, decoded):
    folder = make_folder(tmp_path / "set", 300, channels=1)
    late = sorted(path for path in folder.rglob("*.png"))
    Image.fromarray(np.full((9, 9, 3), (250, 10, 20), np.uint8)).save(late[200])
    replace = os.replace

    def stopped(source, target):
        replace(source, target)
        if str(source).endswith("wide.bin"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            open_folder(folder, tmp_path / "packs")
    num_done = len(decoded)
    assert_same(open_folder(folder, tmp_path / "packs"), open_folder(folder, tmp_path / "afresh", workers=1))
    assert num_done > 100
    assert len(decoded) < 300 + 100 + 310


def test_a_disk_without_the_room_is_refused_with_the_numbers(folder, tmp_path, monkeypatch, decoded):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20_000))
    with pytest.raises(
        DataError, match=rf"needs {40 * 3 * SIZE**2 / 1e6:.2f} MB in .*packs, and 0.02 MB are free"
    ) as caught:
        open_folder(folder, tmp_path / "packs")
    assert "--image-size" in caught.value.hint
    assert not decoded
    assert not list((tmp_path / "packs").glob("*.part"))


def test_fingerprint_is_of_the_content(folder, tmp_path):
    packs = tmp_path / "packs"
    first = open_folder(folder, packs)
    copy = tmp_path / "elsewhere" / "animals"
    shutil.copytree(folder, copy)
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    copied = open_folder(copy, packs, size=8)
    assert copied.folder != first.folder
    assert copied.fingerprint == first.fingerprint
    (copy / "cat/001.png").rename(copy / "dog/001.png")
    relabelled = open_folder(copy, packs, size=8)
    assert relabelled.fingerprint != first.fingerprint
    (copy / "dog/001.png").rename(copy / "cat/001.png")
    assert open_folder(copy, packs, size=8).fingerprint == first.fingerprint
    with Image.open(copy / "cat/001.png") as image:
        image.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))
        image.save(copy / "cat/001.png")
    assert open_folder(copy, packs, size=8).fingerprint not in (first.fingerprint, relabelled.fingerprint)


def test_a_changed_label_in_a_table_changes_the_fingerprint(tmp_path, decoded):
    folder = make_folder(tmp_path / "set", 2)
    packs, table = tmp_path / "packs", folder / "labels.csv"
    seen = set()
    for text in (
        "path,label\ndog/000.png,a\ncat/001.png,b\n",
        "path,label\ndog/000.png,b\ncat/001.png,b\n",
        "path,label,group\ndog/000.png,b,p\ncat/001.png,b,p\n",
        "path,label,split\ndog/000.png,b,test\ncat/001.png,b,\n",
    ):
        table.write_text(text)
        seen.add(open_folder(table, packs).fingerprint)
    assert len(seen) == 4
    assert len(decoded) == 2  # the pixels were taken over from the first pack


def test_changed_and_new_files_alone_are_decoded_again(folder, tmp_path, decoded):
    packs = tmp_path / "packs"
    first = open_folder(folder, packs)
    before = np.array(first.images)
    decoded.clear()
    Image.new("RGB", (9, 9), (200, 10, 30)).save(folder / "cat/005.png")
    make_folder(folder, 2, start=70)
    (folder / "dog/000.png").unlink()
    second = open_folder(folder, packs)
    assert len(decoded) == 3
    assert second.num_images == 41
    assert_same(second, open_folder(folder, tmp_path / "afresh"))
    assert np.array_equal(first.images, before)  # and the old pack is as it was
    touched = folder / "cat/007.png"
    os.utime(touched, ns=(1, touched.stat().st_mtime_ns + 1))
    decoded.clear()
    third = open_folder(folder, packs)
    assert len(decoded) == 1
    assert third.fingerprint == second.fingerprint


def test_broken_files(folder, tmp_path, decoded):
    packs = tmp_path / "packs"
    (folder / "cat/003.png").write_bytes(b"")
    (folder / "dog/010.png").write_bytes((folder / "dog/010.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"cat/003.png cannot be decoded: the file is empty, and 1 more") as caught:
        open_folder(folder, packs)
    assert "--skip-broken" in caught.value.hint
    assert len(decoded) == 40  # all were tried
    decoded.clear()
    pack = open_folder(folder, packs, skip_broken=True)
    assert len(decoded) == 2
    assert (pack.num_images, pack.skipped, len(pack.labels), len(pack.images)) == (38, 2, 38, 38)
    assert "cat/003.png" not in pack.names
    listed = (pack.folder / "broken.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["cat/003.png", "dog/010.png"]
    for i, name in enumerate(pack.names):
        image = read.resize(read.read_image(folder / name), SIZE)
        assert np.array_equal(pack.images[i], image.transpose(2, 0, 1))
    decoded.clear()
    assert_same(open_folder(folder, packs, skip_broken=True), pack)
    with pytest.raises(DataError, match="and 1 more"):
        open_folder(folder, packs)
    assert not decoded
    shutil.copy(folder / "cat/001.png", folder / "cat/003.png")
    shutil.copy(folder / "cat/001.png", folder / "dog/010.png")
    mended = open_folder(folder, packs)
    assert (mended.num_images, mended.skipped) == (40, 0)
    assert len(decoded) == 2


def test_nothing_but_broken_files(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be decoded"):
        open_folder(folder, tmp_path / "packs", skip_broken=True)


def test_progress(folder, tmp_path):
    calls = []
    open_folder(folder, tmp_path / "packs", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 40) for i in range(41)]


@pytest.mark.parametrize("workers", [1, 4])
def test_interrupted_and_taken_up_again(workers, folder, tmp_path, decoded):
    def interrupt(done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_folder(folder, tmp_path / "packs", workers=workers, progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pack")]
    assert len(decoded) < 40
    decoded.clear()
    pack = open_folder(folder, tmp_path / "packs")
    assert len(decoded) <= 28
    assert_same(pack, open_folder(folder, tmp_path / "afresh"))


def start(folder: Path, root: Path, soon: int = 1000) -> subprocess.Popen:
    """A process that packs `folder`, slowly, and hardly at all after `soon` images."""
    command = [sys.executable, "-W", "error", "-c", SLOW_PROCESS, str(folder), str(root), str(soon)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_taken_up_again_equals_uninterrupted(number, tmp_path, decoded):
    num_images = 150
    folder = make_folder(tmp_path / "set", num_images)
    packs = tmp_path / "packs"
    process = start(folder, packs, soon=40)  # so that it is not done when the signal comes, on a busy machine too
    deadline = time.monotonic() + 60
    while not (lines := [p for p in packs.glob("*.part/rows.jsonl") if p.read_bytes().count(b"\n") >= 20]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert not list(packs.glob("*/pack.json"))
    # Ctrl-C in the middle of saving saves the same lines once more, which does no harm.
    whole_lines = [line[:-1] for line in lines[0].read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    num_done = len({packing._read_line(line)[0] for line in whole_lines})
    assert 20 <= num_done < num_images
    with lines[0].open("ab") as file:
        file.write(b"[119, 20, 2")  # a line that the kill tore
    pack = open_folder(folder, packs)
    assert len(decoded) == num_images - num_done
    whole = open_folder(folder, tmp_path / "afresh")
    assert_same(pack, whole)
    for name in ("pixels.bin", "rows.npz", "names.json", "broken.txt"):
        assert (pack.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert [p.name for p in packs.iterdir() if p.suffix == ".part"] == []


def test_two_processes_share_the_work(folder, tmp_path):
    processes = [start(folder, tmp_path / "packs") for _ in range(2)]
    results = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(count) for count, _ in results) == [0, 40]
    assert results[0][1] == results[1][1] == open_folder(folder, tmp_path / "packs").fingerprint


def test_stopped_between_the_last_write_and_the_rename(folder, tmp_path, monkeypatch, decoded):
    make_folder(folder, 1, channels=1, start=50)
    packs = tmp_path / "packs"
    rename = os.replace

    def stopped(source, target):
        if str(source).endswith(".part"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            open_folder(folder, packs)
    decoded.clear()
    assert_same(open_folder(folder, packs), open_folder(folder, tmp_path / "afresh"))
    assert len(decoded) == 41  # of the second pack alone


@pytest.mark.parametrize("compacting", [False, True])
def test_a_full_disk_is_an_error_at_once(compacting, tmp_path, monkeypatch, decoded):
    folder = make_folder(tmp_path / "set", 5)
    packs = tmp_path / "packs"
    if compacting:
        (folder / "cat/001.png").write_bytes(b"")
    reserve = os.posix_fallocate
    calls = []

    def full(descriptor, offset, length):
        calls.append(length)
        if len(calls) > compacting:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(descriptor, offset, length)

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left") as caught:
            open_folder(folder, packs, skip_broken=True)
    assert caught.value.errno == errno.ENOSPC
    assert not list(packs.glob("*/pack.json"))
    assert not list(packs.rglob("compact.bin"))
    if not compacting:
        assert not decoded
        assert not list(packs.glob("*.part"))
    pack = open_folder(folder, packs, skip_broken=True)
    assert pack.num_images == 5 - compacting


def test_a_file_that_changes_meanwhile(folder, tmp_path, monkeypatch):
    source = find_source(str(folder))

    def change(done: int, total: int) -> None:
        if done == 0:
            (folder / "dog/038.png").write_bytes(b"something else")

    with pytest.raises(DataError, match=r"038.png was changed"):
        open_pack(source, SIZE, tmp_path / "packs", workers=1, progress=change)
    (folder / "dog/038.png").unlink()
    with pytest.raises(DataError, match="not there any more"):
        open_pack(source, SIZE, tmp_path / "packs")


def test_damaged_packs_are_not_mapped(folder, tmp_path):
    pack = open_folder(folder, tmp_path / "packs")
    os.truncate(pack.folder / "pixels.bin", 1000)
    with pytest.raises(DataError, match="damaged") as caught:
        load_pack(pack.folder)
    assert "remove" in caught.value.hint
    with pytest.raises(DataError, match="no pack"):
        load_pack(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc names the open files")
def test_rows_are_on_disk_before_the_lines_that_vouch_for_them(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "FLUSH_ROWS", 4)
    synced, sync = [], os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    open_folder(folder, tmp_path / "packs")
    relevant = [name for name in synced if name in ("pixels.bin", "rows.jsonl")][:-1]  # the last publishes the pack
    assert relevant == ["pixels.bin", "rows.jsonl"] * (len(relevant) // 2)
    assert len(relevant) >= 20


def test_all_dermatoscopic_images(shared_data, tmp_path):
    pack = open_folder(shared_data / "ham" / "labels.csv", tmp_path, size=64)
    assert pack.images.shape == (1323, 3, 64, 64)
    assert set(pack.heights) == set(pack.widths) == {224}
    assert np.bincount(pack.labels).tolist() == [183, 250, 250, 60, 250, 250, 80]
    assert pack.groups.max() + 1 == 1323
    assert pack.skipped == 0


def test_all_chest_x_rays(shared_data, tmp_path):
    pack = open_folder(shared_data / "cxr", tmp_path, size=64)
    assert pack.num_images == 680
    assert pack.skipped == 0
    assert np.minimum(pack.heights, pack.widths).min() >= 200
    # Some COVID-19 images of the collection are tinted or annotated in colour, so the pack keeps three channels.
    assert pack.channels == 3
    is_grey = (pack.images[:, :1] == pack.images).all(axis=(1, 2, 3))
    assert is_grey.mean() > 0.95
    assert set(pack.labels[~is_grey]) == {pack.classes.index("covid-19")}
