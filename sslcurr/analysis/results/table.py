"""Tables before they are written anywhere: raw values by row, and how each column shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]  # raw values by the names of columns, of any type that a column shows


def general(value: float | None) -> str:
    """A number in four digits."""
    return "-" if value is None else f"{value:.4g}"


def count(value: int | None) -> str:
    """A whole number."""
    return "-" if value is None else f"{value:,}"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """A column as it is shown.

    Attributes:
        title: its head, with the unit.
        fields: the values of a row that it shows; it is sorted by the first.
        show: makes text of these values; None takes them for words, which stand on the left.
        words: whether `show` makes words, too.
        sentences: whether it holds sentences, which a terminal has below the row where they do not fit beside it.
    """

    title: str
    fields: tuple[str, ...]
    show: Callable[..., str] | None = None
    words: bool = False
    sentences: bool = False

    def shown(self, row: Mapping[str, Any]) -> str:
        """The cell of a row."""
        return (self.show or _text)(*(row.get(name) for name in self.fields))

    def value(self, row: Mapping[str, Any]) -> Any:
        """What the cell is sorted by."""
        return row.get(self.fields[0])

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers, which stand on the right."""
        return self.show is not None and not self.words


@dataclass(frozen=True)
class Table:
    """A table of what a command found.

    Attributes:
        name: one word, such as `rank`.
        title: what it shows, on which images, in a line of plain text.
        columns: what is shown.
        rows: the values, as they stand in the document; `columns` say how they are shown.
        notes: sentences that belong to it: tests, how sure it is, what was chosen by what.
        best: places of the rows that are marked.
        best_cells: (row, column) places of the cells that are marked.
        breaks: places of the rows before which a line is drawn.
        records: the rows of the CSV file where these are others than `rows`: one for each value.
        detail: whether it is left out in a terminal, where `--json`, `--plot` and `report --table` have it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    notes: tuple[str, ...] = ()
    best: frozenset[int] = frozenset()
    best_cells: frozenset[tuple[int, int]] = frozenset()
    breaks: frozenset[int] = frozenset()
    records: list[Row] = field(default_factory=list)
    detail: bool = False

    def cells(self) -> list[list[str]]:
        """Every row as it is shown."""
        return [[column.shown(row) for column in self.columns] for row in self.rows]

    def raw(self) -> list[Row]:
        """Every row as a CSV file has it: all values, nothing rounded."""
        return self.records or self.rows

    def to_pandas(self) -> DataFrame:
        """A pandas data frame of `raw`: all values, nothing rounded."""
        import pandas as pd

        return pd.DataFrame(self.raw())
