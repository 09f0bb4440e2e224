"""The document of `sslcurr rank --search`: candidates of the automatic curriculum, finalists, cost and result."""

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


class Finalist(Part, frozen=True, kw_only=True):
    """A chain that was measured in full.

    Attributes:
        ordering: its pretext tasks.
        score: what it was pruned by, a share of 1.
        mean: mean balanced accuracy on the reported images.
        std: its standard deviation over seeds (n - 1); None for fewer than two.
        validation: mean balanced accuracy on the validation images, which choose; None without any.
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
    """

    image_passes: float
    exhaustive_image_passes: float
    share: float
    budget: float


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
        seeds: the first alone sorts out, the kept ones and the finalists see all.
        rungs: what was scored, step by step.
        finalists: the chains that were measured in full.
        ordering: the one that the validation images choose; empty where every chain failed.
        cost: in image passes.
        missed: how far that is from the best; None where the store does not hold all orderings.
        failed: the chains that could not be trained.
        command: the command line that trains the ordering; None where there is none.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
    """

    kind: ClassVar[str] = "search"
    version: ClassVar[int] = 2
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

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of the finalists."""
        return {
            arrow(row.ordering): [Predicted(run.seed, run.predictions) for run in row.runs] for row in self.finalists
        }
