"""`sslcurr finetune [CHECKPOINT]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.cli.choices import Baseline
from sslcurr.cli.options import Aiming, refuse_masks, shared_options
from sslcurr.errors import SpecError


class Probe(StrEnum):
    """How much of the network learns from the labels."""

    full = "full"
    linear = "linear"
    knn = "knn"


@shared_options
def finetune(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT|KEY]", help="A backbone.safetensors, a stage's folder or its key. None: from scratch."
        ),
    ] = None,
    probe: Annotated[
        Probe,
        typer.Option(help="full: train all weights. linear, knn: classify frozen features of every layer."),
    ] = Probe.full,
    layers: Annotated[
        str, typer.Option(metavar="GLOB", help="The layers that a probe looks at, such as pooled or layer*.")
    ] = "*",
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="Also report the same from scratch, to compare.")
    ] = None,
    *,
    shared: Aiming,
) -> None:
    """Train classification from a checkpoint (or from scratch) and report the test split."""
    from sslcurr.cli.job import carry_out

    if probe is Probe.full:
        if layers != "*":
            raise SpecError("--layers is for probes, and --probe full trains all layers", "add --probe linear or knn")
        carry_out(shared, ["classification"], start=checkpoint, baseline=bool(baseline) and checkpoint is not None)
    else:
        refuse_masks(shared, f"--probe {probe.value}")
        carry_out(shared, [], start=checkpoint, baseline=bool(baseline), probe=probe.value, layers=layers)
