"""All of a store held against what was written: what is damaged, missing, half-written or left over; and its repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sslcurr.claims import claim, is_claimed
from sslcurr.data.pack import load_pack
from sslcurr.engine import uses
from sslcurr.engine.plans import PlanFile
from sslcurr.engine.store import RESUME, Failure, Store
from sslcurr.errors import SslcurrError, StoreError
from sslcurr.files import read_as, read_json, size_of
from sslcurr.integrity import HASHES, command_for, faults_in, forget, home_of
from sslcurr.spec.record import RunRecord, StageRecord, StoredResult

State = Literal["damaged", "missing", "half-written", "left over"]
RECORDS: dict[str, type] = {"runs": RunRecord, "results": StoredResult, "plans": PlanFile, "plans/failed": Failure}
FOLDERS = ("stages", "analyses", "packs", "imports")
CHUNK_IMAGES = 1024


@dataclass(frozen=True)
class Finding:
    """Something in a store that is not as it should be.

    Attributes:
        path: of it.
        state: what it is.
        what: in a few words.
        again: the command line that makes it again, or goes on with it; empty where none is known.
    """

    path: Path
    state: State
    what: str
    again: str = ""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        findings: by path.
        num_files, num_bytes: of the store.
    """

    findings: list[Finding]
    num_files: int
    num_bytes: int


def inspect(store: Store, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Read all of a store.

    Args:
        store: is only read.
        progress: called with the number of bytes that were held against what was written, and of all.
    """
    places = [path for name in FOLDERS for path in _entries(store.root / name)]
    sizes = {path: size_of(path) for path in places}
    total, done, runs = sum(sizes.values()), 0, store.all_runs()
    findings = list(_records(store, runs))
    for path in places:
        findings += _folder(path) if _is_published(path) else _beside(path)
        done += sizes[path]
        if progress is not None:
            progress(done, total)
    findings += _missing(store, runs)
    findings += _left_in_root(store)
    files = [path for path in store.root.rglob("*") if path.is_file()]
    return Inspection(sorted(findings, key=lambda each: str(each.path)), len(files), sum(map(size_of, files)))


def repair(store: Store, found: Inspection) -> list[Finding]:
    """Remove what is damaged or left over, but for what a process works on; the commands make it again.

    Returns:
        What was removed. The records of runs are not deleted but called `NAME.damaged`: they say what was asked for.
    """

    def waiting() -> None:
        store.note("waiting for another process, which removes things")

    done = []
    with uses.removing(store.place, waiting):
        used = uses.used_by_others(store.place)
        for finding in found.findings:
            if finding.state not in ("damaged", "left over"):
                continue
            folder = home_of(finding.path)
            if finding.state == "left over" or folder is None:
                _remove(store, finding.path)
                done.append(finding)
            elif f"{folder.parent.name}/{folder.name}" not in used and _take(store, folder):
                done.append(finding)
    uses.delete_removed(store.place)
    return done


def _take(store: Store, folder: Path) -> bool:
    """Take a folder out of the store; False where a process works on it."""
    if not folder.exists():
        return True  # for another file of it
    held = claim(folder, lease=store.lease)
    if held is None:
        return False
    with held:
        uses.rename_away(store.place, [folder])
    forget(folder)
    return True


def _remove(store: Store, path: Path) -> None:
    if path.parent in (store.runs, store.results) and path.suffix == ".json":
        path.replace(path.with_suffix(".damaged"))
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---- what is looked at


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_published(path: Path) -> bool:
    return path.is_dir() and path.suffix not in (".part", ".search", ".tmp")


def _records(store: Store, runs: Mapping[str, RunRecord]) -> Iterator[Finding]:
    for name, kind in RECORDS.items():
        for path in _entries(store.root / name):
            if path.suffix == ".json":
                try:
                    read_as(path, kind)
                except SslcurrError as error:
                    run = runs.get(path.stem) if name == "results" else None
                    again = "" if run is None else run.command_line_on(store.root)
                    yield Finding(path, "damaged", _said(error, path), again)
            elif path.suffix == ".tmp":
                yield Finding(path, "left over", "a killed process was writing it")


def _folder(folder: Path) -> Iterator[Finding]:
    forget(folder)
    found: dict[Path, SslcurrError] = dict(faults_in(folder))
    for name in ("done.json", "stage.json", "inputs.json", HASHES):
        path, is_stage = folder / name, (folder.parent.name, name) == ("stages", "done.json")
        if path.is_file() and path not in found:
            try:
                _ = read_as(path, StageRecord) if is_stage else read_json(path)
            except SslcurrError as error:
                found[path] = error
    is_pack = folder.parent.name == "packs"
    if not (folder / ("pack.json" if is_pack else "done.json")).is_file() and not found:
        found[folder] = StoreError("it has no record")
    elif is_pack and not found:
        found |= _pack(folder)
    again = command_for(folder) if found else ""
    for path, fault in found.items():
        yield Finding(path, "damaged", _said(fault, path), again)
    for path in folder.rglob("*.tmp"):
        yield Finding(path, "left over", "a killed process was writing it")
    if (folder / RESUME).is_file() and not is_claimed(folder):
        yield Finding(folder / RESUME, "left over", "its stage is whole")


def _pack(folder: Path) -> dict[Path, SslcurrError]:
    """The pixels of a pack, where a block of them is damaged."""
    try:
        images = load_pack(folder).images
        for start in range(0, len(images), CHUNK_IMAGES):
            _ = np.asarray(images[start : start + CHUNK_IMAGES])
    except SslcurrError as error:
        return {folder / "pixels": error}
    return {}


def _beside(path: Path) -> Iterator[Finding]:
    """What lies beside the folders: parts, locks, owners, trials."""
    folder = path.with_name(path.name.partition(".")[0])
    if is_claimed(folder):
        return
    if path.suffix == ".part":
        if folder.exists():
            yield Finding(path, "left over", "it was published by another process")
        else:
            yield Finding(path, "half-written", "the same command goes on with it", command_for(folder))
    elif path.suffix == ".search":
        if folder.exists():
            yield Finding(path, "left over", "its stage is there")
    elif path.name.endswith((".owner.json", ".tmp")) or ".lost-" in path.name or ".clock-" in path.name:
        yield Finding(path, "left over", "its process has ended")


def _missing(store: Store, runs: Mapping[str, RunRecord]) -> Iterator[Finding]:
    """What finished runs need and is not there, but for packs, which the next command packs again."""
    for run, record in runs.items():
        if not record.finished:
            continue
        again = record.command_line_on(store.root)
        for kind, names in (("stages", record.stages), ("analyses", record.analyses)):
            for name in dict.fromkeys(names):
                if not (store.root / kind / name).is_dir():
                    yield Finding(store.root / kind / name, "missing", f"the run {run} needs it", again)


def _left_in_root(store: Store) -> Iterator[Finding]:
    if (store.root / uses.REMOVED).is_dir():
        yield Finding(store.root / uses.REMOVED, "left over", "a process that deleted it was killed")
    for path in store.root.glob("handover-*"):
        yield Finding(path, "left over", "a process that imported a run was killed")


def _said(error: SslcurrError, path: Path) -> str:
    """What an error says, without the path that stands beside it."""
    text = str(error).removeprefix(f"{path} is damaged: ").removeprefix(f"cannot read {path} ")
    return text.strip("()")
