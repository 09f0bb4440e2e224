"""`sslcurr tasks`: what can be trained, and with which settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.cli.options import check_picture

if TYPE_CHECKING:
    from sslcurr.spec.stage import StageSpec

app = typer.Typer(invoke_without_command=True, help="List the tasks, or show one with its settings.")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.callback()
def tasks(ctx: typer.Context, json: Json = False) -> None:
    """List the tasks with a line each."""
    if ctx.invoked_subcommand is not None:
        return
    from sslcurr.cli.output import console, print_json, table
    from sslcurr.cli.progress import print_notes
    from sslcurr.tasks import TASKS

    usable, notes = TASKS.listing()
    kinds = list(usable.values())
    print_notes(notes)
    if json:
        print_json(
            {"tasks": [{"task": k.name, "version": k.version, "summary": k.summary, "paper": k.paper} for k in kinds]}
        )
        return
    rows = table("task", "what it learns", "paper")
    for kind in kinds:
        rows.add_row(kind.name, kind.summary, kind.paper)
    console().print(rows)


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task's name.")],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help="Resolve the recipe for this data set, instead of a size."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where data sets lie that are given by a relative path.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the views of a few images, with the task's own labels."),
    ] = None,
    num_images: Annotated[
        int | None, typer.Option(help="Training images to resolve the recipe for.", show_default="1000")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(help="Classes to resolve the recipe for.", show_default="2")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the views, in pixels.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="TASK.NAME=VALUE", help="As of pretrain; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the views that are drawn.")] = 0,
    runs: Annotated[
        Path, typer.Option(help="The store, in which the data set is packed.", envvar="SSLCURR_RUNS", metavar="FOLDER")
    ] = Path("runs"),
    json: Json = False,
) -> None:
    """Show a task's settings: the paper's (for ImageNet), and those its recipe gives for a data set or a size of one.

    With --out, draw what the network is given of some images.
    """
    from sslcurr.cli.output import console, print_json, table
    from sslcurr.errors import SpecError
    from sslcurr.spec.settings import apply, parse
    from sslcurr.tasks import task_class
    from sslcurr.tasks.base import Facts, Recipe

    kind = task_class(task)
    if dataset is None and out is None:
        images, classes, size = (
            default if given is None else given
            for given, default in ((num_images, 1000), (num_classes, 2), (image_size, 224))
        )
        if images < 4 or classes < 2 or size < 8:
            raise SpecError("a recipe needs 4 images, 2 classes and 8 pixels at least", "give larger numbers")
        recipe = kind.recipe(Facts(num_images=images, class_counts=(images // classes,) * classes, image_size=size))
        changes = parse(settings or (), [task]).get(task, {})
        here = _values(Recipe(*apply(changes, recipe.config, recipe.training, section=task)))
        title = f"{images} images"
    else:
        if num_images is not None or num_classes is not None:
            raise SpecError(
                "the data set says how many images and classes it has", "leave out --num-images and --num-classes"
            )
        if out is not None:
            check_picture(out)
        spec = _plan(task, dataset, data_root, image_size, settings, seed, runs)
        here = {**spec.config, **asdict(spec.training)}
        title = spec.data.name
        if out is not None:
            from sslcurr.analysis.sheets.views import draw_views

            draw_views(spec, out)
    paper = _values(kind.recipe(Facts(num_images=1_281_167, class_counts=(1281,) * 1000, image_size=224)))
    if json:
        print_json({"task": task, "imagenet": paper, "resolved": here, **({"out": str(out)} if out else {})})
        return
    rows = table("--set", "ImageNet", title, title=f"{task}: {kind.summary} ({kind.paper})")
    for name, value in here.items():
        rows.add_row(f"{task}.{name}", _plain(paper[name]), _plain(value))
    console().print(rows)
    if out is not None:
        console().print(f"views drawn in {out}")


def _values(recipe: Any) -> dict[str, Any]:
    return {**asdict(recipe.config), **asdict(recipe.training)}


def _plan(
    task: str,
    dataset: str | None,
    data_root: Path | None,
    image_size: int | None,
    settings: list[str] | None,
    seed: int,
    runs: Path,
) -> StageSpec:
    """The stage that `pretrain` would train with the same options."""
    from sslcurr.cli.options import open_store
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.plan import Planner
    from sslcurr.spec.request import Wishes

    wishes = Wishes(
        dataset=dataset, data_root=data_root, image_size=image_size, seed=seed, settings=tuple(settings or ())
    )
    with reporting() as report, report.packing() as progress:
        return Planner(wishes, open_store(runs), [task], progress=progress).chain([task])[0]


def _plain(value: Any) -> str:
    return ",".join(map(_plain, value)) if isinstance(value, tuple | list) else str(value)
