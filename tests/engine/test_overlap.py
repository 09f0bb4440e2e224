"""Reported images that were trained on before are known by contents, and what is not known is said."""

from __future__ import annotations

import inspect
import itertools
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslcurr.data.contents import UNKNOWN, contents_of, known_among
from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import find_source
from sslcurr.data.sources.columns import Columns
from sslcurr.engine.ancestry import Weights, ancestry
from sslcurr.engine.overlap import IMAGES, find_overlap, write_trained_images
from sslcurr.engine.plan import Parent, Planner, parent_of
from sslcurr.engine.selection import select
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.spec.request import OF_IMAGES, Request
from sslcurr.spec.stage import key_of
from tests.earlier import without_hashes, write_unsealed
from tests.engine.test_store import RECORD

CLASSES = ("cat", "dog")
fresh = itertools.count(10_000)  # numbers of pictures that nothing else has


def picture(number: int, side: int = 12) -> Image.Image:
    """A picture of noise in colour, another for each number."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8))


def table(folder: Path, rows: dict[str, str]) -> str:
    """A table beside its images: name -> split; images that are not there show the number in their name.

    Where no image validates, or none tests, two that nothing else has are added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("val", "test"):
        if part not in rows.values():
            rows = rows | named(part, next(fresh), next(fresh))
    lines = ["path,label,split"]
    for place, (name, split) in enumerate(rows.items()):
        if not (folder / name).exists():
            picture(int(Path(name).stem)).save(folder / name)
        lines.append(f"{name},{CLASSES[place % 2]},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def named(split: str, *numbers: int) -> dict[str, str]:
    return {f"{number}.png": split for number in numbers}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def planner_of(store: Store, dataset: str, *tasks: str, parent: Parent | None = None, **changes) -> Planner:
    request = Request(dataset=dataset, backbone="test_resnet", stem="imagenet", image_size=16, **changes)
    return Planner(request, store, tasks, parent)


def trained(store: Store, task: str, dataset: str, parent: Parent | None = None, **changes) -> Stage:
    """A stage whose training is left out: what is kept of its images is kept."""
    (spec,) = planner_of(store, dataset, task, parent=parent, **changes).chain([task])

    def work(part: Path):
        write_trained_images(spec, part)
        (part / "backbone.safetensors").write_bytes(key_of(spec).encode())
        return RECORD

    return store.run(spec, work, lambda: None)


def overlap_of(store: Store, weights: Weights, dataset: str, split: str = "test", **changes):
    planner = planner_of(store, dataset, "classification", **changes)
    selection = planner.selection("classification")
    return find_overlap([weights], planner.data.spec(1.0), selection.pack, selection.rows[split], split, store)


def counted(result) -> list[tuple[str, int]]:
    return [(each.spec.task, each.images) for each in result.stages]


@pytest.fixture
def unlike(tmp_path: Path) -> str:
    """Images that nothing else has."""
    return table(tmp_path / "unlike", named("train", *range(500, 512)) | named("test", 520, 521))


def test_copies_under_other_names_and_formats_are_found_and_counted_once(store, tmp_path):
    stage = trained(store, "rotation", table(tmp_path / "a", named("train", *range(10)) | named("test", 20, 21)))
    target = tmp_path / "b"
    target.mkdir()
    shutil.copy(tmp_path / "a" / "3.png", target / "900.png")  # its bytes
    picture(4).save(target / "901.bmp")  # its pixels
    picture(5).save(target / "902.tif", compression="tiff_lzw")
    picture(21).save(target / "903.bmp")  # a test image there
    picture(6, side=24).save(target / "904.png")  # another size is another image
    names = ["900.png", "901.bmp", "902.tif", "903.bmp", "904.png", "905.png"]
    dataset = table(target, dict.fromkeys(names, "test") | named("train", *range(300, 310)) | named("val", 0, 1))
    result = overlap_of(store, Weights(stage.key), dataset)
    assert (result.images, result.of, result.copies, result.unknown) == (3, 6, 0, ())
    assert counted(result) == [("rotation", 3)]
    assert overlap_of(store, Weights(stage.key), dataset, "val").images == 2
    again = trained(store, "simsiam", table(tmp_path / "a", named("train", *range(10)) | named("test", 20, 21)))
    both = find_overlap(
        [Weights(stage.key), Weights(again.key), Weights(stage.key)],
        *_target(store, dataset), "test", store,
    )  # fmt: skip
    assert (both.images, counted(both)) == (3, [("rotation", 3), ("simsiam", 3)])


def _target(store: Store, dataset: str):
    planner = planner_of(store, dataset, "classification")
    selection = planner.selection("classification")
    return planner.data.spec(1.0), selection.pack, selection.rows["test"]


def test_a_large_jpeg_and_its_pixels_in_another_file_are_one_image(store, tmp_path):
    home = tmp_path / "a"
    home.mkdir()
    Image.fromarray(np.asarray(picture(1).resize((200, 160)))).save(home / "1.jpg")  # decoded reduced for the pack
    stage = trained(store, "rotation", table(home, {"1.jpg": "train"} | named("train", *range(2, 8))))
    target = tmp_path / "b"
    target.mkdir()
    Image.open(home / "1.jpg").save(target / "1.bmp")
    dataset = table(target, {"1.bmp": "test"} | named("test", 50) | named("train", *range(30, 38)))
    assert overlap_of(store, Weights(stage.key), dataset).images == 1


def test_arrays_and_files_of_the_same_pixels_are_one_image(folder, tmp_path):
    """The files of `folder` are images of the embedded set, saved as PNG."""
    files = contents_of(open_pack(find_source(str(folder)), 16, tmp_path).folder)
    arrays = contents_of(open_pack(find_source("fashion"), 28, tmp_path).folder)
    assert files.shape == (63, 2)
    assert known_among(files, arrays).all()
    assert known_among(arrays, files).sum() == 63
    assert not np.isin(files[:, 0], arrays[:, 0]).any()


def test_the_same_data_set_divided_in_another_way_overlaps_by_its_rows(store, folder):
    stage = trained(store, "rotation", str(folder))
    for settings in (("data.seed=1",), ("data.test=0.4",)):
        planner = planner_of(store, str(folder), "classification", settings=settings)
        tested = planner.selection("classification").rows["test"]
        training = select(stage.spec.data, labelled=False).rows["train"]
        expected = len(set(tested.tolist()) & set(training.tolist()))
        result = overlap_of(store, Weights(stage.key), str(folder), settings=settings)
        assert (result.images, result.of) == (expected, len(tested))
        assert expected > 0
    same = overlap_of(store, Weights(stage.key), str(folder))
    assert (same.images, same.of, same.stages, same.unknown) == (0, 12, (), ())


def test_a_share_of_the_images_counts_no_others_and_classification_its_validation_images(store, folder):
    seeds = ("data.seed=1",)
    tested = set(select(planner_of(store, str(folder), settings=seeds).data.spec(1.0), labelled=True).rows["test"])
    for task, changes, parts in (
        ("rotation", {"fraction": 0.5}, ("train",)),
        ("classification", {"label_fraction": 0.5}, ("train", "val")),
        ("classification", {}, ("train", "val")),
    ):
        stage = trained(store, task, str(folder), **changes)
        rows = select(stage.spec.data, labelled=True).rows
        expected = len(tested & set(np.concatenate([rows[part] for part in parts]).tolist()))
        assert overlap_of(store, Weights(stage.key), str(folder), settings=seeds).images == expected
        assert len(np.load(stage.folder / IMAGES)) == sum(len(rows[part]) for part in parts)


def test_a_grandparent_counts_and_a_missing_one_is_not_known(store, tmp_path, unlike):
    first = trained(store, "rotation", table(tmp_path / "a", named("train", *range(8))))
    second = trained(store, "simsiam", unlike, parent_of(first.spec))
    third = trained(store, "mocov2", unlike, parent_of(second.spec))
    dataset = table(tmp_path / "b", named("test", 6, 7, 70, 71) | named("train", *range(80, 88)))
    result = overlap_of(store, Weights(third.key), dataset)
    assert (result.images, counted(result), result.unknown) == (2, [("rotation", 2)], ())
    shutil.rmtree(first.folder)
    lost = overlap_of(store, Weights(third.key), dataset)
    assert lost.images == 0
    assert lost.unknown == (f"whether the stage {first.key[:8]} (not in {store.root}) saw the test images",)


def test_without_its_pack_a_stage_still_knows_and_an_older_one_needs_a_pack(store, tmp_path):
    stage = trained(store, "rotation", table(tmp_path / "a", named("train", *range(8))))
    dataset = table(tmp_path / "b", named("test", 6, 7, 70, 71) | named("train", *range(80, 88)))
    weights = Weights(stage.key)
    pack = Path(stage.spec.data.pack)
    aside = tmp_path / "aside"
    pack.rename(aside)
    assert (overlap_of(store, weights, dataset).images, overlap_of(store, weights, dataset).unknown) == (2, ())
    (stage.folder / IMAGES).unlink()  # as a version left it that kept nothing
    result = overlap_of(store, weights, dataset)
    title = f"rotation ({stage.key[:8]})"
    assert result.images == 0
    assert result.unknown == (f"whether {title}, of an older version and without its pack, saw the test images",)
    aside.rename(store.packs / "of-another-size")  # any pack of that data set will do
    assert (overlap_of(store, weights, dataset).images, overlap_of(store, weights, dataset).unknown) == (2, ())


def test_packs_of_an_older_version_know_the_bytes_of_files_only(store, tmp_path):
    source = table(tmp_path / "a", named("train", *range(8)))
    pack = planner_of(store, source).data.pack
    _without_pixels(pack.folder)
    assert (contents_of(pack.folder)[:, 1] == UNKNOWN).all()
    stage = trained(store, "rotation", source)
    target = tmp_path / "b"
    target.mkdir()
    picture(7).save(target / "7.bmp")
    dataset = table(target, {"7.bmp": "test"} | named("test", 6, 70, 71) | named("train", *range(80, 88)))
    result = overlap_of(store, Weights(stage.key), dataset)
    assert result.images == 1
    (sentence,) = result.unknown
    assert sentence == (
        f"whether rotation ({stage.key[:8]}) saw copies in other file formats: a pack of an older version knows the "
        "bytes of files only"
    )
    # Images that are added make a new pack, which knows all of them.
    more = planner_of(store, table(tmp_path / "a", named("train", *range(9)))).data.pack
    assert (contents_of(more.folder)[:, 1] != UNKNOWN).all()


def _without_pixels(pack: Path) -> None:
    with np.load(pack / "rows.npz") as rows:
        arrays = {name: rows[name] for name in rows if name != "pixels"}
    np.savez(pack / "rows.npz", **arrays)
    without_hashes(pack)


def test_a_half_made_pack_of_an_older_version_decodes_again_what_it_did_not_note(tmp_path):
    source = find_source(table(tmp_path / "a", named("train", *range(4))))
    pack = open_pack(source, 16, tmp_path / "packs")
    part = pack.folder.with_name(f"{pack.folder.name}.part")
    part.mkdir()
    (part / "pixels.bin").write_bytes(bytes(4 * 3 * 16 * 16))
    (part / "part.json").write_text("{}")
    (part / "rows.jsonl").write_text(json.dumps([0, 12, 12, False, "00" * 32]) + "\n")
    expected = contents_of(pack.folder)
    shutil.rmtree(pack.folder)
    again = open_pack(source, 16, tmp_path / "packs")
    assert np.array_equal(contents_of(again.folder), expected)
    assert again.images[0].any()


def test_copies_within_a_data_set_are_counted_apart(store, tmp_path):
    home = tmp_path / "a"
    home.mkdir()
    picture(3).save(home / "903.bmp")
    rows = named("train", *range(8)) | named("test", 20, 21) | {"903.bmp": "test"}
    dataset = table(home, rows)
    stage = trained(store, "rotation", dataset)
    result = overlap_of(store, Weights(stage.key), dataset)
    assert (result.images, result.of, result.copies) == (0, 3, 1)


def test_a_stage_keeps_all_that_its_images_were_asked_for_by(store, folder):
    """What finds a source is kept, so that the images of a stage are found again: see `sslcurr.engine.origin`."""
    assert set(inspect.signature(find_source).parameters) - {"columns"} <= set(OF_IMAGES)
    assert {f"{item.name}_column" for item in fields(Columns)} - {"target_column"} <= set(OF_IMAGES)  # target_kind
    spec = trained(store, "rotation", str(folder), skip_broken=True).spec
    assert spec.data.request == {"dataset": str(folder.resolve()), "skip_broken": True}
    assert key_of(spec) == key_of(replace(spec, data=replace(spec.data, request={})))


def test_weights_of_other_places(store, tmp_path, unlike):
    """A copy is known by its bytes, a stage of another store by the records beside it, another project's file not."""
    dataset = table(tmp_path / "b", named("test", 503, 504, 70, 71) | named("train", *range(80, 88)))
    stage = trained(store, "rotation", unlike)
    digest = "1" * 64
    record = json.loads((stage.folder / "done.json").read_text()) | {"weights_sha256": digest}
    write_unsealed(stage.folder / "done.json", record)
    copied = Weights(f"sha256:{digest}", str(tmp_path / "copy.safetensors"))
    assert overlap_of(store, copied, dataset).images == 2
    elsewhere = Store(tmp_path / "elsewhere")
    beside = Weights(f"sha256:{digest}", str(stage.weights))
    assert counted(overlap_of(elsewhere, beside, dataset)) == [("rotation", 2)]
    (stage.folder / IMAGES).write_bytes(b"half")
    with pytest.raises(StoreError, match=r"cannot read .*images\.npy"):
        overlap_of(store, copied, dataset)
    foreign = Weights(f"sha256:{'2' * 64}", "/weights/moco.pth")
    result = overlap_of(store, foreign, dataset)
    assert (result.images, result.unknown) == (0, ("whether /weights/moco.pth saw the test images",))
    assert ancestry(foreign, store).stages == []
