"""What the page is put together from, kept in the store: the card and the figures of each run, the curves of stages.

A part is taken from there only where all that it was made of is the same: what the report says of the run, the files
that its figures show, this program and what it draws with. One that is missing, damaged or of something else is made
anew. A part has two files: what the page needs of all parts, and the figures, which it needs where it has room for
them. What the report says of stages is kept in the same way, in one file.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sslcurr.analysis.report.answers import Answers
from sslcurr.analysis.report.pictures import Picture
from sslcurr.analysis.results.report.document import StoredStage
from sslcurr.engine.store import RENDERED_FIGURES, Stage, Store
from sslcurr.errors import StoreError
from sslcurr.files import read_as, write_record
from sslcurr.integrity import digest_of_program

Kind = TypeVar("Kind")
Row = TypeVar("Row")
State = tuple[int, int, int, int]  # of a file: bytes, times of its content and of its name in ns, inode

# What decides how a page looks beside this package.
DRAWN_WITH = ("matplotlib", "numpy", "pandas", "pillow", "jinja2", "markupsafe", "kiwisolver", "contourpy")
SOURCES = (".py", ".j2")
STAGE_ROWS = "stages.json"
PACK_ROWS = "packs.json"
# The files that a row of a stage is made of, and that of a pack.
ROW_FILES = ("stage.json", "done.json", "hashes.json", "metrics.csv")
PACK_FILES = ("pack.json", "rows.npz", "hashes.json")


class PackFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the report takes of a `pack.json`."""

    fingerprint: str
    channels: int
    size: int
    name: str | None = None
    num_images: int | None = None
    skipped: int | None = None
    classes: list[str] | None = None
    place: str | None = None


class PackFacts(PackFile, frozen=True, kw_only=True):
    """What the report says of a pack.

    Attributes:
        counts: class -> images of it; None where images have no class.
        num_groups: groups of images that stay together; None where images have none.
        given: images of each split that comes with the data set; None where none does.
        licence, page: of the data set of sslcurr's that has this name; None where none has.
    """

    counts: dict[str, int] | None = None
    num_groups: int | None = None
    given: dict[str, int] | None = None
    licence: str | None = None
    page: str | None = None


class Outline(msgspec.Struct, frozen=True):
    """A figure but for its markup.

    Attributes:
        title, importance: as of `Picture`.
        num_bytes: of its markup without what its ids begin with; None of a chart that was never drawn.
        num_ids: how often that stands in it.
        name: of the chart; empty of others.
    """

    title: str
    importance: tuple[int, int]
    num_bytes: int | None = None
    num_ids: int = 0
    name: str = ""

    @classmethod
    def of(cls, picture: Picture) -> Outline:
        """That of a picture."""
        outline = cls(picture.title, picture.importance, name=picture.name)
        return outline.drawn(picture.pieces()) if isinstance(picture.source, str) else outline

    def drawn(self, pieces: Sequence[str]) -> Outline:
        """It with the size of what was drawn."""
        return msgspec.structs.replace(
            self, num_bytes=sum(len(piece.encode()) for piece in pieces), num_ids=len(pieces) - 1
        )


class KeptPart(msgspec.Struct, frozen=True, kw_only=True):
    """What the page needs of a run or of a stage that is drawn.

    Attributes:
        key: of all that it was made of, but for `files`.
        files: that its figures show, by the names that they have in its document.
        states: of the places where these are looked for; None for those where nothing is.
        top, bottom: HTML of the card of a run, above and below its figures.
        ends: the last stages of the chains that a run is about.
        answers: what it says, for the summary.
        outlines: of its figures.
    """

    key: str = ""
    files: list[str] = []
    states: list[State | None] = []
    top: str = ""
    bottom: str = ""
    ends: list[str] = []
    answers: Answers = Answers()
    outlines: list[Outline] = []


class _Figures(msgspec.Struct, frozen=True):
    """The figures of a part of that key and those states that were drawn: place -> the pieces of a `Picture`."""

    key: str
    states: list[State | None]
    figures: dict[str, list[str]]


Made = tuple[KeptPart, list[Picture]]
Make = Callable[[], Made]


