"""Estimates with their standard deviation and interval, and how they are written: the only place that writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Part, Predicted
from sslcurr.spec.target import CLASSES, TARGETS, TargetKind

if TYPE_CHECKING:
    from sslcurr.analysis.measures.comparisons import Paired

INTERVAL = "95 % interval"
Interval = tuple[float, float]


class Difference(Part, frozen=True, kw_only=True):
    """A difference of main measures, such as balanced accuracies (shares of 1).

    Attributes:
        mean: None where there is nothing to compare.
        interval: ends of the 95 % interval; None where it is not known. Of one seed it is over images only.
        num_seeds: over which both were measured.
        told_apart: whether the difference is more than luck: the interval leaves out 0, and the luck of seeds is known.
            One seed tells nothing apart by itself. `num_seeds` and `told_apart` are unset in documents of 0.1.0.
    """

    mean: float | None
    interval: Interval | None
    num_seeds: int | UnsetType = UNSET
    told_apart: bool | UnsetType = UNSET

    @property
    def sign(self) -> int:
        """1 where it is above 0 by more than luck, -1 where it is below, 0 where it cannot be told apart from 0.

        Documents of 0.1.0 do not say whether the luck of seeds is known: their interval decides.
        """
        if self.mean is None or self.interval is None or self.told_apart is False:
            return 0
        return int(self.interval[0] > 0) - int(self.interval[1] < 0)

    @classmethod
    def of(cls, paired: Paired | None) -> Self:
        """What was compared; None where no seed has both."""
        if paired is None:
            return cls(mean=None, interval=None, num_seeds=0, told_apart=False)
        return cls(mean=paired.mean, interval=paired.interval, num_seeds=paired.num_seeds, told_apart=paired.told_apart)


class Estimate(Part, frozen=True, kw_only=True):
    """A mean over seeds.

    Attributes:
        mean: None where nothing was measured.
        std: standard deviation over seeds (n - 1); None for fewer than two.
        interval: ends of the 95 % interval; None where it is not known.
    """

    mean: float | None
    std: float | None
    interval: Interval | None


class Run(Part, frozen=True, kw_only=True):
    """One chain at one seed.

    Attributes:
        seed: of weights, order and views.
        balanced_accuracy: on the reported images, a share of 1; unset where the target is no class.
        validation: the main measure on the validation images; None without any.
        key: of the last stage; None for a probe of an untrained network.
        predictions: path of the table with every prediction.
        attention: share of the attention inside the masks, where masks are known.
        score: the main measure on the reported images where the target is no class, a share of 1.
    """

    seed: int
    balanced_accuracy: float | UnsetType = UNSET
    validation: float | None
    key: str | None
    predictions: str
    attention: float | UnsetType | None = UNSET
    score: float | UnsetType = UNSET

    @classmethod
    def of(cls, value: float, target: TargetKind, **rest: Any) -> Self:
        """A run with its main measure under the name that it has."""
        if target is CLASSES:
            return cls(balanced_accuracy=value, **rest)
        return cls(score=value, **rest)

    @property
    def value(self) -> float:
        """The main measure on the reported images."""
        value = self.balanced_accuracy if isinstance(self.score, UnsetType) else self.score
        assert not isinstance(value, UnsetType)
        return value


class Summary(Estimate, frozen=True, kw_only=True):
    """A chain measured over seeds; `validation` is the mean of the main measure on the validation images."""

    validation: float | None
    attention: Estimate | UnsetType = UNSET
    runs: list[Run]

    def predicted(self) -> list[Predicted]:
        """The predictions of each seed."""
        return [Predicted(run.seed, run.predictions) for run in self.runs]


class ReportAttention(Part, frozen=True, kw_only=True):
    """How much of a model's attention lies inside masks, as a test report has it; shares of 1.

    Attributes:
        mean: over the images; None where no map is defined.
        interval: its 95 % interval over images.
        coverage: share of the view that the masks cover, which a map without preference would have.
        pointing: share of the images whose highest point lies inside.
        num_images: with a mask.
    """

    mean: float | None
    interval: Interval | None
    coverage: float
    pointing: float | None
    num_images: int


class Failure(Part, frozen=True, kw_only=True):
    """A chain that could not be trained at one seed, and why."""

    ordering: list[str]
    seed: int
    reason: str


# ---- how they are written


def target_name(target: TargetKind) -> str | UnsetType:
    """A kind of target as documents have it: unset for classes."""
    return UNSET if target is CLASSES else target.name


def target_of(name: str | UnsetType) -> TargetKind:
    """The kind of target that documents call so; unset is classes."""
    return TARGETS[name] if isinstance(name, str) else CLASSES


def measure_of(name: str | UnsetType) -> str:
    """What the main measure of a kind of target is called; unset is that of classes."""
    return target_of(name).measure


def share(value: float | None) -> str:
    """A share as a percentage, without its sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def spread(mean: float | None, std: float | None) -> str:
    """A mean in percent with its standard deviation over seeds."""
    if mean is None:
        return "failed"
    return share(mean) if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"


def between(low: float | None, high: float | None) -> str:
    """An interval of shares, in percent."""
    return "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def in_points(value: float) -> str:
    """A difference of shares in points, in words."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"


def points(mean: float | None, low: float | None, high: float | None) -> str:
    """A difference of shares in points, with its interval."""
    if mean is None:
        return "-"
    ends = "" if low is None or high is None else f" ({signed(100 * low)} to {signed(100 * high)})"
    return f"{signed(100 * mean)}{ends}"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; what rounds to zero is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def measured(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number such as CKA, with its interval."""
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


def in_units(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number in units of its own, with its interval."""
    if value is None:
        return "-"
    texts = [f"{each:,.0f}" if abs(each) >= 1000 else f"{each:#.3g}" for each in (value, low, high) if each is not None]
    return texts[0] if len(texts) < 3 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def correlated(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A correlation with its interval."""
    if value is None:
        return "-"
    return signed(value, 2) + ("" if low is None or high is None else f" ({signed(low, 2)} to {signed(high, 2)})")


def with_error(factor: float = 1.0) -> Callable[..., str]:
    """Shows a mean with a standard deviation, to the second digit of that: `69,000 ± 2,600`; alone in four digits."""

    def shown(mean: float | None, deviation: float | None = None) -> str:
        if mean is None:
            return "-"
        if not deviation or not math.isfinite(deviation):
            return f"{factor * mean:,.4g}" if abs(factor * mean) < 10_000 else f"{factor * mean:,.0f}"
        digits = 1 - math.floor(math.log10(abs(factor * deviation)))
        texts = [f"{round(factor * value, digits):,.{max(digits, 0)}f}" for value in (mean, deviation)]
        return " ± ".join(texts)

    return shown


def plus_minus(digits: int, factor: float = 1.0) -> Callable[..., str]:
    """Shows a mean with a standard deviation."""

    def shown(mean: float | None, deviation: float | None = None) -> str:
        if mean is None:
            return "-"
        text = f"{factor * mean:.{digits}f}"
        return text if deviation is None else f"{text} ± {factor * deviation:.{digits}f}"

    return shown


def ends_of(interval: Sequence[float] | None, name: str = "") -> dict[str, float | None]:
    """The ends of an interval as two values of a row."""
    low, high = interval if interval is not None else (None, None)
    return {f"{name}low": low, f"{name}high": high}
