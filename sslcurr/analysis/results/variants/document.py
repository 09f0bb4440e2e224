"""The document of `sslcurr rank --over`: one ranking under several settings, compared image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted
from sslcurr.analysis.results.estimate import Difference, Failure, Interval, Summary
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.analysis.results.ranking.document import AttentionFacts, Best, Hypothesis
from sslcurr.wording import arrow

TASKS, CHAINS = "tasks", "chains"  # what a rank correlation is of


class Axis(Part, frozen=True, kw_only=True):
    """A setting that is varied.

    Attributes:
        name: as it is given on the command line, such as `batch-size` or `mocov2.temperature`.
        values: as they were given, the reference first; `default` is the recipe's.
    """

    name: str
    values: list[str]


class ChainRow(Summary, frozen=True, kw_only=True):
    """A chain under one variant, measured over seeds.

    Attributes:
        ordering: its pretext tasks; none for the baseline.
        kind: of an ordering of two tasks or more, as in a ranking; `single` for one task, `baseline` for none.
        uncertain: whether two of its tasks cannot be told apart under this variant, so that its kind may be chance.
        best: whether no chain with pretext tasks has a higher mean under this variant.
        gain: over the variant's own baseline; unset for the baseline.
        change: from the same chain under the reference, paired by seed and image; unset under the reference, and where
            that has no such chain.
        gain_change: how much larger the gain is than under the reference, paired as well; unset where there is none.
    """

    first: ClassVar[tuple[str, ...]] = ("ordering", "kind", "uncertain", "best")

    ordering: list[str]
    kind: str
    uncertain: bool
    best: bool
    gain: Difference | UnsetType = UNSET
    change: Difference | UnsetType = UNSET
    gain_change: Difference | UnsetType = UNSET


class FoundRate(Part, frozen=True, kw_only=True):
    """The learning rates that searches found for a stage.

    Attributes:
        tasks: of its chain up to the stage.
        recipe: the rate that the recipe gives.
        median, lowest, highest: of those that were found, over the seeds.
        num_seeds: at how many seeds the store holds the stage.
    """

    tasks: list[str]
    recipe: float
    median: float
    lowest: float
    highest: float
    num_seeds: int


class Variant(Part, frozen=True, kw_only=True):
    """A ranking under one combination of the settings.

    Attributes:
        title: the settings in a line.
        values: setting -> its value, as it was given.
        backbone: the network.
        image_size: side of the views, in pixels.
        chains: the baseline, the single tasks by rising mean, then orderings, shorter ones first; those that failed at
            every seed are left out.
        curriculum: the tasks by rising mean.
        ties: groups of neighbours in the curriculum that cannot be told apart.
        best: which chain is best, single tasks among them; None where every chain failed.
        hypothesis: the tests; unset without orderings.
        attention: how attention was measured; unset where no masks are known.
        mean_change: the mean of the chains' changes from the reference, without the baseline; unset under the
            reference, and where no chain has one.
        rates: the learning rates that were found; unset where none were searched.
        command: the command line that trains the curriculum; None where there is none.
    """

    title: str
    values: dict[str, str]
    backbone: str
    image_size: int
    chains: list[ChainRow]
    curriculum: list[str]
    ties: list[list[str]]
    best: Best | None
    hypothesis: Hypothesis | UnsetType = UNSET
    attention: AttentionFacts | UnsetType = UNSET
    mean_change: Difference | UnsetType = UNSET
    rates: list[FoundRate] | UnsetType = UNSET
    command: str | None


class RankAgreement(Part, frozen=True, kw_only=True):
    """How far two variants order the same tasks, or the same chains, alike.

    Attributes:
        variant, other: titles of the two.
        of: `tasks` (single ones) or `chains` (these and the orderings).
        num_chains: how many both have at all seeds.
        kendall, spearman: Kendall's tau-b and Spearman's rho of the means over seeds; None where a variant has one
            value only, or there are fewer than two chains.
        tau: Kendall's tau-b between the variant's means over all seeds but one and the other at that seed, averaged
            over the seeds; None with one seed.
        interval: ends of the 95 % interval of `tau` over images and seeds; None where it is not known.
        reason: why there is no interval; None where there is one.
    """

    variant: str
    other: str
    of: str
    num_chains: int
    kendall: float | None
    spearman: float | None
    tau: float | None
    interval: Interval | None
    reason: str | None


class VariantFailure(Failure, frozen=True, kw_only=True):
    """A chain that could not be trained under a variant at one seed, and why."""

    first: ClassVar[tuple[str, ...]] = ("variant",)

    variant: str


class VariantsDocument(Document, frozen=True, kw_only=True):
    """One ranking under several settings, on the same images and with the same seeds.

    Attributes:
        dataset: its name.
        split: whose images are reported.
        measure: `finetune` (all weights are trained), `linear` or `knn` (probes of frozen features).
        seeds: those of every chain under every variant.
        num_images: how many images are reported.
        tasks: the pretext tasks.
        baseline: what a chain without pretext tasks begins with: `scratch`, or `start` with `--from`.
        axes: the settings that are varied; the variants are all combinations of their values.
        variants: the first is the reference that the others are compared with.
        agreement: the rank correlations of every two variants.
        failed: the chains that could not be trained.
        overlap: reported images that were trained on before; unset where training images are reported.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "variants"

    dataset: str
    split: str
    measure: str
    seeds: list[int]
    num_images: int
    tasks: list[str]
    baseline: str
    axes: list[Axis]
    variants: list[Variant]
    agreement: list[RankAgreement]
    failed: list[VariantFailure]
    overlap: Overlap | UnsetType = UNSET
    target: str | UnsetType = UNSET

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of every chain under every variant."""
        return {
            f"{self.title_of(row.ordering)} ({each.title})": row.predicted()
            for each in self.variants
            for row in each.chains
        }

    def title_of(self, ordering: Sequence[str]) -> str:
        """The tasks of a chain, or the name of the baseline."""
        return arrow(ordering) or self.baseline
