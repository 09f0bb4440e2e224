"""Tables of what many chains will cost."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.forecast.document import ForecastDocument
from sslcurr.analysis.results.table import Column, Table, count
from sslcurr.wording import arrow, counted, duration


def tables(document: ForecastDocument, title: str) -> Iterator[Table]:
    """Every stage, parents first; a terminal shows their tree instead."""
    yield Table(
        "forecast",
        f"Stages of {counted(document.chains, 'chain')}: {len(document.stages)} in all, {document.there} there already",
        (
            Column("stage", ("task",)),
            Column("chain", ("tasks",)),
            Column("seed", ("seed",), count),
            Column("key", ("key",)),
            Column("", ("reused",), lambda reused: "there" if reused else "to be trained", words=True),
        ),
        [{**stage.to_json(), "tasks": arrow(stage.tasks)} for stage in document.stages],
        detail=True,
    )


def closing_lines(document: ForecastDocument) -> list[str]:
    """The tree of stages; the cost with and without sharing, what is there, speeds, time and room."""
    num_stages = document.pretraining_stages
    lines = [
        f"{counted(document.chains, 'chain')}; pretraining stages: {num_stages.alone} one by one, {num_stages.shared} "
        f"with shared prefixes; {counted(len(document.stages), 'stage')} in all, {document.there} there already"
    ]
    if document.guessed is True:
        lines.insert(0, "the curriculum is known when each task was trained alone; the tree takes the order given")
    if document.images_per_second:
        now = dict.fromkeys(document.measured_now, " (measured now)")
        speeds = [f"{task} {speed:,.0f}{now.get(task, '')}" for task, speed in document.images_per_second.items()]
        lines.append(f"images/s: {', '.join(speeds)}")
        lines.append(f"to be trained: about {duration(3600 * document.hours)}, {document.gigabytes:.1f} GB of weights")
    return [*document.tree, *lines]
