"""`sslcurr tasks`: what can be trained, and with which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion, output
from sslcurr.cli.choices import JsonOption, RunsOption
from sslcurr.cli.help import DATA
from sslcurr.cli.options import IMAGES, DataRoot, GroupColumn, LabelColumn, MachineOptions, PathColumn, SplitColumn
from sslcurr.cli.program import Program

app = Program(invoke_without_command=True)


@app.callback()
def tasks(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the tasks, or show one with its settings.

    Examples:

        sslcurr tasks
        sslcurr tasks show swav
    """
    if ctx.invoked_subcommand is None:
        options = MachineOptions(json=json)
        with options.lab() as lab:
            output.show_document(lab.tasks(), options)


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.", autocompletion=completion.all_tasks)],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar=IMAGES,
            help="Show the settings for this data set.",
            rich_help_panel=DATA,
            autocompletion=completion.datasets,
        ),
    ] = None,
    data_root: DataRoot = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw what the network is given of a few images, with its labels."),
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Without --dataset: show the settings for so many training images.", show_default="1000"
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Without --dataset: show the settings for so many classes.", show_default="2"),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the images that the network is given, in pixels.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TASK.NAME=VALUE",
            help="A setting, such as mocov2.temperature=0.1. May be repeated.",
            autocompletion=completion.settings,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of what --out draws.")] = 0,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Show the settings of a task: the paper's, and those for your data.

    The paper's settings are for ImageNet.
    Those for your data follow from the number of images, of classes and of pixels.

    Examples:

        sslcurr tasks show swav
        sslcurr tasks show mocov2 --num-images 500 --image-size 64
        sslcurr tasks show jigsaw --dataset ~/images --out views.png
    """
    options = MachineOptions(json=json, runs=runs)
    with options.lab() as lab:
        document = lab.task(
            task,
            dataset=dataset,
            data_root=data_root,
            path_column=path_column,
            label_column=label_column,
            group_column=group_column,
            split_column=split_column,
            image_size=image_size,
            num_images=num_images,
            num_classes=num_classes,
            settings=settings or (),
            seed=seed,
            out=out,
        )
        output.show_document(document, options)
