"""Tables that list images: CSV, Parquet or JSON lines, with the columns path, label, group, split, mask and boxes."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sslcurr.data.sources.boxes import Boxes, Mask
from sslcurr.data.sources.clutter import masks_among
from sslcurr.data.sources.columns import MASK_COLUMNS, NAMES, NO_COLUMNS, PATH_LIKE, Columns, columns_of
from sslcurr.data.sources.files import Files
from sslcurr.data.sources.labels import is_of_one_label, read_labels, together, with_one_form
from sslcurr.data.sources.source import ImageFault, Source, with_free_parts
from sslcurr.data.sources.words import EVALUATION, SPLIT_NAMES, is_missing, same_name, split_of_folder
from sslcurr.errors import DataError
from sslcurr.files import read_regular
from sslcurr.spec.target import MULTILABEL
from sslcurr.wording import and_more, counted, reason_of

__all__ = ["TABLE_SUFFIXES", "from_columns", "from_table", "read_columns"]

DELIMITED_SUFFIXES = (".csv", ".tsv")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl")
LABEL_TABLE_NAMES = ("labels.csv", "metadata.csv")
PATH_COLUMNS = NAMES["path"]
SOURCE_COLUMNS = (*PATH_COLUMNS, "label", "group", "split", *MASK_COLUMNS)


def from_table(table: Path, columns: Columns = NO_COLUMNS) -> Source:
    """The images that a table lists, in the order of its rows; see `sslcurr.data.sources.catalog.find_source`.

    Raises DataError if it lacks its path column, names a file twice, contradicts itself about splits, has labels that
    are no classes, has columns that may be meant and are not named, or has masks that are not there or boxes that are
    none.
    """
    name = table.parent.name if table.name.lower() in LABEL_TABLE_NAMES and table.parent.name else table.stem
    cells = role_columns(table, columns)
    source = from_columns(cells, root=table.parent, table=table, name=name, target=columns.target, notes=cells.notes)
    if "split" not in cells.columns and columns.split is None:
        _raise_if_in_split_folders(source.names, table)
    return source


def _raise_if_in_split_folders(paths: Sequence[str], table: Path) -> None:
    """Raises DataError if paths lie in folders of splits, which a table without a column of splits would mix."""
    folder_of: dict[str, str] = {}
    for path in paths:
        for folder in path.split("/")[:-1]:
            split = split_of_folder(folder)
            if split:
                folder_of.setdefault(split, folder)
                break
    if "train" in folder_of and len(folder_of) > 1:
        raise DataError(
            f"{table} has no column split, but its paths lie in folders {' and '.join(sorted(folder_of.values()))}",
            "add a column split, or give --split-column none to divide all images anew",
        )


@dataclass(frozen=True)
class Cells:
    """The columns of a table by what they are.

    Attributes:
        columns: path, label, group, split, mask, boxes, as far as there are any -> their cells.
        notes: remarks on the others.
        name: what the column of labels is called.
        labels: names of the labels that may hold together, where each has a column; the cells of the label then have
            them as `sslcurr.data.targets` writes them, with `|` where none holds.
    """

    columns: dict[str, list[str]]
    notes: list[str]
    name: str = "label"
    labels: tuple[str, ...] = ()


def role_columns(table: Path, columns: Columns = NO_COLUMNS) -> Cells:
    """The columns of a table by what they are, and remarks on the others.

    Raises DataError if it cannot be read, and as `sslcurr.data.sources.columns.columns_of`.
    """
    content = read_table(table)
    chosen, notes = columns_of(content.names, columns, table, content.shown)
    used = {name for several in chosen.values() for name in several}
    for name, count in Counter(content.names).items():
        if count > 1 and name in (*used, *MASK_COLUMNS):
            raise DataError(f"{table} has {count} columns called {name}", "keep one of them")
    chosen |= {same_name(name): (name,) for name in content.names if same_name(name) in MASK_COLUMNS}
    cells = {role: content.cells(names[0]) for role, names in chosen.items()}
    short = next((role for role, values in cells.items() if len(values) != len(cells["path"])), None)
    if short is not None:  # a damaged Parquet
        raise DataError(
            f"{table} is damaged: its column {chosen[short][0]} has other rows than the rest", "write it anew"
        )
    several = chosen.get("label", ())
    if len(several) == 1 and not (columns.target == MULTILABEL.name and is_of_one_label(cells["label"])):
        several = ()
    if several and columns.target not in (None, MULTILABEL.name):
        raise DataError(
            f"{table} has a column for each label, and --target {columns.target} has one column",
            "give one --label-column, or leave out --target",
        )
    if several:
        cells["label"] = together({name: content.cells(name) for name in several}, table)
    return Cells(cells, notes, chosen.get("label", ("label",))[0], several)


def from_columns(
    cells: Cells, *, root: Path, table: Path, name: str, target: str | None = None, notes: Sequence[str] = ()
) -> Source:
    """The images of columns of text; paths are relative to `root`, `table` is what messages speak of, and `target` the
    kind that was asked for."""
    columns, files = cells.columns, Files(root)
    names = [_relative(text, files, row, table) for row, text in enumerate(columns["path"], start=1)]
    if not names:
        raise DataError(f"{table} lists no images", "it has a header but no rows")
    names = files.by_stem(names, table)
    none = [""] * len(names)
    notes = list(notes)
    values = {role: columns.get(role, none) for role in ("label", "group", "split")}
    missing_notes, values = _without_missing(values)
    labels = with_one_form([text or None for text in _integers_without_point(values["label"])])
    _raise_if_twice(names, labels, table)
    groups = _in_one_spelling(_integers_without_point(values["group"]), notes) if "group" in columns else none
    splits = [_split_name(text, table) for text in values["split"]]
    check_groups(groups, splits, names, table)
    there = [i for i, name in enumerate(names) if files.has(name)]
    if not there:
        raise DataError(f"{table} lists {names[0]}, which is not there" + and_more(len(names)), files.hint(names[0]))
    _raise_if_masks([names[i] for i in there], table)
    read = read_labels([labels[i] for i in there], target, str(table), name=cells.name, names=cells.labels)
    masks = _masks_of(columns, names, there, root, table)
    notes += [*missing_notes, *read.notes]
    present = set(there)
    return Source(
        name=name,
        root=root,
        names=[names[i] for i in there],
        labels=read.labels,
        groups=[groups[i] for i in there] if any(groups[i] for i in there) else None,
        splits=with_free_parts([splits[i] for i in there], notes),
        arrays=None,
        image_size=None,
        classes=read.names,
        faults=tuple(ImageFault(names[i], "is not there", i) for i in range(len(names)) if i not in present),
        notes=tuple(notes),
        masks=masks,
        target=read.kind,
        label_columns=cells.labels,
    )


def _without_missing(values: dict[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Cells that say that there is no value emptied, and a remark that counts them for each column."""
    effects = {
        "label": ("label", "used without one; if that is a class, give it another name"),
        "group": ("group", "each a group of its own"),
        "split": ("split", "left to sslcurr"),
    }
    notes, emptied = [], {}
    for role, cells in values.items():
        # Beside + a - is negative.
        is_absent = {cell: is_missing(cell) and not (cell == "-" and "+" in cells) for cell in set(cells)}
        emptied[role] = ["" if is_absent[cell] else cell for cell in cells]
        spelled = sorted(cell for cell, absent in is_absent.items() if absent and cell)
        count = sum(is_absent[cell] for cell in cells)
        if spelled:
            noun, effect = effects[role]
            written = ", ".join(spelled[:3])
            notes.append(f"{counted(count, 'image')} without a {noun}, written {written}: {effect}")
        elif role == "label" and 0 < count < len(cells):
            notes.append(f"{counted(count, 'image')} without a label: used for pretraining only")
    return notes, emptied


