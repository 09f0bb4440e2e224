"""Learning-rate search: before a stage is trained, random learning rates are tried on fewer images.

Section 3.1 of the study (arXiv 2112.12086) at every step of a chain. Optuna (https://optuna.org) draws, stops and keeps
the trials; its journal lies in the stage's folder, so that a search goes on where it was stopped.

Without a pruner no trial depends on another: each is made in a folder of its own under its own claim, by the process
that trains the stage or by any other, and the study is told of them in the order of their numbers. A pruner compares a
trial with those before it, so with one they are tried one after the other, in the stage's folder.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import msgspec

from sslcurr.claims import AGAIN, Lost, described_owner
from sslcurr.engine.plan import described_search
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError, TrainingError
from sslcurr.files import read_as, read_json, write_record, write_whole
from sslcurr.integrity import read_rows
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_for
from sslcurr.spec.stage import LrSearch, StageSpec
from sslcurr.tasks import task_class

if TYPE_CHECKING:
    import optuna

    from sslcurr.spec.runtime import Runtime

FOLDER = "search"
JOURNAL, JOURNAL_STATE = "study.log", "study.json"
COLLAPSED = 0.1  # scaled standard deviation of the embeddings over the images, 1 when they fill the sphere
REDUCTION = 3  # of the trials of a rung one in so many goes on


class LrSearchResult(TypedDict):
    """The result of a search: the learning rate, its `value` by the `measure`, numbers of trials, seconds."""

    lr: float
    value: float
    measure: str
    finished: int
    pruned: int
    failed: int
    seconds: float


class TrialRow(TypedDict):
    """A trial as `search.csv` has it."""

    trial: int
    lr: float
    state: str
    value: float | None
    measure: str
    val_loss: float | None
    epochs: int
    seconds: float
    reason: str


class TrialResult(msgspec.Struct, kw_only=True):
    """What came of a trial, as in its `done.json`.

    Attributes:
        number: of the trial, from 0.
        lr: the learning rate.
        state: `failed` where the loss was not finite or the embeddings collapsed.
        values: the measure after each epoch.
        losses: the validation loss after each epoch, None where it was not finite; empty where the loss of the
            training is the measure.
        seconds: of the training.
        reason: why it failed.
    """

    number: int
    lr: float
    state: Literal["finished", "failed"]
    values: list[float]
    losses: list[float | None]
    seconds: float
    reason: str = ""

    @property
    def best(self) -> tuple[float, float | None]:
        """The value that counts, and the validation loss of its epoch."""
        if not self.losses:
            return self.values[-1], None
        losses = (math.inf if loss is None else loss for loss in self.losses)
        value, negative = max(zip(self.values, (-loss for loss in losses), strict=True))
        return value, -negative


def search_lr(
    spec: StageSpec, key: str, part: Path, parent: Path | None, runtime: Runtime, report: Reporter, store: Store
) -> LrSearchResult:
    """Try `spec.search.trials` learning rates, going on where an earlier process stopped.

    A pretext task is judged by its mean training loss in the last epoch of a trial, the lowest being best;
    classification by its best validation balanced accuracy, the lower validation loss deciding between equals. A
    learning rate at which the loss is not finite, or at which all embeddings become alike, has failed. Writes
    `search.csv` beside the journal, in `part/search`.

    Returns:
        `lr`, its `value` by the `measure`, and how many trials were `finished`, `pruned` and `failed`, in `seconds`.

    Raises:
        TrainingError: not one trial ended with a finite value.
        Interrupted: a signal asked to stop; the trial's state is saved.
        Taken: another process is at a trial, and the store does not wait.
        Lost: another process has finished the stage.
    """
    assert spec.search is not None
    folder = part / FOLDER
    folder.mkdir(exist_ok=True)
    if (folder / "found.json").exists():
        result: LrSearchResult = read_json(folder / "found.json")
        return result
    measure = measure_of(spec)
    report.search_begins(spec, key, described_search(spec.search))
    began = time.monotonic()
    independent = are_independent(spec, key, store)
    if independent:
        store.trials(key).mkdir(exist_ok=True)  # before the journal: `are_independent` knows this search by it
        (folder / JOURNAL).unlink(missing_ok=True)  # what came of trials is kept with each
    else:
        _check_journal(folder, report)
    with opened(spec, folder, measure) as study:
        while (trial := next_trial(study, spec)) is not None:
            if independent:
                tell(study, trial, tried(spec, key, trial.number, store, parent, runtime, report), report, measure)
            else:
                note_journal(folder)
                try_lr(trial, study, spec, key, folder, parent, runtime, report, measure)
        rows = trial_rows(study, measure)
    for leftover in folder.glob("trial-*"):  # its result is in the study; the process was killed before it was removed
        shutil.rmtree(leftover)
    ended = [row for row in rows if row["state"] == "finished"]
    if not ended:
        raise TrainingError(
            f"none of the {len(rows)} learning rates tried for {spec.task} succeeded ({rows[-1]['reason']}; {key})",
            f"give a lower range: --lr-range {spec.search.low / 100:.2g},{spec.search.low:.2g}",
        )

    def rank(row: TrialRow) -> tuple[float, float]:
        value = row["value"]
        assert value is not None
        return value if measure == "loss" else -value, row["val_loss"] or 0.0

    best = min(ended, key=rank)
    assert best["value"] is not None
    seconds = sum(row["seconds"] for row in rows)
    result = {
        "lr": best["lr"],
        "value": best["value"],
        "measure": measure,
        "finished": len(ended),
        "pruned": sum(row["state"] == "pruned" for row in rows),
        "failed": sum(row["state"] == "failed" for row in rows),
        "seconds": round(max(seconds, time.monotonic() - began), 3),
    }
    write_rows(rows, folder / "search.csv")
    write_record(folder / "found.json", result)
    return result


def are_independent(spec: StageSpec, key: str, store: Store) -> bool:
    """Whether the trials of a stage are work of their own, which any process may do; False without a search.

    A search that an earlier version began has its journal and no folder of trials: it goes on as it began.
    """
    if spec.search is None or spec.search.pruner != "none":
        return False
    return store.trials(key).is_dir() or not any(store.stages.glob(f"{key}.*part/{FOLDER}/{JOURNAL}"))


def tried(
    spec: StageSpec, key: str, number: int, store: Store, parent: Path | None, runtime: Runtime, report: Reporter
) -> TrialResult:
    """What came of a trial that is work of its own; it is trained if no process has done it.

    Raises:
        Taken: another process is at it, and the store does not wait.
        Lost: another process has finished the stage.
        Interrupted: a signal asked to stop; its state is saved.
    """
    folder = store.trial(key, number)

    def work(part: Path) -> Mapping[str, object]:
        trial_report = TrialReporter(number, spec, part, report, measure_of(spec))
        result: Mapping[str, object] = msgspec.to_builtins(
            trained(rate_of(spec, number), key, parent, runtime, trial_report)
        )
        return result

    def waiting() -> None:
        owner = described_owner(folder)
        report.note(f"another process tries learning rate {number + 1} of {spec.task} ({key}); waiting for it: {owner}")

    plain = store.run_trial(key, number, work, waiting)
    if plain is None:
        raise Lost(f"{key} was finished by another process", AGAIN)
    return msgspec.convert(plain, TrialResult)


def measure_of(spec: StageSpec) -> str:
    """By what the trials of a stage are judged: the task's own validation measure, or its loss."""
    kind = task_class(spec.task)
    if kind.monitor is not None and len(select(spec.data, labelled=kind.labelled).rows["val"]):
        return kind.monitor
    return "loss"


