"""The chart of a beam search whose prefixes are scored by probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.ranking.style import about_chains, accuracy_label, joined_tasks, mark_handle, name_rows
from sslcurr.analysis.results.search.document import Finalist, ScoredCandidate, SearchDocument
from sslcurr.analysis.results.style import COLOURS, GREY, WIDEST, Chart, percent

# How a candidate was scored: whether for fewer epochs, and at how many seeds.
Effort = tuple[bool, int]
Scores = Mapping[Effort, ScoredCandidate]
POINT_MARKERS = "o^sDvPX"


def beam_chart(document: SearchDocument) -> Chart | None:
    """What the search scored, by length: a row a candidate, a point a score; and how its finalists did."""
    blocks = _blocks(document)
    if not any(blocks.values()):
        return None
    efforts = list(dict.fromkeys((rung.short, rung.seeds) for rung in document.rungs))
    efforts.sort(key=lambda effort: (not effort[0], effort[1]))  # the short ones, then all epochs with more seeds
    finalists = [finalist for finalist in document.finalists if finalist.mean is not None]
    num_rows = sum(map(len, blocks.values())) + 0.6 * len(blocks)
    heights = [num_rows, len(finalists) + 0.4]

    def paint_one(axes: Any) -> Sequence[Any]:
        return _paint_candidates(axes, blocks, efforts)

    def paint_both(sheet: Any) -> Sequence[Any]:
        above, below = sheet.subplots(2, 1, height_ratios=heights)
        handles = _paint_candidates(above, blocks, efforts)
        return [*handles, _paint_finalists(below, finalists, document)]

    about = about_chains(document.dataset, document.split, None, len(document.seeds), document.measure)
    return Chart(
        "search",
        f"The search: {about}; the validation images choose what is found",
        WIDEST,
        1.0 + 0.2 * sum(heights) + 0.5 * bool(finalists),
        paint_both if finalists else paint_one,
        panels=bool(finalists),
    )


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


def _paint_candidates(
    axes: Any, blocks: Mapping[int, Mapping[Ordering, Scores]], efforts: Sequence[Effort]
) -> list[Any]:
    from matplotlib.lines import Line2D

    names: list[str] = []
    places: list[float] = []
    place = 0.0
    for number, (_, block) in enumerate(sorted(blocks.items())):
        if number:
            axes.axhline(place - 0.3, color="0.7", linewidth=0.8)
            place += 0.6
        # Those that came furthest first, among them by the last score.
        for ordering in sorted(block, key=lambda name: (-len(block[name]), -_last_score(block[name]), name)):
            for effort, candidate in block[ordering].items():
                _paint_score(axes, place, efforts.index(effort), candidate)
            if not block[ordering]:
                beside = axes.get_yaxis_transform()
                axes.text(0.02, place, "left out: budget", transform=beside, va="center", color=GREY, fontsize=8)
            names.append(joined_tasks(ordering))
            places.append(place)
            place += 1
    name_rows(axes, names, places)
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="score: balanced accuracy of a probe on validation images, %")
    handles = []
    for number, (short, seeds) in enumerate(efforts):
        label = f"{'short look' if short else 'all epochs'}, {seeds} seed{'s' * (seeds != 1)}"
        handles.append(mark_handle(POINT_MARKERS[number % 7], COLOURS[number % len(COLOURS)], True, label))
    return [*handles, Line2D([], [], linestyle="", label="filled: kept; open: dropped")]


def _paint_score(axes: Any, place: float, number: int, candidate: ScoredCandidate) -> None:
    colour = COLOURS[number % len(COLOURS)]
    axes.plot(
        percent(candidate.score),
        place,
        POINT_MARKERS[number % 7],
        markersize=5.5,
        color=colour,
        markerfacecolor=colour if candidate.kept else "white",
        gid="kept" if candidate.kept else "dropped",
    )


def _paint_finalists(axes: Any, finalists: Sequence[Finalist], document: SearchDocument) -> Any:
    """A row for each finalist; gives the entry of the legend."""
    for place, row in enumerate(finalists):
        mean = percent(row.mean)
        axes.plot(mean, place, "P", markersize=7, color="black", gid="finalist")
        if row.std is not None:
            axes.hlines(place, mean - 100 * row.std, mean + 100 * row.std, color="black", linewidth=1.2)
    marks = [" (found)" if row.ordering == document.ordering else "" for row in finalists]
    name_rows(axes, [joined_tasks(row.ordering) + mark for row, mark in zip(finalists, marks, strict=True)])
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel=accuracy_label(document.split, document.target))
    has_std = any(row.std is not None for row in finalists)
    label = "finalist, fully trained" + (" (± standard deviation over seeds)" if has_std else "")
    return mark_handle("P", "#000000", True, label, 7)


def _last_score(scores: Scores) -> float:
    return float(list(scores.values())[-1].score) if scores else -1.0
