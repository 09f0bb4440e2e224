"""Charts of trained chains: confusion matrices, labels, numbers, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.results.charts import (
    draw_whisker,
    heat,
    interval_handle,
    name_rows,
    note_failure,
    rows_of,
    size_in,
)
from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.style import (
    COLOURS,
    GREY,
    LARGE,
    MARK,
    THIN,
    WIDEST,
    Chart,
    cut,
    line_handle,
    mark_handle,
    percent,
    width_of,
)
from sslcurr.analysis.results.training.document import Calibration, TargetReport, TrainDocument
from sslcurr.spec.target import CLASSES, MULTILABEL
from sslcurr.wording import images_of, shortened


def charts(document: TrainDocument) -> Iterator[Chart]:
    """What the chain and its baseline take images for, and whether their probabilities mean what they say."""
    for report, suffix, words in ((document.downstream, "", ""), (document.baseline, "-baseline", " from scratch")):
        if is_set(report):
            yield from report_charts(report, suffix, words)


def report_charts(report: TargetReport, suffix: str = "", words: str = "") -> Iterator[Chart]:
    """The charts of a report; `suffix` ends their names, `words` follow in their titles."""
    if report.kind is CLASSES:
        yield confusion(f"confusion{suffix}", f"Confusion matrix{words}", report)
    elif report.kind is MULTILABEL:
        yield labels_chart(f"labels{suffix}", f"Labels{words}", report)
    else:
        yield agreement(f"agreement{suffix}", f"Foretold and true numbers{words}", report)
    if is_set(report.calibration):
        yield calibration_chart(f"calibration{suffix}", f"Calibration{words}", report, report.calibration)


def labels_chart(name: str, title: str, report: TargetReport) -> Chart:
    """The AUROC of each label, with its interval."""
    labels = report.labels if is_set(report.labels) else {}
    rows = sorted(labels.items(), key=lambda item: -1.0 if item[1].auroc is None else item[1].auroc)

    named = rows_of([f"{shortened(each, 30)} ({label.num_holding:,})" for each, label in rows])

    def paint(axes: Any) -> Sequence[Any]:
        for place, (_, label) in enumerate(rows):
            draw_whisker(axes, place, label.auroc_interval)
            if label.auroc is not None:
                axes.plot(percent(label.auroc), place, "o", markersize=LARGE, color=COLOURS[0], gid="mean")
            else:
                note_failure(axes, place, "holds for all images or for none")
        name_rows(axes, named)
        axes.axvline(50, color=GREY, linewidth=THIN, linestyle=":")
        axes.set(xlabel=f"AUROC on {report.split} images, % (in brackets: images with the label)")
        known = any(label.auroc_interval is not None for _, label in rows)
        return [
            mark_handle("o", COLOURS[0], True, "AUROC", LARGE),
            *([interval_handle()] if known else []),
            line_handle(GREY, "by chance", ":", THIN),
        ]

    title += f": macro AUROC {share(report.score)} % on {images_of(report.num_images, report.split)}"
    return Chart(name, title, 6.0, 1.0 + named.inches, paint)


def agreement(name: str, title: str, report: TargetReport) -> Chart:
    """True numbers over what is foretold, by tenths of the images."""
    bins = report.agreement if is_set(report.agreement) else []
    what = report.classes[0] if is_set(report.classes) and report.classes else "number"

    def paint(axes: Any) -> Sequence[Any]:
        foretold, true = [each.foretold for each in bins], [each.true for each in bins]
        ends = [min([*foretold, *(each.low for each in bins)]), max([*foretold, *(each.high for each in bins)])]
        axes.plot(ends, ends, color=GREY, linewidth=THIN, linestyle=":", gid="diagonal")
        axes.vlines(foretold, [each.low for each in bins], [each.high for each in bins], color=GREY, linewidth=THIN)
        axes.plot(foretold, true, "o", color=COLOURS[0], gid="mean")
        axes.set(xlabel=f"{shortened(what, 40)}, foretold", ylabel=f"{shortened(what, 40)}, true")
        axes.grid()
        return [
            mark_handle("o", COLOURS[0], True, "mean of a tenth of the images"),
            line_handle(GREY, "middle half of that tenth", width=THIN),
            line_handle(GREY, "foretold is true", ":", THIN),
        ]

    title += f": R² {share(report.score)} % on {images_of(report.num_images, report.split)}"
    return Chart(name, title, 4.8, 3.8, paint)


def calibration_chart(name: str, title: str, report: TargetReport, found: Calibration) -> Chart:
    """How often what a model is so sure of comes true, with and without a temperature."""
    sides = [(found.bins, "as they are", "o", COLOURS[0], "-")]
    if found.calibrated_bins is not None:
        sides.append((found.calibrated_bins, f"at temperature {found.temperature:.2f}", "s", COLOURS[1], "--"))

    def paint(axes: Any) -> Sequence[Any]:
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=THIN, linestyle=":", gid="diagonal")
        for bins, _, marker, colour, dash in sides:
            most = max((each.num for each in bins), default=1)
            places = [percent(each.confidence) for each in bins], [percent(each.right) for each in bins]
            axes.plot(*places, color=colour, linestyle=dash, linewidth=THIN, gid="line")
            sizes = [8 + 60 * each.num / most for each in bins]
            axes.scatter(*places, s=sizes, color=colour, marker=marker, zorder=3)
        claims = "predicted class" if report.kind is CLASSES else "labels"
        axes.set(xlabel=f"probability of the {claims}, %", ylabel="came true, %", xlim=(-2, 102), ylim=(-2, 102))
        axes.grid()
        return [
            *(mark_handle(marker, colour, True, label, LARGE) for _, label, marker, colour, _ in sides),
            line_handle(GREY, "what is claimed comes true", ":", THIN),
            mark_handle("o", GREY, True, "larger: more images", MARK),
        ]

    title += f": expected error {share(found.error)} points on {images_of(report.num_images, report.split)}"
    return Chart(name, title, 4.8, 3.8, paint)


def confusion(name: str, title: str, report: TargetReport) -> Chart:
    """Counts on the shares of their rows, true classes down, predicted ones across."""
    assert is_set(report.confusion_matrix)
    assert is_set(report.classes)
    counts = np.array(report.confusion_matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [cut(str(each), 1.6) for each in report.classes]
    many = len(names)
    side = max(2.2, min(4.6, 0.42 * many))
    # Numbers as large as their cells allow; where they could not be read there are none.
    size = size_in(side / many, len(f"{counts.max():.0f}"))
    title += f": balanced accuracy {share(report.score)} % on {images_of(report.num_images, report.split)}"
    longest = max(width_of(each) for each in names)

    def paint(axes: Any) -> Sequence[Any]:
        texts = [[f"{n:.0f}" if n or many <= 12 else "" for n in line] for line in counts]
        heat(
            axes,
            shares,
            names,
            names,
            across="predicted class",
            down="true class",
            low=0.0,
            high=1.0,
            what="share of the row (recall)",
            texts=texts if size else None,
            text_size=size,
        )
        return ()

    return Chart(name, title, min(WIDEST, side + 1.4 + longest), side + 0.6 + 0.8 * longest, paint)
