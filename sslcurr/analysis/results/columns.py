"""From what commands found to tables: each number is read once, for the terminal, the page and papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sslcurr.analysis.results.table import (
    INTERVAL,
    Column,
    Document,
    Row,
    between,
    count,
    plus_minus,
    share,
    spread,
)
from sslcurr.wording import arrow, counted

# ---- what several have in common


def ends_of(interval: Sequence[float] | None, name: str = "") -> Row:
    """The ends of an interval as two values of a row."""
    low, high = interval if interval is not None else (None, None)
    return {f"{name}low": low, f"{name}high": high}


def summary_of(row: Mapping[str, Any]) -> Row:
    """What every measured chain has, as values of a row."""
    return {
        "mean": row["mean"],
        "std": row["std"],
        **ends_of(row["interval"]),
        "validation": row["validation"],
        "num_seeds": len(row["runs"]),
    }


def by_seed(row: Mapping[str, Any]) -> Row:
    """The accuracy at each seed, as values of a row."""
    return {f"seed_{run['seed']}": run["balanced_accuracy"] for run in row["runs"]}


def attention_of(row: Mapping[str, Any], prefix: str = "attention") -> Row:
    """The attention inside masks, as values of a row; none where no masks are known."""
    found = row.get("attention")
    if found is None:
        return {}
    covered = {f"{prefix}_coverage": found["coverage"]} if "coverage" in found else {}
    return {
        prefix: found["mean"],
        f"{prefix}_std": found.get("std"),
        **ends_of(found["interval"], f"{prefix}_"),
        **covered,
    }


ACCURACY = Column("balanced accuracy (%)", ("mean", "std"), spread)
BETWEEN = Column(INTERVAL, ("low", "high"), between)
VALIDATION = Column("validation (%)", ("validation",), share)
ATTENTION = Column("attention in masks (%)", ("attention", "attention_std"), plus_minus(1, 100))
COVERED = Column("without preference (%)", ("attention_coverage",), share)
ATTENTION_BETWEEN = Column(f"{INTERVAL} of attention", ("attention_low", "attention_high"), between)


def seeds_column(rows: Sequence[Row], num_seeds: int) -> list[Column]:
    """How many seeds a row has, where one has fewer than were asked for."""
    short = any(row["num_seeds"] < num_seeds for row in rows)
    return [Column(f"seeds of {num_seeds}", ("num_seeds",), count)] if short else []


def attention_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns for the attention, where any row has some."""
    if not any("attention" in row for row in rows):
        return []
    covered = [COVERED] if any("attention_coverage" in row for row in rows) else []
    return [ATTENTION, ATTENTION_BETWEEN, *covered]


def same_columns(rows: list[Row]) -> list[Row]:
    """Rows that all have the same values, in the same order; what one lacks is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def places_of_highest(rows: Sequence[Row], name: str) -> frozenset[int]:
    """Places of the rows whose value is the highest, where there are several."""
    values = [row.get(name) for row in rows]
    known = [value for value in values if value is not None]
    return frozenset(i for i, value in enumerate(values) if len(known) > 1 and value == max(known))


def about_images(document: Document) -> str:
    """The data set and how many of its images are reported."""
    return f"{document['dataset']}, {counted(document['num_images'], document['split'] + ' image')}"


def failures(document: Document) -> list[str]:
    """A sentence for each chain that failed."""
    return [
        f"failed: {arrow(failure['ordering']) or 'no pretext task'}, seed {failure['seed']}: {failure['reason']}"
        for failure in document.get("failed", ())
    ]


# ---- the kinds
