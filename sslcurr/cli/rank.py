"""`sslcurr rank [TASK...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sslcurr.analysis.results.document import Document
from sslcurr.api.options import MeasureOptions, SearchOptions
from sslcurr.cli import completion
from sslcurr.cli.choices import PlanOnlyOption, ProbeLayersOption, SeedsOption, StartOption, check_plan_only
from sslcurr.cli.options import FoldedChainOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError

ORDERINGS, SEARCH, SETTINGS = "Orderings", "Search for an ordering", "Several settings"
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
    typer.Argument(
        metavar="[TASK]...",
        help="Pretext tasks, see sslcurr tasks. Default: relative-location mocov2 swav rotation.",
        autocompletion=completion.tasks,
    ),
]
MeasureOption = Annotated[
    Measure,
    typer.Option(
        help="How a chain is measured. finetune: train all weights on the labels. linear, knn: train none, and "
        "classify the features, which takes less time."
    ),
]
ImagenetOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHECKPOINT",
        help="Also measure these weights, such as those of ImageNet, for comparison.",
        autocompletion=completion.checkpoints,
    ),
]
OrderingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--orderings",
        metavar="WORD|A,B,C",
        help="Also train orderings: curriculum, anti (its reverse), full, pairs, triples, all, or one such as "
        "mocov2,swav. May be repeated.",
        rich_help_panel=ORDERINGS,
        autocompletion=completion.orderings,
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        "--length",
        min=1,
        metavar="N",
        help="Most tasks in an ordering. Without --orderings: train all orderings of up to N tasks.",
        rich_help_panel=ORDERINGS,
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Print the table after every chain.", rich_help_panel=ORDERINGS)
]
SearchOption = Annotated[
    bool,
    typer.Option("--search", help="Find a good ordering without training all of them.", rich_help_panel=SEARCH),
]
StrategyOption = Annotated[
    SearchStrategy,
    typer.Option(
        "--strategy",
        metavar="STRATEGY",
        help=f"What is trained next: {', '.join(SearchStrategy)}. knowledge-gradient: what is expected to teach most "
        "for its cost. The others are for comparison.",
        rich_help_panel=SEARCH,
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        "--tolerance",
        metavar="POINTS",
        help="An ordering is good enough if it is so near to the best.",
        rich_help_panel=SEARCH,
    ),
]
ConfidenceOption = Annotated[
    float,
    typer.Option(
        "--confidence",
        metavar="SHARE",
        help="Stop when the ordering is good enough with this probability. 1: use all of the budget.",
        rich_help_panel=SEARCH,
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch",
        metavar="N",
        help="How many chains are chosen at a time. Default: as many as --jobs.",
        rich_help_panel=SEARCH,
    ),
]
AsIfEmptyOption = Annotated[
    bool,
    typer.Option(
        "--as-if-empty",
        help="Count the cost of stages that the store already has, too.",
        rich_help_panel=SEARCH,
    ),
]
SideOption = Annotated[
    list[SearchSide] | None,
    typer.Option(
        "--side",
        help="A measure that may help to predict orderings. cka: how unlike neighbouring tasks are. probe: the kNN "
        "accuracy of the last task's features. It counts as much as it is found to help. May be repeated.",
        rich_help_panel=SEARCH,
    ),
]
BeamOption = Annotated[
    int,
    typer.Option(
        "--beam",
        metavar="N",
        help="For the strategy beam: how many beginnings of each length are kept, and how many orderings at the end.",
        rich_help_panel=SEARCH,
    ),
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--budget",
        metavar="SHARE",
        help="Most images to train on, as a share of what all orderings would take.",
        rich_help_panel=SEARCH,
    ),
]
ScoreOption = Annotated[
    SearchScore,
    typer.Option(
        "--score",
        help="For the strategy beam: how beginnings are compared. target: as in --measure.",
        rich_help_panel=SEARCH,
    ),
]
PenaltyOption = Annotated[
    float,
    typer.Option(
        "--penalty",
        metavar="X",
        help="For the strategy beam: take X times (1 - CKA with the stage before) from the accuracy, such as 0.05.",
        rich_help_panel=SEARCH,
    ),
]


OverOption = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="NAME=A,B",
        help="Repeat the ranking with each value of an option, and compare: backbone=resnet18,resnet50, epochs=5,10 or "
        "mocov2.temperature=0.1,0.2. May be repeated, for all combinations.",
        rich_help_panel=SETTINGS,
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RATE|default",
        help="Compare --lr with this learning rate. default: that of each task.",
        rich_help_panel=SETTINGS,
        autocompletion=completion.choices("default"),
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
    """Rank the tasks by how well each does alone, and compare orderings.

    Sorted from the worst to the best, the tasks are a curriculum.
    Stages that the store has are not trained again.
    Run the same command again to go on after an interruption.
    If a stage fails, the others go on, and the exit code is 3.

    Examples:

        sslcurr rank rotation mocov2 swav
        sslcurr rank rotation mocov2 swav --dataset ~/images --length 3
        sslcurr rank rotation mocov2 swav byol --search --dry-run
        sslcurr rank rotation swav --over backbone=resnet18,resnet50
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
