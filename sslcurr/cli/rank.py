"""`sslcurr rank [TASK...]`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.cli.choices import FAILED
from sslcurr.cli.options import Aiming, Shared, given_options, refuse_masks, shared_options
from sslcurr.errors import Interrupted, SpecError

if TYPE_CHECKING:
    from sslcurr.analysis.experiments.chains import Chain, Chains
    from sslcurr.analysis.experiments.ranking import Results
    from sslcurr.cli.progress import Lines

# The four of the study's table (arXiv 2301.10687).
DEFAULT_TASKS = ["relative-location", "mocov2", "swav", "rotation"]
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
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="CHECKPOINT|KEY", help="Start every chain from these weights."),
    ] = None,
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
    shared: Aiming,
) -> None:
    """Train each task alone, rank the tasks by balanced accuracy, and print the curriculum.

    Stages that the store holds are reused; a command that was stopped goes on when it is run again. A stage whose loss
    is not finite is marked, the rest goes on, and the exit code is 3.
    """
    from sslcurr.analysis.experiments.orderings import check_words, chosen_orderings
    from sslcurr.tasks import check_pretext

    names = tasks or DEFAULT_TASKS
    check_pretext(names)
    if len(set(names)) < len(names):
        raise SpecError(
            "a task is named twice", "name each task once; --orderings says in which orders they are trained"
        )
    check_words(orderings or [], names)
    wanted = chosen_orderings(orderings or [], names, length, dict.fromkeys(names, 0.0))
    if orderings and not wanted:
        raise SpecError(
            f"there is no ordering that --orderings {' '.join(orderings)} asks for, of {len(names)} tasks",
            "name more tasks, or give a larger --length",
        )
    if measure is Measure.finetune and layers != "*" and not search:
        raise SpecError("--layers is for probes", "add --measure linear or knn")
    if search and (orderings or watch or imagenet):
        raise SpecError("--search looks for an ordering itself", "leave out --orderings, --watch and --imagenet")
    if not search and (beam, budget, score, penalty) != (2, 0.25, Score.knn, 0.0):
        raise SpecError("--beam, --budget, --score and --penalty are for the automatic curriculum", "add --search")
    if measure is not Measure.finetune:
        refuse_masks(shared, f"--measure {measure.value}")
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.cli.job import opened

    numbers = range(shared.seed, shared.seed + seeds)
    with opened(shared, [*names, "classification"], start) as (planner, store, report):
        chains = Chains(
            planner, store, shared.runtime, report, measure=measure.value, layers=layers, device=shared.device
        )
        if chains.split != "test":
            report.note(f"there are no test images: all accuracies are of the {chains.split} images")
        if search:
            most = len(names) if length is None else length
            _search(
                shared, chains, names, numbers, min(most, len(names)), beam, budget, score.value, penalty, start, report
            )
        else:
            _rank(shared, chains, names, numbers, orderings or [], length, imagenet, start, watch, report)


def _rank(
    shared: Shared,
    chains: Chains,
    tasks: Sequence[str],
    seeds: Sequence[int],
    words: Sequence[str],
    length: int | None,
    imagenet: str | None,
    start: str | None,
    watch: bool,
    report: Lines,
) -> None:
    from sslcurr.analysis.experiments.orderings import chosen_orderings
    from sslcurr.analysis.experiments.progress import ChainsProgress
    from sslcurr.analysis.experiments.ranking import Ranking, known_singles
    from sslcurr.cli.forecast import print_forecast, print_partial, print_ranking
    from sslcurr.cli.job import note, run_record
    from sslcurr.cli.output import plotted, print_files, print_json
    from sslcurr.engine.models import parent_from

    wanted = bool(words or length)
    reference = parent_from(imagenet, chains.store, shared.backbone, shared.stem) if imagenet is not None else None
    if reference is not None and reference.backbone != chains.planner.backbone(chains.planner.parent):
        raise SpecError(
            "the weights of --imagenet are of another network", "give the same --backbone, --stem and channels"
        )
    singles: list[tuple[str, ...]] = [(task,) for task in tasks]
    if shared.dry_run:
        known = known_singles(chains, tasks, seeds)
        order = known or dict.fromkeys(tasks, 0.0)
        chosen = [*singles, *(chosen_orderings(words, tasks, length, order) or [])]
        print_forecast(chains, chosen, seeds, reference, shared, guessed=known is None and _needs_singles(words))
        return
    chains.check_network(tasks)
    asked = {
        "rank": list(tasks),
        "seeds": list(seeds),
        "orderings": [*words, length],
        "measure": [chains.measure, chains.layers],
        "imagenet": reference.key if reference else None,
        "stages": [key for task in tasks for key in chains.keys((task,), seeds[0])],
    }
    record = run_record(chains.planner, chains.store, asked=asked, title=f"rank {' '.join(tasks)}", stages=[])
    # Noted before anything is trained: half-done stages of a run that will go on are needed, too.
    chains.expect([(), *singles], seeds, reference)
    note(chains, record)
    progress = ChainsProgress(report, chains, print_partial if watch else None)

    def chain_done(chain: Chain, results: Results) -> None:
        note(chains, record)  # after each chain: whatever ends this command, its reports are needed by the next
        progress.chain_done(chain, results)

    ranking = Ranking(chains, tasks, seeds, imagenet=reference, chain_done=chain_done)
    try:
        progress.expect([(), *singles], seeds, reference)
        ranking.measure_singles()
        known = ranking.singles()
        for task in tasks:
            if task not in known and wanted:
                report.note(f"orderings with {task} are left out: alone it failed at every seed")
        chosen = chosen_orderings(words, list(known), length, known) or []
        chosen = [ordering for ordering in chosen if set(ordering) <= set(known)]
        progress.expect(chosen, seeds)
        chains.expect(chosen, seeds)
        note(chains, record)
        ranking.measure_orderings(chosen)
    except (Interrupted, KeyboardInterrupt):
        if not watch:
            print_partial(ranking.results)
        raise
    curriculum = ranking.curriculum()
    document = ranking.document(command_of(shared, curriculum, start) if curriculum else None)
    best = max((row.mean for row in document.tasks if row.mean is not None), default=None)
    note(chains, record | {"finished": not document.failed, "balanced_accuracy": best})
    chains.store.keep_result(record, "rank", document.to_json())
    files = plotted("rank", document.to_json(), shared.plots())
    if shared.json:
        print_json({**document.to_json(), "files": files})
    else:
        print_ranking(document)
        print_files(files)
    if document.failed:
        raise typer.Exit(FAILED)


def _needs_singles(words: Sequence[str]) -> bool:
    return any(name in ("curriculum", "anti") for word in words for name in word.split(","))


def _search(
    shared: Shared,
    chains: Chains,
    tasks: Sequence[str],
    seeds: Sequence[int],
    length: int,
    beam: int,
    budget: float,
    score: str,
    penalty: float,
    start: str | None,
    report: Lines,
) -> None:
    from sslcurr.analysis.evaluation.similarity import dissimilarity
    from sslcurr.analysis.experiments.search import Search, SearchSettings
    from sslcurr.cli.forecast import print_search
    from sslcurr.cli.job import note, run_record
    from sslcurr.cli.output import console, plotted, print_files, print_json
    from sslcurr.engine.store import run_name

    if len(tasks) < 2:
        raise SpecError("one task has one ordering", "give two tasks or more")
    settings = SearchSettings(length=length, beam=beam, budget=budget, probe=score, penalty=penalty)
    unlike = dissimilarity(chains.planner.data, chains.store, shared.device) if penalty else None
    record: dict[str, Any] = {}

    def candidate_done(text: str) -> None:
        note(chains, record)
        report.say(text)

    automatic = Search(
        chains,
        tasks,
        seeds,
        settings,
        dissimilarity=unlike,
        candidate_done=candidate_done,
        need_changed=lambda: note(chains, record),
    )
    if shared.dry_run:
        plan = automatic.forecast()
        if shared.json:
            print_json(plan.to_json())
        else:
            for line in plan.closing_lines():
                console().print(line, markup=False)
        return
    chains.check_network(tasks)
    asked = {
        "rank search": list(tasks),
        "seeds": list(seeds),
        "settings": [length, beam, budget, score, *([penalty] if penalty else [])],
        "measure": [chains.measure, chains.layers],
        "stages": [key for task in tasks for key in chains.keys((task,), seeds[0])],
    }
    record |= run_record(chains.planner, chains.store, asked=asked, title=f"rank --search {' '.join(tasks)}", stages=[])
    begun = run_name(asked) in chains.store.all_runs()
    note(chains, record)
    try:
        automatic.run()
    except SpecError:
        if not begun:  # a budget that was refused is no run to go on with
            chains.store.forget({run_name(asked)})
        raise
    ordering = automatic.ordering()
    document = automatic.document(command_of(shared, ordering, start) if ordering else None)
    best = next((row.mean for row in document.finalists if row.ordering == document.ordering), None)
    note(chains, record | {"finished": not document.failed, "balanced_accuracy": best})
    chains.store.keep_result(record, "search", document.to_json())
    files = plotted("search", document.to_json(), shared.plots())
    if shared.json:
        print_json({**document.to_json(), "files": files})
    else:
        print_search(document)
        print_files(files)
    if document.failed:
        raise typer.Exit(FAILED)


def command_of(shared: Shared, ordering: Sequence[str], start: str | None) -> str:
    """The command line that trains an ordering with the options of this one."""
    begin = ["--from", start] if start is not None else []
    parts = {*ordering, "classification", "data", "search"}
    own = [setting for setting in shared.settings or [] if setting.partition(".")[0] in parts]
    if shared.lr != "search" and not any(setting.endswith(".lr=search") for setting in own):
        own = [setting for setting in own if not setting.startswith("search.")]  # of tasks that are not in the ordering
        shared = replace(shared, lr_range=None, lr_pruner=None)
    return shlex.join(["sslcurr", "chain", *ordering, *begin, *given_options(replace(shared, settings=own or None))])
