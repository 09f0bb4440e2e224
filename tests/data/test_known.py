"""Folders that were packed before: opened without a look at each file, and no change is missed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslcurr import Lab
from sslcurr.data import known, split
from sslcurr.data.known import confirm
from sslcurr.data.sources import folders
from sslcurr.data.split import SplitSettings, assign
from sslcurr.engine import dataset
from sslcurr.engine.dataset import Data, DataSettings
from sslcurr.engine.store import Store
from sslcurr.errors import Changed
from sslcurr.spec.request import Request
from tests.conftest import QUICK

LONG_AGO = 1_000_000_000


def rest(root: Path) -> None:
    """Let all folders be as if nothing had happened in them for long."""
    for path in [root, *(each for each in root.rglob("*") if each.is_dir())]:
        os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def images(folder, tmp_path, monkeypatch) -> Path:
    """A folder of images that counts as large, with a file without ending and a hidden one."""
    monkeypatch.setattr(known, "MANY", 10)
    place = tmp_path / "images"
    shutil.copytree(folder, place)
    (place / "README").write_text("about these images")
    (place / ".hidden").write_text("x")
    rest(place)
    return place


@pytest.fixture
def walks(monkeypatch) -> list[str]:
    """The folders whose files were all looked at."""
    seen: list[str] = []
    real = folders.from_folder

    def noted(root, columns):
        seen.append(str(root))
        return real(root, columns)

    monkeypatch.setattr("sslcurr.data.sources.catalog.from_folder", noted)
    return seen


@pytest.fixture
def opened(images, tmp_path):
    """`opened()`: the folder, as a command opens it."""

    def call(**asked) -> Data:
        request = Request(dataset=str(images), image_size=16, **asked)
        data = dataset.open_data(request, DataSettings(), Store(tmp_path / "runs"), None)
        confirm()
        return data

    return call


def first_image(images: Path) -> Path:
    return min(images.rglob("*.png"))


def test_what_was_packed_is_opened_without_a_walk_and_is_the_same(opened, walks):
    first, second, third = (opened() for _ in range(3))
    assert len(walks) == 1
    assert first.notes == second.notes == third.notes
    assert first.notes
    assert first.pack.names == second.pack.names
    assert first.spec(1.0) == second.spec(1.0)
    assert first.epochs == second.epochs
    assert first.masks == second.masks


def added(images: Path) -> None:
    shutil.copy(first_image(images), first_image(images).with_name("another.png"))


def removed(images: Path) -> None:
    first_image(images).unlink()


def renamed(images: Path) -> None:
    first_image(images).rename(first_image(images).with_name("zzz.png"))


def renamed_class(images: Path) -> None:
    first_image(images).parent.rename(images / "another class")


def described(images: Path) -> None:
    names = [path.relative_to(images) for path in sorted(images.rglob("*.png"))]
    (images / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names))
    )


def hidden_folder(images: Path) -> None:
    (images / "@eaDir").mkdir()
    shutil.copy(first_image(images), images / "@eaDir" / "thumbnail.png")


@pytest.mark.parametrize("change", [added, removed, renamed, renamed_class, described, hidden_folder])
def test_what_was_added_removed_or_renamed_is_found(opened, images, walks, change):
    before = opened()
    change(images)
    after = opened()
    assert len(walks) == 2
    assert (before.pack.folder != after.pack.folder) or before.notes != after.notes


def overwritten(images: Path) -> None:
    Image.fromarray(np.full((28, 28), 7, dtype=np.uint8)).save(first_image(images))


def touched(images: Path) -> None:
    os.utime(first_image(images), (LONG_AGO + 5, LONG_AGO + 5))


def turned_to_dicom(images: Path) -> None:
    (images / "README").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)


def gone_behind_a_link(images: Path) -> None:
    path = first_image(images)
    path.unlink()
    path.symlink_to("nowhere.png")
    rest(images)


@pytest.mark.parametrize("change", [overwritten, touched, turned_to_dicom, gone_behind_a_link])
def test_what_was_changed_in_its_place_is_found_before_it_is_used(opened, images, walks, change):
    opened()
    change(images)
    with pytest.raises(Changed, match="changed since they were packed"):
        opened()
    assert len(walks) == 1
    if change in (overwritten, touched):
        assert opened().spec(1.0) == opened().spec(1.0)
        assert len(walks) == 2


def test_a_command_goes_on_with_the_files_as_they_are(sslcurr, images, tmp_path):
    words = ("pretrain", "rotation", "--dataset", str(images), *QUICK)
    first = sslcurr.json(*words)["stages"][0]["key"]
    assert sslcurr.json(*words)["stages"][0]["reused"]
    overwritten(images)
    result = sslcurr(*words, "--json")
    assert result.exit_code == 0
    assert "1 file of" in result.stderr
    assert "packed anew" in result.stderr
    fresh = sslcurr.json(*words, "--runs", str(tmp_path / "fresh"))["stages"][0]["key"]
    assert fresh != first
    assert f'"key": "{fresh}"' in result.stdout
    assert "packed anew" not in sslcurr(*words).stderr


def test_no_stage_is_finished_on_images_that_have_changed(sslcurr, images, tmp_path):
    words = ("pretrain", "rotation", "--dataset", str(images), *QUICK, "--seed", "1")
    assert sslcurr(*words[:-1], "0").exit_code == 0  # packed
    overwritten(images)
    result = sslcurr(*words)
    assert result.exit_code == 0
    assert "packed anew" in result.stderr
    fresh = sslcurr.json(*words, "--runs", str(tmp_path / "fresh"))["stages"][0]["key"]
    finished = [path.parent.name for path in sslcurr.runs.glob("stages/*/done.json")]
    assert len(finished) == 2  # the one before the change, and the one after it
    assert fresh in finished


def test_what_a_call_that_failed_had_opened_is_no_concern_of_the_next(opened, images, tmp_path):
    opened()
    overwritten(images)
    request = Request(dataset=str(images), image_size=16)
    dataset.open_data(request, DataSettings(), Store(tmp_path / "runs"), None)  # and nothing is made of it
    assert Lab(tmp_path / "runs").tasks().tasks
    confirm()


def test_what_more_than_the_folder_describes_is_looked_at_each_time(opened, walks, tmp_path):
    for number, asked in enumerate(({"frames": "first"}, {"target_kind": "classes"}), start=1):
        opened(**asked)
        opened(**asked)
        assert len(walks) == 2 * number
    assert not (tmp_path / "runs" / "listings").exists()


def test_a_folder_that_was_just_written_is_looked_at_again(opened, images, walks):
    added(images)  # another file within the same tick of the clock would not be seen
    opened()
    opened()
    assert len(walks) == 2
    rest(images)
    opened()
    opened()
    assert len(walks) == 3


def test_broken_images_are_told_each_time(opened, images, walks):
    first_image(images).write_bytes(b"no image")
    rest(images)
    data = [opened(skip_broken=True) for _ in range(2)]
    assert len(walks) == 2
    assert any("left out" in note for note in data[1].notes)


def test_a_damaged_listing_or_a_pack_that_is_gone_is_none(opened, walks, tmp_path):
    data = opened()
    (listing,) = (tmp_path / "runs" / "listings").iterdir()
    listing.write_text(listing.read_text().replace('"pack":', '"pick":'))
    assert opened().spec(1.0) == data.spec(1.0)
    assert len(walks) == 2
    shutil.rmtree(data.pack.folder)
    assert opened().spec(1.0) == data.spec(1.0)
    assert len(walks) == 3


def test_the_split_of_many_images_is_kept_beside_their_pack(opened, monkeypatch):
    pack, settings = opened().pack, SplitSettings(seed=5)
    monkeypatch.setattr(split, "remembered", {})
    plain = assign(pack, settings)
    assert not list(pack.folder.glob("split-*"))  # of few
    monkeypatch.setattr(split, "MANY", 10)
    asked: list[SplitSettings] = []
    real = split._assign

    def noted(pack, settings):
        asked.append(settings)
        return real(pack, settings)

    monkeypatch.setattr(split, "_assign", noted)
    for number, damage in enumerate((False, False, True, False)):
        split.remembered.clear()
        if damage:
            (path,) = pack.folder.glob("split-*")
            path.write_bytes(path.read_bytes()[:-30] + b"x" * 30)
        np.testing.assert_array_equal(assign(pack, settings), plain)
        assert len(asked) == (1, 1, 2, 2)[number]
    split.remembered.clear()
    assert (assign(pack, SplitSettings(seed=6)) != plain).any()
    assert len(asked) == 3
