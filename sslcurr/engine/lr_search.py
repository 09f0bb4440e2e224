"""Learning-rate search: before a stage is trained, rates are drawn at random and each is tried on fewer images.

Section 3.1 of the study (arXiv 2112.12086) at every step of a chain. Optuna (https://optuna.org) draws, stops and keeps
the trials; its journal lies in the stage's folder, so that a search goes on where it was stopped.
"""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sslcurr.engine.log import read_rows
from sslcurr.engine.plan import described
from sslcurr.engine.selection import select
from sslcurr.errors import TrainingError
from sslcurr.files import read_json, write_json, write_whole
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_for
from sslcurr.spec.stage import LrSearch, StageSpec
from sslcurr.tasks import task_class

if TYPE_CHECKING:
    import optuna

    from sslcurr.spec.runtime import Runtime

FOLDER = "search"
COLLAPSED = 0.1  # spread of the embeddings over the images, 1 when they fill the sphere
REDUCTION = 3  # of the trials of a rung one in so many goes on


class RateFound(TypedDict):
    """What a search found: the rate, its `value` by the `measure`, numbers of trials, seconds."""

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


def find_rate(
    spec: StageSpec, key: str, part: Path, parent: Path | None, runtime: Runtime, report: Reporter
) -> RateFound:
    """Try `spec.search.trials` rates in `part/search`, going on where an earlier process stopped.

    A pretext task is judged by its mean training loss in the last epoch of a trial, the lowest being best;
    classification by its best validation balanced accuracy, the lower validation loss deciding between equals. A rate
    at which the loss is not finite, or at which all embeddings become alike, has failed. Writes `search.csv` beside
    the journal.

    Returns:
        `lr`, its `value` by the `measure`, and how many trials were `finished`, `pruned` and `failed`, in `seconds`.

    Raises:
        TrainingError: not one trial ended with a finite value.
        Interrupted: a signal asked to stop; the trial's state is saved.
    """
    assert spec.search is not None
    folder = part / FOLDER
    folder.mkdir(exist_ok=True)
    if (folder / "found.json").exists():
        result: RateFound = read_json(folder / "found.json")
        return result
    measure = measure_of(spec)
    report.search_begins(spec, key, described(spec.search))
    began = time.monotonic()
    with opened(spec, folder, measure) as study:
        while (trial := next_trial(study, spec)) is not None:
            try_rate(trial, study, spec, key, folder, parent, runtime, report, measure)
        rows = rows_of(study, measure)
    for leftover in folder.glob("trial-*"):  # told to the study, then killed before it was removed
        shutil.rmtree(leftover)
    ended = [row for row in rows if row["state"] == "finished"]
    if not ended:
        raise TrainingError(
            f"none of the {len(rows)} rates tried for {spec.task} came to a good end ({rows[-1]['reason']}; {key})",
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
    write_json(folder / "found.json", result)
    return result


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
    journal = folder / "study.log"
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):  # a killed process left half a line, onto which the next would be written
            journal.write_bytes(content[: content.rfind(b"\n") + 1])
    for lock in folder.glob("study.log.*lock*"):  # of a killed process: the stage's own lock is held by this one
        lock.unlink()
    yield optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=spec.task,
        direction="minimize" if measure == "loss" else "maximize",
        pruner=pruner_of(spec.search),
        load_if_exists=True,
    )


