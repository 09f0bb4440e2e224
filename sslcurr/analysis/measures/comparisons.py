"""The chains of one table: their intervals, and which of them luck alone cannot tell apart. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from sslcurr.analysis.measures.intervals import Interval, Luck, Sample, combined, interval_of, luck_of

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Paired:
    """A difference, or another weighted sum of chains, over the seeds and images that all have.

    Attributes:
        mean: of it.
        interval: ends of its 95 % interval.
        num_seeds: that all its chains have.
        told_apart: whether it is more than luck: the interval leaves 0 out, and luck is known from two seeds at least.
    """

    mean: float
    interval: Interval
    num_seeds: int
    told_apart: bool


class Comparisons(Generic[Name]):
    """The chains of one table, shares of 1 that were measured on the same images.

    Args:
        samples: by name.
        baselines: which of them were trained otherwise than the rest: they do not lend the others their variance over
            seeds, and borrow theirs only where a test allows (`Luck.lends_to`).
        lineages: name -> first stage of the chain; chains that share it count once for what is known of luck.
    """

    def __init__(
        self,
        samples: Mapping[Name, Sample],
        *,
        baselines: Collection[Name] = (),
        lineages: Mapping[Name, Hashable] | None = None,
    ) -> None:
        self.samples = {name: each for name, each in samples.items() if len(each.seeds)}
        self.baselines = frozenset(baselines)
        chains = [name for name in self.samples if name not in self.baselines]
        first = None if lineages is None else [lineages[name] for name in chains]
        self.luck = luck_of([self.samples[name] for name in chains], first)

    def _luck_for(self, names: Collection[Name]) -> Luck | None:
        """The luck of the table, where all these chains may borrow it."""
        if self.luck is None:
            return None
        lent = all(self.luck.lends_to(self.samples[name]) for name in names if name in self.baselines)
        return self.luck if lent else None

    def interval(self, name: Name) -> Interval | None:
        """The 95 % interval of a chain's mean; None for one that was not measured."""
        figure = self.samples.get(name)
        return None if figure is None else interval_of(figure, self._luck_for([name]), within=(0.0, 1.0))

    def difference(self, a: Name, b: Name) -> Paired | None:
        """b minus a; None where they have no seed in common."""
        if a not in self.samples or b not in self.samples:
            return None
        return self.weighted({a: -1.0, b: 1.0}, ends=(-1.0, 1.0))

    def weighted(self, weights: Mapping[Name, float], *, ends: Interval, borrow: bool = True) -> Paired | None:
        """A weighted sum of chains; None where they have no seed in common.

        Args:
            weights: of the chains.
            ends: what the sum can be.
            borrow: whether its luck may be that of the table. That takes the chains' luck as independent: False for
                sums of many chains with weights of one sign, whose luck does not cancel where they share it.
        """
        figure = combined([self.samples[name] for name in weights], list(weights.values()))
        if figure is None:
            return None
        luck = self._luck_for(list(weights)) if borrow else None
        interval = interval_of(figure, luck, within=ends)
        assert interval is not None  # it has a seed
        known = len(figure.values) > 1 or luck is not None
        return Paired(figure.mean, interval, len(figure.values), known and not interval[0] <= 0 <= interval[1])
