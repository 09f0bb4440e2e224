"""What a command trains, by workers on a cluster: planned here, submitted as one array of jobs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sslcurr.analysis.results.slurm.document import SlurmDocument
from sslcurr.api.session import Session
from sslcurr.errors import CommandError, Interrupted, SpecError, did_you_mean
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    from submitit import Job

    from sslcurr.analysis.results.document import Json

# Commands that can write what they want into a store, for workers.
PLANNED = ("rank", "grid", "chain")


def check_planned(command: str) -> None:
    """See that workers can take what a command wants.

    Raises:
        SpecError: they cannot.
    """
    if command not in PLANNED:
        hint = "name it first, such as: sslcurr slurm rank rotation mocov2 --partition gpu --workers 8"
        if not command.startswith("-"):
            hint = did_you_mean(command, PLANNED)
        raise SpecError(f"SLURM workers train for rank, grid and chain, not for {command!r}", hint)


def plan_slurm(session: Session, command: Sequence[str], **how: Any) -> SlurmDocument:
    """The script of the workers; nothing is planned or submitted.

    Raises:
        SpecError: the command cannot be planned, a value cannot be, or submitit is not installed.
    """
    return session.finished(_prepared(session, command, **how)[0])


def slurm(session: Session, command: Sequence[str], *, wait: bool, **how: Any) -> SlurmDocument:
    """Plan a command, if there is one, and submit the workers.

    Raises:
        CommandError: the command could not be planned; it said why.
        Interrupted: the wait for the workers was.
        SpecError: as `plan_slurm`; there is no SLURM here, or it refuses the workers.
    """
    from sslcurr.engine.pools import slurm as pool
    from sslcurr.files import writable_folder

    document, allocation, logs = _prepared(session, command, **how)
    pool.check_cluster()
    runs = writable_folder(Path(document.runs), "--runs")
    writable_folder(logs, "--logs")
    planned = planned_by(command, runs) if command else None
    jobs = pool.submit(document.worker, allocation, logs)
    job = jobs[0].job_id.partition("_")[0]
    document = msgspec.structs.replace(document, job=job, planned=planned, logs=_logs(logs, job, len(jobs)))
    if wait:
        session.reporter.note(f"submitted as job {job}; scancel {job} cancels it")
        document = msgspec.structs.replace(document, waited=True, failed=_failures(jobs, job))
    return session.finished(document)


def planned_by(command: Sequence[str], runs: Path) -> Json:
    """Run a command up to its plan, which it writes into the store for workers, and give the document it prints.

    It says on stderr what it finds.

    Args:
        command: its words, such as `["rank", "rotation", "mocov2"]`.
        runs: the store.

    Raises:
        CommandError: it failed; it said why.
    """
    options = ["--runs", str(runs), "--plan-only", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "sslcurr", *command, *options], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise CommandError(
            f"{command[0]} could not be planned, and nothing was submitted", "what it says is above", done.returncode
        )
    plain: Json = json.loads(done.stdout)
    return plain


def _prepared(
    session: Session, command: Sequence[str], *, logs: str | Path | None = None, **how: Any
) -> tuple[SlurmDocument, Any, Path]:
    """The document of workers that are not submitted yet, what they ask for, and the folder of their logs."""
    import shlex

    from sslcurr.engine.pools.slurm import Allocation, script

    if command:
        check_planned(command[0])
    if "setup" in how and not isinstance(how["setup"], str):
        how["setup"] = tuple(how["setup"])
    if not isinstance(devices := session.runtime.devices, int):
        raise SpecError(f"--devices {devices} is not for slurm", "give a number, such as --devices 4")
    allocation = Allocation(devices=devices, **how)
    runs = session.runs.absolute()
    folder = runs / "slurm" if logs is None else Path(logs).expanduser().absolute()
    document = SlurmDocument(
        job=None,
        runs=str(runs),
        num_workers=allocation.num_workers,
        worker=allocation.worker(runs),
        logs=_logs(folder, "*", allocation.num_workers),
        script=script(allocation, folder),
        results=shlex.join(["sslcurr", *command]) if command else None,
    )
    return document, allocation, folder


def _logs(folder: Path, job: str, num_workers: int) -> str:
    """A pattern of the files that submitit gives the logs of workers."""
    return str(folder / (f"{job}_*_0_log.out" if num_workers > 1 else f"{job}_0_log.out"))


def _failures(jobs: Sequence[Job[None]], name: str) -> list[str]:
    """Wait until all workers have ended; those that failed, a line each.

    Raises:
        Interrupted: by Ctrl-C; the workers go on.
    """
    failed = []
    try:
        for job in jobs:
            if (error := job.exception()) is not None:
                lines = [line for line in str(error).splitlines() if line.startswith("sslcurr.errors.")]
                failed.append(f"worker {job.job_id}: {lines[-1].partition(': ')[2] if lines else reason_of(error)}")
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "the wait was interrupted; the workers go on", f"scancel {name} cancels them", signal.SIGINT
        ) from stop
    return failed
