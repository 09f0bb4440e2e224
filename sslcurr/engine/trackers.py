"""Trackers of experiments: the curves of stages, and what commands found, to TensorBoard, MLflow or Weights & Biases.

None of them decides anything: a tracker that fails is said, left alone for some minutes, and training goes on.
"""

from __future__ import annotations

import importlib
import logging
import netrc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sslcurr.errors import SpecError
from sslcurr.files import read_json, write_record
from sslcurr.spec.record import RunRecord
from sslcurr.spec.runtime import TRACKERS
from sslcurr.spec.stage import Json, StageSpec
from sslcurr.wording import reason_of

PROJECT = "sslcurr"
# tracker -> package that it needs, and the extra that brings it.
PACKAGES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
# A tracker that failed is not asked again for so many seconds: each try waits for a server.
LEFT_ALONE = 600.0
# MLflow asks a server that does not answer for many minutes, if nothing else is set.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

_failed: dict[str, float] = {}


class StageTracker(Protocol):
    """Takes the curves of one stage."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a step."""

    def close(self, *, finished: bool) -> None:
        """The stage ended, or stopped before its end."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises SpecError for a tracker whose package is not installed."""
    for name in names:
        try:
            importlib.import_module(PACKAGES[name])
        except ImportError as error:
            raise SpecError(
                f"--tracker {name} needs the package {name}", f"pip install 'sslcurr[{name}]', or pip install {name}"
            ) from error


def stage_trackers(
    names: Sequence[str],
    part: Path,
    spec: StageSpec,
    key: str,
    settings: Mapping[str, str],
    step: int,
    note: Callable[[str], None],
) -> list[StageTracker]:
    """The trackers of a stage that begins, or goes on, at a step.

    Args:
        names: of `TRACKERS`.
        part: the folder of the stage, in which what identifies it to a tracker is kept.
        spec: the stage.
        key: its key.
        settings: resolved, as text.
        step: from which on it is trained; what trackers have of later steps is done anew.
        note: is told of a tracker that fails.
    """
    if not _is_stage(part):
        names = [name for name in names if name == "tensorboard"]  # a trial of a learning rate
    makers: dict[str, Callable[[], StageTracker]] = {
        "tensorboard": lambda: TensorBoardStage(part, step),
        "mlflow": lambda: MlflowStage(part, spec, key, settings),
        "wandb": lambda: WandbStage(part, spec, key, settings),
    }
    found: list[StageTracker] = []
    for name in names:
        _try(name, lambda name=name: found.append(Careful(name, makers[name](), note)), note)  # type: ignore[misc]
    return found


def _is_stage(part: Path) -> bool:
    return part.parent.name == "stages"


def _try(name: str, act: Callable[[], None], note: Callable[[str], None]) -> bool:
    """Whether a tracker did as it was told; not where it fails, which is said, or did so a while ago."""
    if time.monotonic() - _failed.get(name, -LEFT_ALONE) < LEFT_ALONE:
        return False
    try:
        act()
    except Exception as error:  # noqa: BLE001 -- whatever a foreign client raises, it is worth less than the training
        _failed[name] = time.monotonic()
        note(f"{name} takes nothing ({reason_of(error)[:200]}): the training goes on without it")
        return False
    return True


class Careful:
    """A tracker that is given up when it fails."""

    def __init__(self, name: str, tracker: StageTracker, note: Callable[[str], None]) -> None:
        self.name = name
        self.tracker: StageTracker | None = tracker
        self.note = note

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Pass on."""
        self._try(lambda tracker: tracker.scalars(values, step))

    def close(self, *, finished: bool) -> None:
        """Pass on."""
        self._try(lambda tracker: tracker.close(finished=finished))

    def _try(self, act: Callable[[StageTracker], None]) -> None:
        tracker = self.tracker
        if tracker is not None and not _try(self.name, lambda: act(tracker), self.note):
            self.tracker = None


# ---- TensorBoard


class TensorBoardStage:
    """Events in the folder of the stage."""

    def __init__(self, part: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(part / "tensorboard"), purge_step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add events."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        """Close the file."""
        self.writer.close()


# ---- MLflow


def _mlflow(root: Path) -> tuple[Any, str]:
    """MLflow's client, and the number of our experiment; a database in the store where no server is named."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    from filelock import FileLock
    from mlflow.tracking import MlflowClient

    place = root.resolve()
    server = os.environ.get("MLFLOW_TRACKING_URI")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    if server:
        return _experiment(MlflowClient(tracking_uri=server), name, None)
    # Workers begin at once, and none of them may see a half-made database.
    database, new = place / "mlflow.db", place / "mlflow.db.new"
    with FileLock(place / "mlflow.lock"):
        if not database.exists():  # made beside it, and renamed: a process that is killed leaves no half of it
            new.unlink(missing_ok=True)
            _experiment(MlflowClient(tracking_uri=f"sqlite:///{new}"), name, (place / "mlflow").as_uri())
            new.replace(database)
        return _experiment(MlflowClient(tracking_uri=f"sqlite:///{database}"), name, (place / "mlflow").as_uri())


