"""Tables of attention."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.attention.document import AttentionDocument, ChainAttention
from sslcurr.analysis.results.columns import (
    ATTENTION,
    ATTENTION_BETWEEN,
    BETWEEN,
    attention_of,
    one_seed,
    places_of_highest,
    same_columns,
)
from sslcurr.analysis.results.estimate import INTERVAL, Difference, between, ends_of, points, share
from sslcurr.analysis.results.overlap import overlap_lines
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.wording import counted

# Of more chains than these a terminal does not show the classes.
MOST_CHAINS = 4
DIFFERENCE = Column("difference from the first (points)", ("difference", "difference_low", "difference_high"), points)


def tables(document: AttentionDocument, title: str) -> Iterator[Table]:
    """A row for each chain; then the classes of each chain."""
    rows = same_columns([_row(chain) for chain in document.chains])
    columns = (
        Column("chain", ("chain",)),
        Column("seeds", ("num_seeds",), count),
        ATTENTION,
        ATTENTION_BETWEEN,
        *([DIFFERENCE] if any(isinstance(chain.difference, Difference) for chain in document.chains) else []),
        Column("without preference (%)", ("coverage",), share),
        Column("pointing (%)", ("pointing",), share),
        Column(f"{INTERVAL} of pointing", ("pointing_low", "pointing_high"), between),
        Column("undefined", ("num_undefined",), count),
        Column("images", ("num_images",), count),
    )
    split = "" if document.split == "all" else f"{document.split} "
    about = f"{document.dataset}, {counted(document.num_images, split + 'image')} with a mask"
    yield Table(
        "attend",
        f"Attention inside the masks: {about}; {document.method} of the {document.target} class at {document.layer}",
        columns,
        rows,
        (
            "attention: share of the map inside the mask; without preference: share of the view that the mask covers, "
            "which a map that prefers nothing has; pointing: share of the images whose highest point is inside.",
            *_about_seeds(document),
            *overlap_lines(document.overlap, document.dataset),
        ),
        best=places_of_highest(rows, "attention"),
    )
    for chain in document.chains:
        # A chain of one class has one row that says what the first table says.
        detail = len(document.chains) > MOST_CHAINS or len(chain.classes) < 2
        yield _by_class(chain, detail)


def closing_lines(document: AttentionDocument) -> list[str]:
    """Where the classes are that a terminal does not show."""
    return ["By class: --json"] if len(document.chains) > MOST_CHAINS else []


def _about_seeds(document: AttentionDocument) -> list[str]:
    """What intervals are over."""
    counts = {len(chain.seeds) for chain in document.chains}
    if counts == {1}:
        return [one_seed(document.split)]
    alone = " Those of chains of one seed are over images only, and hold for those models." if 1 in counts else ""
    return [f"± is the standard deviation over seeds; intervals are over images and seeds.{alone}"]


def _row(chain: ChainAttention) -> Row:
    return {
        "chain": chain.chain,
        "num_seeds": len(chain.seeds),
        "num_images": chain.num_images,
        **attention_of(chain.attention),
        **_difference(chain),
        "coverage": chain.coverage,
        "pointing": chain.pointing.mean,
        **ends_of(chain.pointing.interval, "pointing_"),
        "num_undefined": chain.num_undefined,
    }


def _difference(chain: ChainAttention) -> Row:
    if not isinstance(chain.difference, Difference):
        return {}
    return {"difference": chain.difference.mean, **ends_of(chain.difference.interval, "difference_")}


def _by_class(chain: ChainAttention, detail: bool) -> Table:
    rows: list[Row] = [
        {
            "class": name,
            "num_images": members.num_images,
            "attention": members.attention,
            **ends_of(members.interval),
            "coverage": members.coverage,
            "pointing": members.pointing,
        }
        for name, members in chain.classes.items()
    ]
    columns = (
        Column("class", ("class",)),
        Column("images", ("num_images",), count),
        Column("attention in masks (%)", ("attention",), share),
        BETWEEN,
        Column("without preference (%)", ("coverage",), share),
        Column("pointing (%)", ("pointing",), share),
    )
    return Table("classes", f"Attention by class: {chain.chain}", columns, rows, detail=detail)
