"""A typed document: what a command found, as it is kept, printed and drawn.

JSON, terminal tables, CSV, Markdown, LaTeX, figures and the page are all made of it. A kind of document is a folder
here: `document.py` with its class, `tables.py` and `figures.py` with what is made of it, and one line in `kinds.py`.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from sslcurr.analysis.results.style import Chart
    from sslcurr.analysis.results.table import Table


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a document. Its JSON has the fields in their order, without those that are `UNSET`.

    Attributes:
        first: fields that stand before those that a class inherits.
        last: fields that stand behind those that its subclasses add.
    """

    first: ClassVar[tuple[str, ...]] = ()
    last: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values for `json.dumps`."""
        names = dict.fromkeys((*self.first, *(n for n in self.__struct_fields__ if n not in self.last), *self.last))
        values = {name: getattr(self, name) for name in names}
        return {name: _plain(value) for name, value in values.items() if value is not UNSET}


class Document(Part, frozen=True, kw_only=True):
    """What a command found.

    Attributes:
        schema: the version of the kind's layout; unset in documents of sslcurr 0.1.0 and before.
        invocation: the command line that made it, word by word; unset in those as well.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    last: ClassVar[tuple[str, ...]] = ("schema", "invocation")

    schema: int | UnsetType = UNSET
    invocation: list[str] | UnsetType = UNSET

    def made_by(self, invocation: list[str]) -> Self:
        """This document with the version of its layout and the command line that made it."""
        return msgspec.structs.replace(self, schema=self.version, invocation=invocation)

    def tables(self, title: str = "") -> list[Table]:
        """The tables, the main ones first; `title` is that of the run, such as `rotation -> classification`."""
        return list(_sibling(self, "tables").tables(self, title))

    def figures(self) -> dict[str, Chart]:
        """The charts by name, each with `draw(axes)` and `save(folder)`."""
        module = _sibling(self, "figures")
        return {} if module is None else {chart.name: chart for chart in module.charts(self)}

    def closing_lines(self) -> list[str]:
        """What the terminal prints below the tables, a sentence or path a line."""
        lines = getattr(_sibling(self, "tables"), "closing_lines", None)
        return lines(self) if lines is not None else []


def _sibling(document: Document, name: str) -> Any:
    """The module `name` beside that of a document's class, None where there is none: a kind may have no charts."""
    module = f"{type(document).__module__.rpartition('.')[0]}.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) is not None else None


def _plain(value: Any) -> Any:
    """A value of a document as JSON has it."""
    if isinstance(value, Part):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _plain(content) for name, content in value.items()}
    return [_plain(content) for content in value] if isinstance(value, (list, tuple)) else value