def trial_of(spec: StageSpec, lr: float) -> StageSpec:
    """The stage that a trial trains: the same task, parent, seed and random numbers, on fewer images and shorter."""
    assert spec.search is not None
    search, training = spec.search, spec.training
    share = search.epochs / training.epochs
    return replace(
        spec,
        search=None,
        config=search.config or spec.config,
        data=replace(spec.data, fraction=spec.data.fraction * search.fraction),
        training=replace(training, lr=lr, epochs=search.epochs, warmup=training.warmup * min(1.0, share), patience=0),
    )


@contextmanager
def opened(spec: StageSpec, folder: Path, measure: str) -> Iterator[optuna.Study]:
    """The study in a folder, made if it is not there."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    assert spec.search is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    for lock in folder.glob(f"{JOURNAL}.*lock*"):  # of a killed process: the stage's own lock is held by this one
        lock.unlink()
    yield optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=spec.task,
        direction="minimize" if measure == "loss" else "maximize",
        pruner=pruner_of(spec.search),
        load_if_exists=True,
    )


class JournalState(msgspec.Struct, frozen=True):
    """How far the journal of a search is known to be right, as in its `study.json`."""

    size: int
    sha256: str


def note_journal(folder: Path) -> None:
    """Note what is in the journal of a search, before anything is done that goes by it."""
    content = (folder / JOURNAL).read_bytes()
    state = JournalState(len(content), hashlib.sha256(content).hexdigest())
    write_record(folder / JOURNAL_STATE, msgspec.to_builtins(state))


def _check_journal(folder: Path, report: Reporter) -> None:
    """Cut a journal back to what was noted of it, and begin anew where that is damaged, which is said.

    A killed process may have left half a line; what it had not noted yet is done again, to the same end.
    """
    journal, noted = folder / JOURNAL, folder / JOURNAL_STATE
    if not journal.exists():
        return
    content = journal.read_bytes()
    if not noted.exists():  # an earlier version noted nothing
        journal.write_bytes(content[: content.rfind(b"\n") + 1])
        return
    try:
        state = read_as(noted, JournalState)
        if hashlib.sha256(content[: state.size]).hexdigest() != state.sha256:
            raise StoreError(f"{journal} is damaged: it is not what was written")
    except StoreError as error:
        report.note(f"{error}: the search for a learning rate begins anew")
        for path in (journal, noted):
            path.unlink()
        for trial in folder.glob("trial-*"):
            shutil.rmtree(trial)
        return
    journal.write_bytes(content[: state.size])


def pruner_of(search: LrSearch) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name; a resource is an epoch."""
    from optuna import pruners

    if search.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    if search.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs, reduction_factor=REDUCTION)
    return pruners.NopPruner()


