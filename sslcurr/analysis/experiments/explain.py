"""What lies behind the differences between the chains of a ranking, as one document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET, UnsetType

from sslcurr.analysis.experiments.chains import Chain, MeasuredChain
from sslcurr.analysis.experiments.components import Components, components_of
from sslcurr.analysis.experiments.foretell import (
    Predictor,
    Scored,
    Similarities,
    Triple,
    distances_of,
    gain_weights,
    most_of,
    numbers_like,
    predictors_of,
    r_squared_of,
    share_beyond,
    similarities_of,
    slope_weights,
    triples_of,
)
from sslcurr.analysis.experiments.hypothesis import (
    NOT_ALIKE,
    ONE_SEED,
    Judged,
    effects_of,
    rank_correlation,
    renamed,
)
from sslcurr.analysis.experiments.join import Given, results_of
from sslcurr.analysis.experiments.ranking import Results, compared_of, without_groups_of
from sslcurr.analysis.measures.comparisons import Comparisons, Paired
from sslcurr.analysis.measures.intervals import Floats, Images, Sample
from sslcurr.analysis.results.distances.document import DistancesDocument
from sslcurr.analysis.results.estimate import Difference
from sslcurr.analysis.results.explanation.document import (
    Block,
    Correlation,
    ExplanationDocument,
    Fit,
    Foretelling,
    Inserted,
    Insertion,
    Shares,
    Source,
    Variances,
)
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.similarity.document import SimilarityDocument

TOO_FEW = "fewer than two chains that were measured at every seed"
ONE_SEED_ONLY = "one seed: what is luck and what is real cannot be told apart"
NO_ORDERINGS = "no orderings of two tasks or more that were measured at every seed"
ONE_SET = "one set of tasks of each length: none can be left out and foretold from others"
# Orderings of a length that a rank correlation needs.
FEWEST = 3


@dataclass(frozen=True)
class Known:
    """What is known of the tasks beside their accuracies.

    Attributes:
        similarity, distances: documents by the name of their file or run.
    """

    similarity: Mapping[str, SimilarityDocument]
    distances: Mapping[str, DistancesDocument]


def explained(given: Given, known: Known) -> ExplanationDocument:
    """What lies behind the differences between the chains of a ranking.

    Args:
        given: the ranking with its predictions.
        known: of the tasks.

    Raises:
        SpecError: a similarity or a distance of a task is missing.
        DataError: predictions are missing, or not those of the ranking.
    """
    document, reported = given.document, given.reported
    tasks = [row.task for row in document.tasks]
    started = "start" in document.baselines
    similarities = (
        similarities_of(list(known.similarity.values()), tasks, started=started) if known.similarity else None
    )
    distances = distances_of(list(known.distances.values()), tasks, started=started) if known.distances else None
    results = results_of([given])
    compared = compared_of(results, reported.images)
    seeds = tuple(results.seeds)
    samples = {
        name: compared.samples[name]
        for name in results.chains
        if name in compared.samples and compared.samples[name].seeds == seeds
    }
    judged = _judged(samples, len(seeds))
    images = reported.images
    return ExplanationDocument(
        target=document.target,
        ranking=given.name,
        dataset=document.dataset,
        split=document.split,
        measure=document.measure,
        seeds=list(seeds),
        num_images=document.num_images,
        tasks=list(document.curriculum),
        left_out=[list(name) for name in results.chains if name not in samples],
        blocks=_blocks(samples, len(seeds)),
        foretelling=_foretelling(judged, results, images, similarities, distances),
        insertion=UNSET if similarities is None else _insertion(judged, compared, samples, similarities),
        similarity=_similarity_source(known.similarity, similarities),
        distances=_distance_source(known.distances, distances),
    )


def _judged(samples: Mapping[Ordering, Sample], num_seeds: int) -> Judged:
    """The orderings of two tasks or more, each seed with the single-task accuracies of the other seeds."""
    singles = {name[0]: each.values for name, each in samples.items() if len(name) == 1}
    names = [name for name in samples if len(name) > 1 and set(name) <= set(singles)]
    accuracies = np.array([samples[name].values for name in names]).reshape(len(names), num_seeds)
    return Judged.of(names, accuracies, {task: values.tolist() for task, values in singles.items()})


# ---- components of variance


def _blocks(samples: Mapping[Ordering, Sample], num_seeds: int) -> list[Block]:
    """All chains, then those of each length where there are several."""
    lengths = sorted({len(name) for name in samples})
    blocks = [_block(samples, None, num_seeds)]
    if len(lengths) > 1:
        blocks += [_block(samples, length, num_seeds) for length in lengths]
    return blocks


def _block(samples: Mapping[Ordering, Sample], length: int | None, num_seeds: int) -> Block:
    names = [name for name in samples if length is None or len(name) == length]
    reason = ONE_SEED_ONLY if num_seeds < 2 else TOO_FEW if len(names) < 2 else None
    found = None if reason else components_of([samples[name] for name in names], [name[0] for name in names])
    return Block(
        length=length,
        num_chains=len(names),
        num_stages=len({name[0] for name in names}),
        variances=None if found is None else _variances(found),
        shares=None if found is None else _shares(found),
        p_value=None if found is None else found.p_value,
        reason=reason,
    )


def _variances(found: Components) -> Variances:
    return Variances(chain=found.chain, seed=found.seed, stage=found.stage, run=found.run, images=found.images)


def _shares(found: Components) -> Shares | None:
    real, luck, images = (found.share(part) for part in (found.chain, found.luck, found.images))
    if real is None or luck is None or images is None or found.interval is None:
        return None
    return Shares(real=real, interval=found.interval, luck=luck, images=images)


# ---- what foretells a chain


def _foretelling(
    judged: Judged,
    results: Results,
    images: Images,
    similarities: Similarities | None,
    distances: Mapping[str, float] | None,
) -> Foretelling:
    reason = ONE_SEED if len(judged.rankings) < 2 else None if judged.orderings else NO_ORDERINGS
    if reason is not None:
        return _nothing(reason, [])
    predictors = predictors_of(judged, similarities, distances)
    correlations = _correlations(judged, predictors, results, images)
    scored = Scored.of(judged.orderings)
    if not len(scored.places):
        return _nothing(ONE_SET, correlations)
    places, exact = renamed(judged.orderings)
    groups = list(dict.fromkeys(each.group for each in predictors))
    models = [[], *([group] for group in groups), *([groups] if len(groups) > 1 else [])]
    apart = numbers_like(judged.accuracies)
    return Foretelling(
        correlations=correlations,
        num_chains=len(scored.places),
        num_sets=scored.num_sets,
        most=most_of(judged.accuracies[scored.places]),
        fits=[_fit(model, predictors, judged.accuracies, apart, scored, places) for model in models],
        num_arrangements=len(places),
        exact=exact,
        reason=None if len(places) > 1 else NOT_ALIKE,
    )


def _nothing(reason: str, correlations: list[Correlation]) -> Foretelling:
    return Foretelling(
        correlations=correlations,
        num_chains=0,
        num_sets=0,
        most=None,
        fits=[],
        num_arrangements=0,
        exact=True,
        reason=reason,
    )


def _fit(
    groups: list[str],
    predictors: Sequence[Predictor],
    accuracies: Floats,
    apart: Floats,
    scored: Scored,
    places: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
) -> Fit:
    """A model of the length and of some groups of predictors."""
    used = [each for each in predictors if each.group in groups]
    values = r_squared_of(used, accuracies, scored, places)
    p_value, smallest = share_beyond(values, r_squared_of(used, apart, scored, places))
    r_squared = None if math.isnan(values[0]) else float(values[0])
    return Fit(groups=groups, r_squared=r_squared, p_value=p_value, smallest_p_value=smallest)


def _correlations(
    judged: Judged, predictors: Sequence[Predictor], results: Results, images: Images
) -> list[Correlation]:
    """Kendall's tau of every predictor in every length of three orderings at least."""
    found = []
    for length in sorted({len(name) for name in judged.orderings}):
        block = [place for place, name in enumerate(judged.orderings) if len(name) == length]
        if len(block) < FEWEST:
            continue
        runs: list[list[Chain]] = [
            [run for run in results.chains[judged.orderings[place]] if isinstance(run, MeasuredChain)]
            for place in block
        ]
        deleted = without_groups_of(runs, images)
        for each in predictors:
            correlation = rank_correlation(each.values[:, block], judged.accuracies[block].T, deleted)
            tau, interval = (None, None) if correlation is None else correlation
            found.append(
                Correlation(
                    length=length,
                    group=each.group,
                    predictor=each.name,
                    tau=tau,
                    interval=interval,
                    num_orderings=len(block),
                )
            )
    return found


