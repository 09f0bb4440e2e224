"""Files of a store that several people and hosts share: names, modes, and what may not be read or written."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sslcurr.backbones.checkpoint import read_header, read_weights
from sslcurr.engine.log import keep_rows
from sslcurr.engine.store import Store, now
from sslcurr.errors import CheckpointError, StoreError
from sslcurr.files import REFUSED_HINT, read_json, temporary_path, write_whole
from sslcurr.integrity import read_rows
from sslcurr.spec.record import RunRecord
from sslcurr.testing.subject import write_images
from tests.conftest import QUICK, Command

TRAIN = " ".join(("pretrain rotation --dataset {home}/clothes", *QUICK))

# ---- temporary names


def test_processes_with_one_id_write_one_file_at_once(tmp_path, monkeypatch):
    """As the first processes of two containers do, which share a store and both have the process id 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    record = RunRecord(asked={"a": 1}, title="x" * 20000, dataset="d", created=now())
    errors = []

    def note():
        store = Store(tmp_path)
        try:
            for _ in range(40):
                store.note_run(record)
                store.all_runs()
        except (OSError, StoreError) as error:
            errors.append(error)

    threads = [threading.Thread(target=note) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [path.suffix for path in (tmp_path / "runs").iterdir()] == [".json"]


def test_a_temporary_name_is_of_one_host_and_one_call_and_fits_a_folder(tmp_path):
    path = tmp_path / ("a" * 250)
    names = [temporary_path(path).name for _ in range(10)]
    assert len(set(names)) == 10
    for name in names:
        assert platform.node()[:40] in name
        assert name.endswith(".tmp")
        assert len(os.fsencode(name)) < 255
    write_whole(path, b"content")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_rows_that_are_kept_leave_no_other_file(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,2.5\n1,2.25\n2,2.0\n")
    keep_rows(path, "step", 2)
    assert read_rows(path) == [{"step": "0", "loss": "2.5"}, {"step": "1", "loss": "2.25"}]
    assert list(tmp_path.iterdir()) == [path]


# ---- modes


@pytest.mark.parametrize(
    "content",
    [
        b"bytes",
        lambda path: save_file({"a": torch.ones(2)}, path),
        lambda path: torch.save({}, path),
        lambda path: path.write_text("text"),
    ],
    ids=["bytes", "safetensors", "torch", "text"],
)
@pytest.mark.parametrize("mask", [0o002, 0o027])
def test_a_file_has_the_mode_that_the_umask_gives(tmp_path, content, mask):
    path = tmp_path / "file"
    before = os.umask(mask)
    try:
        write_whole(path, content)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


# ---- what may not be read or written


@contextmanager
def as_another():
    """As a user for whom the modes of files hold; to root they do not apply."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="module")
def shared():
    """A folder that other users may enter, with images, a store and a folder that they may write; a stage's key."""
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    write_images(home / "clothes")
    trained = Command(home / "runs").json(*TRAIN.format(home=home).split())
    yield home, trained["stages"][0]["key"]
    shutil.rmtree(home)


def refused(shared, path, command):
    """What a command says when a file or folder of the store has no permissions."""
    home, key = shared
    (file,) = (home / "runs").glob(path.format(key=key))
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(0)
    try:
        with as_another():
            result = Command(home / "runs")(*(part.format(key=key, home=home) for part in command.split()))
    finally:
        file.chmod(mode)
    return file, result


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("stages/{key}", "runs --stages"),
        ("stages/{key}/stage.json", "runs show {key}"),
        ("stages/{key}/metrics.csv", "report --out {home}/open/page.html"),
        ("stages/{key}/backbone.safetensors", "export {key} --out {home}/open/out.safetensors"),
        ("runs/*.json", "runs remove"),
        ("packs/*/pack.json", TRAIN),
        ("packs/*/pixels.bin", TRAIN),
        ("packs", TRAIN),
        ("stages", TRAIN),
    ],
)
def test_a_file_of_another_user_is_one_line_and_a_hint(shared, path, command):
    file, result = refused(shared, path, command)
    assert result.exit_code == 1, result.stderr
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: cannot ")
    assert str(file) in error
    assert ".tmp" not in error
    assert hint == f"hint: {REFUSED_HINT}"


@pytest.mark.parametrize(
    "command",
    [
        *(
            "runs",
            "runs --stages",
            "runs show {key}",
            "runs show last --plot {out}",
            "runs remove --dry-run",
        ),
        *("runs check", "runs compare last last", "runs export last --out {out}.zip"),
        *("report --out {out}.html", "export {key} --out {out}.safetensors"),
    ],
)
def test_what_only_reads_needs_no_store_that_can_be_written(shared, command):
    home, key = shared
    number = len(list((home / "open").iterdir()))
    asks = [command.format(key=key, out=home / "open" / f"{number}-{user}").split() for user in ("owner", "another")]
    assert Command(home / "runs")(*asks[0]).exit_code == 0  # modules are imported that another user may not read
    with as_another():
        assert not os.access(home / "runs", os.W_OK, effective_ids=True)
        result = Command(home / "runs")(*asks[1])
    assert result.exit_code == 0, result.stderr
    assert "note" not in result.stderr


@pytest.mark.parametrize(
    ("path", "command"), [("stages/{key}/done.json", "runs --stages"), ("runs/*.json", "runs"), ("runs/*.json", TRAIN)]
)
def test_what_lists_a_store_leaves_out_what_it_may_not_read(shared, path, command):
    file, result = refused(shared, path, command)
    if "pretrain" in command:  # it writes that record
        assert (result.exit_code, str(file) in result.stderr) == (1, True)
        return
    assert result.exit_code == 0
    assert f"note: cannot read {file}" in result.stderr
    assert REFUSED_HINT in result.stderr


def test_a_store_that_may_not_be_written_names_the_file(shared):
    home, _ = shared
    for path in (home / "runs").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with as_another():
        result = Command(home / "runs")(*TRAIN.format(home=home).split(), "--seed", "1")
    for path in (home / "runs").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert result.exit_code == 1, result.stderr
    assert f"cannot read or write {home}/runs/" in result.stderr
    assert REFUSED_HINT in result.stderr


def test_a_refused_file_is_an_error_of_the_store_and_never_said_to_be_damaged(tmp_path, monkeypatch):
    def no(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2)}, path)
    monkeypatch.setattr("builtins.open", no)
    monkeypatch.setattr(Path, "read_bytes", no)
    for kind, read in ((StoreError, read_json), (CheckpointError, read_header), (CheckpointError, read_weights)):
        with pytest.raises(kind, match=r"cannot read .*Permission denied") as caught:
            read(path)
        assert caught.value.hint == REFUSED_HINT
    with pytest.raises(PermissionError) as refusal:
        write_whole(path, b"content")
    assert refusal.value.filename == str(path)


def test_a_read_only_disk_is_one_line(sslcurr, monkeypatch):
    def no(self):
        raise OSError(30, "Read-only file system", "runs/runs")

    monkeypatch.setattr(Store, "all_runs", no)
    sslcurr.runs.mkdir()
    result = sslcurr("runs")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: cannot read or write runs/runs (Read-only file system)",
        f"hint: {REFUSED_HINT}",
    ]
