"""The kinds of documents that commands keep, and what is made of each: tables and charts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sslcurr.analysis.results.attention import figures as attention_figures
from sslcurr.analysis.results.attention import tables as attention_tables
from sslcurr.analysis.results.distances import figures as distance_figures
from sslcurr.analysis.results.distances import tables as distance_tables
from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.probing import figures as probing_figures
from sslcurr.analysis.results.probing import tables as probing_tables
from sslcurr.analysis.results.similarity import figures as similarity_figures
from sslcurr.analysis.results.similarity import tables as similarity_tables
from sslcurr.analysis.results.style import FORMATS, Figure, Formats
from sslcurr.analysis.results.table import Document as Plain
from sslcurr.analysis.results.table import Table
from sslcurr.analysis.results.training import figures as training_figures
from sslcurr.analysis.results.training import tables as training_tables
from sslcurr.errors import SpecError, StoreError, did_you_mean

# kind -> module and class of its document. A new kind is a folder and a line here.
KINDS = {
    "rank": "sslcurr.analysis.results.ranking.document:RankDocument",
    "search": "sslcurr.analysis.results.search.document:SearchDocument",
    "grid": "sslcurr.analysis.results.grid.document:GridDocument",
    "forecast": "sslcurr.analysis.results.forecast.document:ForecastDocument",
    "search-forecast": "sslcurr.analysis.results.search_forecast.document:SearchForecastDocument",
}
TABLES: dict[str, Callable[[Plain, str], Iterator[Table]]] = {
    "train": training_tables.tables,
    "cka": similarity_tables.tables,
    "fid": distance_tables.tables,
    "probe": probing_tables.tables,
    "attend": attention_tables.tables,
}
FIGURES: dict[str, Callable[[Mapping[str, Any], Path, Formats], list[Figure | None]]] = {
    "train": training_figures.draw,
    "cka": similarity_figures.draw,
    "fid": distance_figures.draw,
    "probe": probing_figures.draw,
    "attend": attention_figures.draw,
}
# What `sslcurr report --table` can print -> the kind of document that it is made of.
TABLE_NAMES = {
    "rank": "rank",
    "orderings": "rank",
    "search": "search",
    "grid": "grid",
    "cka": "cka",
    "fid": "fid",
    "probe": "probe",
    "attend": "attend",
    "train": "train",
    "stages": "stages",
}


def document_class(kind: str) -> type[Document]:
    """The class of a kind's documents.

    Raises:
        SpecError: there is no such kind.
    """
    if kind not in KINDS:
        raise SpecError(f"there are no documents of kind {kind!r}", did_you_mean(kind, KINDS))
    module, _, name = KINDS[kind].partition(":")
    found: type[Document] = getattr(importlib.import_module(module), name)
    return found


def decode(kind: str, plain: Any) -> Document:
    """A document from plain values, as the store keeps it and `--json` prints it; unknown keys are passed over.

    Raises:
        SpecError: there is no such kind.
        StoreError: the values are not a document of that kind.
    """
    try:
        return msgspec.convert(plain, document_class(kind))
    except msgspec.ValidationError as error:
        raise StoreError(
            f"a result of kind {kind} is damaged ({error})", "run its command again: what was trained is kept"
        ) from error


def tables(kind: str, document: Plain, title: str = "") -> list[Table]:
    """The tables of what a command found, the main ones first.

    Args:
        kind: of the document, as in the store.
        document: as docs/commands.md says.
        title: of the run, such as `rotation -> classification`.
    """
    if kind in KINDS:
        return decode(kind, document).tables(title)
    return list(TABLES[kind](document, title)) if kind in TABLES else []


def draw(kind: str, document: Plain, folder: Path, *, formats: Formats = FORMATS) -> list[Figure]:
    """Draw what a command found into `folder`.

    Args:
        kind: of the document: train, rank, search, grid, cka, fid, probe or attend.
        document: as the command prints it with `--json` (docs/commands.md).
        folder: an existing folder.
        formats: png, svg or both.

    Raises:
        SpecError: there is no such kind.
    """
    if kind in KINDS:
        return [chart.save(folder, formats) for chart in decode(kind, document).figures().values()]
    if kind not in FIGURES:
        raise SpecError(f"there are no charts of kind {kind!r}", did_you_mean(kind, sorted({*FIGURES, *KINDS})))
    return [figure for figure in FIGURES[kind](document, folder, formats) if figure is not None]
