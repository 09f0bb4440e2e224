"""Values of options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.help import MACHINE, SEVERAL
from sslcurr.errors import SpecError

CHECKPOINT = (
    "A model: a run (last, last~1, its name), a stage (its folder, or the beginning of its key), a file of weights, "
    "also of another project, a name of timm, or random (untrained)."
)


class Split(StrEnum):
    """Whose images are shown."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


class Baseline(StrEnum):
    """What a fine-tuned model is compared with."""

    scratch = "scratch"


StartOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="CHECKPOINT",
        help="Start from these weights, not from scratch: a run (last, its name), a stage, a file of weights, also of "
        "another project, or imagenet.",
        autocompletion=completion.checkpoints,
    ),
]
RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="SSLCURR_RUNS",
        metavar="FOLDER",
        help="The store: the folder that keeps trained stages and results.",
        rich_help_panel=MACHINE,
    ),
]
SeedsOption = Annotated[
    int,
    typer.Option("--seeds", min=1, metavar="N", help="Train every chain with so many seeds: --seed and the next ones."),
]
ProbeLayersOption = Annotated[
    str,
    typer.Option(
        "--layers",
        metavar="PATTERN",
        help="Layers that linear and knn use, such as pooled or layer*.",
        autocompletion=completion.choices("*", "pooled", "layer*"),
    ),
]
OWN_IMAGES = "Default: those that the models were trained on."
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document in place of tables.", rich_help_panel=MACHINE)
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FOLDER",
        help="Write charts (PNG, SVG), tables (CSV) and JSON to this folder, too.",
        rich_help_panel=MACHINE,
    ),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option(
        "--plan-only",
        rich_help_panel=SEVERAL,
        help="Train nothing now. Write the plan into the store, for sslcurr work.",
    ),
]
TasksArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK",
        help="Pretext tasks in the order of training, such as mocov2 swav rotation. sslcurr tasks lists them.",
        autocompletion=completion.tasks,
    ),
]


def check_plan_only(*, plan_only: bool, dry_run: bool) -> None:
    """Raise SpecError where a plan is to be written and nothing is to be written."""
    if plan_only and dry_run:
        raise SpecError("--plan-only writes a plan, and --dry-run writes nothing", "give one of them")
