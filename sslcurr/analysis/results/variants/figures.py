"""The chart of a ranking that was repeated over settings."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.charts import distinct, line_chart, line_of
from sslcurr.analysis.results.ranking.labels import about_chains, accuracy_label, interval_label, joined_tasks
from sslcurr.analysis.results.style import Chart
from sslcurr.analysis.results.variants.document import ChainRow, VariantsDocument

# Names of settings that are not said as they are typed.
SAID = {"lr": "learning rate", "fraction": "share of the images", "label-fraction": "share of the labels"}


def charts(document: VariantsDocument) -> Iterator[Chart]:
    """A line for each chain over the settings, which cross where settings disagree; a heat map of many chains."""
    rows = [{tuple(row.ordering): row for row in each.chains} for each in document.variants]
    names = list(dict.fromkeys(name for each in rows for name in each))
    if not any(row.mean is not None for each in rows for row in each.values()):
        return
    about = about_chains(document.dataset, document.split, document.num_images, len(document.seeds), document.measure)
    settings = [SAID.get(axis.name, axis.name.replace("-", " ").replace("_", " ")) for axis in document.axes]
    titles = distinct([joined_tasks(name) if name else document.baseline for name in names], most=400)
    lines = {
        title: line_of([_mean(each.get(name)) for each in rows], [_ends(each.get(name)) for each in rows], 100.0)
        for title, name in zip(titles, names, strict=True)
    }
    yield line_chart(
        "variants",
        lines,
        [", ".join(each.values.values()) for each in document.variants],
        title=f"The ranking under different settings ({', '.join(settings)}): {about}",
        across=", ".join(settings),
        up=accuracy_label(document.split, document.target),
        shares=False,
        interval=interval_label(len(document.seeds)),
    )


def _mean(row: ChainRow | None) -> float | None:
    return None if row is None else row.mean


def _ends(row: ChainRow | None) -> tuple[float, float] | None:
    return None if row is None else row.interval
