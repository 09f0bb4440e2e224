"""The automatic curriculum: a good ordering found without training them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType, structs

from sslcurr.api.orderings import Ask, chains_overlap, command_of, keep_result
from sslcurr.api.session import Session
from sslcurr.api.training import refuse_folds
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.analysis.experiments.beam import BeamSearch
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.analysis.experiments.search import Search
    from sslcurr.analysis.experiments.search_settings import SearchSettings
    from sslcurr.analysis.experiments.strategies import Run
    from sslcurr.analysis.results.search.document import SearchDocument
    from sslcurr.analysis.results.search_forecast.document import SearchForecastDocument
    from sslcurr.spec.record import RunRecord
    from sslcurr.spec.stage import Json


def search(session: Session, tasks: Sequence[str], **how: Any) -> SearchDocument:
    """Find a good ordering without training them all; see `SearchOptions`."""
    from sslcurr.analysis.experiments.chains import note
    from sslcurr.engine.store import run_name

    ask, settings = _asked(session, tasks, how)
    chains = ask.chains(session)
    overlap = chains_overlap(session, chains)
    record, by_run = _record(session, chains, ask, settings)
    begun = run_name(record.asked) in chains.store.all_runs()
    looking: Search | BeamSearch = _search(session, chains, ask, settings, record, by_run)
    chains.check_network(ask.tasks)
    note(chains, record)
    try:
        with session.filling(chains.store, run_name(record.asked)) as chains.filling:
            looking.run()
    except SpecError:
        if not begun:  # a budget that was refused is no run to go on with
            chains.store.forget({run_name(record.asked)})
        raise
    ordering = looking.ordering()
    command = command_of(session, ordering, ask.start) if ordering else None
    document = session.finished(structs.replace(looking.document(command), overlap=overlap))
    best = next((row.mean for row in document.finalists if row.ordering == document.ordering), None)
    keep_result(session, chains, record, document, best)
    return document


def plan_search(session: Session, tasks: Sequence[str], **how: Any) -> SearchForecastDocument:
    """What `search` would spend at most."""
    from sslcurr.analysis.experiments.search_settings import forecast

    ask, settings = _asked(session, tasks, how)
    chains = ask.chains(session)
    chains_overlap(session, chains)
    return session.finished(forecast(chains, ask.tasks, ask.seeds, settings))


def _asked(session: Session, tasks: Sequence[str], how: Json) -> tuple[Ask, SearchSettings]:
    """What is asked for, checked, before any image is read.

    Raises:
        SpecError: there is one task only, or a setting cannot be.
    """
    from sslcurr.analysis.experiments.search_settings import SearchSettings

    own = {
        name: how.pop(name) for name in list(how) if name in SearchSettings.__dataclass_fields__ and name != "length"
    }
    refuse_folds(session, "a search")
    ask = Ask.of(session, tasks, **how)
    if len(ask.tasks) < 2:
        raise SpecError("one task has one ordering", "give two tasks or more")
    own["side"] = tuple(dict.fromkeys(own.get("side", ())))
    if own.get("batch") is None:
        own["batch"] = session.num_workers
    length = len(ask.tasks) if ask.length is None else min(len(ask.tasks), ask.length)
    return ask, SearchSettings(length=length, **own)


def _record(
    session: Session, chains: Chains, ask: Ask, settings: SearchSettings
) -> tuple[RunRecord, Mapping[Run, list[str]]]:
    """The record of a search, which says which stages the store held when it began; and the keys of runs, if any."""
    from sslcurr.analysis.experiments.search_settings import held_by, keys_by_run
    from sslcurr.engine.runs import run_record
    from sslcurr.engine.store import run_name

    if settings.by_probes:
        how = [settings.length, settings.beam, settings.budget, settings.score]
        how += [settings.penalty] if settings.penalty else []
    else:
        how = [settings.strategy, settings.length, settings.budget, settings.tolerance, settings.confidence]
        how += [settings.batch, settings.as_if_empty, settings.beam, *settings.side]
    identity = {
        "rank search": list(ask.tasks),
        "seeds": list(ask.seeds),
        "settings": how,
        "measure": [chains.measure, chains.layers],
        "stages": [key for task in ask.tasks for key in chains.keys((task,), ask.seeds[0])],
    }
    title = f"rank --search {' '.join(ask.tasks)}"
    record = run_record(
        chains.planner, chains.store, identity=identity, title=title, stages=[], invocation=session.invocation
    )
    if settings.by_probes or settings.as_if_empty:
        return record, {}
    earlier = chains.store.all_runs().get(run_name(identity))
    # A search that goes on counts costs as when it began: else it would decide otherwise.
    held: list[str] | UnsetType = UNSET if earlier is None else earlier.held
    begins = isinstance(held, UnsetType)
    by_run = (
        keys_by_run(chains, ask.tasks, settings.length, ask.seeds) if held or (begins and chains.store.all()) else {}
    )
    return structs.replace(record, held=held_by(chains.store, by_run) if begins else held), by_run


def _search(
    session: Session,
    chains: Chains,
    ask: Ask,
    settings: SearchSettings,
    record: RunRecord,
    by_run: Mapping[Run, list[str]],
) -> Search | BeamSearch:
    from sslcurr.analysis.evaluation.similarity import dissimilarity
    from sslcurr.analysis.experiments.beam import BeamSearch
    from sslcurr.analysis.experiments.chains import note
    from sslcurr.analysis.experiments.search import Search
    from sslcurr.analysis.experiments.search_settings import costing_nothing

    def need_changed() -> None:
        note(chains, record)

    def said(text: str) -> None:
        need_changed()
        session.reporter.say(text)

    if settings.by_probes:
        unlike = dissimilarity(chains.planner.data, chains.store, session.device) if settings.penalty else None
        return BeamSearch(
            chains,
            ask.tasks,
            ask.seeds,
            settings,
            dissimilarity=unlike,
            candidate_done=said,
            need_changed=need_changed,
        )
    held, free = costing_nothing(by_run, record.held or (), chains.measure)
    return Search(chains, ask.tasks, tuple(ask.seeds), settings, held, free, said, need_changed)
