"""`sslcurr data`: which data sets there are, how to get them, and whether one is sound."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion, output
from sslcurr.cli.choices import JsonOption, RunsOption
from sslcurr.cli.help import DATA, MACHINE
from sslcurr.cli.options import (
    IMAGES,
    DataRoot,
    Frames,
    GroupColumn,
    LabelColumn,
    MachineOptions,
    PathColumn,
    SplitColumn,
    TargetKindOption,
)
from sslcurr.cli.program import Program

ABOUT = """Look at data sets, check them, and prepare them for training.

A data set is a folder of images, a table (CSV, Parquet), or a name of sslcurr data list.

Examples:

    sslcurr data list
    sslcurr data check ~/images
    sslcurr data example study
"""
app = Program(no_args_is_help=True, help=ABOUT)

DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar=IMAGES,
        help="The data set: a folder with one sub-folder for each class, or with images only; a table (CSV, Parquet) "
        "with the columns path and label; or a name.",
        autocompletion=completion.datasets,
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Threads that read images. 0: one for each core.",
        rich_help_panel=MACHINE,
    ),
]


@app.command("list")
def list_names(data_root: DataRoot = None, json: JsonOption = False) -> None:
    """List the data sets that have a name, and which of them are there.

    Examples:

        sslcurr data list
        sslcurr data list --data-root ~/data
    """
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.datasets(data_root=data_root), options)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the data set.", autocompletion=completion.dataset_names)
    ],
    data_root: DataRoot = None,
    json: JsonOption = False,
) -> None:
    """Show all about a data set that has a name.

    Its classes, its licence, where to get it, which files go where, and whether they are there.

    Examples:

        sslcurr data show covid
        sslcurr data show isic2019 --data-root ~/data
    """
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.dataset(name, data_root=data_root), options)


@app.command()
def check(
    name: DatasetArgument,
    data_root: DataRoot = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: Frames = "refuse",
    workers: WorkersOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write a table of all images. It has numbers for groups, not names."),
    ] = None,
    duplicates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write a table of pairs of images with equal pixels. As duplicates.csv in the folder of a data set "
            "with a name, it leaves out the second image of each pair.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Open every image, and report what would spoil a training.

    It counts the images of each class.
    It finds missing and broken files, labels that make no sense, groups or equal images in two splits,
    classes that a split lacks, and equal images with different labels.
    The exit code is 1 if there is a problem.

    Examples:

        sslcurr data check ~/images
        sslcurr data check ~/study/labels.csv --group-column patient --out images.csv
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
    data_root: DataRoot = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of the images that the network is given, in pixels.", rich_help_panel=DATA
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="data.NAME=VALUE",
            help="A setting of the data, such as data.channels=1. May be repeated.",
            rich_help_panel=DATA,
            autocompletion=completion.data_settings,
        ),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: Frames = "refuse",
    workers: WorkersOption = 0,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that are missing or cannot be read.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="First download the files, if torchvision can.")] = False,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Read all images once, for the trainings to come.

    The result is kept in the store, for trainings with the same --image-size.
    Trainings do it by themselves; here it needs no GPU.
    Run the same command again to go on after an interruption.

    Examples:

        sslcurr data prepare ~/images --image-size 224
        sslcurr data prepare cifar10 --data-root ~/data --download
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
    data_root: DataRoot = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    target_kind: TargetKindOption = None,
    frames: Frames = "refuse",
    num_images: Annotated[int, typer.Option(min=1, max=50, metavar="N", help="Images of each class.")] = 8,
    num_classes: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="Most classes.")] = 30,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random choice.")] = 0,
) -> None:
    """Draw some images of each class on one sheet.

    Examples:

        sslcurr data sample fashion --out sheet.png
        sslcurr data sample ~/images --out sheet.png --num-images 12
    """
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

    It has 1,500 scans without labels, 520 with labels, and 100 new ones whose labels are in a table of their own.
    The images are small pictures of clothes, not of patients: a part of Fashion-MNIST, which comes with sslcurr.

    Examples:

        sslcurr data example study
        sslcurr data example study --format png
    """
    with MachineOptions().lab() as lab:
        number = lab.example(folder, kind=kind.value)
    print(f"{number:,} images written to {folder}: scans/, labelled/ with labels.csv, new/ with answers.csv")
    print(f"next: sslcurr data check {folder / 'labels.csv'}")
