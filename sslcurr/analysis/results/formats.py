"""Tables for papers: Markdown, LaTeX with booktabs, and CSV with all values as they are."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from sslcurr.analysis.results.table import Table
from sslcurr.files import write_whole

TABLE_FORMATS = ("md", "latex", "csv")


def render(table: Table, form: str, command: Sequence[str] = ()) -> str:
    """A table as text.

    Args:
        table: what to print.
        form: md, latex or csv.
        command: the command line that makes its numbers again; it is named in md and latex.
    """
    return {"md": _markdown, "latex": _latex, "csv": _csv}[form](table, shlex.join(command))


def write_csv(table: Table, folder: Path) -> Path:
    """Write all values of a table, in eight digits, as a CSV file named like it into an existing folder."""
    path, frame = folder / f"{table.name}.csv", table.to_pandas()
    write_whole(path, lambda temporary: frame.to_csv(temporary, index=False, float_format="%.8g"))
    return path


def _csv(table: Table, command: str) -> str:
    rows = table.raw()
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _markdown(table: Table, command: str) -> str:
    def escaped(text: str) -> str:
        return re.sub(r"([\\`*_\[\]<>|~#&$])", r"\\\1", " ".join(text.split())).replace("-\\>", "→")

    heads = [escaped(column.title) for column in table.columns]
    lines = [f"**{escaped(table.title)}**", "", f"| {' | '.join(heads)} |"]
    lines.append("|" + "|".join(" ---: " if column.numeric else " --- " for column in table.columns) + "|")
    for i, row in enumerate(table.cells()):
        cells = [escaped(cell) for cell in row]
        cells = [
            f"**{c}**" if c and (i in table.best or (i, j) in table.best_cells) else c for j, c in enumerate(cells)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [line for note in table.notes for line in ("", escaped(note))]
    if command:
        fence = "`" * (max((len(run) for run in re.findall("`+", command)), default=0) + 1)
        lines += ["", f"Made by {fence} {' '.join(command.split())} {fence}"]
    return "\n".join(lines) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(table: Table, command: str) -> str:
    def escaped(text: str, number: bool = False) -> str:
        plain = " ".join(text.split()).replace(" -> ", " → ")
        escaped = "".join(LATEX.get(character, character) for character in plain)
        # A minus, not a hyphen; and a line break may fall in no number.
        return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped) if number else escaped

    lines = [r"% needs \usepackage{booktabs}"]
    lines += [f"% made by: {' '.join(command.split())}"] if command else []
    lines += [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escaped(table.title)}}}",
        f"  \\label{{tab:{table.name}}}",
    ]
    lines.append(f"  \\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}")
    lines += [
        r"    \toprule",
        f"    {' & '.join(escaped(column.title) for column in table.columns)} \\\\",
        r"    \midrule",
    ]
    for i, row in enumerate(table.cells()):
        lines += [r"    \midrule"] if i in table.breaks else []
        cells = [escaped(cell, column.numeric) for cell, column in zip(row, table.columns, strict=True)]
        cells = [
            f"\\textbf{{{c}}}" if c and (i in table.best or (i, j) in table.best_cells) else c
            for j, c in enumerate(cells)
        ]
        # A row that begins with [ would be taken for the length after \\.
        first = f"{{{cells[0]}}}" if cells[0].startswith(("[", "*")) else cells[0]
        lines.append(f"    {' & '.join([first, *cells[1:]])} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if table.notes:
        lines += ["", r"  \medskip", r"  \begin{minipage}{\linewidth}\footnotesize"]
        lines += [f"    {escaped(note, True)}\\par" for note in table.notes]
        lines.append(r"  \end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"
