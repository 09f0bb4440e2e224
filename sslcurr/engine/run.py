"""Carry out planned stages: what is in the store is reused, the rest is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sslcurr.claims import described_owner
from sslcurr.engine.graph import Job
from sslcurr.engine.store import Stage, Store, placed, portable
from sslcurr.errors import StoreError, TrainingError
from sslcurr.progress import Relay, Reporter
from sslcurr.spec.record import StageRecord
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.wording import arrow

if TYPE_CHECKING:
    from sslcurr.engine.fill import Filling


@dataclass(frozen=True)
class Outcome:
    """A stage of a run and whether it was there already."""

    stage: Stage
    spec: StageSpec
    reused: bool


def run_stages(
    specs: Sequence[StageSpec], store: Store, runtime: Any, report: Reporter, filling: Filling | None = None
) -> list[Outcome]:
    """Each stage from the store or trained, in order; a parent comes before its children.

    Args:
        specs: the stages.
        store: where they are.
        runtime: of trainings.
        report: hears of them.
        filling: trains them in other processes, where it is given.

    Raises:
        StoreError: a parent is neither in the store nor among the stages before.
        TrainingError: a stage cannot be trained.
    """
    outcomes = []
    for spec in specs:
        key = key_of(spec)
        if filling is not None:
            filling.wait([key])
            if (failed := filling.failure(key)) is not None:
                raise TrainingError(failed.reason, failed.hint)
        stage, trained = store.find(key), filling is not None and key in filling.done_here
        if stage is None:
            stage, trained = train_or_wait(spec, store, runtime, report)
        elif not trained:
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
    report = Status(report, store, key)
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
        owner = described_owner(store.stages / key)
        report.note(f"another process is training {spec.task} ({key}); waiting for it: {owner}")

    return store.run(spec, work, waiting), trained


class Status(Relay):
    """Tells those who look at the store how far a stage is."""

    def __init__(self, report: Reporter, store: Store, key: str) -> None:
        super().__init__(report)
        self.store = store
        self.key = key

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Tell what is trained."""
        tasks, epochs = arrow(spec.tasks), spec.training.epochs
        self.store.tell(self.key, tasks=tasks, seed=spec.seed, step=step, total_steps=total_steps, epochs=epochs)
        super().stage_begins(spec, key, total_steps, step, settings)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Tell how far it is."""
        self.store.tell(self.key, step=step, images_per_second=round(images_per_second, 1))
        super().step_done(step, loss, images_per_second)


class StageWork:
    """The training of a stage: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether the stage is in the store."""
        return store.find(job.name) is not None

    @staticmethod
    def run(job: Job, store: Store, runtime: Any, report: Reporter) -> None:
        """Train it."""
        train_or_wait(placed(job.arguments, store), store, runtime, report)


def stage_jobs(specs: Iterable[StageSpec], store: Store, passes: Callable[[StageSpec], float]) -> Iterable[Job]:
    """Stages as jobs.

    Args:
        specs: the stages, a parent before its children.
        store: where they will be.
        passes: image passes that a stage takes.
    """
    for spec in specs:
        yield Job(
            name=key_of(spec),
            kind="stage",
            title=f"{arrow(spec.tasks)}, seed {spec.seed}",
            arguments=portable(spec, store),
            needs=() if spec.parent is None else (spec.parent,),
            cost=passes(spec),
        )


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
