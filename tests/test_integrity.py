"""Nothing that is damaged is used: every kind of file of a store, seals, hashes, blocks, `runs check`."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from sslcurr import integrity
from sslcurr.data import blocks
from sslcurr.data.pack import load_pack
from sslcurr.engine import loop, train
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, StoreError
from sslcurr.files import read_as, read_json, sealed, sha256_of, write_record
from sslcurr.spec.record import RunRecord
from tests.conftest import QUICK, Command
from tests.kill import kill_at

CHAIN = ("chain", "rotation", "simsiam")


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A store with a chain, a ranking and distances, and what they said."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    command, data = Command(runs), ("--dataset", str(folder), *QUICK)
    chain = command.json(*CHAIN, *data)
    return runs, data, chain


@pytest.fixture
def store(made, tmp_path):
    """A copy of it that may be damaged; what was read before is read again."""
    runs, data, chain = made
    shutil.copytree(runs, tmp_path / "runs")
    integrity._sound.clear()
    return tmp_path / "runs", data, chain


def damage(path: Path, seed: int = 0, size: int = 8) -> None:
    """Turn over some bytes at a random place."""
    content = bytearray(path.read_bytes())
    at = random.Random(f"{path.name} {seed}").randrange(max(1, len(content) - size))
    for place in range(at, min(at + size, len(content))):
        content[place] ^= 0xA5
    path.write_bytes(bytes(content))


def test_the_command_that_makes_a_folder_again_is_looked_for_only_where_it_is_damaged(store, monkeypatch):
    """It takes the records of all runs, once a folder."""
    runs, _, chain = store
    asked = []
    monkeypatch.setattr(integrity, "command_for", lambda folder: asked.append(folder) or "sslcurr chain")
    folders = [runs / "stages" / stage["key"] for stage in chain["stages"]]
    for folder in folders:
        integrity.sound(folder / "metrics.csv")
    assert asked == []
    (folders[0] / "hashes.json").write_text("{")
    with pytest.raises(StoreError) as caught:
        integrity.sound(folders[0] / "done.json")
    assert asked == folders[:1]
    assert "run sslcurr chain" in caught.value.hint


# ---- seals


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": [1, {"b": "1 x"}], "é": None, "seals": "1 abc"}])
@pytest.mark.parametrize("compact", [False, True])
def test_a_record_is_read_as_it_was_written(value, compact, tmp_path):
    path = tmp_path / "a.json"
    write_record(path, value, compact=compact)
    assert read_json(path) == value
    assert {name: each for name, each in json.loads(path.read_text()).items() if name != "seal"} == value
    path.write_text(json.dumps(value))  # as an earlier version did
    assert read_json(path) == value


def test_no_byte_of_a_record_can_be_changed_unseen(tmp_path):
    path, content = tmp_path / "a.json", sealed({"lr": 0.125, "name": "one", "values": [1, 2, 3]})
    for place in range(len(content) - 1):  # but for the last line end
        for change in (1, 2, 16, 128, 255):
            for size in (1, 8):
                altered = bytearray(content)
                for each in range(place, min(place + size, len(content) - 1)):
                    altered[each] ^= change
                path.write_bytes(bytes(altered))
                try:
                    found = read_json(path)
                except StoreError:
                    continue
                # The name of the seal itself may be lost: then all else is as it was.
                assert {"lr": 0.125, "name": "one", "values": [1, 2, 3]}.items() <= found.items(), altered


def test_a_record_of_a_newer_version_is_said_to_be_that(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(sealed({"a": 1}).replace(b'"seal": "1 ', b'"seal": "2 '))
    with pytest.raises(StoreError, match="was written by a newer version") as error:
        read_json(path)
    assert "pip install --upgrade sslcurr" in error.value.hint
    write_record(path, {"asked": {}, "title": 3})
    with pytest.raises(StoreError, match="cannot read") as error:
        read_as(path, RunRecord)
    assert "use the version of sslcurr that wrote it" in error.value.hint


# ---- hashes


def test_the_hashes_of_a_folder_are_those_of_its_files(made):
    runs, _, _ = made
    for kind in ("stages", "analyses", "packs"):
        for folder in (runs / kind).iterdir():
            if folder.is_dir():
                listed = integrity.hashes_of(folder)
                assert listed == {name: ((folder / name).stat().st_size, sha256_of(folder / name)) for name in listed}
                left = {path.name for path in folder.iterdir()} - set(listed)
                assert left == ({"hashes.json"} if kind != "packs" else {"hashes.json", "pixels.bin"})


def test_a_folder_of_an_earlier_version_is_held_against_its_record(store):
    runs, _, chain = store
    first = Store(runs).stage(chain["stages"][0]["key"])
    (first.folder / "hashes.json").unlink()
    integrity.sound(first.weights)
    damage(first.weights)
    with pytest.raises(StoreError, match=r"backbone\.safetensors is damaged"):
        integrity.sound(first.weights)


def test_damage_is_named_with_what_makes_it_again_and_nothing_is_trained_from_it(store):
    runs, data, chain = store
    key = chain["stages"][0]["key"]
    damage(runs / "stages" / key / "backbone.safetensors")
    for ask in (("pretrain", "byol", "--from", key), CHAIN, ("export", key, "--out", f"{runs.parent}/a.safetensors")):
        before = len(Store(runs).all())
        result = Command(runs)(*ask, *(data if ask[0] != "export" else ()))
        assert result.exit_code == 1, ask
        said = "".join(result.stderr.split())
        assert f"{key}/backbone.safetensorsisdamaged:itisnotwhatwaswritten" in said
        assert "sslcurrrunscheck--repair" in said
        assert "thenrun" in said
        assert len(Store(runs).all()) == before
    found = Command(runs)("runs", "check", "--json")
    assert found.exit_code == 3
    findings = json.loads(found.stdout)["findings"]
    (finding,) = (each for each in findings if each["state"] == "damaged")
    assert (finding["state"], Path(finding["path"]).parent.name) == ("damaged", key)
    assert finding["again"].startswith("sslcurr")
    assert finding["again"].endswith(f"--runs {runs}")
    assert Command(runs)("runs", "check", "--repair").exit_code == 0
    assert not (runs / "stages" / key).exists()
    assert (
        Command(runs).json(*CHAIN, *data)["downstream"]["balanced_accuracy"] == chain["downstream"]["balanced_accuracy"]
    )
    assert Command(runs)("runs", "check").exit_code == 0


def test_weights_are_hashed_once_when_they_are_written_and_once_when_they_are_read(folder, tmp_path, monkeypatch):
    hashed = []

    def counted(path):
        hashed.append(path.parent.name.removesuffix(".part") if path.name == "backbone.safetensors" else "")
        return sha256_of(path)

    for module in (integrity, train):
        monkeypatch.setattr(module, "sha256_of", counted)
    chain = Command(tmp_path / "runs").json(*CHAIN, "--dataset", str(folder), *QUICK)
    counts = {stage["key"]: hashed.count(stage["key"]) for stage in chain["stages"]}
    assert set(counts.values()) <= {1, 2}
    assert counts[chain["stages"][0]["key"]] == 2
    # What a stage notes of its parent is the hash of the weights that it began with.
    first, second = (tmp_path / "runs" / "stages" / stage["key"] for stage in chain["stages"][:2])
    assert read_json(second / "done.json")["parent_weights_sha256"] == sha256_of(first / "backbone.safetensors")


def test_a_stage_that_was_killed_on_its_way_to_its_place_is_made_again(store):
    """All of it was written, hashes too, but it was not yet in its place, and a power cut took its save."""
    runs, data, chain = store
    key = chain["stages"][0]["key"]
    weights = (runs / "stages" / key / "backbone.safetensors").read_bytes()
    part = (runs / "stages" / key).rename(runs / "stages" / f"{key}.part")
    (part / "done.json").unlink()
    (part / "resume.pt").write_bytes(b"")
    again = Command(runs).json(*CHAIN, *data)
    assert again["downstream"]["balanced_accuracy"] == chain["downstream"]["balanced_accuracy"]
    assert (runs / "stages" / key / "backbone.safetensors").read_bytes() == weights
    assert Command(runs)("runs", "check").exit_code == 0


@pytest.mark.parametrize("name", ["backbone.safetensors", "metrics.csv"])
def test_what_is_damaged_is_not_handed_over(store, name, tmp_path):
    runs, _, chain = store
    damage(runs / "stages" / chain["stages"][0]["key"] / name)
    result = Command(runs)("runs", "export", "last", "--out", str(tmp_path / "run.zip"))
    assert (result.exit_code, f"{name} is damaged" in result.stderr) == (1, True)
    assert not (tmp_path / "run.zip").exists()


# kind of file -> where, what reads it
READERS = {
    "stages/{first}/backbone.safetensors": CHAIN,
    "stages/{first}/done.json": CHAIN,
    "stages/{first}/stage.json": ("runs", "show", "{first}"),
    "stages/{first}/hashes.json": CHAIN,
    "stages/{first}/metrics.csv": ("runs", "show", "{first}", "--plot", "{home}/plots"),
    "stages/{last}/head.safetensors": ("predict", "{last}"),
    "stages/{last}/backbone.safetensors": ("predict", "{last}"),
    "stages/{last}/epochs.csv": ("runs", "show", "{last}", "--plot", "{home}/plots"),
    "stages/{first}/images.npy": ("finetune", "{first}", "--set", "data.seed=1", "--allow-overlap"),
    "packs/*/pixels.bin": ("pretrain", "byol"),
    "packs/*/blocks.npy": ("pretrain", "byol"),
    "packs/*/rows.npz": ("pretrain", "byol"),
    "packs/*/names.json": ("pretrain", "byol"),
    "packs/*/pack.json": ("pretrain", "byol"),
    "analyses/classification-*/predictions.csv": (*CHAIN, "--plot", "{home}/plots"),
    "analyses/classification-*/done.json": CHAIN,
    "results/*.json": ("runs", "show", "last"),
    "runs/*.json": ("runs", "remove", "--dry-run"),
}


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("pattern", READERS)
def test_no_kind_of_file_is_used_when_it_is_damaged(store, pattern, seed, tmp_path):
    runs, data, chain = store
    names = {"first": chain["stages"][0]["key"], "last": chain["stages"][-1]["key"], "home": str(tmp_path)}
    ask = tuple(each.format(**names) for each in READERS[pattern])
    path = sorted(runs.glob(pattern.format(**names)))[0]
    damage(path, seed)
    if ask[0] in ("chain", "pretrain", "finetune"):
        ask = (*ask, *data)
    result = Command(runs)(*ask)
    assert result.exit_code == 1, (result.stdout, result.stderr)
    said = result.stderr.replace("\n", "")
    assert path.name in said or "images" in said or str(path.parent) in said, result.stderr
    assert "hint:" in result.stderr
    checked = json.loads(Command(runs)("runs", "check", "--json").stdout)
    assert any(path.name == Path(each["path"]).name or "pixels" in each["path"] for each in checked["findings"])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 29))
@pytest.mark.parametrize("pattern", READERS)
def test_no_damage_of_any_file_is_used(store, pattern, seed, tmp_path):
    test_no_kind_of_file_is_used_when_it_is_damaged(store, pattern, seed, tmp_path)


def test_what_is_whole_is_hashed_once(made, monkeypatch):
    runs, _, chain = made
    integrity._sound.clear()
    calls = []
    monkeypatch.setattr(integrity, "sha256_of", lambda path: calls.append(path) or sha256_of(path))
    weights = Store(runs).stage(chain["stages"][0]["key"]).weights
    for _ in range(3):
        integrity.sound(weights)
    assert calls == [weights]


# ---- blocks of pixels


def test_blocks_are_read_as_the_array_and_checked_once(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * images[0].nbytes)
    sums = blocks.checksums(images)
    assert len(sums) == 8
    calls = []
    real = blocks._crc
    monkeypatch.setattr(blocks, "_crc", lambda block: calls.append(len(block)) or real(block))
    checked = blocks.CheckedImages(images, sums, tmp_path)
    for rows in (3, -1, slice(2, 9), np.array([0, 49, 3]), np.arange(50) % 9 == 0, (slice(0, 4), 0)):
        assert np.array_equal(checked[rows], images[rows])
    assert np.array_equal(np.asarray(checked), images)
    assert (len(checked), checked.shape, checked.nbytes, checked.dtype) == (50, images.shape, images.nbytes, np.uint8)
    assert sum(calls) == 50
    broken = images.copy()
    broken[30, 1, 2, 3] ^= 1
    checked = blocks.CheckedImages(broken, sums, tmp_path)
    assert np.array_equal(checked[:28], images[:28])
    with pytest.raises(DataError, match="its images 28 to 34 are not what was written"):
        checked[[1, 29]]


def test_a_pack_with_damaged_pixels_gives_the_others(store):
    runs, _, _ = store
    (folder,) = (path for path in (runs / "packs").iterdir() if path.is_dir())
    damage(folder / "pixels.bin")
    with pytest.raises(DataError, match="is damaged: its images 0 to 62"):
        load_pack(folder).images[:]


# ---- what an interrupted command left


@pytest.fixture(scope="module")
def killed(folder, tmp_path_factory):
    """A command, the store in which it was killed, and the weights that it ends with."""
    ask = ("pretrain", "simsiam", "--dataset", str(folder), *QUICK, "--epochs", "3", "--save-minutes", "0.00001")
    whole, part = (Command(tmp_path_factory.mktemp(name) / "runs") for name in ("whole", "part"))
    expected = load_file(Store(whole.runs).find(whole.json(*ask)["stages"][0]["key"]).weights)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, train, "one_step", 8)
        assert part(*ask).exit_code == 130
    return ask, part.runs, expected


@pytest.mark.parametrize("name", ["resume.pt", "metrics.csv"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_a_damaged_state_is_said_and_the_stage_begins_anew(killed, sslcurr, monkeypatch, name, how):
    ask, runs, expected = killed
    shutil.copytree(runs, sslcurr.runs)
    (path,) = sslcurr.runs.glob(f"stages/*.part/{name}")
    content = path.read_bytes()
    if how == "flip":
        damage(path, 3)
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
    begun = []
    real = loop.Loop.tick
    monkeypatch.setattr(loop.Loop, "tick", lambda self: begun.append(self.progress.step) or real(self))
    result = sslcurr(*ask)
    assert result.exit_code == 0, result.stderr
    assert "is damaged" in result.stderr
    assert "the stage is trained from its beginning" in " ".join(result.stderr.split())
    assert begun[0] == 0
    (stage,) = Store(sslcurr.runs).all()
    found = load_file(stage.weights)
    assert all(found[each].equal(expected[each]) for each in expected)


def test_a_state_of_an_earlier_version_is_taken(folder, sslcurr, monkeypatch):
    ask = ("pretrain", "simsiam", "--dataset", str(folder), *QUICK, "--epochs", "3", "--save-minutes", "0.00001")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "log_state", lambda part: {})
        kill_at(patch, train, "one_step", 8)
        assert sslcurr(*ask).exit_code == 130
    result = sslcurr(*ask)
    assert (result.exit_code, "damaged" in result.stderr) == (0, False)


@pytest.mark.parametrize("pruner", ["asha", "none"])
def test_a_damaged_search_begins_anew(folder, sslcurr, tmp_path, monkeypatch, pruner):
    ask = ("pretrain", "simsiam", "--dataset", str(folder), *QUICK, "--lr", "search", "--set", "search.trials=3")
    ask = (*ask, "--lr-pruner", pruner, "--set", "search.epochs=2", "--save-minutes", "0.00001")
    whole = Command(tmp_path / "whole")
    expected = sha256_of(Store(whole.runs).find(whole.json(*ask)["stages"][0]["key"]).weights)
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", 8)
        assert sslcurr(*ask).exit_code == 130
    (journal,) = sslcurr.runs.glob("stages/*.part/search/study.log")
    content = journal.read_bytes()
    at = content.index(b'"params"') if b'"params"' in content else len(content) // 2
    journal.write_bytes(content[:at] + bytes(each ^ 3 for each in content[at : at + 4]) + content[at + 4 :])
    result = sslcurr(*ask)
    assert result.exit_code == 0, result.stderr
    assert ("begins anew" in " ".join(result.stderr.split())) == (pruner == "asha")
    (stage,) = Store(sslcurr.runs).all()
    assert sha256_of(stage.weights) == expected


# ---- runs check


def test_a_whole_store_has_no_findings(made, tmp_path):
    runs, _, _ = made
    document = Command(runs).json("runs", "check")
    assert document["findings"] == []
    files = [path for path in runs.rglob("*") if path.is_file() and "using" not in path.parts]
    assert abs(document["num_files"] - len(files)) <= 2  # the note of this process
    assert "nothing is damaged or missing" in Command(runs)("runs", "check").stdout


def test_what_is_missing_half_written_or_left_over_is_listed_and_repaired(store, monkeypatch):
    runs, data, chain = store
    keys = [each["key"] for each in chain["stages"]]
    shutil.rmtree(runs / "stages" / keys[1])
    (runs / "runs" / "x.json.host.abc.tmp").write_text("{")
    (runs / "stages" / f"{keys[1]}.owner.json").write_text("{}")
    (runs / "removed").mkdir()
    (runs / "removed" / "a").write_text("x")
    (runs / "stages" / keys[0] / "resume.pt").write_bytes(b"x")
    (runs / "results" / "deadbeef.json").write_text("[]")
    with monkeypatch.context() as patch:
        kill_at(patch, train, "one_step", 3)
        assert Command(runs)("pretrain", "byol", *data).exit_code == 130
    command = Command(runs)
    document = json.loads(command("runs", "check", "--json").stdout)
    states = {Path(each["path"]).name: each["state"] for each in document["findings"]}
    part = next(name for name in states if name.endswith(".part"))
    assert states == {
        keys[1]: "missing",
        "resume.pt": "left over",
        "x.json.host.abc.tmp": "left over",
        f"{keys[1]}.owner.json": "left over",
        "removed": "left over",
        "deadbeef.json": "damaged",
        part: "half-written",
    }
    again = {Path(each["path"]).name: each["again"] for each in document["findings"]}
    assert again[part].startswith("sslcurr")
    assert command("runs", "check", "--repair").exit_code == 3  # what is missing is still missing
    left = {Path(each["path"]).name for each in json.loads(command("runs", "check", "--json").stdout)["findings"]}
    assert left == {keys[1], part}
    assert (runs / "results" / "deadbeef.damaged").is_file()
    assert command.json(*CHAIN, *data)["downstream"]["balanced_accuracy"] == chain["downstream"]["balanced_accuracy"]
    command.json("pretrain", "byol", *data)
    assert command("runs", "check").exit_code == 0


def test_one_bad_record_stops_nothing_but_a_removal(store):
    runs, data, _ = store
    (runs / "runs" / "deadbeef.json").write_text('{"asked": ')
    (runs / "packs" / "other-abc").mkdir()
    (runs / "packs" / "other-abc" / "pack.json").write_text("{}")
    bad = runs / "stages" / "0123456789abcdef"
    bad.mkdir()
    (bad / "done.json").write_text("{}")
    command = Command(runs)
    page = ("report", "--out", f"{runs}/page.html")
    for ask in (("runs",), ("runs", "--stages"), ("runs", "show", "last"), page, (*CHAIN, *data)):
        result = command(*ask)
        assert result.exit_code == 0, (ask, result.stderr)
        if "runs" in ask[:1]:
            assert "it is left out" in " ".join(result.stderr.split()), ask
    result = command("runs", "remove", "--yes")
    assert (result.exit_code, "deadbeef.json" in result.stderr) == (1, True)
