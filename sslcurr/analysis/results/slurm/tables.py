"""What is said of workers on SLURM: how they are watched and cancelled, or the script that would be submitted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sslcurr.analysis.results.slurm.document import SlurmDocument
from sslcurr.analysis.results.table import Table
from sslcurr.wording import counted


def tables(document: SlurmDocument, title: str) -> Iterator[Table]:
    """None."""
    yield from ()


def closing_lines(document: SlurmDocument) -> list[str]:
    """The job and what can be done with it; of a job that was not submitted, its script."""
    if document.job is None:
        return document.script.splitlines()
    workers = counted(document.num_workers, "worker")
    if document.waited:
        failed = [f"failed: {line}" for line in document.failed]
        lines = [f"job {document.job}: {workers} ended, {len(failed)} failed", *failed, f"logs: {document.logs}"]
    else:
        lines = [
            f"submitted: job {document.job}, {workers}",
            f"watch:     squeue --job {document.job}",
            f"           sslcurr runs --live --runs {shlex.quote(document.runs)}",
            f"           tail -f {_quoted(document.logs)}",
            f"cancel:    scancel {document.job}",
        ]
    return [*lines, f"results:   {document.results}"] if document.results else lines


def _quoted(pattern: str) -> str:
    """A pattern of files for a shell; its folder may have spaces."""
    folder, _, name = pattern.rpartition("/")
    return f"{shlex.quote(folder)}/{name}"