def _experiment(client: Any, name: str, place: str | None) -> tuple[Any, str]:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        return client, str(known.experiment_id)
    try:
        return client, str(client.create_experiment(name, artifact_location=place))
    except MlflowException:  # another process was sooner
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return client, str(known.experiment_id)


class MlflowStage:
    """A run of MLflow for a stage; one that goes on goes on with the same run."""

    def __init__(self, part: Path, spec: StageSpec, key: str, settings: Mapping[str, str]) -> None:
        self.client, experiment = _mlflow(part.parent.parent)
        self.seen: dict[str, int] = {}
        path = part / "mlflow.json"
        if path.is_file():
            self.run = str(read_json(path)["run"])
            self.client.update_run(self.run, status="RUNNING")
            for name in self.client.get_run(self.run).data.metrics:
                self.seen[name] = max(metric.step for metric in self.client.get_metric_history(self.run, name))
            return
        tags = {"key": key, "task": spec.task, "data": spec.data.name, "kind": "stage"}
        self.run = str(self.client.create_run(experiment, run_name=spec.title, tags=tags).info.run_id)
        for name, value in {**settings, "seed": str(spec.seed), "tasks": " ".join(spec.tasks)}.items():
            self.client.log_param(self.run, name, value[:500])
        write_record(path, {"run": self.run})

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers at a step, but for those that are there already: steps are done again after a kill."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        new = {name: float(value) for name, value in values.items() if step > self.seen.get(name, -1)}
        if new:
            self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in new.items()])

    def close(self, *, finished: bool) -> None:
        """Say how the stage ended."""
        self.client.set_terminated(self.run, status="FINISHED" if finished else "KILLED")


# ---- Weights & Biases


def _wandb(root: Path, **how: Any) -> Any:
    """A run of Weights & Biases: on its server where this machine is logged in, else in files for `wandb sync`."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        dir=str(root.resolve()),
        resume="allow",
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off"),
        **how,
    )


def _is_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = (os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbStage:
    """A run of Weights & Biases for a stage, by the key of the stage."""

    def __init__(self, part: Path, spec: StageSpec, key: str, settings: Mapping[str, str]) -> None:
        config = {**settings, "seed": spec.seed, "tasks": list(spec.tasks), "data": spec.data.name, "key": key}
        self.run = _wandb(part.parent.parent, id=key, name=spec.title, config=config, job_type="stage")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers at a step."""
        self.run.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:
        """Say how the stage ended."""
        self.run.finish(exit_code=0 if finished else 1)


# ---- what a command found


def track_result(
    names: Sequence[str], root: Path, run: str, record: RunRecord, kind: str, document: str, note: Callable[[str], None]
) -> None:
    """Give trackers what a command found.

    Args:
        names: of `TRACKERS`.
        root: the store.
        run: the number of the run.
        record: of it.
        kind: of the document.
        document: as JSON.
        note: is told of a tracker that fails.
    """
    title = record.name if isinstance(record.name, str) else record.title
    score = record.score if isinstance(record.target, str) else record.balanced_accuracy
    scores = {"score": float(score)} if isinstance(score, int | float) else {}
    params: Json = {"run": run, "title": record.title, "data": record.dataset}
    params |= {"command": record.command_line} if record.command_line else {}
    act = {"tensorboard": _result_to_tensorboard, "mlflow": _result_to_mlflow, "wandb": _result_to_wandb}
    for name in names:
        _try(name, partial(act[name], root, run, title, params, scores, kind, document), note)


def _result_to_tensorboard(
    root: Path, run: str, title: str, params: Json, scores: Mapping[str, float], kind: str, document: str
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(root / "tensorboard" / run))
    writer.add_text(kind, f"```\n{document}\n```")
    for name, value in scores.items():
        writer.add_scalar(name, value)
    writer.close()


def _result_to_mlflow(
    root: Path, run: str, title: str, params: Json, scores: Mapping[str, float], kind: str, document: str
) -> None:
    client, experiment = _mlflow(root)
    number = client.create_run(experiment, run_name=title, tags={"kind": kind, "run": run}).info.run_id
    for name, value in params.items():
        client.log_param(number, name, str(value)[:500])
    for name, score in scores.items():
        client.log_metric(number, name, score)
    client.log_text(number, document, f"{kind}.json")
    client.set_terminated(number)


def _result_to_wandb(
    root: Path, run: str, title: str, params: Json, scores: Mapping[str, float], kind: str, document: str
) -> None:
    import wandb

    found = _wandb(root, id=f"run-{run}", name=title, config=dict(params), job_type=kind)
    found.summary.update(dict(scores))
    artifact = wandb.Artifact(f"{kind}-{run}", type="result")
    with artifact.new_file(f"{kind}.json", mode="w") as file:
        file.write(document)
    found.log_artifact(artifact)
    found.finish()


__all__ = ["TRACKERS", "StageTracker", "check_trackers", "stage_trackers", "track_result"]
