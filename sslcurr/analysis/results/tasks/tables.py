"""Tables of tasks and of their settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.table import Column, Table
from sslcurr.analysis.results.tasks.document import TaskDocument, TasksDocument


def tables(document: TasksDocument | TaskDocument, title: str) -> Iterator[Table]:
    """A row for each task; or for each setting of one, in tables for its views, the task itself and its training."""
    if isinstance(document, TasksDocument):
        listed = (Column("task", ("task",)), Column("what it learns", ("summary",)), Column("paper", ("paper",)))
        yield Table("tasks", "", listed, [row.to_json() for row in document.tasks])
        return
    ranges, meanings = (value if is_set(value) else {} for value in (document.ranges, document.meanings))
    groups = document.groups if is_set(document.groups) else {"setting": list(document.resolved)}
    groups = {group: names for group, names in groups.items() if names}
    summary = f": {document.summary} ({document.paper})" if is_set(document.summary) else ""
    resolved_for = document.resolved_for if is_set(document.resolved_for) else "resolved"
    for place, (group, names) in enumerate(groups.items()):
        columns = [
            Column(group, ("name",)),
            Column(resolved_for, ("resolved",)),
            Column("ImageNet", ("imagenet", "resolved"), _if_other, words=True),
            *([Column("can be", ("range",))] if ranges else []),
            *([Column("meaning", ("meaning",), sentences=True)] if meanings else []),
        ]
        rows = [
            {
                "name": name,
                "resolved": _plain(document.resolved[name]),
                "imagenet": _plain(document.imagenet[name]),
                "range": ranges.get(name, ""),
                "meaning": meanings.get(name, ""),
            }
            for name in names
        ]
        title = f"{document.task}{summary}" if place == 0 else ""
        notes = (
            f"ImageNet: the paper's values, where they are others. Change a setting: --set {document.task}.NAME=VALUE",
        )
        yield Table(group, title, tuple(columns), rows, notes if place == len(groups) - 1 else ())


def closing_lines(document: TasksDocument | TaskDocument) -> list[str]:
    """Where the views were drawn."""
    if isinstance(document, TasksDocument) or isinstance(document.out, UnsetType):
        return []
    return [f"views drawn in {document.out}"]


def _if_other(imagenet: str, resolved: str) -> str:
    return "" if imagenet == resolved else imagenet


def _plain(value: Any, digits: int = 6) -> str:
    """A value in a form that `--set` takes; several numbers are rounded more, to fit side by side."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return (",".join(_plain(each, 4) for each in value) or "()") if isinstance(value, tuple | list) else str(value)
