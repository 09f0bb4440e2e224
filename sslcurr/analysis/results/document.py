"""A typed document: what a command found, as it is kept, printed and drawn.

JSON, terminal tables, CSV, Markdown, LaTeX, figures and the page are all made of it. A kind of document is a folder
here: `document.py` with its class, `tables.py` and `figures.py` with what is made of it, and one line in `kinds.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeGuard, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from sslcurr.spec.stage import Json

if TYPE_CHECKING:
    from sslcurr.analysis.results.style import Chart
    from sslcurr.analysis.results.table import Table


__all__ = ["Document", "Json", "Part", "Predicted", "is_set"]


Found = TypeVar("Found")
OLD_INTERVALS = "The intervals and tests are those of an older sslcurr, and too narrow: docs/statistics.md."


def is_set(value: Found | UnsetType) -> TypeGuard[Found]:
    """Whether a field of a document has a value."""
    return not isinstance(value, UnsetType)


class Predicted(NamedTuple):
    """Where the predictions of one model are: its seed, and the path of the table."""

    seed: int
    predictions: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a document. Its JSON has the fields in their order, without those that are `UNSET`.

    Attributes:
        first: fields that stand before those that a class inherits.
        last: fields that stand behind those that its subclasses add.
        unprinted: fields that tables show and the JSON, whose names are fixed, has not.
    """

    first: ClassVar[tuple[str, ...]] = ()
    last: ClassVar[tuple[str, ...]] = ()
    unprinted: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def printed_names(cls) -> list[str]:
        """The names of the JSON in their order."""
        middle = (name for name in cls.__struct_fields__ if name not in cls.last)
        unprinted = {name for each in cls.__mro__ for name in getattr(each, "unprinted", ())}
        return [name for name in dict.fromkeys((*cls.first, *middle, *cls.last)) if name not in unprinted]

    def to_json(self) -> Json:
        """As plain values for `json.dumps`."""
        values = {name: getattr(self, name) for name in self.printed_names()}
        return {name: _plain(value) for name, value in values.items() if value is not UNSET}


class Document(Part, frozen=True, kw_only=True):
    """What a command found.

    Attributes:
        schema: the version of the kind's layout; unset in documents of sslcurr 0.1.0 and before.
        invocation: the command line that made it, word by word; unset in those as well.
        name_order: plain values whose order of names the JSON keeps, where an older version wrote another order.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    # The version since which intervals follow docs/statistics.md; None of documents without any.
    intervals_since: ClassVar[int | None] = None
    last: ClassVar[tuple[str, ...]] = ("schema", "invocation")
    unprinted: ClassVar[tuple[str, ...]] = ("name_order",)

    schema: int | UnsetType = UNSET
    invocation: list[str] | UnsetType = UNSET
    name_order: Json | None = None

    def to_json(self) -> Json:
        """As `--json` prints it and as the store keeps it."""
        plain = super().to_json()
        return plain if self.name_order is None else in_order_of(plain, self.name_order)

    def made_by(self, invocation: list[str]) -> Self:
        """This document with the version of its layout and the command line that made it."""
        return msgspec.structs.replace(self, schema=self.version, invocation=invocation)

    def tables(self, title: str = "") -> list[Table]:
        """The tables, the main ones first; `title` is that of the run, such as `rotation -> classification`."""
        module = _sibling(self, "tables")
        tables = list(module.tables(self, title)) if module is not None else []
        if tables and self.has_old_intervals:
            tables[0] = dataclasses.replace(tables[0], notes=(*tables[0].notes, OLD_INTERVALS))
        return tables

    @property
    def has_old_intervals(self) -> bool:
        """Whether an older version of sslcurr made the intervals, by another rule."""
        since, schema = self.intervals_since, 0 if isinstance(self.schema, UnsetType) else self.schema
        return since is not None and schema < since

    def figures(self) -> dict[str, Chart]:
        """The charts by name, each with `draw(axes)` and `save(folder)`."""
        module = _sibling(self, "figures")
        return {chart.name: chart for chart in module.charts(self)} if module is not None else {}

    def csv_tables(self) -> list[Table]:
        """The tables that are written as CSV beside the charts, each as `name`.csv."""
        tables = getattr(_sibling(self, "tables"), "csv_tables", None)
        return list(tables(self)) if tables is not None else []

    def predicted(self) -> dict[str, list[Predicted]]:
        """Title of each chain that was tested -> where its predictions are."""
        return {}

    def next_commands(self) -> list[str]:
        """What a person may run next; commands that name a store have no option for it yet."""
        return []

    def closing_lines(self) -> list[str]:
        """What the terminal prints below the tables, a sentence or path a line."""
        lines = getattr(_sibling(self, "tables"), "closing_lines", None)
        return lines(self) if lines is not None else []


def _sibling(document: Document, name: str) -> Any:
    """The module `name` beside that of a document's class; None where there is none."""
    path = f"{type(document).__module__.rpartition('.')[0]}.{name}"
    return importlib.import_module(path) if importlib.util.find_spec(path) is not None else None


def in_order_of(value: Any, other: Any) -> Any:
    """Plain values with their names in the order of `other`, as far as that has them."""
    if isinstance(value, dict) and isinstance(other, dict):
        names = dict.fromkeys((*(name for name in other if name in value), *value))
        return {name: in_order_of(value[name], other.get(name)) for name in names}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [in_order_of(*pair) for pair in zip(value, other, strict=True)]
    return value


def _plain(value: Any) -> Any:
    """A value of a document as JSON has it."""
    if isinstance(value, Part):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _plain(content) for name, content in value.items()}
    return [_plain(content) for content in value] if isinstance(value, (list, tuple)) else value
