"""Tables in a terminal: cells are text, never markup; names wrap, numbers never do, and nothing is cut or vanishes.

A table that is too wide for the terminal first wraps its names; where its numbers do not fit beside each other either,
it is printed as several tables with the same names on the left. Sentences that do not fit beside a row stand below it.
In a pipe or a file each row is one line.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sslcurr.wording import visible

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.results.document import Document
    from sslcurr.analysis.results.table import Table

# Characters between two columns, and at the two ends of a row; a word of a name that is longer than this may be broken.
GAP, EDGES, LONGEST_WORD = 3, 2, 24
# What sentences below a row are indented by.
INDENT = 4


def console(*, stderr: bool = False) -> Console:
    """The console of results: as wide as the terminal, and without an end in a pipe or a file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    made = Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 100_000)
    made.on_broken_pipe = _reader_gone  # type: ignore[method-assign] # rich would end the process with 1
    return made


def _reader_gone() -> None:
    raise BrokenPipeError


def print_line(text: str, style: str = "") -> None:
    """A line of plain text, wrapped at words in a terminal."""
    from rich.text import Text

    console().print(Text(text, style=style), soft_wrap=not sys.stdout.isatty())


def print_path(text: str) -> None:
    """A line that may be copied: a path or a command, never wrapped by us."""
    print(visible(text))


def print_table(table: Table, *, stderr: bool = False) -> None:
    """A table with its title and notes."""
    out = console(stderr=stderr)
    for part in _parts(table, out.width if out.is_terminal else None):
        out.print(part)
    if table.notes:
        out.print()


