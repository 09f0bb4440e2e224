"""What is recorded of trainings and of commands: the record of a stage, and that of a run."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType, structs

from sslcurr.spec.stage import Json
from sslcurr.spec.target import CLASSES, TargetKind


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What happened when a stage was trained, as in its `done.json`.

    Attributes:
        key: of the stage.
        weights_sha256: of its `backbone.safetensors`.
        parent: key of the stage it started from, `sha256:...` of a checkpoint, or None for scratch.
        parent_weights_sha256: of the weights it started from.
        metrics: measures at its end.
        steps: optimizer steps.
        stopped_early: whether the validation measure stopped it.
        num_images: training images.
        images_per_second, seconds: speed and time of the training.
        lr: the peak learning rate.
        device, precision, channels_last, threads: where and how it was trained.
        world: the processes that trained it together, and saved or ended it: `size`, `nodes` and `backend`; unset where
            it was one.
        versions: of sslcurr, torch and Python.
        search: the result of its learning-rate search; unset where there was none.
        classes: names of what a target task learnt: classes, labels, or the number; unset for others, and before 0.2.
    """

    key: str
    weights_sha256: str
    parent: str | None
    parent_weights_sha256: str | None
    metrics: dict[str, int | float]
    steps: int
    stopped_early: bool = False
    num_images: int
    images_per_second: float
    seconds: float
    lr: float | None = None
    device: str
    precision: str
    channels_last: bool = False
    threads: int | None = None
    world: Json | UnsetType = UNSET
    versions: dict[str, str]
    search: Json | UnsetType = UNSET
    classes: list[str] | UnsetType = UNSET

    @property
    def num_ranks(self) -> int:
        """Processes that trained it together."""
        return int(self.world["size"]) if isinstance(self.world, dict) else 1

    def to_json(self) -> Json:
        """As plain values, in the order of the fields."""
        return dict(msgspec.to_builtins(self))


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what it needs of the store, as in a file under `runs`.

    Attributes:
        asked: what identifies it; equal values are the same run.
        title: what it is about.
        dataset, seed: of its stages.
        stages, analyses, packs: keys and names of what it needs, so that these are kept.
        balanced_accuracy: of its best chain, a share of 1; None where nothing was measured, or the target is no class.
        finished: whether it came to its end.
        command: the command line, word by word; unset where a version before 0.2 prepared a data set.
        created: when it was begun, ISO 8601.
        held: of a search: keys of the stages that were there when it began, which cost it nothing; unset for others.
        target: `multilabel` or `regression`, where the target is no class.
        score: the main measure of its best chain then.
        name: that a person gave it; unset for none.
        note: of a person, on why it was run; unset for none.
        again: when its command was given again, the last time; unset where that was not.
    """

    asked: Json
    title: str
    dataset: str
    seed: int = 0
    stages: list[str] = msgspec.field(default_factory=list)
    analyses: list[str] = msgspec.field(default_factory=list)
    packs: list[str] = msgspec.field(default_factory=list)
    balanced_accuracy: float | None = None
    finished: bool = True
    command: list[str] | UnsetType = UNSET
    created: str
    held: list[str] | UnsetType = UNSET
    target: str | UnsetType = UNSET
    score: float | UnsetType | None = UNSET
    name: str | UnsetType = UNSET
    note: str | UnsetType = UNSET
    again: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        _ = self.begun, self.called  # so that a damaged record is found out where it is read

    def scored(self, score: float | None, target: TargetKind) -> RunRecord:
        """With the main measure of its best chain, under the name that it has."""
        if target is CLASSES:
            return structs.replace(self, balanced_accuracy=score)
        return structs.replace(self, score=score, target=target.name)

    @property
    def command_line(self) -> str:
        """The command as a person types it; empty where it is not known."""
        return shlex.join(self.command) if isinstance(self.command, list) else ""

    def command_line_on(self, store: Path) -> str:
        """The command as a person types it for this store, wherever the run was made; empty where it is not known."""
        if not isinstance(self.command, list):
            return ""
        words, left = [], iter(self.command)
        for word in left:
            if word == "--runs":
                next(left, None)
            elif not word.startswith("--runs="):
                words.append(word)
        return shlex.join([*words, "--runs", str(store)])

    @property
    def begun(self) -> datetime:
        """`created` as a time; one without a zone is of this machine's."""
        return datetime.fromisoformat(self.created).astimezone()

    @property
    def called(self) -> datetime:
        """When its command was given, the last time."""
        return datetime.fromisoformat(self.again).astimezone() if isinstance(self.again, str) else self.begun

    def to_json(self) -> Json:
        """As plain values, in the order of the fields."""
        return dict(msgspec.to_builtins(self))


class StoredResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a command, as in a file under `results`.

    Attributes:
        kind: of the document, such as `rank`.
        document: as `--json` printed it.
    """

    kind: str
    document: Json
