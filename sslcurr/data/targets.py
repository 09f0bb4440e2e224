"""Labels that are no classes: several that may hold together, or a number; as values, and as strata to divide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslcurr.spec.target import BETWEEN, CLASSES, MULTILABEL, REGRESSION, UNKNOWN

# Groups of a stratum: twice as many as there are parts.
FEWEST_GROUPS = 6
NUM_RANGES = 5


def values_of(kind: str, names: Sequence[str], labels: Sequence[str | None]) -> NDArray[np.float32] | None:
    """Labels as numbers, [N, T]; NaN where nothing is known.

    Args:
        kind: of the target.
        names: T, of the labels that may hold together (1 or 0 each), or of the one number.
        labels: N texts; None is no label.

    Returns:
        None for classes, which have numbers of their own.
    """
    if kind == CLASSES.name:
        return None
    if kind == REGRESSION.name:
        return np.array([[math.nan if label is None else float(label)] for label in labels], dtype=np.float32)
    place = {name: number for number, name in enumerate(names)}
    values = np.zeros((len(labels), len(names)), dtype=np.float32)
    for row, label in zip(values, labels, strict=True):
        if label is None:
            row[:] = math.nan
        for part in label.split(BETWEEN) if label else ():
            if part in place:
                row[place[part]] = 1.0
            else:
                row[place[part.removeprefix(UNKNOWN)]] = math.nan
    return values


@dataclass(frozen=True)
class Encoded:
    """The labels of N images as numbers.

    Attributes:
        labels: [N] class numbers, or those of the strata that divide other targets; -1 without a label.
        names: of these numbers.
        values: [N, T] float32, of targets that are no classes: 1 and 0 for each label that may hold, or the number; NaN
            where nothing is known. None for classes.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    values: NDArray[np.float32] | None


def encoded(
    kind: str, names: Sequence[str], labels: Sequence[str | None], groups: Sequence[str] | None = None
) -> Encoded:
    """The labels of images as numbers.

    Args:
        kind: of the target.
        names: of the classes, of the labels that may hold together, or of the one number.
        labels: N texts; None is no label.
        groups: N; "" is a group of its own.
    """
    values = values_of(kind, names, labels)
    if values is not None:
        strata, shown = strata_of(kind, names, values, groups)
        return Encoded(strata, shown, values)
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.array([-1 if label is None else code_of[label] for label in labels], dtype=np.int64)
    return Encoded(codes, tuple(names), None)


def strata_of(
    kind: str, names: Sequence[str], values: NDArray[np.float32], groups: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Strata in which such images are divided, so that all parts are alike: [N] numbers, -1 without a label; and names.

    Images with labels that may hold together stand with the rarest of theirs; numbers stand with those of their fifth.
    A stratum of fewer than `FEWEST_GROUPS` groups is put to the next one.
    """
    known = np.asarray(~np.isnan(values).all(axis=1))
    strata = np.full(len(values), -1, dtype=np.int64)
    units = np.arange(len(values)) if groups is None else _units(groups)
    order = (_by_rarest if kind == MULTILABEL.name else _by_range)(values, known, len(np.unique(units[known])))
    strata[known] = order[known]
    numbers = _joined(strata, units)
    strata[known] = numbers[strata[known]]
    shown = [_shown(kind, names, values[strata == number]) for number in range(int(strata.max(initial=-1)) + 1)]
    return strata, tuple(shown)


def _by_rarest(values: NDArray[np.float32], known: NDArray[np.bool_], num_units: int) -> NDArray[np.int64]:
    """The place of each image's rarest label among all labels, the rarest first; after them, images with none."""
    holds = values == 1
    order = np.argsort(holds.sum(axis=0), kind="stable")
    strata = np.full(len(values), len(order), dtype=np.int64)
    for number in reversed(range(len(order))):
        strata[holds[:, order[number]]] = number
    return strata


def _by_range(values: NDArray[np.float32], known: NDArray[np.bool_], num_units: int) -> NDArray[np.int64]:
    """The fifth, from the lowest, in which each number lies; equal numbers lie in one."""
    numbers = values[:, 0].astype(np.float64)
    if not known.any():
        return np.zeros(len(values), dtype=np.int64)
    num_ranges = max(1, min(NUM_RANGES, num_units // FEWEST_GROUPS))
    edges = np.quantile(numbers[known], np.linspace(0, 1, num_ranges + 1)[1:-1], method="lower")
    return np.searchsorted(np.unique(edges), numbers, side="left").astype(np.int64)


def _joined(strata: NDArray[np.int64], units: NDArray[np.intp]) -> NDArray[np.int64]:
    """A new number for each stratum, from 0 on: one with too few groups has that of the next, the last of the one
    before."""
    last = int(strata.max(initial=-1))
    parts: list[list[int]] = [[]]
    for number in range(last + 1):
        parts[-1].append(number)
        if len(np.unique(units[np.isin(strata, parts[-1])])) >= FEWEST_GROUPS:
            parts.append([])
    if len(parts) > 1:
        rest = parts.pop()
        parts[-1] += rest
    return np.array([place for place, part in enumerate(parts) for _ in part], dtype=np.int64)


def _shown(kind: str, names: Sequence[str], values: NDArray[np.float32]) -> str:
    """What messages call the images of a stratum."""
    if kind == MULTILABEL.name:
        held = [name for name, column in zip(names, values.T, strict=True) if (column == 1).all()]
        return BETWEEN.join(held) or "of several labels, or of none"
    return f"from {values.min():g} to {values.max():g}"


def _units(groups: Sequence[str]) -> NDArray[np.intp]:
    """A number for each group; each image without one is its own."""
    return np.unique([group or f"\0{i}" for i, group in enumerate(groups)], return_inverse=True)[1].astype(np.intp)