def _in_one_spelling(groups: Sequence[str], notes: list[str]) -> list[str]:
    """Groups that differ in case, blanks and leading zeros only (`P07`, `p7`) as one, which is said: apart, images of
    one patient might train and test."""
    keys = {group: re.sub(r"(?<![\d.])0+(?=\d)", "", "".join(group.casefold().split())) for group in set(groups)}
    first: dict[str, str] = {}
    for group in groups:
        first.setdefault(keys[group], group)
    one = {group: first[key] for group, key in keys.items()}
    num_merged = sum(group != spelling for group, spelling in one.items())
    if num_merged:
        notes.append(
            f"{counted(num_merged, 'group')} taken for others that differ in case, blanks or leading zeros only"
        )
    return [one[group] for group in groups]


def _raise_if_masks(names: Sequence[str], table: Path) -> None:
    """Raises DataError if masks are listed as images of their own."""
    masks = masks_among(names)
    if masks:
        raise DataError(
            f"{table} lists as images what is named like masks of its images, {masks[0]}{and_more(len(masks))}",
            "take these rows out (--masks and a column mask take masks); rename files that are images",
        )


def _raise_if_twice(names: Sequence[str], labels: Sequence[str | None], table: Path) -> None:
    """Raises DataError if an image is listed twice."""
    for path, count in Counter(names).items():
        if count > 1:
            different = sorted({label for name, label in zip(names, labels, strict=True) if name == path and label})
            as_what = f", as {' and as '.join(different[:2])}" if len(different) > 1 else ""
            raise DataError(f"{table} lists {path} {count} times{as_what}", "keep one row an image")


