"""Tables of what a store holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import measure_of, share
from sslcurr.analysis.results.inventory.document import (
    HandoverDocument,
    InspectionDocument,
    RemovalDocument,
    RunDocument,
    RunsDocument,
    StageDocument,
    StagesDocument,
)
from sslcurr.analysis.results.table import Column, Table, count
from sslcurr.wording import arrow, counted, first_command

InventoryDocument = (
    RunsDocument
    | StagesDocument
    | RunDocument
    | StageDocument
    | RemovalDocument
    | HandoverDocument
    | InspectionDocument
)


def tables(document: InventoryDocument, title: str) -> Iterator[Table]:
    """A row for each run or stage."""
    if _is_empty(document):
        return
    if isinstance(document, RunsDocument):
        yield _runs(document)
    elif isinstance(document, StagesDocument):
        yield _stages(document)
    elif isinstance(document, InspectionDocument) and document.findings:
        yield _findings(document)


def _is_empty(document: InventoryDocument) -> bool:
    """Whether it lists what a store holds, and there is nothing."""
    if isinstance(document, RunsDocument):
        return not document.runs
    return isinstance(document, StagesDocument) and not document.stages


def closing_lines(document: InventoryDocument) -> list[str]:
    """All that is known of one run or stage, a value a line; the bytes of what was removed; what to do where there is
    nothing."""
    if _is_empty(document):
        return [f"nothing was trained here yet; a first command: {first_command()}"]
    if isinstance(document, RunDocument | StageDocument):
        return [
            f"{key}: {value if isinstance(value, str) else json.dumps(value)}"
            for key, value in document.to_json().items()
            if key not in ("found", "schema", "invocation")
        ]
    if isinstance(document, RemovalDocument):
        verb = "would free" if document.dry_run else "freed"
        return [f"{verb} {sum(document.removed.values()) / 2**20:.1f} MiB"]
    if isinstance(document, InspectionDocument):
        return _inspected(document)
    if isinstance(document, HandoverDocument):
        verb = "taken from" if document.imported else "written to"
        size = f"{document.num_bytes / 2**20:.1f} MiB"
        what = f"{counted(document.num_stages, 'stage')}, {'with' if document.packs else 'without'} packed images"
        return [f"run {document.run}, {document.title}: {what}, {verb} {document.file} ({size})"]
    return []


def _inspected(document: InspectionDocument) -> list[str]:
    counts = Counter(each.state for each in document.findings)
    found = ", ".join(f"{number} {state}" for state, number in counts.items()) or "nothing is damaged or missing"
    lines = [f"{counted(document.num_files, 'file')}, {document.num_bytes / 2**20:.1f} MiB: {found}"]
    again = list(dict.fromkeys(each.again for each in document.findings if each.again and each.state != "left over"))
    removable = any(each.state in ("damaged", "left over") and not each.repaired for each in document.findings)
    if document.repair and removable:
        lines.append("what a process is at was not removed: run this again later")
    elif removable:
        lines.append("sslcurr runs check --repair removes what is damaged or left over; the commands make it again")
    if again:
        lines += ["to be run again:", *(f"  {command}" for command in again)]
    return lines


def _findings(document: InspectionDocument) -> Table:
    rows = [
        {
            "path": _within(each.path, document.store),
            "state": "removed" if each.repaired else each.state,
            "what": each.what,
        }
        for each in document.findings
    ]
    columns = (Column("state", ("state",), str), Column("what", ("what",), str), Column("in the store", ("path",), str))
    return Table("findings", "", columns, rows)


def _within(path: str, store: str) -> str:
    return path.removeprefix(f"{store.rstrip('/')}/")


def _runs(document: RunsDocument) -> Table:
    # A run of another measure names it in its cell.
    heading = "result" if any(is_set(run.target) for run in document.runs) else "balanced accuracy"
    rows = [
        {
            "run": run.run,
            "title": run.title,
            "dataset": run.dataset,
            "seed": run.seed,
            "state": _state(run),
            "begun": run.created[:16],
            "name": run.name if is_set(run.name) else None,
        }
        for run in document.runs
    ]
    columns = (
        Column("run", ("run",)),
        *([Column("name", ("name",))] if any(is_set(run.name) for run in document.runs) else []),
        Column("chain", ("title",)),
        Column("data", ("dataset",)),
        Column("seed", ("seed",), count),
        Column(heading, ("state",), str),
        Column("begun", ("begun",)),
    )
    return Table("runs", "", columns, rows)


def _state(run: RunDocument) -> str:
    if not run.finished:
        return "unfinished"
    if is_set(run.target) and is_set(run.score) and run.score is not None:
        return f"{measure_of(run.target)} {share(run.score)} %"
    return "-" if run.balanced_accuracy is None else f"{share(run.balanced_accuracy)} %"


def _stages(document: StagesDocument) -> Table:
    rows = [
        {
            "key": stage.key,
            "chain": arrow(stage.tasks),
            "dataset": stage.dataset,
            "num_images": stage.num_images,
            "seed": stage.seed,
            "seconds": stage.seconds,
        }
        for stage in document.stages
    ]
    columns = (
        Column("stage", ("key",)),
        Column("chain", ("chain",)),
        Column("data", ("dataset",)),
        Column("images", ("num_images",), count),
        Column("seed", ("seed",), count),
        Column("seconds", ("seconds",), lambda value: f"{value:,.1f}"),
    )
    return Table("stages", "", columns, rows)
