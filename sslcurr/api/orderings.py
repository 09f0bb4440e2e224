"""Many chains: rankings of tasks, orderings of them, shares of images and labels."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType, structs

from sslcurr.analysis.results.estimate import target_name
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.api.foresight import foretell_chains
from sslcurr.api.overlap import checked_overlap, joined
from sslcurr.api.session import Session
from sslcurr.api.training import check_folds, refuse_folds, refuse_tuning
from sslcurr.errors import Interrupted, SpecError
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import Json, key_of
from sslcurr.spec.target import TARGET, TARGET_TASKS

if TYPE_CHECKING:
    from sslcurr.analysis.experiments.chains import Chain, Chains
    from sslcurr.analysis.experiments.grid import Grid
    from sslcurr.analysis.experiments.ranking import Results
    from sslcurr.analysis.results.forecast.document import ForecastDocument
    from sslcurr.analysis.results.grid.document import GridDocument
    from sslcurr.analysis.results.queue.document import QueueDocument
    from sslcurr.analysis.results.ranking.document import Ordering, RankDocument
    from sslcurr.engine.plan import Parent
    from sslcurr.spec.record import RunRecord

# The four of the study's table (https://arxiv.org/abs/2301.10687).
DEFAULT_TASKS = ("relative-location", "mocov2", "swav", "rotation")
FROM_RANKING = {"curriculum", "anti"}
SHARES = (1.0, 0.5, 0.25, 0.125)
# The options of a command line that trains an ordering, in the order in which they are written.
OPTIONS = (
    *("data_root", "path_column", "label_column", "group_column", "split_column", "target_kind", "unlabelled"),
    *("image_size", "skip_broken", "frames", "runs", "device", "workers", "threads", "dataset", "fraction"),
    *("label_fraction", "backbone", "stem", "epochs", "batch_size", "lr", "lr_range", "lr_pruner", "seed", "folds"),
    *("freeze", "layer_decay"),
    *("settings", "precision", "save_minutes", "tensorboard", "tracker", "recompute", "gpu", "masks", "allow_overlap"),
)

WRITTEN = {"settings": "--set", "target_kind": "--target"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a ranking or a search was asked for, checked.

    Attributes:
        tasks: the pretext tasks.
        seeds: those of every chain.
        measure: `finetune`, `linear` or `knn`.
        layers: the layers that a probe looks at, a pattern of names.
        length: most tasks of an ordering; None is all of them.
        start: a checkpoint that every chain starts from.
    """

    tasks: tuple[str, ...]
    seeds: range
    measure: str
    layers: str
    length: int | None
    start: str | None

    @classmethod
    def of(
        cls,
        session: Session,
        tasks: Sequence[str],
        *,
        seeds: int = 3,
        measure: str = "finetune",
        layers: str = "*",
        length: int | None = None,
        start: str | None = None,
    ) -> Ask:
        """What is asked for, with the study's tasks where none are named.

        Raises:
            SpecError: a task is unknown or named twice, or masks are given for a probe.
        """
        from sslcurr.tasks import check_pretext

        names = tuple(tasks) or DEFAULT_TASKS
        check_pretext(names)
        if len(set(names)) < len(names):
            raise SpecError(
                "a task is named twice", "name each task once; --orderings says in which orders they are trained"
            )
        if measure != "finetune":
            refuse_tuning(session, f"--measure {measure}")
        check_folds(session)
        first = session.request.seed
        return cls(
            tasks=names,
            seeds=range(first, first + seeds),
            measure=measure,
            layers=layers,
            length=length,
            start=start,
        )

    def chains(self, session: Session) -> Chains:
        """Trains and measures the chains; the data is packed."""
        from sslcurr.analysis.experiments.chains import Chains
        from sslcurr.analysis.experiments.folds import SPLIT, FoldedChains

        planner = session.planner([*self.tasks, TARGET], self.start)
        chains = (FoldedChains if session.request.folds else Chains)(
            planner,
            session.store(),
            lambda: session.runtime,
            session.reporter,
            measure=self.measure,
            layers=self.layers,
            device=session.device,
        )
        if chains.split not in ("test", SPLIT):
            session.reporter.note(f"there are no test images: all accuracies are of the {chains.split} images")
        return chains


