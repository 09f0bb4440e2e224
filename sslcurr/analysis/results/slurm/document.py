"""The document of `sslcurr slurm`: the job that was submitted, and its script."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from sslcurr.analysis.results.document import Document, Json


class SlurmDocument(Document, frozen=True, kw_only=True):
    """Workers that were submitted to SLURM.

    Attributes:
        job: the number of the array, or of the job of a single worker; None where nothing was submitted.
        runs: the store, an absolute path.
        num_workers: jobs of the array.
        worker: the command line of each.
        logs: their logs; an asterisk stands for a worker's number, and for a job's that is not known yet.
        script: what sbatch was given.
        planned: the document of the command that was planned; None where nothing was.
        results: the command line that prints the results afterwards, if it is known.
        waited: whether all workers had ended.
        failed: the workers that failed, a line each.
    """

    kind: ClassVar[str] = "slurm"

    job: str | None
    runs: str
    num_workers: int
    worker: list[str]
    logs: str
    script: str
    planned: Json | None = None
    results: str | None = None
    waited: bool = False
    failed: list[str] = msgspec.field(default_factory=list)
