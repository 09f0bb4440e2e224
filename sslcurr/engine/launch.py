"""Ranks that torchrun or srun has started: which one this process is, and where all meet."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from torch.distributed import Store

# Processes of a job begin at different times; the first may have to wait for its machine.
MEETING = timedelta(minutes=30)
# As torchrun names them.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
FIRST_PORT, NUM_PORTS = 20_000, 10_000


@dataclass(frozen=True)
class Launch:
    """The place of this process among all.

    Attributes:
        devices: as of `Runtime`: `srun`, or 1, as torchrun needs no option.
        rank, size: of all machines.
        local_rank: of this machine.
        host, port: where they meet.
        is_hosted: whether torchrun has opened that place; else the first rank does.
        attempt: how often torchrun has started them again.
    """

    devices: int | str
    rank: int
    size: int
    local_rank: int
    host: str
    port: int
    is_hosted: bool = False
    attempt: str = "0"

    def store(self) -> Store:
        """Where all meet.

        Raises:
            SpecError: it is not reached.
        """
        from torch.distributed import DistNetworkError, PrefixStore, TCPStore

        is_host = self.rank == 0 and not self.is_hosted
        try:
            store = TCPStore(self.host, self.port, self.size, is_host, MEETING, wait_for_workers=False)
        except DistNetworkError as error:
            reason = str(error).splitlines()[0]
            raise SpecError(
                f"rank {self.rank} cannot meet the others at {self.host}:{self.port} ({reason})",
                "set MASTER_ADDR and MASTER_PORT to a name and a free port of the first machine that all of them reach",
            ) from error
        return PrefixStore(f"sslcurr {self.attempt}", store)


def launch_of(devices: int | str, environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The place of this process among the ranks that torchrun has started, or srun where `devices` says so; None for
    a process that is alone.

    Raises:
        SpecError: srun has not started it; or several devices are asked for besides those of torchrun.
    """
    if devices == "srun":
        return of_srun(environment)
    if not all(environment.get(name) for name in VARIABLES) or environment["WORLD_SIZE"] == "1":
        return None
    if devices != 1:
        raise SpecError(
            f"torchrun has started {environment['WORLD_SIZE']} ranks, and --devices asks for others",
            "leave out --devices",
        )
    return Launch(
        devices=1,
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment["LOCAL_RANK"]),
        host=environment["MASTER_ADDR"],
        port=int(environment["MASTER_PORT"]),
        is_hosted=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def of_srun(environment: Mapping[str, str]) -> Launch | None:
    """The place of this process among the tasks of a step of srun, by the variables that srun sets
    (https://slurm.schedmd.com/srun.html). They meet at the step's first machine, at a port made of the job's number.

    Raises:
        SpecError: srun has not started it.
    """
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
    if not all(environment.get(name) for name in names):
        raise SpecError(
            "--devices srun is for a command that srun starts, and it has not",
            "write: srun --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 sslcurr ... --devices srun",
        )
    rank, size, local_rank, nodes, job = (environment[name] for name in names)
    if size == "1":
        return None
    step = int(environment.get("SLURM_STEP_ID") or 0)
    return Launch(
        devices="srun",
        rank=int(rank),
        size=int(size),
        local_rank=int(local_rank),
        host=environment.get("MASTER_ADDR") or first_host(nodes),
        port=int(environment.get("MASTER_PORT") or FIRST_PORT + (int(job) * 7 + step) % NUM_PORTS),
    )


def first_host(nodes: str) -> str:
    """The first machine of a list as SLURM writes it: `gpu[07-09,12],login` begins with `gpu07`."""
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+)[^\]]*\]([^,\[]*))?", nodes)
    if found is None:
        raise SpecError(f"no machine is named in {nodes!r}", "set MASTER_ADDR to the name of the first machine")
    name, number, rest = found.groups()
    return f"{name}{number or ''}{rest or ''}"
