"""Records of commands: made here only, so that all have all that a store and a report need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET

from sslcurr.engine.store import Stage, Store, now, run_name
from sslcurr.errors import StoreError
from sslcurr.spec.record import RunRecord
from sslcurr.spec.stage import Json
from sslcurr.spec.target import CLASSES, TargetKind

if TYPE_CHECKING:
    from sslcurr.data.pack import Pack
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.models import Model
    from sslcurr.engine.plan import Planner


class ResultDocument(Protocol):
    """The result of a command: a document of `sslcurr.analysis.results`."""

    @property
    def kind(self) -> str:
        """Of the document, such as `cka`."""

    def to_json(self) -> Json:
        """As plain values."""


def run_record(
    planner: Planner, store: Store, *, identity: Json, title: str, stages: Sequence[str], invocation: Sequence[str]
) -> RunRecord:
    """The record of a command that trains, and which stages it needs beside those it starts from.

    Args:
        planner: of the command.
        store: where the record will be.
        identity: what identifies the run; equal values are the same run.
        title: what it is about.
        stages: keys of what it trains.
        invocation: the command line.
    """
    records = store.all_runs()
    earlier, request = records.get(run_name(identity)), planner.request
    if request.run_name is not None:
        check_name(request.run_name, run_name(identity), records, store)
    asked = {"name": request.run_name, "note": request.run_note}
    said: dict[str, Any] = {each: text or getattr(earlier, each, UNSET) for each, text in asked.items()}
    return RunRecord(
        asked=identity,
        title=title,
        dataset=planner.data.pack.name,
        seed=planner.request.seed,
        stages=[*ancestors(planner.parent.key, store), *stages],
        analyses=[] if earlier is None else earlier.analyses,  # until it is known again which are needed
        packs=planner.data.packs,
        balanced_accuracy=None,
        finished=False,
        command=list(invocation),
        created=now(),
        **said,
    )


def check_name(name: str, run: str, records: Mapping[str, RunRecord], store: Store) -> None:
    """Raises StoreError for a name that another run has."""
    other = next((each for each, record in records.items() if record.name == name and each != run), None)
    if other is not None:
        raise StoreError(
            f"the name {name} is that of the run {other}, {records[other].title}",
            f"give another, or forget that run: sslcurr runs remove {other}",
        )


def record_analysis(
    store: Store,
    document: ResultDocument,
    models: Sequence[Model | Stage],
    data: Sequence[Data],
    folders: Sequence[Path],
    *,
    invocation: Sequence[str],
    of: str = "",
) -> None:
    """Record the result of an analysis of finished models, and which stages, packs and analyses it needs.

    Args:
        store: where it is kept.
        document: the result.
        models: those that were analysed.
        data: the data sets that were used.
        folders: analyses.
        invocation: the command line.
        of: what it was about; the titles of the models where nothing is given.
    """
    shown = [model if isinstance(model, Stage) else model.stage for model in models]
    stages = [key for stage in shown if stage is not None for key in ancestors(stage.key, store)]
    names = list(dict.fromkeys(folder.name for folder in folders))
    titles = ", ".join(model.title for model in models if not isinstance(model, Stage))
    title = f"{document.kind} {of or titles}"
    record = RunRecord(
        asked={"look": title, "analyses": names},
        title=title,
        dataset=", ".join(dict.fromkeys(each.pack.name for each in data)),
        seed=0,
        stages=list(dict.fromkeys(stages)),
        analyses=names,
        packs=list(dict.fromkeys(each.pack.folder.name for each in data)),
        balanced_accuracy=None,
        finished=True,
        command=list(invocation),
        created=now(),
    )
    store.note_run(record)
    store.keep_result(record, document.kind, document.to_json())


def record_result(
    store: Store,
    document: ResultDocument,
    *,
    identity: Json,
    title: str,
    dataset: str,
    invocation: Sequence[str],
    analyses: Sequence[str] = (),
    score: float | None = None,
    target: TargetKind = CLASSES,
    finished: bool = True,
) -> None:
    """Record a result that was made of other results, and keep it; it needs no stages.

    Args:
        store: where it is kept.
        document: the result.
        identity: what identifies the run; equal values are the same run.
        title: what it is about.
        dataset: its name.
        invocation: the command line.
        analyses: names of those that it needs.
        score: the main measure of its best chain.
        target: the kind of target.
        finished: whether all of it was measured.
    """
    record = RunRecord(
        asked=identity,
        title=title,
        dataset=dataset,
        analyses=list(analyses),
        finished=finished,
        command=list(invocation),
        created=now(),
    ).scored(score, target)
    store.note_run(record)
    store.keep_result(record, document.kind, document.to_json())


def record_pack(store: Store, pack: Pack, image_size: int, invocation: Sequence[str]) -> None:
    """Record that a pack is needed; it would be removed otherwise."""
    store.note_run(
        RunRecord(
            asked={"prepared": pack.folder.name},
            title=f"data prepare, {image_size} px",
            dataset=pack.name,
            packs=[pack.folder.name],
            command=list(invocation),
            created=now(),
        )
    )


def ancestors(key: str | None, store: Store) -> list[str]:
    """The keys of a stage and all those before it that the store holds, oldest first."""
    keys: list[str] = []
    while key is not None and (stage := store.find(key)) is not None:
        keys.insert(0, key)
        key = stage.spec.parent
    return keys
