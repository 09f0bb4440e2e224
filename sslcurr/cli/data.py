"""`sslcurr data`: which data sets there are, how to get them, and whether one is sound."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.cli.options import check_frames, check_picture, check_writable
from sslcurr.errors import DataError

if TYPE_CHECKING:
    from sslcurr.data.check import Findings
    from sslcurr.data.sources.catalog import Entry
    from sslcurr.data.sources.source import Source

app = typer.Typer(no_args_is_help=True, help="List, explain, check, prepare and look at data sets.")

Name = Annotated[str, typer.Argument(metavar="NAME|FOLDER|TABLE", help="A data set, as of --dataset.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        envvar="SSLCURR_DATA",
        help="Where data sets lie that are given by a name or a relative path. Default: the working directory.",
    ),
]
Frames = Annotated[
    str,
    typer.Option(
        "--frames", metavar="refuse|first|all", callback=check_frames, help="DICOM files with several frames."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Threads that decode images; 0 is one a core.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
MOST_LINES = 20


@app.command("list")
def list_names(data_root: DataRoot = None, json: Json = False) -> None:
    """List the data sets that have a name, and which of them are there."""
    from sslcurr.cli.output import console, print_json, table
    from sslcurr.cli.progress import print_notes
    from sslcurr.data.sources.catalog import CATALOG

    usable, notes = CATALOG.listing()
    print_notes(notes)
    if json:
        print_json({"datasets": [{"name": name, **_facts(name, data_root)} for name in usable]})
        return
    rows = table("name", "what", "images", "classes", "licence", "there", right=("images", "classes"))
    for name, entry in usable.items():
        classes = str(entry.num_classes or "-")
        rows.add_row(
            name, entry.title, f"{entry.num_images:,}", classes, entry.licence, _place(name, entry, data_root)[0]
        )
    console().print(rows)
    console().print("sslcurr data show NAME says how to get one and where its files go", markup=False)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name.")],
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Show what is known of a data set: classes, licence, where to get it, its files, and whether they are there."""
    from sslcurr.cli.output import print_json

    facts = _facts(name, data_root)
    if json:
        print_json({"name": name, **facts})
        return
    print(f"{name}: {facts.pop('title')}")
    for key, value in facts.items():
        lines = value if isinstance(value, list) else str(value).split("\n")
        for number, line in enumerate(lines):
            print(f"  {key.replace('_', ' ') if number == 0 else '':<16} {line}")


def _facts(name: str, data_root: Path | None) -> dict[str, Any]:
    from sslcurr.data.sources.catalog import entry_of

    entry = entry_of(name)
    there, missing = _place(name, entry, data_root)
    folder = (entry.folders or (name,))[0]
    return {
        "title": entry.title,
        "modality": entry.modality,
        "images": entry.num_images,
        "classes": entry.num_classes,
        "target": entry.target,
        "group": entry.group,
        "split": entry.split,
        "licence": entry.licence,
        "citation": entry.citation,
        "where": entry.page,
        "files": list(dict.fromkeys(needed.fetch for needed in entry.needs)),
        "tree": [f"{data_root or 'DATA-ROOT'}/{folder}/", *(f"  {line}" for line in entry.tree.split("\n"))]
        if entry.needs
        else [],
        "download": f"sslcurr data prepare {name} --data-root FOLDER --download"
        if entry.downloader
        else "not by sslcurr",
        "image_size": entry.image_size,
        "augmentations": entry.augmentations,
        "normalisation": entry.normalisation,
        "there": f"{there}: {missing}" if missing else there,
    }


def _place(name: str, entry: Entry, data_root: Path | None) -> tuple[str, str]:
    """Where a data set is, and what is missing."""
    from sslcurr.data.sources.sets.entry import locate

    try:
        home = locate(name, entry, data_root)
    except DataError as error:
        return "no", str(error)
    return str(home or f"in the package {entry.package or name.partition('/')[0]}"), ""


