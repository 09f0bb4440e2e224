"""Values of options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

CHECKPOINT = "A backbone.safetensors, a stage's folder or its key, another project's file, a timm name, or random."


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
    Path, typer.Option("--runs", envvar="SSLCURR_RUNS", metavar="FOLDER", help="The store of finished stages.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
