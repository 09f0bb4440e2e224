"""A run as one file, to hand to a colleague: its record, its stages, what was measured of them, and what it found."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from sslcurr.claims import is_claimed
from sslcurr.engine.runs import check_name
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as, read_json, sha256_of, write_record, write_whole
from sslcurr.integrity import sound
from sslcurr.spec.record import RunRecord
from sslcurr.version import __version__
from sslcurr.wording import reason_of

FORMAT = 1
MANIFEST = "sslcurr.json"
CHUNK = 2**20
# What may be in such a file: records, and files in folders of the store; nothing that leads out of it.
ALLOWED = re.compile(
    r"(?:runs|results)/[0-9a-f]{8}\.json|(?:stages|analyses|packs|imports)/[\w.-]+/(?:[\w.-]+/)*[\w.-]+"
)
WITHIN = re.compile(r"(?:^|/)((?:stages|analyses|packs|imports)/[\w.-]+/[\w./-]+)$")
HINT = "ask for the file again: it was changed or cut off on its way"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself.

    Attributes:
        format: of the file.
        sslcurr: the version that wrote it.
        run: the number of the run.
        files: path in the store -> sha256.
    """

    format: int
    sslcurr: str
    run: str
    files: dict[str, str]


@dataclass(frozen=True)
class Handed:
    """What was written or read.

    Attributes:
        run: its number.
        record: of it.
        num_stages: finished stages among the files.
        num_files, num_bytes: of the files.
        num_there: files that the store had already.
        has_packs: whether the packed images go with it.
    """

    run: str
    record: RunRecord
    num_stages: int
    num_files: int
    num_bytes: int
    num_there: int = 0
    has_packs: bool = False


def export_run(store: Store, run: str, path: Path, *, packs: bool = False) -> Handed:
    """Write a run into a file.

    Args:
        store: where it is.
        run: its number.
        path: the file, a zip.
        packs: whether the packed images go with it.

    Raises:
        StoreError: a process is at work on it, or a part of it is gone or damaged.
    """
    record = store.all_runs()[run]
    files = list(_files_of(store, run, record, packs=packs))

    def write(temporary: Path) -> None:
        hashes = {}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name in files:
                hashes[name] = _added(archive, store.root / name, name)
            about = Manifest(format=FORMAT, sslcurr=__version__, run=run, files=hashes)
            archive.writestr(MANIFEST, msgspec.json.encode(about))

    write_whole(path, write)
    stages = {name.split("/")[1] for name in files if name.startswith("stages/")}
    whole = sum(store.find(key) is not None for key in stages)
    return Handed(run, record, whole, len(files), path.stat().st_size, has_packs=packs)


def _files_of(store: Store, run: str, record: RunRecord, *, packs: bool) -> Iterator[str]:
    """The files of a run, named from the root of the store."""
    yield f"runs/{run}.json"
    if (store.results / f"{run}.json").is_file():
        yield f"results/{run}.json"
    imports = set()
    for key in record.stages:
        folder = store.stages / key
        if is_claimed(folder):
            raise StoreError(f"a process is at work on the stage {key}", "wait until it is done, or stop it")
        parts = [folder] if (folder / "done.json").is_file() else sorted(store.stages.glob(f"{key}*.part"))
        for each in parts:
            yield from _below(store, each)
            source = str(read_json(each / "stage.json").get("source", "")) if (each / "stage.json").is_file() else ""
            found = WITHIN.search(source)
            if found is not None and found[1].startswith("imports/"):
                imports.add(Path(found[1]).parts[1])
    for kind, names in (("analyses", record.analyses), ("imports", sorted(imports)), ("packs", record.packs * packs)):
        for name in names:
            folder = store.root / kind / name
            if folder.is_dir():
                yield from _below(store, folder)


