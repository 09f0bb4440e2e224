"""Words that messages, tables and charts share: numbers of things, arrows, names that fit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def and_more(count: int) -> str:
    """What follows the first of `count` things."""
    return f", and {count - 1:,} more" if count > 1 else ""


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def images_of(count: int, split: str) -> str:
    """A number of images of a split: "500 test images", "1 image" of all."""
    return counted(count, "image" if split == "all" else f"{split} image")


def duration(seconds: float) -> str:
    """A time, in the largest unit of which there are two: "45 s", "12 min", "3.5 h", "4.2 days"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def speed(per_second: float) -> str:
    """A speed of which something is seen, however slow it is: "1,204", "42", "3.1", "0.04"."""
    return f"{per_second:,.0f}" if per_second >= 9.5 else f"{per_second:.2g}"


def first_command(runs: object = "runs") -> str:
    """A command that works as it stands, for a store that holds nothing yet; `runs` is its folder."""
    elsewhere = "" if str(runs) == "runs" else f" --runs {shlex.quote(str(runs))}"
    return f"sslcurr chain mocov2 swav rotation{elsewhere}"


def arrow(names: Sequence[str]) -> str:
    """Tasks in their order."""
    return " -> ".join(names)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8; a file name of another encoding cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def visible(text: str) -> str:
    """A text on one line whose escape sequences, and marks that turn its direction, are seen and not obeyed."""
    line = " ".join(text.splitlines())
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode() for each in line
    )


def reason_of(error: BaseException) -> str:
    """What an exception of another library says, on one line; its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def shortened(text: str, most: int = 40) -> str:
    """A name that fits: its middle is left out where it does not, as names often differ at their ends."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def short(value: object) -> str:
    """A setting as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return "-".join(short(item) for item in value)
    return str(value)