def _masks_of(
    columns: dict[str, list[str]], names: Sequence[str], there: Sequence[int], root: Path, table: Path
) -> dict[str, Mask]:
    """The masks of the images that are there."""
    none = [""] * len(names)
    files, boxes = (["" if is_missing(cell) else cell for cell in columns.get(each, none)] for each in MASK_COLUMNS)
    masks = {names[i]: mask_of(files[i], boxes[i], names[i], root, table) for i in there if files[i] or boxes[i]}
    check_masks(masks, table)
    return {name: mask for name, mask in masks.items() if mask is not None}


def mask_of(file: str, boxes: str, image: str, root: Path, table: Path) -> Mask | None:
    """The mask that a row names for an image: a file, its path relative to `root`, or boxes; None if it has neither.

    Raises DataError if it has both, or if the boxes are none. Whether the file is there is for `check_masks`.
    """
    if file and boxes:
        raise DataError(f"{table} has both a mask and boxes for {image}", "keep one of them")
    if file:
        return Path(os.path.normpath(root / file))
    return Boxes.from_text(boxes, f"{image} in {table}") if boxes else None


def check_masks(masks: Mapping[str, Mask | None], table: Path) -> None:
    """Raises DataError if files of masks are not there."""
    absent = [mask for mask in masks.values() if isinstance(mask, Path) and not os.path.isfile(mask)]
    if absent:
        raise DataError(
            f"{table} names the mask {absent[0]}, which is not there" + and_more(len(absent)),
            f"paths are relative to the table's folder, {table.parent}; an image without a mask has an empty cell, and "
            "a column that means something else needs another name",
        )


@dataclass(frozen=True)
class Content:
    """What a table holds: the names of its columns, and `cells` gives those of one as text, without blanks around.

    `heavy` are columns that may hold whole images; they are not looked into without need.
    """

    names: list[str]
    cells: Callable[[str], list[str]]
    heavy: frozenset[str] = frozenset()

    def shown(self, name: str) -> list[str]:
        """The cells of a column, none of one that is heavy."""
        return [] if name in self.heavy else self.cells(name)


