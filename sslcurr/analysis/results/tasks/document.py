"""The documents of `sslcurr tasks` and `sslcurr tasks show`."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Json, Part


class ListedTask(Part, frozen=True, kw_only=True):
    """A task: its name, the version of its results, what it learns in a line, and the paper's URL."""

    task: str
    version: int
    summary: str
    paper: str


class TasksDocument(Document, frozen=True, kw_only=True):
    """The tasks that can be trained."""

    kind: ClassVar[str] = "tasks"

    tasks: list[ListedTask]


class TaskDocument(Document, frozen=True, kw_only=True):
    """The settings of a task.

    Attributes:
        task: its name.
        imagenet: the paper's settings, for ImageNet.
        resolved: those that its recipe gives for a data set, or for the size of one.
        out: the picture of its views, where one was drawn.
        summary, paper: what it learns in a line, and where it was published.
        resolved_for: the data set, or the size, that `resolved` is for.
        ranges: what each setting can be, in words.
        meanings: what each setting means, in a line; empty where a task of another package does not say it.
        groups: the settings of its views, of the task itself and of its training, each with its names.
    """

    kind: ClassVar[str] = "task"

    task: str
    imagenet: Json
    resolved: Json
    out: str | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    paper: str | UnsetType = UNSET
    resolved_for: str | UnsetType = UNSET
    ranges: dict[str, str] | UnsetType = UNSET
    meanings: dict[str, str] | UnsetType = UNSET
    groups: dict[str, list[str]] | UnsetType = UNSET
