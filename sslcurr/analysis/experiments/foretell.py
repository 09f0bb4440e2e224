"""What foretells the accuracy of a chain: accuracies of its tasks alone, how alike they are, how far from the data.

The study's open question (its sections 4.1 to 4.3, https://arxiv.org/abs/2112.12086). Pure functions on arrays.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.experiments.hypothesis import AT_ONCE, BEST, PREDICTIONS, Judged, predicted
from sslcurr.analysis.measures.intervals import Floats
from sslcurr.analysis.results.distances.document import DistancesDocument
from sslcurr.analysis.results.explanation.document import ACCURACY, DISTANCE, SIMILARITY
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.similarity.document import SimilarityDocument
from sslcurr.errors import SpecError
from sslcurr.seeds import numpy_generator

# What a slope is shrunk by: as much as one chain that lies a standard deviation from the mean.
RIDGE = 1.0
# CKA values of middle tasks that differ by less have no slope.
LEAST_RANGE = 0.02
NEIGHBOURS, LEAST, MEAN, LAST = "neighbours", "least", "mean", "last"
# What tells models of one title apart (engine/models.py: seeds, keys, numbers).
DISTINCTION = re.compile(r" \((?:seed \d+|[0-9a-f]{6}|\d+)\)$")

Similarities = Mapping[frozenset[str], float]


# ---- what is known of tasks


def task_of(title: str, *, started: bool = False) -> str:
    """The chain that a model of that title went through, without what tells equal ones apart.

    Args:
        title: what tables call the model.
        started: it went on from weights, whose chain is left out but for its last task.
    """
    chain = DISTINCTION.sub("", title)
    return chain.rpartition(" -> ")[2] if started else chain


def similarities_of(
    documents: Sequence[SimilarityDocument], tasks: Sequence[str], *, started: bool = False
) -> dict[frozenset[str], float]:
    """Two tasks -> CKA of the models that each alone made: the mean over layers, over models of several seeds.

    Args:
        documents: of `cka`.
        tasks: those of the ranking.
        started: its chains start from weights.

    Raises:
        SpecError: two of the tasks are not compared.
    """
    values: dict[frozenset[str], list[float]] = {}
    for document in documents:
        for pair in document.pairs:
            names = frozenset((task_of(pair.a, started=started), task_of(pair.b, started=started)))
            layers = [layer.cka for layer in pair.layers if layer.cka is not None]
            if len(names) == 2 and names <= set(tasks) and layers:
                values.setdefault(names, []).append(float(np.mean(layers)))
    for a, b in itertools.combinations(tasks, 2):
        if frozenset((a, b)) not in values:
            raise SpecError(
                f"no similarity of the models of {a} alone and {b} alone is given",
                "compare the pretrained stage of every task: sslcurr cka KEY KEY... (sslcurr runs --stages lists keys)",
            )
    return {names: float(np.mean(each)) for names, each in values.items()}


def distances_of(
    documents: Sequence[DistancesDocument], tasks: Sequence[str], *, started: bool = False
) -> dict[str, float]:
    """Task -> normalised Fréchet distance in the features of the model that it alone made: the mean over data sets.

    Args:
        documents: of `fid`.
        tasks: those of the ranking.
        started: its chains start from weights.

    Raises:
        SpecError: there is none of a task.
    """
    values: dict[str, list[float]] = {}
    for document in documents:
        for model in document.models:
            found = [entry.normalised.mean for entry in model.datasets if entry.normalised is not None]
            if found:
                task = task_of(model.model, started=started)
                values.setdefault(task, []).append(float(np.mean(found)))
    for task in tasks:
        if task not in values:
            raise SpecError(
                f"no normalised distance in the features of {task} alone is given",
                "measure with the pretrained stage of every task: sslcurr fid REFERENCE DATASET --models KEY KEY...",
            )
    return {task: float(np.mean(values[task])) for task in tasks}


# ---- predictors


@dataclass(frozen=True)
class Predictor:
    """What a predictor says of K orderings.

    Attributes:
        group: `accuracy`, `similarity` or `distance`.
        name: which of them.
        values: [S, K], for each of S seeds.
    """

    group: str
    name: str
    values: Floats


def predictors_of(
    judged: Judged, similarities: Similarities | None = None, distances: Mapping[str, float] | None = None
) -> list[Predictor]:
    """All predictors of orderings of two tasks or more, those of each seed from the accuracies of the other seeds."""
    names, num_seeds = judged.orderings, len(judged.rankings)
    found = [
        Predictor(ACCURACY, by, np.stack([predicted(names, ranking, by) for ranking in judged.rankings]))
        for by in (*PREDICTIONS, BEST)
    ]

    def add(group: str, name: str, values: Sequence[float]) -> None:
        found.append(Predictor(group, name, np.tile(np.asarray(values, dtype=float), (num_seeds, 1))))

    if similarities is not None:
        steps = [[similarities[frozenset(pair)] for pair in itertools.pairwise(name)] for name in names]
        add(SIMILARITY, NEIGHBOURS, [float(np.mean(each)) for each in steps])
        add(SIMILARITY, LEAST, [min(each) for each in steps])
    if distances is not None:
        add(DISTANCE, MEAN, [float(np.mean([distances[task] for task in name])) for name in names])
        add(DISTANCE, LAST, [distances[name[-1]] for name in names])
    return found


# ---- foretelling sets of tasks that were left out


def left_out(columns: Floats, lengths: NDArray[np.integer], sets: NDArray[np.integer]) -> Floats:
    """[K, K] matrix H: `H @ y` foretells each chain from those of other sets of tasks.

    A ridge regression on standardised predictors, with a level for each length that is not shrunk (Hoerl and Kennard
    1970, https://doi.org/10.1080/00401706.1970.10488634). It is linear in y.

    Args:
        columns: [K, P] predictors.
        lengths: [K] of the chains; each with two sets at least.
        sets: [K] numbers of the sets of tasks.
    """
    spread = columns.std(axis=0)
    scaled = ((columns - columns.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0))[:, spread > 1e-12]
    levels = (lengths[:, None] == np.unique(lengths)).astype(float)
    matrix = np.zeros((len(sets), len(sets)))
    for each in np.unique(sets):
        out = sets == each
        known, x = levels[~out], scaled[~out]
        means = (known / np.maximum(known.sum(axis=0), 1)).T  # [L, T]: y -> mean of each length
        centred = x.T - (x.T @ known) @ means  # [P, T]
        slopes = np.linalg.solve(centred @ x + RIDGE * np.eye(x.shape[1]), centred)
        matrix[np.ix_(out, ~out)] = levels[out] @ (means - means @ x @ slopes) + scaled[out] @ slopes
    return matrix


def means_left_out(sets: NDArray[np.integer]) -> Floats:
    """[K, K] matrix: foretells each chain by the mean of all of other sets."""
    others = (sets[:, None] != sets[None, :]).astype(float)
    return np.asarray(others / others.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Scored:
    """Chains that are foretold from other sets of tasks.

    Attributes:
        places: of them among all orderings: those of lengths with two sets at least.
        lengths: [K'] of them.
        sets: [K'] numbers of their sets of tasks.
    """

    places: NDArray[np.intp]
    lengths: NDArray[np.intp]
    sets: NDArray[np.intp]

    @classmethod
    def of(cls, orderings: Sequence[Ordering]) -> Scored:
        """Those of orderings that have others of their length with other tasks."""
        by_length: dict[int, set[frozenset[str]]] = {}
        for name in orderings:
            by_length.setdefault(len(name), set()).add(frozenset(name))
        places = [place for place, name in enumerate(orderings) if len(by_length[len(name)]) > 1]
        numbers: dict[Hashable, int] = {}
        sets = [numbers.setdefault(frozenset(orderings[place]), len(numbers)) for place in places]
        lengths = [len(orderings[place]) for place in places]
        return cls(np.array(places, dtype=np.intp), np.array(lengths, dtype=np.intp), np.array(sets, dtype=np.intp))

    @property
    def num_sets(self) -> int:
        """How many sets of tasks there are."""
        return len(np.unique(self.sets))


def r_squared_of(
    predictors: Sequence[Predictor], accuracies: Floats, scored: Scored, places: NDArray[np.intp]
) -> Floats:
    """[P] R^2 of chains that were left out, under P ways to rename the tasks; NaN where all chains are equal.

    One minus the squared errors over those of the mean of the other chains, both added over seeds.

    Args:
        predictors: of the model, beside the length.
        accuracies: [K, S].
        scored: the chains that are foretold.
        places: [P, K] of renamed orderings, those of their own names first.
    """
    errors, reference = np.zeros(len(places)), np.zeros(len(places))
    means = means_left_out(scored.sets)
    for seed, values in enumerate(accuracies.T):
        columns = np.array([each.values[seed, scored.places] for each in predictors]).reshape(-1, len(scored.places)).T
        model = left_out(columns, scored.lengths, scored.sets)
        for start in range(0, len(places), AT_ONCE):
            block = slice(start, start + AT_ONCE)
            renamed = values[places[block][:, scored.places]]  # [P, K']
            errors[block] += np.square(renamed - renamed @ model.T).sum(axis=1)
            reference[block] += np.square(renamed - renamed @ means.T).sum(axis=1)
    return 1 - np.divide(errors, reference, out=np.full(len(places), math.nan), where=reference > 1e-24)


def share_beyond(values: Floats, generic: Floats, *, larger: bool = True) -> tuple[float | None, float | None]:
    """The p-value of the first of [P] values, one-sided, and the smallest that it could be.

    Args:
        values: of what was measured, that of the tasks' own names first.
        generic: the same of numbers without any ties: as many as equal the first change nothing.
        larger: whether large values speak against chance.
    """
    unchanged = int(np.isclose(generic, generic[0], rtol=0, atol=1e-10).sum())
    if len(values) < 2 or math.isnan(values[0]) or unchanged == len(values):
        return None, None
    at_least = values >= values[0] - 1e-12 if larger else values <= values[0] + 1e-12
    return int(at_least.sum()) / len(values), unchanged / len(values)


def numbers_like(accuracies: Floats) -> Floats:
    """Random numbers in the shape of accuracies."""
    return numpy_generator(0, "apart").random(accuracies.shape)


def most_of(accuracies: Floats) -> float | None:
    """The R^2 that a perfect model of [K, S] chains would have for single runs: their intraclass correlation.

    (Shrout and Fleiss 1979, https://doi.org/10.1037/0033-2909.86.2.420.) None for fewer than two chains or seeds, or
    where all are equal.
    """
    num_chains, num_seeds = accuracies.shape
    if num_chains < 2 or num_seeds < 2:
        return None
    means = accuracies.mean(axis=1)
    chains = num_seeds * float(means.var(ddof=1))
    rest = accuracies - means[:, None] - accuracies.mean(axis=0) + accuracies.mean()
    residual = float(np.square(rest).sum()) / ((num_chains - 1) * (num_seeds - 1))
    total = chains + (num_seeds - 1) * residual
    return min(max((chains - residual) / total, 0.0), 1.0) if total > 1e-24 else None


# ---- inserting a task


@dataclass(frozen=True)
class Triple:
    """Three tasks of which the two outer ones were measured alone, too; `unlike` is of the middle one to both."""

    ordering: Ordering
    unlike: float

    @property
    def outer(self) -> Ordering:
        """The first and the last task."""
        return self.ordering[0], self.ordering[2]


def triples_of(orderings: Sequence[Ordering], similarities: Similarities) -> list[Triple]:
    """The orderings of three tasks whose outer two are there, the most unlike first."""
    there = set(orderings)
    triples = []
    for name in orderings:
        if len(name) == 3 and (name[0], name[2]) in there:
            alike = max(similarities[frozenset(pair)] for pair in itertools.pairwise(name))
            triples.append(Triple(name, 1 - alike))
    return sorted(triples, key=lambda triple: -triple.unlike)


def gain_weights(triples: Sequence[Triple], weights: Sequence[float]) -> dict[Ordering, float]:
    """The weights of chains whose sum is that of the gains of the triples."""
    of_chains: dict[Ordering, float] = {}
    for triple, weight in zip(triples, weights, strict=True):
        of_chains[triple.ordering] = of_chains.get(triple.ordering, 0.0) + weight
        of_chains[triple.outer] = of_chains.get(triple.outer, 0.0) - weight
    return of_chains


def slope_weights(triples: Sequence[Triple]) -> list[float] | None:
    """The weights of gains whose sum is the least-squares slope of the gain by `unlike`; None where all are about as
    unlike: a slope would only be noise, multiplied."""
    unlike = np.array([triple.unlike for triple in triples])
    if np.ptp(unlike) < LEAST_RANGE:
        return None
    centred = unlike - unlike.mean()
    return (centred / np.square(centred).sum()).tolist()
