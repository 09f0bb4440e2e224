"""`sslcurr rank [TASK...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.analysis.results.document import Document
from sslcurr.api.options import MeasureOptions, SearchOptions
from sslcurr.cli.choices import PlanOnlyOption, ProbeLayersOption, SeedsOption, StartOption, check_plan_only
from sslcurr.cli.options import FoldedChainOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError

ORDERINGS, SEARCH, SETTINGS = "Orderings", "Automatic curriculum", "Several settings"
DEFAULTS: SearchOptions = {
    "strategy": "knowledge-gradient",
    "budget": 0.25,
    "tolerance": 1.0,
    "confidence": 0.9,
    "batch": None,
    "as_if_empty": False,
    "side": [],
    "beam": 2,
    "score": "knn",
    "penalty": 0.0,
}


class Measure(StrEnum):
    """How a chain is measured at the target task."""

    finetune = "finetune"
    linear = "linear"
    knn = "knn"


class SearchStrategy(StrEnum):
    """How the automatic curriculum looks for an ordering."""

    knowledge_gradient = "knowledge-gradient"
    beam = "beam"
    halving = "halving"
    random = "random"
    curriculum = "curriculum"


class SearchSide(StrEnum):
    """What may help to foretell orderings."""

    cka = "cka"
    probe = "probe"


class SearchScore(StrEnum):
    """What a beam search prunes prefixes by."""

    knn = "knn"
    linear = "linear"
    target = "target"


TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK]...", help="Pretext tasks. Default: relative-location mocov2 swav rotation."),
]
MeasureOption = Annotated[
    Measure,
    typer.Option(help="finetune: train all weights. linear, knn: classify frozen features, which is cheaper."),
]
ImagenetOption = Annotated[
    str | None,
    typer.Option(metavar="CHECKPOINT|KEY", help="Weights to compare with, such as those of ImageNet."),
]
OrderingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--orderings",
        metavar="WORD|A,B,C",
        help="Also train orderings: curriculum, anti, full, pairs, triples, all, or one such as mocov2,swav. "
        "May be repeated.",
        rich_help_panel=ORDERINGS,
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        "--length",
        min=1,
        help="Most tasks of the orderings that a word names. Without --orderings: all orderings up to this length.",
        rich_help_panel=ORDERINGS,
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Print the table after every chain.", rich_help_panel=ORDERINGS)
]
SearchOption = Annotated[
    bool,
    typer.Option("--search", help="Search for a good ordering without training all.", rich_help_panel=SEARCH),
]
StrategyOption = Annotated[
    SearchStrategy,
    typer.Option(
        "--strategy",
        help="knowledge-gradient: the run that is expected to teach most for its cost comes next. The others are for "
        "comparison.",
        rich_help_panel=SEARCH,
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option("--tolerance", metavar="POINTS", help="How far from the best is good enough.", rich_help_panel=SEARCH),
]
ConfidenceOption = Annotated[
    float,
    typer.Option(
        "--confidence",
        help="End when the ordering that is chosen is good enough with this probability. 1: spend the budget.",
        rich_help_panel=SEARCH,
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch", help="Runs that are chosen at a time. Default: as many as --jobs.", rich_help_panel=SEARCH),
]
AsIfEmptyOption = Annotated[
    bool,
    typer.Option(
        "--as-if-empty",
        help="Pay for stages that the store holds, too. Else they cost nothing.",
        rich_help_panel=SEARCH,
    ),
]
SideOption = Annotated[
    list[SearchSide] | None,
    typer.Option(
        "--side",
        help="A figure that may help to foretell orderings: how unlike neighbouring tasks are (cka), or the kNN "
        "accuracy of the last task's features (probe). It counts with the probability that it helps. May be repeated.",
        rich_help_panel=SEARCH,
    ),
]
BeamOption = Annotated[
    int,
    typer.Option(
        "--beam", help="Of beam: prefixes of each length, and finalists, that are kept.", rich_help_panel=SEARCH
    ),
]
BudgetOption = Annotated[
    float,
    typer.Option("--budget", help="Most image passes, as a share of those of all orderings.", rich_help_panel=SEARCH),
]
ScoreOption = Annotated[
    SearchScore,
    typer.Option(
        "--score",
        help="Of beam: what prefixes are pruned by: a probe of frozen features, or the target measure itself.",
        rich_help_panel=SEARCH,
    ),
]
PenaltyOption = Annotated[
    float,
    typer.Option(
        "--penalty",
        help="Of beam: deducted from a stage's accuracy, times 1 - CKA with its parent's features, such as 0.05.",
        rich_help_panel=SEARCH,
    ),
]


OverOption = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="NAME=A,B",
        help="Repeat the ranking with each value of an option, such as backbone=resnet18,resnet50, epochs=5,10 or "
        "mocov2.temperature=0.1,0.2, and compare. May be repeated: all combinations are ranked.",
        rich_help_panel=SETTINGS,
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RATE|default",
        help="Compare --lr with another learning rate; default is the recipe's.",
        rich_help_panel=SETTINGS,
    ),
]


@shared_options
def rank(
    tasks: TasksArgument = None,
    seeds: SeedsOption = 3,
    measure: MeasureOption = Measure.finetune,
    layers: ProbeLayersOption = "*",
    start: StartOption = None,
    imagenet: ImagenetOption = None,
    orderings: OrderingsOption = None,
    length: LengthOption = None,
    watch: WatchOption = False,
    over: OverOption = None,
    against: AgainstOption = None,
    search: SearchOption = False,
    strategy: StrategyOption = SearchStrategy.knowledge_gradient,
    budget: BudgetOption = DEFAULTS["budget"],
    tolerance: ToleranceOption = DEFAULTS["tolerance"],
    confidence: ConfidenceOption = DEFAULTS["confidence"],
    batch: BatchOption = None,
    as_if_empty: AsIfEmptyOption = False,
    side: SideOption = None,
    beam: BeamOption = DEFAULTS["beam"],
    score: ScoreOption = SearchScore.knn,
    penalty: PenaltyOption = DEFAULTS["penalty"],
    plan_only: PlanOnlyOption = False,
    *,
    shared: FoldedChainOptions,
) -> None:
    """Train each task alone, rank the tasks by balanced accuracy, and print the curriculum.

    Finished stages in the store are reused.
    Run the same command again to continue after an interruption.
    A stage whose loss is not finite is marked, and the others go on.
    The exit code is then 3.
    """
    check_plan_only(plan_only=plan_only, dry_run=shared.dry_run)
    measured: MeasureOptions = {
        "seeds": seeds,
        "measure": measure.value,
        "layers": layers,
        "length": length,
        "start": start,
    }
    several = bool(over) or against is not None
    if several:
        _check_over(search=search, watch=watch, imagenet=imagenet)
    looking: SearchOptions = {
        "strategy": strategy.value,
        "budget": budget,
        "tolerance": tolerance,
        "confidence": confidence,
        "batch": batch,
        "as_if_empty": as_if_empty,
        "side": [each.value for each in side or ()],
        "beam": beam,
        "score": score.value,
        "penalty": penalty,
    }
    if not search and looking != DEFAULTS:
        changed = [name for name, value in looking.items() if value != dict(DEFAULTS)[name]]
        names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise SpecError(f"{names}: for the automatic curriculum only", "add --search")
    if search and (orderings or watch or imagenet):
        raise SpecError("--search finds an ordering itself", "leave out --orderings, --watch and --imagenet")
    if search and plan_only:
        raise SpecError(
            "--search decides what is trained as it goes: there is no plan of all",
            "leave out --plan-only; --pool shared lets sslcurr work help with each batch of candidates",
        )
    document: Document
    with shared.lab() as lab:
        if several:
            over_call = lab.queue_rank_over if plan_only else lab.plan_rank_over if shared.dry_run else lab.rank_over
            document = over_call(tasks or (), over=over or (), against=against, orderings=orderings or (), **measured)
        elif search:
            search_call = lab.plan_search if shared.dry_run else lab.search
            asked: SearchOptions = {**measured, **looking}
            document = search_call(tasks or (), **asked)
        else:
            call = lab.queue_rank if plan_only else lab.plan_rank if shared.dry_run else lab.rank
            document = call(tasks or (), orderings=orderings or (), imagenet=imagenet, watch=watch, **measured)
        show_document(document, shared)


def _check_over(*, search: bool, watch: bool, imagenet: str | None) -> None:
    """Raise SpecError for what one ranking has and several together have not."""
    if search:
        raise SpecError(
            "--over and --against compare rankings, and --search makes none",
            "leave out --search, or run rank --search once for each setting",
        )
    if watch:
        raise SpecError("--watch shows one ranking, and --over and --against make several", "leave out --watch")
    if imagenet is not None:
        raise SpecError(
            "--imagenet is of one network, and --over and --against compare each setting with its own start",
            "leave out --imagenet, or run rank --imagenet for the setting whose network it is",
        )
