"""Markdown of the generated pages: texts of the code, in which no character may be taken for markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# Characters that Markdown or a table would read.
SPECIAL = {"|": "&#124;", "*": "&#42;", "_": "&#95;", "[": "&#91;", "`": "&#96;", "\\": "&#92;"}
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*[a-z]\b")


def escaped(text: str) -> str:
    """A text as it is."""
    return "".join(SPECIAL.get(character, character) for character in html.escape(text, quote=False))


def code(text: str) -> str:
    """A text as code, also in a table."""
    return f"<code>{escaped(text)}</code>"


def prose(text: str) -> str:
    """A sentence of a help text or a docstring: what stands in backticks, and names of options, become code."""
    parts = []
    for number, part in enumerate(text.split("`")):
        if number % 2:
            parts.append(code(part))
            continue
        end = 0
        for match in OPTION.finditer(part):
            parts += [escaped(part[end : match.start()]), code(match.group())]
            end = match.end()
        parts.append(escaped(part[end:]))
    return "".join(parts)


def value(found: object) -> str:
    """A value of a setting or a default, as the pages of `docs/` write it."""
    if found is None or found == "":
        return "none"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, float):
        return f"{found:g}"
    if isinstance(found, list | tuple):
        both = len(found) == 2 and all(isinstance(part, int | float) for part in found)
        return (" to " if both else ", ").join(map(value, found)) or "none"
    return str(found)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table of cells that are markup already; a column that no row fills is left out."""
    found = list(rows)
    kept = [place for place, _ in enumerate(heads) if any(row[place] for row in found)]
    lines = [[heads[place] for place in kept], ["---"] * len(kept), *([row[place] for place in kept] for row in found)]
    return [f"| {' | '.join(line)} |" for line in lines] if found else []
