"""Tables of tasks and of their settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.table import Column, Table
from sslcurr.analysis.results.tasks.document import TaskDocument, TasksDocument


def tables(document: TasksDocument | TaskDocument, title: str) -> Iterator[Table]:
    """A row for each task, or for each setting of one."""
    if isinstance(document, TasksDocument):
        columns = (Column("task", ("task",)), Column("what it learns", ("summary",)), Column("paper", ("paper",)))
        yield Table("tasks", "", columns, [row.to_json() for row in document.tasks])
        return
    rows = [
        {"name": f"{document.task}.{name}", "imagenet": _plain(document.imagenet[name]), "resolved": _plain(value)}
        for name, value in document.resolved.items()
    ]
    heading = f"{document.task}: {document.summary} ({document.paper})"
    columns = (
        Column("--set", ("name",)),
        Column("ImageNet", ("imagenet",)),
        Column(document.resolved_for, ("resolved",)),
    )
    yield Table("task", heading, columns, rows)


def closing_lines(document: TasksDocument | TaskDocument) -> list[str]:
    """Where the views were drawn."""
    if isinstance(document, TasksDocument) or isinstance(document.out, UnsetType):
        return []
    return [f"views drawn in {document.out}"]


def _plain(value: Any) -> str:
    return ",".join(map(_plain, value)) if isinstance(value, tuple | list) else str(value)
