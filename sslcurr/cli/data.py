"""`sslcurr data`: which data sets there are, how to get them, and whether one is sound."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import output
from sslcurr.cli.choices import JsonOption
from sslcurr.cli.options import (
    GroupColumn,
    LabelColumn,
    MachineOptions,
    PathColumn,
    SplitColumn,
    TargetKindOption,
    check_frames,
)
from sslcurr.cli.program import Program

app = Program(no_args_is_help=True, help="List, describe, check, prepare and draw data sets.")

DatasetArgument = Annotated[str, typer.Argument(metavar="NAME|FOLDER|TABLE", help="A data set, as for --dataset.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        envvar="SSLCURR_DATA",
        help="Folder of the data sets that are given by a name or a relative path. Default: the working directory.",
    ),
]
FramesOption = Annotated[
    str,
    typer.Option(
        "--frames",
        metavar="refuse|first|all",
        callback=check_frames,
        help="Files with several frames (DICOM) or pages (TIFF): refuse them, take the first, or all.",
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Threads that decode images. 0: one per core.")]


@app.command("list")
def list_names(data_root: DataRootOption = None, json: JsonOption = False) -> None:
    """List the named data sets, and which of them are present."""
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.datasets(data_root=data_root), options)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name.")],
    data_root: DataRootOption = None,
    json: JsonOption = False,
) -> None:
    """Show a data set: classes, licence, where to get it, its files, and whether they are present."""
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.dataset(name, data_root=data_root), options)


@app.command()
def check(
    name: DatasetArgument,
    data_root: DataRootOption = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: FramesOption = "refuse",
    workers: WorkersOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write a table of all images. Groups are numbered, not named."),
    ] = None,
    duplicates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write pairs of images with equal pixels. Saved as duplicates.csv in the folder of a named data set, "
            "it leaves out the second image of each pair.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Open every image, and report what would stop or falsify a training.

    Counts the images of each class.
    Finds missing and broken files, labels that make no sense, groups or equal
    images in two splits, classes that a split lacks, and equal images with
    different labels.
    The exit code is 1 if there is a problem.
    """
    options = MachineOptions(json=json, workers=workers)
    with options.lab() as lab:
        document = lab.check(
            name,
            data_root=data_root,
            path_column=path_column,
            label_column=label_column,
            group_column=group_column,
            split_column=split_column,
            target_kind=target_kind,
            frames=frames,
            out=out,
            duplicates=duplicates,
        )
        output.show_document(document, options)
    if document.problems:
        raise typer.Exit(1)


@app.command()
def prepare(
    name: DatasetArgument,
    data_root: DataRootOption = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the training views, in pixels.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="data.NAME=VALUE", help="As --set of pretrain. May be repeated."),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: FramesOption = "refuse",
    workers: WorkersOption = 0,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that are missing or cannot be decoded.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Download the files first, if torchvision can.")] = False,
    runs: Annotated[
        Path, typer.Option("--runs", envvar="SSLCURR_RUNS", metavar="FOLDER", help="The store, which keeps the pack.")
    ] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Decode a data set once, into the pack that trainings at this image size use.

    It needs no GPU.
    Run the same command again to continue after an interruption.
    """
    options = MachineOptions(json=json, workers=workers, runs=runs)
    with options.lab() as lab:
        document = lab.prepare(
            dataset=name,
            data_root=data_root,
            path_column=path_column,
            label_column=label_column,
            group_column=group_column,
            split_column=split_column,
            target_kind=target_kind,
            image_size=image_size,
            settings=settings or (),
            frames=frames,
            skip_broken=skip_broken,
            download=download,
        )
        output.show_document(document, options)


@app.command()
def sample(
    name: DatasetArgument,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture to write.")],
    data_root: DataRootOption = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: FramesOption = "refuse",
    num_images: Annotated[int, typer.Option(min=1, max=50, help="Images per class.")] = 8,
    num_classes: Annotated[int, typer.Option(min=1, max=200, help="Largest number of classes.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the random choice.")] = 0,
) -> None:
    """Draw a contact sheet: one row per class, images chosen at random."""
    with MachineOptions().lab() as lab:
        lab.sample(
            name,
            out,
            data_root=data_root,
            path_column=path_column,
            label_column=label_column,
            group_column=group_column,
            split_column=split_column,
            target_kind=target_kind,
            frames=frames,
            num_images=num_images,
            num_classes=num_classes,
            seed=seed,
        )
    print(f"contact sheet drawn in {out}")


class Kind(StrEnum):
    """What files an example has."""

    dicom = "dicom"
    png = "png"


@app.command()
def example(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")],
    kind: Annotated[
        Kind, typer.Option("--format", help="What files to write. dicom needs sslcurr[dicom].")
    ] = Kind.dicom,
) -> None:
    """Write a small study to try every command with.

    It has 1,500 scans without labels, 520 with labels, and 100 new ones whose
    labels are in a table of their own.
    The images are small pictures of clothes, not of patients: a part of
    Fashion-MNIST, which comes with sslcurr.
    """
    with MachineOptions().lab() as lab:
        number = lab.example(folder, kind=kind.value)
    print(f"{number:,} images written to {folder}: scans/, labelled/ with labels.csv, new/ with answers.csv")
    print(f"next: sslcurr data check {folder / 'labels.csv'}")
