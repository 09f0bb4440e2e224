"""Charts of the search for an ordering: what is believed of orderings, and what was missed for what was spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.estimate import in_points, measure_of
from sslcurr.analysis.results.ranking.style import about_chains, draw_whisker, joined_tasks, mark_handle, name_rows
from sslcurr.analysis.results.search.beam_figures import beam_chart
from sslcurr.analysis.results.search.document import Belief, SearchDocument, Step
from sslcurr.analysis.results.style import COLOURS, WIDEST, Chart, percent

SHOWN = 15  # orderings


def charts(document: SearchDocument) -> Iterator[Chart]:
    """The leading orderings, a row each; below, how far the choice was from the best, where that is known."""
    if isinstance(document.steps, UnsetType):
        if (chart := beam_chart(document)) is not None:
            yield chart
        return
    steps = [step for step in document.steps if not isinstance(step.regret, UnsetType)]
    leading = [] if isinstance(document.posterior, UnsetType) else document.posterior.leading[:SHOWN]
    rows = len(leading) or min(len(document.finalists), SHOWN)
    if not rows:
        return

    def paint_one(axes: Any) -> Sequence[Any]:
        return _paint_beliefs(axes, leading, document) if leading else _paint_scores(axes, document)

    def paint_both(sheet: Any) -> Sequence[Any]:
        above, below = sheet.subplots(2, 1, height_ratios=[rows, 7])
        return [*paint_one(above), *_paint_regret(below, steps)]

    about = about_chains(document.dataset, document.split, None, len(document.seeds), document.measure)
    yield Chart(
        "search",
        f"The search by {document.strategy}: {about}; the validation images choose",
        WIDEST,
        1.0 + 0.24 * rows + 2.0 * bool(steps),
        paint_both if steps else paint_one,
        panels=bool(steps),
    )


def _paint_beliefs(axes: Any, leading: Sequence[Belief], document: SearchDocument) -> list[Any]:
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    for place, row in enumerate(leading):
        draw_whisker(axes, place, row.interval)
        face = COLOURS[0] if row.num_seeds else "white"
        axes.plot(percent(row.more), place, "o", markersize=6, color=COLOURS[0], markerfacecolor=face, gid="mean")
        beside = axes.get_yaxis_transform()
        axes.text(1.01, place, f"{row.within:.0%}", transform=beside, va="center", fontsize=8, gid="within")
    _name(axes, [row.ordering for row in leading], document)
    axes.set(xlabel="points more than the ordering that was found, on validation images")
    tolerance = in_points(0.0 if isinstance(document.posterior, UnsetType) else document.posterior.tolerance)
    return [
        mark_handle("o", COLOURS[0], True, "believed, 95 % interval", 6),
        mark_handle("o", COLOURS[0], False, "never measured", 6),
        mark_handle("", COLOURS[0], True, f"at the right: probability of being within {tolerance} of the best"),
    ]


def _paint_scores(axes: Any, document: SearchDocument) -> list[Any]:
    rows = document.finalists[:SHOWN]
    for place, row in enumerate(rows):
        axes.plot(percent(row.score), place, "o", markersize=6, color=COLOURS[0], gid="mean")
    _name(axes, [row.ordering for row in rows], document)
    axes.set(xlabel=f"{measure_of(document.target)} on validation images, %")
    return [mark_handle("o", COLOURS[0], True, "mean over the seeds that were run", 6)]


def _name(axes: Any, orderings: Sequence[Sequence[str]], document: SearchDocument) -> None:
    marks = [" (found)" if list(ordering) == document.ordering else "" for ordering in orderings]
    name_rows(axes, [joined_tasks(ordering) + mark for ordering, mark in zip(orderings, marks, strict=True)])
    axes.tick_params(axis="y", labelsize=8)


def _paint_regret(axes: Any, steps: Sequence[Step]) -> list[Any]:
    from matplotlib.lines import Line2D

    shares = [percent(step.share) for step in steps]
    regrets = [percent(step.regret) if isinstance(step.regret, float) else 0.0 for step in steps]
    axes.step(shares, regrets, where="post", color=COLOURS[1], linewidth=1.6, gid="regret")
    axes.set(xlabel="image passes, % of those of all orderings", ylabel="points below the best", ylim=(0, None))
    axes.grid(linewidth=0.5, alpha=0.5)
    return [Line2D([], [], color=COLOURS[1], linewidth=1.6, label="choice below the best of the whole table")]
