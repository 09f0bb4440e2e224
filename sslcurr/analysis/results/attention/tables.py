"""Tables of attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sslcurr.analysis.results.columns import (
    ATTENTION,
    ATTENTION_BETWEEN,
    BETWEEN,
    attention_of,
    places_of_highest,
    same_columns,
)
from sslcurr.analysis.results.estimate import INTERVAL, between, ends_of, share
from sslcurr.analysis.results.table import Column, Document, Table, count
from sslcurr.wording import counted


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    rows = [
        {
            "chain": chain["chain"],
            "num_seeds": len(chain["seeds"]),
            **attention_of(chain),
            "coverage": chain["coverage"],
            "pointing": chain["pointing"]["mean"],
            **ends_of(chain["pointing"]["interval"], "pointing_"),
            "num_undefined": chain["num_undefined"],
        }
        for chain in document["chains"]
    ]
    rows = same_columns(rows)
    columns = (
        Column("chain", ("chain",)),
        Column("seeds", ("num_seeds",), count),
        ATTENTION,
        ATTENTION_BETWEEN,
        Column("without preference (%)", ("coverage",), share),
        Column("pointing (%)", ("pointing",), share),
        Column(f"{INTERVAL} of pointing", ("pointing_low", "pointing_high"), between),
        Column("undefined", ("num_undefined",), count),
    )
    split = "" if document["split"] == "all" else f"{document['split']} "
    about = f"{document['dataset']}, {counted(document['num_images'], split + 'image')} with a mask"
    yield Table(
        "attend",
        f"Attention inside the masks: {about}; {document['method']} of the {document['target']} class at "
        f"{document['layer']}",
        columns,
        rows,
        (
            "attention: share of the map inside the mask; without preference: share of the view that the mask covers, "
            "which a map that prefers nothing has; pointing: share of the images whose highest point is inside.",
        ),
        best=places_of_highest(rows, "attention"),
    )
    for chain in document["chains"]:
        classes = [
            {
                "class": name,
                "num_images": found["num_images"],
                "attention": found["attention"],
                **ends_of(found["interval"]),
                "coverage": found["coverage"],
                "pointing": _number_of(found["pointing"]),
            }
            for name, found in chain["classes"].items()
        ]
        by_class = (
            Column("class", ("class",)),
            Column("images", ("num_images",), count),
            Column("attention in masks (%)", ("attention",), share),
            BETWEEN,
            Column("without preference (%)", ("coverage",), share),
            Column("pointing (%)", ("pointing",), share),
        )
        yield Table("classes", f"Attention by class: {chain['chain']}", by_class, classes)


def _number_of(value: Any) -> Any:
    return value["mean"] if isinstance(value, Mapping) else value
