"""What settings mean, read from where it is written: the `Attributes:` of the classes that declare them."""

from __future__ import annotations

import inspect
import re

# `name: what it is`, `first, second: ...` or `name (type): ...`.
ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*)(?: \([^)]*\))?: (?P<meaning>.+)")


def meanings(*kinds: type) -> dict[str, str]:
    """What each attribute of some classes means, by its name.

    A class has the meanings of its bases and may give another one; so may a later class of `kinds`.
    """
    found: dict[str, str] = {}
    for kind in kinds:
        for each in reversed(kind.__mro__):
            found |= entries(each.__doc__ or "")
    return found


def entries(docstring: str) -> dict[str, str]:
    """Name -> meaning, in a line, of the section `Attributes:` of a docstring in Google's style."""
    _, heading, section = f"\n{inspect.cleandoc(docstring)}".partition("\nAttributes:\n")
    if not heading:
        return {}
    lines = section.partition("\n\n")[0].splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        text = line.strip()
        if len(line) - len(line.lstrip()) > indent:
            found |= {name: f"{found[name]} {text}" for name in names}
        elif entry := ENTRY.fullmatch(text):
            names = entry["names"].split(", ")
            found |= dict.fromkeys(names, entry["meaning"])
        else:
            break
    return found
