"""Tables of rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sslcurr.analysis.results.columns import (
    ACCURACY,
    BETWEEN,
    VALIDATION,
    about_images,
    attention_columns,
    attention_of,
    by_seed,
    failures,
    places_of_highest,
    same_columns,
    seeds_column,
    summary_of,
)
from sslcurr.analysis.results.estimate import INTERVAL, between, ends_of, points, share, spread
from sslcurr.analysis.results.table import Column, Document, Row, Table
from sslcurr.wording import arrow, counted

PREDICTORS = {
    "order": "how much of a curriculum it is",
    "mean": "the mean single-task accuracy",
    "last": "the accuracy of its last task",
}


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    seeds = document["seeds"]
    gains = {name: "gain_over_imagenet" if name == "ImageNet" else "gain" for name in document["baselines"]}
    rows: list[Row] = []
    for name, row in document["baselines"].items():
        rows.append({"task": name, "baseline": True, **summary_of(row), **attention_of(row), **by_seed(row)})
    for row in document["tasks"]:
        over: Row = {}
        for name, key in gains.items():
            gain = row.get(key) or {"mean": None, "interval": None}
            over |= {f"gain_over_{name}": gain["mean"], **ends_of(gain["interval"], f"gain_over_{name}_")}
        rows.append(
            {"task": row["task"], "baseline": False, **summary_of(row), **over, **attention_of(row), **by_seed(row)}
        )
    gain_columns = [
        Column(f"gain over {name} (points)", tuple(f"gain_over_{name}{end}" for end in ("", "_low", "_high")), points)
        for name in gains
    ]
    filled = same_columns(rows)
    columns = [Column("task", ("task",)), ACCURACY, BETWEEN, *gain_columns, VALIDATION]
    columns += [*attention_columns(rows), *seeds_column(rows, len(seeds))]
    num_baselines = len(document["baselines"])
    best = frozenset(i + num_baselines for i in places_of_highest(filled[num_baselines:], "mean"))
    notes = [
        f"± is the standard deviation over {counted(len(seeds), 'seed')}; intervals are over test images and seeds."
    ]
    if len(seeds) == 1:
        notes = ["One seed has no spread over seeds; intervals are over test images."]
    if len(document["tasks"]) > 1:
        notes.append(
            f"The best of {len(document['tasks'])} tasks is marked: chosen by the images it is quoted on, so it is a "
            "little too good."
        )
    if document.get("curriculum"):
        notes.append(f"curriculum: {arrow(document['curriculum'])}")
    notes += [f"neighbours that cannot be told apart: {arrow(group)}" for group in document.get("ties", ())]
    if (attention := document.get("attention")) is not None:
        notes.append(
            f"attention: share of the {attention['method']} maps inside the masks, "
            f"{counted(attention['num_images'], 'image')}; a map without preference has "
            f"{share(attention['coverage'])} %"
        )
    yield Table(
        "rank",
        f"Single tasks: {about_images(document)}, {counted(len(seeds), 'seed')}, {document['measure']}",
        tuple(columns),
        filled,
        (*notes, *failures(document)),
        best=best,
        breaks=frozenset({num_baselines} if 0 < num_baselines < len(filled) else ()),
    )
    if document.get("orderings"):
        yield _orderings(document)


def _orderings(document: Document) -> Table:
    seeds = document["seeds"]
    rows = [
        {
            "ordering": arrow(row["ordering"]),
            "length": len(row["ordering"]),
            "kind": row["kind"],
            "full": row["full"],
            "uncertain": row["uncertain"],
            "best": row["best"],
            **summary_of(row),
            **attention_of(row),
            **by_seed(row),
        }
        for row in document["orderings"]
    ]
    filled = same_columns(rows)
    columns = [
        Column("pretraining", ("ordering",)),
        Column("kind", ("kind", "full", "uncertain"), _kind, words=True),
    ]
    columns += [ACCURACY, BETWEEN, VALIDATION, *attention_columns(rows), *seeds_column(rows, len(seeds))]
    notes = ["The best of each length by the test images is marked."]
    if document["split"] != "test":
        notes = [f"The best of each length by the {document['split']} images is marked."]
    if any(row["uncertain"] for row in rows):
        notes.append("?: two of its tasks cannot be told apart, so that its kind may be chance.")
    return Table(
        "orderings",
        f"Orderings: {about_images(document)}, {counted(len(seeds), 'seed')}, {document['measure']}",
        tuple(columns),
        filled,
        (*notes, *choices(document), *tests(document)),
        best=frozenset(i for i, row in enumerate(rows) if row["best"]),
        breaks=frozenset(i for i in range(1, len(rows)) if rows[i]["length"] != rows[i - 1]["length"]),
    )


def _kind(kind: str | None, full: bool, uncertain: bool) -> str:
    return (kind or "-") + (", full" if full else "") + (" ?" if uncertain else "")


def choices(document: Document) -> list[str]:
    """Which chain is best by the reported images, which is too good to be true, and which the validation chooses."""
    best = document.get("best")
    if best is None:
        return []
    split = document["split"]
    chosen = best[f"on_{split}"]

    def figure(row: Mapping[str, Any]) -> str:
        return f"{spread(row['mean'], row['std'])} % ({INTERVAL}: {between(*(row['interval'] or (None, None)))})"

    found = [
        f"best on the {split} images: {arrow(chosen['ordering'])}, {figure(chosen)}: the best of {best['num_chains']}, "
        "chosen by the images it is quoted on, so it is too good"
    ]
    if "on_validation" in best:
        chosen = best["on_validation"]
        found.append(
            f"chosen on the validation images: {arrow(chosen['ordering'])}, {figure(chosen)} on the {split} images"
        )
    return found


def tests(document: Document) -> list[str]:
    """The test of the hypothesis in sentences."""
    found = []
    hypothesis = document.get("hypothesis") or {"permutation": [], "kendall": []}
    for test in hypothesis["permutation"]:
        against = "other orderings of the same tasks" if test["strata"] == "set" else "other orderings as long"
        if not test["num_strata"]:
            found.append(f"curricula against {against}: none to compare")
            continue
        effect = points(test["effect"], *(test["interval"] or (None, None)))
        found.append(
            f"curricula against {against}: {effect} points, p = {test['p_value']:.3f} (one-sided permutation test, "
            f"{test['num_arrangements']:,} arrangements, {'exact' if test['exact'] else 'drawn'})"
        )
    for entry in hypothesis["kendall"]:
        if entry["tau"] is not None:
            interval = entry["interval"]
            ends = "" if interval is None else f" ({interval[0]:+.2f} to {interval[1]:+.2f})"
            found.append(
                f"Kendall's tau of accuracy and {PREDICTORS.get(entry['by'], entry['by'])}, {entry['num_orderings']} "
                f"orderings of {entry['length']}: {entry['tau']:+.2f}{ends}"
            )
    return found