def next_trial(study: optuna.Study, spec: StageSpec) -> optuna.Trial | None:
    """The trial that was broken off, or the next one, its learning rate drawn; None when all are done."""
    import optuna

    search = spec.search
    assert search is not None
    trials = study.get_trials(deepcopy=False)
    unfinished = [each for each in trials if not each.state.is_finished()]
    number = unfinished[0].number if unfinished else len(trials)
    if number == search.trials:
        return None
    study.sampler = sampler_of(spec, number)
    trial = optuna.Trial(study, unfinished[0]._trial_id) if unfinished else study.ask()
    draw(trial, search)  # the same where it has one
    return trial


def rate_of(spec: StageSpec, number: int) -> float:
    """The learning rate of a trial, from its number alone: that which the study draws for it."""
    import optuna

    assert spec.search is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return draw(optuna.create_study(sampler=sampler_of(spec, number)).ask(), spec.search)


def sampler_of(spec: StageSpec, number: int) -> optuna.samplers.BaseSampler:
    """What draws the learning rate of a trial.

    Seeded for each trial: one that is drawn elsewhere, or again, is what it would have been.
    """
    import optuna

    return optuna.samplers.RandomSampler(seed=seed_for(spec.seed, spec.parent, "lr", number) % 2**32)


def draw(trial: optuna.Trial, search: LrSearch) -> float:
    """The learning rate of a trial of Optuna's."""
    return trial.suggest_float("lr", search.low, search.high, log=search.draw == "log")


def try_lr(
    trial: optuna.Trial,
    study: optuna.Study,
    spec: StageSpec,
    key: str,
    folder: Path,
    parent: Path | None,
    runtime: Runtime,
    report: Reporter,
    measure: str,
) -> None:
    """Train one trial in the stage's folder and tell the study how it went."""
    import optuna

    lr = trial.params["lr"]
    part = folder / f"trial-{trial.number:02d}"
    part.mkdir(exist_ok=True)
    try:
        result = trained(lr, key, parent, runtime, PrunedTrialReporter(trial, spec, part, report, measure))
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        report.trial_ends(trial.number, lr, "stopped early")
    else:
        tell(study, trial, result, report, measure)
    note_journal(folder)
    shutil.rmtree(part)


def trained(lr: float, key: str, parent: Path | None, runtime: Runtime, report: TrialReporter) -> TrialResult:
    """Train a trial in the reporter's folder, going on where an earlier process stopped.

    Raises:
        Interrupted: a signal asked to stop; its state is saved.
    """
    from sslcurr.engine.crew import train

    began, reason = time.monotonic(), ""
    try:
        seconds = train(trial_of(report.spec, lr), key, report.part, parent, runtime, report).seconds
        report.check_collapse()
    except TrainingError as error:
        seconds, reason = round(time.monotonic() - began, 3), str(error)
    return TrialResult(
        number=report.number,
        lr=lr,
        state="failed" if reason else "finished",
        values=report.values(),
        losses=report.losses(),
        seconds=seconds,
        reason=reason,
    )


def tell(study: optuna.Study, trial: optuna.Trial, result: TrialResult, report: Reporter, measure: str) -> None:
    """Tell the study what came of a trial."""
    import optuna

    report_epochs(trial, result.values)
    trial.set_user_attr("seconds", result.seconds)
    if result.state == "failed":
        trial.set_user_attr("reason", result.reason)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        value, val_loss = result.best
        if val_loss is not None:
            trial.set_user_attr("val_loss", val_loss)
        study.tell(trial, value)
    report.trial_ends(trial.number, result.lr, described_result(result, measure))


