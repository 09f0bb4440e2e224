"""Tables in a terminal: nothing is cut or vanishes at any width, cells are text, and a pipe has a line a row."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sslcurr.analysis.results.table import Column, Table
from sslcurr.cli import terminal
from sslcurr.cli.terminal import TextGrid, print_table

LONG = "relative-location -> barlow-twins -> mocov2 -> swav -> rotation"
PLUGIN = "somepackage/a-task-with-a-very-long-name"
KEY = "3f6494f9d377f814"


def wide_table(num_columns: int) -> Table:
    columns = [Column("pretraining", ("ordering",)), Column("stage", ("key",)), Column("kind", ("kind",))]
    columns += [
        Column(f"measure {n} (%)", (f"value {n}",), lambda value: f"{value:.1f} ± 12.3 (10.0 to 99.9)")
        for n in range(num_columns)
    ]
    rows = [
        {"ordering": LONG, "key": KEY, "kind": "curriculum, full ?", **{f"value {n}": 10.0 + n for n in range(9)}},
        {"ordering": PLUGIN, "key": KEY[::-1], "kind": "[/b]", **{f"value {n}": 30.0 + n for n in range(9)}},
    ]
    return Table("wide", "A [bold]title[/bold]", tuple(columns), rows, ("failed: [red]x[/red]",), best=frozenset({1}))


@pytest.fixture
def printed(monkeypatch):
    """`printed(table, width)`: what a terminal of so many columns shows; None is a pipe."""

    def show(table: Table, width: int | None) -> str:
        out = io.StringIO()
        console = Console(file=out, width=width or 100_000, force_terminal=width is not None, color_system=None)
        monkeypatch.setattr(terminal, "console", lambda **_: console)
        print_table(table)
        return out.getvalue()

    return show


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("num_columns", [0, 1, 4, 9])
def test_nothing_is_cut_or_vanishes_at_any_width(num_columns, width, printed):
    table = wide_table(num_columns)
    text = printed(table, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for n in range(num_columns):
        for row in table.rows:
            assert f"{row[f'value {n}']:.1f} ± 12.3 (10.0 to 99.9)" in text  # a number is never broken
    for key in (KEY, KEY[::-1]):
        assert key in text
    together = "".join("".join(lines).split())
    assert "[/b]" in together
    assert "[bold]title[/bold]" in together
    assert "[red]x[/red]" in together
    assert "curriculum," in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_wrapped_name_keeps_every_letter(width, printed):
    table = Table("names", "", (Column("chain", ("name",)),), [{"name": f"{LONG} -> {PLUGIN * 3}"}])
    together = "".join(printed(table, width).split())
    assert "".join(f"{LONG} -> {PLUGIN * 3}".split()) in together


def test_a_pipe_has_a_line_for_each_row(printed):
    text = printed(wide_table(9), None)
    for name in (LONG, PLUGIN):
        (line,) = [line for line in text.splitlines() if name in line]
        assert line.count("±") == 9


def test_parts_repeat_the_names_and_share_the_numbers():
    grid = TextGrid.of(wide_table(9))
    parts = grid.parts(100)
    assert all(columns[:3] == [0, 1, 2] for columns, _ in parts)
    assert [c for columns, _ in parts for c in columns[3:]] == list(range(3, 12))
    sizes = [len(columns) for columns, _ in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len(grid.parts(None)) == 1


def test_a_number_wider_than_the_terminal_is_still_shown(printed):
    table = Table("x", "", (Column("a", ("a",)), Column("b", ("b",), str)), [{"a": "name", "b": 10**60}])
    assert printed(table, 40).count("0") == 60


SENTENCE = "Share of the images that are turned, either way, by an angle that is drawn anew each time for each of them."


def explained_table():
    columns = (Column("setting", ("name",)), Column("can be", ("range",)), Column("meaning", ("said",), sentences=True))
    rows = [{"name": "turned", "range": "0 to 1", "said": SENTENCE}, {"name": "other", "range": "1 to 9", "said": ""}]
    return Table("explained", "", columns, rows)


@pytest.mark.parametrize("width", [80, 120])
def test_sentences_that_do_not_fit_stand_below_their_row(width, printed):
    text = printed(explained_table(), width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    assert " ".join(text.partition("0 to 1")[2].partition("other")[0].split()) == SENTENCE
    name = lines.index(" turned    0 to 1")
    assert lines[name + 1].startswith("     Share of the images")
    assert lines[-1] == " other     1 to 9"  # no empty line where nothing is said
    assert not any("meaning" in line for line in lines)


@pytest.mark.parametrize("width", [200, None])
def test_sentences_that_fit_stand_in_their_row(width, printed):
    (line,) = [line for line in printed(explained_table(), width).splitlines() if "turned  " in line]
    assert line.split("   ")[-1].strip() == SENTENCE
