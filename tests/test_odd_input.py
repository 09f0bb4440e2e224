"""What no training is made for, from file names to memory: one line that says what is wrong, and one what to do."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch

from sslcurr.cli import main
from sslcurr.data.masks import find_masks
from sslcurr.data.sources.catalog import find_source
from sslcurr.engine import train
from sslcurr.errors import DataError, SpecError, is_out_of_memory
from sslcurr.files import NOT_REGULAR, mistake_of, open_regular
from sslcurr.spec import settings
from sslcurr.tasks import task_class
from sslcurr.tasks.base import Facts
from tests.conftest import QUICK

LATIN = "caf\udce9"  # `café` of a disk whose names are in Latin-1


def latin(folder: Path, images: Path) -> Path:
    """A copy of a folder of images with one name in Latin-1."""
    copy = shutil.copytree(images, folder / "set")
    first = sorted(copy.rglob("*.png"))[0]
    os.rename(first, os.fsencode(first.parent) + b"/caf\xe9.png")
    return copy


def test_names_that_are_not_utf_8_are_refused_before_anything_is_trained(folder, tmp_path, sslcurr):
    images = latin(tmp_path, folder)
    result = sslcurr("chain", "rotation", "--dataset", str(images), *QUICK)
    assert result.exit_code == 1
    assert "1 image below" in result.stderr
    assert "not UTF-8" in result.stderr
    assert "caf\\udce9.png" in result.stderr
    assert "convmv -f latin1" in result.stderr
    with pytest.raises(DataError, match="not UTF-8"):
        find_masks(find_source(str(folder)), images)


def test_an_argument_that_is_not_utf_8_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sslcurr", "data", "check", LATIN])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said == ["error: caf\\udce9 is no text in UTF-8", "hint: rename that file or folder"]


def test_a_folder_above_the_images_may_have_any_name_and_a_store_may_not(folder, tmp_path, sslcurr, monkeypatch):
    place = tmp_path / LATIN
    place.mkdir()
    monkeypatch.setenv("SSLCURR_DATA", str(shutil.copytree(folder, place / "set").parent))
    sslcurr.json("data", "prepare", "set", "--image-size", "16")
    result = sslcurr("pretrain", "rotation", "--dataset", "set", *QUICK, "--runs", str(place / "runs"))
    assert result.exit_code == 1
    assert "runs is no text in UTF-8" in result.stderr
    assert "give another --runs" in result.stderr


@pytest.mark.parametrize("command", [("data", "check"), ("data", "prepare"), ("chain", "rotation", "--dataset")])
def test_a_name_that_is_too_long_is_one_line(command, sslcurr):
    result = sslcurr(*command, "a" * 300)
    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert "hint:" in result.stderr


def test_errors_of_a_path_are_mistakes_and_others_are_not():
    for number in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EIO):
        mistake = mistake_of(OSError(number, os.strerror(number), "a/b"))
        assert "a/b" in str(mistake)
        assert mistake.hint
    assert mistake_of(OSError(errno.EIO, "no file")) is None
    assert mistake_of(OSError(errno.ECHILD, os.strerror(errno.ECHILD), "a")) is None


def test_a_socket_is_no_image(folder, tmp_path, sslcurr, monkeypatch):
    images = shutil.copytree(folder, tmp_path / "set")
    place = sorted(images.iterdir())[0]
    monkeypatch.chdir(place)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("x.png")
    with pytest.raises(OSError, match=NOT_REGULAR):
        open_regular(Path("x.png"))
    result = sslcurr("data", "prepare", str(images), "--image-size", "16")
    assert result.exit_code == 1
    assert f"x.png cannot be decoded: {NOT_REGULAR}" in result.stderr
    assert "--skip-broken" in result.stderr
    assert sslcurr("data", "prepare", str(images), "--image-size", "16", "--skip-broken").exit_code == 0


@pytest.mark.parametrize(
    ("task", "name"),
    [("rotation", "image_size"), ("swav", "image_size"), ("swav", "small_size"), ("jigsaw", "patch_size")],
)
def test_images_have_a_largest_side(task, name):
    kind = task_class(task)
    recipe = kind.recipe(
        Facts(num_images=500, class_counts=(250, 250), outputs=0, image_size=32, channels=3, pretrained=False)
    )
    with pytest.raises(SpecError, match=f"{name} must be at least 1 and at most 4096, got 100000"):
        settings.apply({name: "100000"}, recipe.config, recipe.training, section=task)


# ---- memory


def test_too_little_memory_is_said_with_what_to_do(folder, sslcurr, monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "one_step", fails)
    result = sslcurr("pretrain", "rotation", "--dataset", str(folder), *QUICK)
    assert result.exit_code == 1
    assert "rotation, a step of 16 images at 16 pixels, needs more memory than there is (CUDA out" in result.stderr
    assert "--batch-size" in result.stderr


def test_memory_that_the_computer_has_not_is_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_too_little_memory_outside_of_a_training_is_one_line(folder, sslcurr, monkeypatch):
    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr("sslcurr.data.packing.open_pack", fails)
    monkeypatch.setattr("sslcurr.engine.dataset.open_pack", fails)
    result = sslcurr("pretrain", "rotation", "--dataset", str(folder), *QUICK)
    assert result.exit_code == 1
    assert "error: there is not enough memory" in result.stderr
