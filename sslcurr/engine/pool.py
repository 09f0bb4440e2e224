"""Pools: what jobs are handed to. One class a pool, in `pools/`; packages bring others by entry points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event
from sslcurr.engine.store import Store
from sslcurr.engine.threads import num_cores
from sslcurr.errors import SpecError
from sslcurr.plugins import Registry
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime


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
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return 0
    return 1 if ":" in device else torch.cuda.device_count()


def num_workers(pooling: Pooling, device: str) -> int:
    """How many workers are asked for: `auto` is one for each GPU (or `per_gpu`), else one for every two cores.

    With several for each GPU, and no number, it is `auto`.

    Raises:
        SpecError: workers are to share a GPU, and there is none.
    """
    if pooling.per_gpu > 1 and not num_gpus(device):
        raise SpecError(f"--per-gpu {pooling.per_gpu} finds no GPU", "leave it out; --jobs N is for CPUs too")
    if pooling.jobs != "auto" and (pooling.jobs is not None or pooling.per_gpu == 1):
        return int(pooling.jobs or 1)
    gpus = num_gpus(device)
    return gpus * pooling.per_gpu if gpus else max(1, num_cores() // 2)
