"""Tables of the search for an ordering."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.columns import failures, one_seed, same_columns, too_good
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    between,
    ends_of,
    in_points,
    measure_of,
    points,
    share,
    spread,
)
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.search.document import Finalist, Missed, Posterior, SearchDocument
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.wording import arrow, counted

MOST_ROWS = 20
ENDED = {
    "confidence": "the ordering is good enough",
    "budget": "the budget is spent",
    "all": "all orderings were measured at all seeds",
}


def tables(document: SearchDocument, title: str) -> Iterator[Table]:
    """The orderings that were measured, and what is believed of them; of a beam search with a probe its rungs."""
    yield _rungs(document) if isinstance(document.steps, UnsetType) else _runs(document)


def _runs(document: SearchDocument) -> Table:
    beliefs = [] if isinstance(document.posterior, UnsetType) else document.posterior.leading
    finalists = {tuple(row.ordering): row for row in document.finalists}
    believed = {tuple(row.ordering): row for row in beliefs}
    order = sorted(
        {**finalists, **believed},
        key=lambda name: -(believed[name].mean if name in believed else finalists[name].score),
    )
    rows: list[Row] = []
    for name in order[:MOST_ROWS]:
        belief, finalist = believed.get(name), finalists.get(name)
        rows.append(
            {
                "ordering": arrow(name),
                "num_seeds": 0 if finalist is None else len(finalist.runs),
                "more": belief.more if belief and list(name) != document.ordering else None,
                **ends_of(belief.interval if belief and list(name) != document.ordering else None, "more_"),
                "within": belief.within if belief else None,
                "validation": None if finalist is None else finalist.validation,
                **(
                    {"mean": None, "std": None, **ends_of(None), "d": None, **ends_of(None, "d_")}
                    if finalist is None
                    else {
                        "mean": finalist.mean,
                        "std": finalist.std,
                        **ends_of(None if isinstance(finalist.interval, UnsetType) else finalist.interval),
                        **_difference(finalist),
                    }
                ),
            }
        )
    columns = _run_columns(document)
    if not beliefs:
        columns = tuple(column for column in columns if column.fields[0] not in ("more", "within"))
    notes = [*_run_notes(document), *_notes(document)]
    if len(order) > MOST_ROWS:
        notes.insert(0, f"{len(order) - MOST_ROWS} more orderings are left out here (--json has them).")
    return Table(
        "search",
        f"{_title(document)}, {document.strategy}",
        columns,
        rows,
        (*notes, *overlap_lines(document.overlap, document.dataset), *failures(document.failed)),
        best=frozenset(i for i, name in enumerate(order[:MOST_ROWS]) if list(name) == document.ordering),
    )


def _run_notes(document: SearchDocument) -> list[str]:
    """How the search ended, and what it says of orderings, in sentences."""
    steps = [] if isinstance(document.steps, UnsetType) else document.steps
    batch = "one at a time" if document.batch in (1, UNSET) else f"{document.batch} at a time"
    ended = "" if isinstance(document.ended, UnsetType) else f"; it ended since {ENDED[document.ended]}"
    notes = [f"{counted(len(steps), 'run')}, {batch}{ended}."]
    posterior = document.posterior
    if isinstance(posterior, UnsetType):
        return notes
    tolerance = in_points(posterior.tolerance)
    return [
        *notes,
        "believed: what an ordering has more than the one that was found, on the validation images over seeds "
        f"(posterior, 95 %); good: the probability of being within {tolerance} of the best.",
        f"{arrow(document.ordering)} is within {tolerance} of the best with probability {posterior.probability:.2f}.",
        f"No ordering is better than it by more than {in_points(posterior.most_missed)}, and none is better than "
        f"another by more than {in_points(posterior.most_apart)} (each with probability 0.90).",
        *_any_of_them(posterior),
        "All this is of the validation images that it saw: where these are few, other images may choose otherwise.",
        "Another tenth of the cost of all orderings is expected to raise the best mean by "
        f"{in_points(posterior.further_gain)}.",
        *(_side_line(name, value) for name, value in posterior.side.items()),
    ]


def _any_of_them(posterior: Posterior) -> list[str]:
    if posterior.num_good < 2:
        return []
    return [f"{posterior.num_good} orderings are good with probability 0.50 or more: any of them will do."]


def _side_line(name: str, probability: float) -> str:
    return f"{name}: helps to foretell accuracies with probability {probability:.2f}, and counts that much."


def _title(document: SearchDocument) -> str:
    return (
        f"Automatic curriculum: {document.dataset}, {document.split} images, "
        f"{counted(len(document.seeds), 'seed')}, {document.measure}"
    )


def _rungs(document: SearchDocument) -> Table:
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
    about = "Candidates are scored by a probe on the validation images; the last rows are fine-tuned."
    return Table(
        "search",
        _title(document),
        _probe_columns(document),
        filled,
        (about, *_notes(document), *overlap_lines(document.overlap, document.dataset), *failures(document.failed)),
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
        f"{cost.image_passes:,.0f} image passes, {cost.share:.1%} of the {cost.exhaustive_image_passes:,.0f} of all "
        "orderings",
        _missed_line(document.missed),
    ]
    if not isinstance(cost.held_stages, UnsetType) and cost.held_stages:
        notes.append(f"{counted(cost.held_stages, 'stage')} cost nothing: the store held them when the search began")
    if document.ordering:
        notes.append(f"found: {arrow(document.ordering)}")
    if any(isinstance(row.difference, Difference) for row in document.finalists):
        notes.append("difference: from the one that was found, paired by seed and image")
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


def _probe_columns(document: SearchDocument) -> tuple[Column, ...]:
    return (
        Column("tasks", ("length",), count),
        Column("epochs", ("epochs",), count),
        Column("seeds", ("seeds",), count),
        Column("candidate", ("ordering",)),
        Column("score (%)", ("score",), share),
        Column("", ("state",)),
        Column("validation (%)", ("validation",), lambda value: "" if value is None else share(value)),
        _score(document, ""),
        Column(INTERVAL, ("low", "high"), lambda low, high: "" if low is None else between(low, high)),
        _difference_column(),
    )


def _run_columns(document: SearchDocument) -> tuple[Column, ...]:
    return (
        Column("pretraining", ("ordering",)),
        Column("seeds", ("num_seeds",), count),
        Column("believed (points)", ("more", "more_low", "more_high"), points),
        Column("good (%)", ("within",), share),
        Column("validation (%)", ("validation",), share),
        _score(document, "-"),
        Column(INTERVAL, ("low", "high"), between),
        _difference_column(),
    )


def _score(document: SearchDocument, absent: str) -> Column:
    """The main measure on the reported images, with its deviation over seeds."""
    name = f"{measure_of(document.target)} (%)"
    return Column(name, ("mean", "std"), lambda mean, std: absent if mean is None else spread(mean, std))


def _difference_column() -> Column:
    fields = ("d", "d_low", "d_high")
    return Column("difference (points)", fields, lambda *ends: "" if ends[0] is None else points(*ends))