def described_result(result: TrialResult, measure: str) -> str:
    """What came of a trial, in a line."""
    if result.state == "failed":
        return f"failed: {result.reason}"
    return f"{measure.replace('_', ' ')} {result.best[0]:.4g}"


def report_epochs(trial: optuna.Trial, values: list[float]) -> None:
    """Tell the study the measure after each epoch so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the study may know the first ones
        for epoch, value in enumerate(values):
            trial.report(value, step=epoch + 1)


class TrialReporter(Reporter):
    """Receives the progress of a trial in a folder, and reads from its log how good it is."""

    def __init__(self, number: int, spec: StageSpec, part: Path, report: Reporter, measure: str) -> None:
        self.number = number
        self.spec = spec
        self.part = part
        self.report = report
        self.measure = measure
        self.epochs_done = 0

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Report which learning rate is tried."""
        assert self.spec.search is not None
        self.epochs_done = step * spec.training.epochs // total_steps
        num_trials = self.spec.search.trials
        self.report.trial_begins(spec.task, self.number, num_trials, spec.training.lr, total_steps, step)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Move the bar."""
        self.report.step_done(step, loss, images_per_second)

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """Count it."""
        self.epochs_done = epoch + 1

    def values(self) -> list[float]:
        """The measure after each epoch so far, read from the trial's log, so that a resume knows the earlier ones; one
        that is not finite ends them, and the loop says so itself, with the step."""
        if not self.epochs_done:
            return []
        if self.measure != "loss":
            values = [float(row[self.measure]) for row in read_rows(self.part / "epochs.csv")]
        else:
            losses: dict[int, list[float]] = {}
            for row in read_rows(self.part / "metrics.csv"):
                losses.setdefault(math.ceil(float(row["epoch"])), []).append(float(row["loss"]))
            values = [sum(each) / len(each) for each in losses.values()]
        return list(takewhile(math.isfinite, values[: self.epochs_done]))

    def losses(self) -> list[float | None]:
        """The validation loss after each epoch, where a validation measure judges; None for one that is not finite."""
        if self.measure == "loss" or not self.epochs_done:
            return []
        losses = [float(row["val_loss"]) for row in read_rows(self.part / "epochs.csv")]
        return [loss if math.isfinite(loss) else None for loss in losses[: self.epochs_done]]

    def check_collapse(self) -> None:
        """Raise TrainingError where all embeddings became alike, for tasks whose loss is low then too."""
        row = read_rows(self.part / "metrics.csv")[-1]
        if task_class(self.spec.task).collapses and float(row["feature_std"]) < COLLAPSED:
            raise TrainingError(f"the embeddings collapsed (feature_std {float(row['feature_std']):.2g})")


class PrunedTrialReporter(TrialReporter):
    """Tells a study of each epoch too, and stops the trial when its pruner says so."""

    def __init__(self, trial: optuna.Trial, spec: StageSpec, part: Path, report: Reporter, measure: str) -> None:
        super().__init__(trial.number, spec, part, report, measure)
        self.trial = trial

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """Tell the study; raises TrialPruned when the learning rate is not worth going on with."""
        import optuna

        super().epoch_done(epoch, metrics)
        values = self.values()
        if len(values) < self.epochs_done:
            return
        report_epochs(self.trial, values)
        assert self.spec.search is not None
        is_pruned = self.epochs_done < self.spec.search.epochs and self.trial.should_prune()
        note_journal(self.part.parent)  # what the pruner notes for the next trials is in it
        if is_pruned:
            raise optuna.TrialPruned


def trial_rows(study: optuna.Study, measure: str) -> list[TrialRow]:
    """A row for each trial."""
    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    rows: list[TrialRow] = []
    for trial in study.get_trials(deepcopy=False):
        reported = trial.intermediate_values
        last = reported[max(reported)] if reported else None
        rows.append(
            {
                "trial": trial.number,
                "lr": trial.params["lr"],
                "state": states[trial.state.name],
                "value": trial.value if trial.value is not None else last,
                "measure": measure,
                "val_loss": trial.user_attrs.get("val_loss"),
                "epochs": len(reported),
                "seconds": trial.user_attrs.get("seconds", trial.duration.total_seconds() if trial.duration else 0.0),
                "reason": trial.user_attrs.get("reason", ""),
            }
        )
    return rows


def write_rows(rows: list[TrialRow], path: Path) -> None:
    """Write the trials as a CSV file."""
    import pandas as pd

    write_whole(path, lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))
