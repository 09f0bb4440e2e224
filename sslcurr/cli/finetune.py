"""`sslcurr finetune [CHECKPOINT]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

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
            metavar="[CHECKPOINT|KEY]", help="A backbone.safetensors, a stage's folder or key. Default: from scratch."
        ),
    ] = None,
    probe: Annotated[
        ProbeChoice,
        typer.Option(help="full: train all weights. linear, knn: classify frozen features of every layer."),
    ] = ProbeChoice.full,
    layers: ProbeLayersOption = "*",
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="Also report the same from scratch, for comparison.")
    ] = None,
    *,
    shared: FinetuneOptions,
) -> None:
    """Train classification from a checkpoint (or from scratch) and report the test split."""
    with shared.lab() as lab:
        call = lab.plan_finetune if shared.dry_run else lab.finetune
        kind = None if probe is ProbeChoice.full else probe.value
        show_document(call(checkpoint, probe=kind, layers=layers, baseline=bool(baseline)), shared)
