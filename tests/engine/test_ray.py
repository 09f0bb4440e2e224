"""The pool on a Ray cluster: what it asks for, what it hears, and what is left when something dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from types import SimpleNamespace

import msgspec
import pytest

from sslcurr.engine import fill
from sslcurr.engine.fill import Filling
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.pools import ray as pools
from sslcurr.engine.pools.process import Beginning
from sslcurr.engine.pools.ray import RayPool, Slot, check_reachable, default_threads, gpu_share, room, uses_gpus
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError, StoreError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime
from tests import REPOSITORY
from tests.conftest import QUICK

# ---- what is asked for


def test_without_the_package_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match="--pool ray needs the package ray") as error:
        RayPool(Pooling(job_pool="ray"), Store(tmp_path), Runtime(), Reporter())
    assert error.value.hint == "pip install 'sslcurr[ray]'"


def test_an_address_is_for_ray_alone(sslcurr):
    result = sslcurr("pretrain", "rotation", "--ray-address", "auto")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: --ray-address is not for --pool here\nhint: give --pool ray too\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "127.0.0.1:99999"])
def test_an_address_where_nothing_listens_is_said_at_once(address):
    with pytest.raises(SpecError, match="no Ray cluster answers at "):
        check_reachable(address)


def test_other_addresses_are_left_to_ray():
    for address in ("auto", "ray://127.0.0.1:1", "nowhere"):
        check_reachable(address)


SMALL, LARGE, GPUS = {"CPU": 4.0}, {"CPU": 9.0}, {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "threads", "per_gpu", "gpus", "expected"),
    [
        ([SMALL, LARGE], 2, 1, False, 6),
        ([SMALL, {}], 5, 1, False, 0),
        ([SMALL, GPUS], 1, 1, True, 2),
        ([GPUS, GPUS], 2, 3, True, 12),
        ([GPUS], 10, 3, True, 1),  # its cores are the limit
    ],
)
def test_the_room_of_a_cluster(nodes, threads, per_gpu, gpus, expected):
    assert room(nodes, threads, per_gpu, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("nodes", "per_gpu", "jobs", "gpus", "expected"),
    [
        ([SMALL, LARGE], 1, None, False, 2),
        ([{"CPU": 1.0}, LARGE], 1, None, False, 1),
        ([SMALL], 1, 3, False, 1),
        ([LARGE, LARGE], 1, 4, False, 4),
        ([SMALL, GPUS], 2, None, True, 4),  # the smallest node that has GPUs
        ([{"CPU": 1.0, "GPU": 4.0}], 1, None, True, 1),
        ([], 1, None, False, 1),
    ],
)
def test_threads_where_nobody_says(nodes, per_gpu, jobs, gpus, expected):
    assert default_threads(nodes, per_gpu, jobs, gpus=gpus) == expected


def test_gpus_are_used_where_there_are_some():
    assert uses_gpus([SMALL, GPUS], "auto")
    assert not uses_gpus([GPUS], "cpu")
    assert not uses_gpus([SMALL], "auto")
    with pytest.raises(SpecError, match="the Ray cluster has no GPU"):
        uses_gpus([SMALL], "cuda")


@pytest.mark.parametrize("per_gpu", [1, 2, 3, 6, 7, 11, 48])
def test_so_many_workers_fit_on_a_gpu_as_are_asked_for(per_gpu):
    parts = round(gpu_share(per_gpu) * pools.GPU_PARTS)  # Ray counts in these
    assert pools.GPU_PARTS // parts >= per_gpu


# ---- what is heard, of a stand-in for Ray


class StandIn:
    """Calls are answered when a test says so; `answers` maps an answer to its value, or to an error."""

    def __init__(self, nodes):
        self.alive = [{"NodeID": f"n{i}", "Alive": True, "Resources": each} for i, each in enumerate(nodes)]
        self.answers, self.calls, self.options, self.killed = {}, [], [], []
        self._numbers = count()

    def is_initialized(self):
        return True  # by somebody else, so that nothing is started or shut down

    def nodes(self):
        return self.alive

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "0" * 56)

    def remote(self, kind):
        stand_in = self

        class Actor:
            def __init__(self, options):
                stand_in.options.append((kind.__name__, options))

            def __getattr__(self, method):
                def call(*arguments):
                    answer = next(stand_in._numbers)
                    stand_in.calls.append((answer, self, method, arguments))
                    return answer

                return SimpleNamespace(remote=call)

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda *arguments: Actor(options)))

    def wait(self, asked, num_returns=1, timeout=0.0):
        there = [answer for answer in asked if answer in self.answers][:num_returns]
        return there, [answer for answer in asked if answer not in there]

    def get(self, answer):
        value = self.answers[answer]
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor):
        self.killed.append(actor)

    def answer(self, method, value):
        """Answer the last call of a method."""
        answer = next(answer for answer, _, name, _ in reversed(self.calls) if name == method)
        self.answers[answer] = value if isinstance(value, Exception | list) else msgspec.json.encode(value)


def seat(node):
    return Event(what="ended", status={"node": node, "host": f"host-{node}", "gpus": ""})


@pytest.fixture
def pool_on(tmp_path, monkeypatch):
    """`pool_on(nodes, **pooling)`: a pool on a stand-in for Ray, and the stand-in."""

    def make(nodes, **pooling):
        stand_in = StandIn(nodes)
        monkeypatch.setattr(pools, "imported_ray", lambda *, is_local: stand_in)
        monkeypatch.setattr(pools, "ASK_SECONDS", 0.0)
        pooling = Pooling(job_pool="ray", ray_address="auto", **pooling)
        return RayPool(pooling, Store(tmp_path), Runtime(threads=1), Reporter()), stand_in

    return make


JOB = Job(name="a", kind="stage", title="a")


def test_a_worker_that_has_not_answered_is_not_free(pool_on):
    pool, ray = pool_on([{"CPU": 2.0}])
    assert pool.names == ["worker 1", "worker 2"]
    assert pool.events(0) == []
    assert not pool.free()
    ray.answer("ready", seat("n0"))
    assert pool.events(0) == []
    assert pool.free()
    assert pool.submit(JOB) == 1
    assert not pool.free()
    assert pool.names == ["worker 1", "worker 2 (host-n0)"]
    ray.answer("run", Event(what="ended", worker=1, job="a", done_here=True))
    assert [event.what for event in pool.events(0)] == ["ended"]
    assert pool.free()


def test_actors_ask_for_their_threads_and_their_part_of_a_gpu(pool_on):
    _, ray = pool_on([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], per_gpu=3)
    (board, of_board), *slots = ray.options
    assert (board, of_board["num_cpus"]) == ("Board", 0)
    assert [(name, options["num_cpus"], options["num_gpus"]) for name, options in slots] == [("Slot", 1, 0.3333)] * 3
    assert {options["max_restarts"] for _, options in ray.options} == {-1}


def test_no_room_is_said_but_with_a_number_of_jobs_workers_wait_for_nodes(pool_on):
    with pytest.raises(SpecError, match="no node of the Ray cluster has 1 CPU"):
        pool_on([{}])
    pool, ray = pool_on([{}], jobs=2)
    assert len(pool.names) == 2
    ray.alive.append({"NodeID": "n1", "Alive": True, "Resources": {"CPU": 9.0}})
    pool._looked -= pools.LOOK_SECONDS + 1
    pool.events(0)
    assert len(pool.names) == 2


def test_nodes_that_join_bring_workers(pool_on):
    pool, ray = pool_on([{"CPU": 1.0}])
    ray.alive.append({"NodeID": "n1", "Alive": True, "Resources": {"CPU": 2.0}})
    pool._looked -= pools.LOOK_SECONDS + 1
    pool.events(0)
    assert pool.names == ["worker 1", "worker 2", "worker 3"]


@pytest.mark.parametrize("by_machine", [False, True])
def test_a_lost_worker_is_asked_until_it_is_there_again(pool_on, by_machine):
    from ray.exceptions import ActorUnavailableError

    pool, ray = pool_on([{"CPU": 1.0}, {}])
    pool.events(0)
    ray.answer("ready", seat("n0"))
    pool.events(0)
    pool.submit(JOB)
    ray.answer("run", ActorUnavailableError("gone", b"0" * 16))
    assert pool.events(0) == []  # it is not known yet what has died
    ray.alive[0]["Alive"] = not by_machine
    events = pool.events(0)
    assert not pool.free()
    ray.answer("ready", ActorUnavailableError("gone", b"0" * 16))
    events += pool.events(0)
    pool.events(0)
    assert len(events) == by_machine
    ray.answer("ready", seat("n1" if by_machine else "n0"))
    events += pool.events(0)
    assert [(event.what, event.job, event.by_machine) for event in events] == [("lost", "a", by_machine)]
    assert pool.free()
    assert Counter(method for _, _, method, _ in ray.calls)["ready"] == 3


def test_a_board_that_fails_ends_nothing_and_old_progress_is_dropped(pool_on):
    from ray.exceptions import ActorUnavailableError

    pool, ray = pool_on([{"CPU": 1.0}])
    pool.events(0)
    ray.answer("read", ActorUnavailableError("gone", b"0" * 16))
    ray.answer("ready", seat("n0"))
    assert pool.events(0) == []
    pool.submit(JOB)
    pool.events(0)
    told = [Event(what="note", text="a remark"), Event(what="progress", job="before"), Event(what="progress", job="a")]
    ray.answer("read", [msgspec.json.encode(event) for event in told])
    assert pool.events(0) == [told[0], told[2]]


def test_a_mistake_of_the_program_in_a_worker_is_raised(pool_on):
    from ray.exceptions import RayTaskError

    pool, ray = pool_on([{"CPU": 1.0}])
    pool.events(0)
    ray.answer("ready", RayTaskError("ready", "worker 1 ended with code 1", RuntimeError("no")))
    with pytest.raises(RayTaskError, match="worker 1 ended with code 1"):
        pool.events(0)


def test_all_are_killed_at_the_end(pool_on):
    pool, ray = pool_on([{"CPU": 2.0}])
    pool.events(0)
    ray.answer("ready", seat("n0"))
    pool.events(0)
    pool.close()
    assert [method for _, _, method, _ in ray.calls].count("end") == 1  # of the one that answered
    assert len(ray.killed) == 3


def test_a_node_that_does_not_see_the_store_is_named(tmp_path):
    beginning = Beginning(
        root=str(tmp_path / "runs"), lease=1.0, number=0, threads=1, memory_share=1.0, runtime=Runtime()
    )
    slot = Slot(msgspec.json.encode(beginning), "worker 1")
    error = msgspec.json.decode(slot.ready(), type=Event).error()
    assert isinstance(error, StoreError)
    assert str(error) == f"there is no store {tmp_path / 'runs'} on {socket.gethostname()}, a node of the Ray cluster"
    assert error.hint == "give --runs on a disk that all nodes see under the same path"


# ---- workers and machines that are lost


class Losing:
    """A pool whose only worker is lost at every job."""

    names = ("worker 1",)

    def __init__(self, by_machine):
        self.by_machine, self.jobs, self.submitted = by_machine, [], 0

    def free(self):
        return not self.jobs

    def submit(self, job):
        self.jobs.append(job.name)
        self.submitted += 1
        return 0

    def events(self, timeout):
        return [Event(what="lost", job=self.jobs.pop(), text="gone", by_machine=self.by_machine)] if self.jobs else []

    def close(self):
        pass


@pytest.mark.parametrize(("by_machine", "most"), [(False, fill.MOST_LOSSES), (True, fill.MOST_MACHINES_LOST)])
def test_machines_may_be_lost_more_often_than_workers(tmp_path, by_machine, most):
    pool = Losing(by_machine)
    with Filling(lambda: pool, Store(tmp_path), Reporter()) as filling:
        filling.add([JOB])
        filling.wait(["a"])
        assert filling.failure("a").reason == f"gone, {most} times"
    assert pool.submitted == most


# ---- on a cluster

OURS = "SSLCURR_TEST"  # a variable in the environment of all processes that a test starts
STARTS = 3  # Ray's time limits for its processes cannot be set; a busy machine may need another try
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def processes_with(variable):
    """The processes whose environment has `NAME=VALUE`: number -> command line; those that have ended are left out."""
    found = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/environ", "rb") as file:
                if variable.encode() not in file.read():
                    continue
            with open(f"/proc/{number}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if line:
            found[int(number)] = line
    return found


def wait_for(what, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def is_below(number, ancestor):
    while number > 1:
        if number == ancestor:
            return True
        try:
            with open(f"/proc/{number}/stat") as file:
                number = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


LOOPBACK_6 = "0000000000000000FFFF00000100007F"  # 127.0.0.1 as of IPv6, in the kernel's notation


def listening(number):
    """The addresses at which a process listens to TCP, in the kernel's notation."""
    links = []
    for name in os.listdir(f"/proc/{number}/fd"):
        try:
            links.append(os.readlink(f"/proc/{number}/fd/{name}"))
        except OSError:  # closed meanwhile
            continue
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{number}/net/{table}") as file:
            rows = [line.split() for line in file][1:]
        yield from (row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes)


