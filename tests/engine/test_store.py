"""The store: whole or not at all, shared between processes, and tidy."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time
from datetime import datetime

import pytest
from msgspec import UNSET, structs

from sslcurr.claims import Taken, claim
from sslcurr.engine.run import run_stages
from sslcurr.engine.store import Store, analysis_name, now
from sslcurr.errors import StoreError
from sslcurr.files import is_full_disk, read_json, sealed, write_whole
from sslcurr.progress import Reporter
from sslcurr.spec.record import RunRecord, StageRecord
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import key_of, to_dict
from tests.spec.test_spec import SPEC

RECORD = StageRecord(
    key=key_of(SPEC),
    weights_sha256="x",
    parent=None,
    parent_weights_sha256=None,
    metrics={"loss": 1.5, "best_epoch": 0},
    steps=1,
    num_images=8,
    images_per_second=8.0,
    seconds=1.0,
    lr=0.03,
    device="cpu",
    precision="32",
    threads=1,
    versions={"sslcurr": "0.1.0"},
)


def run_of(asked, **changes):
    return RunRecord(**{"asked": asked, "title": "t", "dataset": "d", "created": now(), **changes})


def work(part):
    (part / "backbone.safetensors").write_bytes(b"weights")
    (part / "resume.pt").write_bytes(b"state")
    return RECORD


def silent():
    return None


def test_a_stage_is_found_only_when_it_is_whole(tmp_path):
    store, key = Store(tmp_path), key_of(SPEC)

    def broken(part):
        work(part)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.run(SPEC, broken, silent)
    assert store.find(key) is None
    assert store.all() == []
    assert (tmp_path / "stages" / f"{key}.part" / "resume.pt").exists()
    (tmp_path / "stages" / key).mkdir()  # an empty folder of that name is no stage
    assert store.find(key) is None
    (tmp_path / "stages" / key).rmdir()
    stage = store.run(SPEC, work, silent)
    assert stage.key == key
    assert stage.spec == SPEC or key_of(stage.spec) == key
    assert not (stage.folder / "resume.pt").exists()
    assert not (tmp_path / "stages" / f"{key}.part").exists()


def test_what_is_there_is_not_done_again(tmp_path):
    store = Store(tmp_path)
    store.run(SPEC, work, silent)
    store.run(SPEC, lambda part: pytest.fail("done twice"), silent)


def test_two_at_once_share_the_work(tmp_path):
    store, started, go, waited, done = Store(tmp_path), threading.Event(), threading.Event(), [], []

    def slow(part):
        started.set()
        go.wait(20)
        done.append("slow")
        return work(part)

    first = threading.Thread(target=lambda: store.run(SPEC, slow, silent))
    first.start()
    started.wait(20)

    def other():
        Store(tmp_path).run(SPEC, lambda part: done.append("other") or work(part), lambda: (waited.append(1), go.set()))

    second = threading.Thread(target=other)
    second.start()
    first.join(30)
    second.join(30)
    assert done == ["slow"]
    assert waited == [1]


def test_a_key_can_be_shortened_but_not_guessed(tmp_path):
    store = Store(tmp_path)
    stage = store.run(SPEC, work, silent)
    assert store.resolve(stage.key[:6]).key == stage.key
    for text in ("ffff", stage.key[:2]):
        with pytest.raises(StoreError) as error:
            store.resolve(text)
        assert error.value.hint


def test_a_damaged_record_is_named(tmp_path):
    store = Store(tmp_path)
    stage = store.run(SPEC, work, silent)
    for damage in ('{"key": ', "[]", '{"key": 1}', json.dumps(RECORD.to_json() | {"metrics": {"loss": "low"}})):
        (stage.folder / "done.json").write_text(damage)
        with pytest.raises(StoreError, match=r"cannot read .*done\.json") as error:
            _ = stage.record
        assert error.value.hint == "remove its folder and run the command again"


def test_a_missing_parent_is_an_error_never_a_start_from_scratch(tmp_path):
    with pytest.raises(StoreError, match="stage 0123456789abcdef to start from is not in"):
        run_stages([SPEC], Store(tmp_path), Runtime(), Reporter())


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "resume.pt"
    write_whole(path, b"old")

    def fails(temporary):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as error:
        write_whole(path, fails)
    assert is_full_disk(error.value)
    assert not is_full_disk(OSError(errno.EACCES, "other"))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["resume.pt"]


def test_a_full_disk_is_called_so_whatever_a_library_calls_it(tmp_path, monkeypatch):
    """torch.save says "iostream error"; whether the disk is full is asked of the disk."""

    def fails(temporary):
        raise RuntimeError("basic_ios::clear: iostream error")

    with pytest.raises(RuntimeError, match="iostream"):
        write_whole(tmp_path / "resume.pt", fails)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space") as error:
        write_whole(tmp_path / "resume.pt", fails)
    assert is_full_disk(error.value)
    assert list(tmp_path.iterdir()) == []


def test_only_what_no_run_needs_is_removed(tmp_path):
    store = Store(tmp_path)
    kept = store.run(SPEC, work, silent)
    folder = store.analysis("knn", {"a": 1}, lambda part: {"x": 1})
    other = store.analysis("knn", {"a": 2}, lambda part: {"x": 2})
    name = store.note_run(run_of({"a": 1}, stages=[kept.key], analyses=[folder.name]))
    assert read_json(folder / "done.json") == {"x": 1}
    found = {path.name.removesuffix(".lock") for path in store.unneeded()}
    assert found == {other.name}
    assert kept.folder in store.unneeded(without={name})
    store.remove()
    assert store.all_analyses() == [folder]
    assert store.find(kept.key) is not None


def test_runs_are_in_the_order_in_which_they_were_begun_whatever_the_times_of_their_files(tmp_path):
    store = Store(tmp_path)
    dates = {
        "b": "2026-03-01T10:00:00+0000",
        "a": "2026-03-01T10:30:00.250+02:00",
        "c": "2026-03-01T10:00:00.001+00:00",
    }
    names = {}
    for number, (word, date) in enumerate(dates.items()):
        record = run_of({"is": word}, created=date)
        names[word] = store.note_run(record)
        store.keep_result(record, "rank", {"is": word})
        os.utime(store.runs / f"{names[word]}.json", (number, number))
    assert list(store.all_runs()) == [names["a"], names["b"], names["c"]]  # half past eight, ten, and a little later
    assert store.result(names["b"]) == ("rank", {"is": "b"})
    store.forget({names["b"]})
    assert store.result(names["b"]) is None
    assert store.result(names["a"]) == ("rank", {"is": "a"})
    earlier, later = now(), now()
    assert datetime.fromisoformat(earlier) <= datetime.fromisoformat(later)


def test_a_command_that_is_given_again_was_begun_when_it_was_first_and_is_the_latest(tmp_path):
    store = Store(tmp_path)
    first, second, third = (f"2026-03-01T{hour}:00:00+00:00" for hour in (10, 11, 12))
    run = store.note_run(run_of({"is": 1}, created=first))
    other = store.note_run(run_of({"is": 2}, created=second))
    for finished in (False, True):  # a command notes its run before and after its work
        assert store.note_run(run_of({"is": 1}, created=third, finished=finished)) == run
    records = store.all_runs()
    assert list(records) == [other, run]
    assert (records[run].created, records[run].again, records[run].finished) == (first, third, True)
    assert store.named("last") == run


# ---- records


def test_the_record_of_a_stage_is_written_in_one_order_and_read_back(tmp_path):
    stage = Store(tmp_path).run(SPEC, work, silent)
    written = (stage.folder / "done.json").read_text()
    assert list(json.loads(written)) == [
        "key",
        "weights_sha256",
        "parent",
        "parent_weights_sha256",
        "metrics",
        "steps",
        "stopped_early",
        "num_images",
        "images_per_second",
        "seconds",
        "lr",
        "device",
        "precision",
        "channels_last",
        "threads",
        "versions",
        "seal",
    ]
    assert stage.record == RECORD
    assert sealed(stage.record.to_json()).decode() == written
    (stage.folder / "done.json").write_text(json.dumps(RECORD.to_json() | {"search": {"lr": 0.25}, "later": 1}))
    assert stage.record.search == {"lr": 0.25}  # what a later version adds is passed over


PREPARED = {
    "asked": {"prepared": "clothes-b3563bbcd026"},
    "title": "data prepare, 24 px",
    "dataset": "clothes",
    "seed": 0,
    "stages": [],
    "analyses": [],
    "packs": ["clothes-b3563bbcd026"],
    "balanced_accuracy": None,
    "finished": True,
    "created": "2026-11-28T16:33:27+0000",
}


def test_the_record_of_a_run_is_written_as_before_and_one_of_an_earlier_version_is_read(tmp_path):
    store = Store(tmp_path)
    store.runs.mkdir()
    (store.runs / "old.json").write_text(json.dumps(PREPARED))  # as `data prepare` of 0.1.0 wrote it: no command
    name = store.note_run(run_of({"is": 1}, command=["sslcurr", "chain"], created="2026-11-28T16:34:00"))
    records = store.all_runs()
    assert list(records) == ["old", name]  # a time without a zone has a place, too
    assert records["old"].to_json() == PREPARED
    assert records["old"].command is UNSET
    written = json.loads((store.runs / f"{name}.json").read_text())
    assert list(written) == [*list(PREPARED)[:-1], "command", "created", "seal"]
    assert read_json(store.runs / f"{name}.json") == records[name].to_json()
    assert (records[name].seed, records[name].analyses, records[name].balanced_accuracy) == (0, [], None)


@pytest.mark.parametrize("damage", ['{"asked": ', "[]", "{}", json.dumps(PREPARED | {"created": "yesterday"}), b"\xff"])
def test_a_damaged_run_or_result_is_named(tmp_path, damage):
    store = Store(tmp_path)
    for folder in (store.runs, store.results):
        folder.mkdir()
        (folder / "a.json").write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    for reading, place in ((lambda: store.all_runs(strict=True), "runs"), (lambda: store.result("a"), "results")):
        with pytest.raises(StoreError, match=rf"cannot read .*{place}/a\.json") as error:
            reading()
        assert error.value.hint.startswith("remove this file and run the command of that run again")


# ---- several machines


def silence(claim, minutes=1):
    """The holder's machine sleeps, since so many minutes."""
    claim._ended.set()
    claim._thread.join()
    os.utime(claim._file, (time.time() - 60 * minutes,) * 2)


