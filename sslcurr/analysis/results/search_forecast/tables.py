"""Tables of what a search for an ordering will cost: a sentence says it all."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.search_forecast.document import SearchForecastDocument
from sslcurr.analysis.results.table import Table
from sslcurr.wording import counted


def tables(document: SearchForecastDocument, title: str) -> Iterator[Table]:
    """None."""
    yield from ()


def closing_lines(document: SearchForecastDocument) -> list[str]:
    """The cost of all orderings, and the budget."""
    what = f"{document.orderings} orderings"
    if not isinstance(document.tasks, UnsetType):
        what += f" of up to {document.length} of {len(document.tasks)} tasks"
    if not isinstance(document.seeds, UnsetType):
        what += f" at {counted(len(document.seeds), 'seed')}"
    spent, exhaustive = document.budget_image_passes, document.exhaustive_image_passes
    share = spent / exhaustive if exhaustive else 0.0
    return [
        f"{what} take {exhaustive:,.0f} image passes; the search spends at most {spent:,.0f} ({share:.0%})",
    ]
