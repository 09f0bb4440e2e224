"""Samples of more than 8 bits to 8: the robust window, and look-up tables that make it one pass over the image.

An image of 16 bits has 65,536 possible values at most. What becomes of each is computed once; percentiles come from the
counts of the values. Both give exactly what the same computation on the pixels gives.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["count_codes", "has_two_values", "look_up", "percentiles_of_counts", "to_codes", "window", "window_table"]

LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9

# numpy widens indices to 8 bytes each; in pieces of these sizes, the wide ones stay in the processor's cache.
LOOK_UP_CHUNK = 2**16
COUNT_CHUNK = 2**18

FEW = 2**10  # pixels that are looked at before all are


def has_two_values(values: np.ndarray) -> bool:
    """Whether there are no more than two different values, NaN apart, as in a picture of black and white."""
    # A few pixels decide for nearly all images, without a pass over the rest.
    some = values.reshape(-1)[:: max(1, values.size // FEW)]
    return _has_two_values(some) and _has_two_values(values)


def _has_two_values(values: np.ndarray) -> bool:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values.reshape(-1)
    others = known[known != known[0]] if known.size else known
    return others.size == 0 or bool((others == others[0]).all())


def window(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Deep samples to uint8 of the same shape, by robust percentiles; NaN becomes 0, infinities the nearest end.

    counted: bool, of the same shape; only where it is True do values count for the percentiles.
    """
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2 and counted is None:
        codes = to_codes(values)
        counts = count_codes(codes)
        present = np.flatnonzero(counts)
        stored = present.astype(codes.dtype).view(values.dtype.newbyteorder("="))
        table = np.zeros(counts.size, np.uint8)
        table[present] = window_table(stored, counts[present])
        return look_up(table, codes)
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if counted is not None:
        finite &= counted
    samples = values[finite].astype(np.float64)
    if samples.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = (float(x) for x in np.percentile(samples, [LOW_PERCENTILE, HIGH_PERCENTILE]))
    if low == high:
        low, high = float(samples.min()), float(samples.max())
    return _scaled(values, low, high)


def window_table(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The byte, uint8 [N], for each of N values [N] of which an image has `counts` [N] pixels; see `window`."""
    present = np.flatnonzero(counts)
    if present.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = percentiles_of_counts(values[present], counts[present], (LOW_PERCENTILE, HIGH_PERCENTILE))
    if low == high:
        low, high = float(values[present].min()), float(values[present].max())
    return _scaled(values, low, high)


def percentiles_of_counts(values: np.ndarray, counts: np.ndarray, percentiles: tuple[float, ...]) -> list[float]:
    """What np.percentile gives for each of the values [N] repeated `counts` [N] times, in any order."""
    order = np.argsort(values)
    ends = np.cumsum(counts[order])
    ascending = values[order].astype(np.float64)
    last = int(ends[-1]) - 1
    results = []
    for percentile in percentiles:
        position = last * (percentile / 100)
        below = math.floor(position)
        part = position - below
        first = float(ascending[np.searchsorted(ends, below, side="right")])
        second = float(ascending[np.searchsorted(ends, min(below + 1, last), side="right")])
        # numpy takes the nearer end as the start, which matters in the last digit.
        step = second - first
        results.append(first + step * part if part < 0.5 else second - step * (1 - part))
    return results


def to_codes(values: np.ndarray) -> np.ndarray:
    """The bit patterns of integers of 8 or 16 bits, as unsigned ones of native byte order; a view where it can be."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native).view(f"u{values.dtype.itemsize}")


def count_codes(codes: np.ndarray) -> np.ndarray:
    """How many pixels have each code, int64 [256 or 65536], for uint8 or uint16 of any shape."""
    flat, counts = codes.reshape(-1), np.zeros(256**codes.itemsize, np.int64)
    for start in range(0, flat.size, COUNT_CHUNK):
        counts += np.bincount(flat[start : start + COUNT_CHUNK], minlength=counts.size)
    return counts


def look_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """table[codes], uint8 of the shape of `codes` (and a last axis of 3 for a table [N, 3] of colours).

    The table has an entry for each possible code: 256 for uint8, 65536 for uint16.
    """
    flat = codes.reshape(-1)
    result = np.empty((flat.size, *table.shape[1:]), np.uint8)
    for start in range(0, flat.size, LOOK_UP_CHUNK):
        part = slice(start, start + LOOK_UP_CHUNK)
        # No code is out of range; numpy writes to `out` directly only in a mode that cannot raise.
        table.take(flat[part], axis=0, out=result[part], mode="clip")
    return result.reshape(*codes.shape, *table.shape[1:])


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values between low and high to 0..255, those outside to the nearest end; zeros if low is high."""
    if low == high:
        return np.zeros(values.shape, np.uint8)
    wide = values.astype(np.float64)
    if values.dtype.kind == "f":
        wide = np.nan_to_num(wide, nan=low, posinf=high, neginf=low)
    # Halves keep the range of extreme floats finite.
    scaled = (wide.clip(low, high) / 2 - low / 2) / (high / 2 - low / 2)
    return np.rint(scaled * 255).astype(np.uint8)
