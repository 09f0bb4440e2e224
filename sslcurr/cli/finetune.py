"""`sslcurr finetune [CHECKPOINT]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli import completion
from sslcurr.cli.choices import Baseline, ProbeLayersOption
from sslcurr.cli.options import FinetuneOptions, shared_options
from sslcurr.cli.output import show_document


class ProbeChoice(StrEnum):
    """How much of the network learns from the labels."""

    full = "full"
    linear = "linear"
    knn = "knn"


@shared_options
def finetune(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            help="The model to start from: a run (last, its name), a stage (its folder, or the beginning of its key), "
            "or a file of weights, also of another project. Default: from scratch.",
            autocompletion=completion.checkpoints,
        ),
    ] = None,
    probe: Annotated[
        ProbeChoice,
        typer.Option(
            help="full: train all weights. linear, knn: train none, and classify the features of each layer. The layer "
            "that is best on the validation images is reported."
        ),
    ] = ProbeChoice.full,
    layers: ProbeLayersOption = "*",
    baseline: Annotated[
        Baseline | None,
        typer.Option("--baseline", help="Also do the same from scratch, and print the difference."),
    ] = None,
    *,
    shared: FinetuneOptions,
) -> None:
    """Train on the labels from a checkpoint, or from scratch, and test.

    Examples:

        sslcurr finetune --dataset ~/images
        sslcurr finetune last --label-fraction 0.25
        sslcurr finetune last --probe knn --baseline scratch
    """
    with shared.lab() as lab:
        call = lab.plan_finetune if shared.dry_run else lab.finetune
        kind = None if probe is ProbeChoice.full else probe.value
        show_document(call(checkpoint, probe=kind, layers=layers, baseline=bool(baseline)), shared)
