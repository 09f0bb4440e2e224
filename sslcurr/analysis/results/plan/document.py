"""The document of `--dry-run`: what would be trained, with every value resolved."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from sslcurr.analysis.results.document import Document, Json, Part


class PlannedStage(Part, frozen=True, kw_only=True):
    """A stage that would be trained or reused.

    Attributes:
        task: what is learnt.
        key: of the stage in the store.
        reused: whether the store has it.
        asked: all that decides its result, as in `stage.json`.
        resolved: the values that a person looks at first, as text.
    """

    unprinted: ClassVar[tuple[str, ...]] = ("resolved",)

    task: str
    key: str
    reused: bool
    asked: Json
    resolved: dict[str, str] = field(default_factory=dict)


class PlanDocument(Document, frozen=True, kw_only=True):
    """The stages of a command in the order of their training.

    Attributes:
        stages: a row for each.
        hours: of what is to be trained here, by the speed of stages that are alike; None where that is not known.
        store: folder of the store.
    """

    kind: ClassVar[str] = "plan"
    unprinted: ClassVar[tuple[str, ...]] = ("store",)

    stages: list[PlannedStage]
    hours: float | UnsetType | None = UNSET
    store: str = ""
