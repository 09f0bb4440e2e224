"""What a store holds: its runs and stages, one of them, what nobody needs any more, and all of it on one page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sslcurr.analysis.results.inventory.document import (
    FindingEntry,
    HandoverDocument,
    InspectionDocument,
    RemovalDocument,
    RunDocument,
    RunsDocument,
    StageDocument,
    StagesDocument,
)
from sslcurr.api.session import Session
from sslcurr.errors import SpecError, StoreError, did_you_mean
from sslcurr.files import OUTPUT_MARK

if TYPE_CHECKING:
    from sslcurr.analysis.results.comparison.document import CompareDocument
    from sslcurr.analysis.results.document import Document, Json
    from sslcurr.analysis.results.report.document import ReportDocument
    from sslcurr.engine.handover import Handed
    from sslcurr.engine.store import Stage, Store
    from sslcurr.spec.record import RunRecord


def runs(session: Session) -> RunsDocument:
    """The runs of a store, the one begun first first."""
    records = session.existing_store().all_runs()
    return session.finished(RunsDocument(runs=[_run(name, record) for name, record in records.items()]))


def stages(session: Session) -> StagesDocument:
    """The finished stages of a store, oldest first."""
    return session.finished(StagesDocument(stages=[_stage(stage) for stage in session.existing_store().readable()]))


def show(session: Session, name: str) -> RunDocument | StageDocument:
    """All that is known of a run, or of the stage whose key begins with `name`; drawn where there is a folder for it.

    Raises:
        StoreError: there is neither.
    """
    store = session.existing_store()
    run = store.named(name)
    if run is None:
        return session.finished(_shown_stage(session, store.resolve(name)))
    name, result = run, store.result(run)
    if result is not None:
        _draw(session, store, name, *result)
    elif session.plots() is not None:
        raise StoreError(f"what run {name} found is not known yet", "run its command again, then draw it")
    plain = None if result is None else result[1]
    return session.finished(msgspec.structs.replace(_run(name, store.all_runs()[name]), found=plain))


def result(session: Session, name: str) -> Document:
    """The document of a run's command.

    Raises:
        StoreError: there is no such run, or it did not come so far.
    """
    from sslcurr.analysis.results.kinds import decode

    store = session.existing_store()
    (run,) = run_names(store, [name])
    kept = store.result(run)
    if kept is None:
        raise StoreError(f"what run {name} found is not known yet", "run its command again")
    return decode(*kept)


def remove(session: Session, names: Sequence[str], *, dry_run: bool) -> RemovalDocument:
    """Forget runs, then remove what no run needs.

    Raises:
        StoreError: there is no such run, or it is running.
    """
    from sslcurr.files import size_of

    store = session.existing_store()
    forgotten = set(run_names(store, names))
    for run in sorted(forgotten):
        if (owner := store.owner_of_run(run)) is not None:
            raise StoreError(f"the run {run} is running: {owner}", "stop it first, or wait until it is done")
    if dry_run:
        sizes = {str(path): size_of(path) for path in store.unneeded(without=forgotten)}
    else:
        sizes = store.remove(forgotten)
    return session.finished(RemovalDocument(forgotten=sorted(forgotten), removed=sizes, dry_run=dry_run))


def check(session: Session, *, repair: bool = False) -> InspectionDocument:
    """Hold all of a store against what was written; `repair` removes what is damaged or left over.

    Raises:
        StoreError: there is no store, or it cannot be written and is to be repaired.
    """
    from sslcurr.engine import inspection

    store = session.existing_store()
    with session.reporter.counting("checking bytes") as progress:
        found = inspection.inspect(store, progress)
    repaired = inspection.repair(store, found) if repair else []
    entries = [
        FindingEntry(path=str(each.path), state=each.state, what=each.what, again=each.again, repaired=each in repaired)
        for each in found.findings
    ]
    return session.finished(
        InspectionDocument(
            store=str(store.root),
            num_files=found.num_files,
            num_bytes=found.num_bytes,
            findings=entries,
            repair=repair,
        )
    )


def compare(session: Session, first: str, second: str) -> CompareDocument:
    """Two runs, one beside the other: settings that differ, and results with their paired differences.

    Raises:
        StoreError: there is no such run.
    """
    from sslcurr.analysis.experiments.compare import compare as compared

    store = session.existing_store()
    document = session.finished(compared(store, run_names(store, [first, second])))
    session.draw(document)
    return document


def export_run(session: Session, name: str, *, out: str | Path, packs: bool = False) -> HandoverDocument:
    """A run as one file: records, weights, reports, and the packed images where they are asked for.

    Raises:
        StoreError: there is no such run, or a process is at work on it. SpecError: the file cannot be written.
    """
    from sslcurr.engine import handover
    from sslcurr.files import check_writable

    path = Path(out).expanduser()
    check_writable(path)
    store = session.existing_store()
    (run,) = run_names(store, [name])
    _note_names(session, store, run)
    return _handed(session, handover.export_run(store, run, path, packs=packs), path, imported=False)


def _note_names(session: Session, store: Store, run: str) -> None:
    """Say which other runs the command of a run names: elsewhere their names mean nothing."""
    records = store.all_runs()
    command = records[run].command
    words = command if isinstance(command, list) else []
    for other, record in records.items():
        if other != run and isinstance(record.name, str) and record.name in words:
            try:
                instead = f"give {store.resolve(record.name).key} instead"
            except StoreError:
                instead = "export that run, too"
            session.reporter.note(f"its command names the run {record.name}, which is not in the file: {instead}")


def import_run(session: Session, file: str | Path) -> HandoverDocument:
    """Take a run from a file of `export_run` into the store; every file is verified first.

    Raises:
        StoreError: it is no such file, is damaged, or the store has something else under the same name.
    """
    from sslcurr.engine import handover

    path = Path(file).expanduser()
    if not path.is_file():
        raise StoreError(f"there is no file {file}", "give one that sslcurr runs export wrote")
    is_new = not session.runs.is_dir()
    try:
        return _handed(session, handover.import_run(session.store(), path), path, imported=True)
    except StoreError:
        if is_new and {each.name for each in session.runs.iterdir()} <= {OUTPUT_MARK}:
            shutil.rmtree(session.runs)  # nothing was taken
        raise


def _handed(session: Session, handed: Handed, path: Path, *, imported: bool) -> HandoverDocument:
    return session.finished(
        HandoverDocument(
            run=handed.run,
            title=handed.record.title,
            file=str(path),
            imported=imported,
            num_stages=handed.num_stages,
            num_files=handed.num_files,
            num_bytes=handed.num_bytes,
            num_there=handed.num_there,
            packs=handed.has_packs,
        )
    )


def run_names(store: Store, texts: Sequence[str]) -> list[str]:
    """The runs that a person means, see `Store.named`.

    Raises:
        StoreError: there is no such run.
    """
    found = []
    for text in texts:
        run = store.named(text)
        if run is None:
            records = store.all_runs()
            given = [record.name for record in records.values() if isinstance(record.name, str)]
            raise StoreError(
                f"there is no run {text!r} in {store.root}", did_you_mean(text, [*records, *given]) if records else ""
            )
        found.append(run)
    return found


def report(session: Session, names: Sequence[str], *, out: Path | None) -> ReportDocument:
    """All that a store holds, or some of its runs; `out` is a file for the page, HTML.

    Raises:
        SpecError, StoreError: the file cannot be written; there is no such store or run.
    """
    from sslcurr.analysis.report import page as pages
    from sslcurr.analysis.report.gather import gather
    from sslcurr.files import check_writable, write_whole
    from sslcurr.wording import counted

    if out is not None:
        check_writable(out)
    store = session.existing_store()
    document = gather(store, run_names(store, names))
    if out is not None:
        page = pages.page(document, store, whole=not names)
        content = page.html.encode()
        write_whole(out, content)
        document = msgspec.structs.replace(
            document, page=str(out), page_size=len(content), num_figures=page.num_figures
        )
        if page.left_out:
            session.reporter.note(f"{counted(len(page.left_out), 'figure')} left out, so that the page stays small")
    return session.finished(document)


def table_text(session: Session, name: str, names: Sequence[str], *, form: str) -> str:
    """A table as text, with the command line that makes its numbers again.

    Raises:
        SpecError, StoreError: several runs are named; no run has such a table.
    """
    from sslcurr.analysis.report.gather import gather
    from sslcurr.analysis.report.tables import printed_table
    from sslcurr.analysis.results.formats import render

    if name != "stages" and len(names) > 1:
        raise SpecError(f"--table {name} is of one run, and {len(names)} are named", "give one --run")
    store = session.existing_store()
    table, command = printed_table(gather(store, run_names(store, names)), name)
    return render(table, form, command)


# ---- what they are made of


def _run(name: str, record: RunRecord) -> RunDocument:
    return msgspec.convert({"run": name, **msgspec.to_builtins(record)}, RunDocument)


def _stage(stage: Stage) -> StageDocument:
    spec, record = stage.spec, stage.record
    return StageDocument(
        key=stage.key,
        task=spec.task,
        tasks=list(spec.tasks),
        dataset=spec.data.name,
        seed=spec.seed,
        checkpoint=str(stage.weights),
        num_images=record.num_images,
        metrics=record.metrics,
        seconds=record.seconds,
        device=record.device,
        precision=record.precision,
        versions=record.versions,
    )


def _shown_stage(session: Session, stage: Stage) -> StageDocument:
    from sslcurr.files import read_json
    from sslcurr.spec.stage import to_dict

    session.draw_stages([stage])
    happened = read_json(stage.folder / "done.json")
    return msgspec.structs.replace(_stage(stage), asked=to_dict(stage.spec), happened=happened)


def _draw(session: Session, store: Store, name: str, kind: str, plain: Json) -> None:
    """Draw what a run found, and the curves of the stages of a training."""
    from sslcurr.analysis.results.kinds import decode

    session.draw(decode(kind, plain))
    if kind == "train":
        keys = store.all_runs()[name].stages
        session.draw_stages([stage for key in keys if (stage := store.find(key)) is not None])
