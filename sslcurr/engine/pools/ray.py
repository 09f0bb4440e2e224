"""Workers on a Ray cluster: one actor a slot, which starts a worker process where Ray places it.

Ray places the actors, gives them CPUs and GPUs, and starts them again where there is room when they die. What works
is the process of `sslcurr.engine.pools.process`, as on one machine: it computes with just so many threads, is asked to
save by SIGTERM, and ends by itself, with its stage saved, when its actor is gone. Only plain values go through Ray: a
job, and the events of it.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.pools.child import END_SECONDS, MOST_STARTS, Child, never_begins, python_path
from sslcurr.engine.pools.here import visible_gpus
from sslcurr.engine.pools.process import Beginning
from sslcurr.engine.store import Store
from sslcurr.engine.threads import num_cores, threads_of_each, use_threads
from sslcurr.errors import SpecError, SslcurrError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime
from sslcurr.wording import counted, reason_of

ASK_SECONDS = 1.0  # until an actor that died is asked again whether it is there
LOOK_SECONDS = 10.0  # between two looks at how much room the cluster has
PATIENCE_SECONDS = 30.0  # until it is said that no worker has begun
NOTICE_SECONDS = 60.0  # in which Ray notices that the node of a dead actor is dead too
OBJECT_STORE_BYTES = 100 * 2**20  # of a cluster that is started here: next to nothing goes through it
CPU_THREADS = 2  # of each worker without a GPU, where nobody says
GPU_PARTS = 10_000  # Ray counts these parts of a GPU
MOST_NOTES = 1000  # that wait to be read
REACH_SECONDS = 10.0  # in which the port of a cluster must answer; Ray itself tries for minutes
LOOPBACK = ("127.0.0.1", "::1")
CONNECT_HINT = (
    "run the command on a node of the cluster (ray start --address=HEAD:PORT), with the same versions of Python and "
    "Ray, and the same RAY_AUTH_MODE"
)


class Slot:
    """The actor of a worker; Ray calls each method in a thread of its own.

    Args:
        beginning: a `Beginning` of its process, encoded.
        name: of the worker.
    """

    def __init__(self, beginning: bytes, name: str) -> None:
        self.beginning = msgspec.json.decode(beginning, type=Beginning)
        self.name = name
        self._child: Child | None = None
        self._is_stopping = False
        self._changing = threading.Lock()

    def ready(self) -> bytes:
        """Start the process, if there is none, and wait until it takes jobs.

        Gives an event: `ended`, of no job, with where the worker is (Ray's name of the node, the host, and the GPUs as
        CUDA names them), or an `error`.

        Raises:
            RuntimeError: it failed by a mistake of the program, with its traceback.
        """
        import ray

        if not Path(self.beginning.root).is_dir():
            text = f"there is no store {self.beginning.root} on {socket.gethostname()}, a node of the Ray cluster"
            hint = "give --runs on a disk that all nodes see under the same path"
            return _encoded(self._event("error", text=text, hint=hint, kind="StoreError"))
        starts = 0
        while self._child is None:
            child, starts = Child(self.beginning, {}), starts + 1
            try:
                while not child.is_ready:
                    child.receive()
            except (EOFError, OSError):
                if starts == MOST_STARTS:
                    error = never_begins(self.name, child.ended(self.name))
                    return _encoded(self._event("error", text=str(error), hint=error.hint, kind="TrainingError"))
                child.ended(self.name)
            else:
                self._child = child
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if self.beginning.runtime.device != "cpu" else ""
        seat = {"node": ray.get_runtime_context().get_node_id(), "host": socket.gethostname(), "gpus": gpus}
        return _encoded(self._event("ended", status=seat))

    def run(self, encoded: bytes, board: Any) -> bytes:
        """Have a job carried out; gives the event of its end.

        Args:
            encoded: the job.
            board: the actor that hears of progress.

        Raises:
            RuntimeError: the process failed by a mistake of the program, with its traceback.
        """
        from ray.exceptions import RayError

        job = msgspec.json.decode(encoded, type=Job)
        with self._changing:
            child = self._child
            if child is None or self._is_stopping:
                return _encoded(self._event("lost", job=job.name, text="its worker was stopped"))
            child.send(job)
        try:
            while True:
                event = child.receive()
                if event is not None and event.what not in ("progress", "note"):
                    break
                if event is not None:
                    with suppress(RayError):
                        board.tell.remote(_encoded(event))
            if event.what == "stopped":  # it ends
                self._child = None
                child.end()
        except (EOFError, OSError):
            self._child = None
            event = self._event("lost", job=job.name, text=child.ended(self.name))
        return _encoded(event)

    def stop(self) -> None:
        """Have the stage saved that is being trained; take no more jobs."""
        with self._changing:
            self._is_stopping = True
            if self._child is not None and self._child.job is not None:
                self._child.process.terminate()

    def end(self) -> None:
        """End the process, at once where it is at work; what is being trained is saved where that takes no longer than
        `END_SECONDS`."""
        self.stop()
        child = self._child
        if child is not None:
            if child.job is None:
                child.connection.close()
            child.end()

    def _event(self, what: Any, **values: Any) -> Event:
        return Event(what=what, worker=self.beginning.number, **values)


class Board:
    """The actor that hears of progress, and is read by the command. It may be lost with all that it holds."""

    def __init__(self) -> None:
        self.progress: dict[int, bytes] = {}
        self.notes: list[bytes] = []

    def tell(self, encoded: bytes) -> None:
        """Hear an event; progress takes the place of what the same worker told before."""
        event = msgspec.json.decode(encoded, type=Event)
        if event.what == "progress":
            self.progress[event.worker] = encoded
        elif len(self.notes) < MOST_NOTES:
            self.notes.append(encoded)

    def read(self) -> list[bytes]:
        """What was told since the last call."""
        told = [*self.notes, *self.progress.values()]
        self.notes, self.progress = [], {}
        return told


@dataclass(frozen=True)
class _Loss:
    """A job whose worker is gone, until it is known whether its node is too.

    Attributes:
        job: its name.
        seat: where it was.
        deadline: when that is waited for no longer.
    """

    job: str
    seat: Mapping[str, str]
    deadline: float


@dataclass
class _Worker:
    """An actor and what it is at.

    Attributes:
        asked: the answer that it owes: to `ready`, or to `run` where it has a job; None where it owes none.
        job: the name of its job.
        seat: where it is, as `Slot.ready` has it; None until it has answered.
        ask_at: when it is asked whether it is there; None where it need not be.
        loss: what was lost with it last, while that is not told.
    """

    actor: Any
    asked: Any = None
    job: str | None = None
    seat: Mapping[str, str] | None = None
    ask_at: float | None = 0.0
    loss: _Loss | None = None


class RayPool:
    """See `sslcurr.engine.pool.Pool`. Without a number of jobs it has as many workers as the cluster has room for, also
    when nodes join; one that waits for room is not free."""

    def __init__(self, pooling: Pooling, store: Store, runtime: Runtime, report: Reporter) -> None:
        self.ray = imported_ray(is_local=pooling.ray_address is None)
        self.report = report
        self.per_gpu = pooling.per_gpu
        if not isinstance(runtime.devices, int):
            raise SpecError(f"--devices {runtime.devices} is not for --pool ray", "give a number, such as --devices 2")
        self.ranks = runtime.devices
        self.address = pooling.ray_address
        self.jobs = None if pooling.jobs in (None, "auto") else int(pooling.jobs or 0)
        self.is_ours = not self.ray.is_initialized()
        self.is_cancelled = False
        self.workers: list[_Worker] = []
        self.names: list[str] = []
        self.board: Any = None
        self._reading: Any = None
        self._began = self._looked = time.monotonic()
        self._has_begun = False
        try:
            if self.is_ours:
                with no_signal_handlers(), _Connecting(self.address):
                    self._connect(runtime)
            nodes = self._nodes()
            self.has_gpus = uses_gpus(nodes, runtime.device)
            each = default_threads(nodes, self.per_gpu, self.jobs, gpus=self.has_gpus)
            self.threads = runtime.threads or (each if self.has_gpus else max(1, each // self.ranks))
            use_threads(self.threads)  # so that what is done here has the same bits
            runtime = replace(runtime, threads=self.threads, device="cuda" if self.has_gpus else "cpu")
            self.beginning = Beginning(
                root=str(store.root.resolve()),
                lease=pooling.lease,
                number=0,
                threads=self.threads,
                memory_share=1 / self.per_gpu if self.has_gpus else 1,
                runtime=runtime,
            )
            self._start_board()
            count = self.jobs or self._room()
            if not count:
                gpu = f" and {counted(self.ranks, 'GPU')}" if self.has_gpus else ""
                raise SpecError(
                    f"no node of the Ray cluster has {counted(self.threads * self.ranks, 'CPU')}{gpu}",
                    "give fewer --threads, or --jobs N to wait for nodes that join",
                )
            self._grow(count)
        except BaseException:
            self.close()
            raise

    # ---- the cluster

    def _connect(self, runtime: Runtime) -> None:
        """Connect to the cluster, or start one on this machine."""
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is not None:
            if ":" in runtime.device:
                raise SpecError(f"a Ray cluster chooses the GPUs, not --device {runtime.device}", "give --device auto")
            check_reachable(self.address)
            self.ray.init(address=self.address, **how)
            return
        gpus = visible_gpus(runtime.device)
        threads = threads_of_each(runtime.threads, self.jobs * self.ranks) if self.jobs else runtime.threads
        with environment({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if ":" in runtime.device else {}):
            self.ray.init(
                address="local",
                num_cpus=max(num_cores(), threads * self.ranks * (self.jobs or 1)),
                num_gpus=len(gpus),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **how,
            )
        if any(node["NodeManagerAddress"] not in LOOPBACK for node in self.ray.nodes()):
            self.report.note(  # where a program had imported Ray before
                "Ray listens to the network of this machine; RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 in the environment of "
                "the program keeps it to the machine"
            )

    def _nodes(self) -> list[Mapping[str, float]]:
        """The resources of each living node."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        return room(self._nodes(), self.threads, self.per_gpu, self.ranks, gpus=self.has_gpus)

    def _start_board(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here, "runtime_env": worker_environment()}
        self.board = self.ray.remote(Board).options(**options).remote()

    def _grow(self, count: int) -> None:
        """Have so many workers, if there are fewer."""
        while len(self.workers) < count:
            self.names.append(f"worker {len(self.workers) + 1}")
            self.workers.append(_Worker(self._actor(len(self.workers))))

    def _actor(self, number: int) -> Any:
        options = {
            "num_cpus": self.threads * self.ranks,
            "num_gpus": gpu_share(self.per_gpu) * self.ranks if self.has_gpus else 0,
            "max_restarts": -1,
            "max_concurrency": 4,  # `stop` and `end` are heard while `run` goes on
            "runtime_env": worker_environment(),
        }
        beginning = _encoded(msgspec.structs.replace(self.beginning, number=number))
        return self.ray.remote(Slot).options(**options).remote(beginning, self.names[number])

    # ---- jobs

    def free(self) -> bool:
        """Whether a worker has answered and waits for a job."""
        return any(_is_free(worker) for worker in self.workers)

    def submit(self, job: Job) -> int:
        """Send a job to the first worker that waits for one."""
        number = next(n for n, worker in enumerate(self.workers) if _is_free(worker))
        worker = self.workers[number]
        worker.job = job.name
        worker.asked = worker.actor.run.remote(_encoded(job), self.board)
        return number

    def events(self, timeout: float) -> list[Event]:
        """What workers said; those that are gone are asked until they are there again.

        Raises:
            RuntimeError: a worker failed by a mistake of the program, with its traceback.
        """
        self._look()
        asked = {worker.asked: number for number, worker in enumerate(self.workers) if worker.asked is not None}
        if not asked:
            time.sleep(timeout)
        events = []
        for answer in self._answered(list(asked), timeout):
            events += self._hear(asked[answer], answer)
        return [*events, *self._losses(), *self._told()]

    def _look(self) -> None:
        """Ask workers whether they are there, and take more of them where the cluster has grown."""
        now = time.monotonic()
        if self.is_cancelled:
            return
        if self.jobs is None and now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._grow(self._room())
        for worker in self.workers:
            if worker.ask_at is not None and worker.ask_at <= now:
                worker.asked, worker.ask_at = worker.actor.ready.remote(), None
        if not self._has_begun and now - self._began > PATIENCE_SECONDS:
            self._has_begun = True
            self.report.note("no worker has begun yet: the Ray cluster has no room, or starts them slowly; ray status")

    def _answered(self, asked: list[Any], timeout: float) -> list[Any]:
        """Those answers that are there; waits for the first one."""
        if not asked or not self.ray.wait(asked, timeout=timeout)[0]:
            return []
        answered: list[Any] = self.ray.wait(asked, num_returns=len(asked), timeout=0)[0]
        return answered

    def _hear(self, number: int, answer: Any) -> list[Event]:
        """What an answer says; a worker that is gone is asked again later."""
        from ray.exceptions import ActorDiedError, RayError, RayTaskError, RuntimeEnvSetupError

        worker = self.workers[number]
        job, worker.job, worker.asked = worker.job, None, None
        try:
            encoded = self.ray.get(answer)
        except (RayTaskError, RuntimeEnvSetupError):
            raise
        except RayError as error:
            now = time.monotonic()
            if job is not None and worker.seat is not None:
                worker.loss = _Loss(job, worker.seat, now + NOTICE_SECONDS)
            elif isinstance(error, ActorDiedError):  # Ray starts it no more
                worker.actor = self._actor(number)
            worker.seat, worker.ask_at = None, now + ASK_SECONDS
            return []
        event = msgspec.json.decode(encoded, type=Event)
        if job is None and event.what == "ended":
            self._seated(number, event.status)
            return []
        if event.what in ("stopped", "lost"):
            worker.seat, worker.ask_at = None, 0.0
            if not self.is_cancelled:  # by somebody who is not the command
                text = event.text if event.what == "lost" else "its process was stopped"
                event = msgspec.structs.replace(event, what="lost", text=text)
        return [event]

    def _seated(self, number: int, seat: Mapping[str, str]) -> None:
        self.workers[number].seat = seat
        self._has_begun = True
        gpus = f", GPU {seat['gpus']}" if seat["gpus"] else ""
        self.names[number] = f"worker {number + 1} ({seat['host']}{gpus})"

    def _losses(self) -> list[Event]:
        """The jobs that were lost with their workers. Ray notices later that a node is dead, at the latest when it
        starts the actor elsewhere."""
        if not any(worker.loss for worker in self.workers):
            return []
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        events = []
        for number, worker in enumerate(self.workers):
            loss = worker.loss
            if loss is None:
                continue
            by_machine = loss.seat["node"] not in alive
            is_known = by_machine or worker.seat is not None or self.is_cancelled or time.monotonic() > loss.deadline
            if is_known:
                worker.loss = None
                text = f"the node {loss.seat['host']} was lost" if by_machine else "its worker was lost"
                events.append(Event(what="lost", worker=number, job=loss.job, text=text, by_machine=by_machine))
        return events

    def _told(self) -> list[Event]:
        """What the board has heard of the jobs at hand; whatever happens to it, the work goes on."""
        from ray.exceptions import RayError

        if self._reading is None:
            self._reading = self.board.read.remote()
        if not self.ray.wait([self._reading], timeout=0)[0]:
            return []
        reading, self._reading = self._reading, None
        try:
            events = [msgspec.json.decode(encoded, type=Event) for encoded in self.ray.get(reading)]
        except RayError:
            return []
        return [event for event in events if event.what == "note" or self.workers[event.worker].job == event.job]

    # ---- the end

    def cancel(self) -> list[Event]:
        """Ask all to save and stop, and wait until they have."""
        self.is_cancelled = True
        for worker in self.workers:
            if worker.job is not None:
                worker.actor.stop.remote()
        events = []
        while any(worker.job is not None for worker in self.workers):
            events += self.events(1.0)
        return events

    def close(self) -> None:
        """End all workers, and the cluster where it was started here; leave another one as it was."""
        if not self.ray.is_initialized():
            return
        ending = [worker.actor.end.remote() for worker in self.workers if worker.seat is not None]
        if ending:
            self.ray.wait(ending, num_returns=len(ending), timeout=END_SECONDS * 1.5)
        for actor in [*(worker.actor for worker in self.workers), self.board]:
            if actor is not None:
                self.ray.kill(actor)
        if self.is_ours:
            self.ray.shutdown()


