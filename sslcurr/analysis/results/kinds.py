"""The kinds of documents that commands keep, and what is made of each: tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sslcurr.analysis.results.attention import figures as attention_figures
from sslcurr.analysis.results.attention import tables as attention_tables
from sslcurr.analysis.results.distances import figures as distance_figures
from sslcurr.analysis.results.distances import tables as distance_tables
from sslcurr.analysis.results.grid import figures as grid_figures
from sslcurr.analysis.results.grid import tables as grid_tables
from sslcurr.analysis.results.probing import figures as probing_figures
from sslcurr.analysis.results.probing import tables as probing_tables
from sslcurr.analysis.results.ranking import figures as ranking_figures
from sslcurr.analysis.results.ranking import tables as ranking_tables
from sslcurr.analysis.results.search import figures as search_figures
from sslcurr.analysis.results.search import tables as search_tables
from sslcurr.analysis.results.similarity import figures as similarity_figures
from sslcurr.analysis.results.similarity import tables as similarity_tables
from sslcurr.analysis.results.style import FORMATS, Figure, Formats
from sslcurr.analysis.results.table import Document, Table
from sslcurr.analysis.results.training import figures as training_figures
from sslcurr.analysis.results.training import tables as training_tables
from sslcurr.errors import SpecError, did_you_mean

TABLES: dict[str, Callable[[Document, str], Iterator[Table]]] = {
    "train": training_tables.tables,
    "rank": ranking_tables.tables,
    "search": search_tables.tables,
    "grid": grid_tables.tables,
    "cka": similarity_tables.tables,
    "fid": distance_tables.tables,
    "probe": probing_tables.tables,
    "attend": attention_tables.tables,
}
FIGURES: dict[str, Callable[[Mapping[str, Any], Path, Formats], list[Figure | None]]] = {
    "train": training_figures.draw,
    "rank": ranking_figures.draw,
    "search": search_figures.draw,
    "grid": grid_figures.draw,
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


def tables(kind: str, document: Document, title: str = "") -> list[Table]:
    """The tables of what a command found, the main ones first.

    Args:
        kind: of the document, as in the store.
        document: as docs/commands.md says.
        title: of the run, such as `rotation -> classification`.
    """
    return list(TABLES[kind](document, title)) if kind in TABLES else []


def draw(kind: str, document: Mapping[str, Any], folder: Path, *, formats: Formats = FORMATS) -> list[Figure]:
    """Draw what a command found into `folder`.

    Args:
        kind: of the document: train, rank, search, grid, cka, fid, probe or attend.
        document: as the command prints it with `--json` (docs/commands.md).
        folder: an existing folder.
        formats: png, svg or both.

    Raises:
        SpecError: there is no such kind.
    """
    if kind not in FIGURES:
        raise SpecError(f"there are no charts of kind {kind!r}", did_you_mean(kind, sorted(FIGURES)))
    return [figure for figure in FIGURES[kind](document, folder, formats) if figure is not None]
