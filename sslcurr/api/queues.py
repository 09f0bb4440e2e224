"""Several workers on one store: what is planned, working on it, and what all are at."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.analysis.results.queue.document import (
    ActiveJob,
    FailedJob,
    LiveDocument,
    PlanProgress,
    QueueDocument,
    WorkDocument,
)
from sslcurr.api.session import Session
from sslcurr.wording import first_command

if TYPE_CHECKING:
    from sslcurr.engine.graph import Graph
    from sslcurr.engine.plans import Plan, PlanFile
    from sslcurr.engine.store import Store


def queued(session: Session, store: Store, plan: Plan) -> QueueDocument:
    """A plan that was written, and how much of it is there."""
    from sslcurr.engine.graph import Graph

    graph = Graph(plan.jobs.values())
    mark_ended(graph, store)
    return session.finished(
        QueueDocument(
            run=plan.run,
            plan=str(store.plan(plan.run)),
            jobs=len(graph.jobs),
            done=len(graph.done),
            store=str(store.root),
        )
    )


def mark_ended(graph: Graph, store: Store) -> None:
    """Note in a graph what the store holds, and what other processes found to fail; each is looked at once needed."""
    from sslcurr.engine.jobs import work_of

    passed: set[str] = set()
    while (job := graph.begin(passed)) is not None:
        if work_of(job.kind).is_done(job, store):
            graph.end(job.name)
        elif (failed := store.failure(job.name)) is not None:
            graph.fail(job.name, *failed)
        else:
            graph.put_back(job.name)
            passed.add(job.name)


def work(session: Session, *, until_idle: bool = False) -> WorkDocument:
    """Carry out what the plans of the store want, beside other workers on any machine.

    Args:
        session: the call.
        until_idle: end when all is done, and do not wait for more.

    Raises:
        StoreError: there is no such store, or its file system has no locks that lock.
        Interrupted: a signal asked to stop.
        SslcurrError: what a job met that this machine cannot do, or a damaged plan, after all others are done.
    """
    from sslcurr.engine.plans import Plans

    store = session.existing_store()
    plans, began = Plans(store), time.monotonic()
    if not until_idle:
        example = f"{first_command(store.root)} --plan-only"
        session.reporter.note(f"takes what commands plan on {store.root}, such as {example}, until Ctrl-C")
    with session.working(store) as filling:

        def is_over() -> bool:
            for plan in plans.changed(filling.note_mistake):
                filling.add(plan.jobs)
            return until_idle and filling.graph.is_over

        filling.run(is_over)
        graph = filling.graph
        failures = [
            FailedJob(job=graph.jobs[name].title, reason=failed.reason)
            for name, failed in graph.failures.items()
            if failed.origin == name
        ]
        done_here = len(filling.done_here)
    if filling.mistakes:  # after all that could be done here
        raise filling.mistakes[0]
    return session.finished(
        WorkDocument(
            host=socket.gethostname(),
            pid=os.getpid(),
            jobs=len(graph.jobs),
            done_here=done_here,
            failures=failures,
            seconds=round(time.monotonic() - began, 3),
        )
    )


def looks(session: Session) -> Iterator[LiveDocument]:
    """What all processes on a store are at, again and again; what is done at one look is not looked for at the next.

    Raises:
        StoreError: there is no such store.
    """
    from sslcurr.engine.graph import Graph
    from sslcurr.engine.plans import Plans

    store = session.existing_store()
    plans = Plans(store)
    graphs: dict[str, tuple[PlanFile, Graph]] = {}
    while True:
        graphs |= {plan.run: (plan, Graph(plan.jobs)) for plan in plans.changed()}
        graphs = {run: each for run, each in graphs.items() if store.plan(run).is_file()}  # others have ended
        active = list(active_jobs(store))
        speed = sum(job.images_per_second or 0.0 for job in active)
        rows = []
        for run, (plan, graph) in graphs.items():
            mark_ended(graph, store)
            rows.append(
                PlanProgress(
                    run=run,
                    command=plan.command,
                    jobs=len(graph.jobs),
                    done=len(graph.done),
                    failed=len(graph.failures),
                    seconds_left=graph.cost_left() / speed if speed else None,
                )
            )
        yield session.finished(LiveDocument(plans=rows, active=active))


def active_jobs(store: Store) -> Iterator[ActiveJob]:
    """What processes are at, on any machine."""
    from sslcurr.claims import is_claimed, owner_of, silence

    for folder in (store.stages, store.analyses, store.packs):
        for path in sorted([*folder.glob("*.owner.json"), *folder.glob("*.search/*.owner.json")]):
            claimed = Path(str(path).removesuffix(".owner.json"))
            owner, heard = owner_of(claimed), silence(claimed)
            if owner is None or heard is None or owner.is_gone or not is_claimed(claimed):
                continue
            status = owner.status
            title = f"{status['tasks']}, seed {status['seed']}" if "tasks" in status else ""
            yield ActiveJob(
                job=str(claimed.relative_to(folder)),
                title=title,
                host=owner.host,
                pid=owner.pid,
                heard=round(heard, 1),
                step=status.get("step"),
                total_steps=status.get("total_steps"),
                epochs=status.get("epochs"),
                images_per_second=status.get("images_per_second"),
            )
