"""From what commands found to tables: each number is read once, for the terminal, the page and papers."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UnsetType

from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    Estimate,
    Failure,
    Summary,
    between,
    ends_of,
    measure_of,
    plus_minus,
    share,
    spread,
)
from sslcurr.analysis.results.table import Column, Row, count
from sslcurr.wording import arrow, counted

# ---- what several have in common


def summary_of(chain: Summary) -> Row:
    """What every measured chain has, as values of a row."""
    return {
        "mean": chain.mean,
        "std": chain.std,
        **ends_of(chain.interval),
        "validation": chain.validation,
        "num_seeds": len(chain.runs),
    }


def by_seed(chain: Summary) -> Row:
    """The accuracy at each seed, as values of a row."""
    return {f"seed_{run.seed}": run.value for run in chain.runs}


def attention_of(attention: Estimate | UnsetType) -> Row:
    """The attention inside masks, as values of a row; none where no masks are known."""
    if isinstance(attention, UnsetType):
        return {}
    return {
        "attention": attention.mean,
        "attention_std": attention.std,
        **ends_of(attention.interval, "attention_"),
    }


def score_column(target: str | UnsetType) -> Column:
    """The main measure with its deviation over seeds."""
    return Column(f"{measure_of(target)} (%)", ("mean", "std"), spread)


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


def about_images(dataset: str, num_images: int, split: str) -> str:
    """The data set and how many of its images are reported."""
    return f"{dataset}, {counted(num_images, split + ' image')}"


def too_good(split: str) -> list[str]:
    """A sentence where the reported images are no test images: they have chosen something, or were learnt from."""
    if split == "val":
        return [
            "There are no test images. The validation images are reported, and they have chosen epochs, layers and "
            "settings: the figures are too good."
        ]
    if split == "train":
        return ["There are no other images: the training images are reported, and the figures are far too good."]
    return []


def one_seed(split: str) -> str:
    """What intervals mean where every chain has one seed."""
    return f"One seed: intervals are over {split} images and hold for these models only."


def alone(gains: Sequence[Difference | UnsetType], split: str) -> list[str]:
    """A sentence where chains failed and left a difference one seed of several."""
    if not any(isinstance(gain, Difference) and gain.num_seeds == 1 for gain in gains):
        return []
    return [f"A gain at one seed of several is hardly known: its interval may be over {split} images only."]


def failures(failed: Sequence[Failure]) -> list[str]:
    """A sentence for each chain that failed."""
    return [
        f"failed: {arrow(failure.ordering) or 'no pretext task'}, seed {failure.seed}: {failure.reason}"
        for failure in failed
    ]
