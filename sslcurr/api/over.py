"""One ranking over several settings: `rank --over`, and searched learning rates against the recipes'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from msgspec import UnsetType, structs

from sslcurr.analysis.results.estimate import target_name
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.api.axes import Axis, Over, axes_of, combinations
from sslcurr.api.foresight import foretell_chains
from sslcurr.api.orderings import Ask, Wanted, chains_overlap, command_of, keep_result, queued_run
from sslcurr.api.session import Session
from sslcurr.api.training import refuse_folds
from sslcurr.errors import Interrupted, SpecError
from sslcurr.progress import Relay

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sslcurr.analysis.experiments.chains import Chain, Chains
    from sslcurr.analysis.experiments.ranking import Results
    from sslcurr.analysis.experiments.variants import RankedVariant
    from sslcurr.analysis.results.forecast.document import ForecastDocument
    from sslcurr.analysis.results.queue.document import QueueDocument
    from sslcurr.analysis.results.ranking.document import Ordering
    from sslcurr.analysis.results.variants.document import VariantsDocument
    from sslcurr.engine.store import Store
    from sslcurr.spec.record import RunRecord


@dataclass(frozen=True)
class Asked:
    """A ranking over settings that was checked, with its images packed.

    Attributes:
        ask, wanted: the tasks, seeds and orderings.
        axes: the settings that are varied.
        sessions: the call under each combination of them.
        variants: the combinations with their rankings, the reference first.
        overlap: reported images that were trained on before.
    """

    ask: Ask
    wanted: Wanted
    axes: list[Axis]
    sessions: list[Session]
    variants: list[RankedVariant]
    overlap: Overlap | UnsetType

    @property
    def chains(self) -> Chains:
        """Those of the reference; all settings share what they need."""
        return self.variants[0].chains

    @property
    def store(self) -> Store:
        """Where all is kept."""
        return self.chains.store

    def certain(self) -> list[Ordering]:
        """The chains that are wanted however the tasks will rank."""
        return [(), *((task,) for task in self.ask.tasks), *self.wanted.certain(self.ask)]

    def record(self, session: Session) -> RunRecord:
        """The record of the call."""
        from sslcurr.engine.runs import run_record

        over = {axis.name: list(axis.words) for axis in self.axes}
        identity = {
            "rank over": list(self.ask.tasks),
            "over": over,
            "seeds": list(self.ask.seeds),
            "orderings": [*self.wanted.words, self.ask.length],
            "measure": [self.chains.measure, self.chains.layers],
            "stages": [
                key
                for each in self.variants
                for task in self.ask.tasks
                for key in each.chains.keys((task,), self.ask.seeds[0])
            ],
        }
        shown = " ".join(f"{name}={','.join(words)}" for name, words in over.items())
        record = run_record(
            self.chains.planner,
            self.store,
            identity=identity,
            title=f"rank {' '.join(self.ask.tasks)} --over {shown}",
            stages=[],
            invocation=session.invocation,
        )
        packs = [name for each in self.variants for name in each.chains.planner.data.packs]
        return structs.replace(record, packs=list(dict.fromkeys(packs)))


class _Once(Relay):
    """Passes on each remark once, as all settings have the same data set."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.reporter)
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """As of the other, where it is new."""
        if text not in self._said:
            self._said.add(text)
            self.report.note(text)

    def counting(self, title: str) -> AbstractContextManager[Any]:
        """As of the other."""
        return self.report.counting(title)


def _prepared(
    session: Session,
    tasks: Sequence[str],
    over: Over,
    against: str | float | None,
    orderings: str | Sequence[str],
    measure: dict[str, Any],
) -> Asked:
    """A ranking over settings, checked, with its images packed.

    Raises:
        SslcurrError: a mistake of the call, of one setting, or settings that are no different.
    """
    from sslcurr.analysis.experiments.ranking import Ranking
    from sslcurr.analysis.experiments.variants import RankedVariant, share_store

    refuse_folds(session, "--over")
    ask = Ask.of(session, tasks, **measure)
    wanted = Wanted.of(ask, orderings, None)
    axes = axes_of(over, against, session.request, ask.tasks)
    if ask.start is not None and (fixed := [axis.name for axis in axes if axis.name in ("backbone", "stem")]):
        raise SpecError(
            f"the weights of --from are of one network, and --over {fixed[0]} wants several",
            f"leave out --from, or --over {fixed[0]}",
        )
    reporter = _Once(session)
    sessions, variants = [], []
    for words, request in combinations(axes, session.request):
        each = replace(session, request=request)
        chains = ask.chains(replace(each, reporter=reporter))
        chains.report = session.reporter
        chains.check_network(ask.tasks)
        sessions.append(each)
        variants.append(RankedVariant(words, Ranking(chains, ask.tasks, ask.seeds)))
    share_store([each.chains for each in variants])
    _check_different(variants, ask)
    return Asked(ask, wanted, axes, sessions, variants, chains_overlap(session, variants[0].chains))


