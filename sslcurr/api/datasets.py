"""Data sets: which have a name, what is wrong with one, its pack, and a sheet of its images."""

from __future__ import annotations

import csv
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from sslcurr.analysis.results.catalog.document import (
    CheckDocument,
    DatasetDocument,
    DatasetsDocument,
    FaultRow,
    PackDocument,
    Sides,
)
from sslcurr.api.session import Session
from sslcurr.errors import DataError, SpecError, did_you_mean
from sslcurr.files import check_picture, check_writable
from sslcurr.spec.target import CLASSES
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    from sslcurr.data.check import Findings
    from sslcurr.data.sources.catalog import Entry
    from sslcurr.data.sources.source import Source


def datasets(session: Session) -> DatasetsDocument:
    """The data sets that have a name."""
    from sslcurr.data.sources.catalog import CATALOG

    entries, notes = CATALOG.listing()
    for note in notes:
        session.reporter.note(note)
    rows = [_facts(name, session.request.data_root) for name in entries]
    return session.finished(DatasetsDocument(datasets=rows))


def dataset(session: Session, name: str) -> DatasetDocument:
    """What is known of a data set that has a name.

    Raises:
        DataError: no data set has that name.
    """
    return session.finished(_facts(name, session.request.data_root))


def _facts(name: str, data_root: Path | None) -> DatasetDocument:
    from sslcurr.data.sources.catalog import entry_of

    entry = entry_of(name)
    there, missing = _place(name, entry, data_root)
    folder = (entry.folders or (name,))[0]
    tree = [f"{data_root or 'DATA-ROOT'}/{folder}/", *(f"  {line}" for line in entry.tree.split("\n"))]
    download = f"sslcurr data prepare {name} --data-root FOLDER --download"
    return DatasetDocument(
        name=name,
        title=entry.title,
        modality=entry.modality,
        images=entry.num_images,
        classes=entry.num_classes,
        target=entry.target,
        group=entry.group,
        split=entry.split,
        licence=entry.licence,
        citation=entry.citation,
        where=entry.page,
        files=list(dict.fromkeys(needed.fetch for needed in entry.needs)),
        tree=tree if entry.needs else [],
        download=download if entry.downloader else "not by sslcurr",
        image_size=entry.image_size,
        augmentations=entry.augmentations,
        normalisation=entry.normalisation,
        there=f"{there}: {missing}" if missing else there,
    )


def _place(name: str, entry: Entry, data_root: Path | None) -> tuple[str, str]:
    """Where a data set is, and what is missing."""
    from sslcurr.data.sources.sets.entry import locate

    try:
        home = locate(name, entry, data_root)
    except DataError as error:
        return "no", str(error)
    return str(home or f"in the package {entry.package or name.partition('/')[0]}"), ""


def check(session: Session, name: str, *, out: Path | None = None, duplicates: Path | None = None) -> CheckDocument:
    """Open every image of a data set and look for what would stop or falsify a training.

    Args:
        out: a CSV table of all images to write.
        duplicates: a CSV table of images with equal pixels, in pairs.
    """
    from sslcurr.data import check as checking
    from sslcurr.data.sources.catalog import find_source
    from sslcurr.data.sources.columns import Columns

    for path in (out, duplicates):
        if path is not None:
            check_writable(path)
    request = session.request
    source = find_source(name, request.data_root, request.frames, Columns.of(request))
    for note in source.notes:
        session.reporter.note(note)
    with session.reporter.counting("decoding images") as progress:
        findings = checking.check_source(source, workers=request.workers, progress=progress)
    for note in findings.flaws.notes:
        session.reporter.note(note)
    if out is not None:
        _write_images(out, source, findings)
    if duplicates is not None:
        # Which of two labels is right nobody can tell, so both stay, and stay a problem.
        pairs = checking.rows_of_copies([names for names in findings.copies if names not in findings.contradictions])
        _write_csv(duplicates, ("image_name_1", "image_name_2"), pairs)
    return session.finished(_checked(source, findings))


