"""Ranges of settings: noted with each field, checked when a value is given, and said in words."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any

from sslcurr.errors import SpecError, did_you_mean

MOST = 10**9
"""Whole numbers end here: no training has so many epochs, images or features."""

LARGEST_SIDE = 4096
"""The largest side of an image in pixels: a batch of larger ones fits into no memory."""


def in_range(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Raise SpecError unless `value` is finite and from `low` (or `above` it) to `high`."""
    is_whole = isinstance(value, int)
    if not is_whole and not math.isfinite(value):
        raise SpecError(f"{name} must be a finite number, got {value:g}", f"give another value of {name}")
    top = min(high, MOST) if is_whole else high
    if not ((value > low if above else value >= low) and value <= top):
        bound = _bounds(low, top if value > top else high, above=above)
        got = f"{value:g}" if not is_whole or abs(value) <= MOST else "a number of many digits"
        raise SpecError(f"{name} must be {bound}, got {got}", f"give a value of {name} in that range")


def _bounds(low: float, high: float, *, above: bool) -> str:
    return f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise SpecError unless `value` is among `choices`."""
    if value not in choices:
        raise SpecError(f"unknown {name} {value!r}", did_you_mean(value, choices))


def ranged(
    default: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    added: bool = False,
    of_views: bool = False,
) -> Any:
    """A setting with a range of its own, also of each of several numbers.

    One that was `added` after stages were trained is no part of their keys at its default, which means "as before".
    `of_views` lists it with the settings of the views.
    """
    limits = {"low": low, "high": high, "above": above, "of_views": of_views}
    return field(default=default, metadata={**limits, "as_before": default} if added else limits)


def chosen(default: str, choices: tuple[str, ...]) -> Any:
    """A setting that is one of some words."""
    return field(default=default, metadata={"choices": choices})


def check(values: Any, *, leave_out: typing.Container[str] = ()) -> None:
    """Raise SpecError for a setting of a dataclass that is out of its range.

    Without a range whole numbers are 1 or more, and others 0 or more; texts and flags are what their types allow.
    """
    for item in fields(values):
        if item.name in leave_out:
            continue
        value = getattr(values, item.name)
        if "choices" in item.metadata:
            one_of(item.name, value, item.metadata["choices"])
            continue
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                in_range(item.name, number, **_limits(item.metadata, number))


def _limits(metadata: Mapping[str, Any], number: float) -> dict[str, Any]:
    if "low" in metadata:
        return {name: metadata[name] for name in ("low", "high", "above")}
    return {"low": 1 if isinstance(number, int) else 0}


def described(item: Field[Any], kind: Any, value: Any) -> str:
    """The range of a setting in words.

    Args:
        item: the field.
        kind: its type.
        value: that it has.
    """
    if "choices" in item.metadata:
        return " | ".join(item.metadata["choices"])
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(map(str, typing.get_args(kind)))
    if isinstance(value, bool):
        return "true | false"
    numbers = [each for each in value if isinstance(each, int | float)] if isinstance(value, tuple | list) else [value]
    number = numbers[0] if numbers else 0.0
    if not isinstance(number, int | float):
        return ""
    limits = _limits(item.metadata, number)
    low, high, above = limits["low"], limits.get("high", math.inf), limits.get("above", False)
    if high == math.inf:
        return _bounds(low, high, above=above)
    return f"above {low:g}, at most {high:g}" if above else f"{low:g} to {high:g}"