def _below(store: Store, folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(store.root).as_posix()


def _added(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    """Add a file; its sha256 is that of what was written."""
    with sound(path).open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
        return _copied(source, target)


def _copied(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy all bytes; gives their sha256."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def import_run(store: Store, path: Path) -> Handed:
    """Take a run from a file into a store; nothing is taken unless all of it is whole.

    Raises:
        StoreError: it is no such file, is damaged, or the store has another run, stage or analysis under the same name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _imported(store, archive, path)
    except (OSError, EOFError, MemoryError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError) as error:
        raise StoreError(f"cannot read {path} ({reason_of(error)})", HINT) from error


def _imported(store: Store, archive: zipfile.ZipFile, path: Path) -> Handed:
    about = _manifest(archive, path)
    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.root, prefix="handover-") as folder:
        home = Path(folder)
        for name, expected in about.files.items():
            if _taken(archive, name, home / name) != expected:
                raise StoreError(f"{name} in {path} is not what was written", HINT)
        record = read_as(home / "runs" / f"{about.run}.json", RunRecord, HINT)
        there = _there(store, about, record)
        _place_results(store, home / "results" / f"{about.run}.json", about.files)
        for part in dict.fromkeys(_part_of(name) for name in about.files):
            if not (store.root / part).exists():
                (store.root / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(home / part, store.root / part)
    stages = {part for part in map(_part_of, about.files) if part.startswith("stages/") and not part.endswith(".part")}
    has_packs = any(name.startswith("packs/") for name in about.files)
    return Handed(about.run, record, len(stages), len(about.files), path.stat().st_size, there, has_packs)


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        about = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
    except (KeyError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path} was not written by sslcurr runs export", "give such a file") from error
    if about.format > FORMAT:
        raise StoreError(f"{path} was written by sslcurr {about.sslcurr}, which is newer", "update sslcurr")
    if not re.fullmatch("[0-9a-f]{8}", about.run):
        raise StoreError(f"{path} names no run", "give a file of sslcurr runs export")
    odd = next((name for name in about.files if not ALLOWED.fullmatch(name) or ".." in name.split("/")), None)
    if odd is not None or f"runs/{about.run}.json" not in about.files:
        raise StoreError(f"{path} holds {odd or 'no run'}, which no run has", "give a file of sslcurr runs export")
    return about


def _taken(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    """Write a file of the archive; gives its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(name) as source, path.open("wb") as target:
            return _copied(source, target)
    except KeyError:
        return ""


def _part_of(name: str) -> str:
    """What is there or not: a record, or a folder of the store."""
    parts = name.split("/")
    return name if parts[0] in ("runs", "results") else "/".join(parts[:2])


def _there(store: Store, about: Manifest, record: RunRecord) -> int:
    """How many of the files the store has already, with the same content.

    Raises:
        StoreError: it has something else under one of their names.
    """
    if isinstance(record.name, str):
        check_name(record.name, about.run, store.all_runs(), store)
    count = 0
    for name, expected in about.files.items():
        part, mine = store.root / _part_of(name), store.root / name
        if not part.exists():
            continue
        same = mine.is_file() and sha256_of(mine) == expected
        if not same and name.split("/")[-1] in ("backbone.safetensors", "head.safetensors", "predictions.csv"):
            raise StoreError(
                f"{store.root} has {_part_of(name)} with other content",
                "it was computed on another machine: import into a store of its own, --runs FOLDER",
            )
        if name.startswith("runs/"):
            raise StoreError(f"{store.root} has the run {about.run} already", f"sslcurr runs show {about.run}")
        count += same
    return count


def _place_results(store: Store, path: Path, files: Sequence[str] | dict[str, str]) -> None:
    """Let the paths in a result name files of this store."""
    if not path.is_file():
        return

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [placed(each) for each in value]
        found = WITHIN.search(value) if isinstance(value, str) else None
        return str(store.root / found[1]) if found is not None and found[1] in files else value

    write_record(path, placed(read_json(path, HINT)))
