"""The document of `sslcurr explain`: what lies behind the differences between the chains of a table."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part
from sslcurr.analysis.results.estimate import Difference, Interval

ACCURACY, SIMILARITY, DISTANCE = "accuracy", "similarity", "distance"


class Variances(Part, frozen=True, kw_only=True):
    """Components of variance, in squares of shares of 1. An estimate may be below 0: nothing of it is to be seen then.

    Attributes:
        chain: real differences between chains, which other seeds and images would show as well.
        seed: what a seed does to all chains alike.
        stage: the luck of a first stage at a seed, which all chains over it share; None where each chain has one of its
            own, or all have one.
        run: the luck of one chain at one seed, beyond that.
        images: the part of the variance of the chains' means that the choice of images makes.
    """

    chain: float
    seed: float
    stage: float | None
    run: float
    images: float


class Shares(Part, frozen=True, kw_only=True):
    """What the variance between the chains' means over seeds consists of, shares of 1 that sum to 1.

    Attributes:
        real: of real differences between chains; below 0 where the means differ less than luck and images explain.
        interval: ends of the 95 % interval of it.
        luck: of the luck of stages and runs, which more seeds make smaller.
        images: of the choice of images, which more images make smaller.
    """

    real: float
    interval: Interval
    luck: float
    images: float


class Block(Part, frozen=True, kw_only=True):
    """The chains of one length, or all.

    Attributes:
        length: tasks in each; None for chains of all lengths.
        num_chains, num_stages: chains, and first stages that they begin with.
        variances: None where there are too few chains or seeds.
        shares: None there too, and where all means are equal.
        p_value: how often chains without real differences would differ as much (F test); None there too.
        reason: why there are no variances; None where there are.
    """

    length: int | None
    num_chains: int
    num_stages: int
    variances: Variances | None
    shares: Shares | None
    p_value: float | None
    reason: str | None


class Correlation(Part, frozen=True, kw_only=True):
    """How well a predictor orders the orderings of one length.

    Attributes:
        length: tasks in each ordering.
        group: `accuracy` (of single tasks at the other seeds), `similarity` (CKA of single-task models) or `distance`
            (Fréchet distance in their features).
        predictor: such as `mean`, `last`, `least`.
        tau: Kendall's tau-b with the measured accuracies, a mean over seeds; None where one of them is constant.
        interval: ends of its 95 % interval over images and seeds; None where it is not known.
        num_orderings: how many orderings were compared.
    """

    length: int
    group: str
    predictor: str
    tau: float | None
    interval: Interval | None
    num_orderings: int


class Fit(Part, frozen=True, kw_only=True):
    """How well a model foretells the chains of tasks that it has not seen together.

    Attributes:
        groups: of predictors in the model, beside the length; none for the length alone.
        r_squared: 1 is perfect, 0 no better than the mean of the other chains; None where all chains are equal.
        p_value: share of the ways to rename the tasks whose R^2 is as large; None without a test.
        smallest_p_value: what it could have been at least; None without a test.
    """

    groups: list[str]
    r_squared: float | None
    p_value: float | None
    smallest_p_value: float | None


class Foretelling(Part, frozen=True, kw_only=True):
    """What foretells the accuracy of chains of two tasks or more.

    Attributes:
        correlations: of each predictor, by length.
        num_chains, num_sets: that were foretold, and the sets of tasks that they are orderings of. Each set is left out
            in turn.
        most: R^2 that a model of chains could have at most, since one run has luck; None where it is not known.
        fits: of the length, of each group of predictors with it, and of all.
        num_arrangements: ways to rename the tasks that were looked at; 1 is none but the names as they are.
        exact: whether these are all ways.
        reason: why there is nothing, or no test; None where there is one.
    """

    correlations: list[Correlation]
    num_chains: int
    num_sets: int
    most: float | None
    fits: list[Fit]
    num_arrangements: int
    exact: bool
    reason: str | None


class Inserted(Part, frozen=True, kw_only=True):
    """A task that stands between two others, against these two alone.

    Attributes:
        ordering: three tasks, of which the middle one is inserted.
        unlike: one minus the larger CKA of the middle task with its neighbours: how unlike both it is.
        gain: the accuracy of the three minus that of the two.
    """

    ordering: list[str]
    unlike: float
    gain: Difference


class Insertion(Part, frozen=True, kw_only=True):
    """What inserting a task costs, and whether it costs more where the task is unlike both of its neighbours.

    Attributes:
        gain: the mean over all triples.
        slope: change of the gain as `unlike` rises from 0 to 1; without a mean where all are about as unlike.
        p_value: one-sided: share of the ways to rename the tasks whose slope falls as steeply; None without a test.
        smallest_p_value: what it could have been at least; None without a test.
        rows: each triple, the most unlike first.
    """

    gain: Difference
    slope: Difference
    p_value: float | None
    smallest_p_value: float | None
    rows: list[Inserted]


class Source(Part, frozen=True, kw_only=True):
    """Where predictors are from.

    Attributes:
        names: of the files or runs.
        dataset: whose images the models were shown, or distances are measured from.
        num_images: how many of them.
        values: by task (distances), or by two tasks with an arrow of both ends between them (similarities).
    """

    names: list[str]
    dataset: str
    num_images: int
    values: dict[str, float]


class ExplanationDocument(Document, frozen=True, kw_only=True):
    """What lies behind the differences between the chains of a ranking.

    Attributes:
        ranking: name of the file or run that is explained.
        dataset, split, measure, seeds, num_images: of it.
        tasks: of it, by rising single-task accuracy.
        left_out: chains that were not measured at every seed, and are left out of all.
        blocks: components of variance, of all chains first, then by length.
        foretelling: what foretells the accuracy of chains.
        insertion: what inserting an unlike task costs; unset without similarities or triples.
        similarity, distances: where these predictors are from; unset without them.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "explain"

    ranking: str
    dataset: str
    split: str
    measure: str
    seeds: list[int]
    num_images: int
    tasks: list[str]
    left_out: list[list[str]]
    blocks: list[Block]
    foretelling: Foretelling
    insertion: Insertion | UnsetType = UNSET
    similarity: Source | UnsetType = UNSET
    distances: Source | UnsetType = UNSET
    target: str | UnsetType = UNSET
