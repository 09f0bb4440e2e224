"""What a store holds: its runs and stages, one of them, what nobody needs any more, and all of it on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslcurr.analysis.results.inventory.document import (
    RunDocument,
    RunsDocument,
    StageDocument,
    StagesDocument,
)
from sslcurr.api.session import Session
from sslcurr.errors import StoreError

if TYPE_CHECKING:
    pass


def runs(session: Session) -> RunsDocument:
    """The runs of a store, the one begun first first."""
    records = session.existing_store().all_runs()
    return session.finished(RunsDocument(runs=[_run_row(name, record) for name, record in records.items()]))


def stages(session: Session) -> StagesDocument:
    """The finished stages of a store, oldest first."""
    return session.finished(StagesDocument(stages=[_stage_row(stage) for stage in session.existing_store().all()]))


def show(session: Session, name: str) -> RunDocument | StageDocument:
    """All that is known of a run, or of the stage whose key begins with `name`; drawn where there is a folder for it.

    Raises:
        StoreError: there is neither.
    """
    store = session.existing_store()
    records = store.all_runs()
    if name not in records:
        return session.finished(_shown_stage(session, store.resolve(name)))
    result = store.result(name)
    if result is not None:
        _draw(session, store, name, *result)
    elif session.plots() is not None:
        raise StoreError(f"what run {name} found is not known yet", "run its command again, then draw it")
    plain = None if result is None else result[1]
    return session.finished(RunDocument(row=_run_row(name, records[name]), found=plain))
