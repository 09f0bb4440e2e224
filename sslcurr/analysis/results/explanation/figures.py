"""The chart of what lies behind the differences between chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import draw_whisker, interval_handle, name_rows, rows_of
from sslcurr.analysis.results.estimate import INTERVAL
from sslcurr.analysis.results.explanation.document import (
    ACCURACY,
    DISTANCE,
    SIMILARITY,
    Block,
    ExplanationDocument,
    Fit,
    Insertion,
    Shares,
)
from sslcurr.analysis.results.explanation.tables import length_name
from sslcurr.analysis.results.ranking.labels import about_chains
from sslcurr.analysis.results.style import (
    COLOURS,
    FAINT,
    GREY,
    INK,
    LINE,
    MARK,
    PAPER,
    SMALL,
    THIN,
    WIDEST,
    Chart,
    labelled,
    line_handle,
    mark_handle,
    percent,
)

PARTS = (
    ("real", "real", COLOURS[0], ""),
    ("luck", "luck of seeds", COLOURS[5], "///"),
    ("images", "images", FAINT, ".."),
)

SHORT = {ACCURACY: "accuracies", SIMILARITY: "CKA", DISTANCE: "distances"}


def charts(document: ExplanationDocument) -> Iterator[Chart]:
    """Shares of the variance and the models that foretell chains; with similarities, what inserting a task gives."""
    about = about_chains(document.dataset, document.split, document.num_images, len(document.seeds), document.measure)
    blocks = [block for block in document.blocks if block.shares is not None]
    fits = [fit for fit in document.foretelling.fits if fit.r_squared is not None]
    sizes = [len(part) for part in (blocks, fits) if part]
    if sizes:

        def paint(sheet: Any) -> Sequence[Any]:
            places = list(np.atleast_1d(sheet.subplots(len(sizes), 1, height_ratios=sizes)))
            handles = _paint_shares(places.pop(0), blocks) if blocks else []
            return [*handles, *(_paint_models(places.pop(0), fits, document.foretelling.most) if fits else [])]

        high = 0.4 + 0.8 * len(sizes) + 0.3 * sum(sizes)
        yield Chart("explanation", f"What lies behind the differences: {about}", WIDEST, high, paint, panels=True)
    if isinstance(document.insertion, Insertion):
        yield _insertion_chart(document.insertion, about)


def _paint_shares(axes: Any, blocks: Sequence[Block]) -> list[Any]:
    """A bar a block: what the variance between the chains' means consists of."""
    for place, block in enumerate(blocks):
        shares = block.shares
        assert isinstance(shares, Shares)
        left = 0.0
        widths = {name: max(percent(getattr(shares, name)), 0.0) for name, *_ in PARTS}
        # An estimate below 0 is not drawn, and what it took from 100 % is taken from the others.
        too_much = max(sum(widths.values()) / 100, 1.0)
        for name, label, colour, hatch in PARTS:
            width = widths[name] / too_much
            axes.barh(
                place,
                width,
                left=left,
                height=0.5,
                color=colour,
                hatch=hatch,
                edgecolor=PAPER,
                label=label if not place else None,
            )
            left += width
        draw_whisker(axes, place, shares.interval, INK)
    name_rows(axes, rows_of([f"{length_name(block.length)} ({block.num_chains})" for block in blocks]))
    axes.set(xlabel="variance between the chains' means, %", xlim=(0, 102))
    known = any(isinstance(block.shares, Shares) and block.shares.interval is not None for block in blocks)
    whisker = line_handle(INK, f"{INTERVAL} of the real share")
    return [*labelled(axes), *([whisker] if known else [])]


def _paint_models(axes: Any, fits: Sequence[Fit], most: float | None) -> list[Any]:
    """A bar a model: how well it foretells chains of sets of tasks that it has not seen."""
    axes.barh(range(len(fits)), [fit.r_squared for fit in fits], height=0.5, color=COLOURS[2])
    axes.axvline(0, color=INK, linewidth=THIN)
    beside = axes.get_yaxis_transform()
    for place, fit in enumerate(fits):
        text = f"{fit.r_squared:.2f}".replace("-", "\u2212")  # as on axes
        axes.text(1.01, place, text, transform=beside, va="center", fontsize=SMALL, gid="value")
    texts = ["" if fit.p_value is None else f", p = {fit.p_value:.3f}" for fit in fits]
    name_rows(axes, rows_of([f"{_short_name(fit)}{text}" for fit, text in zip(fits, texts, strict=True)]))
    if most is not None:
        label = "R² of a perfect model"
        axes.axvline(most, color=INK, linestyle="--", linewidth=THIN, label=label)
    axes.set(xlabel="R² of chains of tasks that were not seen together")
    return labelled(axes)


def _short_name(fit: Fit) -> str:
    """A model by its groups of predictors, which all have the length with them."""
    return "all of them" if len(fit.groups) > 1 else " + ".join(["length", *(SHORT[group] for group in fit.groups)])


def _insertion_chart(insertion: Insertion, about: str) -> Chart:
    """The gain of inserting a task by how unlike it is to both neighbours."""

    rows = [row for row in insertion.rows if row.gain.mean is not None]
    unlike = [row.unlike for row in insertion.rows]

    def paint(axes: Any) -> Sequence[Any]:
        for row, place in zip(rows, _side_by_side([row.unlike for row in rows]), strict=True):
            if row.gain.interval is not None:
                axes.vlines(
                    place, *(100 * end for end in row.gain.interval), color=GREY, linewidth=THIN, gid="interval"
                )
            axes.plot(place, percent(row.gain.mean), "o", color=COLOURS[0], markersize=MARK, gid="mean")
        axes.axhline(0, color=INK, linewidth=THIN)
        handles = [mark_handle("o", COLOURS[0], True, "one insertion")]
        if any(row.gain.interval is not None for row in rows):
            handles.append(interval_handle())
        gain, slope = insertion.gain.mean, insertion.slope.mean
        if gain is not None and slope is not None:
            middle = sum(unlike) / len(unlike)
            ends = [min(unlike), max(unlike)]
            axes.plot(ends, [100 * (gain + slope * (end - middle)) for end in ends], "--", color=COLOURS[1])
            handles.append(line_handle(COLOURS[1], "least squares", "--", LINE))
        axes.set(
            xlabel="how unlike the middle task is to both neighbours (1 - CKA)",
            ylabel="gain over the two alone, points",
        )
        axes.grid()
        return handles

    return Chart("insertion", f"Inserting a task between two others: {about}", 5.2, 3.6, paint)


def _side_by_side(places: Sequence[float]) -> list[float]:
    """Places of marks, moved a little apart where several are at the same one, so that whiskers do not hide others."""
    step = 0.012 * ((max(places) - min(places)) or 1.0) if places else 0.0
    return [
        place + step * (places[:number].count(place) - (places.count(place) - 1) / 2)
        for number, place in enumerate(places)
    ]
