"""Tables of a plan."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.plan.document import PlanDocument
from sslcurr.analysis.results.table import Column, Table
from sslcurr.wording import counted, duration


def tables(document: PlanDocument, title: str) -> Iterator[Table]:
    """A row for each stage."""
    rows = []
    for stage in document.stages:
        settings = ", ".join(f"{name} {value}" for name, value in stage.resolved.items())
        state = "have" if stage.reused else "train"
        rows.append({"task": stage.task, "key": stage.key, "state": state, "settings": settings})
    columns = tuple(
        Column(title, (name,))
        for title, name in (("stage", "task"), ("key", "key"), ("", "state"), ("resolved to", "settings"))
    )
    yield Table("plan", f"plan, store {document.store}", columns, rows)


def closing_lines(document: PlanDocument) -> list[str]:
    """How long it takes."""
    if isinstance(document.hours, UnsetType):
        return []
    missing = sum(not stage.reused for stage in document.stages)
    if not missing:
        return ["all stages are there: nothing is to be trained"]
    if document.hours is None:
        tasks = dict.fromkeys(stage.task for stage in document.stages if not stage.reused)
        how_long = f"how long is unknown until stages like them have run on this device: {', '.join(tasks)}"
    else:
        how_long = f"about {duration(3600 * document.hours)}"
    return [f"to be trained: {counted(missing, 'stage')}, {how_long}"]
