"""What a search for an ordering found: its chains compared, what it believes, and what it missed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import UNSET, structs

from sslcurr.analysis.experiments.chains import Chain, Chains, MeasuredChain, figures_of, scores_of
from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.strategies import MOST_ORDERINGS, State, num_orderings
from sslcurr.analysis.measures.classification import mean_accuracy
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.surrogate import SIDE_PREFIX
from sslcurr.analysis.results.estimate import Difference
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.search.document import Belief, Finalist, Missed, Posterior

# What `further_gain` foretells, as a share of the cost of all orderings.
FURTHER = 0.1
# Orderings that are shown as leading.
LEADING = 20


def compared(
    rows: Sequence[Finalist], runs: Mapping[Ordering, Sequence[Chain]], chains: Chains, ordering: Ordering
) -> list[Finalist]:
    """Rows with their intervals, and how they differ from the ordering that was chosen.

    Args:
        rows: of chains.
        runs: the chains of each row.
        chains: knows the reported images.
        ordering: the one that was chosen.
    """
    table = Comparisons(figures_of(runs, chains.images), lineages={each: each[0] for each in runs})
    filled = []
    for row in rows:
        name = tuple(row.ordering)
        apart = UNSET if name == ordering or ordering not in runs else Difference.of(table.difference(ordering, name))
        filled.append(structs.replace(row, interval=table.interval(name), difference=apart))
    return filled


def known_table(
    chains: Chains, tasks: Sequence[str], length: int, seeds: Sequence[int]
) -> dict[Ordering, list[MeasuredChain]] | None:
    """All orderings at all seeds, where the store holds every one of them; else None. Nothing is trained."""
    if num_orderings(len(tasks), length) > MOST_ORDERINGS:
        return None
    if any(chains.known((task,), seed) is None for task in tasks for seed in seeds):
        return None
    longest = itertools.permutations(tasks, length)
    if chains.known(next(longest), seeds[0]) is None:
        return None  # before all are listed: there may be many
    table = {}
    for ordering in orderings_of(tasks, range(1, length + 1)):
        measured = [chains.known(ordering, seed) for seed in seeds]
        if None in measured:
            return None
        table[ordering] = [chain for chain in measured if chain is not None]
    return table


def missed(chains: Chains, table: Mapping[Ordering, Sequence[MeasuredChain]], ordering: Ordering) -> Missed:
    """How far an ordering is from the best of all.

    Args:
        chains: knows the reported images.
        table: all orderings at all seeds.
        ordering: the one that was chosen.
    """
    means = {name: mean_accuracy(scores_of(each)) for name, each in table.items()}
    best = max(means, key=lambda name: means[name])
    figures = figures_of(table, chains.images)
    gap = Comparisons(figures, lineages={each: each[0] for each in table}).difference(ordering, best)
    values = scores_of(table[best])
    return Missed(
        best=list(best),
        best_mean=means[best],
        best_std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        mean=means[ordering],
        gap=means[best] - means[ordering],
        gap_interval=None if gap is None or ordering == best else gap.interval,
        rank=1 + sum(mean > means[ordering] for mean in means.values()),
        num_orderings=len(means),
        median=float(np.median(list(means.values()))),
    )


def posterior_of(strategy: KnowledgeGradient, state: State, exhaustive: float) -> Posterior:
    """What the knowledge gradient believes after its last run.

    Args:
        strategy: of the search.
        state: what was measured.
        exhaustive: image passes of all orderings.
    """
    verdict = strategy.verdict(state)
    usable = np.array([state.usable(ordering) for ordering in verdict.orderings])
    shown = usable & ~np.isnan(verdict.behind[0])
    rows = sorted(np.flatnonzero(shown).tolist(), key=lambda i: -verdict.mean[i])[:LEADING]
    seeds = {name: sum(each == name for each, _ in state.values) for name in state.rows}
    scales = verdict.scales
    return Posterior(
        leading=[
            Belief(
                ordering=list(verdict.orderings[i]),
                mean=float(verdict.mean[i]) / 100,
                std=float(verdict.std[i]) / 100,
                more=float(verdict.behind[0, i]) / 100,
                interval=(float(verdict.behind[1, i]) / 100, float(verdict.behind[2, i]) / 100),
                best=float(verdict.best[i]),
                within=float(verdict.within[i]),
                num_seeds=seeds.get(verdict.orderings[i], 0),
            )
            for i in rows
        ],
        tolerance=strategy.tolerance / 100,
        probability=verdict.probability,
        most_missed=verdict.most_missed / 100,
        most_apart=verdict.most_apart / 100,
        num_good=int((verdict.within >= 0.5).sum()),
        further_gain=strategy.further_gain(state, FURTHER * exhaustive) / 100,
        scales={name: scales.typical(name) / 100 for name in scales.names if not name.startswith(SIDE_PREFIX)},
        side={
            name.removeprefix(SIDE_PREFIX): scales.included(name)
            for name in scales.names
            if name.startswith(SIDE_PREFIX)
        },
    )
