"""`sslcurr data`: which data sets there are, how to get them, and whether one is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import output
from sslcurr.cli.choices import JsonOption
from sslcurr.cli.options import MachineOptions, check_frames

app = typer.Typer(no_args_is_help=True, help="List, explain, check, prepare and look at data sets.")

DatasetArgument = Annotated[str, typer.Argument(metavar="NAME|FOLDER|TABLE", help="A data set, as of --dataset.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        envvar="SSLCURR_DATA",
        help="Where data sets lie that are given by a name or a relative path. Default: the working directory.",
    ),
]
FramesOption = Annotated[
    str,
    typer.Option(
        "--frames", metavar="refuse|first|all", callback=check_frames, help="DICOM files with several frames."
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Threads that decode images; 0 is one a core.")]


@app.command("list")
def list_names(data_root: DataRootOption = None, json: JsonOption = False) -> None:
    """List the data sets that have a name, and which of them are there."""
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.datasets(data_root=data_root), options)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name.")],
    data_root: DataRootOption = None,
    json: JsonOption = False,
) -> None:
    """Show what is known of a data set: classes, licence, where to get it, its files, and whether they are there."""
    options = MachineOptions(json=json)
    with options.lab() as lab:
        output.show_document(lab.dataset(name, data_root=data_root), options)


@app.command()
def check(
    name: DatasetArgument,
    data_root: DataRootOption = None,
    frames: FramesOption = "refuse",
    workers: WorkersOption = 0,
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
    json: JsonOption = False,
) -> None:
    """Open every image and look for what would stop or falsify a training; exit code 1 if something would.

    Counts images by class, and finds files that are missing or broken, labels that make no sense, groups and equal
    images in two splits, and equal images with different labels.
    """
    options = MachineOptions(json=json, workers=workers)
    with options.lab() as lab:
        document = lab.check(name, data_root=data_root, frames=frames, out=out, duplicates=duplicates)
        output.show_document(document, options)
    if document.problems:
        raise typer.Exit(1)


@app.command()
def prepare(
    name: DatasetArgument,
    data_root: DataRootOption = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the training views that the pack is for.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="data.NAME=VALUE", help="As of pretrain; may be repeated.")
    ] = None,
    frames: FramesOption = "refuse",
    workers: WorkersOption = 0,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Go on without images that are missing or cannot be decoded.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the files first, for data sets that torchvision can fetch.")
    ] = False,
    runs: Annotated[
        Path, typer.Option("--runs", envvar="SSLCURR_RUNS", metavar="FOLDER", help="The store that gets the pack.")
    ] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Decode a data set once, to the pack that trainings of this image size will use.

    A killed command is continued by running it again. Needs no GPU, so a cheap machine can do it beforehand.
    """
    options = MachineOptions(json=json, workers=workers, runs=runs)
    with options.lab() as lab:
        document = lab.prepare(
            dataset=name,
            data_root=data_root,
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
    frames: FramesOption = "refuse",
    num_images: Annotated[int, typer.Option(min=1, max=50, help="Images of each class.")] = 8,
    num_classes: Annotated[int, typer.Option(min=1, max=200, help="Classes at most.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
) -> None:
    """Draw a contact sheet: a class a row, images chosen at random."""
    with MachineOptions().lab() as lab:
        lab.sample(
            name,
            out,
            data_root=data_root,
            frames=frames,
            num_images=num_images,
            num_classes=num_classes,
            seed=seed,
        )
    print(f"contact sheet drawn in {out}")
