"""The store: a folder of finished stages, found by what was asked for, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sslcurr.errors import StoreError
from sslcurr.files import read_as, read_json, size_of, write_json
from sslcurr.spec.record import KeptResult, RunRecord, StageRecord
from sslcurr.spec.stage import Json, StageSpec, hash_of, key_of, stage_from_dict, to_dict

KEY_CHARACTERS = 16
RESUME = "resume.pt"
RUN_HINT = "remove this file and run the command of that run again: what was trained is kept"


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: its key and its folder."""

    key: str
    folder: Path

    @property
    def weights(self) -> Path:
        """The backbone, a safetensors file."""
        return self.folder / "backbone.safetensors"

    @property
    def record(self) -> StageRecord:
        """What happened: hashes of the weights, metrics, seconds, versions, device.

        Raises:
            StoreError: it is missing or damaged.
        """
        return read_as(self.folder / "done.json", StageRecord)

    @property
    def spec(self) -> StageSpec:
        """What was asked for."""
        return stage_from_dict(read_json(self.folder / "stage.json"))


class Store:
    """A folder: `stages`, `analyses`, `packs`, a record of every command in `runs`, what it found in `results`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = root / "stages"
        self.analyses = root / "analyses"
        self.runs = root / "runs"
        self.results = root / "results"

    @property
    def packs(self) -> Path:
        """The folder of packed data sets."""
        return self.root / "packs"

    @property
    def imports(self) -> Path:
        """The folder of what other projects' checkpoints were turned into."""
        return self.root / "imports"

    # ---- stages

    def find(self, key: str) -> Stage | None:
        """The finished stage of that key, or None. A folder without `done.json` is never taken for one."""
        folder = self.stages / key
        return Stage(key, folder) if (folder / "done.json").is_file() else None

    def all(self) -> list[Stage]:
        """All finished stages, oldest first."""
        return [Stage(folder.name, folder) for folder in _finished(self.stages)]

    def resolve(self, text: str) -> Stage:
        """The stage whose key begins with `text`.

        Raises:
            StoreError: none or several do.
        """
        matches = [stage for stage in self.all() if stage.key.startswith(text)]
        if len(matches) != 1 or len(text) < 4:
            what = "no stage" if not matches else f"{len(matches)} stages"
            raise StoreError(f"{what} in {self.root} with a key that begins with {text!r}", "see sslcurr runs --stages")
        return matches[0]

    def run(self, spec: StageSpec, work: Callable[[Path], StageRecord], waiting: Callable[[], None]) -> Stage:
        """The stage of `spec`, doing `work` in its folder first if it is not there yet.

        `work` gets `<key>.part`, where it may find what a killed process left, and returns the record. `waiting` is
        called once if another process is at work on the same stage.
        """
        key = key_of(spec)
        if (stage := self.find(key)) is not None:
            return stage
        folder = self.stages / key
        with writing(folder, waiting) as part:
            if (stage := self.find(key)) is not None:  # finished while we waited
                return stage
            write_json(part / "stage.json", to_dict(spec))
            write_json(part / "done.json", work(part).to_json())
            os.replace(part, folder)
            # Only now: had we been killed before the rename, the state would be needed to go on.
            (folder / RESUME).unlink(missing_ok=True)
        return Stage(key, folder)

    # ---- analyses

    def analysis(self, kind: str, inputs: Mapping[str, object], work: Callable[[Path], Mapping[str, object]]) -> Path:
        """The folder of an analysis keyed by `inputs`, doing `work` first if it is not there; its `done.json` holds
        what `work` returned."""
        return self.kept(self.analyses, kind, inputs, work)

    def kept(
        self, root: Path, kind: str, inputs: Mapping[str, object], work: Callable[[Path], Mapping[str, object]]
    ) -> Path:
        """As `analysis`, in a folder under `root`."""
        folder = root / f"{kind}-{hash_of(inputs)[:KEY_CHARACTERS]}"
        if (folder / "done.json").is_file():
            return folder
        with writing(folder, lambda: None) as part:
            if not (folder / "done.json").is_file():
                write_json(part / "inputs.json", inputs)
                write_json(part / "done.json", work(part))
                os.replace(part, folder)
        return folder

    def all_analyses(self) -> list[Path]:
        """The folders of all finished analyses, oldest first."""
        return _finished(self.analyses)

    # ---- runs

    def note_run(self, record: RunRecord) -> str:
        """Write down that a command needs stages and analyses, so that they are kept; returns the run's name."""
        name = run_name(record.asked)
        self.runs.mkdir(parents=True, exist_ok=True)
        write_json(self.runs / f"{name}.json", record.to_json())
        return name

    def keep_result(self, record: RunRecord, kind: str, document: Json) -> None:
        """Keep what a command found, the document that it prints as JSON, beside its record."""
        self.results.mkdir(parents=True, exist_ok=True)
        write_json(self.results / f"{run_name(record.asked)}.json", {"kind": kind, "document": document})

    def result(self, name: str) -> tuple[str, Json] | None:
        """The kind of what a run found, such as `rank`, and its document; None for a run that has not come so far.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.results / f"{name}.json"
        if not path.is_file():
            return None
        stored = read_as(path, KeptResult, RUN_HINT)
        return stored.kind, stored.document

    def all_runs(self) -> dict[str, RunRecord]:
        """The records of all runs by name, the one begun first first; times of files are not kept by every copy.

        Raises:
            StoreError: a record is damaged.
        """
        if not self.runs.is_dir():
            return {}
        records = {path.stem: read_as(path, RunRecord, RUN_HINT) for path in sorted(self.runs.glob("*.json"))}
        return dict(sorted(records.items(), key=lambda item: item[1].begun))

    def forget(self, names: set[str]) -> None:
        """Delete the records of runs; what they alone needed is then `unneeded`."""
        for name in names:
            (self.runs / f"{name}.json").unlink(missing_ok=True)
            (self.results / f"{name}.json").unlink(missing_ok=True)

    def unneeded(self, without: set[str] = frozenset()) -> list[Path]:  # type: ignore[assignment]
        """Stages (whole and half), analyses and packs that no run needs, the runs in `without` not counted."""
        records = [record for name, record in self.all_runs().items() if name not in without]
        stages = {key for record in records for key in record.stages}
        needed_names = {f"analyses/{name}" for record in records for name in record.analyses}
        needed_names |= {f"packs/{name}" for record in records for name in record.packs}
        paths = []
        for folder in (self.stages, self.analyses, self.packs):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                name = path.name.removesuffix(".part").removesuffix(".lock")
                needed = name in stages if folder == self.stages else f"{folder.name}/{name}" in needed_names
                if not needed and not _locked(path.with_name(f"{name}.lock")):
                    paths.append(path)
        return paths

    def remove(self, paths: list[Path]) -> int:
        """Delete what `unneeded` found; returns the bytes that were freed."""
        freed = 0
        for path in paths:
            freed += size_of(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return freed


def now() -> str:
    """The time as runs are dated, to the millisecond: two of one second have an order."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def run_name(asked: Json) -> str:
    """The name of a run: the same was asked, the same run."""
    return hash_of(asked)[:8]


def _finished(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    folders = [path for path in folder.iterdir() if path.suffix != ".part" and (path / "done.json").is_file()]
    return sorted(folders, key=lambda path: (path / "done.json").stat().st_mtime)


def _locked(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def writing(folder: Path, waiting: Callable[[], None]) -> Iterator[Path]:
    """Hold the lock of `folder` and give `<folder>.part`, which is kept when the work is broken off."""
    from filelock import FileLock, Timeout

    part = folder.with_name(f"{folder.name}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        part.mkdir(exist_ok=True)
        yield part
    finally:
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()
        lock.release()