@pytest.mark.parametrize("writes", [True, False], ids=["writes into its part", "only returns"])
def test_one_that_was_taken_over_goes_on_with_the_result_of_the_other(tmp_path, writes):
    late, quick = Store(tmp_path), Store(tmp_path, lease=0.001)
    folder = tmp_path / "stages" / key_of(SPEC)

    def slow(part):
        (part / "resume.pt").write_bytes(b"step 7")
        silence(late._claims[folder])

        def taken_over(other):
            assert other != part
            assert (other / "resume.pt").read_bytes() == b"step 7"
            return work(other)

        quick.run(SPEC, taken_over, silent)
        if writes:
            write_whole(part / "resume.pt", b"step 9")  # raises: the part is gone
        return structs.replace(RECORD, seconds=99.0)

    stage = late.run(SPEC, slow, silent)
    assert stage.record.seconds == RECORD.seconds
    assert (stage.folder / "backbone.safetensors").read_bytes() == b"weights"
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_a_store_that_does_not_wait_says_who_is_at_work(tmp_path):
    busy, other = Store(tmp_path), Store(tmp_path, waits=False)

    def working(part):
        with pytest.raises(Taken, match=f"process {os.getpid()} on .* is at work"):
            other.run(SPEC, lambda part: pytest.fail("done twice"), silent)
        with pytest.raises(Taken):
            busy_elsewhere.analysis("knn", {"a": 1}, lambda part: {})
        return work(part)

    busy_elsewhere = Store(tmp_path, waits=False)
    with claim(tmp_path / "analyses" / analysis_name("knn", {"a": 1})):
        busy.run(SPEC, working, silent)


def test_a_stage_names_what_lies_in_its_store_from_there(tmp_path):
    store = Store(tmp_path / "a")
    pack, file = store.packs / "p-1", tmp_path / "elsewhere.pth"
    pack.mkdir(parents=True)
    file.touch()
    spec = dataclasses.replace(SPEC, data=dataclasses.replace(SPEC.data, pack=str(pack)), source=str(file))
    stage = store.run(spec, work, silent)
    written = json.loads((stage.folder / "stage.json").read_text())
    assert (written["data"]["pack"], written["source"]) == ("packs/p-1", str(file))
    assert (stage.spec.data, stage.spec.source) == (spec.data, spec.source)
    moved = Store((tmp_path / "a").rename(tmp_path / "b"))
    assert moved.find(stage.key).spec.data.pack == str(moved.packs / "p-1")
    # A version before wrote the whole path.
    (moved.stages / stage.key / "stage.json").write_text(json.dumps(to_dict(spec)))
    assert moved.find(stage.key).spec.data.pack == str(moved.packs / "p-1")
    assert key_of(moved.find(stage.key).spec) == stage.key
