"""The document of `sslcurr rank --search`: its runs, what is believed of orderings, cost and result."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted
from sslcurr.analysis.results.estimate import Difference, Estimate, Failure, Interval, Run
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.wording import arrow


class ScoredCandidate(Part, frozen=True, kw_only=True):
    """A prefix that was scored.

    Attributes:
        ordering: its pretext tasks.
        epochs: of its last stage.
        score: balanced accuracy of the probe on the validation images, penalty taken off, a share of 1.
        kept: whether it went on to the next rung.
    """

    ordering: list[str]
    epochs: int
    score: float
    kept: bool


class Rung(Part, frozen=True, kw_only=True):
    """A step of successive halving: candidates of one length, scored alike.

    Attributes:
        length: tasks in each candidate.
        short: whether their last stage was trained for fewer epochs.
        seeds: how many seeds a score is the mean of.
        candidates: those that were scored, the best first.
        not_afforded: orderings that the budget left out.
    """

    length: int
    short: bool
    seeds: int
    candidates: list[ScoredCandidate]
    not_afforded: list[list[str]]


class Step(Part, frozen=True, kw_only=True):
    """A run of the search: an ordering trained and measured at a seed.

    Attributes:
        ordering: its pretext tasks.
        seed: of the run.
        validation: main measure on the validation images, a share of 1; None where it failed.
        share: image passes of the search up to its end, as a share of those of all orderings.
        best: the ordering that would be chosen after it and those of its batch.
        regret: how far that is from the best of all by the reported images, a share of 1; unset where the store does
            not hold all orderings.
    """

    ordering: list[str]
    seed: int
    validation: float | None
    share: float
    best: list[str]
    regret: float | UnsetType = UNSET


class Belief(Part, frozen=True, kw_only=True):
    """What the search believes of an ordering after its last run; accuracies are on validation images, shares of 1.

    Attributes:
        ordering: its pretext tasks.
        mean, std: of the posterior of its mean accuracy over seeds.
        more: what it has more than the ordering that was chosen, the median of the posterior.
        interval: the 95 % credible interval of that.
        best: the probability that no ordering is better.
        within: the probability that it is within the tolerance of the best.
        num_seeds: at how many seeds it was measured.
    """

    ordering: list[str]
    mean: float
    std: float
    more: float
    interval: Interval
    best: float
    within: float
    num_seeds: int


class Posterior(Part, frozen=True, kw_only=True):
    """What the measurements of the search say; differences are shares of 1.

    Attributes:
        leading: the orderings with the highest means.
        tolerance: how far from the best is good enough.
        probability: that the ordering that was chosen is good enough.
        most_missed: with 90 %, no ordering is better than the one that was chosen by more than this.
        most_apart: with 90 %, no ordering is better than another by more than this.
        num_good: how many orderings are good enough with a probability of one half or more.
        further_gain: how much higher the best mean is expected to be after another tenth of the cost of all orderings.
        scales: standard deviation of each part of the model: of what makes orderings differ, and of luck.
        side: name of a side figure -> the probability that it helps to foretell accuracies.
    """

    leading: list[Belief]
    tolerance: float
    probability: float
    most_missed: float
    most_apart: float
    num_good: int
    further_gain: float
    scales: dict[str, float]
    side: dict[str, float]


class Finalist(Part, frozen=True, kw_only=True):
    """A chain that was measured in full.

    Attributes:
        ordering: its pretext tasks.
        score: what it was chosen or pruned by, a share of 1: the posterior mean, the mean on the validation images, or
            that of a probe.
        mean: mean of the main measure on the reported images.
        std: its standard deviation over seeds (n - 1); None for fewer than two.
        validation: mean of the main measure on the validation images, which choose; None without any.
        attention: share of the attention inside the masks, where masks are known.
        runs: each seed that did not fail.
        interval: ends of the 95 % interval of the mean.
        difference: its mean minus that of the chain that was chosen; unset for that. Both are unset in documents of
            0.1.0.
    """

    ordering: list[str]
    score: float
    mean: float | None
    std: float | None
    validation: float | None
    attention: Estimate | UnsetType = UNSET
    runs: list[Run]
    interval: Interval | UnsetType | None = UNSET
    difference: Difference | UnsetType = UNSET


class Cost(Part, frozen=True, kw_only=True):
    """What the search took.

    Attributes:
        image_passes: images that were taken through a network, forward and backward, of stages and probes.
        exhaustive_image_passes: what training and measuring all orderings would take.
        share: the first as a share of the second.
        budget: the most that `share` was allowed to be.
        held_stages: how many stages cost nothing, since the store held them when the search began; unset where costs
            are counted as if it were empty.
    """

    image_passes: float
    exhaustive_image_passes: float
    share: float
    budget: float
    held_stages: int | UnsetType = UNSET


class Missed(Part, frozen=True, kw_only=True):
    """How far the ordering that was chosen is from the best of all; accuracies are shares of 1.

    Attributes:
        best: the ordering with the highest mean.
        best_mean, best_std: its mean, and its standard deviation over seeds (None for fewer than two).
        mean: that of the ordering that was chosen.
        gap: best_mean minus mean, with its 95 % interval `gap_interval` (None where it is not known).
        rank: place of the ordering that was chosen among all, from 1.
        num_orderings: how many there are.
        median: of the means of all orderings.
    """

    best: list[str]
    best_mean: float
    best_std: float | None
    mean: float
    gap: float
    gap_interval: Interval | None
    rank: int
    num_orderings: int
    median: float


class SearchDocument(Document, frozen=True, kw_only=True):
    """The automatic curriculum: a good ordering found without training them all.

    Attributes:
        dataset: its name.
        split: whose images are reported; they choose nothing.
        measure: how finalists are measured: `finetune`, `linear` or `knn`.
        seeds: those that a chain may be run at.
        rungs: what a beam search scored by probes, step by step; empty for other strategies.
        finalists: the chains that were measured in full, the best by `score` first.
        ordering: the one that the validation images choose; empty where every chain failed.
        cost: in image passes.
        missed: how far that is from the best; None where the store does not hold all orderings.
        failed: the chains that could not be trained.
        command: the command line that trains the ordering; None where there is none.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
        strategy: `knowledge-gradient`, `beam`, `halving`, `random` or `curriculum`; unset in documents before 0.2,
            which are beam searches.
        batch: how many runs were chosen at a time; unset for a beam search with a probe.
        steps: the runs, in their order; unset for a beam search with a probe.
        ended: why it ended: `confidence` (the ordering is good enough), `budget`, or `all` (all was measured).
        posterior: what is believed; unset where no model is behind the strategy.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "search"
    version: ClassVar[int] = 3
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    split: str
    measure: str
    seeds: list[int]
    rungs: list[Rung]
    finalists: list[Finalist]
    ordering: list[str]
    cost: Cost
    missed: Missed | None
    failed: list[Failure]
    command: str | None
    overlap: Overlap | UnsetType = UNSET
    strategy: str | UnsetType = UNSET
    batch: int | UnsetType = UNSET
    steps: list[Step] | UnsetType = UNSET
    ended: str | UnsetType = UNSET
    posterior: Posterior | UnsetType = UNSET
    target: str | UnsetType = UNSET

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of the finalists."""
        return {
            arrow(row.ordering): [Predicted(run.seed, run.predictions) for run in row.runs] for row in self.finalists
        }
