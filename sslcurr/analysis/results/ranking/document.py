"""The document of `sslcurr rank`: single tasks, the curriculum, orderings of the tasks and tests of the hypothesis."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted
from sslcurr.analysis.results.estimate import Difference, Estimate, Failure, Interval, Summary
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.wording import arrow

Ordering = tuple[str, ...]


CURRICULUM, ANTI, MIXED, TIED, SINGLE = "curriculum", "anti-curriculum", "mixed", "tied", "single"
IMAGENET = "ImageNet"  # the name of the baseline that `--imagenet` adds


class TaskRow(Summary, frozen=True, kw_only=True):
    """A pretext task alone, then the target task, measured over seeds.

    Attributes:
        task: its name.
        gain: over the baseline that the chains start from.
        gain_over_imagenet: over the weights of `--imagenet`; unset without them.
    """

    first: ClassVar[tuple[str, ...]] = ("task",)

    task: str
    gain: Difference | UnsetType = UNSET
    gain_over_imagenet: Difference | UnsetType = UNSET

    @property
    def accuracy(self) -> Estimate:
        """Its main measure on the reported images, such as balanced accuracy, a share of 1."""
        return Estimate(mean=self.mean, std=self.std, interval=self.interval)

    def gain_over(self, baseline: str) -> Difference | UnsetType:
        """The gain over a baseline of the document."""
        return self.gain_over_imagenet if baseline == IMAGENET else self.gain


class OrderingRow(Summary, frozen=True, kw_only=True):
    """An ordering of two tasks or more, measured over seeds.

    Attributes:
        ordering: its pretext tasks.
        kind: `curriculum` (accuracies of the single tasks rise), `anti-curriculum` (they fall), `tied` (they rise or
            fall but for equal ones) or `mixed`.
        full: whether it uses every task.
        uncertain: whether two of its tasks cannot be told apart, so that its kind may be chance.
        best: whether no mean of its length is higher.
        gain: over the baseline that the chains start from; unset in documents before 0.2.
    """

    first: ClassVar[tuple[str, ...]] = ("ordering", "kind", "full", "uncertain")

    ordering: list[str]
    kind: str
    full: bool
    uncertain: bool
    best: bool
    gain: Difference | UnsetType = UNSET

    @property
    def accuracy(self) -> Estimate:
        """Its main measure on the reported images, such as balanced accuracy, a share of 1."""
        return Estimate(mean=self.mean, std=self.std, interval=self.interval)


class Choice(Estimate, frozen=True, kw_only=True):
    """A chain that was chosen among all, and its main measure on the reported images.

    Attributes:
        ordering: its pretext tasks.
        validation: mean of the main measure on the validation images; None without any.
    """

    first: ClassVar[tuple[str, ...]] = ("ordering",)

    ordering: list[str]
    validation: float | None


class Best(Part, frozen=True, kw_only=True):
    """The best chain by the reported images, and the one that the validation images choose.

    Attributes:
        on_test, on_val, on_train, on_out_of_fold: the best by the images that are reported; only that of
            the document's split is set. Chosen by the images that it is quoted on, so its figure is too good.
        num_chains: how many there were to choose from.
        on_validation: the one that the validation images choose; unset without any, and where these are reported.
    """

    on_test: Choice | UnsetType = UNSET
    on_val: Choice | UnsetType = UNSET
    on_train: Choice | UnsetType = UNSET
    on_out_of_fold: Choice | UnsetType = UNSET
    num_chains: int
    on_validation: Choice | UnsetType = UNSET

    @property
    def on_reported(self) -> Choice | UnsetType:
        """The best by the images that are reported, whichever they are."""
        choices = (self.on_test, self.on_val, self.on_train, self.on_out_of_fold)
        return next((choice for choice in choices if isinstance(choice, Choice)), UNSET)


class PermutationTest(Part, frozen=True, kw_only=True):
    """A one-sided permutation test of curriculum orderings against others.

    Attributes:
        strata: `set`: an ordering is compared with others of the same tasks; `length`: with others as long.
        num_strata: sets or lengths that have both.
        effect: mean over strata of (mean of the curricula minus mean of the others), in shares of 1; None without
            strata.
        p_value: share of the ways to rename the tasks whose effect is as large or larger; None without a test. In
            documents of 0.1.0: of all ways to say which orderings are the curricula.
        num_arrangements: how many ways were looked at.
        exact: whether these are all ways, and not a random choice of them.
        interval: ends of the 95 % interval of the effect over images and seeds; None where it is not known.
        smallest_p_value: what the p-value could have been at least; unset in documents of 0.1.0.
        reason: why there is no test; None where there is one; unset in documents of 0.1.0.
    """

    strata: str
    num_strata: int
    effect: float | None
    p_value: float | None
    num_arrangements: int
    exact: bool
    interval: Interval | None
    smallest_p_value: float | UnsetType | None = UNSET
    reason: str | UnsetType | None = UNSET


class Kendall(Part, frozen=True, kw_only=True):
    """How well single-task accuracies predict the order of the orderings of one length.

    Attributes:
        length: tasks in each ordering.
        by: the prediction: `order` (how much of a curriculum it is), `mean` (the mean accuracy of its tasks) or `last`
            (the accuracy of its last task).
        tau: Kendall's tau-b of prediction and measured accuracy; None where one of them is constant.
        interval: ends of its 95 % interval over images and seeds; None where it is not known.
        num_orderings: how many orderings were compared.
    """

    length: int
    by: str
    tau: float | None
    interval: Interval | None
    num_orderings: int


class Hypothesis(Part, frozen=True, kw_only=True):
    """Are curricula better than other orderings, and do single-task accuracies predict the order of orderings?"""

    permutation: list[PermutationTest]
    kendall: list[Kendall]


class AttentionFacts(Part, frozen=True, kw_only=True):
    """How the attention of the rows was measured.

    Attributes:
        masks: where they are from: a path, or `those of the data set`.
        method: of the maps, such as `gradcam`.
        target: the class whose map is taken: `predicted` or `label`.
        layer: whose maps they are.
        coverage: share of the view that the masks cover, a mean over images: what a map without preference has.
        num_images: how many reported images have a mask.
    """

    masks: str
    method: str
    target: str
    layer: str
    coverage: float
    num_images: int


class RankDocument(Document, frozen=True, kw_only=True):
    """Pretext tasks ranked, and orderings of them.

    Attributes:
        dataset: its name.
        split: whose images are reported.
        measure: `finetune` (all weights are trained), `linear` or `knn` (probes of frozen features).
        seeds: those of every chain.
        num_images: how many images are reported.
        tasks: each task alone, by rising mean; those that failed at every seed are left out.
        baselines: name -> the chain without these tasks: `scratch` or `start`, and `ImageNet` with `--imagenet`.
        curriculum: the tasks by rising mean.
        ties: groups of neighbours in the curriculum that cannot be told apart.
        orderings: orderings of two tasks or more, shorter ones first; unset where none were asked for.
        best: which chain is best; None where every chain failed; unset without orderings.
        hypothesis: the tests; unset without orderings.
        failed: the chains that could not be trained.
        attention: how attention was measured; unset where no masks are known.
        command: the command line that trains the curriculum; None where there is none.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
        start: key of the weights that every chain starts from; unset where they start from scratch.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "rank"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    split: str
    measure: str
    seeds: list[int]
    num_images: int
    tasks: list[TaskRow]
    baselines: dict[str, Summary]
    curriculum: list[str]
    ties: list[list[str]]
    orderings: list[OrderingRow] | UnsetType = UNSET
    best: Best | UnsetType | None = UNSET
    hypothesis: Hypothesis | UnsetType = UNSET
    failed: list[Failure]
    attention: AttentionFacts | UnsetType = UNSET
    command: str | None
    overlap: Overlap | UnsetType = UNSET
    start: str | UnsetType = UNSET
    target: str | UnsetType = UNSET

    @property
    def baseline(self) -> str | None:
        """The name of the baseline that the chains start from, which gains are over; None without any."""
        return next((name for name in self.baselines if name != IMAGENET), None)

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of the baselines, the single tasks and the orderings."""
        orderings = [] if isinstance(self.orderings, UnsetType) else self.orderings
        return (
            {name: chain.predicted() for name, chain in self.baselines.items()}
            | {row.task: row.predicted() for row in self.tasks}
            | {arrow(row.ordering): row.predicted() for row in orderings}
        )