def _checked(source: Source, findings: Findings) -> CheckDocument:
    counts = {name: dict(each) for name, each in findings.counts.items()}
    shortest, median, longest = findings.sides
    return CheckDocument(
        dataset=source.name,
        images=findings.num_images,
        classes={name: sum(each.values()) for name, each in counts.items()},
        splits={split: findings.given[split] for split in sorted(findings.given) if split},
        groups=findings.num_groups,
        grey=findings.num_grey,
        sides=Sides(shortest=shortest, median=median, longest=longest),
        faults=[FaultRow(image=fault.name, reason=fault.reason) for fault in findings.faults],
        broken=[FaultRow(image=fault.name, reason=fault.reason) for fault in findings.broken],
        copies=findings.copies,
        contradictions=findings.contradictions,
        across_splits=findings.across,
        not_in_one_group=findings.apart,
        trained_and_tested=findings.divided,
        empty_classes=findings.empty,
        undivided=findings.undivided,
        parts=findings.parts,
        notes=[*source.notes, *findings.flaws.notes],
        problems=len(findings.problems),
        root=str(source.root or ""),
        counts=counts,
        sentences=findings.problems,
        blank=list(findings.flaws.blank),
        narrow_range=list(findings.flaws.narrow),
        frames_left_out=list(findings.flaws.left_out),
        without_data=list(findings.flaws.without_data),
        target=UNSET if findings.target == CLASSES.name else findings.target,
    )


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _write_images(path: Path, source: Source, findings: Findings) -> None:
    from sslcurr.data.check import numbered

    reasons = findings.flaws.reasons()
    reasons |= {fault.name: fault.reason for fault in (*findings.faults, *findings.broken)}
    groups = numbered(source.groups or [""] * len(source.names))
    splits = source.splits or [""] * len(source.names)
    rows = [
        (name, label or "", group, split, reasons.get(name, ""))
        for name, label, group, split in zip(source.names, source.labels, groups, splits, strict=True)
    ]
    rows += [(fault.name, "", "", "", fault.reason) for fault in findings.faults]
    _write_csv(path, ("path", "label", "group", "split", "problem"), rows)


def prepare(session: Session, *, download: bool) -> PackDocument:
    """Decode a data set to the pack that trainings of this image size use; a killed call is continued by the next.

    `download` fetches the files first, where torchvision can.
    """
    from sslcurr.engine.runs import record_pack

    name = session.request.dataset or ""
    if download:
        _download(name, session.request.data_root)
    for module in ("models", "plan"):
        importlib.import_module(f"sslcurr.engine.{module}")  # no part of the seconds
    store = session.store()
    begun = time.monotonic()
    data = session.planner([]).data
    seconds, pack = time.monotonic() - begun, data.pack
    # Noted as a run, or `runs remove` would take the pack for one that nobody needs.
    record_pack(store, pack, data.image_size, session.invocation)
    return session.finished(
        PackDocument(
            dataset=pack.name,
            images=pack.num_images,
            left_out=pack.skipped,
            image_size=data.image_size,
            pack_size=pack.size,
            channels=pack.channels,
            bytes=pack.images.nbytes,
            seconds=round(seconds, 2),
            pack=str(pack.folder),
            fingerprint=pack.fingerprint,
        )
    )


def _download(name: str, data_root: Path | None) -> None:
    from sslcurr.data.sources.catalog import CATALOG, entry_of
    from sslcurr.data.sources.sets.entry import locate

    entry = entry_of(name)
    if entry.downloader is None:
        able = ", ".join(other for other, each in CATALOG.listing()[0].items() if each.downloader is not None)
        raise DataError(
            f"{name} cannot be downloaded by torchvision", f"sslcurr data show {name} says how to get it; {able} can"
        )
    try:
        locate(name, entry, data_root)
        return
    except DataError:
        home = (data_root or Path()).expanduser() / (entry.folders or (name,))[0]
    home.mkdir(parents=True, exist_ok=True)
    try:
        entry.downloader(home)
    except (OSError, RuntimeError) as error:
        reason = reason_of(error)
        raise DataError(
            f"{name} could not be downloaded: {reason}", f"sslcurr data show {name} says how to get it by hand"
        ) from error


def sample(session: Session, name: str, out: Path, *, num_images: int = 8, num_classes: int = 30) -> Path:
    """Draw a contact sheet of a data set, a class a row, images chosen at random by the seed."""
    from sslcurr.analysis.sheets.samples import draw_samples
    from sslcurr.data.sources.catalog import find_source
    from sslcurr.data.sources.columns import Columns

    check_picture(out)
    request = session.request
    source = find_source(name, request.data_root, request.frames, Columns.of(request))
    left_out = draw_samples(source, out, num_images=num_images, num_classes=num_classes, seed=request.seed)
    for note in (*source.notes, *left_out):
        session.reporter.note(note)
    return out


def example(session: Session, folder: Path, *, kind: str = "dicom") -> int:
    """Write a small study to try every command with; gives the number of its images."""
    from sslcurr.data.example import KINDS, write_example

    if kind not in KINDS:
        raise SpecError(f"an example is not written as {kind!r}", did_you_mean(kind, KINDS))
    return write_example(folder.expanduser(), kind)
