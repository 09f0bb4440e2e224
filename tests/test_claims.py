"""Claims on folders: one holder at a time, a dead one blocks nothing, a late one changes nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from sslcurr import claims
from sslcurr.claims import Lost, check_locks, claim, described_owner, is_claimed, owner_of, waited_claim
from sslcurr.errors import StoreError

LEASE = 0.002  # minutes; heartbeats then come every 20 ms


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)


def stopped_beating(held):
    """A process whose machine sleeps: its lock is held, its heart does not beat."""
    held._ended.set()
    held._thread.join()


def silent(held, minutes):
    """Its last heartbeat was so long ago."""
    stopped_beating(held)
    path = held.folder.with_name(f"{held.folder.name}.owner.json")
    os.utime(path, (time.time() - 60 * minutes,) * 2)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_holder_at_a_time_and_what_it_leaves_is_taken_up(tmp_path):
    folder = tmp_path / "stages" / "a"
    with claim(folder) as held:
        assert held.part == tmp_path / "stages" / "a.part"
        (held.part / "resume.pt").write_bytes(b"half")
        assert claim(folder) is None
        assert is_claimed(folder)
        owner = owner_of(folder)
        assert (owner.host, owner.pid, owner.lease) == (socket.gethostname(), os.getpid(), claims.LEASE)
        assert described_owner(folder).startswith(f"process {os.getpid()} on {socket.gethostname()}, heard of ")
    assert not is_claimed(folder)
    assert owner_of(folder) is None
    with claim(folder) as held:
        assert files(held.part) == {"resume.pt": b"half"}
        held.publish()
    assert files(folder) == {"resume.pt": b"half"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["a", "a.lock"]


def test_an_empty_part_is_not_left(tmp_path):
    with claim(tmp_path / "a") as held:
        assert held.part.is_dir()
    assert not held.part.exists()


def test_what_it_is_at_is_read_by_others(tmp_path):
    with claim(tmp_path / "a", lease=LEASE) as held:
        held.tell(task="rotation", step=1)
        assert owner_of(tmp_path / "a").status == {"task": "rotation", "step": 1}
        held.tell(step=2)
        end = time.monotonic() + 20
        while owner_of(tmp_path / "a").status["step"] != 2:
            assert time.monotonic() < end
        held.tell(text="x" * 10_000)  # too long to be told
        held.beat()
        assert owner_of(tmp_path / "a").status == {}


def test_the_folder_of_a_killed_process_is_free_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from sslcurr.claims import claim\n"
        "held = claim(Path(sys.argv[1])); print(held.owner.uuid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    uuid = process.stdout.readline().strip()
    assert owner_of(tmp_path / "a").uuid == uuid
    assert claim(tmp_path / "a") is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert owner_of(tmp_path / "a").is_gone
    with claim(tmp_path / "a") as held:  # no lease has to pass
        assert held.part.name == "a.part"
        assert not held.is_lost


def test_a_silent_holder_is_taken_over_and_comes_back_too_late(tmp_path):
    folder = tmp_path / "a"
    late = claim(folder)
    (late.part / "resume.pt").write_bytes(b"step 7")
    (late.part / "search").mkdir()
    (late.part / "search" / "study.log").write_bytes(b"trial 1")
    (late.part / "resume.pt.host.1.tmp").write_bytes(b"torn")
    silent(late, minutes=5)
    assert claim(folder, lease=10) is None  # the lease has not passed
    with claim(folder, lease=4) as held:
        assert held.part != late.part
        assert files(held.part) == {"resume.pt": b"step 7", "search/study.log": b"trial 1"}
        assert late.is_lost
        # It wakes: whatever it writes is its own, and nothing of it is published.
        (late.part / "resume.pt").write_bytes(b"step 9")
        late.beat()
        assert owner_of(folder).uuid == held.owner.uuid
        with pytest.raises(Lost):
            late.publish()
        late.release()
        assert owner_of(folder).uuid == held.owner.uuid
        assert claim(folder) is None
        assert files(held.part)["resume.pt"] == b"step 7"
        (held.part / "resume.pt").write_bytes(b"step 12")
        held.publish()
    assert files(folder)["resume.pt"] == b"step 12"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.lock"]


def test_a_silent_holder_is_taken_over_where_the_clock_is_hours_behind(tmp_path, monkeypatch):
    late = claim(tmp_path / "a")
    silent(late, minutes=5)
    clock = time.time
    monkeypatch.setattr(claims.time, "time", lambda: clock() - 3 * 3600)
    with claim(tmp_path / "a", lease=4) as held:
        assert late.is_lost
        assert not held.is_lost
    late.release()


def test_a_process_of_another_container_of_the_same_host_name_is_not_gone(tmp_path, monkeypatch):
    held = claim(tmp_path / "a")
    monkeypatch.setattr(claims, "_is_alive", lambda pid: False)  # nobody here has its number
    assert owner_of(tmp_path / "a").is_gone
    monkeypatch.setattr(claims, "machine", lambda: "another")
    assert not owner_of(tmp_path / "a").is_gone
    assert claim(tmp_path / "a") is None
    assert not held.is_lost
    held.release()


def test_the_next_after_a_takeover_goes_on_where_that_stopped(tmp_path):
    folder = tmp_path / "a"
    late = claim(folder)
    (late.part / "resume.pt").write_bytes(b"step 7")
    silent(late, minutes=5)
    with claim(folder, lease=4) as held:
        (held.part / "resume.pt").write_bytes(b"step 8")
    with claim(folder) as again:
        assert files(again.part) == {"resume.pt": b"step 8"}
    late.release()


def test_a_sleeping_machine_that_wakes_is_not_taken_over(tmp_path, monkeypatch):
    held = claim(tmp_path / "a")
    silent(held, minutes=30)
    woken = []
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: woken.append(os.utime(held._file)))
    assert claim(tmp_path / "a", lease=10) is None
    assert woken
    assert not held.is_lost
    held.release()


def test_only_one_takes_over(tmp_path, monkeypatch):
    late = claim(tmp_path / "a")
    silent(late, minutes=5)
    others = []

    def meanwhile(seconds):
        monkeypatch.setattr(claims.time, "sleep", lambda seconds: None)
        others.append(claim(tmp_path / "a", lease=4))

    monkeypatch.setattr(claims.time, "sleep", meanwhile)
    assert claim(tmp_path / "a", lease=4) is None
    (other,) = others
    assert not other.is_lost
    other.release()
    late.release()


def test_waiting_says_so_once(tmp_path):
    held, said = claim(tmp_path / "a"), []

    def waiting():
        said.append(1)
        held.release()

    with waited_claim(tmp_path / "a", waiting) as mine:
        assert not mine.is_lost
    assert said == [1]


# ---- file systems


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.EPERM])
def test_a_file_system_that_cannot_lock_is_one_line(tmp_path, monkeypatch, code):
    def refused(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    for call in (lambda: claim(tmp_path / "a"), lambda: check_locks(tmp_path)):
        with pytest.raises(StoreError, match="cannot lock files") as error:
            call()
        assert "\n" not in str(error.value)
        assert "nolock" in error.value.hint


def test_locks_that_do_not_lock_are_refused(tmp_path, monkeypatch):
    check_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    with pytest.raises(StoreError, match="two processes can hold one") as error:
        check_locks(tmp_path)
    assert "nolock" in error.value.hint


def test_a_lock_that_two_machines_hold_is_noticed_by_the_heartbeat(tmp_path, monkeypatch):
    held = claim(tmp_path / "a", lease=LEASE)
    path = tmp_path / "a.owner.json"
    monkeypatch.setattr(claims.socket, "gethostname", lambda: "another")
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    with pytest.raises(StoreError, match="two processes hold the lock"):
        claim(tmp_path / "a", lease=LEASE)
    assert json.loads(path.read_bytes())["uuid"] == held.owner.uuid
    stopped_beating(held)
    other = claim(tmp_path / "a", lease=LEASE)  # one that was killed on that machine just now
    assert held.is_lost
    other.release()
    monkeypatch.undo()
    held.release()


def test_without_flock_a_holder_of_another_host_that_died_blocks_until_its_lease_ends(tmp_path, monkeypatch):
    """filelock then uses a marker file, which another host's is never stale for it."""

    def missing(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.warns(UserWarning, match="falling back"):
        late = claim(tmp_path / "a")
    marker = tmp_path / "a.lock"
    marker.write_text(marker.read_text().replace(socket.gethostname(), "node17"))
    late.owner.host = "node17"
    late.beat()
    with pytest.warns(UserWarning, match="falling back"):
        assert claim(tmp_path / "a") is None
    silent(late, minutes=11)
    with pytest.warns(UserWarning, match="falling back"), claim(tmp_path / "a") as held:
        assert held.part.name == "a.1.part"
