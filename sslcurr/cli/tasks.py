"""`sslcurr tasks`: what can be trained, and with which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import output
from sslcurr.cli.choices import JsonOption
from sslcurr.cli.options import GroupColumn, LabelColumn, MachineOptions, PathColumn, SplitColumn
from sslcurr.cli.program import Program

app = Program(invoke_without_command=True, help="List the tasks, or show one with its settings.")


@app.callback()
def tasks(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the tasks, one line each."""
    if ctx.invoked_subcommand is None:
        options = MachineOptions(json=json)
        with options.lab() as lab:
            output.show_document(lab.tasks(), options)


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task's name.")],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help="Resolve the recipe for this data set, not for a size."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the data sets that are given by a relative path.")
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the views of a few images, with the labels that the task makes."),
    ] = None,
    num_images: Annotated[
        int | None, typer.Option(help="Training images to resolve the recipe for.", show_default="1000")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(help="Classes to resolve the recipe for.", show_default="2")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the views, in pixels.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TASK.NAME=VALUE", help="As --set of pretrain. May be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the views that are drawn.")] = 0,
    runs: Annotated[
        Path, typer.Option(help="The store, which keeps the packed data set.", envvar="SSLCURR_RUNS", metavar="FOLDER")
    ] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Show a task's settings: the paper's, and those of its recipe for a data set or a size.

    The paper's settings are for ImageNet.
    With --out, draw what the network gets of a few images.
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
