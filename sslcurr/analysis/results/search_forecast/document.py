"""The document of `rank --search` with `--dry-run`: what all orderings would cost, and what the search may spend."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document


class SearchForecastDocument(Document, frozen=True, kw_only=True):
    """What a search for an ordering will cost at most.

    Attributes:
        orderings: how many an exhaustive search would train.
        exhaustive_image_passes: what these would take, over all seeds.
        budget_image_passes: the most that the search takes.
        tasks: the pretext tasks that are ordered; unset in documents of sslcurr 0.1.0 and before, as are the next.
        length: most tasks in an ordering.
        dataset: its name.
        seeds: those of every chain.
    """

    kind: ClassVar[str] = "search-forecast"

    orderings: int
    exhaustive_image_passes: float
    budget_image_passes: float
    tasks: list[str] | UnsetType = UNSET
    length: int | UnsetType = UNSET
    dataset: str | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
