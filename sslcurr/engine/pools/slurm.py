"""Workers as jobs of SLURM: one array, submitted by submitit.

A job starts its worker as a process of its own, so that the signals of SLURM, of submitit and of the training do not
meet in one process. `sslcurr.engine.signals` saves a stage on the first SIGTERM and stops at once on a second one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.errors import SpecError, TrainingError
from sslcurr.spec.ranges import in_range
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

# Before the time limit, SLURM warns a job this long, in seconds. A worker then has so long to save; what is left is
# for queueing the job again.
WARNING_SECONDS = 120
SAVING_SECONDS = 90
# A job that was told to end waits this long for SLURM, in seconds, which ends it or queues it again.
ENDING_SECONDS = 300
# A job is queued again at most so often at its time limit; preemptions do not count.
MOST_REQUEUES = 100
# A job must train for longer than it is warned before its end. In minutes.
SHORTEST_TIME = 10
# Exit codes of a worker that SIGTERM ended: after its save, and before it could handle the signal.
TOLD_TO_END = (128 + signal.SIGTERM, -signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What the workers ask SLURM for.

    Attributes:
        partition: where they run.
        num_workers: jobs of the array, all of which may run at once.
        gpus_per_worker: of each job; 0 trains on the CPU.
        devices: GPUs that train each stage together; with fewer than `gpus_per_worker` several stages at once.
        cpus_per_worker: cores of each, which are also its threads.
        memory: GB of each; None leaves it to the partition.
        time: limit of a job, in minutes; it is queued again when that has come.
        account, qos, constraint: as sbatch has them.
        setup: lines of shell that run before the worker, such as `module load cuda`.

    Raises:
        SpecError: a value that cannot be.
    """

    partition: str
    num_workers: int
    gpus_per_worker: int = 1
    devices: int = 1
    cpus_per_worker: int = 4
    memory: float | None = None
    time: int = 240
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.setup, str):
            raise SpecError("lines of the set-up are several", f"give setup=[{self.setup!r}]")
        in_range("--workers", self.num_workers, 1)
        in_range("--gpus-per-worker", self.gpus_per_worker, 0)
        in_range("--cpus-per-worker", self.cpus_per_worker, 1)
        if self.devices > max(1, self.gpus_per_worker):
            raise SpecError(
                f"--devices {self.devices} needs as many GPUs in a job", f"give --gpus-per-worker {self.devices}"
            )
        in_range("--time", self.time, SHORTEST_TIME)
        if self.memory is not None:
            in_range("--memory", self.memory, 0, above=True)

    def parameters(self) -> dict[str, Any]:
        """These values as submitit's `SlurmExecutor` names them; None leaves a directive out."""
        return {
            "job_name": "sslcurr",
            "partition": self.partition,
            "time": self.time,
            "nodes": 1,
            "ntasks_per_node": 1,
            "gpus_per_node": self.gpus_per_worker or None,
            "cpus_per_task": self.cpus_per_worker,
            "mem": None if self.memory is None else f"{math.ceil(self.memory * 1024)}M",
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "setup": list(self.setup) or None,
            "signal_delay_s": WARNING_SECONDS,
            "array_parallelism": self.num_workers,
            "stderr_to_stdout": True,
            "wckey": None,  # submitit's own, which sites that keep such keys do not know
            "srun_args": ["--cpus-per-task", str(self.cpus_per_worker)],  # SLURM 22.05 does not hand them to srun
            "additional_parameters": {"requeue": True},  # some sites forbid it unless a job asks for it
        }

    def worker(self, runs: Path) -> list[str]:
        """The command line of each worker, on the store at the absolute path `runs`."""
        words = [sys.executable, "-m", "sslcurr", "work", "--runs", str(runs), "--until-idle"]
        words += ["--threads", str(max(1, self.cpus_per_worker // max(1, self.gpus_per_worker)))]
        if self.devices > 1:
            words += ["--devices", str(self.devices)]
        if self.gpus_per_worker > 1:
            return [*words, "--jobs", "auto"]  # as many at once as there are GPUs for
        return words if self.gpus_per_worker else [*words, "--device", "cpu"]


class Worker:
    """A worker as a job of submitit, which pickles it, calls it on a node, and tells it when the job has to end.

    At the time limit and at a preemption that SLURM announces by the signal of `--signal`, submitit calls `checkpoint`
    and queues the job again. SIGTERM alone means that SLURM cancels or preempts the job, and decides on its own whether
    it is queued again: the worker saves, and the job waits for what SLURM does.

    Args:
        command: the worker's command line.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False

    def __call__(self) -> None:
        """Run the worker to its end.

        Raises:
            TrainingError: it failed.
            SystemExit: it was told to end, and SLURM neither ended this job nor queued it again.
        """
        from submitit import JobEnvironment

        # SLURM may send the warning to all processes of a step, and it would kill one that does not handle it.
        warning = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
        ignore = functools.partial(signal.signal, warning, signal.SIG_IGN)
        self._child = subprocess.Popen(self.command, preexec_fn=ignore)
        signal.signal(signal.SIGTERM, lambda *_: self._ask())
        try:
            code = self._child.wait()
        finally:
            self._end()  # where an exception of a signal's handler came out of `wait`
            self._child.poll()
        if code in TOLD_TO_END:
            time.sleep(ENDING_SECONDS)
            sys.exit(128 + signal.SIGTERM)
        if code:
            raise TrainingError(f"the worker ended with exit code {code}", "what it says is above, in this log")

    def checkpoint(self) -> DelayedSubmission:
        """Let the worker save and end, and give what submitit queues again: the same worker."""
        from submitit.helpers import DelayedSubmission

        self._end()
        return DelayedSubmission(Worker(self.command))

    def _ask(self) -> None:
        """Ask the worker to save and end, once."""
        if self._child is not None and not self._asked:
            self._asked = True
            self._child.send_signal(signal.SIGTERM)

    def _end(self) -> None:
        """Ask the worker to save and end, and wait for it."""
        self._ask()
        deadline = time.monotonic() + SAVING_SECONDS
        while self._child is not None and not _has_ended(self._child.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def _has_ended(child: int) -> bool:
    """Whether a child has ended; it stays for `Popen.wait`, whose lock a handler of a signal cannot take."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def script(allocation: Allocation, logs: Path) -> str:
    """The batch script that `submit` hands to sbatch.

    Args:
        allocation: what is asked for.
        logs: folder of logs and of submitit's files.

    Raises:
        SpecError: submitit is not installed.
    """
    check_submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    job = [sys.executable, "-u", "-m", "submitit.core._submit", str(logs)]
    array = allocation.num_workers if allocation.num_workers > 1 else None
    return _make_sbatch_string(command=shlex.join(job), folder=logs, map_count=array, **allocation.parameters())


def submit(worker: Sequence[str], allocation: Allocation, logs: Path) -> list[Job[None]]:
    """Submit the workers as one array; a single worker is a job without an array.

    Args:
        worker: the command line of each.
        allocation: what they ask for.
        logs: folder of logs and of submitit's files, on a disk that all nodes see.

    Raises:
        SpecError: submitit or SLURM is not there, or sbatch refuses the script.
    """
    check_cluster()
    from submitit import SlurmExecutor
    from submitit.helpers import clean_env

    executor = SlurmExecutor(logs, max_num_timeout=MOST_REQUEUES)
    executor.update_parameters(**allocation.parameters())
    # Within a job, its own variables would change what the array asks for.
    environment = clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext()
    try:
        with environment, contextlib.redirect_stderr(io.StringIO()):  # submitit prints what sbatch says, and raises it
            return executor.submit_array([Worker(worker) for _ in range(allocation.num_workers)])
    except RuntimeError as error:
        raise SpecError(
            f"sbatch did not take the workers: {reason_of(error)}", "the same command with --dry-run prints the script"
        ) from error


def check_submitit() -> None:
    """See that submitit is installed.

    Raises:
        SpecError: it is not.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise SpecError("SLURM needs the package submitit", "pip install 'sslcurr[slurm]'") from error


def check_cluster() -> None:
    """See that workers can be submitted from here.

    Raises:
        SpecError: submitit is not installed, or SLURM's programs are not found.
    """
    check_submitit()
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise SpecError(
                f"there is no SLURM on this machine: {program} is not found",
                "run the command on a login node of the cluster, or add --dry-run to see the script",
            )
