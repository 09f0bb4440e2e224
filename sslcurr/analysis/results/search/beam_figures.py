"""The chart of a beam search whose prefixes are scored by probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sslcurr.analysis.results.charts import Rows, name_rows, note_failure, placed, row_names, rows_of
from sslcurr.analysis.results.estimate import measure_of
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.ranking.labels import about_chains, accuracy_label, joined_tasks
from sslcurr.analysis.results.search.document import Finalist, ScoredCandidate, SearchDocument
from sslcurr.analysis.results.style import (
    FAINT,
    GREY,
    INK,
    LARGE,
    PAPER,
    SMALL,
    THIN,
    WIDEST,
    Chart,
    colour_of,
    line_handle,
    mark_handle,
    mark_of,
    percent,
)
from sslcurr.wording import counted

# How a candidate was scored: whether for fewer epochs, and at how many seeds.
Effort = tuple[bool, int]
Scores = Mapping[Effort, ScoredCandidate]


def beam_chart(document: SearchDocument) -> Chart | None:
    """What the search scored, by length: a row a candidate, a point a score; and how its finalists did."""
    blocks = _blocks(document)
    if not any(blocks.values()):
        return None
    efforts = list(dict.fromkeys((rung.short, rung.seeds) for rung in document.rungs))
    efforts.sort(key=lambda effort: (not effort[0], effort[1]))  # the short ones, then all epochs with more seeds
    finalists = [finalist for finalist in document.finalists if finalist.mean is not None]
    ordered = [_ordered(block) for _, block in sorted(blocks.items())]
    rows = placed([row_names([joined_tasks(each) for each in block], SMALL) for block in ordered], SMALL, 0.6)
    last = rows_of(named([finalist.ordering for finalist in finalists], document), few=0)

    def paint_one(axes: Any) -> Sequence[Any]:
        return _paint_candidates(axes, ordered, rows, efforts, document)

    def paint_both(sheet: Any) -> Sequence[Any]:
        above, below = sheet.subplots(2, 1, height_ratios=[rows.inches, last.inches + 0.1])
        return [*paint_one(above), *_paint_finalists(below, finalists, last, document)]

    about = about_chains(document.dataset, document.split, None, len(document.seeds), document.measure)
    return Chart(
        "search",
        f"The search (beam): {about}; the validation images choose",
        WIDEST,
        1.0 + rows.inches + last.inches + 0.6 * bool(finalists),
        paint_both if finalists else paint_one,
        panels=bool(finalists),
    )


def named(orderings: Sequence[Sequence[str]], document: SearchDocument) -> list[str]:
    """Orderings as names of rows; the one that was found is marked."""
    marks = [" (found)" if list(ordering) == document.ordering else "" for ordering in orderings]
    return [joined_tasks(ordering) + mark for ordering, mark in zip(orderings, marks, strict=True)]


def _blocks(document: SearchDocument) -> dict[int, dict[Ordering, dict[Effort, ScoredCandidate]]]:
    """Length -> ordering -> its scores; none for an ordering that the budget left out."""
    blocks: dict[int, dict[Ordering, dict[Effort, ScoredCandidate]]] = {}
    for rung in document.rungs:
        block = blocks.setdefault(rung.length, {})
        for candidate in rung.candidates:
            block.setdefault(tuple(candidate.ordering), {})[rung.short, rung.seeds] = candidate
        for ordering in rung.not_afforded:
            block.setdefault(tuple(ordering), {})
    return blocks


def _ordered(block: Mapping[Ordering, Scores]) -> dict[Ordering, Scores]:
    """Those that came furthest first, among them by the last score."""
    names = sorted(block, key=lambda name: (-len(block[name]), -_last_score(block[name]), name))
    return {name: block[name] for name in names}


def _paint_candidates(
    axes: Any,
    blocks: Sequence[Mapping[Ordering, Scores]],
    rows: Rows,
    efforts: Sequence[Effort],
    document: SearchDocument,
) -> list[Any]:
    places = iter(rows.places)
    above: float | None = None
    for block in blocks:
        for number, (scores, place) in enumerate(zip(block.values(), places, strict=False)):
            if number == 0 and above is not None:
                axes.axhline((above + place) / 2, color=FAINT, linewidth=THIN)
            above = place
            for effort, candidate in scores.items():
                _paint_score(axes, place, efforts.index(effort), candidate)
            if not scores:
                note_failure(axes, place, "left out: budget")
    name_rows(axes, rows)
    axes.set(xlabel=f"score: {measure_of(document.target)} of a probe on validation images, %")
    handles = [
        mark_handle(mark_of(number), colour_of(number), True, f"{'short look' if short else 'all epochs'}, {seeds}")
        for number, (short, seeds) in enumerate((short, counted(num, "seed")) for short, num in efforts)
    ]
    return [*handles, mark_handle("o", GREY, True, "filled: kept"), mark_handle("o", GREY, False, "open: dropped")]


def _paint_score(axes: Any, place: float, number: int, candidate: ScoredCandidate) -> None:
    colour = colour_of(number)
    axes.plot(
        percent(candidate.score),
        place,
        mark_of(number),
        color=colour,
        markerfacecolor=colour if candidate.kept else PAPER,
        gid="kept" if candidate.kept else "dropped",
    )


def _paint_finalists(axes: Any, finalists: Sequence[Finalist], rows: Rows, document: SearchDocument) -> list[Any]:
    """A row for each finalist; gives the entries of the legend."""
    for place, row in zip(rows.places, finalists, strict=True):
        mean = percent(row.mean)
        axes.plot(mean, place, "P", markersize=LARGE, color=INK, gid="finalist")
        if row.std is not None:
            axes.hlines(place, mean - 100 * row.std, mean + 100 * row.std, color=INK, linewidth=THIN)
    name_rows(axes, rows)
    axes.set(xlabel=accuracy_label(document.split, document.target))
    handles = [mark_handle("P", INK, True, "finalist, fully trained", LARGE)]
    if any(row.std is not None for row in finalists):
        handles.append(line_handle(INK, "± standard deviation over seeds", width=THIN))
    return handles


def _last_score(scores: Scores) -> float:
    return float(list(scores.values())[-1].score) if scores else -1.0
