"""Tables of the search for an ordering."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.columns import failures, one_seed, same_columns, too_good
from sslcurr.analysis.results.estimate import INTERVAL, Difference, between, ends_of, points, share, spread
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.search.document import Finalist, Missed, SearchDocument
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.wording import arrow, counted

COLUMNS = (
    Column("tasks", ("length",), count),
    Column("epochs", ("epochs",), count),
    Column("seeds", ("seeds",), count),
    Column("candidate", ("ordering",)),
    Column("score (%)", ("score",), share),
    Column("", ("state",)),
    Column("validation (%)", ("validation",), lambda value: "" if value is None else share(value)),
    Column("balanced accuracy (%)", ("mean", "std"), lambda mean, std: "" if mean is None else spread(mean, std)),
    Column(INTERVAL, ("low", "high"), lambda low, high: "" if low is None else between(low, high)),
    Column("difference (points)", ("d", "d_low", "d_high"), lambda *ends: "" if ends[0] is None else points(*ends)),
)


def tables(document: SearchDocument, title: str) -> Iterator[Table]:
    """What was scored, rung by rung, and below it the finalists."""
    rows: list[Row] = []
    breaks = set()
    for rung in document.rungs:
        breaks.add(len(rows))
        step = {"length": rung.length, "seeds": rung.seeds, "short": rung.short}
        for candidate in rung.candidates:
            rows.append(
                {
                    **step,
                    "epochs": candidate.epochs,
                    "ordering": arrow(candidate.ordering),
                    "score": candidate.score,
                    "state": "kept" if candidate.kept else "",
                }
            )
        rows += [{**step, "ordering": arrow(ordering), "state": "left out: budget"} for ordering in rung.not_afforded]
    breaks.add(len(rows))
    for finalist in document.finalists:
        rows.append(
            {
                "length": len(finalist.ordering),
                "seeds": len(finalist.runs),
                "ordering": arrow(finalist.ordering),
                "score": finalist.score,
                "state": "found" if finalist.ordering == document.ordering else "fine-tuned",
                "mean": finalist.mean,
                "std": finalist.std,
                "validation": finalist.validation,
                **ends_of(None if isinstance(finalist.interval, UnsetType) else finalist.interval),
                **_difference(finalist),
            }
        )
    filled = same_columns(rows)
    yield Table(
        "search",
        f"Automatic curriculum: {document.dataset}, {document.split} images, "
        f"{counted(len(document.seeds), 'seed')}, {document.measure}",
        COLUMNS,
        filled,
        (*_notes(document), *overlap_lines(document.overlap, document.dataset), *failures(document.failed)),
        best=frozenset(i for i, row in enumerate(filled) if row["state"] == "found"),
        breaks=frozenset(breaks - {0}),
    )


def closing_lines(document: SearchDocument) -> list[str]:
    """The command line that trains the ordering that was chosen."""
    return [document.command] if document.command is not None else []


def _difference(finalist: Finalist) -> Row:
    if isinstance(finalist.difference, UnsetType):
        return {"d": None, "d_low": None, "d_high": None}
    return {"d": finalist.difference.mean, **ends_of(finalist.difference.interval, "d_")}


def _notes(document: SearchDocument) -> list[str]:
    cost = document.cost
    notes = [
        "Candidates are scored by a probe on the validation images; the last rows are fine-tuned.",
        f"{cost.image_passes:,.0f} image passes, {cost.share:.1%} of the {cost.exhaustive_image_passes:,.0f} of all "
        "orderings",
        _missed_line(document.missed),
    ]
    if document.ordering:
        notes.append(f"found: {arrow(document.ordering)}")
    if any(isinstance(row.difference, Difference) for row in document.finalists):
        notes.append("difference: of a finalist from the one that was found, paired by seed and image")
    if len(document.seeds) == 1:
        notes.append(one_seed(document.split))
    return notes + too_good(document.split)


def _missed_line(missed: Missed | None) -> str:
    if missed is None:
        return "what it missed is not known: the store does not hold all orderings (sslcurr rank --length N)"
    gap = points(missed.gap, *(missed.gap_interval or (None, None)))
    return (
        f"number {missed.rank} of {missed.num_orderings} orderings; the best, {arrow(missed.best)}, has "
        f"{share(missed.best_mean)} %: {gap} points; the median ordering {share(missed.median)} % (the best was chosen "
        "by the images it is quoted on, so it is too good)"
    )
