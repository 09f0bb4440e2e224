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
from sslcurr.errors import SpecError, StoreError, TrainingError
from sslcurr.integrity import sound
from sslcurr.progress import Relay, Reporter
from sslcurr.spec.record import StageRecord
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.tasks import TASKS
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
        StoreError: a parent is neither in the store nor among the stages before; the weights of a stage that is there
            are damaged.
        TrainingError: a stage cannot be trained.
    """
    from sslcurr.engine.crew import check_ranks

    check_ranks(specs, runtime)
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
            sound(stage.weights)
            check_parent(stage, store, report)
        outcomes.append(Outcome(stage, spec, reused=not trained))
        report.stage_ends(spec, key, reused=not trained)
    return outcomes


def train_stage(spec: StageSpec, store: Store, runtime: Any, report: Reporter) -> Stage:
    """Train one stage, or wait for the process that does."""
    return train_or_wait(spec, store, runtime, report)[0]


def train_or_wait(spec: StageSpec, store: Store, runtime: Any, report: Reporter) -> tuple[Stage, bool]:
    """The stage, and whether it was trained here rather than by another process that was waited for."""
    from sslcurr.engine.crew import train
    from sslcurr.engine.overlap import write_trained_images
    from sslcurr.engine.profile import profiled

    parent, key = parent_weights(spec, store), key_of(spec)
    report = Status(report, store, spec)

    def work(part: Path) -> StageRecord:
        write_trained_images(spec, part)
        chosen, result = spec, None
        if spec.search is not None:
            from sslcurr.engine.lr_search import search_lr

            result = search_lr(spec, key, part, parent, runtime, report, store)
            chosen = replace(spec, search=None, training=replace(spec.training, lr=result["lr"]))
        with profiled(runtime, key, report) as watching:
            record = train(chosen, key, part, parent, runtime, watching)
        return record if result is None else msgspec.structs.replace(record, search=dict(result))

    def waiting() -> None:
        owner = described_owner(store.stages / key)
        report.note(f"another process is training {spec.task} ({key}); waiting for it: {owner}")

    made = store.num_made
    return store.run(spec, work, waiting), store.num_made > made


class Status(Relay):
    """Tells those who look at the store how far a stage, or a learning rate that is tried for it, is."""

    def __init__(self, report: Reporter, store: Store, spec: StageSpec) -> None:
        super().__init__(report)
        self.store = store
        self.spec = spec
        self.key = key_of(spec)
        self.folder = store.stages / self.key

    def _tell_begin(self, folder: Path, what: str, epochs: int, total_steps: int, step: int) -> None:
        self.folder = folder
        self.store.tell(folder, tasks=what, seed=self.spec.seed, step=step, total_steps=total_steps, epochs=epochs)

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Tell what is trained."""
        folder = self.store.stages / self.key
        self._tell_begin(folder, arrow(spec.tasks), spec.training.epochs, total_steps, step)
        super().stage_begins(spec, key, total_steps, step, settings)

    def search_begins(self, spec: StageSpec, key: str, search: str) -> None:
        """Tell for which stage a rate is looked for."""
        self.store.tell(self.folder, tasks=arrow(spec.tasks), seed=spec.seed)
        super().search_begins(spec, key, search)

    def trial_begins(self, task: str, number: int, num_trials: int, lr: float, total_steps: int, step: int) -> None:
        """Tell which rate is tried, in the trial's own claim where it has one."""
        assert self.spec.search is not None
        trial = self.store.trial(self.key, number)
        folder = trial if self.store.is_at(trial) else self.store.stages / self.key
        what = f"{arrow(self.spec.tasks)}, {_numbered(number, num_trials)}"
        self._tell_begin(folder, what, self.spec.search.epochs, total_steps, step)
        super().trial_begins(task, number, num_trials, lr, total_steps, step)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Tell how far it is."""
        self.store.tell(self.folder, step=step, images_per_second=round(images_per_second, 1))
        super().step_done(step, loss, images_per_second)


def _numbered(number: int, num_trials: int) -> str:
    return f"learning rate {number + 1} of {num_trials}"


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


class TrialWork:
    """The training of a learning rate that is tried for a stage: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether its result, or the stage, is in the store."""
        key = job.name.partition(" ")[0]
        return (store.trial(key, job.arguments["number"]) / "done.json").is_file() or store.find(key) is not None

    @staticmethod
    def run(job: Job, store: Store, runtime: Any, report: Reporter) -> None:
        """Train it; a rate that fails is a result.

        Raises:
            Lost: another process has finished the stage, which needs it no more.
        """
        from sslcurr.engine.lr_search import described_result, measure_of, tried

        spec = placed(job.arguments["stage"], store)
        number, status = job.arguments["number"], Status(report, store, spec)
        result = tried(spec, key_of(spec), number, store, parent_weights(spec, store), runtime, status)
        status.trial_ends(number, result.lr, described_result(result, measure_of(spec)))


def stage_jobs(specs: Iterable[StageSpec], store: Store, passes: Callable[[StageSpec], float]) -> Iterable[Job]:
    """Stages as jobs, each after the learning rates that are tried for it where these may be tried side by side.

    Args:
        specs: the stages, a parent before its children.
        store: where they will be.
        passes: image passes that a stage takes.

    Raises:
        SpecError: a task was put into the table of this process, and others do not know it.
    """
    for spec in specs:
        if not TASKS.is_installed(spec.task):
            raise SpecError(
                f"the task {spec.task} is known to this process only",
                "install it as a package, as docs/plugins.md says, or train without other processes",
            )
        cost, arguments = passes(spec), portable(spec, store)
        needs = () if spec.parent is None else (spec.parent,)
        trials = []
        if spec.search is not None:
            from sslcurr.engine.lr_search import are_independent

            if are_independent(spec, key_of(spec), store):
                alone = passes(replace(spec, search=None))
                num_trials = spec.search.trials
                trials = [
                    Job(
                        name=f"{key_of(spec)} trial {number:02d}",
                        kind="trial",
                        title=f"{spec.title}, {_numbered(number, num_trials)}",
                        arguments={"stage": arguments, "number": number},
                        needs=needs,
                        cost=(cost - alone) / num_trials,
                    )
                    for number in range(num_trials)
                ]
                cost = alone
        yield from trials
        yield Job(
            name=key_of(spec),
            kind="stage",
            title=spec.title,
            arguments=arguments,
            needs=(*needs, *(trial.name for trial in trials)),
            cost=cost,
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
