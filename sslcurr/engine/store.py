"""The store: a folder of finished stages, found by their settings, written whole or not at all."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from sslcurr.claims import LEASE, Claim, Lost, Taken, claim, described_owner, is_claimed, waited_claim
from sslcurr.engine import uses
from sslcurr.engine.answers import Answers
from sslcurr.errors import Interrupted, SslcurrError, StoreError
from sslcurr.files import read_as, read_json, size_of, write_record
from sslcurr.integrity import HASHES, WEIGHTS, write_hashes
from sslcurr.spec.record import RunRecord, StageRecord, StoredResult
from sslcurr.spec.stage import (
    DataSpec,
    Json,
    StageSpec,
    hash_of,
    key_of,
    part_from_dict,
    plain_stage,
    stage_from_dict,
    to_dict,
)
from sslcurr.wording import counted, first_command, is_unicode, visible

KEY_CHARACTERS = 16
LATEST = re.compile(r"last(?:~(\d+))?")
RESUME = "resume.pt"
PACK = ("packs", "name")  # the parts of the path of a pack within a store
RENDERED_FIGURES = ".figures.json"  # what the name of a part's figures ends in, under `rendered`
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
        """The stage as requested."""
        return placed(read_json(self.folder / "stage.json"), Store(self.folder.parent.parent))


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed in some process, and what to do."""

    reason: str
    hint: str


