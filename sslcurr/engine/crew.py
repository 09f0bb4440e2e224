"""The processes that train stages together with this one, and that live from stage to stage.

This process is the first rank: it plans, packs, holds claims, writes and reports. The others wait for its orders, train
what it trains with an empty hand, and keep nothing. They are started here, for `--devices`, or by torchrun or srun, on
any machines that see the same files.

`python -m sslcurr.engine.crew PORT RANK SIZE NUMBER` is a rank that was started here.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sslcurr import errors
from sslcurr.engine.launch import Launch, launch_of
from sslcurr.engine.pool import num_gpus, num_ranks
from sslcurr.engine.pools.child import MOST_STARTS, Spawned, never_begins
from sslcurr.engine.threads import threads_of_each, use_threads
from sslcurr.errors import Interrupted, SpecError, SslcurrError, TrainingError
from sslcurr.progress import Reporter
from sslcurr.spec.record import StageRecord
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import Json, StageSpec, stage_from_dict, to_dict
from sslcurr.tasks import TASKS, task_class
from sslcurr.wording import counted

if TYPE_CHECKING:
    from torch.distributed import Store

    from sslcurr.world import World

# How long a rank is waited for before it counts as gone. One that dies is known at once, as its connections close.
PATIENCE = timedelta(minutes=10)
# How long ranks have to say why they left a stage, in seconds.
ANSWER_SECONDS = 10.0
TURN_SECONDS = 0.01  # of waiting for what comes at any time
BEAT_SECONDS = 1.0  # between two signs of life
MOST_LOSSES = 3  # of ranks in one stage, before it is given up
# Images that each rank has of a step, at least: with fewer, more is sent than computed.
LEAST_IMAGES = 4


class Order(msgspec.Struct, kw_only=True):
    """A stage that all ranks train, or their end.

    Attributes:
        spec: of the stage, as plain values; None ends the crew.
        key, parent, runtime: as of `fit`.
        backend: of torch.distributed.
    """

    spec: Json | None = None
    key: str = ""
    parent: str | None = None
    runtime: Runtime = Runtime()
    backend: str = ""


class Failure(msgspec.Struct):
    """Why a rank could not train: the class of an error, its text and its hint."""

    kind: str
    text: str
    hint: str


def written(content: msgspec.Struct) -> str:
    """As the store takes it."""
    return msgspec.json.encode(content).decode()


class RankLost(Exception):
    """A rank that was started here has died."""


class Pulse:
    """Signs of life of a rank, and its ear for those of others. Where these are silent it ends the process, whatever
    that is waiting for: not every wait of every backend has a limit that holds, and nothing comes back from a machine
    that is cut off, not even an error.

    Args:
        store: where all meet.
        rank, size: of this process.
        others: ranks without which it can do nothing, and whose lives are not known otherwise.
    """

    def __init__(self, store: Store, rank: int, size: int, others: Sequence[int]) -> None:
        self.store = store.clone()  # a connection of its own: others may hang
        self.name = f"rank {rank} of {size}"
        self.rank = rank
        self.others = others
        self.stage: int | None = None
        self.over = 0.0  # when it was first seen that the others have left the stage
        self.heard = time.monotonic()  # of all of them
        self.has_ended = False
        threading.Thread(target=self._beat, daemon=True).start()
        if others:
            threading.Thread(target=self._watch, daemon=True).start()

    def enter(self, number: int) -> None:
        """From here on the first rank needs the others."""
        self.heard, self.over, self.stage = time.monotonic(), 0.0, number

    def leave(self) -> None:
        """It needs them no more."""
        self.stage = None

    def end(self) -> None:
        """No more signs of life, and none that are waited for."""
        self.has_ended = True

    def _beat(self) -> None:
        """Say again and again that this rank lives; hear of the others."""
        from torch.distributed import DistError

        known: dict[int, bytes] = {}
        with suppress(DistError):
            for beat in itertools.count():
                if self.has_ended:
                    return
                self.store.set(f"pulse {self.rank}", str(beat))
                names = [f"pulse {other}" for other in self.others]
                if names and self.store.check(names):
                    now = dict(zip(self.others, self.store.multi_get(names), strict=True))
                    if all(now[other] != known.get(other) for other in self.others):
                        known, self.heard = now, time.monotonic()
                stage = self.stage
                if self.rank and stage is not None and not self.over and self.store.check([f"over {stage}"]):
                    self.over = time.monotonic()
                time.sleep(BEAT_SECONDS)
        time.sleep(2 * BEAT_SECONDS)  # the store is gone; the process itself may end of it, and better
        if self.others and not self.has_ended:
            self._end("the first rank is gone" if self.rank else "the others cannot be reached")

    def _watch(self) -> None:
        """End the process where others are silent, or have left it behind in a stage."""
        while True:
            time.sleep(BEAT_SECONDS)
            if self.has_ended:
                return
            now, is_needed = time.monotonic(), self.rank or self.stage is not None
            if is_needed and now - self.heard > 1.5 * PATIENCE.total_seconds():  # other limits come first
                self._end("another rank is silent" if self.rank == 0 else "the first rank is silent")
            if self.stage is not None and self.over and now - self.over > ANSWER_SECONDS:
                self._end("it does not come out of a stage that others have left")

    def _end(self, reason: str) -> None:
        print(f"error: {self.name}: {reason}", file=sys.stderr)
        print("hint: run the same command again to go on from the last save", file=sys.stderr, flush=True)
        os._exit(1)


class Crew:
    """The other ranks, as the first one sees them.

    Args:
        store: where all meet.
        size: ranks, with this one.
    """

    def __init__(self, store: Store, size: int) -> None:
        self.store = store
        self.size = size
        self.number = 0  # of the next order
        self.pulse = Pulse(store, 0, size, self.watched())

    def watched(self) -> Sequence[int]:
        """The ranks whose signs of life are all that is known of them."""
        return range(1, self.size)

    @contextmanager
    def stage(self, order: Order) -> Iterator[World]:
        """The world of a stage that all train from here on; they part at its end, however it ends.

        Raises:
            SslcurrError: another rank cannot train it, or is gone.
            RankLost: a rank has died that can be started again.
        """
        from torch.distributed import PrefixStore

        from sslcurr.engine import ranks

        self.prepare()
        number, self.number = self.number, self.number + 1
        self.store.set(f"order {number}", written(order))
        self.pulse.enter(number)
        try:
            hosts = {socket.gethostname(), *self._hosts(number)}
            ranks.join(0, self.size, PrefixStore(f"stage {number}", self.store), order.backend, PATIENCE)
            yield ranks.Ranks(nodes=len(hosts))
        except BaseException as error:
            if not ranks.is_parting(error):
                raise
            ranks.leave()  # so that those who wait for this one part, too
            raise self.reason(number) from error
        finally:
            ranks.leave()
            self.pulse.leave()
            with suppress(RuntimeError):  # the store may be gone
                self.store.set(f"over {number}", "")

    def _hosts(self, number: int) -> Iterator[str]:
        """The machines of the other ranks, as they take the order."""
        from torch.distributed import DistStoreError

        deadline = time.monotonic() + PATIENCE.total_seconds()
        for rank in range(1, self.size):
            name = f"taken {number} {rank}"
            while not self.store.check([name]):
                self.look()
                if time.monotonic() > deadline:
                    raise DistStoreError(f"rank {rank} took no order")
                time.sleep(TURN_SECONDS)
            yield self.store.get(name).decode()

    def prepare(self) -> None:
        """See that all ranks are there."""

    def look(self) -> None:
        """See that no rank has died.

        Raises:
            RankLost: one has that can be started again.
        """

    def reason(self, number: int) -> Exception:
        """Why the ranks parted in a stage."""
        deadline = time.monotonic() + ANSWER_SECONDS
        left: set[int] = set()
        while len(left) < self.size - 1 and time.monotonic() < deadline:
            for rank in range(1, self.size):
                if self.store.check([f"failed {number} {rank}"]):
                    failure = msgspec.json.decode(self.store.get(f"failed {number} {rank}"), type=Failure)
                    kind: Any = getattr(errors, failure.kind)
                    return kind(f"rank {rank} of {self.size}: {failure.text}", failure.hint)
                if self.store.check([f"left {number} {rank}"]):
                    left.add(rank)
            self.look()
            time.sleep(TURN_SECONDS)
        gone = [str(rank) for rank in range(1, self.size) if rank not in left]
        what = f"rank {', '.join(gone)} of {self.size} is gone" if gone else "the ranks lost their connections"
        return SslcurrError(what, "run the same command again to go on from the last save")

    def end(self) -> None:
        """Send the other ranks home, and give them time to hear of it."""
        deadline = time.monotonic() + ANSWER_SECONDS
        with suppress(RuntimeError):  # the store may be gone
            self.store.set(f"order {self.number}", written(Order()))
            while not self.store.check([f"home {rank}" for rank in self.watched()]) and time.monotonic() < deadline:
                time.sleep(TURN_SECONDS)
        self.pulse.end()


class OwnCrew(Crew):
    """Ranks that this process starts on its own machine, and starts again where they die.

    Args:
        size: ranks, with this one.
        threads: CPU threads of each.
    """

    def __init__(self, size: int, threads: int) -> None:
        from torch.distributed import TCPStore

        self.helpers: dict[int, Spawned] = {}
        self.threads = threads
        with socket.socket() as listening:  # nobody from other machines comes in
            listening.bind(("127.0.0.1", 0))
            listening.listen(size)
            self.port = listening.getsockname()[1]
            store = TCPStore(
                *("127.0.0.1", self.port, size, True, PATIENCE),
                wait_for_workers=False,
                master_listen_fd=listening.detach(),
            )
        super().__init__(store, size)
        self._starts = dict.fromkeys(range(1, size), 0)

    def watched(self) -> Sequence[int]:
        """None: their processes are known."""
        return ()

    def prepare(self) -> None:
        """Start those that are not there."""
        os.environ |= loopback()
        for rank in range(1, self.size):
            helper = self.helpers.get(rank)
            if helper is not None and helper.process.poll() is not None:
                helper.end()  # it died while there was nothing to do
            if helper is None or helper.process.poll() is not None:
                self._starts[rank] += 1
                words = map(str, (self.port, rank, self.size, self.number))
                self.helpers[rank] = Spawned(
                    "sslcurr.engine.crew", list(words), threads=self.threads, environment=loopback()
                )

    def look(self) -> None:
        """As of `Crew`.

        Raises:
            RankLost: one has died.
            TrainingError: one died each time before it took an order.
            RuntimeError: one failed by a mistake of the program, with its traceback.
        """
        for rank, helper in list(self.helpers.items()):
            if helper.process.poll() is not None:
                del self.helpers[rank]
                name = f"rank {rank} of {self.size}"
                reason = helper.ended(name)
                if self._starts[rank] >= MOST_STARTS:
                    raise never_begins(name, reason)
                raise RankLost(f"{name}: {reason}")

    def _hosts(self, number: int) -> Iterator[str]:
        """As of `Crew`."""
        yield from super()._hosts(number)
        self._starts = dict.fromkeys(self._starts, 0)  # all have begun

    def end(self) -> None:
        """As of `Crew`; waits for them."""
        super().end()
        for helper in self.helpers.values():
            helper.end()
        self.helpers.clear()


def loopback() -> dict[str, str]:
    """Variables that keep the talk of ranks on one machine within it, whatever its name resolves to."""
    names = {name for _, name in socket.if_nameindex()}
    known = next((name for name in ("lo", "lo0") if name in names), None)
    return {} if known is None or "GLOO_SOCKET_IFNAME" in os.environ else {"GLOO_SOCKET_IFNAME": known}


# ---- the first rank's side

# They live from stage to stage; a process has one for each number of ranks and threads that it was asked for.
_crews: dict[tuple[int, int], Crew] = {}


def crew_of(runtime: Runtime) -> Crew | None:
    """The other ranks that train with this process; None where it trains alone.

    Raises:
        SpecError: there are not so many GPUs, or this process is not the first of those that torchrun started.
    """
    launch, size = launch_of(runtime.devices), num_ranks(runtime)
    if size == 1:
        return None
    threads = threads_of_each(runtime.threads, size)
    if launch is None:
        use_threads(threads)  # as the others
    elif launch.rank:
        raise SpecError(
            f"this process is rank {launch.rank} of {launch.size}", "call sslcurr in the first rank, or as a command"
        )
    known = (size, threads if launch is None else 0)
    if known not in _crews:
        crew = _crews[known] = OwnCrew(size, threads) if launch is None else Crew(launch.store(), size)
        atexit.register(crew.end)
    return _crews[known]


def check_ranks(specs: Sequence[StageSpec], runtime: Runtime) -> None:
    """See that stages can be trained by as many ranks as are asked for.

    Raises:
        SpecError: a batch is too small, a task does not know of ranks, or there are not so many GPUs.
    """
    size = num_ranks(runtime)
    if size == 1:
        return
    for spec in specs:
        training, kind = spec.training, task_class(spec.task)
        least = LEAST_IMAGES * size * training.accumulate
        if training.batch_size < least:
            raise SpecError(
                f"{spec.task} has {training.batch_size} images in a step, too few for {size} ranks",
                f"give --batch-size {least} or more, or fewer --devices",
            )
        if not vars(kind).get("over_ranks", False):
            raise SpecError(
                f"the task {spec.task} does not say that several ranks may train it",
                "train it without --devices; docs/plugins.md says what a task has to do for them",
            )
        if not TASKS.is_installed(spec.task):
            raise SpecError(
                f"the task {spec.task} is known to this process only",
                "install it as a package, as docs/plugins.md says, or train without --devices",
            )


def train(
    spec: StageSpec, key: str, part: Path, parent: Path | None, runtime: Runtime, report: Reporter
) -> StageRecord:
    """Train a stage, as `sslcurr.engine.train.train`, by as many ranks as `runtime` asks for.

    Where a rank dies that was started here, the stage goes on from its last save.

    Raises:
        SslcurrError: as of `train`; or a rank is gone that somebody else has started.
        TrainingError: ranks died of it, again and again.
    """
    from sslcurr.engine.train import train as train_here

    crew = crew_of(runtime)
    if crew is None:
        return train_here(spec, key, part, parent, runtime, report)
    check_ranks([spec], runtime)
    order = Order(
        spec=to_dict(spec),
        key=key,
        parent=None if parent is None else str(parent.resolve()),
        runtime=runtime,
        backend="nccl" if num_gpus(runtime.device) else "gloo",
    )
    for losses in itertools.count(1):
        try:
            with crew.stage(order) as world:
                return train_here(spec, key, part, parent, runtime, report, world)
        except RankLost as lost:
            if losses == MOST_LOSSES:
                raise TrainingError(
                    f"{lost}, {counted(MOST_LOSSES, 'time')}", "was there enough memory? give a smaller batch size"
                ) from lost
            report.note(f"{lost}; {spec.task} goes on from its last save")
    raise AssertionError


# ---- the other ranks' side


class Line:
    """What another rank has of the first one.

    Args:
        store: where all meet.
        rank, size: of this process.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.store = store
        self.rank = rank
        self.size = size
        self.pulse = Pulse(store, rank, size, [0])

    def order(self, number: int) -> Order | None:
        """Wait for an order; None where the first rank is gone."""
        from torch.distributed import DistNetworkError

        try:
            while not self.store.check([f"order {number}"]):  # `wait` would warn each time that it waits in vain
                time.sleep(TURN_SECONDS)
            return msgspec.json.decode(self.store.get(f"order {number}"), type=Order)
        except DistNetworkError:
            return None

    def tell(self, what: str, number: int, content: str = "") -> None:
        """Let the first rank know."""
        self.store.set(f"{what} {number} {self.rank}", content)

    def await_end(self, number: int) -> None:
        """Wait until the first rank has noticed that this one has left a stage, by its connections.

        Raises:
            SystemExit: it has not; it will when the process ends.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.store.check([f"over {number}"]):
            if time.monotonic() > deadline:
                raise SystemExit(1)
            time.sleep(TURN_SECONDS)

    @contextmanager
    def stage(self, number: int, backend: str) -> Iterator[World]:
        """The world of a stage."""
        from torch.distributed import PrefixStore

        from sslcurr.engine import ranks

        self.pulse.enter(number)
        try:
            ranks.join(self.rank, self.size, PrefixStore(f"stage {number}", self.store), backend, PATIENCE)
            yield ranks.Ranks()
        finally:
            ranks.leave()
            self.pulse.leave()


def serve(line: Line, local_rank: int, number: int = 0) -> None:
    """Train what the first rank orders, until it sends this one home or is gone.

    Args:
        line: to the first rank.
        local_rank: which of the processes of its machine this one is: the number of its GPU.
        number: of the first order that is for it.
    """
    from torch.distributed import DistError

    for current in itertools.count(number):
        order = line.order(current)
        if order is None or order.spec is None:
            line.pulse.end()
            with suppress(DistError):
                line.store.set(f"home {line.rank}", "")
            return
        with suppress(DistError):  # the first rank is gone; the next look says so
            line.tell("taken", current, socket.gethostname())
            help_with(order, line, current, local_rank)


def help_with(order: Order, line: Line, number: int, local_rank: int) -> None:
    """Train a stage as one of its ranks, and say why where that cannot be done."""
    from sslcurr.engine import ranks
    from sslcurr.engine.train import fit

    assert order.spec is not None
    use_threads(order.runtime.threads)
    device = device_of(order.backend, local_rank)
    quiet: dict[str, Any] = {"tracker": (), "tensorboard": False, "save_steps": 0, "save_minutes": float("inf")}
    runtime = replace(order.runtime, device=device, devices=1, **quiet)
    parent = None if order.parent is None else Path(order.parent)
    try:
        with line.stage(number, order.backend) as world, tempfile.TemporaryDirectory(prefix="sslcurr-rank-") as folder:
            fit(stage_from_dict(order.spec), order.key, Path(folder), parent, runtime, Reporter(), world)
    except Interrupted:  # all were
        pass
    except SslcurrError as error:
        line.tell("failed", number, written(Failure(type(error).__name__, str(error), error.hint)))
        line.await_end(number)
    except (ranks.Left, RuntimeError) as error:
        if not ranks.is_parting(error):
            raise
    line.tell("left", number)
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()


def device_of(backend: str, local_rank: int) -> str:
    """The device of a rank; where a process sees one GPU only, that is its own."""
    if backend != "nccl":
        return "cpu"
    import torch

    return f"cuda:{local_rank if torch.cuda.device_count() > 1 else 0}"


def main(port: int, rank: int, size: int, number: int) -> None:
    """A rank that another process of this machine has started."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", port, size, False, PATIENCE, wait_for_workers=False)
    serve(Line(store, rank, size), rank, number)


def begin(launch: Launch) -> None:
    """Take one's place among the ranks that torchrun or srun has started: the first goes on with its command; others
    help it to its end, and do not return.

    Raises:
        SystemExit: the first rank needs no more help.
    """
    if launch.rank == 0:
        crew_of(Runtime(devices=launch.devices))
        return
    try:
        serve(Line(launch.store(), launch.rank, launch.size), launch.local_rank)
    except KeyboardInterrupt:  # the first rank has it too, and says so
        raise SystemExit(128 + signal.SIGINT) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