class Run:
    """A rank of three tasks, alone and in pairs: 19 stages."""

    def __init__(self, folder, home, epochs, *options):
        self.home = home
        home.mkdir()
        words = ["rank", "rotation", "simclr", "simsiam", "--length", "2", "--seeds", "1", "--runs", "runs", "--json"]
        words += ["--dataset", str(folder), "--threads", "1", *QUICK, "--epochs", str(epochs)]
        words += ["--set", "simclr.hidden=32", "--set", "simsiam.hidden=32", "--set", "simsiam.dim=32"]
        self.words = [sys.executable, "-m", "sslcurr", *words]
        self.options = options

    def start(self):
        """Start the command."""
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{self.home}"}
        self.process = subprocess.Popen(
            [*self.words, *self.options],
            cwd=self.home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, timeout=600):
        """Wait for it: exit code, stdout, stderr."""
        out, error = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, error

    def log(self):
        lines = [
            line for path in (self.home / "runs" / "log").glob("*.jsonl") for line in path.read_text().splitlines()
        ]
        return [json.loads(line) for line in lines]

    def num_ended(self):
        return sum(line["event"] == "ended" for line in self.log())

    def is_training(self):
        """Whether a stage is being trained that has begun to be logged."""
        return any((self.home / "runs" / "stages").glob("*.part/metrics.csv"))

    def digests(self):
        done = (self.home / "runs" / "stages").glob("*/done.json")
        return {path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in done}


