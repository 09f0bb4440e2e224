"""`sslcurr rank [TASK...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.analysis.results.document import Document
from sslcurr.api.options import MeasureOptions
from sslcurr.cli.choices import Start
from sslcurr.cli.options import TargetOptions, shared_options
from sslcurr.cli.output import show
from sslcurr.errors import SpecError

ORDERINGS, SEARCH = "Orderings", "Automatic curriculum"


class Measure(StrEnum):
    """How a chain is measured at the target task."""

    finetune = "finetune"
    linear = "linear"
    knn = "knn"


class Score(StrEnum):
    """The cheap probe of the automatic curriculum."""

    knn = "knn"
    linear = "linear"


@shared_options
def rank(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK]...", help="Pretext tasks. Default: relative-location mocov2 swav rotation."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of every chain: --seed and those after it.")] = 3,
    measure: Annotated[
        Measure,
        typer.Option(help="finetune: train all weights. linear, knn: classify frozen features, cheaper."),
    ] = Measure.finetune,
    layers: Annotated[
        str, typer.Option(metavar="GLOB", help="The layers that a probe looks at, such as pooled or layer*.")
    ] = "*",
    start: Start = None,
    imagenet: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT|KEY", help="ImageNet weights, or others, to compare with."),
    ] = None,
    orderings: Annotated[
        list[str] | None,
        typer.Option(
            "--orderings",
            metavar="WORD|A,B,C",
            help="Also train orderings: curriculum, anti, full, pairs, triples, all, or one such as mocov2,swav; "
            "may be repeated.",
            rich_help_panel=ORDERINGS,
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length", min=1, help="Most tasks of what a word stands for; alone: all.", rich_help_panel=ORDERINGS
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print the table so far after every chain.", rich_help_panel=ORDERINGS)
    ] = False,
    search: Annotated[
        bool,
        typer.Option("--search", help="Find a good ordering without training them all.", rich_help_panel=SEARCH),
    ] = False,
    beam: Annotated[
        int,
        typer.Option("--beam", help="Prefixes of each length, and finalists, that are kept.", rich_help_panel=SEARCH),
    ] = 2,
    budget: Annotated[
        float,
        typer.Option("--budget", help="Most image passes, as a share of all orderings'.", rich_help_panel=SEARCH),
    ] = 0.25,
    score: Annotated[Score, typer.Option("--score", help="The probe that prunes.", rich_help_panel=SEARCH)] = Score.knn,
    penalty: Annotated[
        float,
        typer.Option(
            "--penalty",
            help="What a stage loses, such as 0.05, for features wholly unlike its parent's, as CKA sees it.",
            rich_help_panel=SEARCH,
        ),
    ] = 0.0,
    *,
    shared: TargetOptions,
) -> None:
    """Train each task alone, rank the tasks by balanced accuracy, and print the curriculum.

    Stages that the store holds are reused; a command that was stopped goes on when it is run again. A stage whose loss
    is not finite is marked, the rest goes on, and the exit code is 3.
    """
    measured: MeasureOptions = {
        "seeds": seeds,
        "measure": measure.value,
        "layers": layers,
        "length": length,
        "start": start,
    }
    if not search and (beam, budget, score, penalty) != (2, 0.25, Score.knn, 0.0):
        raise SpecError("--beam, --budget, --score and --penalty are for the automatic curriculum", "add --search")
    if search and (orderings or watch or imagenet):
        raise SpecError("--search looks for an ordering itself", "leave out --orderings, --watch and --imagenet")
    document: Document
    with shared.lab() as lab:
        if search:
            search_call = lab.plan_search if shared.dry_run else lab.search
            document = search_call(
                tasks or (), beam=beam, budget=budget, score=score.value, penalty=penalty, **measured
            )
        else:
            call = lab.plan_rank if shared.dry_run else lab.rank
            document = call(tasks or (), orderings=orderings or (), imagenet=imagenet, watch=watch, **measured)
        show(document, shared)
