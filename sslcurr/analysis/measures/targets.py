"""Measures of targets that are no classes, and what each image does to them: pure functions on arrays.

A measure of N images, such as an AUROC, is written as a mean of N values, one an image: the measure plus N times its
derivative by the image's weight. The mean of the values is the measure, and their variance over N that of the measure
over images, to first order (the infinitesimal jackknife: Jaeckel 1972; Efron and Tibshirani 1993, section 22.6). So
intervals, groups, seeds and paired differences are those of `intervals` and `comparisons`. For an AUROC these are the
placement values of DeLong et al. 1988, https://doi.org/10.2307/2531595.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import Floats, Images, Interval, interval_of, sample

Bools = NDArray[np.bool_]

# ---- one label


def auroc_values(holds: Bools, scores: Floats) -> Floats:
    """[N] values whose mean is the area under the ROC curve of N scores; equal scores count half.

    `holds` has both True and False.
    """
    num_holding, num_others = int(holds.sum()), int((~holds).sum())
    positive, negative = np.sort(scores[holds]), np.sort(scores[~holds])
    placement = np.empty(len(scores))
    placement[holds] = _share_below(negative, scores[holds])
    placement[~holds] = 1 - _share_below(positive, scores[~holds])
    area = float(placement[holds].mean())
    weights = np.where(holds, len(scores) / num_holding, len(scores) / num_others)
    return np.asarray(area + weights * (placement - area))


def _share_below(ordered: Floats, values: Floats) -> Floats:
    """Which share of some ordered numbers lies below each value, equal ones counting half."""
    below, upto = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    return np.asarray((below + upto) / (2 * len(ordered)))


def average_precision_values(holds: Bools, scores: Floats) -> Floats:
    """[N] values whose mean is the average precision of N scores, as scikit-learn has it; `holds` has both."""
    num = len(scores)
    order = np.argsort(-scores, kind="stable")
    held, ordered = holds[order].astype(float), -scores[order]
    last = np.searchsorted(ordered, ordered, side="right")  # how many scores are as high or higher
    true, every = np.cumsum(held)[last - 1], last.astype(float)
    num_holding = held.sum()
    precision = true / every
    average = float((held * precision).sum() / num_holding)
    # An image counts in the precision at every holding image whose score is no higher than its own.
    first = np.searchsorted(ordered, ordered, side="left")
    gained = _sums_from(held / every)[first]
    lost = _sums_from(held * true / every**2)[first]
    derivative = (held * (precision - average) + held * gained - lost) / num_holding
    values = np.empty(num)
    values[order] = average + num * derivative
    return values


def _sums_from(values: Floats) -> Floats:
    """[N] sums of the values from each place on."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


# ---- several labels that may hold together


@dataclass(frozen=True)
class LabelMeasures:
    """How well one label is told, on the images where it is known; None where it holds for all of them or for none.

    Attributes:
        auroc, auroc_interval: area under the ROC curve, and its 95 % interval over images.
        average_precision, average_precision_interval: likewise.
        num_holding, num_known: images.
    """

    auroc: float | None
    auroc_interval: Interval | None
    average_precision: float | None
    average_precision_interval: Interval | None
    num_holding: int
    num_known: int


@dataclass(frozen=True)
class MultiLabelMeasures:
    """How well labels that may hold together are told; means are over the labels that can be measured.

    Attributes:
        auroc, interval: macro AUROC; None where no label can be measured.
        average_precision, average_precision_interval: macro average precision.
        labels: by name.
        num_images: N.
    """

    auroc: float | None
    interval: Interval | None
    average_precision: float | None
    average_precision_interval: Interval | None
    labels: dict[str, LabelMeasures]
    num_images: int


def macro_values(
    targets: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    one: Callable[[Bools, Floats], Floats] = auroc_values,
    folds: NDArray[Any] | None = None,
) -> Floats | None:
    """[N] values whose mean is the mean over labels of a measure of each; None where no label can be measured.

    Args:
        targets: [N, T], 1 where a label holds, 0 where it does not, NaN where that is not known.
        scores: [N, T], higher where a label is more likely.
        one: the values of one label.
        folds: [N] the fold that tested each image: scores of other models are not compared, and the measure is the
            mean over folds by their images. None for one model.
    """

    def of_label(target: NDArray[Any], score: NDArray[Any]) -> Floats | None:
        return by_fold(lambda rows: _values_of_label(target[rows], score[rows], one), len(target), folds)

    columns = [of_label(*pair) for pair in zip(targets.T, scores.T, strict=True)]
    measured = [column for column in columns if column is not None]
    return np.mean(measured, axis=0) if measured else None


