"""Tables of several workers on one store."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sslcurr.analysis.results.queue.document import ActiveJob, LiveDocument, QueueDocument, WorkDocument
from sslcurr.analysis.results.table import Column, Table, count
from sslcurr.wording import counted, duration

PLAN_COLUMNS = (
    Column("run", ("run",)),
    Column("jobs done", ("done",), str),
    Column("time left", ("left",), str),
    Column("command", ("command",)),
)
ACTIVE_COLUMNS = (
    Column("at work on", ("title",)),
    Column("host, process", ("where",)),
    Column("epoch", ("epoch",), str),
    Column("images/s", ("speed",), count),
    Column("heard of", ("heard",), str),
)


def tables(document: QueueDocument | WorkDocument | LiveDocument, title: str) -> Iterator[Table]:
    """A row for each plan, and one for each job that is worked on."""
    if not isinstance(document, LiveDocument):
        return
    plans = [
        {
            "run": plan.run,
            "command": shlex.join(plan.command),
            "done": f"{plan.done} of {plan.jobs}" + (f", {plan.failed} failed" if plan.failed else ""),
            "left": "-" if plan.seconds_left is None else duration(plan.seconds_left),
        }
        for plan in document.plans
    ]
    if plans:
        yield Table("plans", "", PLAN_COLUMNS, plans)
    active = [
        {
            "title": job.title or job.job,
            "where": f"{job.host}, {job.pid}",
            "epoch": _epoch(job),
            "speed": None if job.images_per_second is None else round(job.images_per_second),
            "heard": f"{duration(job.heard)} ago",
        }
        for job in document.active
    ]
    if active:
        yield Table("active", "", ACTIVE_COLUMNS, active)
    else:
        yield Table("active", "no process is at work on this store", (), [])


def _epoch(job: ActiveJob) -> str:
    if not job.total_steps or job.step is None:
        return "-"
    epochs = job.epochs or 1
    return f"{job.step / job.total_steps * epochs:.1f} of {epochs}"


def closing_lines(document: QueueDocument | WorkDocument | LiveDocument) -> list[str]:
    """What was planned, and how workers are started; what a worker did."""
    if isinstance(document, QueueDocument):
        left = document.jobs - document.done
        first = f"run {document.run}: {counted(left, 'job')} to do, {document.done} done"
        if not left:
            return [first, "run the same command without --plan-only for the results"]
        return [
            first,
            f"plan: {document.plan}",
            f"start workers, on any machine that sees the store: sslcurr work --runs {shlex.quote(document.store)} "
            "--until-idle",
            "then run the same command without --plan-only for the results",
        ]
    if isinstance(document, WorkDocument) and not document.jobs:
        return ["nothing is planned on this store: add --plan-only to rank, grid or chain"]
    if isinstance(document, WorkDocument):
        done_here, planned = document.done_here, counted(document.jobs, "planned job")
        lines = [f"{done_here} of {planned} done by this worker, in {duration(document.seconds)}"]
        return lines + [f"failed: {failed.job}: {failed.reason}" for failed in document.failures]
    return []
