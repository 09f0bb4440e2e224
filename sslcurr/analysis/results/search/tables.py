"""Tables of the search for an ordering."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.columns import failures, same_columns
from sslcurr.analysis.results.estimate import points, share, spread
from sslcurr.analysis.results.table import Column, Document, Row, Table, count
from sslcurr.wording import arrow, counted


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    rows: list[Row] = []
    breaks = set()
    for rung in document["rungs"]:
        breaks.add(len(rows))
        step = {"length": rung["length"], "seeds": rung["seeds"], "short": rung["short"]}
        for candidate in rung["candidates"]:
            rows.append(
                {
                    **step,
                    "epochs": candidate["epochs"],
                    "ordering": arrow(candidate["ordering"]),
                    "score": candidate["score"],
                    "state": "kept" if candidate["kept"] else "",
                }
            )
        rows += [
            {**step, "ordering": arrow(ordering), "state": "left out: budget"} for ordering in rung["not_afforded"]
        ]
    breaks.add(len(rows))
    for finalist in document["finalists"]:
        rows.append(
            {
                "length": len(finalist["ordering"]),
                "seeds": len(finalist["runs"]),
                "ordering": arrow(finalist["ordering"]),
                "score": finalist["score"],
                "state": "found" if finalist["ordering"] == document["ordering"] else "fine-tuned",
                **{name: finalist[name] for name in ("mean", "std", "validation")},
            }
        )
    cost, missed = document["cost"], document["missed"]
    notes = [
        "Candidates are scored by a probe on the validation images; the last rows are fine-tuned.",
        f"{cost['image_passes']:,.0f} image passes, {cost['share']:.1%} of the {cost['exhaustive_image_passes']:,.0f} "
        "of all orderings",
    ]
    if missed is None:
        notes.append("what it missed is not known: the store does not hold all orderings (sslcurr rank --length N)")
    else:
        notes.append(
            f"number {missed['rank']} of {missed['num_orderings']} orderings; the best, {arrow(missed['best'])}, has "
            f"{share(missed['best_mean'])} %: {points(missed['gap'], *(missed['gap_interval'] or (None, None)))} "
            f"points; the median ordering {share(missed['median'])} %"
        )
    if document["ordering"]:
        notes.append(f"found: {arrow(document['ordering'])}")
    filled = same_columns(rows)
    columns = (
        Column("tasks", ("length",), count),
        Column("epochs", ("epochs",), count),
        Column("seeds", ("seeds",), count),
        Column("candidate", ("ordering",)),
        Column("score (%)", ("score",), share),
        Column("", ("state",)),
        Column("validation (%)", ("validation",), lambda value: "" if value is None else share(value)),
        Column("balanced accuracy (%)", ("mean", "std"), lambda mean, std: "" if mean is None else spread(mean, std)),
    )
    yield Table(
        "search",
        f"Automatic curriculum: {document['dataset']}, {document['split']} images, "
        f"{counted(len(document['seeds']), 'seed')}, {document['measure']}",
        columns,
        filled,
        (*notes, *failures(document)),
        best=frozenset(i for i, row in enumerate(filled) if row["state"] == "found"),
        breaks=frozenset(breaks - {0}),
    )
