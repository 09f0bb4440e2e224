"""Several processes fill a store as one would: the same bytes, each stage once, whatever is killed."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from sslcurr.api.lab import Lab
from sslcurr.cli.progress import Lines, drawn_pool
from sslcurr.engine import plans
from sslcurr.engine.fill import MOST_LOSSES, Filling
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event, carry_out
from sslcurr.engine.plans import Plan, Plans
from sslcurr.engine.pool import POOLS
from sslcurr.engine.pools.shared import SharedPool
from sslcurr.engine.run import StageWork
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, Interrupted, SpecError, StoreError
from sslcurr.progress import PoolState, Reporter, WorkerState
from sslcurr.spec.runtime import Runtime
from sslcurr.tasks import TASKS
from tests.conftest import QUICK, SMALL, Command

THREADS = ("--threads", "1")
ASKED = ("rotation", "simclr", "--seeds", "1", "--length", "2", *QUICK, *THREADS)
RANK = ("rank", *ASKED, "--set", SMALL["simclr"][0], "--set", "rotation.epochs=20", "--save-minutes", "0.003")


def start(runs, *arguments):
    command = [sys.executable, "-m", "sslcurr", *arguments, "--runs", str(runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def digests(runs):
    """Of all weights, by stage."""
    return {
        path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in runs.glob("stages/*/done.json")
    }


def plain(document, runs):
    """A document without the folder of its store and the command line."""
    text = json.dumps({**document, "invocation": None, "command": None})
    return json.loads(text.replace(str(runs), "R"))


def tables(runs):
    """Predictions of all tests, by analysis."""
    return {path.parent.name: path.read_bytes() for path in runs.glob("analyses/*/predictions.csv")}


def owners(runs):
    """Processes that are training, by stage."""
    found = {}
    for path in runs.glob("stages/*.owner.json"):
        try:
            found[path.name.partition(".")[0]] = json.loads(path.read_bytes())["pid"]
        except (OSError, ValueError):
            continue
    return found


def log(runs):
    """The events of all processes in the order of their time."""
    lines = [json.loads(line) for path in runs.glob("log/*.jsonl") for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: line["time"])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def serial(folder, tmp_path_factory):
    """The store and the document of a rank in one process."""
    run = Command(tmp_path_factory.mktemp("serial") / "runs")
    return run.runs, run.json(*RANK, "--dataset", str(folder))


def same(runs, document, serial):
    whole, expected = serial
    assert digests(runs) == digests(whole)
    assert tables(runs) == tables(whole)
    assert plain(document, runs) == plain(expected, whole)
    assert not list(runs.glob("stages/*.part"))
    assert not list(runs.glob("stages/*.owner.json"))


def test_two_jobs_of_which_one_is_killed_give_the_bytes_of_one_process(folder, serial, tmp_path):
    runs = tmp_path / "runs"

    def kill_one():
        end = time.monotonic() + 120
        while not (found := owners(runs)) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(next(iter(found.values())), signal.SIGKILL)

    killing = threading.Thread(target=kill_one)
    killing.start()
    result = Command(runs)(*RANK, "--dataset", str(folder), "--jobs", "2", "--json")
    killing.join()
    assert result.exit_code == 0, result.stderr
    assert "killed by signal 9; it is tried again" in result.stderr
    same(runs, json.loads(result.stdout), serial)
    events = log(runs)
    ended = Counter(line["job"] for line in events if line["event"] == "ended")
    assert set(ended.values()) == {1}  # nothing was done twice
    assert set(digests(runs)) <= set(ended)
    assert [line["event"] for line in events].count("lost") == 1


@pytest.mark.long
def test_a_command_that_was_killed_goes_on_and_its_workers_do_not_outlive_it(folder, serial, tmp_path):
    runs, ask = tmp_path / "runs", (*RANK, "--dataset", str(folder), "--jobs", "2", "--json")
    first = start(runs, *ask)
    wait_for(lambda: len(digests(runs)) > 2, first)
    workers = set(wait_for(lambda: owners(runs), first).values())
    first.kill()
    first.communicate()
    end = time.monotonic() + 60
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.05)
    second = start(runs, *ask)
    output, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors
    same(runs, json.loads(output), serial)
    ended = [line["job"] for line in log(runs) if line["event"] == "ended"]
    assert len(ended) == len(set(ended))


@pytest.mark.long
def test_two_workers_on_one_store_of_which_one_is_killed_give_the_bytes_of_one_process(folder, serial, tmp_path):
    run = Command(tmp_path / "runs")
    ask = (*RANK, "--dataset", str(folder))
    plan = run.json(*ask, "--plan-only")
    assert plan["jobs"] == len(digests(serial[0])) + len(tables(serial[0]))
    assert plan["done"] == 0
    assert run.json("runs", "remove", "--dry-run")["removed"] == {}
    work = ("work", "--until-idle", *THREADS, "--save-minutes", "0.003", "--json")
    workers = [start(run.runs, *work) for _ in range(2)]
    wait_for(lambda: set(owners(run.runs).values()) == {worker.pid for worker in workers}, workers[0])
    live = run.json("runs", "--live")
    assert {row["pid"] for row in live["active"]} <= {worker.pid for worker in workers}
    assert [row["jobs"] for row in live["plans"]] == [plan["jobs"]]
    workers[0].kill()
    workers[0].communicate()
    output, errors = workers[1].communicate(timeout=200)
    assert workers[1].returncode == 0, errors
    assert json.loads(output)["failures"] == []
    ended = [line["job"] for line in log(run.runs) if line["event"] == "ended"]
    assert len(ended) == len(set(ended))
    moved = Command(run.runs.rename(tmp_path / "moved"))  # a store may be carried elsewhere
    same(moved.runs, moved.json(*ask), serial)
    assert not list(moved.runs.glob("plans/*.json"))  # nothing is wanted any more


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_workers_and_saves(folder, tmp_path, number):
    runs, ask = tmp_path / "runs", (*RANK, "--dataset", str(folder), "--jobs", "2", "--json")
    process = start(runs, *ask)
    wait_for(lambda: list(runs.glob("stages/*.part/resume.pt")), process)
    workers = set(wait_for(lambda: (found := owners(runs)) and len(found) == 2 and found, process).values())
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not any(is_alive(pid) for pid in workers)
    assert not list(runs.glob("stages/*.owner.json"))
    assert list(runs.glob("stages/*.part/resume.pt"))


# ---- what pools say


class Told(Reporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Scripted:
    """A pool of one worker that answers jobs by a function."""

    names = ("worker",)

    def __init__(self, answer):
        self.answer = answer
        self.job = None
        self.cancelled = False

    def free(self):
        return self.job is None

    def submit(self, job):
        self.job = job
        return 0

    def events(self, timeout):
        job, self.job = self.job, None
        return [] if job is None else [self.answer(job)]

    def cancel(self):
        self.cancelled = True
        return []

    def close(self):
        pass


def job(name, *needs, cost=0.0):
    return Job(name=name, kind="stage", title=f"title of {name}", needs=needs, cost=cost)


def filled(pool, store, *jobs, report=None, **how):
    """What became of jobs in a pool."""
    with Filling(lambda: pool, store, report or Reporter(), **how) as filling:
        filling.add(jobs)
        filling.wait([each.name for each in jobs])
    return filling


def test_a_worker_that_dies_again_and_again_takes_down_its_job_only(tmp_path):
    def answer(job):
        dies = job.name == "a"
        return Event(what="lost" if dies else "ended", job=job.name, text="killed by signal 9", done_here=not dies)

    told = Told()
    filling = filled(Scripted(answer), Store(tmp_path), job("a"), job("b", "a"), job("c"), report=told)
    assert filling.done_here == {"c"}
    assert filling.failure("b").origin == "a"
    assert filling.failure("a").reason == f"killed by signal 9, {MOST_LOSSES} times"
    assert len(told.notes) == MOST_LOSSES


def test_a_mistake_ends_the_command_and_saves_the_others(tmp_path):
    pool = Scripted(lambda job: Event(what="error", job=job.name, text="no pack", hint="make it", kind="DataError"))
    with pytest.raises(DataError, match="no pack") as error:
        filled(pool, Store(tmp_path), job("a"))
    assert error.value.hint == "make it"
    assert pool.cancelled


def test_a_worker_goes_on_with_what_it_can_do(tmp_path):
    def answer(job):
        if job.name == "a":
            return Event(what="error", job=job.name, text="no pack", hint="make it", kind="DataError")
        return Event(what="ended", job=job.name, done_here=True)

    store, told = Store(tmp_path), Told()
    worker = filled(Scripted(answer), store, job("a"), job("b", "a"), job("c"), report=told, is_worker=True)
    assert worker.done_here == {"c"}
    assert [(type(each), str(each), each.hint) for each in worker.mistakes] == [(DataError, "no pack", "make it")]
    assert told.notes == ["title of a: no pack"]
    assert store.failure("a") is None  # another machine may have it


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOSPC, "no space is left"), (errno.EACCES, "cannot read or write"), (errno.ENOENT, "is gone")],
)
def test_a_disk_that_is_full_or_a_file_that_is_removed_is_a_mistake_and_no_traceback(tmp_path, monkeypatch, code, said):
    store = Store(tmp_path)

    def refused(job, store, runtime, report):
        raise OSError(code, os.strerror(code), str(store.stages / "parent" / "backbone.safetensors"))

    monkeypatch.setattr(StageWork, "run", refused)
    event = carry_out(job("a"), store, Runtime(), Reporter())
    assert (event.what, event.kind) == ("error", "StoreError")
    assert said in event.text
    assert "run the same command again" in event.hint or "chmod" in event.hint


def test_a_failure_is_told_to_other_processes_and_forgotten_by_the_next_command(tmp_path):
    failing = Scripted(lambda job: Event(what="failed", job=job.name, text="not finite", hint="lower"))
    store, jobs = Store(tmp_path), (job("a"), job("b", "a"))
    filled(failing, store, *jobs)
    other = Scripted(lambda job: pytest.fail(f"{job.name} was tried again"))
    worker = filled(other, store, *jobs, is_worker=True)
    assert (worker.failure("b").reason, worker.failure("b").hint) == ("not finite", "lower")
    mended = Scripted(lambda job: Event(what="ended", job=job.name, done_here=True))
    assert filled(mended, store, *jobs).done_here == {"a", "b"}


def test_a_worker_goes_on_beside_a_stage_that_was_removed(tmp_path, monkeypatch):
    def is_done(job, store):
        if job.name == "a":
            raise StoreError("cannot read stage.json", "run it again")
        return False

    monkeypatch.setattr(StageWork, "is_done", is_done)
    pool = Scripted(lambda job: Event(what="ended", job=job.name, done_here=True))
    worker = filled(pool, Store(tmp_path), job("a"), job("b", "a"), job("c"), is_worker=True)
    assert worker.done_here == {"c"}
    assert worker.failure("b").origin == "a"
    assert [str(each) for each in worker.mistakes] == ["cannot read stage.json"]
    with pytest.raises(StoreError):
        filled(pool, Store(tmp_path), job("a"))


def test_a_worker_does_again_what_was_removed_or_is_wanted_after_it_failed(tmp_path):
    store, jobs = Store(tmp_path), (job("a"), job("b", "a"), job("c"))
    answers = {"a": "ended", "b": "ended", "c": "failed"}
    asked = []

    def answer(job):
        asked.append(job.name)
        if answers[job.name] == "ended":
            (store.stages / job.name).mkdir(parents=True)
            (store.stages / job.name / "done.json").touch()
        return Event(what=answers[job.name], job=job.name, done_here=True)

    with Filling(lambda: Scripted(answer), store, Reporter(), is_worker=True) as worker:
        worker.add(jobs)
        worker.wait("abc")
        worker.add(jobs)
        worker.wait("abc")
        assert asked == ["a", "b", "c"]
        shutil.rmtree(store.stages)
        answers["c"] = "ended"
        store.clear_failures("c")  # by a command
        worker.add(jobs)
        worker.wait("abc")
    assert asked == ["a", "b", "c"] * 2
    assert worker.graph.is_over


def test_a_damaged_plan_ends_no_other(sslcurr):
    store = Store(sslcurr.runs)
    store.plans.mkdir(parents=True)
    (store.plan("aaaa")).write_text('{"run"')
    done = store.stages / "a" / "done.json"
    done.parent.mkdir(parents=True)
    done.touch()
    Plan("bbbb", ["sslcurr"], store).add([job("a")])
    heard = []
    assert [plan.run for plan in Plans(store).changed(heard.append)] == ["bbbb"]
    result = sslcurr("work", "--until-idle")
    assert result.exit_code == 1
    assert "aaaa.json" in str(heard[0])
    assert "aaaa.json" in result.stderr
    assert "remove this file" in result.stderr


def test_a_plan_is_written_when_no_failure_of_its_jobs_is_noted_any_more(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.note_failure("a", "not finite", "lower")
    noted = []
    monkeypatch.setattr(plans, "write_record", lambda path, content, **how: noted.append(store.failure("a")))
    Plan("aaaa", ["sslcurr"], store).add([job("a")])
    assert noted == [None]


def test_what_another_process_is_at_is_waited_for_and_tried_again(tmp_path):
    answers = iter(["taken", "ended", "ended"])
    asked = []

    def answer(job):
        asked.append(job.name)
        return Event(what=next(answers), job=job.name, done_here=True)

    filled(Scripted(answer), Store(tmp_path), job("a"), job("b"))
    assert asked == ["a", "b", "a"]  # the other one first


def test_a_stop_in_this_process_is_a_stop(tmp_path):
    pool = Scripted(lambda job: Event(what="stopped", job=job.name, text="stopped at step 3", hint="again", signal=15))
    with pytest.raises(Interrupted, match="at step 3") as stop:
        filled(pool, Store(tmp_path), job("a"))
    assert stop.value.signal == signal.SIGTERM


# ---- from the command line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--jobs", "0"), "'0' is not a number from 1 on, or auto"),
        (("--jobs", "two"), "'two' is not a number from 1 on, or auto"),
        (("--per-gpu", "0"), "'--per-gpu'"),
        (("--pool", "slurm"), "unknown pool 'slurm'"),
        (("--lease", "0"), "--lease must be above 0, got 0"),
        (("--search", "--plan-only"), "--search decides what is trained as it goes"),
        (("--plan-only", "--dry-run"), "--plan-only writes a plan, and --dry-run writes nothing"),
        (("--pool", "shared", "--jobs", "2"), "--pool shared does one job after the other"),
        (("--device", "cpu", "--per-gpu", "2"), "--per-gpu 2 finds no GPU"),
    ],
)
def test_mistakes_are_one_line_and_train_nothing(folder, sslcurr, options, message):
    result = sslcurr("rank", "rotation", "simclr", *QUICK, "--dataset", str(folder), *options)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert not list(sslcurr.runs.glob("stages/*"))


def test_a_store_whose_locks_do_not_lock_is_refused(folder, sslcurr, monkeypatch):
    sslcurr.json("data", "prepare", str(folder), "--image-size", "16")
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    for command in (
        ("work", "--until-idle"),
        ("pretrain", "rotation", *QUICK, "--dataset", str(folder), "--jobs", "2"),
    ):
        result = sslcurr(*command)
        assert result.exit_code == 1
        assert "does not keep locks" in result.stderr
        assert "nolock" in result.stderr


def test_a_worker_without_a_plan_says_so(sslcurr):
    assert "there is no store at" in sslcurr("work", "--until-idle").stderr
    sslcurr.runs.mkdir()
    assert "nothing is planned on this store" in sslcurr("work", "--until-idle").stdout
    assert sslcurr.json("runs", "--live")["active"] == []


def test_another_pool_is_taken_by_its_name(folder, sslcurr, monkeypatch):
    told = []

    class Counting(SharedPool):
        def submit(self, job):
            told.append(job.kind)
            return super().submit(job)

    POOLS["test/counting"] = Counting
    try:
        ask = ("chain", "rotation", *QUICK, *THREADS, "--dataset", str(folder))
        document = sslcurr.json(*ask, "--pool", "test/counting")
        again = sslcurr.json(*ask, "--pool", "test/counting")
    finally:
        del POOLS["test/counting"]
    assert told == ["stage", "stage", "report"]
    assert [stage["reused"] for stage in document["stages"]] == [False, False]
    assert [stage["reused"] for stage in again["stages"]] == [True, True]
    assert again["downstream"] == document["downstream"]


def test_the_display_has_a_line_for_each_worker():
    state = PoolState(done=3, total=40, failed=1, elsewhere=2, seconds_left=5400)
    state.workers = [
        WorkerState("worker 1", "rotation -> mocov2, seed 0", 120, 400, 3, 10, 1180.4),
        WorkerState("worker 2"),
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(drawn_pool(state, 80))
    first, *lines = console.export_text().splitlines()
    assert first == "3 of 40 jobs done, 1 failed, 2 at other processes, about 90 min left"
    assert [line.split("  ")[0] for line in lines] == ["worker 1", "worker 2"]
    assert "rotation -> mocov2, seed 0" in lines[0]
    assert lines[0].rstrip().endswith("epoch 4 of 10  1,180 images/s")
    assert "waits" in lines[1]
    assert all(len(line) <= 78 for line in lines)  # and ^C


def test_the_display_shows_both_ends_of_a_long_title():
    title = "rotation -> mocov2 -> swav -> classification, seed 2"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(drawn_pool(PoolState(workers=[WorkerState("worker 1", title, 399, 400, 9, 100, 1180.4)]), 80))
    assert re.search("rotation -> .*….*, seed 2 .* of 100  1,180 images/s", console.export_text())


def test_time_left_counts_from_the_first_job(tmp_path):
    filling = Filling(lambda: Scripted(lambda job: Event(what="taken", job=job.name)), Store(tmp_path), Reporter())
    filling.add([job("a", cost=30.0), job("b", cost=10.0)])
    filling.graph.begin()
    filling.done_here.add("a")
    filling._end("a")
    assert filling._seconds_left() is None
    filling._seconds_at_work = 6.0
    assert filling._seconds_left() == 2.0


def test_a_bar_of_a_job_that_this_process_did_is_wiped():
    lines = Lines()
    lines.console = Console(width=80, file=io.StringIO(), force_terminal=True)
    lines.trial_begins("rotation", 0, 2, 0.1, 10, 0)
    first = lines.live
    lines.trial_begins("rotation", 1, 2, 0.2, 10, 0)
    assert not first.is_started
    second = lines.live
    lines.pool(PoolState(done=1, total=2))
    assert not second.is_started
    assert lines.live is not second
    lines.close()


def test_a_task_of_this_process_alone_is_no_job(folder, tmp_path):
    class Own(TASKS["rotation"]):
        name = "notebook/own"

    TASKS["notebook/own"] = Own
    try:
        with pytest.raises(SpecError, match="the task notebook/own is known to this process only"):
            Lab(tmp_path / "runs", dataset=str(folder), image_size=16).queue_chain(["notebook/own"])
    finally:
        del TASKS["notebook/own"]
