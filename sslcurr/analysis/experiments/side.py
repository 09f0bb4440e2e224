"""Side figures of orderings, which may help a search to foretell their accuracy: made of the models of single tasks.

The study proposes to use such figures beside single-task accuracy (its sections 4.2 and 4.3). Whether one helps is for
the search to find out: it counts with the probability that it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.store import Stage

if TYPE_CHECKING:
    from sslcurr.analysis.experiments.chains import Chains

SIDES = ("cka", "probe")
# A figure of an ordering.
Side = Callable[[Ordering], float]


def side_passes(name: str, chains: Chains, num_tasks: int) -> float:
    """What a side figure takes, in image passes: forward ones of the validation images (`cka`) or of all (`probe`)."""
    rows = chains.selection.rows
    images = len(rows["val"]) if name == "cka" else sum(len(each) for each in rows.values())
    return FORWARD * images * num_tasks


def side_of(name: str, chains: Chains, tasks: Sequence[str], seed: int) -> Side:
    """A side figure.

    Args:
        name: `cka` (how unlike neighbouring tasks are: one minus the CKA of their models, a mean over the neighbours
            and layers) or `probe` (kNN accuracy of the model of the last task, on the validation images).
        chains: trained the single tasks.
        tasks: those that were trained at `seed`, alone.
        seed: of the models.
    """
    stages = {}
    for task in tasks:
        stage = chains.stage(chains.planner.requesting(seed=seed).chain([task]))
        assert isinstance(stage, Stage)
        stages[task] = stage
    if name == "probe":
        values = {task: chains.probed(stage, "knn", chains.planner.parent, seed) for task, stage in stages.items()}
        return lambda ordering: values[ordering[-1]].validation
    from sslcurr.analysis.evaluation.similarity import dissimilarity

    between = dissimilarity(chains.planner.data, chains.store, chains.device)
    unlike = {frozenset((a, b)): between(stages[a], stages[b]) for a, b in itertools.combinations(tasks, 2)}

    def of_neighbours(ordering: Ordering) -> float:
        pairs = [unlike[frozenset(pair)] for pair in itertools.pairwise(ordering)]
        return float(np.mean(pairs)) if pairs else 0.0

    return of_neighbours