class Store:
    """A folder: `stages`, `analyses`, `packs`, a record of every command in `runs`, what it found in `results`."""

    def __init__(
        self, root: Path, *, waits: bool = True, lease: float = LEASE, note: Callable[[str], None] = lambda _: None
    ) -> None:
        """A store.

        Args:
            root: its folder.
            waits: whether work that another process is at is waited for; if not, `Taken` is raised.
            lease: minutes without a heartbeat after which another process counts as dead.
            note: is told of records that cannot be read and are left out, and of what is waited for.

        Raises:
            StoreError: the path cannot be written in records.
        """
        if not is_unicode(str(root)):  # weights and records could not be written there
            raise StoreError(f"the path {visible(str(root))} is no text in UTF-8", "give another --runs")
        self.root = root
        self.waits = waits
        self.lease = lease
        self.note = note
        self.answers = Answers(root)
        self._noted: set[str] = set()
        self._made = 0
        self._claims: dict[Path, Claim] = {}  # what this process is at work on
        self.stages = root / "stages"
        self.analyses = root / "analyses"
        self.runs = root / "runs"
        self.results = root / "results"

    @functools.cached_property
    def place(self) -> Path:
        """The root as a whole path, wherever the process goes."""
        return self.root.resolve()

    @property
    def packs(self) -> Path:
        """The folder of packed data sets."""
        return self.root / "packs"

    @property
    def imports(self) -> Path:
        """The folder of what other projects' checkpoints were turned into."""
        return self.root / "imports"

    @property
    def rendered(self) -> Path:
        """The folder of what the page of a report is put together from, which any report makes again."""
        return self.root / "rendered"

    # ---- stages

    def find(self, key: str) -> Stage | None:
        """The finished stage of that key, or None. A folder without `done.json` is never taken for one.

        While this process runs, no other removes it.
        """
        stage = self.stage(key)
        self.use(stage.folder)
        return stage if (stage.folder / "done.json").is_file() else None

    def stage(self, key: str) -> Stage:
        """The stage of that key, for those who know that it is finished."""
        return Stage(key, self.stages / key)

    def all(self) -> list[Stage]:
        """All finished stages, oldest first."""
        return [Stage(folder.name, folder) for folder in _finished(self.stages)]

    def readable(self, *, newest_first: bool = False) -> Iterator[Stage]:
        """The finished stages whose records can be read, oldest first, one at a time; the others are noted."""
        stages = self.all()
        for stage in reversed(stages) if newest_first else stages:
            try:
                _ = stage.record, stage.spec
            except SslcurrError as error:
                self.left_out(error)
            else:
                yield stage

    def left_out(self, error: SslcurrError) -> None:
        """Note once what cannot be read and is left out."""
        text = f"{error}: it is left out; {error.hint}" if error.hint else f"{error}: it is left out"
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)

    def use(self, folder: Path) -> None:
        """Note that this process uses a folder of the store, so that no other removes it meanwhile."""
        uses.use(self.place, f"{folder.parent.name}/{folder.name}")

    def resolve(self, text: str) -> Stage:
        """The stage whose key begins with `text`, or the last one of the run that it names.

        Raises:
            StoreError: none or several do; the run has not come so far, or has several ends.
        """
        matches = [stage for stage in self.all() if stage.key.startswith(text)]
        if not matches and (run := self.named(text)) is not None:
            return self._end_of(run, text)
        if not matches:
            raise StoreError(
                f"no stage in {self.root} has a key that begins with {text!r}, and no run is called so",
                "see sslcurr runs, or give the store as --runs FOLDER",
            )
        if len(matches) > 1 or len(text) < 4:
            what = counted(len(matches), "stage")
            raise StoreError(f"{what} in {self.root} with a key that begins with {text!r}", "see sslcurr runs --stages")
        self.use(matches[0].folder)
        return matches[0]

    def _end_of(self, run: str, text: str) -> Stage:
        """The last stage of the chain that a run trained."""
        found = self.result(run)
        if found is None:
            raise StoreError(f"the run {text} is not finished", "run its command again, or give the key of a stage")
        kind, document = found
        stages = document.get("stages", []) if kind == "train" else []
        ends = len(document.get("downstream", {}).get("folds", [])) or 1
        stage = self.find(stages[-1]["key"]) if stages and ends == 1 else None
        if stage is None:
            title = self.all_runs()[run].title
            if stages:
                what = "trained several models, one a fold" if ends > 1 else "has lost its last stage"
                raise StoreError(
                    f"the run {text} ({title}) {what}", f"give the key of a stage: sslcurr runs show {run}"
                )
            raise StoreError(f"the run {text} ({title}) is no chain, and has no model of its own", self._models_hint())
        return stage

    def _models_hint(self) -> str:
        """The latest run whose last stage is a model, and where stages are listed."""
        records = self.all_runs()
        for back, run in enumerate(reversed(records)):
            kind, document = self.result(run) or ("", {})
            if kind == "train" and document.get("stages") and not document.get("downstream", {}).get("folds"):
                latest = f"last~{back}" if back else "last"
                return f"give {latest} ({records[run].title}), or the key of a stage: sslcurr runs --stages"
        return "give the key of a stage: sslcurr runs --stages"

    def is_at(self, folder: Path) -> bool:
        """Whether this process is at work on a folder."""
        return folder in self._claims

    @property
    def num_made(self) -> int:
        """How many folders were published from here, and not found or left to another process."""
        return self._made

    def tell(self, folder: Path, **status: object) -> None:
        """Note what this process is at in a folder that it works on; others read it, see `claims`."""
        if folder in self._claims:
            self._claims[folder].tell(**status)

    def run(self, spec: StageSpec, work: Callable[[Path], StageRecord], waiting: Callable[[], None]) -> Stage:
        """The stage of `spec`, doing `work` in its folder first if it is not there yet.

        `work` gets the stage's part, where it may find what a killed process left, and returns the record. `waiting` is
        called once if another process is at work on the same stage.

        Raises:
            Taken: another process is at work on it, and this store does not wait.
        """
        folder = self.stages / key_of(spec)

        def begun(part: Path) -> Json:
            write_record(part / "stage.json", portable(spec, self))
            return work(part).to_json()

        if self._make(folder, begun, waiting):
            # Only now: had we been killed before the rename, the state would be needed to go on.
            (folder / RESUME).unlink(missing_ok=True)
            self._remove_trials(folder.name)
        return Stage(folder.name, folder)

    def trials(self, key: str) -> Path:
        """The folder of the learning rates that are tried for a stage, until the stage is there."""
        return self.stages / f"{key}.search"

    def trial(self, key: str, number: int) -> Path:
        """The folder of one of them, which is whole once its `done.json` is there."""
        return self.trials(key) / f"trial-{number:02d}"

    def run_trial(
        self, key: str, number: int, work: Callable[[Path], Mapping[str, object]], waiting: Callable[[], None]
    ) -> Json | None:
        """What came of a trial, doing `work` in its folder first if it is not there yet: what `work` returned.

        Args:
            key: of the stage.
            number: of the trial, from 0.
            work: as of `run`.
            waiting: as of `run`.

        Returns:
            None where the stage is there, or was published meanwhile by another process, which then removed the trials.

        Raises:
            Taken: another process is at work on it, and this store does not wait.
        """
        folder = self.trial(key, number)

        def begun(part: Path) -> Mapping[str, object]:
            if self.find(key) is not None:
                raise StoreError(f"{key} needs no trials any more")
            return work(part)

        try:
            if self._make(folder, begun, waiting):
                for path in folder.iterdir():  # only now, as in `run`
                    if path.name != "done.json":
                        _remove(path)
            result: Json = read_json(folder / "done.json")
            return result
        except (OSError, SslcurrError) as error:
            if isinstance(error, Interrupted) or self.find(key) is None:
                raise
            self._remove_trials(key)
            return None

    def _remove_trials(self, key: str) -> None:
        """Delete the trials of a stage that is there."""
        shutil.rmtree(self.trials(key), ignore_errors=True)

    def _make(self, folder: Path, work: Callable[[Path], Mapping[str, object]], waiting: Callable[[], None]) -> bool:
        """Do `work` under a claim and publish its part with what it returned as `done.json`; False if that is there."""
        self.use(folder)
        while not (folder / "done.json").is_file():
            with self._claimed(folder, waiting) as claim:
                if (folder / "done.json").is_file():  # finished while we waited
                    return False
                self._claims[folder] = claim
                try:
                    # Of one that was killed between its last file and its place, which is made anew from a save.
                    (claim.part / HASHES).unlink(missing_ok=True)
                    made = work(claim.part)
                    write_record(claim.part / "done.json", made)
                    weights = made.get("weights_sha256")  # of a stage, of which nothing is read twice
                    write_hashes(claim.part, known={WEIGHTS: str(weights)} if weights else None)
                    claim.publish()
                    self._made += 1
                    return True
                except (OSError, SslcurrError) as error:
                    if isinstance(error, Interrupted) or not (isinstance(error, Lost) or claim.is_lost):
                        raise
                    # Another process has taken the folder over: what went wrong here means nothing, its result counts.
                finally:
                    del self._claims[folder]
        return False

    @contextmanager
    def _claimed(self, folder: Path, waiting: Callable[[], None]) -> Iterator[Claim]:
        if self.waits:
            with waited_claim(folder, waiting, lease=self.lease) as made:
                yield made
            return
        made_now = claim(folder, lease=self.lease)
        if made_now is None:
            raise Taken(f"{described_owner(folder)} is at work on {folder.name}")
        with made_now:
            yield made_now

    # ---- jobs of several processes

    @property
    def plans(self) -> Path:
        """The folder of what is wanted of workers, a file for each run."""
        return self.root / "plans"

    def plan(self, run: str) -> Path:
        """The file of what a run wants of workers."""
        return self.plans / f"{run}.json"

    def failure(self, name: str) -> tuple[str, str] | None:
        """Why a job failed in some process, and what to do; None where it did not."""
        path = self._failure(name)
        if not path.is_file():
            return None
        try:
            failure = read_as(path, Failure, "remove this file: the job is then tried again")
        except StoreError:
            if path.is_file():
                raise
            return None  # another command has cleared it just now
        return failure.reason, failure.hint

    def note_failure(self, name: str, reason: str, hint: str) -> None:
        """Tell other processes that a job fails, so that they do not try it too."""
        path = self._failure(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, {"reason": reason, "hint": hint})

    def clear_failures(self, names: Iterable[str]) -> None:
        """Let jobs be tried again."""
        folder = self.plans / "failed"
        if folder.is_dir():
            for path in {self._failure(name) for name in names} & set(folder.iterdir()):
                path.unlink(missing_ok=True)

    def _failure(self, name: str) -> Path:
        return self.plans / "failed" / f"{name.replace(' ', '-')}.json"

    # ---- analyses

    def analysis(self, kind: str, inputs: Mapping[str, object], work: Callable[[Path], Mapping[str, object]]) -> Path:
        """The folder of an analysis keyed by `inputs`, doing `work` first if it is not there; its `done.json` holds
        what `work` returned."""
        return self.cached(self.analyses, kind, inputs, work)

    def cached(
        self, root: Path, kind: str, inputs: Mapping[str, object], work: Callable[[Path], Mapping[str, object]]
    ) -> Path:
        """As `analysis`, in a folder under `root`."""
        folder = root / analysis_name(kind, inputs)

        def begun(part: Path) -> Mapping[str, object]:
            write_record(part / "inputs.json", inputs)
            return work(part)

        self._make(folder, begun, lambda: self.note(f"waiting for {kind}: {described_owner(folder)} is at it"))
        return folder

    def has_analysis(self, kind: str, inputs: Mapping[str, object]) -> bool:
        """Whether an analysis keyed by `inputs` is there."""
        return self.has_named(analysis_name(kind, inputs))

    def has_named(self, name: str) -> bool:
        """Whether the analysis of that name, from `analysis_name`, is there."""
        self.use(self.analyses / name)
        return (self.analyses / name / "done.json").is_file()

    def discard(self, names: Iterable[str]) -> None:
        """Delete analyses that nobody needs any more; those that a process works on stay."""
        for name in names:
            if not is_claimed(self.analyses / name):
                for path in self.analyses.glob(f"{name}*"):  # with its lock
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    def all_analyses(self) -> list[Path]:
        """The folders of all finished analyses, oldest first."""
        return _finished(self.analyses)

    # ---- runs

    def note_run(self, record: RunRecord) -> str:
        """Write down that a command needs stages and analyses, so that they are kept; returns the run's name.

        Where the same command was given before, it was begun then.
        """
        name = run_name(record.asked)
        self.runs.mkdir(parents=True, exist_ok=True)
        path = self.runs / f"{name}.json"
        with suppress(StoreError):  # a damaged one is as none
            earlier = read_as(path, RunRecord, RUN_HINT) if path.exists() else record
            if earlier.begun < record.begun:
                record = msgspec.structs.replace(record, created=earlier.created, again=record.created)
        write_record(path, record.to_json())
        return name

    def keep_result(self, record: RunRecord, kind: str, document: Json) -> None:
        """Keep what a command found, the document that it prints as JSON, beside its record."""
        self.results.mkdir(parents=True, exist_ok=True)
        self.plan(run_name(record.asked)).unlink(missing_ok=True)  # nothing is wanted of workers any more
        write_record(self.results / f"{run_name(record.asked)}.json", {"kind": kind, "document": document})

    def result(self, name: str) -> tuple[str, Json] | None:
        """The kind of what a run found, such as `rank`, and its document; None for a run that has not come so far.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.results / f"{name}.json"
        if not path.is_file():
            return None
        stored = read_as(path, StoredResult, RUN_HINT)
        return stored.kind, stored.document

    def all_runs(self, *, strict: bool = False) -> dict[str, RunRecord]:
        """The records of all runs by name, that of the latest command last; times of files are not kept by every copy.

        Args:
            strict: whether a record that cannot be read is an error; else it is noted and left out.

        Raises:
            StoreError: a record cannot be read, where `strict`.
        """
        records = {}
        for path in sorted(self.runs.glob("*.json")) if self.runs.is_dir() else []:
            try:
                records[path.stem] = read_as(path, RunRecord, RUN_HINT)
            except StoreError as error:
                if strict:
                    raise
                if path.exists():  # not forgotten just now
                    self.left_out(error)
        return dict(sorted(records.items(), key=lambda item: item[1].called))

    def named(self, text: str) -> str | None:
        """The run that a person means: by its number, its name, or `last`, `last~1` ... for the latest ones; else None.

        Raises:
            StoreError: there are not so many.
        """
        records = self.all_runs()
        if text in records:
            return text
        latest = LATEST.fullmatch(text)
        if latest is not None:
            place = int(latest[1] or 0)
            if not records:
                raise StoreError(
                    f"there is no run {text}: {self.root} has none yet",
                    f"train something first: {first_command(self.root)}",
                )
            if place >= len(records):
                raise StoreError(f"there is no run {text} in {self.root}: it has {len(records)}", "see sslcurr runs")
            return list(records)[-1 - place]
        return next((run for run, record in records.items() if record.name == text), None)

    def owner_of_run(self, name: str) -> str | None:
        """Who is at work on a stage of a run, or on what is measured of it, in words; None for nobody."""
        record = self.all_runs()[name]
        folders = [self.stages / key for key in record.stages] + [self.analyses / each for each in record.analyses]
        return next((described_owner(folder) for folder in folders if is_claimed(folder)), None)

    def forget(self, names: set[str]) -> None:
        """Delete the records of runs; what they alone needed is then `unneeded`."""
        for name in names:
            (self.runs / f"{name}.json").unlink(missing_ok=True)
            (self.results / f"{name}.json").unlink(missing_ok=True)
            self.plan(name).unlink(missing_ok=True)
            self._drop_rendered(name)

    def _drop_rendered(self, name: str) -> None:
        """Delete what a page shows of a run or of a stage."""
        for end in (".json", RENDERED_FIGURES):
            (self.rendered / f"{name}{end}").unlink(missing_ok=True)

    def unneeded(self, without: Collection[str] = ()) -> list[Path]:
        """Stages (whole and half), analyses and packs that no run needs, the runs in `without` not counted, and that no
        process uses.

        Raises:
            StoreError: the record of a run cannot be read, so that nobody knows what it needs.
        """
        records = [record for name, record in self.all_runs(strict=True).items() if name not in without]
        used = uses.used_by_others(self.place)
        stages = {key for record in records for key in record.stages}
        needed_names = {f"analyses/{name}" for record in records for name in record.analyses}
        needed_names |= {f"packs/{name}" for record in records for name in record.packs}
        paths = []
        for folder in (self.stages, self.analyses, self.packs):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                name = path.name.partition(".")[0]  # a folder, or its part, trials, lock or owner
                needed = name in stages if folder == self.stages else f"{folder.name}/{name}" in needed_names
                trials = path.glob("*.owner.json") if path == self.trials(name) else ()
                claimed = (folder / name, *(each.with_name(each.name.partition(".")[0]) for each in trials))
                in_use = f"{folder.name}/{name}" in used
                if not needed and not in_use and not any(map(is_claimed, claimed)):
                    paths.append(path)
        return paths

    def remove(self, forgotten: Collection[str] = ()) -> dict[str, int]:
        """Forget runs, and delete what no run needs then: it is listed anew while nobody can begin to use it.

        Returns:
            Paths of what was deleted -> bytes.

        Raises:
            StoreError: the record of a run cannot be read; another process removes.
        """

        def waiting() -> None:
            self.note("waiting for another process, which removes things")

        with uses.removing(self.place, waiting):
            paths = self.unneeded(without=forgotten)
            self.forget(set(forgotten))
            sizes = {str(path): size_of(path) for path in paths}
            uses.rename_away(self.place, paths)
            for path in paths:
                self._drop_rendered(path.name)
        uses.delete_removed(self.place)
        return sizes


def now() -> str:
    """The time as runs are dated, to the millisecond: two of one second have an order."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def run_name(identity: Json) -> str:
    """The name of a run, from what identifies it: equal values are the same run."""
    return hash_of(identity)[:8]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _finished(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    folders = [path for path in folder.iterdir() if path.suffix != ".part" and (path / "done.json").is_file()]
    return sorted(folders, key=lambda path: (path / "done.json").stat().st_mtime)


def analysis_name(kind: str, inputs: Mapping[str, object]) -> str:
    """The name of an analysis's folder."""
    return f"{kind}-{hash_of(inputs)[:KEY_CHARACTERS]}"


def portable(spec: StageSpec, store: Store) -> Json:
    """A stage as plain values for other machines: what lies in the store is named from the store."""
    return {**plain_stage(spec), "data": data_portable(spec.data, store), "source": path_portable(spec.source, store)}


def placed(plain: Json, store: Store) -> StageSpec:
    """A stage from plain values, with the paths that it has on this machine.

    Stages of versions before 0.2 name packs by the path they had; where that is gone, the store's pack is meant.
    """
    source = path_placed(plain.get("source", ""), store, len(("imports", "name", "backbone.safetensors")))
    spec = stage_from_dict({**plain, "source": source})
    return replace(spec, data=packs_placed(spec.data, store))


def data_portable(data: DataSpec, store: Store) -> Json:
    """The images of a stage as plain values, as `portable`."""
    others = [path_portable(pack, store) for pack in data.unlabelled_packs]
    return {**to_dict(data), "pack": path_portable(data.pack, store), "unlabelled_packs": others}


def data_placed(plain: Json, store: Store) -> DataSpec:
    """The images of a stage from plain values, as `placed`."""
    return packs_placed(part_from_dict(DataSpec, plain), store)


def packs_placed(data: DataSpec, store: Store) -> DataSpec:
    """The images of a stage, with the paths of their packs on this machine."""
    others = tuple(path_placed(pack, store, len(PACK)) for pack in data.unlabelled_packs)
    return replace(data, pack=path_placed(data.pack, store, len(PACK)), unlabelled_packs=others)


def path_portable(path: str, store: Store) -> str:
    """A path from the root of the store, where it is whole and lies below it."""
    return path.removeprefix(f"{store.place}/")


def path_placed(path: str, store: Store, num_parts: int) -> str:
    """A path from the root of the store as a whole path; one that is gone is looked for in the store by its last
    `num_parts` parts."""
    if not path:
        return path
    whole = store.place / path  # itself, where it is absolute
    if path.startswith("/") and not whole.exists():
        moved = store.place.joinpath(*whole.parts[-num_parts:])
        return str(moved if moved.exists() else whole)
    return str(whole)