def pruner_of(search: LrSearch) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name; a resource is an epoch."""
    from optuna import pruners

    if search.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    if search.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs, reduction_factor=REDUCTION)
    return pruners.NopPruner()


def next_trial(study: optuna.Study, spec: StageSpec) -> optuna.Trial | None:
    """The trial that was broken off, or the next one, its rate drawn; None when all are done."""
    import optuna

    search = spec.search
    assert search is not None
    trials = study.get_trials(deepcopy=False)
    unfinished = [each for each in trials if not each.state.is_finished()]
    number = unfinished[0].number if unfinished else len(trials)
    if number == search.trials:
        return None
    # Seeded for each trial: a search that goes on draws what it would have drawn without the stop.
    study.sampler = optuna.samplers.RandomSampler(seed=seed_for(spec.seed, spec.parent, "lr", number) % 2**32)
    trial = optuna.Trial(study, unfinished[0]._trial_id) if unfinished else study.ask()
    trial.suggest_float("lr", search.low, search.high, log=search.draw == "log")  # the same where it has one
    return trial


def try_rate(
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
    """Train one trial and tell the study how it went."""
    import optuna

    from sslcurr.engine.train import train

    lr = trial.params["lr"]
    part = folder / f"trial-{trial.number:02d}"
    part.mkdir(exist_ok=True)
    trial_report = TrialReporter(trial, spec, part, report, measure)
    try:
        record = train(trial_of(spec, lr), key, part, parent, runtime, trial_report)
        trial_report.check_spread()
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        report.trial_ends(trial.number, lr, "stopped early")
    except TrainingError as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        report.trial_ends(trial.number, lr, f"failed: {error}")
    else:
        values = trial_report.values()
        if measure == "loss":
            value = values[-1]
        else:
            value, loss = max(zip(values, (-v for v in trial_report.losses()), strict=True))
            trial.set_user_attr("val_loss", -loss)
        trial.set_user_attr("seconds", record.seconds)
        study.tell(trial, value)
        report.trial_ends(trial.number, lr, f"{measure.replace('_', ' ')} {value:.4g}")
    shutil.rmtree(part)


class TrialReporter(Reporter):
    """Hears a trial being trained, and stops it when the study's pruner says so."""

    def __init__(self, trial: optuna.Trial, spec: StageSpec, part: Path, report: Reporter, measure: str) -> None:
        self.trial = trial
        self.spec = spec
        self.part = part
        self.report = report
        self.measure = measure

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Say which rate is tried."""
        assert self.spec.search is not None
        num_trials = self.spec.search.trials
        self.report.trial_begins(spec.task, self.trial.number, num_trials, spec.training.lr, total_steps, step)

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Move the bar."""
        self.report.step_done(step, loss, images_per_second)

    def epoch_done(self, epoch: int, metrics: dict[str, float]) -> None:
        """Tell the study; raises TrialPruned when the rate is not worth going on with."""
        import optuna

        value = self.values()[-1]
        if not math.isfinite(value):
            return  # the loop says so itself, with the step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an epoch done again after a resume was reported before
            self.trial.report(value, step=epoch + 1)
        assert self.spec.search is not None
        if epoch + 1 < self.spec.search.epochs and self.trial.should_prune():
            raise optuna.TrialPruned

    def values(self) -> list[float]:
        """The measure after each epoch so far, read from the trial's log, so that a resume knows the earlier ones."""
        if self.measure != "loss":
            return [float(row[self.measure]) for row in read_rows(self.part / "epochs.csv")]
        losses: dict[int, list[float]] = {}
        for row in read_rows(self.part / "metrics.csv"):
            losses.setdefault(math.ceil(float(row["epoch"])), []).append(float(row["loss"]))
        return [sum(each) / len(each) for each in losses.values()]

    def check_spread(self) -> None:
        """Raise TrainingError where all embeddings became alike, for tasks whose loss is low then too."""
        row = read_rows(self.part / "metrics.csv")[-1]
        if task_class(self.spec.task).collapses and float(row["feature_std"]) < COLLAPSED:
            raise TrainingError(f"the embeddings collapsed (feature_std {float(row['feature_std']):.2g})")

    def losses(self) -> list[float]:
        """The validation loss after each epoch."""
        return [float(row["val_loss"]) for row in read_rows(self.part / "epochs.csv")]


def rows_of(study: optuna.Study, measure: str) -> list[TrialRow]:
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