# ---- what it is made of


def imported_ray(*, is_local: bool) -> Any:
    """The package ray, told to be quiet.

    Args:
        is_local: whether a cluster is to be started here, which then listens on this machine's own address only.

    Raises:
        SpecError: it is not installed.
    """
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the default of later versions; else it warns
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # lines that are not printed: of dead workers it tells on stdout
    }
    if is_local:
        quiet["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on every system: 127.0.0.1 is the node's address
    for name, value in quiet.items():  # read while it is imported, and by the processes that it starts
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SpecError("--pool ray needs the package ray", "pip install 'sslcurr[ray]'") from error
    return ray


class _Connecting:
    """Turns what goes wrong while Ray connects or starts into one line; some of it has no class of its own."""

    def __init__(self, address: str | None) -> None:
        self.address = address

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, SslcurrError):
            return
        reason = reason_of(error)
        if self.address is None:
            raise SpecError(
                f"Ray does not start on this machine: {reason}",
                "a busy machine may be too slow for its time limits: try again, or give --pool here --jobs N",
            ) from error
        raise SpecError(f"cannot connect to the Ray cluster {self.address}: {reason}", CONNECT_HINT) from error


def check_reachable(address: str) -> None:
    """See that something listens at HOST:PORT; another form of address is left to Ray.

    Raises:
        SpecError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SpecError(f"no Ray cluster answers at {address}: {reason_of(error)}", CONNECT_HINT) from error


@contextmanager
def no_signal_handlers() -> Iterator[None]:
    """Keep this process's handlers of signals, whatever is called within; and hear no warnings."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables of the environment within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def worker_environment() -> dict[str, Any]:
    """The runtime environment of an actor: it imports this very package."""
    return {"env_vars": {"PYTHONPATH": python_path()}}