def by_fold(values_of: Callable[[Any], Floats | None], num_images: int, folds: NDArray[Any] | None) -> Floats | None:
    """[N] values of images, of each fold by itself; a fold that cannot be measured moves nothing.

    Args:
        values_of: of some rows.
        num_images: N.
        folds: [N] numbers; None takes all images together.
    """
    if folds is None:
        return values_of(slice(None))
    values = np.full(num_images, np.nan)
    for fold in np.unique(folds):
        found = values_of(folds == fold)
        if found is not None:
            values[folds == fold] = found
    if np.isnan(values).all():
        return None
    return np.where(np.isnan(values), np.nanmean(values), values)


def _values_of_label(
    target: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]], one: Callable[[Bools, Floats], Floats]
) -> Floats | None:
    """[N] values of all images of one label: those of which it is not known move nothing."""
    known, holds = ~np.isnan(target), target == 1
    if not 0 < holds.sum() < known.sum():
        return None
    part = one(holds[known], np.asarray(scores[known], dtype=float))
    measure = part.mean()
    values = np.full(len(target), measure)
    values[known] += (part - measure) * (len(target) / known.sum())
    return values


def macro_auroc(targets: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]]) -> float | None:
    """The mean area under the ROC curve over labels, as of `macro_values`."""
    values = macro_values(targets, scores)
    return None if values is None else float(values.mean())


def least_variance(
    targets: NDArray[np.floating[Any]], groups: NDArray[Any] | None = None, sides: Sequence[int] = (0, 1)
) -> float:
    """What the variance over images of a macro AUROC is at least: labels told without an error are not certain.

    A label that n images have and m have not has 1 / (2 n)^2 + 1 / (2 m)^2. In simulations of 5 to 50 images with a
    label and areas of 0.7 to 0.99, intervals then hold the truth in 90 to 100 %; without it in 70 to 95 %.

    Args:
        targets: [N, T], NaN where nothing is known.
        groups: [N]; images of one group count once.
        sides: 1 alone for means over the images that have a label, such as average precision.
    """
    found = []
    for column in targets.T:
        units = np.arange(len(column)) if groups is None else groups
        counts = [len(np.unique(units[column == value])) for value in (0, 1)]
        if all(counts):
            found.append(sum(1 / (2 * counts[side]) ** 2 for side in sides))
    return float(np.sum(found)) / len(found) ** 2 if found else 0.0


def multilabel_measures(
    targets: NDArray[np.floating[Any]],
    probabilities: NDArray[np.floating[Any]],
    names: Sequence[str],
    groups: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
) -> MultiLabelMeasures:
    """What a person asks of a classifier of labels that may hold together, on one split.

    Args:
        targets: [N, T], NaN where nothing is known.
        probabilities: [N, T] that each label holds.
        names: T labels.
        groups: [N] group numbers; images of one group are not independent.
        folds: [N] the fold that tested each image, as of `macro_values`.
    """

    def area(columns: slice) -> tuple[float | None, Interval | None]:
        least = least_variance(targets[:, columns], groups)
        values = macro_values(targets[:, columns], probabilities[:, columns], folds=folds)
        return _estimate(values, groups, (0.0, 1.0), least, folds)

    def precision(columns: slice) -> tuple[float | None, Interval | None]:
        values = macro_values(targets[:, columns], probabilities[:, columns], average_precision_values, folds)
        return _estimate(values, groups, (0.0, 1.0), least_variance(targets[:, columns], groups, sides=(1,)), folds)

    labels = {}
    for place, name in enumerate(names):
        own, target = slice(place, place + 1), targets[:, place]
        held, known = int((target == 1).sum()), int((~np.isnan(target)).sum())
        labels[name] = LabelMeasures(*area(own), *precision(own), num_holding=held, num_known=known)
    every = slice(None)
    return MultiLabelMeasures(*area(every), *precision(every), labels=labels, num_images=len(targets))


def _estimate(
    values: Floats | None,
    groups: NDArray[Any] | None,
    within: Interval,
    least: float = 0.0,
    folds: NDArray[Any] | None = None,
) -> tuple[float | None, Interval | None]:
    """A measure and its 95 % interval over images, of the values of images."""
    if values is None:
        return None, None
    figure = sample(values[None], Images.of(len(values), groups=groups, least=least, folds=folds, shares=False))
    return float(values.mean()), interval_of(figure, within=within)