def _check_different(variants: Sequence[RankedVariant], ask: Ask) -> None:
    """Raise SpecError where two settings would train and measure the very same."""
    seen: dict[str, str] = {}
    for each in variants:
        chains = each.chains
        keys = [key for task in ask.tasks for key in chains.keys((task,), ask.seeds[0])]
        # A probe trains nothing of its own that has a key.
        request = chains.planner.request
        probed = () if ask.measure == "finetune" else (request.label_fraction, chains.planner.data.image_size)
        name = repr((keys, probed))
        if name in seen:
            raise SpecError(
                f"{each.title} is the same as {seen[name]}: every stage has the same values",
                "leave one of them out; sslcurr chain --dry-run shows what the recipes give",
            )
        seen[name] = each.title


def rank_over(
    session: Session,
    tasks: Sequence[str] = (),
    *,
    over: Over = (),
    against: str | float | None = None,
    orderings: str | Sequence[str] = (),
    **measure: Any,
) -> VariantsDocument:
    """Rank the tasks, and measure orderings of them, under every combination of settings; see `OverOptions`."""
    from sslcurr.analysis.experiments.chains import note
    from sslcurr.analysis.experiments.progress import ChainsProgress
    from sslcurr.engine.store import run_name

    asked = _prepared(session, tasks, over, against, orderings, measure)
    record, certain = asked.record(session), asked.certain()
    for each in asked.variants:
        each.chains.expect(certain, asked.ask.seeds)
    # Noted before anything is trained: half-done stages of a run that will go on are needed, too.
    note(asked.chains, record)
    progress = ChainsProgress(session.reporter, asked.chains)
    for each in asked.variants:

        def chain_done(chain: Chain, results: Results, title: str = each.title, chains: Chains = each.chains) -> None:
            note(asked.chains, record)  # after each chain: whatever ends this call, its reports are needed by the next
            progress.chain_done(chain, results, title, chains)

        each.ranking.chain_done = chain_done
    with session.filling(asked.store, run_name(record.asked)) as filling:
        for each in asked.variants:
            each.chains.filling = filling
        _fill(asked, [certain] * len(asked.variants))
        try:
            _measure(session, asked, record, progress)
        except (Interrupted, KeyboardInterrupt):
            _show_so_far(session, asked)
            raise
    return _document(session, asked, record)


def _measure(session: Session, asked: Asked, record: RunRecord, progress: Any) -> None:
    """Measure the single tasks under all settings, then the orderings, of which workers hear as soon as they are known.

    Raises:
        Interrupted: a signal asked to stop.
    """
    from sslcurr.analysis.experiments.chains import note

    ask, chosen = asked.ask, []
    singles: list[Ordering] = [(), *((task,) for task in ask.tasks)]
    progress.expect(singles * len(asked.variants), ask.seeds)
    _foretell(session, asked, [asked.certain()] * len(asked.variants))
    for each in asked.variants:
        each.ranking.measure_singles()
        accuracies = each.ranking.singles()
        for task in ask.tasks:
            if task not in accuracies and (asked.wanted.words or ask.length):
                session.reporter.note(
                    f"{each.title}: orderings with {task} are left out: alone it failed at every seed"
                )
        orderings = asked.wanted.chosen(asked.ask, accuracies)
        each.chains.expect(orderings, ask.seeds)
        note(asked.chains, record)
        each.chains.fill([(ordering, seed) for seed in ask.seeds for ordering in orderings])
        chosen.append(orderings)
    for orderings in chosen:
        progress.expect(orderings, ask.seeds)
    _foretell(session, asked, chosen, warns=False)
    for each, orderings in zip(asked.variants, chosen, strict=True):
        each.ranking.measure_orderings(orderings)