def uses_gpus(nodes: Iterable[Mapping[str, float]], device: str) -> bool:
    """Whether workers have GPUs.

    Args:
        nodes: the resources of each.
        device: as of `Runtime`.

    Raises:
        SpecError: GPUs are asked for, and there are none.
    """
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    if device.startswith("cuda") and not has_gpus:
        raise SpecError("the Ray cluster has no GPU", "give --device auto or cpu")
    return has_gpus and device != "cpu"


def default_threads(nodes: Iterable[Mapping[str, float]], per_gpu: int, jobs: int | None, *, gpus: bool) -> int:
    """CPU threads of each worker where nobody says: the CPUs of the smallest node, shared out.

    Args:
        nodes: the resources of each.
        per_gpu: workers that share a GPU.
        jobs: workers; None is as many as there is room for.
        gpus: whether they have GPUs.
    """
    usable = [node for node in nodes if node.get("CPU", 0) >= 1 and (not gpus or node.get("GPU", 0) >= 1)]
    if gpus:
        shares = [int(node["CPU"]) // (int(node["GPU"]) * per_gpu) for node in usable]
    elif jobs is None:
        shares = [min(CPU_THREADS, int(node["CPU"])) for node in usable]
    else:
        shares = [int(node["CPU"]) // math.ceil(jobs / len(usable)) for node in usable]
    return max(1, min(shares, default=1))


def room(nodes: Iterable[Mapping[str, float]], threads: int, per_gpu: int, ranks: int = 1, *, gpus: bool) -> int:
    """How many workers nodes have room for.

    Args:
        nodes: the resources of each, `CPU` and `GPU`.
        threads: CPU threads of each rank of a worker.
        per_gpu: workers that share a GPU.
        ranks: processes of a worker that train a stage together, each on a GPU.
        gpus: whether they have GPUs.
    """
    total = 0
    for node in nodes:
        by_cpus = int(node.get("CPU", 0)) // (threads * ranks)
        total += min(by_cpus, int(node.get("GPU", 0)) * per_gpu // ranks) if gpus else by_cpus
    return total


def gpu_share(per_gpu: int) -> float:
    """The part of a GPU that each of some workers asks Ray for; rounded down, so that all have room."""
    return GPU_PARTS // per_gpu / GPU_PARTS


def _is_free(worker: _Worker) -> bool:
    return worker.seat is not None and worker.asked is None


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)
