"""Tables of tasks and of their settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.table import Column, Table
from sslcurr.analysis.results.tasks.document import TaskDocument, TasksDocument


def tables(document: TasksDocument | TaskDocument, title: str) -> Iterator[Table]:
    """A row for each task, or for each setting of one."""
    if isinstance(document, TasksDocument):
        listed = (Column("task", ("task",)), Column("what it learns", ("summary",)), Column("paper", ("paper",)))
        yield Table("tasks", "", listed, [row.to_json() for row in document.tasks])
        return
    ranges = document.ranges if is_set(document.ranges) else {}
    rows = [
        {
            **{"name": f"{document.task}.{name}", "imagenet": _plain(document.imagenet[name])},
            **{"resolved": _plain(value), "range": ranges.get(name, "")},
        }
        for name, value in document.resolved.items()
    ]
    heading = f"{document.task}: {document.summary} ({document.paper})"
    columns = (
        *(Column("--set", ("name",)), Column("ImageNet", ("imagenet",)), Column(document.resolved_for, ("resolved",))),
        *([Column("can be", ("range",))] if ranges else []),
    )
    yield Table("task", heading, columns, rows)


def closing_lines(document: TasksDocument | TaskDocument) -> list[str]:
    """Where the views were drawn."""
    if isinstance(document, TasksDocument) or isinstance(document.out, UnsetType):
        return []
    return [f"views drawn in {document.out}"]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ",".join(map(_plain, value)) if isinstance(value, tuple | list) else str(value)
