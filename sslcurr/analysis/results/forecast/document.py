"""The document of `rank` and `grid` with `--dry-run`: what their chains will cost."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from sslcurr.analysis.results.document import Document, Part


class PretrainingStages(Part, frozen=True, kw_only=True):
    """How many pretraining stages there are.

    Attributes:
        alone: if every chain were trained by itself.
        shared: with shared prefixes.
    """

    alone: int
    shared: int


class ForecastStage(Part, frozen=True, kw_only=True):
    """A stage that the chains need.

    Attributes:
        task: what it trains.
        tasks: all tasks of its weights, with it the last.
        seed: of weights, order and views.
        key: its key in the store.
        reused: whether the store holds it.
    """

    task: str
    tasks: list[str]
    seed: int
    key: str
    reused: bool


class ForecastDocument(Document, frozen=True, kw_only=True):
    """What many chains will cost before any of them is trained.

    Attributes:
        chains: how many, over all seeds.
        pretraining_stages: with and without sharing.
        stages: every stage once, parents first.
        there: how many of those the store holds.
        images_per_second: task -> speed, of the tasks that are to be trained.
        measured_now: the tasks whose speed was measured now; the others' is that of earlier stages.
        hours: of what is to be trained.
        gigabytes: of weights that will be written, in 10^9 bytes.
        tree: the stages as a tree in lines of text, for a terminal.
        guessed: whether a curriculum among the orderings is a guess, since not every task was trained alone yet; unset
            for a grid.
    """

    kind: ClassVar[str] = "forecast"
    unprinted: ClassVar[tuple[str, ...]] = ("tree",)

    chains: int
    pretraining_stages: PretrainingStages
    stages: list[ForecastStage]
    there: int
    images_per_second: dict[str, float]
    measured_now: list[str]
    hours: float
    gigabytes: float
    guessed: bool | UnsetType = UNSET
    tree: list[str] = field(default_factory=list)
