"""Tables for papers out of a store, and the documents that its runs keep."""

from __future__ import annotations

import shlex

from msgspec import UnsetType

from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.kinds import KINDS, TABLE_NAMES, decode
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.analysis.results.report.tables import stage_table
from sslcurr.analysis.results.table import Table
from sslcurr.errors import StoreError


def found_by(run: StoredRun) -> Document | None:
    """What a run found; None where that is not kept, or of a kind that this version does not know.

    Raises:
        StoreError: it is damaged.
    """
    if run.kind not in KINDS:
        return None
    return decode(run.kind, run.document)


def command_of(run: StoredRun) -> tuple[str, ...]:
    """The command line of a run, word by word; none where its record does not say it."""
    return () if isinstance(run.command, UnsetType) else tuple(run.command)


def printed_table(document: ReportDocument, name: str) -> tuple[Table, tuple[str, ...]]:
    """The table of a name, of the newest run that has it, and the command that makes it again.

    Args:
        document: what was gathered.
        name: one of `kinds.TABLE_NAMES`, such as `orderings`.

    Raises:
        StoreError: no run has it.
    """
    if name == "stages":
        return stage_table(document.stages), ()
    damaged: StoreError | None = None
    for run in document.runs:
        if run.kind != TABLE_NAMES[name]:
            continue
        try:
            result = found_by(run)
        except StoreError as error:
            damaged = damaged or error
            continue
        for table in result.tables(run.title) if result is not None else ():
            if table.name == name:
                return table, command_of(run)
    if damaged is not None:
        raise damaged
    raise _without(document, name)


def _without(document: ReportDocument, name: str) -> StoreError:
    """The mistake of asking for a table that no run has."""
    if len(document.runs) == 1:
        (run,) = document.runs
        if run.kind is None:
            command = f": {shlex.join(command_of(run))}" if command_of(run) else ""
            return StoreError(run.fault or f"the run {run.run} has no kept result", f"run its command again{command}")
        return StoreError(
            f"the run {run.run} has no table {name!r}, its result is of the kind {run.kind}",
            "sslcurr report --table stages, or another --run",
        )
    hint = f"run sslcurr {_command_word(name)}"
    if any(run.kind is None for run in document.runs):
        hint += "; a run from before results were kept has one when its command is run again"
    return StoreError(f"no run in {document.store} has a table {name!r}", hint)


def _command_word(name: str) -> str:
    over = dict.fromkeys(("variants", "agreement"), "rank --over epochs=5,10")
    words = {"orderings": "rank --length 2", "search": "rank --search", "train": "chain", **over}
    words |= {"rates": "rank --lr search --against default"}
    explained = TABLE_NAMES[name] == "explain"
    return words.get(name, "explain RANKING" if explained else name)