def _foretell(session: Session, asked: Asked, orderings: Sequence[Sequence[Ordering]], *, warns: bool = True) -> None:
    """Tell of the stages that are to come under each setting, and how long they take."""
    specs = [
        [spec for seed in asked.ask.seeds for name in names for spec in each.chains.specs(name, seed)]
        for each, names in zip(asked.variants, orderings, strict=True)
    ]
    foretell_chains(session, [each.chains for each in asked.variants], specs, warns=warns)


def _fill(asked: Asked, orderings: Sequence[Sequence[Ordering]]) -> None:
    """Let the chains of all settings be trained in other processes, where several are asked for."""
    for each, names in zip(asked.variants, orderings, strict=True):
        each.chains.fill([(ordering, seed) for seed in asked.ask.seeds for ordering in names])


def _show_so_far(session: Session, asked: Asked) -> None:
    """Tell the tables of the settings under which something was measured."""
    from sslcurr.analysis.experiments.ranking import table_so_far

    for each in asked.variants:
        if each.ranking.results.all():
            table = table_so_far(each.ranking.results, target_name(each.chains.target))
            session.reporter.results_so_far(replace(table, title=f"{table.title}: {each.title}"))


def _document(session: Session, asked: Asked, record: RunRecord) -> VariantsDocument:
    """What was measured, which the store keeps, and its charts."""
    from sslcurr.analysis.experiments.variants import document_of
    from sslcurr.analysis.results.variants import document as results

    axes = [results.Axis(name=axis.name, values=list(axis.words)) for axis in asked.axes]
    commands = [
        command_of(own, curriculum, asked.ask.start) if (curriculum := each.ranking.curriculum()) else None
        for own, each in zip(asked.sessions, asked.variants, strict=True)
    ]
    document = document_of(axes, asked.variants, commands)
    document = session.finished(structs.replace(document, overlap=asked.overlap))
    means = [row.mean for each in document.variants for row in each.chains if row.ordering and row.mean is not None]
    keep_result(session, asked.chains, record, document, max(means, default=None))
    return document


def plan_rank_over(
    session: Session,
    tasks: Sequence[str] = (),
    *,
    over: Over = (),
    against: str | float | None = None,
    orderings: str | Sequence[str] = (),
    **measure: Any,
) -> ForecastDocument:
    """What `rank_over` would train, all settings together, and how long it would take."""
    from sslcurr.analysis.experiments.variants import forecast_variants

    asked = _prepared(session, tasks, over, against, orderings, measure)
    known, chosen = _known(asked), []
    for accuracies in known:
        order = accuracies or dict.fromkeys(asked.ask.tasks, 0.0)
        chosen.append([*((task,) for task in asked.ask.tasks), *asked.wanted.chosen(asked.ask, order)])
    guessed = None in known and asked.wanted.follows_from_ranking
    return session.finished(forecast_variants(asked.variants, chosen, session.runtime, guessed=guessed))


def _known(asked: Asked) -> list[dict[str, float] | None]:
    """The accuracies of the single tasks under each setting, where the store holds all of them."""
    from sslcurr.analysis.experiments.ranking import known_singles

    return [known_singles(each.chains, asked.ask.tasks, asked.ask.seeds) for each in asked.variants]


def queue_rank_over(
    session: Session,
    tasks: Sequence[str] = (),
    *,
    over: Over = (),
    against: str | float | None = None,
    orderings: str | Sequence[str] = (),
    **measure: Any,
) -> QueueDocument:
    """Write down what `rank_over` would train, for workers."""
    asked = _prepared(session, tasks, over, against, orderings, measure)
    known, wanted = _known(asked), []
    for each, accuracies in zip(asked.variants, known, strict=True):
        names = (
            asked.certain() if accuracies is None else [*asked.certain(), *asked.wanted.chosen(asked.ask, accuracies)]
        )
        wanted.append(list(dict.fromkeys(names)))
        each.chains.expect(wanted[-1], asked.ask.seeds)
    if None in known and asked.wanted.follows_from_ranking:
        session.reporter.note("orderings that follow from the ranking: plan again when the single tasks are done")

    def fill() -> None:
        for each in asked.variants:
            each.chains.filling = asked.chains.filling
        _fill(asked, wanted)

    return queued_run(session, asked.chains, asked.record(session), fill)