# ---- a number


@dataclass(frozen=True)
class RegressionMeasures:
    """How well numbers are foretold; intervals are of 95 %, over images.

    Attributes:
        r2, interval: share of the numbers' variance that is explained; None where all numbers are equal.
        mae, mae_interval: mean absolute error, in units of the numbers.
        spearman, spearman_interval: rank correlation; None where either side is constant.
        num_images: N.
    """

    r2: float | None
    interval: Interval | None
    mae: float
    mae_interval: Interval | None
    spearman: float | None
    spearman_interval: Interval | None
    num_images: int


@dataclass(frozen=True)
class NumberBin:
    """Images of which about the same number is foretold; see `sslcurr.analysis.results.training.document.NumberBin`."""

    num: int
    foretold: float
    true: float
    low: float
    high: float


def agreement_of(numbers: Floats, predictions: Floats, num_bins: int = 10) -> list[NumberBin]:
    """What is true where about the same is foretold: tenths of the images, by what is foretold. Both are [N]."""
    bins = []
    for members in np.array_split(np.argsort(predictions, kind="stable"), min(num_bins, len(predictions))):
        low, high = np.quantile(numbers[members], [0.25, 0.75])
        means = float(predictions[members].mean()), float(numbers[members].mean())
        bins.append(NumberBin(len(members), *means, float(low), float(high)))
    return bins


def r2_values(numbers: Floats, predictions: Floats) -> Floats | None:
    """[N] values whose mean is R², the share of the numbers' variance that is explained; None for equal numbers."""
    errors, deviations = np.square(predictions - numbers), np.square(numbers - numbers.mean())
    variance, error = deviations.mean(), errors.mean()
    if variance <= 0:
        return None
    explained = 1 - error / variance
    return np.asarray(explained - (errors - error) / variance + error * (deviations - variance) / variance**2)


def spearman_values(numbers: Floats, predictions: Floats) -> Floats | None:
    """[N] values whose mean is Spearman's rank correlation, equal values sharing their mean rank; None where a side is
    constant."""
    ranks = [_shares_below(numbers), _shares_below(predictions)]
    if any(each.std() < 1e-12 for each in ranks):
        return None
    u, v = ((each - each.mean()) / each.std() for each in ranks)
    correlation = float((u * v).mean())
    values = correlation + u * v - correlation * (u**2 + v**2) / 2
    # An image also moves the ranks of all above it.
    for side, own, other, spread in ((numbers, u, v, ranks[0].std()), (predictions, v, u, ranks[1].std())):
        slope = (other - correlation * own) / spread
        values = values + _mean_above(side, slope)
    return np.asarray(values)


def _shares_below(values: Floats) -> Floats:
    """Which share of all values lies below each, equal ones counting half."""
    return _share_below(np.sort(values), values)


def _mean_above(values: Floats, slopes: Floats) -> Floats:
    """[N] means over all images of the slopes of those with a higher value, equal ones counting half; of mean 0."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    sums = np.append(_sums_from(slopes[order]), 0.0)
    above = sums[np.searchsorted(ordered, values, side="right")]
    upto = sums[np.searchsorted(ordered, values, side="left")]
    means = (above + upto) / 2 / len(values)
    return np.asarray(means - means.mean())


def regression_measures(
    numbers: NDArray[np.floating[Any]],
    predictions: NDArray[np.floating[Any]],
    groups: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
) -> RegressionMeasures:
    """What a person asks of a model of a number, on one split; all arguments are [N].

    R² and Spearman's correlation of several folds are means over folds, by their images.
    """
    true, foretold = np.asarray(numbers, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    errors = np.abs(foretold - true)

    def estimate(
        one: Callable[[Floats, Floats], Floats | None], within: Interval, least: float = 0.0
    ) -> tuple[float | None, Interval | None]:
        values = by_fold(lambda rows: one(true[rows], foretold[rows]), len(true), folds)
        return _estimate(values, groups, within, least, folds)

    # Numbers in perfect order are no proof that the next one will be in its place.
    num_units = max(len(true) if groups is None else len(np.unique(groups)), 1)
    return RegressionMeasures(
        *estimate(r2_values, (-np.inf, 1.0)),
        float(errors.mean()),
        _estimate(errors, groups, (0.0, np.inf), 0.0, folds)[1],
        *estimate(spearman_values, (-1.0, 1.0), 1 / num_units**2),
        num_images=len(true),
    )
