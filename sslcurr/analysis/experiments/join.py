"""Documents of `rank` that were made apart, a few seeds at a time, as one: as if they had been measured together."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.predictions import Reported
from sslcurr.analysis.experiments.chains import Chain, FailedChain, MeasuredChain
from sslcurr.analysis.experiments.ranking import Results, document_of
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.measures.intervals import sample
from sslcurr.analysis.results.document import Json
from sslcurr.analysis.results.estimate import Estimate, Run, Summary, measure_of, target_of
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.analysis.results.ranking.document import AttentionFacts, Ordering, RankDocument
from sslcurr.errors import DataError, SpecError
from sslcurr.wording import arrow, counted

# Options of a command line that say where and how it runs, and the seed: results that differ in them are joined.
ELSEWHERE = frozenset(
    {"--data-root", "--dataset", "--runs", "--device", "--workers", "--threads", "--save-minutes", "--tensorboard"}
    | {"--tracker", "--recompute", "--seed", "--masks", "--from", "--allow-overlap", "--skip-broken"}
)
OTHER = "is of another {what}: {ours}, not {theirs}"


@dataclass(frozen=True)
class Given:
    """A document of `rank` with the predictions behind it.

    Attributes:
        name: of its file or run, for messages.
        document: what was measured.
        reported: the images, and which of them each run names rightly.
    """

    name: str
    document: RankDocument
    reported: Reported


@dataclass(frozen=True)
class ReadChain(MeasuredChain):
    """A chain at one seed, as a document has it; `read` is that."""

    read: Run = field(kw_only=True)

    def run(self) -> Run:
        """As documents have it."""
        return self.read


@dataclass(frozen=True)
class Listed:
    """A chain of a document.

    Attributes:
        baseline: its name where it has none of the tasks.
        ordering: its tasks; none for a baseline.
        row: its seeds.
    """

    baseline: str | None
    ordering: Ordering
    row: Summary

    @property
    def title(self) -> str:
        """As in the table of predictions."""
        return self.baseline or arrow(self.ordering)


def chains_in(document: RankDocument) -> Iterator[Listed]:
    """Every chain of a ranking: the baselines, the single tasks, the orderings."""
    for name, row in document.baselines.items():
        yield Listed(name, (), row)
    for task in document.tasks:
        yield Listed(None, (task.task,), task)
    for ordering in document.orderings or ():
        yield Listed(None, tuple(ordering.ordering), ordering)


def tasks_in(documents: Sequence[RankDocument]) -> list[str]:
    """The tasks of rankings of the same tasks, in the order in which their orderings name them first."""
    orderings = [row.ordering for document in documents for row in document.orderings or ()]
    singles = [[row.task] for document in documents for row in document.tasks]
    failed = [failure.ordering for document in documents for failure in document.failed]
    return list(dict.fromkeys(itertools.chain.from_iterable([*orderings, *singles, *failed])))


# ---- what is joined


def results_of(given: Sequence[Given]) -> Results:
    """The chains of all documents over all their seeds.

    Raises:
        SpecError: two documents have other results of a chain at the same seed.
        DataError: predictions are missing, or not those of the document.
    """
    baselines: dict[str, dict[int, tuple[Given, Chain]]] = {}
    chains: dict[Ordering, dict[int, tuple[Given, Chain]]] = {
        (task,): {} for task in tasks_in([each.document for each in given])
    }
    for each in given:
        for listed in chains_in(each.document):
            by_seed = (
                chains.setdefault(listed.ordering, {})
                if listed.baseline is None
                else baselines.setdefault(listed.baseline, {})
            )
            for chain in _chains_of(each, listed):
                _add(by_seed, listed.title, each, chain)
        for failure in each.document.failed:  # also of tasks that failed at every seed, which have no row
            if failure.ordering:
                failed = FailedChain(tuple(failure.ordering), failure.seed, failure.reason)
                chains.setdefault(failed.ordering, {}).setdefault(failed.seed, (each, failed))
    seeds = sorted({seed for each in given for seed in each.document.seeds})
    return Results(
        seeds=seeds,
        baselines={name: _in_order(by_seed) for name, by_seed in baselines.items()},
        chains={name: _in_order(by_seed) for name, by_seed in chains.items() if by_seed},
    )


def _in_order(by_seed: dict[int, tuple[Given, Chain]]) -> list[Chain]:
    return [by_seed[seed][1] for seed in sorted(by_seed)]


def _chains_of(given: Given, listed: Listed) -> Iterator[Chain]:
    """The seeds of a chain in a document, measured and failed."""
    for run in listed.row.runs:
        yield _measured(given, listed, run)
    there = {run.seed for run in listed.row.runs}
    for failure in given.document.failed:
        # The failures of two baselines look alike: each is of the one that lacks the seed.
        if tuple(failure.ordering) == listed.ordering and failure.seed not in there:
            yield FailedChain(listed.ordering, failure.seed, failure.reason)


def _measured(given: Given, listed: Listed, run: Run) -> ReadChain:
    reported = given.reported
    values = reported.values.get((listed.title, run.seed))
    if values is None:
        raise DataError(
            f"{given.name}: there are no predictions of {listed.title}, seed {run.seed}",
            "give the predictions that were written with the document",
        )
    score = float(sample(values[None], reported.images).values[0])
    if len(values) != given.document.num_images or abs(score - run.value) > 1e-6:
        raise DataError(
            f"{given.name}: the predictions of {listed.title}, seed {run.seed}, are not those of the document: "
            f"{measure_of(given.document.target)} {score:.4f} on {counted(len(values), 'image')}, not {run.value:.4f} "
            f"on {given.document.num_images:,}",
            "give the predictions that were written with the document",
        )
    return ReadChain(
        ordering=listed.ordering,
        seed=run.seed,
        score=run.value,
        validation=run.validation,
        values=values,
        target=target_of(given.document.target),
        key=run.key,
        folder=Path(run.predictions).parent,
        read=run,
    )


def _add(by_seed: dict[int, tuple[Given, Chain]], title: str, given: Given, chain: Chain) -> None:
    """Add a chain at a seed; a measured one takes the place of one that failed in another document."""
    before = by_seed.get(chain.seed)
    if before is None or isinstance(before[1], FailedChain):
        by_seed[chain.seed] = (given, chain)
    elif isinstance(chain, MeasuredChain) and isinstance(before[1], MeasuredChain):
        same = before[1].score == chain.score
        if not same or not np.array_equal(before[1].values, chain.values):
            raise SpecError(
                f"{before[0].name} and {given.name} both have {title} at seed {chain.seed}, with other results",
                "leave one of them out, or measure again with other seeds (rank --seed)",
            )


def check_alike(given: Sequence[Given]) -> None:
    """Refuse documents that are no parts of one ranking.

    Raises:
        SpecError: there is one only, or they are of other images, measures, tasks or settings.
    """
    if len(given) < 2:
        raise SpecError("there is one document, and nothing to join it with", "give another, of other seeds")
    first = given[0]
    for other in given[1:]:
        a, b = first.document, other.document
        facts: list[tuple[str, Any, Any]] = [
            ("data set", a.dataset, b.dataset),
            ("split", a.split, b.split),
            ("measure", a.measure, b.measure),
            ("main measure", measure_of(a.target), measure_of(b.target)),
            ("number of images", a.num_images, b.num_images),
            ("choice of tasks", sorted(tasks_in([a])), sorted(tasks_in([b]))),
            ("start", _start(a), _start(b)),
        ]
        for what, theirs, ours in facts:
            if ours != theirs:
                raise _unlike(other, first, what, _shown(ours), _shown(theirs))
        _check_images(first, other)
    asked = [(each, _settings(each.document.command)) for each in given if each.document.command is not None]
    for each, settings in asked[1:]:
        reference, expected = asked[0]
        if settings != expected:
            ours, theirs = _shown(sorted(settings - expected)), _shown(sorted(expected - settings))
            raise _unlike(each, reference, "training", ours, theirs)


def _unlike(given: Given, other: Given, what: str, ours: str, theirs: str) -> SpecError:
    return SpecError(
        f"{given.name} {OTHER.format(what=what, ours=ours, theirs=theirs)} as in {other.name}",
        "join documents that differ in their seeds only",
    )


def _shown(value: Any) -> str:
    return " ".join(value) or "none" if isinstance(value, list) else str(value)


def _start(document: RankDocument) -> list[str]:
    """What the chains begin with: `scratch`, or `start` and the key of its weights."""
    names = [name for name in document.baselines if name != "ImageNet"]
    return names if isinstance(document.start, UnsetType) else [*names, document.start]


def _check_images(first: Given, other: Given) -> None:
    a, b = first.reported, other.reported
    for what, same in (
        ("images", np.array_equal(a.paths, b.paths)),
        ("classes" if a.is_of_classes else "labels", a.label_texts() == b.label_texts()),
        ("groups", _are_equal(a.groups, b.groups)),
        ("folds", _are_equal(a.folds, b.folds)),
    ):
        if not same:
            raise SpecError(
                f"the {what} that {other.name} reports are not those of {first.name}",
                "both need the same images, divided in the same way (data.seed, data.val, data.test, --folds)",
            )


def _are_equal(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    """Whether both are there and equal, or neither is there."""
    return a is b if a is None or b is None else np.array_equal(a, b)


def _settings(command: str | None) -> frozenset[str]:
    """The options of a command line that results depend on, each with its value."""
    words = shlex.split(command or "")
    found = set()
    for place, word in enumerate(words):
        if word.startswith("--") and word not in ELSEWHERE:
            following = words[place + 1 : place + 2]
            found.add(" ".join([word, *(text for text in following if not text.startswith("--"))]))
    return frozenset(found)


# ---- the document


def joined(given: Sequence[Given], predictions: str) -> RankDocument:
    """One document of all seeds, with every figure computed anew.

    Args:
        given: documents that `check_alike` let pass.
        predictions: path of the table with the predictions of all.

    Raises:
        SpecError, DataError: as `results_of`.
    """
    documents = [each.document for each in given]
    first, reported = given[0].document, given[0].reported
    document = document_of(
        results_of(given),
        reported.images,
        dataset=first.dataset,
        measure=first.measure,
        split=first.split,
        target=target_of(first.target),
    )
    facts = attention_of_all(documents)
    command = _command(documents, document.curriculum)
    overlap = _overlap(documents)
    document = replace(document, command=command, attention=facts, overlap=overlap, start=first.start)
    return _with_rows(document, lambda row: _row(row, predictions, has_attention=not isinstance(facts, UnsetType)))


def _with_rows(document: RankDocument, change: Callable[[Any], Any]) -> RankDocument:
    """The document with every chain changed."""
    orderings = document.orderings
    return replace(
        document,
        tasks=[change(row) for row in document.tasks],
        baselines={name: change(row) for name, row in document.baselines.items()},
        orderings=orderings if isinstance(orderings, UnsetType) else [change(row) for row in orderings],
    )


def _row(row: Summary, predictions: str, *, has_attention: bool) -> Summary:
    """A chain whose predictions are in the common table, with the attention that its runs have."""
    runs = [
        replace(run, predictions=predictions, attention=run.attention if has_attention else UNSET) for run in row.runs
    ]
    values = [run.attention for run in runs if isinstance(run.attention, float)]
    if not has_attention or not runs:
        return replace(row, runs=runs)
    # Without the maps of each image nothing is known of the luck of images: there is no interval.
    mean = mean_accuracy(values) if values else None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return replace(row, runs=runs, attention=Estimate(mean=mean, std=std, interval=None))


def attention_of_all(documents: Sequence[RankDocument]) -> AttentionFacts | UnsetType:
    """How attention was measured; unset where a run has none, or where it was measured in other ways."""
    runs = [run for document in documents for listed in chains_in(document) for run in listed.row.runs]
    facts = [document.attention for document in documents]
    known = [each for each in facts if isinstance(each, AttentionFacts)]
    ways = {(each.method, each.target, each.layer, each.num_images) for each in known}
    if len(known) < len(facts) or len(ways) != 1 or any(isinstance(run.attention, UnsetType) for run in runs):
        return UNSET
    return known[0]


def _overlap(documents: Sequence[RankDocument]) -> Overlap | UnsetType:
    """The reported images that were trained on before: of the document that has most, with all that is not known."""
    known = [document.overlap for document in documents if isinstance(document.overlap, Overlap)]
    if not known:
        return UNSET
    most = max(known, key=lambda overlap: (overlap.images, overlap.copies))
    unknown = [sentence for overlap in known for sentence in overlap.unknown]
    if len(known) < len(documents):
        unknown.append("one of the joined documents is of an older sslcurr, which did not look for it")
    return replace(most, unknown=list(dict.fromkeys(unknown)))


def _command(documents: Sequence[RankDocument], curriculum: Sequence[str]) -> str | None:
    """The command line that trains the curriculum: that of the lowest seeds with these tasks, in their new order."""
    for document in sorted(documents, key=lambda document: min(document.seeds)):
        words = shlex.split(document.command or "")
        end = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
        if curriculum and sorted(words[2:end]) == sorted(curriculum):
            return shlex.join([*words[:2], *curriculum, *words[end:]])
    return None


def remarks_of(document: RankDocument, given: Sequence[Given]) -> list[str]:
    """What a person should hear of a joined document: chains that lack seeds, attention that could not be joined."""
    failed = {(tuple(failure.ordering), failure.seed) for failure in document.failed}
    remarks = []
    for listed in chains_in(document):
        there = {run.seed for run in listed.row.runs}
        lacking = [seed for seed in document.seeds if seed not in there and (listed.ordering, seed) not in failed]
        if lacking:
            seeds = ", ".join(map(str, lacking))
            remarks.append(f"{listed.title} is in no document at seed {seeds}: it keeps the seeds that it has")
    any_attention = any(isinstance(each.document.attention, AttentionFacts) for each in given)
    if any_attention and isinstance(document.attention, UnsetType):
        remarks.append("attention is left out: not every run has it, or it was measured in other ways")
    return remarks


def identity_of(documents: Iterable[RankDocument]) -> list[Json]:
    """What identifies documents: all that was measured, without paths and command lines."""
    kept = []
    for document in documents:
        plain = _with_rows(document, lambda row: _row_without_paths(row)).to_json()
        kept.append({name: value for name, value in plain.items() if name not in ("command", "schema", "invocation")})
    return kept


def _row_without_paths(row: Summary) -> Summary:
    return replace(row, runs=[replace(run, predictions="") for run in row.runs])
