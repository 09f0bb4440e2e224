"""Pools: what jobs are handed to. One class a pool, in `pools/`; packages bring others by entry points."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from sslcurr.engine.graph import Job
from sslcurr.engine.hardware import may_have_gpus
from sslcurr.engine.jobs import Event
from sslcurr.engine.launch import launch_of
from sslcurr.engine.store import Store
from sslcurr.engine.threads import num_cores
from sslcurr.errors import SpecError
from sslcurr.plugins import Registry
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime
from sslcurr.wording import counted


class Pool(Protocol):
    """Workers that carry out jobs on one store; made of what the command asks for.

    Attributes:
        names: of the workers, such as `worker 1`; events name them by their place. They may change, and more come.
    """

    names: Sequence[str]

    def __init__(self, pooling: Pooling, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Begin.

        Args:
            pooling: how many workers, and where.
            store: its root is what workers get; they do not wait for work that others are at.
            runtime: of trainings.
            report: hears notes while workers start.
        """

    def free(self) -> bool:
        """Whether a worker could begin a job now."""

    def submit(self, job: Job) -> int:
        """Give a job to a free worker; gives its number."""

    def events(self, timeout: float) -> list[Event]:
        """What happened; waits so many seconds for something to happen."""

    def cancel(self) -> list[Event]:
        """Ask all workers to save and stop, and wait for them; gives what happened meanwhile."""

    def close(self) -> None:
        """End all workers, at once where they are at work."""


def _check(name: str, target: object) -> Any:
    if not isinstance(target, type) or not all(hasattr(target, each) for each in ("submit", "events", "cancel")):
        raise SpecError(f"the pool {name} is not a class with submit, events and cancel", "see docs/plugins.md")
    return target


POOLS: Registry[Any] = Registry(
    "pool",
    "sslcurr.pools",
    {
        "here": "sslcurr.engine.pools.here:HerePool",
        "shared": "sslcurr.engine.pools.shared:SharedPool",
        "ray": "sslcurr.engine.pools.ray:RayPool",
    },
    _check,
    SpecError,
)


def num_gpus(device: str) -> int:
    """GPUs that trainings may use: none for `cpu`, one for `cuda:N`."""
    if device == "cpu" or ("torch" not in sys.modules and not may_have_gpus()):
        return 0
    import torch

    if not torch.cuda.is_available():
        return 0
    return 1 if ":" in device else torch.cuda.device_count()


def num_ranks(runtime: Runtime) -> int:
    """How many processes train a stage together.

    Raises:
        SpecError: there are not so many GPUs.
    """
    launch = launch_of(runtime.devices)
    if launch is not None:
        return launch.size
    if not isinstance(runtime.devices, int):
        return max(1, num_gpus(runtime.device)) if runtime.devices == "all" else 1
    gpus = num_gpus(runtime.device) if runtime.devices > 1 else 0
    if gpus and runtime.devices > gpus:
        raise SpecError(
            f"--devices {runtime.devices} finds {counted(gpus, 'GPU')}", "give --devices all, or fewer; or --device cpu"
        )
    return runtime.devices


def num_workers(pooling: Pooling, runtime: Runtime) -> int:
    """How many workers are asked for: `auto` is one for each GPU (or `per_gpu`), else one for every two cores, where
    each has one device.

    With several for each GPU, and no number, it is `auto`.

    Raises:
        SpecError: workers are to share a GPU, and there is none, or are to have several; or there are not so many.
    """
    gpus, ranks = num_gpus(runtime.device), num_ranks(runtime)
    if pooling.per_gpu > 1 and not gpus:
        raise SpecError(f"--per-gpu {pooling.per_gpu} finds no GPU", "leave it out; --jobs N is for CPUs too")
    if pooling.per_gpu > 1 and ranks > 1:
        raise SpecError("--per-gpu is for stages that one GPU trains", "leave out --per-gpu or --devices")
    if pooling.jobs == "auto" or (pooling.jobs is None and pooling.per_gpu > 1):
        return max(1, (gpus * pooling.per_gpu if gpus else num_cores() // 2) // ranks)
    jobs = int(pooling.jobs or 1)
    if jobs > 1 and launch_of(runtime.devices) is not None:
        raise SpecError(f"{ranks} ranks train one stage at a time, not {jobs}", "leave out --jobs")
    if jobs > 1 and ranks > 1 and 0 < gpus < jobs * ranks:
        raise SpecError(
            f"{jobs} jobs on {counted(ranks, 'GPU')} each want {jobs * ranks}, and there are {gpus}",
            "give fewer --jobs or --devices",
        )
    return jobs
