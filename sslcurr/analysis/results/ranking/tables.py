"""Tables of rankings."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.columns import (
    BETWEEN,
    VALIDATION,
    about_images,
    alone,
    attention_columns,
    attention_of,
    by_seed,
    failures,
    places_of_highest,
    same_columns,
    score_column,
    seeds_column,
    summary_of,
    too_good,
)
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    Difference,
    Estimate,
    between,
    ends_of,
    points,
    share,
    signed,
    spread,
)
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.ranking.document import (
    Choice,
    Hypothesis,
    Kendall,
    OrderingRow,
    PermutationTest,
    RankDocument,
    TaskRow,
)
from sslcurr.analysis.results.table import Column, Row, Table
from sslcurr.wording import arrow, counted

GAIN = ("gain", "gain_low", "gain_high")
PREDICTORS = {
    "order": "how much of a curriculum it is",
    "mean": "the mean single-task accuracy",
    "last": "the accuracy of its last task",
}


def tables(document: RankDocument, title: str) -> Iterator[Table]:
    """The single tasks, and the orderings where there are any."""
    yield _singles(document)
    if document.orderings:
        yield _orderings(document, document.orderings)


def closing_lines(document: RankDocument) -> list[str]:
    """The command line that trains the curriculum."""
    return [document.command] if document.command is not None else []


def _singles(document: RankDocument) -> Table:
    num_seeds, num_baselines = len(document.seeds), len(document.baselines)
    rows: list[Row] = []
    for name, chain in document.baselines.items():
        rows.append(
            {"task": name, "baseline": True, **summary_of(chain), **attention_of(chain.attention), **by_seed(chain)}
        )
    for row in document.tasks:
        gains: Row = {}
        for name in document.baselines:
            gain = row.gain_over(name)
            mean, interval = (gain.mean, gain.interval) if isinstance(gain, Difference) else (None, None)
            gains |= {f"gain_over_{name}": mean, **ends_of(interval, f"gain_over_{name}_")}
        rows.append(
            {"task": row.task, "baseline": False}
            | {**summary_of(row), **gains, **attention_of(row.attention), **by_seed(row)}
        )
    gain_columns = [
        Column(f"gain over {name} (points)", tuple(f"gain_over_{name}{end}" for end in ("", "_low", "_high")), points)
        for name in document.baselines
    ]
    filled = same_columns(rows)
    columns = [Column("task", ("task",)), score_column(document.target), BETWEEN, *gain_columns, VALIDATION]
    columns += [*attention_columns(rows), *seeds_column(rows, num_seeds)]
    return Table(
        "rank",
        f"Single tasks: {_about(document)}",
        tuple(columns),
        filled,
        (*_notes(document), *overlap_lines(document.overlap, document.dataset), *failures(document.failed)),
        best=frozenset(num_baselines + i for i in _marked_tasks(document)),
        breaks=frozenset({num_baselines} if 0 < num_baselines < len(filled) else ()),
    )


def _marked_tasks(document: RankDocument) -> frozenset[int]:
    """The place of the best task where it beats the baseline; the best of tasks that all lose is none to mark."""
    rows = document.tasks
    highest = places_of_highest([{"mean": row.mean} for row in rows], "mean")
    return frozenset(i for i in highest if beats(document, rows[i]))


def beats(document: RankDocument, row: TaskRow | OrderingRow) -> bool:
    """Whether a chain is better than the baseline that it starts from by more than luck.

    Documents before 0.2 have no gains of orderings: there the interval of the chain must lie above the baseline's.
    """
    if isinstance(row.gain, Difference):
        return row.gain.sign > 0
    baseline = None if document.baseline is None else document.baselines[document.baseline]
    if baseline is None or baseline.interval is None or row.interval is None or len(document.seeds) < 2:
        return False
    return row.interval[0] > baseline.interval[1]


def _unmarked(document: RankDocument) -> str:
    """Why no chain is marked."""
    if document.baseline is None:
        return "there is no baseline to be better than"
    return f"none can be told apart from {document.baseline} as better than it"


def _about(document: RankDocument) -> str:
    images = about_images(document.dataset, document.num_images, document.split)
    return f"{images}, {counted(len(document.seeds), 'seed')}, {document.measure}"


def _notes(document: RankDocument) -> list[str]:
    """How sure the figures are, the curriculum with its ties, and how attention was measured."""
    seeds = counted(len(document.seeds), "seed")
    split = document.split
    notes = [f"± is the standard deviation over {seeds}; intervals are over {split} images and seeds."]
    if len(document.seeds) == 1:
        notes = [
            f"One seed: intervals are over {split} images and hold for these models only. Another seed may order the "
            "tasks otherwise, so nothing can be told apart."
        ]
    elif len(document.seeds) == 2:
        notes.append("Two seeds hardly show the luck of a baseline, so gains are vague; three or more show it.")
    gains = [gain for row in document.tasks for gain in (row.gain, row.gain_over_imagenet)]
    if len(document.seeds) > 1:
        notes += alone(gains, split)
    notes += too_good(split)
    if len(document.tasks) > 1:
        notes.append(
            f"The best of {len(document.tasks)} tasks is marked: chosen by the images it is quoted on, so it is a "
            "little too good."
            if _marked_tasks(document)
            else f"No task is marked: {_unmarked(document)}."
        )
    if document.curriculum:
        notes.append(f"curriculum: {arrow(document.curriculum)}")
    notes += [f"neighbours that cannot be told apart: {arrow(group)}" for group in document.ties]
    if not isinstance(document.attention, UnsetType):
        facts = document.attention
        notes.append(
            f"attention: share of the {facts.method} maps ({facts.layer}, {facts.target} class) inside the masks "
            f"(AIL), {counted(facts.num_images, 'image')}; a map without preference has {share(facts.coverage)} %, "
            "which is what the masks cover of what the network sees"
        )
        attended = [row.attention for row in document.tasks if isinstance(row.attention, Estimate)]
        if attended and all(each.interval is None for each in attended):
            notes.append(
                "attention has no intervals: rankings were joined, without the maps of each image, so that the luck of "
                "images is not known"
            )
    return notes


def _orderings(document: RankDocument, orderings: list[OrderingRow]) -> Table:
    rows = [
        {
            "ordering": arrow(row.ordering),
            "length": len(row.ordering),
            "kind": row.kind,
            "full": row.full,
            "uncertain": row.uncertain,
            "best": row.best,
            **summary_of(row),
            **_gain_of(row),
            **attention_of(row.attention),
            **by_seed(row),
        }
        for row in orderings
    ]
    has_gains = any(GAIN[0] in row for row in rows)
    marked = frozenset(i for i, row in enumerate(orderings) if row.best and beats(document, row))
    columns = [
        Column("pretraining", ("ordering",)),
        Column("kind", ("kind", "full", "uncertain"), _kind, words=True),
    ]
    columns += [
        score_column(document.target),
        BETWEEN,
        *([Column(f"gain over {document.baseline} (points)", GAIN, points)] if has_gains else []),
        VALIDATION,
        *attention_columns(rows),
        *seeds_column(rows, len(document.seeds)),
    ]
    notes = [
        f"The best of each length by the {document.split} images is marked, where it beats the baseline."
        if marked
        else f"No ordering is marked: {_unmarked(document)}."
    ]
    if any(row.uncertain for row in orderings):
        notes.append("?: two of its tasks cannot be told apart, so that its kind may be chance.")
    return Table(
        "orderings",
        f"Orderings: {_about(document)}",
        tuple(columns),
        same_columns(rows),
        (*notes, *choices(document), *tests(document.hypothesis), *overlap_lines(document.overlap, document.dataset)),
        best=marked,
        breaks=frozenset(i for i in range(1, len(rows)) if rows[i]["length"] != rows[i - 1]["length"]),
    )


def _gain_of(row: OrderingRow) -> Row:
    """The gain of an ordering over the baseline, as values of a row; none in documents without it."""
    if not isinstance(row.gain, Difference):
        return {}
    return {GAIN[0]: row.gain.mean, **ends_of(row.gain.interval, f"{GAIN[0]}_")}


def _kind(kind: str | None, full: bool, uncertain: bool) -> str:
    return (kind or "-") + (", full" if full else "") + (" ?" if uncertain else "")


def choices(document: RankDocument) -> list[str]:
    """Which chain is best by the reported images, which is too good to be true, and which the validation chooses."""
    best = document.best
    if best is None or isinstance(best, UnsetType):
        return []
    lines = []
    if isinstance(chosen := best.on_reported, Choice):
        lines.append(
            f"best on the {document.split} images: {arrow(chosen.ordering)}, {_figure(chosen)}: the best of "
            f"{best.num_chains}, chosen by the images it is quoted on, so it is too good"
        )
    if isinstance(chosen := best.on_validation, Choice):
        lines.append(
            f"chosen on the validation images: {arrow(chosen.ordering)}, {_figure(chosen)} on the {document.split} "
            "images"
        )
    return lines


def _figure(choice: Choice) -> str:
    interval = between(*(choice.interval or (None, None)))
    return f"{spread(choice.mean, choice.std)} % ({INTERVAL}: {interval})"


def tests(hypothesis: Hypothesis | UnsetType) -> list[str]:
    """The test of the hypothesis in sentences."""
    if isinstance(hypothesis, UnsetType):
        return []
    return [
        *map(_permutation_line, hypothesis.permutation),
        *map(_kendall_line, hypothesis.kendall),
    ]


def _permutation_line(test: PermutationTest) -> str:
    against = "other orderings of the same tasks" if test.strata == "set" else "other orderings as long"
    if test.effect is None:
        return f"curricula against {against}: {test.reason or 'none to compare'}"
    effect = points(test.effect, *(test.interval or (None, None)))
    if test.p_value is None:
        return f"curricula against {against}: {effect} points; {test.reason}"
    smallest = "" if not test.smallest_p_value else f"; the smallest that it could be is {test.smallest_p_value:.3f}"
    return (
        f"curricula against {against}: {effect} points, p = {test.p_value:.3f}{smallest} (one-sided permutation test, "
        f"{test.num_arrangements:,} arrangements, {'exact' if test.exact else 'drawn'}; "
        "each seed is judged by the ranking of the others)"
    )


def _kendall_line(entry: Kendall) -> str:
    about = (
        f"Kendall's tau of accuracy and {PREDICTORS.get(entry.by, entry.by)}, {entry.num_orderings} orderings of "
        f"{entry.length}"
    )
    if entry.tau is None:
        return f"{about}: not defined, since at some seed all orderings are equal in one of the two"
    ends = "" if entry.interval is None else f" ({signed(entry.interval[0], 2)} to {signed(entry.interval[1], 2)})"
    return f"{about}: {signed(entry.tau, 2)}{ends}"