def watch(documents: Iterable[Document], seconds: float = 2.0) -> None:
    """The tables of one document after the other in the same place of a terminal, each for so long; until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    out = console()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        for document in documents:
            parts = [part for table in document.tables() for part in _parts(table, out.width)]
            live.update(Group(*parts), refresh=True)
            time.sleep(seconds)


def _parts(table: Table, width: int | None) -> Iterator[Any]:
    """What is printed of a table, for a terminal of a width or (None) for a file."""
    if table.title:
        yield _rich_text(table.title, "bold")
    grid = TextGrid.of(table)
    if width is None:
        grid.star()  # what is marked is bold in a terminal
    for columns, widths in grid.parts(width):
        yield grid.drawn(columns, widths)
    for note in table.notes:
        yield _rich_text(note, "red" if note.startswith("failed: ") else "")


@dataclass(frozen=True)
class TextGrid:
    """The cells of a table as text, and where lines and marks go.

    Attributes:
        heads: the names of the columns.
        cells: [rows][columns].
        numeric: whether a column holds numbers.
        best: places of the rows that are marked.
        best_cells: (row, column) places of the cells that are marked.
        breaks: places of the rows before which a line is drawn.
        sentences: the columns that hold sentences.
    """

    heads: list[str]
    cells: list[list[str]]
    numeric: list[bool]
    best: frozenset[int]
    best_cells: frozenset[tuple[int, int]]
    breaks: frozenset[int]
    sentences: frozenset[int] = frozenset()

    @classmethod
    def of(cls, table: Table) -> TextGrid:
        """The grid of a table; line ends within cells become spaces."""
        return cls(
            heads=[" ".join(column.title.split()) for column in table.columns],
            cells=[[" ".join(cell.split()) for cell in row] for row in table.cells()],
            numeric=[column.numeric for column in table.columns],
            best=table.best,
            best_cells=table.best_cells,
            breaks=table.breaks,
            sentences=frozenset(place for place, column in enumerate(table.columns) if column.sentences),
        )

    def star(self) -> None:
        """Mark the best rows and cells by a star."""
        for place in self.best:
            self.cells[place][0] += " *"
        for row, column in self.best_cells:
            self.cells[row][column] += " *"

    def parts(self, width: int | None) -> list[tuple[list[int], list[int]]]:
        """The columns that are printed beside each other, with their widths; None is as wide as need be."""
        natural = [self._longest(column, whole=True) for column in range(len(self.heads))]
        every = list(range(len(self.heads)))
        if width is None or _total(natural) <= width:
            return [(every, natural)]
        every = [column for column in every if column not in self.sentences]
        if _total([natural[column] for column in every]) <= width:
            return [(every, [natural[column] for column in every])]
        least = [
            max(self._longest(c, whole=True, heads=False), _longest_word(self.heads[c]))
            if self.numeric[c]
            else min(self._longest(c, whole=False), LONGEST_WORD)
            for c in range(len(self.heads))
        ]
        names = next((place for place, column in enumerate(every) if self.numeric[column]), len(every)) or 1
        labels, others = every[:names], every[names:]

        groups: list[list[int]] = [[]]
        for column in others:
            if groups[-1] and not self._fits([*labels, *groups[-1], column], least, width):
                groups.append([])
            groups[-1].append(column)
        # As few parts as there can be, of about as many columns each where these fit, too.
        even = _split_evenly(others, len(groups))
        if all(self._fits([*labels, *group], least, width) for group in even):
            groups = even
        return [
            ([*labels, *group], _stretched([*labels, *group], natural, least, self.numeric, width)) for group in groups
        ]

    def drawn(self, columns: Sequence[int], widths: Sequence[int]) -> Any:
        """These columns as what rich prints; sentences that are none of them stand below their rows."""
        from rich.console import Group, RenderableType
        from rich.padding import Padding

        below = sorted(self.sentences.difference(columns))
        if not below:
            return self._grid(columns, widths, range(len(self.cells)))
        # Tables of one row each; they stand in line, as their widths are given.
        parts: list[RenderableType] = ["", Padding(self._grid(columns, widths, (), edges=False), (0, 0, 0, 1))]
        for place, row in enumerate(self.cells):
            parts.append(Padding(self._grid(columns, widths, (place,), heads=False, edges=False), (0, 0, 0, 1)))
            parts += [Padding(_rich_text(row[column]), (0, 1, 0, 1 + INDENT)) for column in below if row[column]]
        return Group(*parts)

    def _grid(
        self,
        columns: Sequence[int],
        widths: Sequence[int],
        places: Iterable[int],
        *,
        heads: bool = True,
        edges: bool = True,
    ) -> Any:
        """These columns of the rows at `places`, with or without the heads and the empty space around them.

        Without heads it is a row above its sentences: its first cell is marked.
        """
        from rich import box
        from rich.table import Table as Grid

        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_header=heads, show_edge=edges)
        for column, width in zip(columns, widths, strict=True):
            justify: Any = "right" if self.numeric[column] else "left"
            grid.add_column(_rich_text(self.heads[column]), justify=justify, width=width, overflow="fold")
        for place in places:
            if place in self.breaks:
                grid.add_section()
            cells = []
            for column in columns:
                marked = place in self.best or (place, column) in self.best_cells
                is_name = not heads and column == columns[0]
                cells.append(_rich_text(self.cells[place][column], "bold" if marked or is_name else ""))
            grid.add_row(*cells)
        return grid

    def _fits(self, columns: Sequence[int], least: Sequence[int], width: int) -> bool:
        return _total([least[column] for column in columns]) <= width

    def _longest(self, column: int, *, whole: bool, heads: bool = True) -> int:
        """The longest cell of a column, or its longest word."""
        cells = [*([self.heads[column]] if heads else []), *(row[column] for row in self.cells)]
        return max(1, *(_width(cell) if whole else _longest_word(cell) for cell in cells))


def _rich_text(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text("\n".join(map(visible, text.split("\n"))), style=style)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _longest_word(text: str) -> int:
    return max((_width(word) for word in text.split()), default=1)


def _split_evenly(columns: Sequence[int], num_parts: int) -> list[list[int]]:
    ends = [len(columns) * part // num_parts for part in range(num_parts + 1)]
    return [list(columns[start:end]) for start, end in itertools.pairwise(ends)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1) + EDGES


def _stretched(
    columns: Sequence[int], natural: Sequence[int], least: Sequence[int], numeric: Sequence[bool], width: int
) -> list[int]:
    """Widths of columns that fit: numbers have what they need, names share the rest by what they lack."""
    widths = {column: min(least[column], natural[column]) for column in columns}
    room = width - _total(list(widths.values()))
    while room > 0:
        short = [column for column in columns if widths[column] < natural[column]]
        if not short:
            break
        # The column that lacks most grows first, so that no name is broken while another has room to spare.
        column = max(short, key=lambda c: (not numeric[c], natural[c] - widths[c]))
        widths[column] += 1
        room -= 1
    while room < 0 and (wide := [c for c in columns if not numeric[c] and widths[c] > 8]):
        column = max(wide, key=lambda c: widths[c])
        widths[column] -= 1
        room += 1
    return [widths[column] for column in columns]
