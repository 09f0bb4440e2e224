"""Charts of the search for an ordering: what is believed of orderings, and what was missed for what was spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UnsetType

from sslcurr.analysis.results.charts import Rows, draw_mean, draw_whisker, interval_handle, name_rows, rows_of
from sslcurr.analysis.results.estimate import in_points, measure_of
from sslcurr.analysis.results.ranking.labels import about_chains
from sslcurr.analysis.results.search.beam_figures import beam_chart, named
from sslcurr.analysis.results.search.document import Belief, SearchDocument, Step
from sslcurr.analysis.results.style import (
    COLOURS,
    INK,
    LARGE,
    SMALL,
    THIN,
    WIDEST,
    Chart,
    line_handle,
    mark_handle,
    percent,
    sign_handle,
)

SHOWN = 15  # orderings


def charts(document: SearchDocument) -> Iterator[Chart]:
    """The leading orderings, a row each; below, how far the choice was from the best, where that is known."""
    if isinstance(document.steps, UnsetType):
        if (chart := beam_chart(document)) is not None:
            yield chart
        return
    steps = [step for step in document.steps if not isinstance(step.regret, UnsetType)]
    leading = [] if isinstance(document.posterior, UnsetType) else document.posterior.leading[:SHOWN]
    orderings = [row.ordering for row in leading or document.finalists[:SHOWN]]
    if not orderings:
        return
    rows = rows_of(named(orderings, document), few=0)

    def paint_one(axes: Any) -> Sequence[Any]:
        return _paint_beliefs(axes, leading, rows, document) if leading else _paint_scores(axes, rows, document)

    def paint_both(sheet: Any) -> Sequence[Any]:
        above, below = sheet.subplots(2, 1, height_ratios=[rows.inches, 1.6])
        return [*paint_one(above), *_paint_regret(below, steps)]

    about = about_chains(document.dataset, document.split, None, len(document.seeds), document.measure)
    yield Chart(
        "search",
        f"The search ({str(document.strategy).replace('-', ' ')}): {about}; the validation images choose",
        WIDEST,
        1.0 + rows.inches + 2.0 * bool(steps),
        paint_both if steps else paint_one,
        panels=bool(steps),
    )


def _paint_beliefs(axes: Any, leading: Sequence[Belief], rows: Rows, document: SearchDocument) -> list[Any]:
    axes.axvline(0, color=INK, linewidth=THIN, zorder=1)
    beside = axes.get_yaxis_transform()
    for place, row in zip(rows.places, leading, strict=True):
        draw_whisker(axes, place, row.interval)
        draw_mean(axes, place, row.more, filled=row.num_seeds > 0)
        text = f"{100 * row.within:.0f} %"
        axes.text(1.01, place, text, transform=beside, va="center", fontsize=SMALL, gid="within")
    name_rows(axes, rows)
    axes.set(xlabel="points more than the ordering that was found, on validation images")
    tolerance = in_points(0.0 if isinstance(document.posterior, UnsetType) else document.posterior.tolerance)
    handles = [mark_handle("o", COLOURS[0], True, "believed", LARGE)]
    if not all(row.num_seeds for row in leading):
        handles.append(mark_handle("o", COLOURS[0], False, "believed, never measured", LARGE))
    return [
        *handles,
        interval_handle(),
        sign_handle("%", f"at the right: probability of being within {tolerance} of the best"),
    ]


def _paint_scores(axes: Any, rows: Rows, document: SearchDocument) -> list[Any]:
    for place, row in zip(rows.places, document.finalists, strict=False):
        draw_mean(axes, place, row.score)
    name_rows(axes, rows)
    axes.set(xlabel=f"{measure_of(document.target)} on validation images, %")
    return [mark_handle("o", COLOURS[0], True, "mean over the seeds that were run", LARGE)]


def _paint_regret(axes: Any, steps: Sequence[Step]) -> list[Any]:
    shares = [percent(step.share) for step in steps]
    regrets = [percent(step.regret) if isinstance(step.regret, float) else 0.0 for step in steps]
    axes.step(shares, regrets, where="post", color=COLOURS[1], gid="regret", clip_on=False)
    top = max(1.0, 1.08 * max(regrets))
    axes.set(xlabel="image passes, % of those of all orderings", ylabel="points below the best", ylim=(0, top))
    axes.grid()
    return [line_handle(COLOURS[1], "choice below the best of the whole table")]