# ---- rankings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The orderings of a ranking, and what its chains are compared with.

    Attributes:
        words: as `--orderings` takes them.
        imagenet: weights to compare with.
    """

    words: tuple[str, ...] = ()
    imagenet: str | None = None

    @classmethod
    def of(cls, ask: Ask, orderings: str | Sequence[str], imagenet: str | None) -> Wanted:
        """The orderings that are asked for.

        Raises:
            SpecError: there are none such, or a word is unknown.
        """
        from sslcurr.analysis.experiments.orderings import check_words, chosen_orderings

        words = (orderings,) if isinstance(orderings, str) else tuple(orderings)
        check_words(words, ask.tasks)
        chosen = chosen_orderings(words, ask.tasks, ask.length, dict.fromkeys(ask.tasks, 0.0))
        if words and not chosen:
            raise SpecError(
                f"there is no ordering that --orderings {' '.join(words)} asks for, of {len(ask.tasks)} tasks",
                "name more tasks, or give a larger --length",
            )
        if ask.measure == "finetune" and ask.layers != "*":
            raise SpecError("--layers is for probes", "add --measure linear or knn")
        return cls(words=words, imagenet=imagenet)

    @property
    def follows_from_ranking(self) -> bool:
        """Whether some orderings are known only once the tasks are ranked."""
        return any(FROM_RANKING & set(word.split(",")) for word in self.words)

    def certain(self, ask: Ask) -> list[Ordering]:
        """The orderings that are wanted however the tasks will rank."""
        from sslcurr.analysis.experiments.orderings import chosen_orderings

        words = [word for word in self.words if not FROM_RANKING & set(word.split(","))]
        if self.words and not words:
            return []
        return chosen_orderings(words, ask.tasks, ask.length, dict.fromkeys(ask.tasks, 0.0)) or []

    def chosen(self, ask: Ask, accuracies: Mapping[str, float]) -> list[Ordering]:
        """The orderings of the tasks whose accuracies are known; those with another task are left out."""
        from sslcurr.analysis.experiments.orderings import chosen_orderings

        chosen = chosen_orderings(self.words, list(accuracies), ask.length, accuracies) or []
        return [ordering for ordering in chosen if set(ordering) <= set(accuracies)]

    def reference(self, session: Session, chains: Chains) -> Parent | None:
        """The weights to compare with.

        Raises:
            SpecError: they are of another network.
        """
        from sslcurr.engine.models import parent_from

        if self.imagenet is None:
            return None
        reference = parent_from(self.imagenet, chains.store, session.request.backbone, session.request.stem)
        if reference.backbone != chains.planner.backbone(chains.planner.parent):
            raise SpecError(
                "the weights of --imagenet are of another network", "give the same --backbone, --stem and channels"
            )
        return reference


def rank(
    session: Session,
    tasks: Sequence[str],
    *,
    orderings: str | Sequence[str] = (),
    imagenet: str | None = None,
    watch: bool = False,
    **measure: Any,
) -> RankDocument:
    """Train each task alone, rank the tasks, and measure orderings of them; see `RankOptions`."""
    from sslcurr.analysis.experiments.chains import note
    from sslcurr.analysis.experiments.progress import ChainsProgress
    from sslcurr.analysis.experiments.ranking import Ranking, table_so_far
    from sslcurr.engine.store import run_name

    ask, wanted, chains, reference = _prepared(session, tasks, orderings, imagenet, measure)
    overlap = chains_overlap(session, chains, reference)
    chains.check_network(ask.tasks)
    record = _rank_record(session, chains, ask, wanted, reference)
    singles = [(task,) for task in ask.tasks]
    certain = wanted.certain(ask)
    # Noted before anything is trained: half-done stages of a run that will go on are needed, too.
    chains.expect([(), *singles, *certain], ask.seeds, reference)
    note(chains, record)

    def show(results: Results) -> None:
        session.reporter.results_so_far(table_so_far(results, target_name(chains.target)))

    progress = ChainsProgress(session.reporter, chains, show if watch else None)

    def chain_done(chain: Chain, results: Results) -> None:
        note(chains, record)  # after each chain: whatever ends this call, its reports are needed by the next
        progress.chain_done(chain, results)

    ranking = Ranking(chains, ask.tasks, ask.seeds, imagenet=reference, chain_done=chain_done)
    with session.filling(chains.store, run_name(record.asked)) as chains.filling:
        _fill(chains, ask, [(), *singles, *certain], reference)
        try:
            progress.expect([(), *singles], ask.seeds, reference)
            _foretell(session, chains, ask, [(), *singles, *certain], reference)
            ranking.measure_singles()
            accuracies = ranking.singles()
            for task in ask.tasks:
                if task not in accuracies and (wanted.words or ask.length):
                    session.reporter.note(f"orderings with {task} are left out: alone it failed at every seed")
            chosen = wanted.chosen(ask, accuracies)
            progress.expect(chosen, ask.seeds)
            _foretell(session, chains, ask, chosen, warns=False)
            chains.expect(chosen, ask.seeds)
            note(chains, record)
            _fill(chains, ask, chosen)
            ranking.measure_orderings(chosen)
        except (Interrupted, KeyboardInterrupt):
            if not watch:
                show(ranking.results)
            raise
    curriculum = ranking.curriculum()
    command = command_of(session, curriculum, ask.start) if curriculum else None
    start = UNSET if chains.planner.parent.key is None else chains.planner.parent.key
    document = session.finished(structs.replace(ranking.document(command), overlap=overlap, start=start))
    best = max((row.mean for row in document.tasks if row.mean is not None), default=None)
    keep_result(session, chains, record, document, best)
    return document


def _foretell(
    session: Session,
    chains: Chains,
    ask: Ask,
    orderings: Sequence[Ordering],
    reference: Parent | None = None,
    *,
    warns: bool = True,
) -> None:
    """Tell of the stages that are to come, and how long they take."""
    specs = [spec for seed in ask.seeds for ordering in orderings for spec in chains.specs(ordering, seed)]
    if reference is not None:
        specs += [spec for seed in ask.seeds for spec in chains.specs((), seed, reference)]
    foretell_chains(session, [chains], [specs], warns=warns)


def _fill(chains: Chains, ask: Ask, orderings: Sequence[Ordering], reference: Parent | None = None) -> None:
    """Let chains be trained in other processes, where several are asked for."""
    chains.fill([(ordering, seed) for seed in ask.seeds for ordering in orderings])
    if reference is not None:
        chains.fill([((), seed) for seed in ask.seeds], reference)


def queue_rank(
    session: Session,
    tasks: Sequence[str],
    *,
    orderings: str | Sequence[str] = (),
    imagenet: str | None = None,
    watch: bool = False,
    **measure: Any,
) -> QueueDocument:
    """Write down what `rank` would train, for workers."""
    from sslcurr.analysis.experiments.orderings import chosen_orderings
    from sslcurr.analysis.experiments.ranking import known_singles

    ask, wanted, chains, reference = _prepared(session, tasks, orderings, imagenet, measure)
    chains_overlap(session, chains, reference)
    chains.check_network(ask.tasks)
    record = _rank_record(session, chains, ask, wanted, reference)
    accuracies = known_singles(chains, ask.tasks, ask.seeds)
    if accuracies is None:
        chosen = wanted.certain(ask)
        if wanted.follows_from_ranking:
            session.reporter.note("orderings that follow from the ranking: plan again when the single tasks are done")
    else:
        chosen = chosen_orderings(wanted.words, ask.tasks, ask.length, accuracies) or []
    every = [(), *((task,) for task in ask.tasks), *chosen]
    chains.expect(every, ask.seeds, reference)
    return queued_run(session, chains, record, lambda: _fill(chains, ask, every, reference))


def plan_rank(
    session: Session,
    tasks: Sequence[str],
    *,
    orderings: str | Sequence[str] = (),
    imagenet: str | None = None,
    watch: bool = False,
    **measure: Any,
) -> ForecastDocument:
    """What `rank` would train, and how long it would take."""
    from sslcurr.analysis.experiments.forecast import forecast_ranking
    from sslcurr.analysis.experiments.orderings import chosen_orderings
    from sslcurr.analysis.experiments.ranking import known_singles

    ask, wanted, chains, reference = _prepared(session, tasks, orderings, imagenet, measure)
    chains_overlap(session, chains, reference)
    accuracies = known_singles(chains, ask.tasks, ask.seeds)
    order = accuracies or dict.fromkeys(ask.tasks, 0.0)
    singles: list[Ordering] = [(task,) for task in ask.tasks]
    chosen = [*singles, *(chosen_orderings(wanted.words, ask.tasks, ask.length, order) or [])]
    return session.finished(
        forecast_ranking(
            chains,
            chosen,
            ask.seeds,
            session.runtime,
            reference=reference,
            guessed=accuracies is None and wanted.follows_from_ranking,
        )
    )


def _prepared(
    session: Session, tasks: Sequence[str], orderings: str | Sequence[str], imagenet: str | None, measure: Json
) -> tuple[Ask, Wanted, Chains, Parent | None]:
    """A ranking that was checked, its chains, and the weights that they are compared with."""
    ask = Ask.of(session, tasks, **measure)
    wanted = Wanted.of(ask, orderings, imagenet)
    chains = ask.chains(session)
    return ask, wanted, chains, wanted.reference(session, chains)


def _rank_record(session: Session, chains: Chains, ask: Ask, wanted: Wanted, reference: Parent | None) -> RunRecord:
    from sslcurr.engine.runs import run_record

    identity = {
        "rank": list(ask.tasks),
        "seeds": list(ask.seeds),
        "orderings": [*wanted.words, ask.length],
        "measure": [chains.measure, chains.layers],
        "imagenet": reference.key if reference else None,
        "stages": [key for task in ask.tasks for key in chains.keys((task,), ask.seeds[0])],
    }
    title = f"rank {' '.join(ask.tasks)}"
    return run_record(
        chains.planner, chains.store, identity=identity, title=title, stages=[], invocation=session.invocation
    )


# ---- shares of images and labels


def grid(
    session: Session,
    tasks: Sequence[str],
    *,
    ssl_fractions: Sequence[float] = SHARES,
    label_fractions: Sequence[float] = SHARES,
    seeds: int = 3,
    baseline: bool = False,
) -> GridDocument:
    """Train a chain on shares of the images and of the labels; see `GridOptions`."""
    from sslcurr.analysis.experiments.chains import FailedChain, Shares, note
    from sslcurr.analysis.results.estimate import share
    from sslcurr.engine.store import run_name

    def chain_done(chain: Chain, cell: Shares) -> None:
        result = f"failed: {chain.reason}" if isinstance(chain, FailedChain) else f"{share(chain.score)} %"
        if isinstance(chain, FailedChain):
            specs = table.chains.specs(chain.ordering, chain.seed, shares=cell)
            session.reporter.leaves([key_of(spec) for spec in specs if table.chains.missing([spec])])
        images = "scratch" if cell.ssl_fraction is None else f"images {cell.ssl_fraction:g}"
        note(chains, record)  # whatever ends this call, its reports are needed by the next
        session.reporter.say(f"labels {cell.label_fraction:g}, {images}, seed {chain.seed}: {result}")

    table = _grid(session, tasks, ssl_fractions, label_fractions, seeds, baseline, chain_done=chain_done)
    chains = table.chains
    overlap = chains_overlap(session, chains)
    chains.check_network(table.tasks)
    chains.need(table.specs())
    record = _grid_record(session, table)
    note(chains, record)
    foretell_chains(session, [chains], [[spec for specs in table.specs() for spec in specs]])
    with session.filling(chains.store, run_name(record.asked)) as chains.filling:
        table.fill()
        table.measure()
    document = session.finished(structs.replace(table.document(), overlap=overlap))
    keep_result(session, chains, record, document, None)
    return document


def _grid_record(session: Session, table: Grid) -> RunRecord:
    from sslcurr.engine.runs import run_record

    chains = table.chains
    identity = {"grid": list(table.tasks), "stages": sorted(chains.needed)}
    title = f"grid {' '.join(table.tasks)}"
    return run_record(
        chains.planner, chains.store, identity=identity, title=title, stages=[], invocation=session.invocation
    )


def queue_grid(
    session: Session,
    tasks: Sequence[str],
    *,
    ssl_fractions: Sequence[float] = SHARES,
    label_fractions: Sequence[float] = SHARES,
    seeds: int = 3,
    baseline: bool = False,
) -> QueueDocument:
    """Write down what `grid` would train, for workers."""
    table = _grid(session, tasks, ssl_fractions, label_fractions, seeds, baseline)
    chains_overlap(session, table.chains)
    table.chains.check_network(table.tasks)
    table.chains.need(table.specs())
    return queued_run(session, table.chains, _grid_record(session, table), table.fill)


def plan_grid(
    session: Session,
    tasks: Sequence[str],
    *,
    ssl_fractions: Sequence[float] = SHARES,
    label_fractions: Sequence[float] = SHARES,
    seeds: int = 3,
    baseline: bool = False,
) -> ForecastDocument:
    """What `grid` would train, and how long it would take."""
    from sslcurr.analysis.experiments.forecast import forecast

    table = _grid(session, tasks, ssl_fractions, label_fractions, seeds, baseline)
    return session.finished(forecast(table.chains, table.specs(), session.runtime))


def _grid(
    session: Session,
    tasks: Sequence[str],
    ssl_fractions: Sequence[float],
    label_fractions: Sequence[float],
    seeds: int,
    baseline: bool,
    **hooks: Callable[..., None],
) -> Grid:
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.analysis.experiments.grid import Grid, cells_of, check_fractions
    from sslcurr.tasks import check_pretext

    check_pretext(tasks)
    refuse_folds(session, "grid")
    check_fractions("--ssl-fractions", ssl_fractions)
    check_fractions("--label-fractions", label_fractions)
    request = session.request
    if (request.fraction, request.label_fraction) != (1.0, 1.0):
        raise SpecError("grid has shares of its own", "give --ssl-fractions and --label-fractions instead")
    cells_of(label_fractions, ssl_fractions, baseline=baseline)  # a mistake is heard of before images are decoded
    planner = session.planner([*tasks, TARGET])
    chains = Chains(planner, session.store(), lambda: session.runtime, session.reporter, device=session.device)
    numbers = range(request.seed, request.seed + seeds)
    return Grid(chains, tasks, numbers, label_fractions, ssl_fractions, baseline=baseline, **hooks)


# ---- what they have in common


def chains_overlap(session: Session, chains: Chains, reference: Parent | None = None) -> Overlap | UnsetType:
    """The reported images that the start of the chains, or weights to compare with, were trained on.

    Raises:
        DataError: there are some, and that is not allowed.
    """
    parents = [chains.planner.parent, *([] if reference is None else [reference])]
    weights = [parent.named_weights for parent in parents]
    overlaps = [
        checked_overlap(session, weights, part.planner.data.spec(1.0), part.selection, part.store, part.split)
        for part in chains.parts
    ]
    found = [each for each in overlaps if isinstance(each, Overlap)]
    return joined(found) if found else UNSET


def queued_run(session: Session, chains: Chains, record: RunRecord, fill: Callable[[], None]) -> QueueDocument:
    """Write the plan of a run whose jobs `fill` tells."""
    from sslcurr.analysis.experiments.chains import note
    from sslcurr.api.queues import queued
    from sslcurr.engine.plans import Plan
    from sslcurr.engine.store import run_name

    note(chains, record)
    chains.filling = plan = Plan(run_name(record.asked), session.invocation, chains.store)
    fill()
    return queued(session, chains.store, plan)


def keep_result(session: Session, chains: Chains, record: RunRecord, document: Any, best: float | None) -> None:
    """Keep what was found, and draw it."""
    from sslcurr.analysis.experiments.chains import note

    record = structs.replace(record, finished=not document.failed).scored(best, chains.target)
    note(chains, record)
    session.keep(chains.store, record, document)
    session.draw(document)


def command_of(session: Session, ordering: Sequence[str], start: str | None) -> str:
    """The command line that trains an ordering with the options of this call."""
    values = {name: getattr(session.request, name) for name in (item.name for item in fields(Request))}
    values |= {name: getattr(session.runtime, name) for name in (item.name for item in fields(Runtime))}
    values["runs"] = session.runs
    defaults = {item.name: item.default for kind in (Request, Runtime) for item in fields(kind)}
    defaults["runs"] = Path("runs")
    parts = {*ordering, *TARGET_TASKS, "data", "search"}
    settings = [setting for setting in values["settings"] if setting.partition(".")[0] in parts]
    if values["lr"] != "search" and not any(setting.endswith(".lr=search") for setting in settings):
        settings = [setting for setting in settings if not setting.startswith("search.")]
        values |= {"lr_range": None, "lr_pruner": None}  # of tasks that are not in the ordering
    values["settings"] = settings
    arguments = ["--from", start] if start is not None else []
    for name in OPTIONS:
        value = values[name]
        if name in ("unlabelled", "tracker"):
            arguments += [part for each in value for part in (f"--{name}", each)]
            continue
        option = WRITTEN.get(name) or f"--{name.replace('_', '-')}"
        if name == "settings":
            arguments += [part for setting in settings for part in (option, setting)]
        elif value is True:
            arguments.append(option)
        elif value is not None and value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            arguments += [option, text]
    return shlex.join(["sslcurr", "chain", *ordering, *arguments])