class Parts:
    """The parts of one page; charts are drawn when they are asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parts: dict[str, KeptPart] = {}
        self._makers: dict[str, Make] = {}
        self._pictures: dict[str, list[Picture]] = {}  # of parts that were made now
        self._figures: dict[str, dict[str, list[str]]] = {}  # of parts of which figures were asked for
        self._changed = ""  # the part of which figures were drawn that are not yet kept

    def find(self, name: str, made_of: object, places: Callable[[str], Sequence[Path]], make: Make) -> KeptPart:
        """A part: as it is kept, or else made.

        Args:
            name: of the run or the stage.
            made_of: what it is made of, a value that msgspec can write.
            places: where a file that its figures show is looked for.
            make: makes it, without `key` and `outlines`, and its figures.
        """
        key = hashlib.sha256(drawn_by() + msgspec.json.encode(made_of)).hexdigest()
        self._makers[name] = make
        part = _kept(self._files_of(name)[0], KeptPart)
        if part is None or part.key != key or part.states != states_of(part.files, places):
            part, pictures = make()
            part = msgspec.structs.replace(part, key=key, outlines=list(map(Outline.of, pictures)))
            self._pictures[name] = pictures
            _keep(self._files_of(name)[0], part)
        self._parts[name] = part
        return part

    def outline(self, name: str, place: int) -> Outline:
        """A figure of a part that `find` gave, with its size; it is drawn where that is not known.

        Raises:
            StoreError: what it shows has changed since.
        """
        if self._parts[name].outlines[place].num_bytes is None:
            self.pieces(name, place)
        return self._parts[name].outlines[place]

    def pieces(self, name: str, place: int) -> list[str]:
        """A figure of a part that `find` gave, as the pieces of `Picture`; it is drawn where it is not kept.

        Raises:
            StoreError: what it shows has changed since.
        """
        part = self._parts[name]
        if name not in self._figures:
            kept = _kept(self._files_of(name)[1], _Figures)
            is_same = kept is not None and (kept.key, kept.states) == (part.key, part.states)
            self._figures[name] = kept.figures if kept is not None and is_same else {}
        figures, number = self._figures[name], str(place)
        if number not in figures:
            if self._changed != name:
                self.keep()
            self._changed = name
            figures[number] = self._picture(name, place).pieces()
        if part.outlines[place].num_bytes is None:
            outlines = [each.drawn(figures[number]) if at == place else each for at, each in enumerate(part.outlines)]
            self._parts[name] = msgspec.structs.replace(part, outlines=outlines)
        return figures[number]

    def _picture(self, name: str, place: int) -> Picture:
        if name not in self._pictures:
            part, self._pictures[name] = self._makers[name]()
            titles = [picture.title for picture in self._pictures[name]]
            known = self._parts[name]
            if part.states != known.states or titles != [outline.title for outline in known.outlines]:
                raise StoreError(f"the figures of {name} have changed just now", "run the same command again")
        return self._pictures[name][place]

    def keep(self) -> None:
        """Keep the figures that were drawn."""
        if self._changed:
            part, (path, figures) = self._parts[self._changed], self._files_of(self._changed)
            _keep(figures, _Figures(part.key, part.states, self._figures[self._changed]))
            _keep(path, part)
            self._changed = ""

    def leave_only(self, names: Collection[str]) -> None:
        """Delete all parts but those of these runs and stages."""
        wanted = {path.name for name in names for path in self._files_of(name)} | {STAGE_ROWS, PACK_ROWS}
        with suppress(OSError):
            for path in self.store.rendered.iterdir():
                if path.name not in wanted:  # also what a killed process left half-written
                    path.unlink(missing_ok=True)

    def _files_of(self, name: str) -> tuple[Path, Path]:
        """The files of a part: of itself and of its figures."""
        return self.store.rendered / f"{name}.json", self.store.rendered / f"{name}{RENDERED_FIGURES}"


class _StageRows(msgspec.Struct, frozen=True):
    """What the report says of stages: of what `drawn_by` it is, and key -> states of `ROW_FILES` and what it says."""

    key: str
    rows: dict[str, tuple[list[State | None], StoredStage]]


class _PackRows(msgspec.Struct, frozen=True):
    """What the report says of packs, likewise, by the names of their folders."""

    key: str
    rows: dict[str, tuple[list[State | None], PackFacts]]


def stage_rows(
    store: Store, stages: Sequence[Stage], read: Callable[[Stage], StoredStage], *, whole: bool
) -> list[StoredStage]:
    """What the report says of stages, as it is kept where their files are the same; damaged ones are noted.

    Args:
        store: that they are in.
        stages: in the order in which they are wanted.
        read: reads one; raises StoreError where it is damaged.
        whole: whether these are all stages of the store, so that nothing else is kept.
    """
    folders = {stage.key: stage.folder for stage in stages}
    of = {stage.key: stage for stage in stages}
    path = store.rendered / STAGE_ROWS
    return list(_rows(store, path, _StageRows, folders, ROW_FILES, lambda key: read(of[key]), whole=whole).values())


def pack_rows(
    store: Store, names: Sequence[str], read: Callable[[Path], PackFacts], *, whole: bool
) -> dict[str, PackFacts]:
    """What the report says of packs by the names of their folders, likewise; those that are gone are left out."""
    folders = {name: store.packs / name for name in names if (store.packs / name / PACK_FILES[0]).is_file()}
    path = store.rendered / PACK_ROWS
    return _rows(store, path, _PackRows, folders, PACK_FILES, lambda name: read(folders[name]), whole=whole)


def _rows(
    store: Store,
    path: Path,
    kind: Callable[[str, dict[str, tuple[list[State | None], Row]]], msgspec.Struct],
    folders: Mapping[str, Path],
    files: Sequence[str],
    read: Callable[[str], Row],
    *,
    whole: bool,
) -> dict[str, Row]:
    """Rows by name: as they are kept in a file of this kind, or read where one of `files` in their folder changed."""
    key = drawn_by().hex()
    kept: Any = _kept(path, kind)  # type: ignore[arg-type]
    old = {} if kept is None or kept.key != key else kept.rows
    rows = {} if whole else dict(old)
    found = {}
    for name, folder in folders.items():
        states = [state_of(f"{folder}/{file}") for file in files]  # before they are read
        row = old.get(name)
        if row is None or row[0] != states:
            try:
                row = states, read(name)
            except StoreError as error:
                store.left_out(error)
                continue
        rows[name] = row
        found[name] = row[1]
    if rows != old:
        _keep(path, kind(key, rows))
    return found


def _kept(path: Path, kind: type[Kind]) -> Kind | None:
    """A part as it is kept; None where it is not, or cannot be read."""
    try:
        return read_as(path, kind)
    except StoreError:
        return None


def _keep(path: Path, part: msgspec.Struct) -> None:
    """Keep a part, where the store can be written and has room, and JSON has its numbers."""
    with suppress(OSError, ValueError):
        path.parent.mkdir(exist_ok=True)
        write_record(path, msgspec.to_builtins(part), compact=True)


def states_of(files: Sequence[str], places: Callable[[str], Sequence[Path]]) -> list[State | None]:
    """The states of all places where files are looked for."""
    return [state_of(place) for file in files for place in places(file)]


def state_of(path: str | Path) -> State | None:
    """By what it is seen that a file has changed; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a name that no file can have
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@functools.cache
def drawn_by() -> bytes:
    """A digest of what every page depends on: this package, what it draws with, and how that was set up."""
    digest = hashlib.sha256(digest_of_program(DRAWN_WITH, SOURCES))
    for path in _styles():
        digest.update(f"\n{path} ".encode() + path.read_bytes())
    return digest.digest()


def _styles() -> list[Path]:
    """The files by which a person sets up matplotlib, where it looks for them and may read them."""
    home = os.environ.get("MPLCONFIGDIR") or Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "matplotlib")
    named = Path(os.environ.get("MATPLOTLIBRC") or ".").expanduser()
    places = (Path("matplotlibrc"), named, named / "matplotlibrc", Path(home).expanduser() / "matplotlibrc")
    return [place for place in places if os.path.isfile(place) and os.access(place, os.R_OK)]
