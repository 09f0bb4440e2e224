"""Values of options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sslcurr.errors import SpecError

CHECKPOINT = "A backbone.safetensors, a stage's folder or key, a file of another project, a timm name, or random."


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
    typer.Option("--from", metavar="CHECKPOINT|KEY", help="Start from these weights instead of from scratch."),
]
RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs", envvar="SSLCURR_RUNS", metavar="FOLDER", help="The store: the folder of finished stages and results."
    ),
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, help="Number of seeds of every chain: --seed and those after it.")
]
ProbeLayersOption = Annotated[
    str, typer.Option("--layers", metavar="GLOB", help="Layers that a probe uses, such as pooled or layer*.")
]
OWN_IMAGES = "Default: those that the stages were trained on."
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FOLDER", help="Write charts (PNG, SVG), tables (CSV) and JSON to this folder."),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option(
        "--plan-only",
        rich_help_panel="Several at once",
        help="Write down what is wanted, and train nothing: sslcurr work carries it out.",
    ),
]


def check_plan_only(*, plan_only: bool, dry_run: bool) -> None:
    """Raise SpecError where a plan is to be written and nothing is to be written."""
    if plan_only and dry_run:
        raise SpecError("--plan-only writes a plan, and --dry-run writes nothing", "give one of them")
