"""Tables of two runs."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.comparison.document import ComparedChain, CompareDocument
from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import ends_of, measure_of, points, share
from sslcurr.analysis.results.table import Column, Row, Table


def tables(document: CompareDocument, title: str) -> Iterator[Table]:
    """The settings that differ, and the chains that both measured."""
    a, b = document.runs
    settings: list[Row] = [
        {"setting": each.setting, **{name: value or "-" for name, value in zip("ab", each.values, strict=True)}}
        for each in document.settings
    ]
    columns: tuple[Column, ...] = (Column("setting", ("setting",)), Column(a, ("a",)), Column(b, ("b",)))
    notes = ("no setting differs",) if not settings else ()
    yield Table("settings", title or f"{document.titles[0]} and {document.titles[1]}", columns, settings, notes)
    if document.chains:
        rows: list[Row] = [
            {
                **{"chain": each.chain, "seeds": _seeds(each), "mean": each.difference.mean},
                **dict(zip("ab", each.measured, strict=True)),
                **ends_of(each.difference.interval),
            }
            for each in document.chains
        ]
        measure = measure_of(document.target)
        columns = (
            Column("chain", ("chain",)),
            Column("seeds", ("seeds",)),
            Column(f"{a}: {measure} (%)", ("a",), share),
            Column(f"{b} (%)", ("b",), share),
            Column("difference (points)", ("mean", "low", "high"), points),
        )
        yield Table("chains", f"Results on {document.num_images} images", columns, rows)


def _seeds(chain: ComparedChain) -> str:
    return " and ".join(", ".join(map(str, seeds)) for seeds in chain.seeds)


def closing_lines(document: CompareDocument) -> list[str]:
    """Why results are not compared, or how the differences are to be read."""
    if is_set(document.reason):
        return [f"results are not compared: {document.reason}"]
    several = any(is_set(each.difference.num_seeds) and each.difference.num_seeds > 1 for each in document.chains)
    luck = "and by seed" if several else "of one seed each, which tells nothing apart"
    return [f"means of the seeds that both have; differences: the second less the first, paired by image, {luck}"]