# ---- inserting a task


def _insertion(
    judged: Judged, compared: Comparisons[Ordering], samples: Mapping[Ordering, Sample], similarities: Similarities
) -> Insertion | UnsetType:
    """What inserting a task costs by how unlike it is to both neighbours; unset without triples."""
    triples = triples_of(list(samples), similarities)
    if not triples:
        return UNSET
    gain = compared.weighted(gain_weights(triples, [1 / len(triples)] * len(triples)), ends=(-1.0, 1.0))
    weights = slope_weights(triples)
    slope: Paired | None = None
    p_value: float | None = None
    smallest: float | None = None
    if weights is not None:
        of_chains = gain_weights(triples, weights)
        slope = compared.weighted(of_chains, ends=(-math.inf, math.inf))
        p_value, smallest = _slope_test(judged, of_chains)
    return Insertion(
        gain=Difference.of(gain),
        slope=Difference.of(slope),
        p_value=p_value,
        smallest_p_value=smallest,
        rows=[_inserted(triple, compared) for triple in triples],
    )


def _inserted(triple: Triple, compared: Comparisons[Ordering]) -> Inserted:
    gain = compared.difference(triple.outer, triple.ordering)
    return Inserted(ordering=list(triple.ordering), unlike=triple.unlike, gain=Difference.of(gain))


def _slope_test(judged: Judged, of_chains: Mapping[Ordering, float]) -> tuple[float | None, float | None]:
    """Whether renamed tasks have a gain that falls as steeply; None where a chain is not among those renamed."""
    if len(judged.rankings) < 2 or not set(of_chains) <= set(judged.orderings):
        return None, None
    places, _ = renamed(judged.orderings)
    row = np.array([of_chains.get(name, 0.0) for name in judged.orderings])
    weights = np.tile(row, (len(judged.rankings), 1))
    slopes, generic = (
        effects_of(weights, values.T, places) for values in (judged.accuracies, numbers_like(judged.accuracies))
    )
    return share_beyond(slopes, generic, larger=False)


# ---- where predictors are from


def _similarity_source(documents: Mapping[str, SimilarityDocument], values: Similarities | None) -> Source | UnsetType:
    if values is None:
        return UNSET
    first = next(iter(documents.values()))
    named = {" <-> ".join(sorted(names)): value for names, value in values.items()}
    return Source(names=list(documents), dataset=first.dataset, num_images=first.num_images, values=named)


def _distance_source(
    documents: Mapping[str, DistancesDocument], values: Mapping[str, float] | None
) -> Source | UnsetType:
    if values is None:
        return UNSET
    first = next(iter(documents.values()))
    return Source(names=list(documents), dataset=first.reference, num_images=first.num_images, values=dict(values))