@app.command()
def check(
    name: Name,
    data_root: DataRoot = None,
    frames: Frames = "refuse",
    workers: Workers = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write a table of all images, with numbers for groups."),
    ] = None,
    duplicates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write the images of equal pixels in pairs. As duplicates.csv in the folder of a named data set it "
            "leaves the second ones out.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Open every image and look for what would stop or falsify a training; exit code 1 if something would.

    Counts images by class, and finds files that are missing or broken, labels that make no sense, groups and equal
    images in two splits, and equal images with different labels.
    """
    from sslcurr.cli.progress import reporting
    from sslcurr.data import check as checking
    from sslcurr.data.sources.catalog import find

    for path in (out, duplicates):
        if path is not None:
            check_writable(path)
    with reporting() as report:
        source = find(name, data_root, frames)
        for note in source.notes:
            report.note(note)
        with report.packing() as progress:
            found = checking.check(source, workers=workers, progress=progress)
    if out is not None:
        _write_images(out, source, found)
    if duplicates is not None:
        # Which of two labels is right nobody can tell, so both stay, and stay a problem.
        pairs = checking.rows_of_copies([names for names in found.copies if names not in found.contradictions])
        _write_csv(duplicates, ("image_name_1", "image_name_2"), pairs)
    if json:
        _print_json_of(source, found)
    else:
        _print_findings(source, found)
    if found.problems:
        raise typer.Exit(1)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _write_images(path: Path, source: Source, found: Findings) -> None:
    from sslcurr.data.check import numbered

    reasons = {fault.name: fault.reason for fault in (*found.faults, *found.broken)}
    groups = numbered(source.groups or [""] * len(source.names))
    splits = source.splits or [""] * len(source.names)
    rows = [
        (name, label or "", group, split, reasons.get(name, ""))
        for name, label, group, split in zip(source.names, source.labels, groups, splits, strict=True)
    ]
    rows += [(fault.name, "", "", "", fault.reason) for fault in found.faults]
    _write_csv(path, ("path", "label", "group", "split", "problem"), rows)


def _print_json_of(source: Source, found: Findings) -> None:
    from sslcurr.cli.output import print_json

    print_json(
        {
            "dataset": source.name,
            "images": found.num_images,
            "classes": {name: sum(counts.values()) for name, counts in found.counts.items()},
            "splits": {
                split: sum(counts[split] for counts in found.counts.values())
                for split in sorted({split for counts in found.counts.values() for split in counts} - {""})
            },
            "groups": found.num_groups,
            "grey": found.num_grey,
            "sides": dict(zip(("shortest", "median", "longest"), found.sides, strict=True)),
            "faults": [{"image": fault.name, "reason": fault.reason} for fault in found.faults],
            "broken": [{"image": fault.name, "reason": fault.reason} for fault in found.broken],
            "copies": found.copies,
            "contradictions": found.contradictions,
            "across_splits": found.across,
            "not_in_one_group": found.apart,
            "empty_classes": found.empty,
            "undivided": found.undivided,
            "parts": found.parts,
            "notes": list(source.notes),
            "problems": len(found.problems),
        }
    )


def _print_findings(source: Source, found: Findings) -> None:
    from sslcurr.cli.output import console, table

    out = console()
    splits = [split for split in ("train", "val", "test", "") if any(split in c for c in found.counts.values())]
    columns = [split or "to be split" for split in splits]
    rows = table("class", *columns, "images", right=(*columns, "images"), title=f"{source.name}: {source.root or ''}")
    for name, counts in found.counts.items():
        rows.add_row(name, *[f"{counts[split]:,}" for split in splits], f"{sum(counts.values()):,}")
    totals = [sum(counts[split] for counts in found.counts.values()) for split in splits]
    rows.add_row("all", *[f"{total:,}" for total in totals], f"{sum(totals):,}", style="bold")
    out.print(rows)
    groups = "" if found.num_groups is None else f", {found.num_groups:,} groups"
    out.print(
        f"{found.num_images:,} images{groups}, {found.num_grey:,} of them grey; sides from {found.sides[0]:,} to "
        f"{found.sides[2]:,} pixels, median {found.sides[1]:,}"
    )
    out.print(
        f"{len(found.faults):,} missing or with a wrong label, {len(found.broken):,} broken, "
        f"{sum(len(names) - 1 for names in found.copies):,} copies of others"
    )
    if any(found.parts.values()):
        parts = ", ".join(f"{count:,} {part}" for part, count in found.parts.items() if count)
        out.print(f"divided by default: {parts}")
    for title, lines in (("problem", found.problems), ("copy", [" = ".join(names) for names in found.apart])):
        for line in lines[:MOST_LINES]:
            out.print(f"{title}: {line}", markup=False, soft_wrap=True)
        if len(lines) > MOST_LINES:
            out.print(f"... and {len(lines) - MOST_LINES:,} more; --json and --out have all of them", markup=False)
    if found.apart:
        out.print(
            "copies that no group holds together may come to different splits: give them one group, or see "
            "--duplicates",
            markup=False,
        )
    if not found.problems:
        out.print("no problems found")


@app.command()
def prepare(
    name: Name,
    data_root: DataRoot = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the training views that the pack is for.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="data.NAME=VALUE", help="As of pretrain; may be repeated.")
    ] = None,
    frames: Frames = "refuse",
    workers: Workers = 0,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Go on without images that are missing or cannot be decoded.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the files first, for data sets that torchvision can fetch.")
    ] = False,
    runs: Annotated[
        Path, typer.Option("--runs", envvar="SSLCURR_RUNS", metavar="FOLDER", help="The store that gets the pack.")
    ] = Path("runs"),
    json: Json = False,
) -> None:
    """Decode a data set once, to the pack that trainings of this image size will use.

    A killed command is continued by running it again. Needs no GPU, so a cheap machine can do it beforehand.
    """
    from sslcurr.cli.options import open_store
    from sslcurr.cli.output import print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.plan import Planner
    from sslcurr.spec.request import Wishes

    if download:
        _download(name, data_root)
    store = open_store(runs)
    wishes = Wishes(
        dataset=name,
        data_root=data_root,
        image_size=image_size,
        settings=tuple(settings or ()),
        skip_broken=skip_broken,
        frames=frames,
        workers=workers,
    )
    begun = time.monotonic()
    with reporting() as report:
        with report.packing() as progress:
            data = Planner(wishes, store, [], progress=progress).data
        for note in data.notes:
            report.note(note)
    seconds, pack = time.monotonic() - begun, data.pack
    # Noted as a run, or `runs remove` would take the pack for one that nobody needs.
    store.note_run(
        {
            "asked": {"prepared": pack.folder.name},
            "title": f"data prepare, {data.image_size} px",
            "dataset": pack.name,
            "seed": 0,
            "stages": [],
            "analyses": [],
            "packs": [pack.folder.name],
            "balanced_accuracy": None,
            "finished": True,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )
    document = {
        "dataset": pack.name,
        "images": pack.num_images,
        "left_out": pack.skipped,
        "image_size": data.image_size,
        "pack_size": pack.size,
        "channels": pack.channels,
        "bytes": pack.images.nbytes,
        "seconds": round(seconds, 2),
        "pack": str(pack.folder),
        "fingerprint": pack.fingerprint,
    }
    if json:
        print_json(document)
        return
    print(
        f"{pack.name}: {pack.num_images:,} images of {pack.size} x {pack.size} x {pack.channels} for training at "
        f"{data.image_size} px, {pack.images.nbytes / 2**20:,.1f} MiB, {seconds:.1f} s\npack: {pack.folder}"
    )


def _download(name: str, data_root: Path | None) -> None:
    from sslcurr.data.sources.catalog import CATALOG, entry_of
    from sslcurr.data.sources.sets.entry import locate

    entry = entry_of(name)
    if entry.downloader is None:
        able = ", ".join(each for each, other in CATALOG.listing()[0].items() if other.downloader is not None)
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
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} could not be downloaded: {reason}", f"sslcurr data show {name} says how to get it by hand"
        ) from error


@app.command()
def sample(
    name: Name,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture to write.")],
    data_root: DataRoot = None,
    frames: Frames = "refuse",
    num_images: Annotated[int, typer.Option(min=1, max=50, help="Images of each class.")] = 8,
    num_classes: Annotated[int, typer.Option(min=1, max=200, help="Classes at most.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
) -> None:
    """Draw a contact sheet: a class a row, images chosen at random."""
    from sslcurr.analysis.sheets.samples import draw_samples
    from sslcurr.cli.progress import reporting
    from sslcurr.data.sources.catalog import find

    check_picture(out)
    with reporting() as report:
        source = find(name, data_root, frames)
        left_out = draw_samples(source, out, num_images=num_images, num_classes=num_classes, seed=seed)
        for note in (*source.notes, *left_out):
            report.note(note)
    print(f"contact sheet drawn in {out}")
