"""Tables of a ranking that was repeated over settings."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import (
    BETWEEN,
    about_images,
    alone,
    attention_columns,
    attention_of,
    by_seed,
    failures,
    one_seed,
    same_columns,
    score_column,
    seeds_column,
    summary_of,
    too_good,
)
from sslcurr.analysis.results.estimate import Difference, ends_of, points, signed
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.ranking.document import Choice
from sslcurr.analysis.results.ranking.tables import tests
from sslcurr.analysis.results.table import Column, Row, Table, count, general
from sslcurr.analysis.results.variants.document import ChainRow, FoundRate, RankAgreement, Variant, VariantsDocument
from sslcurr.wording import arrow, counted

# Stages whose learning rates a terminal shows.
MOST_RATES = 24
CHANGES = ("gain", "change", "gain_change")


def tables(document: VariantsDocument, title: str) -> Iterator[Table]:
    """All chains under all settings, how far the settings agree, and the learning rates where they were searched."""
    yield _chains(document)
    if document.agreement:
        yield _agreement(document)
    searched = [(each, rate) for each in document.variants for rate in each.rates or ()]
    if searched:
        yield _rates(searched, len(document.seeds))


def closing_lines(document: VariantsDocument) -> list[str]:
    """The command line that trains the curriculum of each setting."""
    return [each.command for each in document.variants if each.command is not None]


def _chains(document: VariantsDocument) -> Table:
    rows: list[Row] = []
    breaks, best = set(), set()
    for each in document.variants:
        breaks.add(len(rows))
        for row in each.chains:
            if row.best and isinstance(row.gain, Difference) and row.gain.sign > 0:
                best.add(len(rows))
            rows.append(_row(document, each, row))
    filled = same_columns(rows)
    reference = document.variants[0].title
    columns = [
        Column("settings", ("settings",)),
        Column("pretraining", ("chain",)),
        score_column(document.target),
        BETWEEN,
        Column(f"gain over {document.baseline} (points)", ("gain", "gain_low", "gain_high"), points),
        Column(f"change from {reference} (points)", ("change", "change_low", "change_high"), points),
        Column("told apart", ("change_told_apart",), _yes_or_no, words=True),
        *attention_columns(filled),
        *seeds_column(filled, len(document.seeds)),
    ]
    images = about_images(document.dataset, document.num_images, document.split)
    return Table(
        "variants",
        f"The ranking over {', '.join(axis.name for axis in document.axes)}: {images}, "
        f"{counted(len(document.seeds), 'seed')}, {document.measure}",
        tuple(columns),
        filled,
        (*_notes(document), *overlap_lines(document.overlap, document.dataset), *_failures(document)),
        best=frozenset(best),
        breaks=frozenset(breaks - {0}),
    )


def _row(document: VariantsDocument, variant: Variant, row: ChainRow) -> Row:
    values: Row = {
        "settings": variant.title,
        **variant.values,
        "chain": document.title_of(row.ordering),
        "kind": row.kind,
    }
    values |= {"uncertain": row.uncertain, "best": row.best, **summary_of(row)}
    for name in CHANGES:
        change = getattr(row, name)
        mean, ends, apart = None, None, None
        if isinstance(change, Difference):
            mean, ends, apart = change.mean, change.interval, change.told_apart
        values |= {name: mean, **ends_of(ends, f"{name}_"), f"{name}_told_apart": apart}
    return {**values, **attention_of(row.attention), **by_seed(row)}


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _notes(document: VariantsDocument) -> list[str]:
    """How sure the figures are, then each setting: its curriculum, its best chain, and what it changes."""
    split, reference = document.split, document.variants[0].title
    notes = [
        f"± is the standard deviation over {counted(len(document.seeds), 'seed')}; intervals are over {split} images "
        "and seeds. A change is paired: the same seeds and images under both settings."
    ]
    if len(document.seeds) == 1:
        notes = [one_seed(split), "Another seed may order the tasks otherwise, so nothing can be told apart."]
    else:
        rows = [row for each in document.variants for row in each.chains]
        notes += alone([change for row in rows for change in (row.gain, row.change, row.gain_change)], split)
    notes += too_good(split)
    notes.append(
        f"The best chain of each setting is marked where it beats {document.baseline}: chosen by the images it is "
        "quoted on, so it is too good."
    )
    for each in document.variants:
        notes += [f"{each.title}: {line}" for line in _about(each, reference)]
    return notes


def _about(variant: Variant, reference: str) -> list[str]:
    lines = []
    if variant.curriculum:
        lines.append(f"curriculum {arrow(variant.curriculum)}")
    lines += [f"neighbours that cannot be told apart: {arrow(group)}" for group in variant.ties]
    chosen = None if variant.best is None else variant.best.on_validation
    if isinstance(chosen, Choice):
        lines.append(f"chosen on the validation images: {arrow(chosen.ordering)}")
    if isinstance(variant.mean_change, Difference):
        change = variant.mean_change
        known = "more than luck" if change.told_apart else "not told apart from luck"
        text = points(change.mean, *(change.interval or (None, None)))
        lines.append(f"mean change of the chains from {reference}: {text} points, {known}")
    return [*lines, *tests(variant.hypothesis)]


def _failures(document: VariantsDocument) -> list[str]:
    lines = failures(document.failed)
    return [f"{line} ({failed.variant})" for line, failed in zip(lines, document.failed, strict=True)]


# ---- do settings agree?


def _agreement(document: VariantsDocument) -> Table:
    rows = [{**entry.to_json(), **ends_of(entry.interval)} for entry in document.agreement]
    for row in rows:
        del row["interval"]
    notes = [
        "Kendall and Spearman are of the means over seeds in the table above. Across seeds: Kendall's tau-b between "
        "the means of the first at all seeds but one and the second at that seed: no seed is on both sides."
    ]
    return Table(
        "agreement",
        "How far the settings order the tasks and chains alike: rank correlations of accuracies",
        (
            Column("settings", ("variant",)),
            Column("and", ("other",)),
            Column("of", ("of", "num_chains"), _of, words=True),
            Column("Kendall's tau-b", ("kendall",), _correlation),
            Column("Spearman's rho", ("spearman",), _correlation),
            Column("across seeds (95 % interval)", ("tau", "low", "high"), _correlation),
        ),
        rows,
        (*notes, *_reasons(document.agreement)),
    )


def _of(what: str | None, number: int | None) -> str:
    return counted(number or 0, "task" if what == "tasks" else "chain")


def _correlation(value: float | None, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return "-"
    return signed(value, 2) + ("" if low is None or high is None else f" ({signed(low, 2)} to {signed(high, 2)})")


def _reasons(entries: list[RankAgreement]) -> list[str]:
    """Why some have no interval, each reason once."""
    reasons: dict[str, int] = {}
    for entry in entries:
        if entry.reason is not None:
            reasons[entry.reason] = reasons.get(entry.reason, 0) + 1
    return [f"no interval of {number} of {len(entries)}: {reason}" for reason, number in reasons.items()]


# ---- learning rates


def _rates(searched: list[tuple[Variant, FoundRate]], num_seeds: int) -> Table:
    rows = [
        {"settings": variant.title, **rate.to_json(), "tasks": arrow(rate.tasks), "times": rate.median / rate.recipe}
        for variant, rate in searched
    ]
    return Table(
        "rates",
        f"Learning rates that were found, {counted(num_seeds, 'seed')}",
        (
            Column("settings", ("settings",)),
            Column("stage", ("tasks",)),
            Column("recipe", ("recipe",), general),
            Column("median", ("median",), general),
            Column("lowest", ("lowest",), general),
            Column("highest", ("highest",), general),
            Column("times the recipe's", ("times",), general),
            Column("seeds", ("num_seeds",), count),
        ),
        rows,
        detail=len(rows) > MOST_RATES,
    )