def without_invocation(text):
    document = json.loads(text)
    del document["invocation"]
    return document


@pytest.fixture
def mark(monkeypatch):
    """A variable of the environment for all processes of a test; ends what is left of them."""
    monkeypatch.setenv(OURS, str(time.time_ns()))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # whatever this machine's user has set up
    variable = f"{OURS}={os.environ[OURS]}"
    yield variable
    for number in processes_with(variable):
        os.kill(number, signal.SIGKILL)


@pytest.fixture
def cluster(mark, monkeypatch):
    """Two nodes of one core each on this machine; the head first."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # for the command, and the nodes' processes
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # for this process: 127.0.0.1
    from ray.cluster_utils import Cluster

    for left in reversed(range(STARTS)):
        made = Cluster()
        try:
            nodes = [made.add_node(num_cpus=1, include_dashboard=False, wait=False) for _ in range(2)]
            made.wait_for_nodes(120)
            break
        except Exception:
            made.shutdown()
            if not left:
                raise
            time.sleep(20)
    yield SimpleNamespace(address=made.address, raylets=[node.all_processes["raylet"][0].process for node in nodes])
    made.shutdown()


@quiet
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_what_dies_on_a_cluster_changes_no_bit(folder, tmp_path, cluster, mark):
    """A worker, its actor, and the raylet of a node are killed while they train."""
    serial = Run(folder, tmp_path / "serial", 8)
    serial.start()
    code, expected, error = serial.end()
    assert code == 0, error

    run = Run(folder, tmp_path / "ray", 8, "--pool", "ray", "--ray-address", cluster.address)
    run.start()

    head, other = cluster.raylets

    def kill_on_head(name):
        def found():
            ours = processes_with(f":{run.home}")
            return [number for number, line in ours.items() if name in line and is_below(number, head.pid)]

        wait_for(found)
        os.kill(found()[0], signal.SIGKILL)

    wait_for(lambda: run.num_ended() >= 1 and run.is_training())
    kill_on_head("pools.process")
    wait_for(lambda: run.num_ended() >= 4 and run.is_training())
    kill_on_head("ray::Slot.run")
    wait_for(lambda: run.num_ended() >= 7 and run.is_training())
    other.kill()
    other.wait()  # a zombie counts as alive for its workers
    code, out, error = run.end()
    assert code == 0, error
    assert without_invocation(out) == without_invocation(expected)
    assert len(run.digests()) == 19
    assert run.digests() == serial.digests()
    assert Counter(line["event"] for line in run.log())["lost"] == 3
    assert "its process was killed by signal 9; it is tried again" in error
    assert "its worker was lost; it is tried again" in error
    assert re.search(r"the node \S+ was lost; it is tried again", error)
    assert not re.search(r"\(raylet\)|ray::|core_worker", error)
    wait_for(lambda: not processes_with(f":{run.home}"), 60)  # of ours; the cluster stays
    assert processes_with(mark)


@quiet
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_ctrl_c_on_a_cluster_of_our_own_saves_and_leaves_no_process(folder, tmp_path, mark):
    run = Run(folder, tmp_path / "ray", 60, "--pool", "ray", "--jobs", "2")
    run.start()
    wait_for(lambda: run.num_ended() >= 1 and run.is_training())
    addresses = {address for number in processes_with(mark) for address in listening(number)}
    assert addresses <= {"0100007F", LOOPBACK_6}
    assert addresses
    run.process.send_signal(signal.SIGINT)
    code, out, error = run.end()
    assert (code, out) == (130, ""), error
    assert "Traceback" not in error
    assert "run the same command again to go on from there" in error
    assert {line["event"] for line in run.log()} <= {"begun", "ended", "stopped", "lost"}
    assert any((run.home / "runs" / "stages").glob("*.part/resume.pt"))
    wait_for(lambda: not processes_with(mark), 60)
