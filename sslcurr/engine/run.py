"""Carry out planned stages: what is in the store is reused, the rest is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.progress import Reporter
from sslcurr.spec.record import StageRecord
from sslcurr.spec.stage import StageSpec, key_of


@dataclass(frozen=True)
class Outcome:
    """A stage of a run and whether it was there already."""

    stage: Stage
    spec: StageSpec
    reused: bool


def run_stages(specs: Sequence[StageSpec], store: Store, runtime: Any, report: Reporter) -> list[Outcome]:
    """Each stage from the store or trained, in order; a parent comes before its children.

    Raises:
        StoreError: a parent is neither in the store nor among the stages before.
    """
    outcomes = []
    for spec in specs:
        key = key_of(spec)
        stage, trained = store.find(key), False
        if stage is None:
            stage, trained = train_or_wait(spec, store, runtime, report)
        else:
            check_parent(stage, store, report)
        outcomes.append(Outcome(stage, spec, reused=not trained))
        report.stage_ends(spec, key, reused=not trained)
    return outcomes


def train_stage(spec: StageSpec, store: Store, runtime: Any, report: Reporter) -> Stage:
    """Train one stage, or wait for the process that does."""
    return train_or_wait(spec, store, runtime, report)[0]


def train_or_wait(spec: StageSpec, store: Store, runtime: Any, report: Reporter) -> tuple[Stage, bool]:
    """The stage, and whether it was trained here rather than by another process that was waited for."""
    from sslcurr.engine.overlap import write_trained_images
    from sslcurr.engine.train import train

    parent, key = parent_weights(spec, store), key_of(spec)
    trained = False

    def work(part: Path) -> StageRecord:
        nonlocal trained
        trained = True
        write_trained_images(spec, part)
        if spec.search is None:
            return train(spec, key, part, parent, runtime, report)
        from sslcurr.engine.lr_search import search_lr

        result = search_lr(spec, key, part, parent, runtime, report)
        chosen = replace(spec, search=None, training=replace(spec.training, lr=result["lr"]))
        return msgspec.structs.replace(train(chosen, key, part, parent, runtime, report), search=dict(result))

    def waiting() -> None:
        report.note(f"another process is training {spec.task} ({key}); waiting for it")

    return store.run(spec, work, waiting), trained


def parent_weights(spec: StageSpec, store: Store) -> Path | None:
    """The checkpoint that a stage starts from; None is scratch."""
    if spec.parent is None:
        return None
    return weights_of(spec.parent, spec.source, store)


def weights_of(key: str, source: str, store: Store) -> Path:
    """The checkpoint of a parent: the file `source` where there is one, else the weights of the stage `key`.

    Raises:
        StoreError: it is not there.
    """
    if source:
        return Path(source)
    stage = store.find(key)
    if stage is None:
        raise StoreError(
            f"the stage {key} to start from is not in {store.root}",
            "train that stage first, or run the whole chain again",
        )
    return stage.weights


def check_parent(stage: Stage, store: Store, report: Reporter) -> None:
    """Say it when the parent was trained again to other bytes than those this stage started from."""
    record = stage.record
    parent = store.find(record.parent) if record.parent else None
    if parent is not None and parent.record.weights_sha256 != record.parent_weights_sha256:
        report.note(
            f"stage {stage.key} ({stage.spec.task}) started from other weights than its parent {parent.key} holds now"
        )
