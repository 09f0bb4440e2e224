"""`sslcurr tasks`: what can be trained, and with which settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

app = typer.Typer(invoke_without_command=True, help="List the tasks, or show one with its settings.")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.callback()
def tasks(ctx: typer.Context, json: Json = False) -> None:
    """List the tasks with a line each."""
    if ctx.invoked_subcommand is not None:
        return
    from sslcurr.cli.results import console, print_json, table
    from sslcurr.tasks import TASKS, task_class

    kinds = [task_class(name) for name in TASKS]
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
    num_images: Annotated[int, typer.Option(help="Training images to resolve the recipe for.")] = 1000,
    num_classes: Annotated[int, typer.Option(help="Classes to resolve the recipe for.")] = 2,
    image_size: Annotated[int, typer.Option(help="Side of the views, in pixels.")] = 224,
    json: Json = False,
) -> None:
    """Show a task's settings: the paper's (for ImageNet) and those its recipe gives for a data set of some size."""
    from sslcurr.cli.results import console, print_json, table
    from sslcurr.errors import SpecError
    from sslcurr.tasks import task_class
    from sslcurr.tasks.base import Facts

    if num_images < 4 or num_classes < 2 or image_size < 8:
        raise SpecError("a recipe needs 4 images, 2 classes and 8 pixels at least", "give larger numbers")
    kind = task_class(task)

    def resolved(images: int, classes: int, size: int) -> dict[str, Any]:
        facts = Facts(num_images=images, class_counts=(images // classes,) * classes, image_size=size)
        recipe = kind.recipe(facts)
        return {**asdict(recipe.config), **asdict(recipe.training)}

    paper, here = resolved(1_281_167, 1000, 224), resolved(num_images, num_classes, image_size)
    if json:
        print_json({"task": task, "imagenet": paper, "resolved": here})
        return
    rows = table("--set", "ImageNet", f"{num_images} images", title=f"{task}: {kind.summary} ({kind.paper})")
    for name, value in here.items():
        rows.add_row(f"{task}.{name}", _plain(paper[name]), _plain(value))
    console().print(rows)


def _plain(value: Any) -> str:
    return ",".join(map(_plain, value)) if isinstance(value, tuple) else str(value)