def read_columns(table: Path, wanted: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The columns of a table as text, without blanks around: the `wanted` ones, or all.

    Raises DataError if it cannot be read.
    """
    content = read_table(table)
    for name, count in Counter(content.names).items():
        if count > 1 and name in (*SOURCE_COLUMNS, *(wanted or ())):
            raise DataError(f"{table} has {count} columns called {name}", "keep one of them")
    return {name: content.cells(name) for name in content.names if wanted is None or name in wanted}


def read_table(table: Path) -> Content:
    """The content of a table: CSV, JSON lines or Parquet. Raises DataError if it cannot be read."""
    suffix = table.suffix.lower()
    if suffix in DELIMITED_SUFFIXES:
        return _read_csv(table)
    return _read_json_lines(table) if suffix == ".jsonl" else _read_parquet(table)


def csv_rows(table: Path) -> list[list[str]]:
    """The rows of a CSV file as they are. Raises DataError if it cannot be read."""
    return _delimited(table)[1]


def _delimited(table: Path) -> tuple[int, list[list[str]]]:
    """The number of the first line, and the rows from there on, of a file separated by commas, semicolons, tabs or |.

    It is UTF-8, or has a mark that says that it is UTF-16. The separator is the one that makes the header name a path
    (else the comma), or that of a first line `sep=;`, as spreadsheets write it.
    """
    try:
        text = _decoded(read_regular(table))
        first, _, rest = text.partition("\n")
        named = re.fullmatch(r'"?sep=(.)"?\r?', first, re.IGNORECASE)
        if named is not None:
            return 2, _parsed(rest, named[1])
        return 1, _parsed(text, _separator(text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV: {error}", "save it as comma-separated UTF-8 text") from error


def _decoded(content: bytes) -> str:
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return content.decode("utf-16")
    if b"\0" in content[:2]:
        raise csv.Error("it is UTF-16 without the mark that says so")
    return content.decode("utf-8-sig")


def _parsed(text: str, separator: str) -> list[list[str]]:
    lines = io.StringIO(text, newline="")
    return list(csv.reader(lines, delimiter=separator, strict=True))  # else a quote never closed swallows the rest


def _separator(text: str) -> str:
    """The separator of a table's header: the comma, unless only another one makes columns of it, a path among them."""
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    columns = {separator: _header_names(header, separator) for separator in ",;\t|"}
    for wanted in (NAMES["path"], PATH_LIKE):
        for separator, names in columns.items():
            if any(name in wanted or name.replace(" ", "") in wanted for name in names):
                return separator
    best = max(columns, key=lambda separator: len(columns[separator]))
    return best if len(columns[","]) == 1 else ","


def _header_names(header: str, separator: str) -> list[str]:
    try:
        return [same_name(name) for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error:
        return []


def _read_csv(table: Path) -> Content:
    first_line, rows = _delimited(table)
    while len(rows) > 1 and not any(rows[0]):
        first_line, rows = first_line + 1, rows[1:]
    if not rows:
        raise DataError(f"{table} is empty", "it needs a header with a column path")
    header = [name.strip() for name in rows[0]]
    columns: dict[str, list[str]] = {name: [] for name in header}
    # Of columns of one name the last counts, and gets one cell a row.
    places = {name: place for place, name in enumerate(header)}
    for line, row in enumerate(rows[1:], start=first_line + 1):
        if any(row[len(header) :]):
            raise DataError(f"{table} has more cells in row {line} than its header", "quote names that contain a comma")
        if any(row):
            cells = [cell for cell, _ in zip_longest(row[: len(header)], header, fillvalue="")]
            for name, place in places.items():
                columns[name].append(cells[place].strip())
    return Content(header, columns.__getitem__)


def _read_json_lines(table: Path) -> Content:
    rows: list[dict[str, object]] = []
    try:
        for number, line in enumerate(_decoded(read_regular(table)).split("\n"), start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{table} has no JSON object in line {number}", "write one object a line")
                rows.append(row)
    except (ValueError, RecursionError, csv.Error) as error:  # not UTF-8, not JSON, or nested without end
        raise DataError(
            f"{table} cannot be read as JSON lines: {error}", "write one object a line, in UTF-8"
        ) from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Content(names, lambda name: [_cell_text(row.get(name)) for row in rows])


def _read_parquet(table: Path) -> Content:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    def cells(name: str) -> list[str]:
        """A column alone: others may hold whole images."""
        with _as_parquet(table, pa), pq.ParquetFile(table) as file:
            columns = file.read(columns=[name]).columns
            return [_cell_text(value) for value in columns[-1].to_pylist()] if columns else []

    with _as_parquet(table, pa), pq.ParquetFile(table) as file:
        schema = file.schema_arrow
        heavy = frozenset(each.name for each in schema if not _is_plain(each.type, pa))
        return Content(list(schema.names), cells, heavy)


def _is_plain(kind: Any, pa: Any) -> bool:
    """Whether a column has texts, numbers or lists of these."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_integer(kind.value_type))
    is_of_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not (is_of_bytes or pa.types.is_nested(kind))


@contextmanager
def _as_parquet(table: Path, pa: Any) -> Iterator[None]:
    """Raises DataError for what goes wrong with a Parquet file inside."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{table} cannot be read as Parquet: {reason_of(error)}", "write it again") from error


def _cell_text(value: object) -> str:
    """A cell as text: nothing for None and NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip()


def _integers_without_point(texts: Sequence[str]) -> list[str]:
    """Turns 3.0 into 3, which is how integers beside empty cells come out of spreadsheets and pandas.

    Left alone where another value has a fraction: 1.0 beside 1.5 is a number, not a name.
    """
    if any(re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", text) for text in texts):
        return list(texts)
    return [re.sub(r"\.0+$", "", text) if re.fullmatch(r"[+-]?\d+\.0+", text) else text for text in texts]


def _relative(text: str, files: Files, row: int, table: Path) -> str:
    """The path of an image relative to the root, where it lies in it, as it is on the disk if it is there."""
    if not text or (is_missing(text) and not files.has(text)):
        raise DataError(f"{table} has no path in row {row}", "fill it in or remove the row")
    if os.path.isabs(text):
        path = Path(os.path.normpath(text))
        text = path.relative_to(files.root).as_posix() if path.is_relative_to(files.root) else path.as_posix()
    return files.on_disk(posixpath.normpath(text))


def _split_name(text: str, table: Path) -> str:
    word = text.casefold()
    if word in EVALUATION:
        raise DataError(
            f"{table} has the split {text!r}, which is validation to some and the test to others",
            "write val or test",
        )
    try:
        return SPLIT_NAMES[word]
    except KeyError:
        accepted = ", ".join(name for name in SPLIT_NAMES if name)
        raise DataError(
            f"{table} has the unknown split {text!r}",
            f"accepted: {accepted}, or empty; --split-column names another column, or none",
        ) from None


def check_groups(groups: Iterable[str], splits: Iterable[str], names: Iterable[str], table: Path) -> None:
    """Raises DataError if a group has images in two splits; it names images, for a group may be a patient's name."""
    first_of: dict[str, tuple[str, str]] = {}
    for group, split, name in zip(groups, splits, names, strict=True):
        if not group or not split:
            continue
        split_before, name_before = first_of.setdefault(group, (split, name))
        if split_before != split:
            raise DataError(
                f"{table} has one group in two splits: {name_before} in {split_before}, {name} in {split}",
                "images of one group, such as one patient, belong in one split",
            )
