"""The documents of `sslcurr runs`: runs, stages, one of them, and what was removed."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Json, Part


class RunDocument(Document, frozen=True, kw_only=True):
    """A run: a command and what it needs of the store.

    Attributes:
        run: its name.
        asked: what tells it apart from other runs.
        title: what it is about.
        dataset, seed: of its stages.
        stages, analyses, packs: keys and names of what it needs.
        balanced_accuracy: of its best chain, a share of 1; None where nothing was measured, or the target is no class.
        finished: whether it came to its end.
        command: the command line, word by word; unset in records of old versions of `data prepare`.
        created: when it was begun, ISO 8601.
        found: the document of its command, None where it did not come so far; unset in a list of runs.
        target: `multilabel` or `regression`, where the target is no class.
        score: the main measure of its best chain then.
        name, note: of a person; unset for none.
    """

    kind: ClassVar[str] = "run"

    run: str
    asked: Json
    title: str
    dataset: str
    seed: int
    stages: list[str]
    analyses: list[str]
    packs: list[str]
    balanced_accuracy: float | None
    finished: bool
    command: list[str] | UnsetType = UNSET
    created: str
    found: Json | UnsetType | None = UNSET
    target: str | UnsetType = UNSET
    score: float | UnsetType | None = UNSET
    name: str | UnsetType = UNSET
    note: str | UnsetType = UNSET


class RunsDocument(Document, frozen=True, kw_only=True):
    """The runs of a store, the one begun first first."""

    kind: ClassVar[str] = "runs"

    runs: list[RunDocument]


class StageDocument(Document, frozen=True, kw_only=True):
    """A finished stage.

    Attributes:
        key: in the store.
        task, tasks: what it was trained by, and all that its weights went through.
        dataset, seed: of its training.
        checkpoint: the weights of its backbone.
        num_images: training images.
        metrics: measures at its end.
        seconds: that its training took.
        device, precision, versions: where it was trained.
        asked: all that decides its result, as in `stage.json`; unset in a list of stages.
        happened: its record, as in `done.json`; unset in a list of stages.
    """

    kind: ClassVar[str] = "stage"

    key: str
    task: str
    tasks: list[str]
    dataset: str
    seed: int
    checkpoint: str
    num_images: int
    metrics: dict[str, int | float]
    seconds: float
    device: str
    precision: str
    versions: dict[str, str]
    asked: Json | UnsetType = UNSET
    happened: Json | UnsetType = UNSET


class StagesDocument(Document, frozen=True, kw_only=True):
    """The finished stages of a store, oldest first."""

    kind: ClassVar[str] = "stages"

    stages: list[StageDocument]

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, place: int) -> StageDocument:
        return self.stages[place]


class RemovalDocument(Document, frozen=True, kw_only=True):
    """What was removed from a store.

    Attributes:
        forgotten: names of runs.
        removed: path -> bytes of what no run needs any more.
        dry_run: whether nothing was really removed.
    """

    kind: ClassVar[str] = "removal"

    forgotten: list[str]
    removed: dict[str, int]
    dry_run: bool

    def done(self) -> RemovalDocument:
        """This document of a removal that was carried out."""
        return msgspec.structs.replace(self, dry_run=False)


class FindingEntry(Part, frozen=True, kw_only=True):
    """Something in a store that is not as it should be.

    Attributes:
        path: of it.
        state: `damaged`, `missing`, `half-written` or `left over`.
        what: in a few words.
        again: the command line that makes it again, or goes on with it; empty where none is known.
        repaired: whether it was removed, so that it can be made again.
    """

    path: str
    state: str
    what: str
    again: str
    repaired: bool


class InspectionDocument(Document, frozen=True, kw_only=True):
    """A store held against what was written.

    Attributes:
        store: its folder.
        num_files, num_bytes: that it holds.
        findings: what is not as it should be, by path.
        repair: whether what is damaged or left over was removed.
    """

    kind: ClassVar[str] = "inspection"

    store: str
    num_files: int
    num_bytes: int
    findings: list[FindingEntry]
    repair: bool

    @property
    def num_faults(self) -> int:
        """How much is lost and not removed yet; what is missing is there again when its command was run again."""
        return sum(each.state in ("damaged", "missing") and not each.repaired for each in self.findings)


class HandoverDocument(Document, frozen=True, kw_only=True):
    """A run that was written into a file, or taken from one.

    Attributes:
        run: its number.
        title: what it is about.
        file: the zip.
        imported: whether it was taken from the file.
        num_stages: finished stages that go with it.
        num_files, num_bytes: in the file, and its size.
        num_there: files that the store had already.
        packs: whether the packed images go with it.
    """

    kind: ClassVar[str] = "handover"

    run: str
    title: str
    file: str
    imported: bool
    num_stages: int
    num_files: int
    num_bytes: int
    num_there: int
    packs: bool
